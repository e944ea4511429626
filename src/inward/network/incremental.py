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
from functools import cached_property, reduce
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, fx

from inward.network.address import parse
from inward.network.beside import Beside, Read
from inward.network.crops import SLIDES, Ints, Lines, Slide, constant, is_getitem, is_sliding, keeps_apart, shape
from inward.network.graph import Graph, ancestors
from inward.network.layout import op_name
from inward.network.network import Network, node_of
from inward.types import Images, Size

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
    """The way from crops of images to the whole activations of one point, ``at``, for a network and windows.

    ``cost``: about how many multiply-adds a window takes, on crops and on from there. ``again``: whether what lies
    behind the point reads the image once more.
    """

    net: Network
    graph: Graph
    at: str
    steps: tuple[Step, ...]
    image: fx.Node
    end: fx.Node
    boxes: dict[fx.Node, Box]
    cost: float
    again: bool

    @cached_property
    def reads(self) -> dict[tuple[fx.Node, fx.Node], Read]:
        """Of each step and each of its sources whose crops must be laid onto unchanged activations, what is read."""
        return {
            (step.node, source): Read(self, step, source)
            for step in self.steps
            for source in _sources(step.node, self.boxes)
            if self.is_cropped(step, source)
        }

    def read(self) -> list[fx.Node]:
        """The nodes whose unchanged activations are read."""
        return list(dict.fromkeys([self.end, *(source for _, source in self.reads)]))

    def beside(self, images: Images) -> Beside:
        """What is known of unchanged images (N, C, H, W), beside which windows change."""
        return Beside(self, images)

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
    gains = _Gains(graph, ends, steps)
    if at is None:
        at = max(known, key=lambda name: gains(known[name]), default="")
        if at not in known or gains(known[at]) <= least:
            return None
    if at not in known:
        return None
    needed = ancestors([known[at]])
    way = tuple(step for node, step in steps.items() if node in needed)
    again = image in ancestors(ends, [known[at]])
    return Incremental(net, graph, at, way, image, known[at], boxes, gains.total - gains(known[at]), again)


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

    @property
    def total(self) -> int:
        """What there is to do without crops."""
        return sum(self.whole.values())

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
