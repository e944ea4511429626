"""Constraints: the laws of a projection, uniform samples, and the steepest direction."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.constraints import Ball, Box, Constraint, normalized
from inward.errors import CallError

SHAPE = (3, 2, 5, 7)
NUMBERS = 70  # an image
few = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)
radii = st.floats(1e-4, 4.0)
norms = st.sampled_from([1, 2, math.inf])


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(seed: int, dtype: torch.dtype = torch.float64, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(SHAPE, generator=rng(seed), dtype=torch.float64).to(dtype)


def length(x: Tensor, p: float) -> Tensor:
    """The p-norm of every image in float64, written out."""
    flat = x.double().flatten(1).abs()
    return {math.inf: flat.amax(1), 2: flat.square().sum(1).sqrt(), 1: flat.sum(1)}[p]


def each(count: int, seed: int = 0) -> range:
    """A seed for every image."""
    return range(10_000 * seed, 10_000 * seed + count)


def rounding(p: float, dtype: torch.dtype) -> float:
    """How far outside arithmetic can put an image with values in [-3, 4].

    Each pixel is rounded to within 2 eps where |x| < 4 (half an ulp), twice: in center - eps and in
    the result; in the Euclidean norm of 70 numbers that is sqrt(70) as much.
    """
    once = 4 * torch.finfo(dtype).eps
    return once if p == math.inf else once * math.sqrt(NUMBERS)


@few
@given(seeds, radii, norms, st.sampled_from([torch.float32, torch.float64]))
def test_projection_onto_a_ball_stays_inside_and_is_idempotent(
    seed: int, eps: float, p: float, dtype: torch.dtype
) -> None:
    center, images = pictures(seed, dtype), pictures(seed + 1, dtype, -3, 4)
    ball = Ball(center, eps, p)
    once = ball.project(images)
    assert (once.dtype, once.shape) == (dtype, SHAPE)
    slack = rounding(p, dtype)
    assert (length(once - center.double(), p) <= eps + slack).all()
    assert (length(once - ball.project(once).double(), p) <= slack).all()
    torch.testing.assert_close(ball.distance(images), length(images.double() - center.double(), p), rtol=1e-12, atol=0)


@few
@given(seeds, radii, norms)
def test_projection_is_the_nearest_point_of_the_ball(seed: int, eps: float, p: float) -> None:
    """Against random points of the ball, and by the law of convex sets: (x - Px) . (y - Px) <= 0 for y inside."""
    ball, images = Ball(pictures(seed), eps, p), pictures(seed + 1, low=-3, high=4)
    nearest = ball.project(images)
    for k, spread in enumerate((1.0, 0.1, 1e-3)):
        drawn = ball.sample(images, each(3, k + seed % 1000))
        candidates = nearest + spread * (drawn - nearest)  # inside, since the ball is convex
        assert (length(images - candidates, 2) >= length(images - nearest, 2) - 1e-12).all()
        turned = ((images - nearest) * (candidates - nearest)).flatten(1).sum(1)
        assert (turned <= 1e-10).all()


@few
@given(seeds, radii, norms)
def test_points_inside_stay_and_points_outside_go_to_the_surface(seed: int, eps: float, p: float) -> None:
    center = pictures(seed)
    ball = Ball(center, eps, p)
    direction = torch.randn(SHAPE, generator=rng(seed + 1), dtype=torch.float64)
    direction = direction / length(direction, p).view(-1, 1, 1, 1)
    inside = center + 0.999 * eps * direction
    assert torch.equal(ball.project(inside), inside)
    outside = center + torch.tensor([1.1, 3.0, 1e3]).view(3, 1, 1, 1) * eps * direction
    assert ball.distance(ball.project(outside)).tolist() == pytest.approx([eps] * 3, rel=1e-10)
    if p == 2:
        torch.testing.assert_close(ball.project(outside), center + eps * direction, rtol=0, atol=1e-10)


@few
@given(seeds, radii, norms, st.sampled_from([torch.float32, torch.float64]))
def test_inside_is_inside_to_the_last_digit(seed: int, eps: float, p: float, dtype: torch.dtype) -> None:
    """The norm, computed in float64, is at most eps; torchattacks and Foolbox leave 8.0000005 levels of 8."""
    center, images = pictures(seed, dtype), pictures(seed + 1, dtype, -3, 4)
    ball = Ball(center, eps, p)
    found = ball.inside(images)
    # 4e-15: another order of summing 70 numbers in float64.
    assert (length(found.double() - center.double(), p) <= eps * (1 + 4e-15 * (p < math.inf))).all()
    assert (ball.distance(found) <= eps).all()
    assert ball.distance(found).tolist() == pytest.approx(
        ball.distance(ball.project(images)).tolist(), rel=1e-5, abs=rounding(p, dtype)
    )
    if p == math.inf:
        assert torch.equal(found, ball.project(images))
    # Each image has its own eps, and is as in a ball of its own.
    several = torch.tensor([eps, 0.5 * eps, 0.0], dtype=torch.float64)
    mixed = Ball(center, several, p).project(images)
    for i, own in enumerate(several.tolist()):
        alone = Ball(center[i : i + 1], own, p).project(images[i : i + 1])
        torch.testing.assert_close(mixed[i : i + 1], alone, rtol=0, atol=4 * torch.finfo(dtype).eps)
    last = Ball(center, several, p).select(torch.tensor([2]))
    torch.testing.assert_close(last.project(images[2:]), center[2:], rtol=0, atol=0)


@few
@given(seeds, st.floats(-1, 0.4), st.floats(0.4, 2))
def test_the_laws_of_the_box(seed: int, low: float, high: float) -> None:
    box, images = Box(low, high), pictures(seed, low=-3, high=4)
    once = box.project(images)
    assert low <= float(once.min()) <= float(once.max()) <= high
    assert torch.equal(box.project(once), once)
    inside = (images >= low) & (images <= high)
    assert torch.equal(once[inside], images[inside])
    candidates = box.sample(images, each(3, seed % 1000))
    assert low <= float(candidates.min()) <= float(candidates.max()) <= high
    assert ((images - once).abs() <= (images - candidates).abs()).all()


@few
@given(seeds, st.floats(1e-3, 4.0), norms, st.booleans())
def test_box_and_ball_are_kept_together_when_the_center_is_in_the_box(
    seed: int, eps: float, p: float, box_last: bool
) -> None:
    ball, images = Ball(pictures(seed), eps, p), pictures(seed + 1, low=-3, high=4)
    for constraint in (ball, Box()) if box_last else (Box(), ball):
        images = constraint.project(images)
    assert (ball.distance(images) <= eps + 1e-12).all()
    assert float(images.min()) >= -1e-15
    assert float(images.max()) <= 1 + 1e-15


def test_an_empty_ball_is_its_center() -> None:
    center = pictures(0)
    for p in (1, 2, math.inf):
        ball = Ball(center, 0.0, p)
        assert torch.equal(ball.project(pictures(1)), center)
        assert torch.equal(ball.project(center), center)
        assert torch.equal(ball.sample(center, each(3)), center)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_of_the_l2_ball_are_uniform(dtype: torch.dtype) -> None:
    """The radius r of a uniform point has r^d uniform in [0, 1], for d numbers an image."""
    center = torch.full((2000, 1, 2, 3), 0.5, dtype=dtype)
    ball = Ball(center, 0.7, 2)
    offsets = (ball.sample(center, each(2000, 3)) - center).double()
    radii = length(offsets, 2) / 0.7
    assert float(radii.max()) <= 1 + 1e-6
    # Kolmogorov-Smirnov: the greatest gap of 2000 draws is above 1.63 / sqrt(2000) = 0.036 once in a hundred.
    sorted_powers = (radii**6).sort().values
    assert float((sorted_powers - (torch.arange(2000) + 0.5) / 2000).abs().max()) < 0.036
    # Every number has mean 0 and variance eps^2 / (d + 2); 4 standard errors.
    variance = 0.49 / 8
    assert float(offsets.mean(0).abs().max()) < 4 * math.sqrt(variance / 2000)
    assert offsets.square().mean((0, 1, 2, 3)).item() == pytest.approx(variance, rel=0.04)
    # No direction and no image is preferred: the covariance is a multiple of the identity.
    flat = offsets.flatten(1)
    covariance = flat.T @ flat / 2000
    assert float((covariance - variance * torch.eye(6, dtype=torch.float64)).abs().max()) < 5 * variance / math.sqrt(
        1000
    )


def test_samples_of_the_linf_ball_and_of_the_box_are_uniform() -> None:
    like = torch.full((400, 2, 5, 7), 0.5, dtype=torch.float64)
    for low, high, drawn in [
        (0.45, 0.55, Ball(like, 0.05).sample(like, each(400))),
        (-1.0, 3.0, Box(-1, 3).sample(like, each(400, 1))),
    ]:
        shares = torch.histc((drawn - low) / (high - low), bins=10, min=0, max=1) / drawn.numel()
        assert float(shares.sum()) == pytest.approx(1, abs=1e-9)
        # 28,000 numbers: a tenth is good to sqrt(0.09 / 28000) = 0.0018; 4 of these.
        assert float((shares - 0.1).abs().max()) < 0.0072


def test_samples_of_the_l1_ball_are_uniform() -> None:
    """The radius r of a uniform point has r^d uniform in [0, 1], and each sign is as likely."""
    center = torch.full((2000, 1, 2, 3), 0.5, dtype=torch.float64)
    offsets = Ball(center, 0.7, 1).sample(center, each(2000, 4)) - center
    radii = length(offsets, 1) / 0.7
    assert float(radii.max()) <= 1
    # As for l2.
    sorted_powers = (radii**6).sort().values
    assert float((sorted_powers - (torch.arange(2000) + 0.5) / 2000).abs().max()) < 0.036
    # A number's share of the radius is that of a flat Dirichlet distribution: its mean is 1 / 6; 5 standard errors.
    shares = offsets.abs().flatten(1) / length(offsets, 1)[:, None]
    assert float((shares.mean(0) - 1 / 6).abs().max()) < 5 * math.sqrt(5 / 252 / 2000)
    assert abs(float((offsets > 0).double().mean()) - 0.5) < 5 * 0.5 / math.sqrt(12_000)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_a_sample_depends_on_its_seed_alone(p: float) -> None:
    ball = Ball(pictures(0, torch.float32), 0.1, p)
    first, again, other = (ball.sample(ball.center, [seed, 9, 9]) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[1:], other[1:])
    alone = ball.select(torch.tensor([2])).sample(ball.center[2:], [9])
    assert torch.equal(alone[0], first[2])
    torch.testing.assert_close(first[1] - ball.center[1], first[2] - ball.center[2], rtol=0, atol=1e-6)
    assert first.dtype == torch.float32
    assert (ball.distance(first) <= 0.1 + 1e-6).all()


CONSTRAINTS = [Ball(pictures(0), 0.5, 1), Ball(pictures(0), 0.5, 2), Ball(pictures(0), 0.5, math.inf), Box()]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["L1", "L2", "Linf", "Box"])
def test_the_steepest_direction_has_unit_norm_and_rises_most(constraint: Constraint) -> None:
    p = getattr(constraint, "p", 2)
    gradient = torch.randn(SHAPE, generator=rng(0), dtype=torch.float64)
    found = constraint.steepest(gradient)
    assert length(found, p).tolist() == pytest.approx([1, 1, 1], abs=1e-12)
    rise = (gradient * found).flatten(1).sum(1)
    # By duality the most that a unit step can rise is the dual norm of the gradient.
    dual = length(gradient, {1: math.inf, 2: 2, math.inf: 1}[p])
    torch.testing.assert_close(rise, dual, rtol=1e-12, atol=0)
    for seed in range(1, 200):
        other = torch.randn(SHAPE, generator=rng(seed), dtype=torch.float64)
        other = found + other / seed
        other = other / length(other, p).view(-1, 1, 1, 1)
        assert ((gradient * other).flatten(1).sum(1) <= rise).all()


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["L1", "L2", "Linf", "Box"])
def test_a_zero_gradient_gives_no_step_beside_others_that_do(constraint: Constraint) -> None:
    gradient = torch.randn(SHAPE, generator=rng(0), dtype=torch.float64)
    gradient[1] = 0
    found = constraint.steepest(gradient)
    assert torch.equal(found[1], torch.zeros(SHAPE[1:], dtype=torch.float64))
    assert torch.equal(found[::2], constraint.steepest(gradient[::2].clone()))


@pytest.mark.parametrize("size", [1e-30, 1e-42, 1e30])
@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=["L1", "L2", "Linf", "Box"])
def test_tiny_and_huge_gradients_keep_their_direction(constraint: Constraint, size: float) -> None:
    """In float32 the square of 1e-30 is 0, and that of 1e30 infinite. (1e-42 is subnormal: 3 digits.)"""
    signs = torch.randn(SHAPE, generator=rng(0)).sign()
    found = constraint.steepest(signs * size)
    torch.testing.assert_close(found, constraint.steepest(signs), rtol=1e-6, atol=0)
    assert length(found, getattr(constraint, "p", 2)).tolist() == pytest.approx([1, 1, 1], rel=1e-6)


@pytest.mark.parametrize("shape", [(4, 3, 16, 16), (16, 4, 5, 16), (4, 3, 5, 4, 2)])
def test_normalizing_is_by_image_where_the_batch_equals_another_axis(shape: tuple[int, ...]) -> None:
    """Batch 4 and width 16 broke captum's start; the spectrum of Fourier parameters has five axes."""
    gradient = torch.randn(shape, generator=rng(0), dtype=torch.float64) * torch.arange(1, shape[0] + 1).view(
        -1, *[1] * (len(shape) - 1)
    )
    slow = torch.stack([g / math.sqrt(float((g * g).sum())) for g in gradient])
    torch.testing.assert_close(normalized(gradient), slow, rtol=1e-12, atol=0)


