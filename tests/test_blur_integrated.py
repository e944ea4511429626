"""Integrated gradients along blurs: a slow loop, the axioms, and what the authors' sum tends to."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.objectives import ClassScore
from inward.methods.blur_integrated import blur_integrated_gradients
from same import images, seeded, untouched

SIZE = (9, 7)
# 50 pixels of 224 on a shorter side of 7.
SIGMA = 50 * 7 / 224
EXACT = 1e-10  # float64, a few hundred additions, and a matrix exponential

pytestmark = pytest.mark.usefixtures("single_thread")


class Smooth(nn.Module):
    """Infinitely differentiable, with functions for activations; alike in all directions of the grid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(3 * self.conv(x)).square().mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def smooth() -> Network:
    return network(seeded(Smooth).double(), SIZE)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """By the heat equation's matrix exponentials."""
    for dim in (2, 3):
        length = x.shape[dim]
        flow = torch.zeros(length, length, dtype=torch.float64)
        for a, b in itertools.pairwise(range(length)):
            flow[a, b] = flow[b, a] = 1
        spread = torch.matrix_exp(sigma**2 / 2 * (flow - torch.diag(flow.sum(1))))
        x = (x.movedim(dim, -1) @ spread).movedim(-1, dim)
    return x


def slow(score: Any, x: Tensor, sigma: float, steps: int) -> Tensor:
    """The trapezoidal rule of the path integral, an image and an interval at a time."""

    def gradient(point: Tensor) -> Tensor:
        point = point.clone().requires_grad_(True)
        return torch.autograd.grad(score(point).sum(), point)[0]

    depths = [math.log1p(sigma) * (1 - k / (steps - 1)) for k in range(steps)]
    points = [blurred(x, math.exp(depth) - 1) for depth in depths]
    sums = [(gradient(a) + gradient(b)) / 2 * (b - a) for a, b in itertools.pairwise(points)]
    return torch.stack(sums).sum(0)


@pytest.mark.parametrize(
    ("options", "hand", "sigma"),
    [
        ({"target": "class:3"}, lambda m, x: m(x)[:, 3], SIGMA),
        ({"target": ["class:4", "class:0", "class:4"]}, lambda m, x: m(x)[range(3), [4, 0, 4]], SIGMA),
        ({"target": "second/5@4,1", "sigma": 200}, lambda m, x: m.second(m.relu(m.conv(x)))[:, 5, 4, 1], 4 * SIGMA),
        ({"target": "class:2", "of": "probability"}, lambda m, x: m(x).softmax(1)[:, 2], SIGMA),
    ],
)
def test_is_a_slow_loop(net: Network, options: dict[str, Any], hand: Any, sigma: float) -> None:
    x, module = images(3, 3, *SIZE).double(), conv_net().double()
    found = blur_integrated_gradients(net, x, steps=6, **options)
    expected = slow(lambda point: hand(module, point), x, sigma, 6)
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= EXACT * expected.abs().max()
    assert (found.scores - hand(module, x).detach()).abs().max() <= EXACT
    assert (found.kind, found.at) == ("contribution", "")


def test_the_error_is_what_the_shares_miss(net: Network) -> None:
    x, module = images(3, 3, *SIZE).double(), conv_net().double()
    found = blur_integrated_gradients(net, x, target="class:1", steps=5)
    with torch.no_grad():
        difference = (module(x) - module(blurred(x, SIGMA)))[:, 1]
    missed = (difference - found.values.flatten(1).sum(1)).abs() / difference.abs()
    assert missed.min() > 1e-6
    assert (found.measured["error"] - missed).abs().max() <= 1e-8
    assert found.measured["points"].tolist() == [5, 5, 5]
    many = blur_integrated_gradients(net, x, target="class:1", steps=400)
    assert many.measured["error"].max() < missed.max() / 20


def test_errors_fall_with_the_square_of_the_steps(smooth: Network) -> None:
    """The trapezoidal rule on what is smooth: half the distance, a quarter of the error."""
    x = images(3, 3, *SIZE).double()
    coarse, fine = (
        blur_integrated_gradients(smooth, x, target="class:1", steps=steps).measured["error"] for steps in (33, 65)
    )
    assert coarse.max() < 1e-3
    assert ((coarse / fine - 4).abs() < 0.2).all()


def test_a_small_difference_of_scores_is_not_divided_by(smooth: Network) -> None:
    """A picture of one color cannot be blurred: nothing is explained, and the error is 0 of 0."""
    x = torch.full((2, 3, *SIZE), 0.3, dtype=torch.float64)
    found = blur_integrated_gradients(smooth, x, target="class:1", steps=4)
    assert found.values.abs().max() < 1e-12
    measures = found[0].measures()
    assert "error" not in measures
    assert measures["absolute_error"] < 1e-12


