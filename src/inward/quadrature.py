"""Adaptive quadrature: the integral of a gradient along lines, with its error.

Composite Gauss-Legendre over sub-intervals of [0, 1], a partition of its own for each line. What a
sub-interval misses is known without a finer rule, because the integral of the slope is the
difference of the scores at its ends: its error is |F(b) - F(a) - integral|. The interval whose
error is largest is halved until the sum of the errors is small enough. On networks of ReLUs the
slope jumps, so that the error of one rule over the whole line does not fall steadily with its
points; halving puts the points where the jumps are.

Halving one interval at a time would run the network on few pictures at once. So each round halves
all those at once that would have to be halved anyway: while the smaller errors together exceed the
tolerance without it, no order of halving can stop before the next larger one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inward.gradient import Batch, Sample

NODES = 4
"""Gauss-Legendre points of a sub-interval. Of 1 to 7, four needed the fewest gradients to bring the errors of
Inception v1 and SqueezeNet below 1 to 5 % of the score difference."""
# Bytes of sub-intervals that are kept apart, so that they can still be halved.
_HELD = 256 * 2**20


@dataclass(frozen=True)
class Integral:
    """The mean gradient along each line, (R, ...), with what it misses.

    Attributes:
        error: (R,), the sum of the absolute errors of the sub-intervals, in units of the score.
        signed: (R,), the error of the whole: F(end) - F(start) - integral.
        points: (R,), gradients computed.
    """

    values: Tensor
    error: Tensor
    signed: Tensor
    points: Tensor


@dataclass
class _Piece:
    """A sub-interval of a line: the scores at its ends, its share of the integral."""

    line: int
    start: float
    end: float
    low: float
    high: float
    slope: float = 0.0
    values: Tensor | None = None
    # Whether its values are already in the line's sum.
    settled: bool = False

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    @property
    def missed(self) -> float:
        return self.high - self.low - self.slope


@dataclass(frozen=True)
class Lines:
    """What is integrated: R lines and how the network is run on their points.

    Attributes:
        sample: the sample at a place in [0, 1] of a line, with a weight.
        change: (R, ...), end minus start: the gradient times this is the slope.
        gradients, scores: the engine's streams, :func:`inward.gradient.gradients` and ``scores``.
        ends: (R, 2), the scores at the starts and ends.
    """

    sample: Callable[[int, float, float], Sample]
    change: Tensor
    gradients: Callable[[Iterable[Sample]], Iterator[Batch]]
    scores: Callable[[Iterable[Sample]], Iterator[Batch]]
    ends: Tensor


def integrate(
    lines: Lines,
    tolerance: Sequence[float],
    most: int,
    *,
    nodes: int = NODES,
    on_points: Callable[[int], None] | None = None,
) -> Integral:
    """The mean gradient along each line, to a tolerance on the sum of the errors of its sub-intervals.

    Args:
        tolerance: of each line, in units of the score.
        most: the most gradients of a line; a line that has no room for another halving is left as it is.
        nodes: Gauss-Legendre points of a sub-interval.
        on_points: called with the number of gradients computed by now.
    """
    run = _Run(lines, nodes, on_points)
    ends = lines.ends.tolist()
    pieces = [[_Piece(line, 0.0, 1.0, low, high)] for line, (low, high) in enumerate(ends)]
    run.measure([piece for own in pieces for piece in own])
    while True:
        halved = [
            piece
            for line, own in enumerate(pieces)
            for piece in _must_halve(own, tolerance[line], (most - run.points[line]) // (2 * nodes))
        ]
        if not halved:
            return run.integral(pieces)
        for old, (first, second) in zip(halved, run.halves(halved), strict=True):
            own = pieces[old.line]
            own.remove(old)
            own += [first, second]


def _must_halve(pieces: list[_Piece], tolerance: float, room: int) -> list[_Piece]:
    """The fewest largest errors without which the others are within the tolerance; the largest first."""
    order = sorted(pieces, key=lambda piece: (abs(piece.missed), -piece.start))
    total, small = 0.0, 0
    for piece in order:
        total += abs(piece.missed)
        # Not a number is never within a tolerance, and no halving mends it.
        if not total <= tolerance:
            break
        small += 1
    return order[small:][::-1][: max(0, room)] if np.isfinite([p.missed for p in pieces]).all() else []


class _Run:
    """The running sums, and the network at work."""

    def __init__(self, lines: Lines, nodes: int, on_points: Callable[[int], None] | None) -> None:
        places, weights = np.polynomial.legendre.leggauss(nodes)
        self._places, self._weights = ((places + 1) / 2).tolist(), (weights / 2).tolist()
        self._lines, self._on_points = lines, on_points
        self._held: list[_Piece] = []
        self._sums = torch.zeros(lines.change.shape, dtype=torch.float64)
        self.points = [0] * len(lines.change)

    def measure(self, pieces: list[_Piece]) -> None:
        """Integrates over new pieces; those of the largest errors are kept apart, the others added up."""
        each = max(1, self._lines.change[0].numel() * self._lines.change.element_size())
        room = max(1, _HELD // each)
        for first in range(0, len(pieces), room):
            new = pieces[first : first + room]
            self._integrate(new)
            self._held = sorted(self._held + new, key=lambda piece: -abs(piece.missed))
            for piece in self._held[room:]:
                self._take(piece, 1.0)
                piece.settled, piece.values = True, None
            self._held = self._held[:room]

    def _integrate(self, pieces: list[_Piece]) -> None:
        owners = [piece for piece in pieces for _ in self._places]
        change = self._lines.change
        done = 0
        for batch in self._lines.gradients(self._samples(pieces)):
            these = owners[done : done + len(batch.samples)]
            done += len(batch.samples)
            slopes = _inner(change[[piece.line for piece in these]], batch.gradients.to(change.device))
            for piece, sample, value, slope in zip(these, batch.samples, batch.gradients, slopes, strict=True):
                part = sample.weight * value
                piece.values = part if piece.values is None else piece.values + part
                piece.slope += sample.weight * slope
                self.points[piece.line] += 1
            if self._on_points is not None:
                self._on_points(sum(self.points))

    def _samples(self, pieces: list[_Piece]) -> Iterator[Sample]:
        for piece in pieces:
            length = piece.end - piece.start
            for place, weight in zip(self._places, self._weights, strict=True):
                yield self._lines.sample(piece.line, piece.start + length * place, length * weight)

    def halves(self, pieces: list[_Piece]) -> list[tuple[_Piece, _Piece]]:
        """Each piece as two."""
        middles = (self._lines.sample(piece.line, piece.middle, 1.0) for piece in pieces)
        scores = [score for batch in self._lines.scores(middles) for score in batch.scores.double().tolist()]
        found = []
        for piece, score in zip(pieces, scores, strict=True):
            first = _Piece(piece.line, piece.start, piece.middle, piece.low, score)
            found.append((first, _Piece(piece.line, piece.middle, piece.end, score, piece.high)))
        self._forget(pieces)
        self.measure([half for pair in found for half in pair])
        return found

    def _forget(self, pieces: list[_Piece]) -> None:
        """Takes pieces out, so that their halves can stand for them."""
        # What was added up already is computed again, to be taken off.
        again = [_Piece(p.line, p.start, p.end, p.low, p.high) for p in pieces if p.settled]
        self._integrate(again)
        for piece in again:
            self._take(piece, -1.0)
        gone = set(map(id, pieces))
        self._held = [piece for piece in self._held if id(piece) not in gone]

    def _take(self, piece: _Piece, factor: float) -> None:
        if piece.values is not None:
            self._sums[piece.line] += factor * piece.values.cpu().double()

    def integral(self, pieces: list[list[_Piece]]) -> Integral:
        """What has been found."""
        for piece in sorted(self._held, key=lambda piece: (piece.line, piece.start)):
            self._take(piece, 1.0)
        missed = [[piece.missed for piece in own] for own in pieces]
        return Integral(
            values=self._sums,
            error=torch.tensor([sum(map(abs, own)) for own in missed], dtype=torch.float64),
            signed=torch.tensor([sum(own) for own in missed], dtype=torch.float64),
            points=torch.tensor(self.points),
        )


def _inner(first: Tensor, second: Tensor) -> list[float]:
    """The inner products of two batches, (B,), in float64 where the device has it."""
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    return (first.to(wide) * second.to(wide)).flatten(1).sum(1).tolist()
