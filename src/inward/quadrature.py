"""Adaptive quadrature: the integral of a gradient along lines, with its error.

A partition of [0, 1] for each line, and on each sub-interval the rule of Gauss, Legendre and Lobatto
with three nodes (its ends and its middle; also called Simpson's). What a sub-interval misses is known
without a finer rule, because the integral of the slope is the difference of the scores at its ends:
its error is |F(b) - F(a) - integral|. The interval whose error is largest is halved until the sum of
the errors is small enough. On networks of ReLUs the slope jumps, so that the error of one rule over
the whole line does not fall steadily with its points; halving puts the points where the jumps are.

Gauss-Legendre nodes lie inside an interval, and halving throws them away: half of all gradients were
for nothing, and the scores at the ends took runs of their own. Here a halving keeps every gradient
and adds two, and neighbors share their ends. To the same sum of errors that is two thirds of the
gradients of four Gauss-Legendre nodes (the best number of them) on Inception v1 and ResNet-50.

Halving one interval at a time would run the network on few pictures at once. So each round halves
all those at once that would have to be halved anyway: while the smaller errors together exceed the
tolerance without it, no order of halving can stop before the next larger one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from inward.gradient import Batch, Sample

PIECES = 4
"""Sub-intervals at the start: the error of a single one can be small by luck."""
LEAST = 2 * PIECES + 1
"""Gradients at the start."""
# Bytes of gradients that are kept, so that their weight can still change.
_HELD = 256 * 2**20


@dataclass(frozen=True)
class Integral:
    """The mean gradient along each line, (R, ...), with what it misses.

    Attributes:
        error: (R,), the sum of the absolute errors of the sub-intervals, in units of the score.
        signed: (R,), the error of the whole: F(end) - F(start) - integral.
        points: (R,), gradients computed.
        change: (R,), F(end) - F(start).
    """

    values: Tensor
    error: Tensor
    signed: Tensor
    points: Tensor
    change: Tensor


@dataclass(frozen=True)
class Lines:
    """What is integrated: R lines and how the network is run on their points.

    Attributes:
        sample: the sample at a place in [0, 1] of a line, with a weight.
        change: (R, ...), end minus start: the gradient times this is the slope.
        gradients, scores: the engine's streams, :func:`inward.gradient.gradients` and ``scores``.
    """

    sample: Callable[[int, float, float], Sample]
    change: Tensor
    gradients: Callable[[Iterable[Sample]], Iterator[Batch]]
    scores: Callable[[Iterable[Sample]], Iterator[Batch]]


@dataclass(eq=False)
class _Node:
    """A place on a line, and what the network says there."""

    line: int
    place: float
    score: float = float("nan")
    slope: float = float("nan")
    gradient: Tensor | None = None
    # The weight with which it is in its line's sum already.
    taken: float = 0.0


@dataclass(eq=False)
class _Piece:
    """A sub-interval: its ends and its middle."""

    start: _Node
    middle: _Node
    end: _Node

    def weights(self) -> tuple[tuple[_Node, float], ...]:
        """Each node with its weight in the integral over [0, 1]."""
        length = self.end.place - self.start.place
        return ((self.start, length / 6), (self.middle, length * 4 / 6), (self.end, length / 6))

    def missed(self) -> float:
        return self.end.score - self.start.score - sum(weight * node.slope for node, weight in self.weights())

    def halves(self) -> tuple[_Piece, _Piece]:
        return _piece(self.start, self.middle), _piece(self.middle, self.end)


def _piece(start: _Node, end: _Node) -> _Piece:
    return _Piece(start, _Node(start.line, (start.place + end.place) / 2), end)


def gauss_legendre(lines: Lines, steps: int, *, on_points: Callable[[int], None] | None = None) -> Integral:
    """The plain rule of ``steps`` nodes over each whole line; its error is that of the whole."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    count = len(lines.change)
    run = _Run(lines, on_points)
    nodes = [_Node(line, place) for line in range(count) for place in ((places + 1) / 2).tolist()]
    shares = dict(zip(nodes, (weights / 2).tolist() * count, strict=True))
    run.measure(nodes, lambda: shares, lambda: dict.fromkeys(nodes, 0.0))
    ends = (lines.sample(line, place, 1.0) for line in range(count) for place in (0.0, 1.0))
    scores = torch.cat([batch.scores.double().cpu() for batch in lines.scores(ends)]).view(-1, 2)
    change = scores[:, 1] - scores[:, 0]
    slopes = torch.tensor([share * node.slope for node, share in shares.items()], dtype=torch.float64)
    signed = change - slopes.view(count, steps).sum(1)
    return run.integral(shares, signed.abs(), signed, change)


