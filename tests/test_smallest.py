"""The smallest eps of an attack: closed forms, brute force, what is shared, and what is refused."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import inward
from helpers import conv_net, digits, network
from helpers import inward as command
from inward import CallError, Network, fgsm, pgd, smallest_eps
from inward.methods.smallest import Grid, between
from inward.results import Perturbation
from same import seeded

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")
plain = partial(pgd, steps=5, random_start=False)


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE, mean=(0.5,) * 3, std=(0.05,) * 3)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(256, (8, 3, *SIZE), generator=torch.Generator().manual_seed(3)) / 255


@pytest.fixture(scope="module")
def linear() -> tuple[Network, Tensor, Tensor]:
    """Two classes, images far from 0 and 1, and the least linf and l2 changes that cross between the classes."""
    layer = seeded(lambda: nn.Linear(3 * 63, 2)).double()
    images = torch.randint(90, 160, (5, 3, *SIZE), generator=torch.Generator().manual_seed(1)).double() / 255
    with torch.no_grad():
        across = layer.weight[0] - layer.weight[1]
        values = images.flatten(1) @ across
        # The first is 0.6 of an 8-bit level from the other class, the others several.
        layer.bias[:] = torch.stack([0.6 / 255 * across.abs().sum() - values[0], torch.tensor(0.0)])
        lead = (values + layer.bias[0]).abs()
        least = torch.stack([lead / across.abs().sum(), lead / across.norm()], 1)
    return Network.of(nn.Sequential(nn.Flatten(), layer).eval(), size=SIZE), images, least


def test_closed_form_of_a_linear_network(linear: tuple[Network, Tensor, Tensor]) -> None:
    net, images, least = linear
    # The grid's ratio is 2^(1/16) in float, and whole levels (2^(1/8) below the first) in 8 bits.
    for column, norm in enumerate(("linf", "l2")):
        found = smallest_eps(net, images, partial(fgsm, norm=norm, eight_bit=False), most=0.5)
        ratio = found.eps / least[:, column]
        assert (ratio >= 1 - 1e-9).all()
        assert (ratio <= 2 ** (1 / 16) + 1e-9).all()
        assert found.success.all()
    whole = smallest_eps(net, images, fgsm)
    levels = least[:, 0] * 255
    assert (levels < 1).any()
    assert (levels > 1).any()
    above = levels > 1
    assert torch.equal(whole.eps[above], levels[above].ceil() / 255)
    assert ((whole.eps / least[:, 0])[~above] <= 2 ** (1 / 8) + 1e-9).all()
    assert (whole.eps[~above] >= least[~above, 0]).all()


def test_brute_force_over_all_levels(net: Network, images: Tensor) -> None:
    found = smallest_eps(net, images, plain, most=12 / 255)
    fell = torch.stack([plain(net, images, eps=k / 255).success for k in range(1, 13)])
    first = torch.where(fell.any(0), fell.int().argmax(0) + 1, math.inf)
    # Where the attack is monotone in eps, which this seed is; below one level it is another search.
    assert torch.equal(fell, fell.cummax(0).values)
    assert first.isinf().any()
    coarse = (found.eps * 255).ceil()
    assert torch.equal(coarse, first.double())
    assert torch.equal(found.success, found.eps.isfinite())
    # 64 parts of a level and eleven more levels are told apart in at most seven attacks.
    assert (found.attacks <= 7).all()


def test_each_picture_is_that_of_the_attack_at_its_own_eps(net: Network, images: Tensor) -> None:
    found = smallest_eps(net, images, plain)
    for i in range(len(found)):
        told = found[i].record.parameters
        alone = plain(net, images[i : i + 1], eps=told["eps"])
        assert torch.equal(alone.adversarial, found.adversarial[i : i + 1])
        assert found.eps[i] == alone.linf[0] <= told["eps"] + 1e-12
        # A batch of another size may add in another order.
        torch.testing.assert_close(found[i].history, alone.history, rtol=1e-5, atol=1e-6)
        assert found[i].measures()["eps"] == found.eps[i]
        # And the same alone as in the batch.
        single = smallest_eps(net, images[i : i + 1], plain)
        assert single.eps[0] == found.eps[i]
        assert single.attacks[0] == found.attacks[i]


def test_what_is_found_counts_at_its_own_length(net: Network, images: Tensor) -> None:
    """An attack that never goes farther than six levels: every larger eps is answered by its first success."""
    asked: list[float] = []

    def short(net: Network, images: Tensor, *, eps: float, eight_bit: bool = True) -> Perturbation:
        asked.append(eps)
        return fgsm(net, images, eps=min(eps, 6 / 255), eight_bit=eight_bit)

    found = smallest_eps(net, images, short, most=1.0)
    fell = fgsm(net, images, eps=6 / 255).success
    assert fell.any()
    assert not fell.all()
    assert not [eps for eps in asked if 6 / 255 < eps <= 12 / 255]
    assert (found.eps[fell] <= 6 / 255).all()
    assert found.eps[~fell].isinf().all()


def test_own_labels_and_targets(net: Network, images: Tensor) -> None:
    answers = net(images).argmax(1)
    labels = torch.where(torch.arange(8) % 3 == 0, (answers + 1) % 5, answers)
    found = smallest_eps(net, images, plain, label=labels)
    wrong = labels != answers
    assert torch.equal(found.eps == 0, wrong)
    assert (found.attacks[wrong] == 1).all()
    targets = [f"class:{k}" for k in (answers + 2) % 5]
    aimed = smallest_eps(net, images, plain, target=targets, most=1.0)
    assert aimed.targets == tuple(targets)
    done = aimed.success
    assert done.any()
    assert torch.equal(net(aimed.adversarial).argmax(1)[done], ((answers + 2) % 5)[done])


def test_one_that_withstands_says_so(net: Network, images: Tensor, tmp_path: Path) -> None:
    found = smallest_eps(net, images, plain, most=1 / 255)
    one = found[int(found.eps.isinf().nonzero()[0])]
    assert one.notes() == ("it withstands every eps that was tried, up to 0.003922",)
    told = json.loads((one.save(tmp_path / "one") / "manifest.json").read_text())
    assert told["scores"]["eps"] == "inf"
    assert told["scores"]["success"] is False


@given(low=st.integers(0, 300), gap=st.integers(2, 300))
@settings(max_examples=200, deadline=None)
def test_between_is_the_roundest_number(low: int, gap: int) -> None:
    inside = range(low + 1, low + gap)
    roundest = max(k & -k for k in inside)
    assert between(low, low + gap) in inside
    assert between(low, low + gap) & -between(low, low + gap) == roundest


@pytest.mark.parametrize(
    ("norm", "most", "eight_bit"), [("linf", 0.5, True), ("linf", 0.002, True), ("linf", 0.3, False), ("l2", 7.0, True)]
)
def test_the_grid_holds_what_it_says(norm: str, most: float, eight_bit: bool) -> None:
    grid = Grid.of(norm, most, eight_bit=eight_bit)
    assert list(grid.points) == sorted(set(grid.points))
    assert grid[grid.beyond] == math.inf
    whole = norm == "linf" and eight_bit and most >= 1 / 255
    assert grid.points[-1] == (127 / 255 if whole else most)
    assert [k for k, eps in enumerate(grid.points, 1) if grid.holding(eps) != k] == []
    assert grid.holding(0.0) == 0
    assert grid.holding(grid.points[3] * 1.001) == 5


@pytest.mark.parametrize(
    ("attack", "options", "reason"),
    [
        (inward.fmn, {}, "this attack has no eps, and so no smallest one"),
        (pgd, {"most": 2.0}, "at most 1"),
        (pgd, {"most": -0.1}, "above 0"),
        (pgd, {"norm": "l7"}, "there is no norm 'l7'"),
        (pgd, {"label": [1, 2]}, "there are 2 classes for 8 images"),
        (pgd, {"label": [1]}, "there is 1 class for 8 images"),
        (pgd, {"label": "class:77"}, "77"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_senseless_searches_are_refused(
    net: Network, images: Tensor, attack: Any, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(CallError, match=reason):
        smallest_eps(net, images, attack, **options)
    with pytest.raises(CallError, match=r"must be in \[0, 1\]"):
        smallest_eps(net, images * 255, pgd)


def test_the_command(tmp_path: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    for i in range(2):
        Image.fromarray((load_digits().images[i] * 15.9375).astype("uint8")).save(tmp_path / f"{i}.png")
    files = [tmp_path / f"{i}.png" for i in range(2)]
    said = command(
        "attack",
        *digits(),
        *files,
        "--method",
        "pgd",
        "--steps",
        "5",
        "--eps",
        "0.9",
        "--smallest",
        "--out",
        tmp_path / "o",
    )
    assert said.status == 0
    told = [json.loads((tmp_path / "o" / f"{i}" / "manifest.json").read_text()) for i in range(2)]
    assert all(one["scores"]["success"] and one["scores"]["eps"] == one["scores"]["linf"] for one in told)
    assert told[0]["parameters"]["eps"] != told[1]["parameters"]["eps"]
    again = command("rerun", tmp_path / "o" / "1", "--out", tmp_path / "again")
    assert "adversarial: identical" in again.out
    for method, reason in (
        ("fmn", "fmn has no eps of which there could be a smallest; leave out --smallest"),
        ("universal-pgd", "universal-pgd does not succeed or fail with each picture by itself"),
        ("feature-attack", "feature-attack does not succeed or fail with each picture by itself"),
    ):
        refused = command("attack", *digits(), files[0], "--method", method, "--smallest", "--out", tmp_path / "p")
        assert refused.status == 2
        assert reason in refused.err
