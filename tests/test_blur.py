"""The blurred gradient step and its blur, against slow replicas."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.steps import Step, blurred_gradient, gaussian_blur
from inward.errors import CallError

EXACT = 1e-13  # float64, some tens of additions of numbers near 1


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def climb(step: Step, found: list[Tensor], start: Tensor) -> list[Tensor]:
    """As ``ascend`` does: the optimizer is handed the negative gradient. What is there after every step."""
    parameter = start.clone()
    optimizer = step([parameter])
    seen = []
    for g in found:
        parameter.grad = -g
        optimizer.step()
        seen.append(parameter.clone())
    return seen


def mirrored(index: int, length: int) -> int:
    """Beyond a border the picture comes back, the border itself once: -1 is 1, and length is length - 2."""
    index = abs(index)
    return 2 * (length - 1) - index if index >= length else index


def slow_blur(images: Tensor, sigma: float) -> Tensor:
    """Rows, then columns, a number at a time; over 4 sigma, at most as far as the picture can be mirrored."""
    result = images.clone()
    for dim in (2, 3):
        before, length = result.clone(), images.shape[dim]
        reach = min(max(1, math.ceil(4 * sigma)), length - 1)
        weights = {o: math.exp(-0.5 * (o / sigma) ** 2) for o in range(-reach, reach + 1)}
        for at in range(length):
            taken = [w * before.select(dim, mirrored(at + o, length)) for o, w in weights.items()]
            result.select(dim, at).copy_(torch.stack(taken).sum(0) / sum(weights.values()))
    return result


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), sigma=st.floats(0.1, 4))
def test_a_blur_is_that_of_a_slow_replica(height: int, width: int, sigma: float) -> None:
    images = rand(2, 3, height, width)
    found = gaussian_blur(images, sigma)
    torch.testing.assert_close(found, slow_blur(images, sigma), rtol=0, atol=EXACT)
    assert found.shape == images.shape
    # What is the same everywhere stays so: the weights sum to 1.
    level = torch.full_like(images, 0.37)
    torch.testing.assert_close(gaussian_blur(level, sigma), level, rtol=0, atol=EXACT)
    # Symmetric: a mirrored picture is blurred to the mirrored one.
    for dim in (2, 3):
        torch.testing.assert_close(gaussian_blur(images.flip(dim), sigma), found.flip(dim), rtol=0, atol=EXACT)


def test_a_single_bright_pixel_by_hand() -> None:
    """Its light is spread as exp(-d^2 / 2 sigma^2), over 4 sigma each way, and none is lost."""
    images = torch.zeros(2, 1, 21, 23, dtype=torch.float64)
    images[1, 0, 10, 11] = 1
    found = gaussian_blur(images, 2.0)[1, 0]
    assert not gaussian_blur(images, 2.0)[0].any()
    assert float(found.sum()) == pytest.approx(1, abs=EXACT)
    assert float(found[10, 13] / found[10, 11]) == pytest.approx(math.exp(-0.5), rel=1e-12)
    assert float(found[13, 10] / found[10, 11]) == pytest.approx(math.exp(-(9 + 1) / 8), rel=1e-12)
    lit = found.nonzero()
    assert [int(lit[:, d].min()) for d in (0, 1)] == [2, 3]
    assert [int(lit[:, d].max()) for d in (0, 1)] == [18, 19]


def test_no_width_is_no_blur_and_a_small_one_still_sees_its_neighbors() -> None:
    images = rand(2, 3, 4, 6)
    assert gaussian_blur(images, 0.0) is images
    near = gaussian_blur(images, 0.2)
    weight = math.exp(-12.5)
    inner = images[0, 0, 1:3, 2]
    across = (inner + weight * (images[0, 0, 1:3, 1] + images[0, 0, 1:3, 3])) / (1 + 2 * weight)
    assert (near[0, 0, 1:3, 2] - across).abs().max() < 2 * weight
    assert not torch.equal(near, images)
    point = rand(2, 1, 1, 1)
    assert torch.equal(gaussian_blur(point, 3.0), point)


def test_a_blur_has_the_gradient_of_its_transpose() -> None:
    images = rand(2, 1, 3, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, 0.8), images)


def gradients(count: int) -> list[Tensor]:
    """Gradients of three images whose sizes differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([1e-6, 1.0, 1e4], dtype=torch.float64).view(3, 1, 1, 1)
    return [size * torch.randn((3, 2, 5, 7), generator=generator, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(("every", "sigma"), [(0, 1.0), (1, 0.7), (2, 0.7), (3, 1.5), (2, 0.0)])
def test_blurred_gradient_ascent_is_that_of_a_slow_replica(every: int, sigma: float) -> None:
    found, x = gradients(7), rand(3, 2, 5, 7)
    rate = 0.03 / found[0].square().mean((1, 2, 3), keepdim=True).sqrt()
    seen = climb(blurred_gradient(0.03, every=every, sigma=sigma), found, x)
    for done, (g, image) in enumerate(zip(found, seen, strict=True), start=1):
        x = x + rate * g
        if every and sigma and done % every == 0:
            x = slow_blur(x, sigma)
        torch.testing.assert_close(image, x, rtol=0, atol=EXACT)


def test_the_rate_is_that_of_an_image_of_its_own_and_stays() -> None:
    """The first step has the length lr in the root mean square; one half as steep is half as long."""
    first = gradients(1)[0]
    start = rand(3, 2, 5, 7)
    seen = [start, *climb(blurred_gradient(0.25, every=0, sigma=0), [first, first / 2, 8 * first, 0 * first], start)]
    lengths = [(b - a).square().mean((1, 2, 3)).sqrt().tolist() for a, b in itertools.pairwise(seen)]
    for length, expected in zip(lengths, (0.25, 0.125, 2.0, 0.0), strict=True):
        assert length == pytest.approx([expected] * 3, abs=1e-12)


def test_the_rate_waits_for_a_gradient_that_is_not_0() -> None:
    first, second = gradients(2)
    late = first.clone()
    late[1] = 0
    start = rand(3, 2, 5, 7)
    one, two, three = climb(blurred_gradient(0.1, every=0, sigma=0), [late, second, second], start)
    assert torch.equal(one[1], start[1])
    assert torch.isfinite(three).all()
    # The image that waited has the rate of its second gradient, its neighbors those of their first.
    moved = (two - one).square().mean((1, 2, 3)).sqrt()
    ratio = second.square().mean((1, 2, 3)).sqrt() / first.square().mean((1, 2, 3)).sqrt()
    assert float(moved[1]) == pytest.approx(0.1, abs=1e-12)
    assert moved[[0, 2]].tolist() == pytest.approx((0.1 * ratio[[0, 2]]).tolist(), abs=1e-12)
    torch.testing.assert_close(three[1] - two[1], two[1] - one[1], rtol=0, atol=EXACT)


def test_an_image_moves_alone_as_in_a_batch() -> None:
    found, start = gradients(4), rand(3, 2, 5, 7)
    whole = climb(blurred_gradient(0.05, every=2, sigma=0.6), found, start)[-1]
    for i in range(3):
        one = climb(blurred_gradient(0.05, every=2, sigma=0.6), [g[i : i + 1] for g in found], start[i : i + 1])[-1]
        torch.testing.assert_close(one[0], whole[i], rtol=0, atol=EXACT)


@pytest.mark.parametrize(("every", "sigma"), [(-1, 1.0), (2, -0.5), (2, math.nan), (2, math.inf)])
def test_blurs_that_make_no_sense_are_refused(every: int, sigma: float) -> None:
    with pytest.raises(CallError, match="a blur comes every 1 step or more"):
        blurred_gradient(0.1, every=every, sigma=sigma)
