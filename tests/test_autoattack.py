"""AutoAttack: only what is still right goes on, and it is told which attack did it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, pgd
from inward.methods.apgd import apgd
from inward.methods.autoattack import autoattack
from inward.studies.checks_attacks import of_autoattack
from same import images, untouched

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")
# Few enough for a test.
SHORT: dict[str, Any] = {"steps": 10, "queries": 100}


class Shown(nn.Module):
    """A small standard deviation, for a peer that knows none."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.02


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return nn.Sequential(Shown(), conv_net()).eval().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return images(24, 3, *SIZE, dtype=torch.float64)


@pytest.fixture(scope="module")
def labels(net: Network, x: Tensor) -> Tensor:
    """The first two are wrong from the start."""
    right = net(x).argmax(1)
    return torch.cat([(right[:2] + 1) % 5, right[2:]])


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.2 / 255), pytest.param("l2", 0.12, marks=pytest.mark.slow)])
def test_no_more_withstand_it_than_torchattacks_s_or_pgd(
    module: nn.Module, net: Network, x: Tensor, labels: Tensor, norm: Any, eps: float
) -> None:
    """torchattacks 3.5.1: AutoAttack, whose attacks by gradients take 10 steps; as many queries for both."""
    torchattacks = pytest.importorskip("torchattacks")
    peer = torchattacks.AutoAttack(module.float(), norm=norm.capitalize(), eps=eps, n_classes=5, seed=0)
    peer._autoattack.attacks[3].n_queries = 300
    with torch.random.fork_rng():
        theirs = module(peer(x.float(), labels)).argmax(1) == labels
    module.double()
    options: dict[str, Any] = {"label": labels, "eps": eps, "norm": norm, "eight_bit": False}
    found = autoattack(net, x, queries=300, **options)
    assert int((~found.success).sum()) <= int(theirs.sum())
    assert not (pgd(net, x, **options).success & ~found.success).any()
    assert 3 <= int((~found.success).sum()) <= 21
    assert (getattr(found, norm) <= eps).all()


def test_it_tells_which_attack_did_it(net: Network, x: Tensor, labels: Tensor, tmp_path: Path) -> None:
    options: dict[str, Any] = {"label": labels, "eps": 1.2 / 255, "eight_bit": False}
    found = autoattack(net, x, seed=1, **options, **SHORT)
    first = apgd(net, x, seed=1, steps=10, **options)
    assert found.by[:2] == ("clean", "clean")
    assert found.l0[:2].tolist() == [0, 0]
    for i in range(2, 24):
        assert (found.by[i] == "apgd-ce") == bool(first.success[i])
        assert (found.by[i] == "") == (not found.success[i])
    assert set(found.by) <= {"clean", "", "apgd-ce", "apgd-t", "fab-t", "square"}
    # 10 steps, twice 4 other classes of 10 steps each, 100 queries.
    assert set(found.steps[~found.success].tolist()) == {190}
    one = int(first.success.nonzero()[2])
    assert found[one].by == ("apgd-ce",)
    assert found[one].measures()["fooled_by"] == "apgd-ce"
    assert "fooled_by" not in found[int((~found.success).nonzero()[0])].measures()
    assert '"fooled_by": "apgd-ce"' in (found[one].save(tmp_path / "one") / "manifest.json").read_text("utf-8")


def test_only_what_is_still_right_goes_on(
    net: Network, x: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = Network.run

    def watched(self: Network, shown: Tensor, *rest: Any, **options: Any) -> Any:
        if shown.requires_grad:
            sizes.append(len(shown))
        return run(self, shown, *rest, **options)

    monkeypatch.setattr(Network, "run", watched)
    found = autoattack(net, x, label=labels, eps=1.2 / 255, eight_bit=False, **SHORT)
    assert sizes[0] == 22
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[11] == 22 - found.by.count("apgd-ce")
    assert sizes[-1] >= int((~found.success).sum())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_alone_is_what_it_is_in_a_batch(net: Network, x: Tensor, labels: Tensor, norm: Any) -> None:
    options: dict[str, Any] = {"eps": {"linf": 2 / 255, "l2": 0.15}[norm], "norm": norm, **SHORT}
    together = autoattack(net, x[:7], label=labels[:7], **options)
    assert together.success[2:].any()
    assert not together.success.all()
    for i in range(7):
        alone = autoattack(net, x[i : i + 1], label=labels[i : i + 1], **options)
        # Sums of a batch of another size may be in another order.
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=0, atol=1e-9)
        assert alone.by == together[i].by
        assert alone.steps[0] == together.steps[i]