def test_ball_of_a_batch_whose_size_is_the_width() -> None:
    center = torch.full((4, 3, 5, 4), 0.5, dtype=torch.float64)
    far = center + torch.tensor([0.01, 1.0, 2.0, 3.0], dtype=torch.float64).view(4, 1, 1, 1)
    ball = Ball(center, 0.5, 2)
    # 0.01 * sqrt(60) = 0.077 is inside.
    expected = [0.01 * math.sqrt(60), 0.5, 0.5, 0.5]
    assert ball.distance(ball.project(far)).tolist() == pytest.approx(expected, rel=1e-12)
    assert (ball.distance(ball.sample(center, each(4))) <= 0.5 + 1e-12).all()


def test_one_center_serves_every_image_and_follows_their_dtype() -> None:
    center = pictures(0)[:1]
    found = Ball(center, 0.1).project(pictures(1, torch.float32))
    expected = Ball(center.expand(SHAPE), 0.1).project(pictures(1))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ball(pictures(0), 0.1, 3), "no ball of the norm 3; p is 1, 2 or inf"),
        (lambda: Ball(pictures(0), torch.full((2,), 0.1)), "there are 2 eps for 3 images"),
        (lambda: Ball(pictures(0), 0.1).sample(pictures(0), [1]), "there is 1 seed for 3 images"),
        (lambda: Ball(pictures(0), -0.1), "from 0 up, not -0.1"),
        (lambda: Ball(pictures(0), math.nan), "from 0 up, not nan"),
        (lambda: Ball(pictures(0), math.inf), "from 0 up, not inf"),
        (lambda: Box(0.6, 0.4), "from 0.6 to 0.4"),
        (lambda: Box(math.nan, 1.0), "from nan to 1.0"),
        (lambda: Ball(pictures(0), 0.1).project(pictures(0)[:1]), "center has the shape"),
        (lambda: Ball(pictures(0)[:2], 0.1, 2).project(pictures(0)), "center has the shape"),
        (lambda: Ball(pictures(0), 0.1).project(pictures(0).mT), "center has the shape"),
    ],
)
def test_sets_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
