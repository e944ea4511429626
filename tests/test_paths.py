"""Blurs, curves of blurs and random draws, against slow replicas and by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.paths import Cloud, Draws, ScaleSpace, diffused
from inward.errors import CallError

EXACT = 1e-12  # float64, some hundreds of additions of numbers near 1
SHAPE = (2, 3, 7, 10)

pytestmark = pytest.mark.usefixtures("single_thread")


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heat(length: int, time: float) -> Tensor:
    """What becomes of heat on a line of pixels whose ends let none out, as a power series (torch's)."""
    flow = torch.zeros(length, length, dtype=torch.float64)
    for a, b in itertools.pairwise(range(length)):
        flow[a, b] = flow[b, a] = 1
    return torch.matrix_exp(time * (flow - torch.diag(flow.sum(1))))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 40.0])
def test_a_blur_is_the_heat_equation(sigma: float) -> None:
    images = rand(*SHAPE)
    slow = torch.einsum("yi,ncij,xj->ncyx", heat(7, sigma**2 / 2), images, heat(10, sigma**2 / 2))
    assert (diffused(images, sigma) - slow).abs().max() < 1e-10  # matrix_exp squares its matrix ten times


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), first=st.floats(0.05, 5), second=st.floats(0.05, 5))
def test_blurs_add_up_and_make_nothing_new(height: int, width: int, first: float, second: float) -> None:
    images = rand(2, 3, height, width)
    once = diffused(images, math.hypot(first, second))
    assert (diffused(diffused(images, first), second) - once).abs().max() < EXACT
    # Averages: no pixel is brighter or darker than all were, and no light is lost.
    assert (once.amax((2, 3)) <= images.amax((2, 3)) + EXACT).all()
    assert (once.amin((2, 3)) >= images.amin((2, 3)) - EXACT).all()
    assert (once.mean((2, 3)) - images.mean((2, 3))).abs().max() < EXACT


def test_a_point_of_light_becomes_a_gaussian() -> None:
    images = torch.zeros(2, 1, 41, 51, dtype=torch.float64)
    images[1, 0, 20, 25] = 1
    found = diffused(images, 3.0)
    assert not found[0].any()
    down, across = found[1, 0].sum(1), found[1, 0].sum(0)
    for light, middle in ((down, 20), (across, 25)):
        offsets = torch.arange(len(light)) - middle
        # The border, 6 to 8 standard deviations away, holds 1e-9 of it.
        assert float((light * offsets**2).sum()) == pytest.approx(9, abs=1e-6)
        plain = torch.exp(-(offsets.double() ** 2) / 18) / math.sqrt(18 * math.pi)
        # Grids differ from the plane by terms of the order 1 / sigma^2 of the height, 0.13 (0.0018 measured).
        assert (light - plain).abs().max() < 0.13 / 9
    assert float(found.sum()) == pytest.approx(1, abs=EXACT)


def test_no_blur_is_the_image_and_a_long_one_its_mean() -> None:
    images = rand(*SHAPE)
    assert diffused(images, 0.0) is images
    assert (diffused(images, 100.0) - images.mean((2, 3), keepdim=True)).abs().max() < EXACT
    single = diffused(images.float(), 2.0)
    assert single.dtype == torch.float32
    assert (single - diffused(images, 2.0)).abs().max() < 1e-6
    assert diffused(images.bfloat16(), 2.0).dtype == torch.bfloat16


def test_the_pieces_of_a_curve_add_up() -> None:
    images = rand(*SHAPE)
    points, pieces = zip(*ScaleSpace(4.0, 9)(images), strict=True)
    assert len(points) == len(ScaleSpace(4.0, 9)) == 9
    assert torch.equal(points[-1], images)
    assert (points[0] - diffused(images, 4.0)).abs().max() < EXACT
    assert (sum(pieces) - (images - points[0])).abs().max() < EXACT
    # By hand: the third of 9 is a quarter of the way in log(1 + sigma), from log 5 to 0.
    assert (points[2] - diffused(images, 5**0.75 - 1)).abs().max() < EXACT
    assert (pieces[2] - (points[3] - points[1]) / 2).abs().max() < EXACT
    assert (pieces[-1] - (points[8] - points[7]) / 2).abs().max() < EXACT


@pytest.mark.parametrize(("power", "exact"), [(1, True), (2, True), (3, False)])
def test_the_trapezoidal_rule_is_exact_to_the_second_degree(power: int, exact: bool) -> None:
    """The score is the sum of powers of the pixels, and the sum over pieces its difference."""
    images = rand(*SHAPE)
    curve = list(ScaleSpace(3.0, 5)(images))
    total = sum((power * point ** (power - 1) * piece).sum() for point, piece in curve)
    missed = abs(float(total - (images**power - curve[0][0] ** power).sum()))
    assert (missed < 1e-10) == exact
    assert exact or missed > 1e-3


def test_every_baseline_and_every_part_of_a_line_is_drawn_alike() -> None:
    drawn = Draws(4, 24, seed=3)()
    assert [int(place * 24) for _, place in drawn] == list(range(24))
    for first in range(0, 24, 4):
        assert sorted(number for number, _ in drawn[first : first + 4]) == [0, 1, 2, 3]
    assert len({tuple(number for number, _ in drawn[first : first + 4]) for first in range(0, 24, 4)}) > 1
    assert drawn == Draws(4, 24, seed=3)()
    assert drawn != Draws(4, 24, seed=4)()
    few = Draws(9, 5, seed=1)()
    assert len({number for number, _ in few}) == 5
    uneven = Counter(number for number, _ in Draws(4, 10)())
    assert sorted(uneven.values()) == [2, 2, 3, 3]


def test_draws_are_unbiased() -> None:
    """The mean of b t^2 over b in 0, 1, 2 and t in [0, 1] is 1/3, also where rounds are not complete."""
    for samples in (2, 4, 7):
        means = [
            sum(number * place**2 for number, place in Draws(3, samples, seed=seed)()) / samples for seed in range(2000)
        ]
        spread = torch.tensor(means).std().item()
        # Five standard errors.
        assert abs(sum(means) / 2000 - 1 / 3) < 5 * spread / math.sqrt(2000)


def test_draws_vary_less_than_independent_ones() -> None:
    means = [sum(number * place**2 for number, place in Draws(3, 12, seed=s)()) / 12 for s in range(300)]
    # Independent: E b^2 t^4 - 1/9 = 5/3 * 1/5 - 1/9 = 2/9, over 12 draws.
    assert torch.tensor(means).var().item() < 0.1 * (2 / 9) / 12


def test_a_cloud_is_the_same_noise_around_every_image() -> None:
    images = rand(*SHAPE)
    noise = [copies - images for _, copies in Cloud(0.2, 3, seed=5)(images)]
    generator = torch.Generator().manual_seed(5)
    for each in noise:
        drawn = 0.2 * torch.randn(SHAPE[1:], generator=generator, dtype=torch.float64)
        assert (each - drawn).abs().max() < EXACT


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cloud(math.inf), "0 or more, not inf"),
        (lambda: Cloud(math.nan), "0 or more, not nan"),
        (lambda: Draws(0, 5), "not 5, 0"),
        (lambda: Draws(5, 0), "not 0, 5"),
        (lambda: ScaleSpace(3.0, 1), "2 points or more, not 1"),
        (lambda: ScaleSpace(0.0, 9), "above 0, not 0.0"),
        (lambda: ScaleSpace(math.nan, 9), "above 0, not nan"),
        (lambda: ScaleSpace(math.inf, 9), "above 0, not inf"),
    ],
)
def test_paths_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
