"""Adaptive quadrature against integrals by hand and a slow replica that halves one interval at a time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward import quadrature
from inward.gradient import Batch, Sample
from inward.quadrature import Integral, Lines, integrate

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

    return Lines(
        sample,
        change,
        lambda samples: batches(samples, True),
        lambda samples: batches(samples, False),
        torch.stack([score(starts), score(ends)], 1).detach(),
    )


def bent(x: Tensor) -> Tensor:
    """A sum of ReLUs whose bends lie at fixed places: the slope along a line jumps."""
    knots = torch.tensor([0.11, 0.37, 0.52, 0.93], dtype=x.dtype)
    weights = torch.tensor([1.0, -2.5, 3.0, 4.0], dtype=x.dtype)
    return ((x.sum(1, keepdim=True) / x.shape[1] - knots).relu() * weights).sum(1) + x[:, 0] ** 2


def points(count: int, size: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(2, count, size, generator=generator, dtype=torch.float64)
    return drawn[0], -0.2 * drawn[1]


def slow(one: Lines, line: int, tolerance: float, most: int, nodes: int = 4) -> tuple[list[tuple[float, float]], float]:
    """The worst interval halved, again and again; its partition and the sum of its errors."""
    places, weights = np.polynomial.legendre.leggauss(nodes)

    def error(a: float, b: float) -> float:
        x = [one.sample(line, a + (b - a) * (p + 1) / 2, 1.0) for p in places]
        (found,) = one.gradients(x)
        slope = (found.gradients * one.change[line]).sum(1).numpy()
        low, high = (next(iter(one.scores([one.sample(line, t, 1.0)]))).scores.item() for t in (a, b))
        return abs(high - low - float((b - a) / 2 * (weights * slope).sum()))

    heap = [(-error(0.0, 1.0), 0.0, 1.0)]
    used = nodes
    while sum(-e for e, _, _ in heap) > tolerance and used + 2 * nodes <= most:
        _, a, b = heapq.heappop(heap)
        for c, d in ((a, (a + b) / 2), ((a + b) / 2, b)):
            heapq.heappush(heap, (-error(c, d), c, d))
        used += 2 * nodes
    return sorted((a, b) for _, a, b in heap), sum(-e for e, _, _ in heap)


@pytest.mark.parametrize("degree", range(1, 9))
def test_polynomials_are_exact_without_halving(degree: int) -> None:
    """Four points integrate a slope of degree 7, that is a score of degree 8."""
    ends, starts = points(3)
    found = integrate(lines(lambda x: (x**degree).sum(1), ends, starts), [1e-9] * 3, 100)
    assert found.points.tolist() == [4, 4, 4]
    assert found.error.max() < EXACT
    # By hand, a coordinate alone: (x^d - b^d) / (x - b).
    torch.testing.assert_close(found.values, (ends**degree - starts**degree) / (ends - starts), rtol=0, atol=EXACT)


@pytest.mark.parametrize("tolerance", [0.1, 0.01, 1e-3])
def test_the_partition_is_that_of_halving_one_at_a_time(tolerance: float) -> None:
    ends, starts = points(4, seed=3)
    one = lines(bent, ends, starts, chunk=1000)
    found = integrate(one, [tolerance] * 4, 4000)
    for line in range(4):
        partition, error = slow(one, line, tolerance, 4000)
        assert found.error[line].item() == pytest.approx(error, abs=EXACT)
        # Every halving computes 8 gradients and adds an interval.
        assert int(found.points[line]) == 4 + 8 * (len(partition) - 1)
    assert found.error.max() <= tolerance
    assert int(found.points.max()) > 4


def test_what_is_reported_is_what_is_missed() -> None:
    ends, starts = points(4, seed=1)
    one = lines(bent, ends, starts)
    found = integrate(one, [0.02] * 4, 400)
    rise = one.ends[:, 1] - one.ends[:, 0]
    torch.testing.assert_close(rise - (found.values * one.change).sum(1), found.signed, rtol=0, atol=EXACT)
    assert (found.signed.abs() <= found.error + EXACT).all()
    exact = integrate(one, [1e-4] * 4, 100_000)
    # The values themselves come nearer too, no further off than the error says.
    assert ((found.values - exact.values).mul(one.change).sum(1).abs() <= found.error + 1e-4).all()


def test_each_line_has_its_own_tolerance_and_its_own_end() -> None:
    ends, starts = points(3, seed=2)
    seen: list[int] = []
    one = lines(bent, ends, starts, seen=seen)
    found = integrate(one, [1e-3, float("inf"), 0.3], 3000)
    assert int(found.points[1]) == 4
    assert int(found.points[0]) > int(found.points[2]) >= 4
    assert [seen.count(line) for line in range(3)] == found.points.tolist()


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_a_line_is_the_same_alone_and_among_others_whatever_the_chunk(chunk: int) -> None:
    ends, starts = points(3, seed=5)
    together = integrate(lines(bent, ends, starts, chunk=chunk), [0.01] * 3, 500)
    for i in range(3):
        alone = integrate(lines(bent, ends[i : i + 1], starts[i : i + 1], chunk=7), [0.01], 500)
        assert alone.points[0] == together.points[i]
        torch.testing.assert_close(alone.values[0], together.values[i], rtol=0, atol=EXACT)


@pytest.mark.parametrize("held", [1, 2, 5])
def test_with_little_room_the_answer_is_the_same(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals that are not kept apart are added up; one that must be halved after all is computed again."""
    ends, starts = points(3, seed=6)
    plain = integrate(lines(bent, ends, starts), [1e-3] * 3, 3000)
    monkeypatch.setattr(quadrature, "_HELD", held * 3 * 8)
    found = integrate(lines(bent, ends, starts), [1e-3] * 3, 3000)
    torch.testing.assert_close(found.values, plain.values, rtol=0, atol=EXACT)
    torch.testing.assert_close(found.error, plain.error, rtol=0, atol=EXACT)
    assert (found.points >= plain.points).all()


def test_the_limit_holds_and_the_error_is_told() -> None:
    ends, starts = points(2, seed=7)
    for most in (4, 11, 12, 50):
        found = integrate(lines(bent, ends, starts), [1e-12] * 2, most)
        assert int(found.points.max()) <= most
        assert found.error.min() > 1e-12
    assert found.points.tolist() == [44, 44]


def test_what_is_not_finite_ends_at_once() -> None:
    ends, starts = points(2)
    found = integrate(lines(lambda x: x.sum(1) * torch.nan, ends, starts), [0.1] * 2, 1000)
    assert found.points.tolist() == [4, 4]
    assert found.error.isnan().all()


def test_points_are_told_on_the_way() -> None:
    ends, starts = points(2, seed=8)
    told: list[int] = []
    found = integrate(lines(bent, ends, starts), [0.01] * 2, 1000, on_points=told.append)
    assert told == sorted(told)
    assert told[-1] == int(found.points.sum())


@given(seed=st.integers(0, 10_000), tolerance=st.floats(1e-3, 1.0))
@settings(max_examples=25, deadline=None)
def test_the_tolerance_is_kept(seed: int, tolerance: float) -> None:
    ends, starts = points(2, seed=seed)
    found: Integral = integrate(lines(bent, ends, starts), [tolerance] * 2, 50_000)
    assert found.error.max() <= tolerance
    assert (found.signed.abs() <= found.error + EXACT).all()