def test_the_authors_sum_tends_to_the_same_map(smooth: Network) -> None:
    """Their rule: Gaussians sampled and cut off, even steps of sigma, the derivative by a small difference.

    On a picture that is smooth and dark at the border sampled Gaussians and heat are nearly the same.
    """
    y, x = torch.meshgrid(torch.arange(49.0), torch.arange(57.0), indexing="ij")
    bump = 0.8 * torch.exp(-((y - 23) ** 2 + (x - 30) ** 2) / 32)
    picture = torch.stack([bump, bump.flip(0) / 2, bump.flip(1)])[None].double()
    module = seeded(Smooth).double()
    net = network(module, (49, 57))

    def plain(sigma: float) -> Tensor:
        made = picture
        for dim in (2, 3) if sigma else ():
            at = torch.arange(picture.shape[dim], dtype=torch.float64)
            weights = torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
            made = (made.movedim(dim, -1) @ weights.T).movedim(-1, dim)
        return made

    strongest, steps, small = 3.0, 300, 0.01
    total = torch.zeros_like(picture)
    # From a scale at which a sampled Gaussian is one.
    for k in range(100, steps):
        sigma = strongest * k / steps
        point = plain(sigma).requires_grad_(True)
        (slope,) = torch.autograd.grad(module(point)[0, 1], point)
        total -= strongest / steps * slope * (plain(sigma + small) - plain(sigma)) / small
    ours = blur_integrated_gradients(net, picture, target="class:1", sigma=strongest * 224 / 49, steps=100).values
    less = blur_integrated_gradients(net, picture, target="class:1", sigma=1.0 * 224 / 49, steps=100).values
    # Their left rule of 200 steps, and the grid's own Gaussian (0.005 measured).
    assert (ours - less - total).abs().max() < 0.01 * total.abs().max()


@settings(max_examples=15, deadline=None)
@given(first=st.floats(-3, 3), second=st.floats(-3, 3))
def test_shares_are_linear_in_the_score(net: Network, first: float, second: float) -> None:
    x = images(2, 3, *SIZE).double()
    whole = blur_integrated_gradients(net, x, target=first * ClassScore(1) + second * ClassScore(3), steps=3).values
    parts = [blur_integrated_gradients(net, x, target=f"class:{k}", steps=3).values for k in (1, 3)]
    assert (whole - first * parts[0] - second * parts[1]).abs().max() < EXACT


def test_a_channel_that_is_not_used_has_no_share() -> None:
    module = conv_net().double()
    with torch.no_grad():
        module.conv.weight[:, 1] = 0  # type: ignore[union-attr, index]
    found = blur_integrated_gradients(network(module, SIZE), images(2, 3, *SIZE).double(), steps=4).values
    assert not found[:, 1].any()
    assert found[:, [0, 2]].abs().max() > 0


@pytest.mark.parametrize("dim", [2, 3])
def test_a_mirrored_picture_has_the_mirrored_map(smooth: Network, dim: int) -> None:
    """Symmetry: the network sums over places, and the blur has no direction."""
    x = images(2, 3, *SIZE).double()
    plain, mirrored = (blur_integrated_gradients(smooth, v, target="class:1", steps=4).values for v in (x, x.flip(dim)))
    assert (mirrored - plain.flip(dim)).abs().max() <= EXACT * plain.abs().max()


def test_progress_chunks_and_company_change_nothing(net: Network, module: nn.Module) -> None:
    x = images(3, 3, *SIZE).double()
    seen: list[tuple[int, int]] = []
    with untouched(module):
        one_by_one = blur_integrated_gradients(net.within(1), x, steps=4, on_progress=lambda *at: seen.append(at))
    together = blur_integrated_gradients(net, x, steps=4)
    assert seen == [(done, 12) for done in range(1, 13)]
    assert (one_by_one.values - together.values).abs().max() <= EXACT * together.values.abs().max()


def test_a_dead_network_has_a_map_of_zeros() -> None:
    found = blur_integrated_gradients(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="class:0", steps=3)
    assert not found.values.any()
    assert found[0].measures()["absolute_error"] == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": 1}, "2 or more, the blurred image and the image, not 1"),
        ({"sigma": 0}, "above 0, such as 50, not 0"),
        ({"sigma": -1.0}, "not -1"),
        ({"sigma": math.nan}, "not nan"),
        ({"sigma": math.inf}, "not inf"),
        ({"target": "class:9"}, "there is no class 9"),
    ],
)
def test_senseless_options_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        blur_integrated_gradients(net, images(2, 3, *SIZE).double(), **options)
