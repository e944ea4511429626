"""Guided integrated gradients: the paper's algorithm number by number, its bounds, and the axioms that it keeps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import inward.methods.guided_integrated as place
from helpers import Dead, conv_net, network
from inward import CallError, InwardError, Network
from inward.methods.guided_integrated import guided_integrated_gradients
from same import images, seeded, untouched

SIZE = (5, 4)
EXACT = 1e-9  # float64; a step counts as made when 1e-9 of the way is left

pytestmark = pytest.mark.usefixtures("single_thread")


class Smooth(nn.Module):
    """Infinitely differentiable; alike in all places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(3 * self.conv(x)).square().mean((2, 3)))


class Flat(nn.Module):
    """Linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * SIZE[0] * SIZE[1], 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def flat() -> Network:
    return network(seeded(Flat).double(), SIZE)


@pytest.fixture(scope="module")
def smooth() -> Network:
    return network(seeded(Smooth).double(), SIZE)


def walked(
    score: Any, image: Tensor, base: Tensor, steps: int, fraction: float, most: float
) -> tuple[list[Tensor], Tensor]:
    """The paper's algorithm for one image, on lists of numbers: the points, and the sum of first gradients."""
    x, b = image.flatten().tolist(), base.flatten().tolist()
    at, count = list(b), len(x)
    total = sum(abs(p - q) for p, q in zip(x, b, strict=True))
    points, shares = [base.clone()], [0.0] * count
    for step in range(1, steps + 1):
        point = torch.tensor(at, dtype=torch.float64).view_as(image)[None].requires_grad_(True)
        slope = torch.autograd.grad(score(point).sum(), point)[0].flatten().tolist()
        left = list(at)
        low, high = max(step / steps - most, 0), min(step / steps + most, 1)
        least, furthest = ([q + share * (p - q) for p, q in zip(x, b, strict=True)] for share in (low, high))
        # Those that fell behind catch up first.
        at = [m if abs(p - m) < abs(p - v) else v for p, m, v in zip(x, least, at, strict=True)]
        wanted = total * (1 - step / steps)
        while (distance := sum(abs(p - v) for p, v in zip(x, at, strict=True))) - wanted > 1e-9 * total:
            stopped = [abs(f - v) < 1e-15 for f, v in zip(furthest, at, strict=True)]
            sizes = [math.inf if s else abs(g) for s, g in zip(stopped, slope, strict=True)]
            bound = sorted(sizes)[int(fraction * (count - 1))]
            moving = [i for i in range(count) if sizes[i] <= bound and not stopped[i]]
            possible = sum(abs(furthest[i] - at[i]) for i in moving)
            part = min(1.0, (distance - wanted) / possible)
            for i in moving:
                at[i] = furthest[i] if part == 1 else at[i] + part * (furthest[i] - at[i])
        shares = [s + g * (v - w) for s, g, v, w in zip(shares, slope, at, left, strict=True)]
        points.append(torch.tensor(at, dtype=torch.float64).view_as(image))
    return points, torch.tensor(shares, dtype=torch.float64).view_as(image)


def seen_points(monkeypatch: pytest.MonkeyPatch, *call: Any, **options: Any) -> tuple[Any, list[Tensor]]:
    """The result, and the images that the network was shown at each step, (lines, C, H, W)."""
    shown: list[Tensor] = []
    real = place.gradients

    def spied(net: Network, samples: Any, *rest: Any, **more: Any) -> Any:
        held = list(samples)
        shown.append(torch.stack([sample.image for sample in held]))
        return real(net, held, *rest, **more)

    monkeypatch.setattr(place, "gradients", spied)
    found = guided_integrated_gradients(*call, **options)
    monkeypatch.undo()
    return found, shown


def trapezoids(score: Any, points: list[Tensor]) -> Tensor:
    def gradient(point: Tensor) -> Tensor:
        point = point[None].clone().requires_grad_(True)
        return torch.autograd.grad(score(point).sum(), point)[0][0]

    return torch.stack([(gradient(a) + gradient(b)) / 2 * (b - a) for a, b in itertools.pairwise(points)]).sum(0)


