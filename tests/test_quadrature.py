"""Adaptive quadrature against integrals by hand and a slow replica that halves one interval at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward import quadrature
from inward.gradient import Batch, Sample
from inward.quadrature import Integral, Lines, gauss_legendre, integrate

# Sums of some hundred float64 numbers near 1.
EXACT = 1e-11


def lines(
    score: Callable[[Tensor], Tensor], ends: Tensor, starts: Tensor, *, chunk: int = 5, seen: list[int] | None = None
) -> Lines:
    """Lines through a function of vectors, run ``chunk`` samples at a time."""
    change = ends - starts

    def batches(samples: Iterable[Sample], slopes: bool) -> Iterator[Batch]:
        held: list[Sample] = list(samples)
        for first in range(0, len(held), chunk):
            batch = held[first : first + chunk]
            x = torch.stack([sample.image for sample in batch]).requires_grad_(True)
            found = score(x)
            (gradient,) = torch.autograd.grad(found.sum(), x)
            if slopes and seen is not None:
                seen.extend(sample.owner for sample in batch)
            yield Batch(batch, found.detach(), gradient if slopes else x.new_empty(0))

    def sample(line: int, place: float, weight: float) -> Sample:
        return Sample(line, starts[line] + place * change[line], weight)

    return Lines(sample, change, lambda samples: batches(samples, True), lambda samples: batches(samples, False))


def within(*allowed: float) -> Callable[[Tensor], Tensor]:
    """A tolerance of each line, whatever its difference."""
    return lambda _: torch.tensor(allowed, dtype=torch.float64)


def bent(x: Tensor) -> Tensor:
    """A sum of ReLUs whose bends lie at fixed places: the slope along a line jumps."""
    knots = torch.tensor([0.11, 0.37, 0.52, 0.93], dtype=x.dtype)
    weights = torch.tensor([1.0, -2.5, 3.0, 4.0], dtype=x.dtype)
    return ((x.sum(1, keepdim=True) / x.shape[1] - knots).relu() * weights).sum(1) + x[:, 0] ** 2


def points(count: int, size: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, count, size, generator=generator, dtype=torch.float64)
    return drawn[0], -0.2 * drawn[1]


def slow(one: Lines, line: int, tolerance: float, most: int) -> tuple[list[tuple[float, float]], float, Tensor]:
    """Simpson's rule by its formula, the worst interval halved, again and again.

    Its partition, the sum of its errors and its integral.
    """

    def look(place: float) -> tuple[float, Tensor]:
        (found,) = one.gradients([one.sample(line, place, 1.0)])
        return found.scores.item(), found.gradients[0]

    def piece(a: float, b: float) -> tuple[float, float, float, Tensor]:
        (low, first), (_, middle), (high, last) = look(a), look((a + b) / 2), look(b)
        integral = (b - a) / 6 * (first + 4 * middle + last)
        return -abs(high - low - float((integral * one.change[line]).sum())), a, b, integral

    heap = [piece(k / 4, (k + 1) / 4) for k in range(4)]
    used = 9
    while -sum(p[0] for p in heap) > tolerance and used + 2 <= most:
        heap.sort(key=lambda p: p[:2])
        _, a, b, _ = heap.pop(0)
        heap += [piece(a, (a + b) / 2), piece((a + b) / 2, b)]
        used += 2
    return sorted((p[1], p[2]) for p in heap), -sum(p[0] for p in heap), torch.stack([p[3] for p in heap]).sum(0)


@pytest.mark.parametrize("degree", range(1, 5))
def test_polynomials_are_exact_without_halving(degree: int) -> None:
    """Three nodes integrate a slope of degree 3, that is a score of degree 4."""
    ends, starts = points(3)
    found = integrate(lines(lambda x: (x**degree).sum(1), ends, starts), within(1e-9, 1e-9, 1e-9), 100)
    assert found.points.tolist() == [9, 9, 9]
    assert found.error.max() < EXACT
    # By hand, a coordinate alone: (x^d - b^d) / (x - b).
    torch.testing.assert_close(found.values, (ends**degree - starts**degree) / (ends - starts), rtol=0, atol=EXACT)
    torch.testing.assert_close(found.change, (ends**degree - starts**degree).sum(1), rtol=0, atol=EXACT)


@pytest.mark.parametrize("steps", [1, 4, 5])
def test_fixed_steps_are_gauss_legendre(steps: int) -> None:
    """Exact for a score of degree 2 n, and not for one of the next degree."""
    ends, starts = points(3, seed=4)
    for degree in (2 * steps, 2 * steps + 1):
        found = gauss_legendre(lines(lambda x, d=degree: (x**d).sum(1), ends, starts), steps)
        exact = (ends**degree - starts**degree) / (ends - starts)
        missed = ((exact - found.values) * (ends - starts)).sum(1)
        torch.testing.assert_close(found.signed, missed, rtol=0, atol=EXACT)
        assert torch.equal(found.error, found.signed.abs())
        assert found.points.tolist() == [steps] * 3
        assert (found.error.max() < EXACT) == (degree == 2 * steps)


@pytest.mark.parametrize("tolerance", [0.03, 0.01, 1e-3])
def test_the_partition_is_that_of_halving_one_at_a_time(tolerance: float) -> None:
    ends, starts = points(4, seed=3)
    one = lines(bent, ends, starts, chunk=1000)
    found = integrate(one, within(*[tolerance] * 4), 4000)
    for line in range(4):
        partition, error, integral = slow(one, line, tolerance, 4000)
        assert found.error[line].item() == pytest.approx(error, abs=EXACT)
        torch.testing.assert_close(found.values[line], integral, rtol=0, atol=EXACT)
        # Every halving computes 2 gradients and adds an interval.
        assert int(found.points[line]) == 9 + 2 * (len(partition) - 4)
    assert found.error.max() <= tolerance
    assert int(found.points.max()) > 9


def test_what_is_reported_is_what_is_missed() -> None:
    ends, starts = points(4, seed=1)
    one = lines(bent, ends, starts)
    found = integrate(one, within(*[0.02] * 4), 400)
    torch.testing.assert_close(found.change, bent(ends) - bent(starts), rtol=0, atol=EXACT)
    torch.testing.assert_close(found.change - (found.values * one.change).sum(1), found.signed, rtol=0, atol=EXACT)
    assert (found.signed.abs() <= found.error + EXACT).all()
    exact = integrate(one, within(*[1e-4] * 4), 100_000)
    # The values themselves come nearer too, no further off than the error says.
    assert ((found.values - exact.values).mul(one.change).sum(1).abs() <= found.error + 1e-4).all()


def test_each_line_has_its_own_tolerance_and_its_own_end() -> None:
    ends, starts = points(3, seed=2)
    seen: list[int] = []
    one = lines(bent, ends, starts, seen=seen)
    found = integrate(one, within(1e-3, float("inf"), 0.3), 3000)
    assert int(found.points[1]) == 9
    assert int(found.points[0]) > int(found.points[2]) >= 9
    assert [seen.count(line) for line in range(3)] == found.points.tolist()


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_a_line_is_the_same_alone_and_among_others_whatever_the_chunk(chunk: int) -> None:
    ends, starts = points(3, seed=5)
    together = integrate(lines(bent, ends, starts, chunk=chunk), within(*[0.01] * 3), 500)
    for i in range(3):
        alone = integrate(lines(bent, ends[i : i + 1], starts[i : i + 1], chunk=7), within(0.01), 500)
        assert alone.points[0] == together.points[i]
        torch.testing.assert_close(alone.values[0], together.values[i], rtol=0, atol=EXACT)


@pytest.mark.parametrize("held", [1, 2, 5])
def test_with_little_room_the_answer_is_the_same(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are not kept apart are added up; one that must be halved after all is computed again."""
    ends, starts = points(3, seed=6)
    plain = integrate(lines(bent, ends, starts), within(*[1e-3] * 3), 3000)
    monkeypatch.setattr(quadrature, "_HELD", held * 3 * 8)
    found = integrate(lines(bent, ends, starts), within(*[1e-3] * 3), 3000)
    torch.testing.assert_close(found.values, plain.values, rtol=0, atol=EXACT)
    torch.testing.assert_close(found.error, plain.error, rtol=0, atol=EXACT)
    # Those that are computed again come on top.
    assert (found.points >= plain.points).all()
    assert found.points.sum() > plain.points.sum()