class Rounded(nn.Module):
    """Gradients of 0 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 64).round() * 0.8


def test_masked_gradients_are_left_to_the_squares(x: Tensor) -> None:
    net = network(nn.Sequential(Rounded(), conv_net()).eval(), SIZE)
    # So that the random starts of the attacks by gradients find nothing by chance.
    found = autoattack(net, x.float(), eps=20 / 255, steps=3, queries=200)
    assert found.by.count("square") > found.by.count("apgd-ce") + found.by.count("apgd-t") + found.by.count("fab-t")


@pytest.mark.parametrize("classes", [2, 3])
def test_networks_of_few_classes_climb_the_margin(x: Tensor, classes: int) -> None:
    torch_state = torch.get_rng_state()
    module = nn.Sequential(nn.Flatten(), nn.Linear(189, classes)).eval()
    net, small = network(module, SIZE), x.float()
    found = autoattack(net, small, eps=1e-3, eight_bit=False, **SHORT)
    assert set(found.by) <= {"", "apgd-ce", "apgd-margin", "fab-t", "square"}
    assert set(found.steps[~found.success].tolist()) <= {100 + 20 + 10 * (classes - 1)}
    slopes = module[1].weight.detach()
    if classes == 2:
        # All of the closed form: the lead of the other class rises by eps times the sum of the slopes.
        logits, dual = net(small), (slopes[1] - slopes[0]).abs().sum() * 1e-3
        gap = (logits[:, 1] - logits[:, 0]).abs()
        assert torch.equal(found.success[(gap - dual).abs() > 1e-3], (gap < dual)[(gap - dual).abs() > 1e-3])
    torch.set_rng_state(torch_state)


def test_the_network_is_untouched_and_progress_is_told(module: nn.Module, x: Tensor) -> None:
    net, hard, easy = Network.of(module, size=SIZE), list[tuple[int, int]](), list[tuple[int, int]]()
    for parameter in module.parameters():
        parameter.grad = None
    with untouched(module):
        found = autoattack(net, x, eps=1 / 255, on_progress=lambda *counts: hard.append(counts), **SHORT)
        told_of = autoattack(net, x, eps=0.3, on_progress=lambda *counts: easy.append(counts), **SHORT)
    assert not found.success.all()
    # Every pass of the gradient attacks; Square looks at several queries at once.
    assert hard[:90] == [(i, 190) for i in range(1, 91)]
    assert all(one < other for one, other in itertools.pairwise(hard))
    assert hard[-1] == (190, 190)
    # What ends early ends whole.
    assert told_of.success.all()
    assert easy[-1] == (190, 190)
    assert len(easy) < len(hard)


def test_senseless_calls_are_refused(net: Network, x: Tensor) -> None:
    for options, reason in (
        ({"norm": "l1"}, "no norm l1 here; write linf or l2"),
        ({"steps": 0}, "steps must be 1 or more"),
        ({"queries": 0}, "queries must be 1 or more"),
        ({"classes": 0}, "classes must be 1 or more"),
        ({"eps": 0.0}, "eps must be above 0"),
    ):
        with pytest.raises(CallError, match=reason):
            autoattack(net, x, **options)  # type: ignore[arg-type]


def test_its_stages_tell_whether_gradients_are_masked() -> None:
    by = ["clean", "apgd-ce", *["square"] * 2, *[""] * 3, "fab-t"]
    found = of_autoattack(by)
    assert (found.ok, found.measured) == (False, 2)
    assert found.told == "of 5 images that withstood the attacks by gradients, the Square attack fooled 2"
    assert of_autoattack(["apgd-ce"] * 9 + ["square"]).ok is True
    # 3 of 199 are fewer than one in fifty.
    assert of_autoattack(["apgd-ce"] * 196 + ["square"] * 3).ok is True
    assert of_autoattack(["apgd-ce"] * 96 + ["square"] * 3).ok is False