def integrate(
    lines: Lines,
    tolerance: Callable[[Tensor], Tensor],
    most: int,
    *,
    on_points: Callable[[int], None] | None = None,
) -> Integral:
    """The mean gradient along each line, to a tolerance on the sum of the errors of its sub-intervals.

    Args:
        tolerance: of each line (R,), in units of the score, from the differences of the scores at the ends (R,).
        most: the most gradients of a line, ``LEAST`` or more; a line that has no room for another halving is
            left as it is. (Gradients that are computed again because there was no room to keep them come on top.)
        on_points: called with the number of gradients computed by now.
    """
    run = _Run(lines, on_points)
    pieces = [_start(line) for line in range(len(lines.change))]
    run.measure(_nodes(pieces), lambda: _weights(pieces), lambda: _errors(pieces))
    change = torch.tensor([own[-1].end.score - own[0].start.score for own in pieces], dtype=torch.float64)
    allowed = tolerance(change).tolist()
    used = [LEAST] * len(pieces)
    while True:
        halved = [_must_halve(own, allowed[line], (most - used[line]) // 2) for line, own in enumerate(pieces)]
        if not any(halved):
            missed = [[piece.missed() for piece in own] for own in pieces]
            error = torch.tensor([sum(map(abs, own)) for own in missed], dtype=torch.float64)
            signed = torch.tensor([sum(own) for own in missed], dtype=torch.float64)
            return run.integral(_weights(pieces), error, signed, change)
        new: list[list[_Piece]] = []
        for line, old in enumerate(halved):
            gone = set(old)
            new.append([half for piece in old for half in piece.halves()])
            pieces[line] = [piece for piece in pieces[line] if piece not in gone] + new[-1]
            used[line] += 2 * len(old)
        run.measure([p.middle for own in new for p in own], lambda: _weights(pieces), lambda: _errors(pieces))


def _start(line: int) -> list[_Piece]:
    ends = [_Node(line, k / PIECES) for k in range(PIECES + 1)]
    return [_piece(start, end) for start, end in pairwise(ends)]


def _nodes(pieces: list[list[_Piece]]) -> list[_Node]:
    """All of them, each once, in the order of their lines and places."""
    return sorted(_weights(pieces), key=lambda node: (node.line, node.place))


def _weights(pieces: list[list[_Piece]]) -> dict[_Node, float]:
    found: dict[_Node, float] = defaultdict(float)
    for own in pieces:
        for piece in own:
            for node, weight in piece.weights():
                found[node] += weight
    return found


def _errors(pieces: list[list[_Piece]]) -> dict[_Node, float]:
    """Of each node the larger error of its pieces; one that is not known yet is the largest."""
    found: dict[_Node, float] = defaultdict(float)
    for own in pieces:
        for piece in own:
            missed = abs(piece.missed())
            for node, _ in piece.weights():
                found[node] = max(found[node], missed if missed == missed else float("inf"))
    return found


def _must_halve(pieces: list[_Piece], tolerance: float, room: int) -> list[_Piece]:
    """The fewest largest errors without which the others are within the tolerance; the largest first."""
    missed = {piece: abs(piece.missed()) for piece in pieces}
    # Not a number is never within a tolerance, and no halving mends it.
    if not np.isfinite(list(missed.values())).all():
        return []
    order = sorted(pieces, key=lambda piece: (missed[piece], -piece.start.place))
    total, small = 0.0, 0
    for piece in order:
        total += missed[piece]
        if not total <= tolerance:
            break
        small += 1
    return order[small:][::-1][: max(0, room)]


class _Run:
    """The network at work, and the sums of what there is no room to keep apart."""

    def __init__(self, lines: Lines, on_points: Callable[[int], None] | None) -> None:
        self._lines, self._on_points = lines, on_points
        self._kept: list[_Node] = []
        self._room = max(1, _HELD // max(1, lines.change[0].numel() * lines.change.element_size()))
        self._sums = torch.zeros(lines.change.shape, dtype=torch.float64)
        self._taken: list[_Node] = []
        self._points = [0] * len(lines.change)

    def measure(
        self,
        nodes: list[_Node],
        weights: Callable[[], dict[_Node, float]],
        errors: Callable[[], dict[_Node, float]],
    ) -> None:
        """Runs the network at new nodes; of all, those of the largest errors are kept apart, the others added up."""
        for first in range(0, len(nodes), self._room):
            new = nodes[first : first + self._room]
            for node, gradient, score, slope in self._gradients(new):
                node.gradient, node.score, node.slope = gradient, score, slope
            self._kept += new
            if len(self._kept) > self._room:
                shares, missed = weights(), errors()
                self._kept.sort(key=lambda node: -missed[node])
                for node in self._kept[self._room :]:
                    self._take(node, shares[node])
                self._kept = self._kept[: self._room]

    def _gradients(self, nodes: list[_Node]) -> Iterator[tuple[_Node, Tensor, float, float]]:
        samples = (self._lines.sample(node.line, node.place, 1.0) for node in nodes)
        rest = iter(nodes)
        for batch in self._lines.gradients(samples):
            these = [next(rest) for _ in batch.samples]
            change = self._lines.change[[node.line for node in these]]
            slopes = _inner(change, batch.gradients.to(change.device))
            for node in these:
                self._points[node.line] += 1
            yield from zip(these, batch.gradients, batch.scores.double().tolist(), slopes, strict=True)
            if self._on_points is not None:
                self._on_points(sum(self._points))

    def _take(self, node: _Node, weight: float) -> None:
        if node.gradient is not None:
            self._sums[node.line] += weight * node.gradient.cpu().double()
            node.taken, node.gradient = weight, None
            self._taken.append(node)

    def integral(self, weights: dict[_Node, float], error: Tensor, signed: Tensor, change: Tensor) -> Integral:
        """The sums. What was added with another weight than it has in the end is computed again."""
        again = [node for node in self._taken if weights[node] != node.taken]
        for node in sorted(self._kept, key=lambda node: (node.line, node.place)):
            self._take(node, weights[node])
        for node, gradient, _, _ in self._gradients(again):
            self._sums[node.line] += (weights[node] - node.taken) * gradient.cpu().double()
        return Integral(self._sums, error, signed, torch.tensor(self._points), change)


def _inner(first: Tensor, second: Tensor) -> list[float]:
    """The inner products of two batches, (B,), in float64 where the device has it."""
    wide = torch.float32 if first.device.type == "mps" else torch.float64
    return (first.to(wide) * second.to(wide)).flatten(1).sum(1).tolist()
