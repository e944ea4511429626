"""Incremental inference: where an image changes in a window only, what the window cannot reach is not computed again.

After Nakandala, Kumar and Papakonstantinou, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations", 2019, in its exact form. Every operation is run on the crop
that the window changes, beside it the activations of the unchanged image, as far as one point from
which the rest of the network goes on with whole activations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.network.address import parse
from inward.network.crops import SLIDES, Ints, Lines, Slide, constant, is_getitem, is_sliding, keeps_apart, shape
from inward.network.graph import Graph, ancestors
from inward.network.layout import op_name
from inward.network.modes import exact
from inward.network.network import Network, node_of
from inward.types import Images, Size

Window: TypeAlias = tuple[int, int]
"""The number of its interval of rows, and that of its interval of columns."""
Interval: TypeAlias = tuple[int, int]
"""Pixels, from one to before another."""
Box: TypeAlias = tuple[Lines, Lines]
"""Rows and columns."""

# What it costs to read and write a number, in multiply-adds: a choice of the point, and no more, hangs on it.
_MOVE = 24


@dataclass(frozen=True)
class Step:
    """One operation on crops; ``slide`` is None for one that keeps positions apart."""

    node: fx.Node
    box: Box
    slide: Slide | None

    @property
    def source(self) -> fx.Node:
        """What an operation with one source reads."""
        found = self.node.args[0]
        assert isinstance(found, fx.Node)  # noqa: S101
        return found

    def call(self, read: Callable[[fx.Node], Any]) -> Any:
        """The operation itself, on what ``read`` gives for each of its sources."""
        target: Any = self.node.target
        return target(*fx.map_arg(self.node.args, read), **fx.map_arg(self.node.kwargs, read))

    def needs(self, axis: int) -> tuple[Ints, int]:
        """From which position of the padded input on, and how many, its crops are computed from."""
        lines = self.box[axis]
        if self.slide is None:
            return lines.first, lines.count
        stride, kernel = self.slide.stride[axis], self.slide.kernel[axis]
        return lines.first * stride, (lines.count - 1) * stride + kernel


@dataclass(frozen=True)
class Incremental:
    """The way from crops of an image to the whole activations of one point, ``at``, for a network and windows."""

    net: Network
    graph: Graph
    at: str
    steps: tuple[Step, ...]
    image: fx.Node
    end: fx.Node
    boxes: dict[fx.Node, Box]

    def beside(self, image: Images) -> Beside:
        """What is known of one unchanged image (1, C, H, W), beside which windows change."""
        shown = self.net.shown(image)
        nodes = self.read()
        names = [node.name for node in nodes if node is not self.image]
        with torch.no_grad():
            made = dict(zip(names, self.graph.run(shown, names), strict=True))
        return Beside(self, {n: shown if n is self.image else made[n.name] for n in nodes}, {})

    def read(self) -> list[fx.Node]:
        """The nodes whose unchanged activations are read."""
        inner = [s for step in self.steps for s in _sources(step.node, self.boxes) if self.is_cropped(step, s)]
        return list(dict.fromkeys([self.end, *inner]))

    def is_cropped(self, step: Step, source: fx.Node) -> bool:
        """Whether its crops must be laid beside unchanged activations for this step."""
        if step.slide is None:
            return not all(a.same(b) for a, b in zip(self.boxes[source], step.box, strict=True))
        return not self._passes(step, source)

    def _passes(self, step: Step, source: fx.Node) -> bool:
        """Whether a sliding operation reads just the crops as they are: of 1 x 1, without a stride."""
        slide = step.slide
        plain = slide is not None and (slide.kernel, slide.stride, slide.padding) == ((1, 1), (1, 1), (0, 0))
        return plain and all(a.same(b) for a, b in zip(self.boxes[source], step.box, strict=True))


@dataclass(frozen=True)
class Beside:
    """The activations of an unchanged image; ``padded`` are those with the surroundings that an operation reads."""

    plan: Incremental
    clean: dict[fx.Node, Tensor]
    padded: dict[tuple[Any, ...], Tensor]

    def unchanged(self) -> Tensor:
        """The activations of the point for the image itself, without the axis of the batch."""
        return self.clean[self.plan.end][0]

    def changed(self, images: Images, windows: Sequence[Window]) -> Tensor:
        """The activations (B, ...) of the point for images (B, C, H, W), each another in its window alone.

        To rounding those of the whole images.
        """
        plan = self.plan
        with torch.no_grad(), exact(plan.net.device):
            crops: dict[fx.Node, Any] = {plan.image: plan.net.shown(self._cut(images, windows))}
            for step in plan.steps:
                crops[step.node] = self._made(step, crops, windows, plan.graph.module)
            return self._whole(crops[plan.end], windows)

    def _cut(self, images: Tensor, windows: Sequence[Window]) -> Tensor:
        rows, columns = self.plan.boxes[self.plan.image]
        cut = [
            image[:, y : y + rows.count, x : x + columns.count]
            for image, (i, j) in zip(images, windows, strict=True)
            for y, x in [(int(rows.first[i]), int(columns.first[j]))]
        ]
        return torch.stack(cut)

    def _made(self, step: Step, crops: dict[fx.Node, Any], windows: Sequence[Window], module: fx.GraphModule) -> Any:
        def read(node: fx.Node) -> Any:
            if node in crops:
                return self._around(step, node, crops[node], windows)
            return getattr(module, str(node.target))

        node: Any = step.node
        if step.slide is not None:
            return step.slide.run(read(step.source), (step.box[0].count, step.box[1].count))
        if is_getitem(node):
            return crops[step.source][node.args[1]]
        return step.call(read)

    def _around(self, step: Step, source: fx.Node, crops: Tensor, windows: Sequence[Window]) -> Tensor:
        """Crops of what a step reads: changed where it was, and as it was around."""
        if not self.plan.is_cropped(step, source):
            return crops
        clean, (above, left) = self._surrounded(step, source)
        (tops, height), (lefts, width) = step.needs(0), step.needs(1)
        rows, columns = self.plan.boxes[source]
        extent = (len(windows), clean.shape[1], height, width)
        # As the crops lie, so that a position is one piece of memory.
        order = torch.channels_last if _is_channels_last(clean) else torch.contiguous_format
        found = torch.empty(extent, dtype=clean.dtype, device=clean.device, memory_format=order)
        for one, crop, (i, j) in zip(found, crops, windows, strict=True):
            top, start = int(tops[i]), int(lefts[j])
            one.copy_(clean[0, :, top : top + height, start : start + width])
            _paste(one, crop, int(rows.first[i]) + above - top, int(columns.first[j]) + left - start)
        return found

    def _surrounded(self, step: Step, source: fx.Node) -> tuple[Tensor, Size]:
        """The unchanged activations with all that any window of the step reads, and how much is above and left."""
        clean, slide = self.clean[source], step.slide
        if slide is None:
            return clean, (0, 0)
        more = [
            max(0, (lines.size - 1) * stride + kernel - padding - length)
            for lines, stride, kernel, padding, length in zip(
                step.box, slide.stride, slide.kernel, slide.padding, clean.shape[2:], strict=True
            )
        ]
        key = (source, slide.padding, *more, slide.outside)
        if key not in self.padded:
            sides = [slide.padding[1], more[1], slide.padding[0], more[0]]
            around = F.pad(clean, sides, value=slide.outside)
            order = torch.channels_last if _is_channels_last(clean) else torch.contiguous_format
            self.padded[key] = around.contiguous(memory_format=order)
        return self.padded[key], slide.padding

    def _whole(self, crops: Tensor, windows: Sequence[Window]) -> Tensor:
        clean, (rows, columns) = self.clean[self.plan.end], self.plan.boxes[self.plan.end]
        found = clean.repeat(len(windows), 1, 1, 1) if not _is_channels_last(clean) else _repeated(clean, len(windows))
        for one, crop, (i, j) in zip(found, crops, windows, strict=True):
            _paste(one, crop, int(rows.first[i]), int(columns.first[j]))
        return found


def _repeated(clean: Tensor, count: int) -> Tensor:
    return clean.expand(count, -1, -1, -1).contiguous(memory_format=torch.channels_last)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _paste(onto: Tensor, crop: Tensor, top: int, left: int) -> None:
    """Lays a crop (C, h, w) onto (C, H, W), as much of it as falls there."""
    t, b = max(0, top), min(onto.shape[1], top + crop.shape[1])
    l, r = max(0, left), min(onto.shape[2], left + crop.shape[2])
    if t < b and l < r:
        onto[:, t:b, l:r] = crop[:, t - top : b - top, l - left : r - left]


def incremental(
    net: Network,
    keys: Sequence[str],
    size: Size,
    rows: Sequence[Interval],
    columns: Sequence[Interval],
    *,
    at: str | None = None,
    least: float = 0.0,
) -> Incremental | None:
    """The fastest way to the whole points ``keys`` from images that change in one window each.

    None where whole images are as fast: without a graph, where the first operations mix all positions or have
    no rule here, and on other devices than the CPU, where many small copies take longer than the whole.

    Args:
        size: height and width of the images.
        rows: the rows of the windows; each window is one of these intervals and one of ``columns``.
        at: the point to go to on crops, by default the fastest.
        least: how many multiply-adds an image must be spared for crops to be worth it.
    """
    graph = net.graph(size)
    if not isinstance(graph, Graph) or net.device.type != "cpu":
        return None
    image = next(node for node in graph.module.graph.nodes if node.op == "placeholder")
    names = {node_of(graph, parse(key)) for key in keys}
    if at in graph.points:
        names = {graph.points[at].node}
    ends = [node for node in graph.module.graph.nodes if node.name in names]
    boxes: dict[fx.Node, Box] = {image: (_lines(rows, size[0]), _lines(columns, size[1]))}
    steps = {step.node: step for step in _planned(graph, ends, boxes)}
    whole = {n.name: n for n in steps if isinstance(n.meta.get("val"), Tensor)}
    known = {name: whole[point.node] for name, point in graph.points.items() if point.node in whole}
    found = at if at in known else _fastest(graph, ends, steps, known, least) if at is None else None
    if found is None:
        return None
    needed = ancestors([known[found]])
    way = tuple(step for node, step in steps.items() if node in needed)
    return Incremental(net, graph, found, way, image, known[found], boxes)


def _fastest(
    graph: Graph, ends: Sequence[fx.Node], steps: dict[fx.Node, Step], known: dict[str, fx.Node], least: float
) -> str | None:
    gains = _Gains(graph, ends, steps)
    saved, name = max(((gains(node), name) for name, node in known.items()), default=(0.0, ""), key=lambda g: g[0])
    return name if saved > least else None


def _lines(intervals: Sequence[Interval], size: int) -> Lines:
    table = np.array(intervals, dtype=np.int64).clip(0, size)
    return Lines(table[:, 0], table[:, 1], size)


def _planned(graph: Graph, ends: Sequence[fx.Node], boxes: dict[fx.Node, Box]) -> Iterator[Step]:
    """The steps that can be made on crops, as far as they go; their boxes are added to ``boxes``."""
    needed = ancestors(ends)
    for node in graph.module.graph.nodes:
        sources = _sources(node, boxes)
        if node in boxes or node not in needed or not sources or len(sources) < len(_varying(node)):
            continue
        try:
            step = _step(graph.module, node, sources, boxes)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            # An overload whose arguments are not those that the rule was written for.
            step = None
        if step is not None:
            boxes[node] = step.box
            yield step


def _sources(node: fx.Node, boxes: dict[fx.Node, Box]) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if n in boxes]


def _varying(node: fx.Node) -> list[fx.Node]:
    """The inputs that are no constants."""
    return [n for n in node.all_input_nodes if n.op != "get_attr"]


def _step(module: fx.GraphModule, node: fx.Node, sources: list[fx.Node], boxes: dict[fx.Node, Box]) -> Step | None:
    if len(shape(node)) != 4:
        return None
    if is_sliding(node):
        slide = SLIDES[op_name(node)](module, node)
        if slide is None or sources != [node.args[0]]:
            return None
        geometry = zip(boxes[sources[0]], slide.kernel, slide.stride, slide.padding, shape(node)[2:], strict=True)
        rows, columns = (lines.seen(k, s, p, size) for lines, k, s, p, size in geometry)
        return Step(node, (rows, columns), slide)
    if not keeps_apart(module, node, sources):
        return None
    box = reduce(lambda a, b: (a[0].joined(b[0]), a[1].joined(b[1])), [boxes[s] for s in sources])
    return Step(node, box, None)


class _Gains:
    """How much less there is to do with crops as far as a node, in multiply-adds."""

    def __init__(self, graph: Graph, ends: Sequence[fx.Node], steps: dict[fx.Node, Step]) -> None:
        self.ends, self.needed = ends, ancestors(ends)
        self.whole = {n: _cost(graph.module, n) for n in self.needed if n.op == "call_function"}
        self.crops = {n: self.whole[n] * _share(step) + _gathered(step) for n, step in steps.items()}

    def __call__(self, end: fx.Node) -> float:
        spared = self.needed - ancestors(self.ends, [end])
        whole = sum(self.whole.get(n, 0) for n in spared)
        crops = sum(self.crops.get(n, 0) for n in ancestors([end]))
        # What is given is made, stacked and read: three times.
        return whole - crops - 3 * _MOVE * math.prod(shape(end))


def _cost(module: fx.GraphModule, node: fx.Node) -> int:
    """The multiply-adds of a convolution, and as much for every number that an operation writes."""
    results = 0 if is_getitem(node) else math.prod(shape(node))
    if not is_sliding(node) or "pool" in op_name(node):
        return _MOVE * results
    return results * (math.prod(constant(module, node.args[1]).shape[1:]) + _MOVE)


def _share(step: Step) -> float:
    return math.prod(lines.count / lines.size for lines in step.box)


def _gathered(step: Step) -> int:
    """The cost of the copies that a sliding operation reads its crops from."""
    source = step.node.all_input_nodes[0]
    return 0 if step.slide is None else _MOVE * shape(source)[1] * step.needs(0)[1] * step.needs(1)[1]
