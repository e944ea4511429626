"""Receptive fields: which pixels of the network's input a neuron depends on, read off the graph.

A box may be too large, where an operation is not known; it is never too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, fx

from inward.network.address import Address
from inward.network.graph import Graph
from inward.network.hooks import HookGraph
from inward.network.network import Network
from inward.network.operation import shape_of
from inward.network.reach import Reach, reaches
from inward.network.spans import Span, Steps, hull, pixels
from inward.types import Size


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: rows ``top`` to ``bottom`` and columns ``left`` to ``right``, the ends not included."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """The number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """The number of columns."""
        return self.right - self.left

    def within(self, size: Size) -> Box:
        """The part of the box that lies in an image of this size."""
        top, bottom = (min(max(v, 0), size[0]) for v in (self.top, self.bottom))
        left, right = (min(max(v, 0), size[1]) for v in (self.left, self.right))
        return Box(top, left, bottom, right)


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive fields of all positions of a point, for images of ``size``.

    Attributes:
        rows: (H, 2) int64, first pixel row and the one after the last, for each row of the grid.
        columns: (W, 2), the same for columns. A point without a grid has one row and one column.
        steps: the same as affine maps, of rows and of columns, that may leave the image (paddings);
            None where there is no such map (after an interpolation, say).
    """

    size: Size
    rows: Tensor
    columns: Tensor
    steps: tuple[Steps | None, Steps | None]

    @property
    def boxes(self) -> Tensor:
        """All boxes: (H, W, 4) int64, top, left, bottom, right."""
        rows, columns = torch.broadcast_tensors(self.rows[:, None], self.columns[None])
        return torch.cat([rows, columns], 2)[:, :, [0, 2, 1, 3]]

    def box(self, place: tuple[int, int] | None = None) -> Box:
        """The box of a position (y, x), or that of all of them together."""
        (top, bottom), (left, right) = (_ends(ends, i) for ends, i in self._axes(place))
        return Box(top, left, bottom, right)

    def unclipped(self, place: tuple[int, int] | None = None) -> Box:
        """The box as if the picture went on beyond its edges; as :meth:`box` where there is no affine map."""
        ends: list[tuple[int, int]] = []
        for (clipped, index), steps in zip(self._axes(place), self.steps, strict=True):
            if steps is None:
                ends.append(_ends(clipped, index))
                continue
            first, last = (0, len(clipped) - 1) if index is None else (index, index)
            ends.append((steps.start + steps.step * first, steps.start + steps.step * last + steps.extent))
        return Box(ends[0][0], ends[1][0], ends[0][1], ends[1][1])

    def _axes(self, place: tuple[int, int] | None) -> list[tuple[Tensor, int | None]]:
        y, x = (None, None) if place is None else place
        return [(self.rows, y), (self.columns, x)]


def _ends(intervals: Tensor, index: int | None) -> tuple[int, int]:
    seen = intervals if index is None else intervals[index : index + 1]
    seen = seen[seen[:, 0] < seen[:, 1]]
    return (int(seen[:, 0].min()), int(seen[:, 1].max())) if len(seen) else (0, 0)


def receptive_field(net: Network, address: str, size: Size | None = None, *, clip: bool = True) -> Box:
    """The box of pixels of the network's input that an address can depend on.

    That of a neuron (``POINT/UNIT@Y,X``) is the box of its position; that of a point or a unit holds the
    boxes of all positions. A network without a graph, and operations that mix all positions (attention, a
    mean over the image, windows), give the whole image; an operation that is not known counts as one.

    Args:
        size: height and width of the images; by default the network's.
        clip: False gives the box as if the picture went on beyond its edges: it may leave the image.

    Raises:
        CallError: for an address that the network does not have.
    """
    place = net.resolve(address, size).place
    field = receptive_fields(net, [address], size)[address]
    return field.box(place) if clip else field.unclipped(place)


def receptive_fields(net: Network, addresses: Sequence[str], size: Size | None = None) -> dict[str, Field]:
    """The receptive fields of all positions of the points that the addresses lie in, by address.

    Raises:
        CallError: for an address that the network does not have.
    """
    size = size or net.size
    graph = net.graph(size)
    parsed = {address: net.resolve(address, size) for address in addresses}
    ends, seen = _seen(graph, size, parsed)
    found = {}
    for address, p in parsed.items():
        layout = net.layout_of(p, size)
        end = ends.get(address)
        shape = shape_of(end) if end is not None else _shape(graph, p)
        grid = layout.grid_size(shape) if shape else None
        found[address] = _field(size, seen.get(end), (layout.axes, grid) if grid else None)
    return found


def _shape(graph: Graph | HookGraph, parsed: Address) -> tuple[int, ...]:
    point = graph.points.get(parsed.point)
    return () if point is None or point.shape is None else point.shape


def _seen(
    graph: Graph | HookGraph, size: Size, parsed: dict[str, Address]
) -> tuple[dict[str, fx.Node], dict[fx.Node | None, Reach]]:
    """The node of every address, and what the nodes see; nothing is known where there is no graph."""
    if not isinstance(graph, Graph):
        return {}, {}
    nodes = {node.name: node for node in graph.module.graph.nodes}
    names = {a: graph.points[p.point].node if p.output is None else graph.outputs[p.output] for a, p in parsed.items()}
    ends = {address: nodes[name] for address, name in names.items()}
    return ends, {**reaches(graph, size, ends.values())}


def _field(size: Size, reach: Reach | None, grid: tuple[tuple[str, ...], Size] | None) -> Field:
    spans = reach or (hull([pixels(size[0], 2)]), hull([pixels(size[1], 3)]))
    axes, (height, width) = grid or ((), (1, 1))
    strides = {"y": 1, "x": 1} if "y" in axes else {"y": width, "x": 1}
    laid = [
        _laid(span, axes.index(k if k in axes else "t") if grid else None, strides[k], count)
        for span, k, count in zip(spans, "yx", (height, width), strict=True)
    ]
    tables = [torch.from_numpy(np.stack([s.low.clip(0), s.high.clip(0)], 1)) for s in laid]
    return Field(size, tables[0], tables[1], (laid[0].steps, laid[1].steps))


def _laid(span: Span, axis: int | None, stride: int, count: int) -> Span:
    """A span as the grid of the point counts it; one interval for all, where it counts otherwise."""
    if axis is None or (span.axis, span.stride, len(span)) != (axis, stride, count):
        span = hull([span])
    low, high = (np.broadcast_to(v, (count,)).copy() for v in (span.low, span.high))
    return replace(span, low=np.where(low < high, low, 0), high=np.where(low < high, high, 0))