@pytest.mark.parametrize(
    ("target", "hand"),
    [
        (["class:4", "class:0", "class:2"], lambda m, x, i: m(x)[:, [4, 0, 2][i]]),
        ("second/5@2,1", lambda m, x, i: m.second(m.relu(m.conv(x)))[:, 5, 2, 1]),
    ],
)
@pytest.mark.parametrize(("fraction", "most"), [(0.25, 0.02), (0.1, 0.3), (0.5, 1.0), (0.0, 0.15)])
def test_the_path_is_the_papers(
    monkeypatch: pytest.MonkeyPatch, net: Network, module: Any, target: Any, hand: Any, fraction: float, most: float
) -> None:
    x = images(3, 3, *SIZE).double()
    base = torch.full_like(x, 0.5)
    base[:, :, 0, 0] = x[:, :, 0, 0]  # numbers that have no way to go
    options = {"target": target, "baseline": base, "steps": 12, "fraction": fraction, "max_dist": most}
    found, shown = seen_points(monkeypatch, net, x, **options)
    for i in range(3):

        def score(point: Tensor, i: int = i) -> Tensor:
            return hand(module, point, i)

        points, _ = walked(score, x[i], base[i], 12, fraction, most)
        assert (torch.stack([step[i] for step in shown]) - torch.stack(points)).abs().max() < 1e-7
        expected = trapezoids(score, points)
        assert expected.abs().max() > 0
        assert (found.values[i] - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(shown[-1], x)


def test_a_step_counts_both_of_its_ends(smooth: Network) -> None:
    """The paper's sum has the first gradient alone, and converges to the same from below; ours is nearer."""
    module = seeded(Smooth).double()
    x = images(1, 3, *SIZE).double()

    def score(point: Tensor) -> Tensor:
        return module(point)[:, 1]

    with torch.no_grad():
        rise = float(score(x) - score(torch.zeros_like(x)))
    first = [walked(score, x[0], torch.zeros_like(x[0]), steps, 0.25, 0.1)[1].sum() for steps in (20, 80)]
    both = [
        guided_integrated_gradients(smooth, x, target="class:1", steps=steps, max_dist=0.1).values.sum()
        for steps in (20, 80)
    ]
    missed = [[abs(float(total) - rise) / abs(rise) for total in totals] for totals in (first, both)]
    assert missed[1][0] < missed[0][0] / 5
    assert missed[1][1] < missed[0][1] / 5
    assert missed[0][1] < missed[0][0] / 2


@settings(max_examples=12, deadline=None)
@given(fraction=st.floats(0, 1), most=st.floats(0, 1), steps=st.integers(1, 9))
def test_every_point_is_in_its_bounds(net: Network, fraction: float, most: float, steps: int) -> None:
    """As far from the image as its step says, and every number near enough to the straight line."""
    x = images(2, 3, *SIZE).double()
    with pytest.MonkeyPatch.context() as patch:
        _, shown = seen_points(patch, net, x, target="class:1", steps=steps, fraction=fraction, max_dist=most)
    assert len(shown) == steps + 1
    before = torch.zeros_like(x)
    for step, points in enumerate(shown):
        way = points / x
        assert (way - step / steps).abs().max() <= most + EXACT
        assert (way - before).min() >= -EXACT
        left = (x - points).flatten(1).sum(1) / x.flatten(1).sum(1)
        assert (left - (1 - step / steps)).abs().max() <= 1e-8
        before = way


@pytest.mark.parametrize("options", [{"max_dist": 0.0}, {"fraction": 1.0, "max_dist": 0.4}])
def test_a_path_without_freedom_is_the_straight_line(net: Network, module: Any, options: dict[str, float]) -> None:
    x = images(2, 3, *SIZE).double()
    found = guided_integrated_gradients(net, x, target="class:1", steps=8, **options)
    for i in range(2):
        expected = trapezoids(lambda point: module(point)[:, 1], [k / 8 * x[i] for k in range(9)])
        assert (found.values[i] - expected).abs().max() <= 1e-7 * expected.abs().max()


@settings(max_examples=10, deadline=None)
@given(fraction=st.floats(0, 1), most=st.floats(0, 1))
def test_of_a_linear_score_the_path_does_not_matter(flat: Network, fraction: float, most: float) -> None:
    x = images(2, 3, *SIZE).double()
    found = guided_integrated_gradients(
        flat, x, target="class:1", baseline="gray", steps=4, fraction=fraction, max_dist=most
    )
    expected = (x - 0.5) * flat._source.weights()["fc.weight"][1].view(1, 3, *SIZE)
    assert (found.values - expected).abs().max() < EXACT
    assert found.measured["error"].max() < EXACT


def test_smaller_gradients_go_first(monkeypatch: pytest.MonkeyPatch, flat: Network) -> None:
    """Half of the way of the numbers whose gradients are the smaller half is the first quarter of all steps."""
    x = torch.ones(1, 3, *SIZE, dtype=torch.float64)
    _, shown = seen_points(monkeypatch, flat, x, target="class:1", steps=4, fraction=0.25, max_dist=1.0)
    order = flat._source.weights()["fc.weight"][1].abs().argsort()
    # By hand: all are equally far away, so each step brings the next fifteen of sixty home.
    for step in range(5):
        way = shown[step].flatten()[order]
        assert (way - (torch.arange(60) < 15 * step).double()).abs().max() < 1e-7


def test_the_error_is_what_the_shares_miss(net: Network, module: nn.Module) -> None:
    x = images(3, 3, *SIZE).double()
    options = {"target": "class:1", "baseline": ["black", "white"], "steps": 6, "max_dist": 0.2}
    found = guided_integrated_gradients(net, x, **options)
    parts = [guided_integrated_gradients(net, x, **{**options, "baseline": b}) for b in ("black", "white")]
    assert (found.values - (parts[0].values + parts[1].values) / 2).abs().max() < EXACT
    with torch.no_grad():
        starts = (module(torch.zeros_like(x)) + module(torch.ones_like(x))) / 2
        difference = (module(x) - starts)[:, 1]
    missed = (difference - found.values.flatten(1).sum(1)).abs() / difference.abs()
    assert missed.max() > 1e-4
    assert (found.measured["error"] - missed).abs().max() <= 1e-7
    assert found.measured["points"].tolist() == [14] * 3
    assert (found.record.parameters["baseline"], found.kind) == (["black", "white"], "contribution")


def test_a_channel_that_is_not_used_has_no_share() -> None:
    module = conv_net().double()
    with torch.no_grad():
        module.conv.weight[:, 1] = 0  # type: ignore[union-attr, index]
    found = guided_integrated_gradients(network(module, SIZE), images(2, 3, *SIZE).double(), steps=4).values
    assert not found[:, 1].any()
    assert found[:, [0, 2]].abs().max() > 0


@pytest.mark.parametrize("dim", [2, 3])
def test_a_mirrored_picture_has_the_mirrored_map(smooth: Network, dim: int) -> None:
    """Symmetry: the network sums over places, and which numbers move depends on gradients alone."""
    x = images(2, 3, *SIZE).double()
    plain, mirrored = (
        guided_integrated_gradients(smooth, v, target="class:1", steps=5, max_dist=0.3).values for v in (x, x.flip(dim))
    )
    assert (mirrored - plain.flip(dim)).abs().max() <= 1e-6 * plain.abs().max()


def test_progress_chunks_and_company_change_nothing(net: Network, module: nn.Module) -> None:
    x = images(3, 3, *SIZE).double()
    seen: list[tuple[int, int]] = []
    with untouched(module):
        one_by_one = guided_integrated_gradients(net.within(1), x, steps=4, on_progress=lambda *at: seen.append(at))
    together = guided_integrated_gradients(net, x, steps=4)
    assert seen == [(step, 4) for step in range(1, 5)]
    assert (one_by_one.values - together.values).abs().max() <= 1e-7 * together.values.abs().max()
    for i in range(3):
        alone = guided_integrated_gradients(net, x[i : i + 1], steps=4)
        assert (alone.values[0] - together.values[i]).abs().max() <= 1e-7 * together.values.abs().max()


def test_an_image_that_is_its_baseline_and_a_dead_network_have_maps_of_zeros(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    found = guided_integrated_gradients(net, x, target="class:1", baseline=x, steps=3)
    assert not found.values.any()
    assert found[0].measures()["absolute_error"] == 0
    dead = guided_integrated_gradients(network(seeded(Dead), SIZE), x.float(), target="class:0", steps=3)
    assert not dead.values.any()


def test_a_gradient_that_is_not_finite_is_said_and_not_waited_for() -> None:
    module = conv_net().double()
    with torch.no_grad():
        module.fc.weight[1] = torch.nan  # type: ignore[union-attr, index]
    with pytest.raises(InwardError, match="not finite"):
        guided_integrated_gradients(network(module, SIZE), images(2, 3, *SIZE).double(), target="class:1", steps=3)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 0}, "1 step or more, not 0"),
        ({"fraction": 1.1}, "in 0 to 1, not 1.1"),
        ({"fraction": math.nan}, "not nan"),
        ({"max_dist": -0.1}, "in 0 to 1, not -0.1"),
        ({"max_dist": math.nan}, "not nan"),
        ({"baseline": "bleak"}, "no baseline 'bleak'"),
        ({"baseline": torch.zeros(3, 9, 9)}, "the baseline has the shape"),
    ],
)
def test_senseless_options_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        guided_integrated_gradients(net, images(2, 3, *SIZE).double(), **options)
