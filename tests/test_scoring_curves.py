"""Deletion and insertion: known areas, a slow replica of the paper, ties, and what cannot be asked."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.columns.objectives import Channel
from inward.methods.baselines import named
from inward.scoring.curves import deletion, insertion
from same import images, seeded, untouched
from scored import mapped

SIZE = (9, 7)
PIXELS = 63
pytestmark = pytest.mark.usefixtures("single_thread")


class Weighing(nn.Module):
    """One unit that is a weighted sum of the pixels of a single channel; its logits are that and its opposite."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.unit = nn.Conv2d(1, 1, tuple(weights.shape), bias=False)
        self.unit.weight = nn.Parameter(weights[None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        y = self.unit(x)[:, :, 0, 0]
        return torch.cat([y, -y], 1)


def weighing(weights: Tensor) -> Network:
    return network(Weighing(weights).eval(), SIZE)


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def by_hand(net: Network, x: Tensor, plane: Tensor, classes: list[int], steps: int, start: Tensor, end: Tensor) -> Any:
    """One image, one pixel after the other, as the paper says it."""
    rows = []
    for i in range(len(x)):
        order = sorted(range(PIXELS), key=lambda p: -plane[i].flatten()[p].item())
        values = []
        for k in range(steps + 1):
            picture = start[i].clone()
            for p in order[: round(PIXELS * k / steps)]:
                picture[:, p // SIZE[1], p % SIZE[1]] = end[i][:, p // SIZE[1], p % SIZE[1]]
            values.append(net(picture[None]).softmax(1)[0, classes[i]].item())
        rows.append(values)
    shares = [round(PIXELS * k / steps) / PIXELS for k in range(steps + 1)]
    areas = [sum((shares[k + 1] - shares[k]) * (v[k] + v[k + 1]) / 2 for k in range(steps)) for v in rows]
    return shares, torch.tensor(rows, dtype=torch.float64), torch.tensor(areas, dtype=torch.float64)


# 8 steps do not divide 63 pixels; with 63 they go one by one.
@pytest.mark.parametrize("steps", [8, 63])
def test_agrees_with_a_slow_replica(net: Network, steps: int) -> None:
    x = images(3, 3, *SIZE).double()
    classes = [2, 4, 0]
    found = saliency(net, x, target=[f"class:{k}" for k in classes])
    plane = found.values.abs().amax(1)
    blurred = named(net, x, "blur")
    curves = {
        "deletion": (deletion(found, steps=steps), (x, torch.zeros_like(x))),
        "insertion": (insertion(found, steps=steps), (blurred, x)),
    }
    for name, (curve, (start, end)) in curves.items():
        shares, values, areas = by_hand(net, x, plane, classes, steps, start, end)
        assert curve.shares.tolist() == pytest.approx(shares, abs=1e-15), name
        # The lean graph sums in another order: float64 rounding.
        assert (curve.values - values).abs().max() < 1e-12, name
        assert (curve.area - areas).abs().max() < 1e-12, name
        assert values.std() > 1e-3


def test_known_areas() -> None:
    """All of the score comes from one pixel: it goes with the first step, or with the last."""
    weights = torch.zeros(SIZE)
    weights[5, 2] = 2.0
    net, x = weighing(weights), images(2, 1, *SIZE) * 0.5 + 0.25
    right = mapped(net, x, weights.expand(2, 1, *SIZE), target="unit/0")
    wrong = mapped(net, x, -weights.expand(2, 1, *SIZE), target="unit/0")
    edge = 0.5 / PIXELS
    # Scores in float32, normalized by their own ends: rounding of 1e-7.
    assert deletion(right, steps=PIXELS).area.tolist() == pytest.approx([edge] * 2, abs=1e-6)
    assert deletion(wrong, steps=PIXELS).area.tolist() == pytest.approx([1 - edge] * 2, abs=1e-6)
    assert insertion(right, steps=PIXELS).area.tolist() == pytest.approx([1 - edge] * 2, abs=1e-6)
    assert insertion(wrong, steps=PIXELS).area.tolist() == pytest.approx([edge] * 2, abs=1e-6)
    curve = deletion(right, steps=PIXELS).values
    assert curve[0, :2].tolist() == pytest.approx([1, 0], abs=1e-6)
    # One step is one trapezoid, whatever the map.
    assert deletion(wrong, steps=1).area.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_every_order_is_the_same_where_all_pixels_are() -> None:
    net, x = weighing(torch.ones(SIZE)), torch.full((2, 1, *SIZE), 0.5)
    found = mapped(net, x, torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0)), target="unit/0")
    curve = deletion(found, steps=9)
    assert (curve.values - (1 - curve.shares)).abs().max() < 1e-6
    assert curve.area.tolist() == pytest.approx([0.5, 0.5], abs=1e-6)


def test_a_map_that_tells_nothing_apart_is_scored_as_a_random_one() -> None:
    """By position, its first half would be the upper half, and this network looks at nothing else."""
    weights = torch.zeros(SIZE)
    weights[:4] = 1.0
    net, x = weighing(weights), torch.full((2, 1, *SIZE), 0.5)
    constant = mapped(net, x, torch.full((2, 1, *SIZE), 3.0), target="unit/0")
    by_position = 0.5 * 28 / PIXELS
    areas = torch.stack([deletion(constant, steps=PIXELS, seed=seed).area for seed in range(20)])
    # An area of a random order scatters by 0.05 about 0.5.
    assert (areas - 0.5).abs().max() < 0.2 < 0.5 - by_position
    assert abs(areas.mean().item() - 0.5) < 0.05
    assert torch.equal(areas[:, 0], areas[:, 1])
    assert areas[:, 0].unique().numel() > 10
    assert torch.equal(deletion(constant, steps=9, seed=4).values, deletion(constant, steps=9, seed=4).values)


def test_pixels_come_in_the_order_of_the_picture_of_the_map() -> None:
    """The largest size of a sensitivity; the largest sum of contributions over the channels."""
    net = network(conv_net(2), SIZE)
    x = images(1, 2, *SIZE)
    values = torch.zeros(1, 2, *SIZE)
    values[0, :, 0, 0] = torch.tensor([-5.0, 1.0])
    values[0, :, 3, 3] = torch.tensor([2.0, 1.5])
    one_step = [torch.where(torch.tensor(0.0) == 0, x.clone(), x) for _ in range(2)]
    for picture, place in zip(one_step, [(0, 0), (3, 3)], strict=True):
        picture[0, :, place[0], place[1]] = 0
    for kind, picture in zip(("sensitivity", "contribution"), one_step, strict=True):
        second = deletion(mapped(net, x, values, kind=kind, target="class:1"), steps=PIXELS).values[0, 1]
        expected = net(picture).softmax(1)[0, 1]
        assert second.item() == pytest.approx(expected.item(), abs=1e-7)
    assert net(one_step[0]).softmax(1)[0, 1] != pytest.approx(net(one_step[1]).softmax(1)[0, 1].item(), abs=1e-5)


def test_coarse_maps_are_enlarged(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    coarse = torch.rand(2, 1, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    fine = F.interpolate(coarse, SIZE, mode="bilinear", align_corners=False)
    small, large = (mapped(net, x, v, kind="amount", target="class:2") for v in (coarse, fine))
    assert torch.equal(deletion(small, steps=7).values, deletion(large, steps=7).values)
    inside = mapped(net, x, net.trace(x, "second")["second"], target="class:2", at="second")
    same = F.interpolate(inside.values.sum(1, keepdim=True), SIZE, mode="bilinear", align_corners=False)
    assert torch.equal(insertion(inside, steps=7).values, insertion(mapped(net, x, same, target="class:2")).values) is (
        False
    )
    assert torch.equal(
        insertion(inside, steps=7).values, insertion(mapped(net, x, same, target="class:2"), steps=7).values
    )


def test_alone_in_a_batch_and_whatever_the_memory(net: Network) -> None:
    x = images(3, 3, *SIZE).double()
    found = saliency(net, x)
    together = deletion(found, steps=10, baseline="noise", seed=2)
    little = deletion(saliency(net.within(1), x), steps=10, baseline="noise", seed=2)
    assert (together.values - little.values).abs().max() < 1e-12
    for i in range(3):
        alone = deletion(found[i], steps=10, baseline="noise", seed=2)
        assert (alone.values - together.values[i]).abs().max() < 1e-12
        assert (alone.area - together.area[i]).abs().max() < 1e-12


def test_tells_its_progress_and_leaves_the_network_alone() -> None:
    module = conv_net()
    found = saliency(network(module, SIZE), images(3, 3, *SIZE))
    told: list[tuple[int, int]] = []
    with untouched(module):
        deletion(found, steps=10, on_progress=lambda done, of: told.append((done, of)))
        insertion(found, steps=10)
    assert told[-1] == (33, 33)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


class Ending(nn.Module):
    """A network behind whose logits something else comes."""

    def __init__(self, end: nn.Module, classes: int = 5) -> None:
        super().__init__()
        self.body, self.end, self.classes = conv_net(), end, classes

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x)[:, : self.classes])


def test_probabilities_are_not_made_probabilities_again() -> None:
    x = images(2, 3, *SIZE)
    with pytest.warns(Warning, match="softmax"):
        ended = saliency(network(Ending(nn.Softmax(1)).eval(), SIZE), x, target="class:1")
    plain = mapped(network(conv_net(), SIZE), x, ended.values, kind="sensitivity", target="class:1")
    assert (deletion(ended, steps=9).values - deletion(plain, steps=9).values).abs().max() < 1e-6


def test_a_single_logit_is_a_score_between_those_of_the_ends() -> None:
    """Its softmax would be 1 for every picture."""
    found = saliency(network(Ending(nn.Identity(), 1).eval(), SIZE), images(2, 3, *SIZE), target="class:0")
    curve = deletion(found, steps=9).values
    assert curve[:, 0].tolist() == [1, 1]
    assert curve[:, -1].tolist() == [0, 0]
    assert curve[:, 1:-1].std() > 1e-3


def test_a_score_that_the_baseline_does_not_change_has_no_curve() -> None:
    net = network(seeded(Dead), SIZE)
    x = images(2, 3, *SIZE)
    dead = deletion(saliency(net, x, target="relu/0"), steps=5)
    assert dead.area.isnan().all()
    assert deletion(saliency(net, x, target="conv/0"), steps=5).area.isfinite().all()
    assert deletion(saliency(net, x, target="class:0"), steps=5).area.isfinite().all()


def test_an_objective_made_in_python_is_given_again(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    made, by_name = saliency(net, x, target=Channel("second/5")), saliency(net, x, target="second/5")
    again = deletion(made, steps=6, target=Channel("second/5"))
    assert torch.equal(again.values, deletion(by_name, steps=6).values)
    with pytest.raises(CallError, match="give it as target="):
        deletion(made, steps=6)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 0}, "a curve over 63 pixels has from 1 to 63 steps, not 0"),
        ({"steps": 64}, "not 64"),
        ({"baseline": torch.zeros(3, 9, 8)}, "the baseline has the shape"),
        ({"baseline": "dark"}, "there is no baseline 'dark'"),
    ],
    ids=str,
)
def test_senseless_curves_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    found = saliency(net, images(2, 3, *SIZE).double())
    for curve in (deletion, insertion):
        with pytest.raises(CallError, match=reason):
            curve(found, **options)


def test_a_map_without_a_grid_is_refused(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    with pytest.raises(CallError, match="the map at 'mean' has no grid of pixels"):
        deletion(saliency(net, x, target="class:1", at="mean"))
    assert math.isfinite(deletion(saliency(net, x, target="class:1", at="second"), steps=3).area[0])
