"""Max-sensitivity: Captum's with the same movements, and the method as it was asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.columns.objectives import Channel
from inward.methods.integrated import integrated_gradients
from inward.scoring.curves import deletion, insertion
from inward.scoring.infidelity import infidelity
from inward.scoring.sensitivity import max_sensitivity
from inward.scoring.summary import score_map
from same import images, seeded, untouched

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE)


def inner(count: int, channels: int = 3) -> Tensor:
    """Images that a movement does not lead out of [0, 1]."""
    return images(count, channels, *SIZE).double() * 0.8 + 0.1


def movements(count: int, radius: float, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [radius * (torch.rand(3, *SIZE, generator=generator, dtype=torch.float64) * 2 - 1) for _ in range(count)]


def test_agrees_with_captum(net: Network) -> None:
    """Captum: ``sensitivity_max`` of ``Saliency(abs=False)``, Frobenius norm, with our movements."""
    captum, metrics = pytest.importorskip("captum.attr"), pytest.importorskip("captum.metrics")
    x = inner(3)
    drawn = torch.stack(movements(6, 0.05, 2))
    explain = captum.Saliency(conv_net().double())
    theirs = metrics.sensitivity_max(
        lambda inputs, **options: explain.attribute(tuple(i.requires_grad_(True) for i in inputs), **options),
        x,
        # All samples of an image come one after the other.
        perturb_func=lambda inputs: (inputs + drawn.repeat(3, 1, 1, 1),),
        n_perturb_samples=6,
        target=3,
        abs=False,
    )
    ours = max_sensitivity(saliency(net, x, target="class:3"), radius=0.05, samples=6, seed=2)
    assert theirs.min() > 0
    assert ((ours - theirs).abs() / theirs).max() < 1e-9


def test_the_target_is_the_one_that_was_explained() -> None:
    """The gradients of a linear network never change, but between its classes they differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(nn.Flatten(), nn.Linear(63, 2, bias=False)).double().eval()
    slopes = module[1].weight.detach()
    # Between the two answers: moved images get either.
    apart, gray = slopes[0] - slopes[1], torch.full((63,), 0.5, dtype=torch.float64)
    x = (gray - apart * (apart @ gray) / apart.square().sum()).view(1, 1, *SIZE)
    net = network(module, SIZE, channels=1)
    answers = {saliency(net, (x + 0.02 * d[:1]).clamp(0, 1)).targets for d in movements(10, 1, 0)}
    assert len(answers) == 2
    found = saliency(net, x)
    assert max_sensitivity(found).item() < 1e-12
    assert max_sensitivity(saliency(net, x.expand(2, -1, -1, -1), target=["class:0", "class:1"])).max() < 1e-12


def test_the_options_are_those_of_the_map(net: Network) -> None:
    x = inner(2)
    found = saliency(net, x, target="class:1", of="probability", at="second")
    expected = torch.zeros(2, dtype=torch.float64)
    for moved in movements(3, 0.02, 0):
        again = saliency(net, x + moved, target="class:1", of="probability", at="second").values
        change = (again - found.values).flatten(1).norm(dim=1) / found.values.flatten(1).norm(dim=1)
        expected = expected.maximum(change)
    assert max_sensitivity(found, samples=3).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


def test_alone_in_a_batch_and_by_seed(net: Network) -> None:
    x = images(3, 3, *SIZE).double()
    found = saliency(net, x)
    together = max_sensitivity(found, samples=4)
    for i in range(3):
        assert max_sensitivity(found[i], samples=4).item() == pytest.approx(together[i].item(), rel=1e-9)
    assert torch.equal(max_sensitivity(found, samples=4), together)
    assert not torch.equal(max_sensitivity(found, samples=4, seed=1), together)
    # More movements, and among them those: never less.
    assert (max_sensitivity(found, samples=8) >= together).all()


def test_images_at_the_edge_of_the_range_stay_in_it() -> None:
    net = network(conv_net(), SIZE)
    edge = (images(2, 3, *SIZE) > 0.5).float()
    assert max_sensitivity(saliency(net, edge), radius=0.3, samples=3).min() > 0


def test_a_map_of_zeros_is_not_divided_by() -> None:
    dead = saliency(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="class:0")
    assert max_sensitivity(dead, samples=2).tolist() == [0, 0]


def test_tells_its_progress_and_leaves_the_network_alone() -> None:
    module = conv_net()
    found = saliency(network(module, SIZE), images(2, 3, *SIZE))
    told: list[tuple[int, int]] = []
    with untouched(module):
        max_sensitivity(found, samples=3, on_progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_was_made_in_python_is_given_again(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    made = saliency(net, x, target=Channel("second/5"))
    with pytest.raises(CallError, match="give it as target="):
        max_sensitivity(made)
    same = max_sensitivity(made, samples=2, given={"target": Channel("second/5")})
    assert torch.equal(same, max_sensitivity(saliency(net, x, target="second/5"), samples=2))
    gray = torch.full_like(x, 0.5)
    found = integrated_gradients(net, x, target="class:1", baseline=gray, steps=3)
    with pytest.raises(CallError, match="the baseline of this map was made in Python; give it again"):
        max_sensitivity(found, samples=2)
    same = max_sensitivity(found, samples=2, given={"baseline": gray})
    named = integrated_gradients(net, x, target="class:1", baseline="gray", steps=3)
    assert torch.equal(same, max_sensitivity(named, samples=2))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 0}, "1 change or more, not 0"),
        ({"radius": 0.0}, "above 0 and at most 1"),
        ({"radius": float("nan")}, "not nan"),
        ({"radius": 2.0}, "not 2"),
    ],
    ids=str,
)
def test_senseless_movements_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        max_sensitivity(saliency(net, images(2, 3, *SIZE).double()), **options)


def test_the_summary_has_them_all(net: Network) -> None:
    found = saliency(net, images(2, 3, *SIZE).double())
    told: list[tuple[int, int]] = []
    summary = score_map(found, steps=6, changes=8, moves=2, seed=3, on_progress=lambda d, n: told.append((d, n)))
    assert summary.remarks == ()
    assert list(summary.measured) == ["deletion", "insertion", "infidelity", "max_sensitivity"]
    assert torch.equal(summary.measured["deletion"], deletion(found, steps=6, seed=3).area)
    assert torch.equal(summary.measured["insertion"], insertion(found, steps=6, seed=3).area)
    assert torch.equal(summary.measured["infidelity"], infidelity(found, samples=8, scaled=True, seed=3).relative)
    assert torch.equal(summary.measured["max_sensitivity"], max_sensitivity(found, samples=2, seed=3))
    assert told[-1] == (7 * 2 * 2 + 9 * 2 + 2,) * 2
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_the_summary_says_what_is_missing(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    inside = score_map(saliency(net, x, target="class:1", at="mean"), moves=2)
    assert list(inside.measured) == ["max_sensitivity"]
    assert [remark.partition(":")[0] for remark in inside.remarks] == [
        "there is no deletion",
        "there is no insertion",
        "there is no infidelity",
    ]
    assert "max_sensitivity" not in score_map(saliency(net, x), moves=0).measured
    made = score_map(saliency(net, x, target=Channel("second/5")), moves=1, given={"target": Channel("second/5")})
    assert len(made.measured) == 4
    # A small image has no more steps than pixels.
    every = score_map(saliency(net, x), steps=500, changes=1, moves=0).measured["deletion"]
    assert torch.equal(every, deletion(saliency(net, x), steps=63).area)
    with pytest.raises(CallError, match="not 32, 0, 5"):
        score_map(saliency(net, x), changes=0)