def test_the_limit_holds_and_the_error_is_told() -> None:
    ends, starts = points(2, seed=7)
    for most in (9, 10, 11, 50):
        found = integrate(lines(bent, ends, starts), within(1e-12, 1e-12), most)
        assert int(found.points.max()) <= most
        assert found.error.min() > 1e-12
    assert found.points.tolist() == [49, 49]


def test_what_is_not_finite_ends_at_once() -> None:
    ends, starts = points(2)
    found = integrate(lines(lambda x: x.sum(1) * torch.nan, ends, starts), within(0.1, 0.1), 1000)
    assert found.points.tolist() == [9, 9]
    assert found.error.isnan().all()


def test_points_are_told_on_the_way() -> None:
    ends, starts = points(2, seed=8)
    told: list[int] = []
    found = integrate(lines(bent, ends, starts), within(0.01, 0.01), 1000, on_points=told.append)
    assert told == sorted(told)
    assert told[-1] == int(found.points.sum())


@given(seed=st.integers(0, 10_000), tolerance=st.floats(1e-3, 1.0))
@settings(max_examples=25, deadline=None)
def test_the_tolerance_is_kept(seed: int, tolerance: float) -> None:
    ends, starts = points(2, seed=seed)
    found: Integral = integrate(lines(bent, ends, starts), within(tolerance, tolerance), 50_000)
    assert found.error.max() <= tolerance
    assert (found.signed.abs() <= found.error + EXACT).all()
