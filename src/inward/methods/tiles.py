"""The gradient of pictures that are larger than memory, tile by tile: the same as of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import keys_of, raw_gradient, trace_for
from inward.methods.redrawing import size_of
from inward.network.hooks import HookGraph
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.receptive import receptive_fields
from inward.network.spans import Steps
from inward.network.trace import Trace
from inward.types import Images, Scores, Size

_PLAIN = (("n", "c", "y", "x"), ("n", "y", "x", "c"))


@dataclass(frozen=True)
class Cut:
    """One tile along an axis: pixels ``first`` to ``last``, of whose positions ``own`` to ``end`` count (None: all)."""

    first: int
    last: int
    own: int
    end: int | None


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut for the positions of a point.

    Every position belongs to one tile, and every tile has all the pixels that its positions see: so their features, and
    the sum of the tiles' gradients, are those of the whole picture, up to the order of sums.

    Attributes:
        key: the point.
        size: of the tiles, in pixels.
        steps: what positions see, of rows and of columns; None where they see everything, and tiles are pictures of
            their own.
        why: they are that.
    """

    key: str
    size: int
    steps: tuple[Steps, Steps] | None
    why: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the sum of the tiles is that of the whole."""
        return self.steps is not None

    def halo(self) -> int:
        """How many pixels a position sees to each side, at most."""
        return 0 if self.steps is None else max((s.extent - s.step + 1) // 2 for s in self.steps)

    def narrowed(self, overlap: int) -> Tiling:
        """With so many pixels around each position's own, instead of all that it sees: faster, and not exact.

        Raises CallError for an overlap below 0.
        """
        if overlap < 0:
            raise CallError(f"an overlap is 0 pixels or more, not {overlap}")
        if self.steps is None:
            return self
        rows, columns = (_narrowed(steps, overlap) for steps in self.steps)
        return replace(self, steps=(rows, columns))

    def enough(self) -> Tiling:
        """With tiles that are large enough for all that a position sees."""
        if self.steps is None:
            return self
        most = max(-(-(s.extent + 2 * s.step) // s.step) * s.step for s in self.steps)
        return replace(self, size=max(self.size, most))

    def cuts(self, length: int, axis: int) -> list[Cut]:
        """The tiles along an axis. Raises CallError where a tile is smaller than what a position sees."""
        if self.steps is None:
            return [Cut(first, min(first + self.size, length), 0, None) for first in range(0, length, self.size)]
        steps, found, own = self.steps[axis], [], 0
        while True:
            # Aligned to the strides, so that the grid of the tile is that of the whole.
            first = max(0, steps.start + steps.step * own) // steps.step * steps.step
            offset = first // steps.step
            if first + self.size >= length:
                # As large as the others, where there is room.
                first = max(0, -(-(length - self.size) // steps.step) * steps.step)
                return [*found, Cut(first, length, own - first // steps.step, None)]
            end = (first + self.size - steps.extent - steps.start) // steps.step + 1
            if end <= own:
                raise CallError(
                    f"a tile of {self.size} pixels is smaller than the {steps.extent + steps.step} that '{self.key}' "
                    "needs; give a larger tile, or an overlap"
                )
            found.append(Cut(first, first + self.size, own - offset, end - offset))
            own = end


def _narrowed(steps: Steps, overlap: int) -> Steps:
    extent = min(steps.extent, steps.step + 2 * overlap)
    return Steps(steps.start + (steps.extent - extent) // 2, steps.step, extent)


def tiling(net: Network, objective: Objective, size: int, whole: Size) -> Tiling:
    """How to cut pictures of the size ``whole`` for an objective.

    Not exactly where padding depends on the size ("same" of TensorFlow), and tiles are padded otherwise than the whole.

    Raises CallError for an objective of several points, or a tile that is smaller than the network takes.
    """
    keys = list(dict.fromkeys(keys_of(net, objective, (size, size))))
    if len(keys) != 1:
        raise CallError(f"tiles are made for one point, and this asks for {len(keys)}; ask for one")
    layout = net.layout_of(net.resolve(keys[0], (size, size)), (size, size))
    steps = _steps(net, keys[0], (size, size)) if layout.axes in _PLAIN else None
    if isinstance(net.graph((size, size)), HookGraph):
        return Tiling(keys[0], size, None, f"what positions of '{keys[0]}' see is not known without a graph")
    if steps is None:
        return Tiling(keys[0], size, None, f"every position of '{keys[0]}' sees the whole picture")
    found = Tiling(keys[0], size, steps)
    # The last tiles differ from the whole by a multiple of the stride, and are padded as it is.
    rows, columns = ({c.last - c.first for c in found.enough().cuts(n, axis)} for axis, n in enumerate(whole))
    if all(_steps(net, keys[0], (r, c)) == steps for r in rows for c in columns):
        return found
    return replace(found, steps=None, why=f"'{keys[0]}' is padded by the size of the picture")


def _steps(net: Network, key: str, size: Size) -> tuple[Steps, Steps] | None:
    """What positions see, of rows and of columns; None where that is everything."""
    rows, columns = receptive_fields(net, [key], size)[key].steps
    # Without a step between positions, each of them sees everything.
    return (rows, columns) if rows and columns and rows.step and columns.step else None


def tiled_gradient(net: Network, images: Images, objective: Objective, cut: Tiling) -> tuple[Scores, Tensor]:
    """The score of each image and its gradient, as :func:`inward.gradient.gradient`, of pictures in tiles.

    The features of all tiles are put together first, and tell what each of them is to be multiplied by; so the memory
    is that of one tile, and of the features of the point.
    """
    if cut.steps is None:
        return _apart(net, images, objective, cut)
    with ordinary(net.device):
        features = _assembled(net, images, cut)
        scores, cotangent = _head(net, features, objective, cut)
        found = torch.zeros_like(images)
        for (rows, columns), place in _places(images, cut, features):
            crop = images[:, :, rows.first : rows.last, columns.first : columns.last].detach().requires_grad_(True)
            own = _own(_features(net, crop, cut), rows, columns)
            weight = cotangent[:, :, place[0] : place[0] + own.shape[2], place[1] : place[1] + own.shape[3]]
            (gradient,) = torch.autograd.grad((own * weight).sum(), crop)
            found[:, :, rows.first : rows.last, columns.first : columns.last] += gradient
    return scores, found


@torch.no_grad()
def tiled_scores(net: Network, images: Images, objective: Objective, cut: Tiling) -> Scores:
    """The scores alone, without gradients."""
    if cut.steps is None:
        return _apart(net, images, objective, cut)[0]
    with ordinary(net.device):
        return _head(net, _assembled(net, images, cut), objective, cut)[0]


def _tiles(size: Size, cut: Tiling) -> list[list[tuple[Cut, Cut]]]:
    rows, columns = (cut.cuts(length, axis) for axis, length in enumerate(size))
    return [[(row, column) for column in columns] for row in rows]


def _features(net: Network, crop: Images, cut: Tiling) -> Tensor:
    """(N, K, h, w)."""
    return trace_for(net, crop, [cut.key]).features(cut.key)


def _own(features: Tensor, rows: Cut, columns: Cut) -> Tensor:
    return features[:, :, rows.own : rows.end, columns.own : columns.end]


@torch.no_grad()
def _assembled(net: Network, images: Images, cut: Tiling) -> Tensor:
    """The features of the whole picture, from those of its tiles."""
    lines = []
    for line in _tiles(size_of(images), cut):
        parts = []
        for rows, columns in line:
            crop = images[:, :, rows.first : rows.last, columns.first : columns.last]
            parts.append(_own(_features(net, crop, cut), rows, columns))
        lines.append(torch.cat(parts, 3))
    return torch.cat(lines, 2)


def _head(net: Network, features: Tensor, objective: Objective, cut: Tiling) -> tuple[Scores, Tensor]:
    """The scores of the whole, and their gradient with respect to its features."""
    held = features.detach().requires_grad_(True)
    axes = net.layout_of(net.resolve(cut.key, (cut.size, cut.size)), (cut.size, cut.size)).axes
    value = held if axes == _PLAIN[0] else held.permute(0, 2, 3, 1)
    # The images are only asked for their size, by which points are looked up.
    blank = features.new_zeros(len(features), net.preprocess.channels, cut.size, cut.size)
    scores = objective(Trace(net, blank, {cut.key: value}))
    (cotangent,) = torch.autograd.grad(scores.sum(), held)
    return scores.detach(), cotangent


def _places(images: Images, cut: Tiling, features: Tensor) -> Iterator[tuple[tuple[Cut, Cut], tuple[int, int]]]:
    """Every tile, and where its own positions begin in the grid of the whole."""
    top = 0
    for line in _tiles(size_of(images), cut):
        left = 0
        for rows, columns in line:
            yield (rows, columns), (top, left)
            left += _count(columns, features.shape[3] - left)
        top += _count(line[0][0], features.shape[2] - top)


def _count(cut: Cut, rest: int) -> int:
    return rest if cut.end is None else cut.end - cut.own


def _apart(net: Network, images: Images, objective: Objective, cut: Tiling) -> tuple[Scores, Tensor]:
    """Tiles as pictures of their own, all of one size; where the last overlaps the one before it, their mean."""
    size = size_of(images)
    found, seen = torch.zeros_like(images), torch.zeros(size, device=images.device)
    total = images.new_zeros(len(images))
    tiles = 0
    for line in _tiles(size, cut):
        for rows, columns in line:
            place = tuple(
                slice(max(0, c.last - cut.size) if c.last - c.first < cut.size else c.first, c.last)
                for c in (rows, columns)
            )
            scores, gradient = raw_gradient(net, images[:, :, place[0], place[1]], objective)
            found[:, :, place[0], place[1]] += gradient
            seen[place] += 1
            total, tiles = total + scores, tiles + 1
    return total / tiles, found / seen
