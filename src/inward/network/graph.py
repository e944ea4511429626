"""A functional graph of named points, and the programs cut from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import torch
from torch import Tensor, fx

from inward.network.layout import Layout, op_name
from inward.network.modes import exact

Edit: TypeAlias = Callable[[fx.GraphModule], None]
"""Changes a private copy of a graph in place, keeping the names of its nodes."""
NOTHING: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Point:
    """A named place in a network: a module's output or an operation inside one.

    ``shape`` is for a batch of one. ``note`` says what is unusual: ``never called``,
    ``output unused``, ``returns its input``. ``parameters`` and ``multiply_adds`` of a module
    include its children; a parameter that is used twice counts once.
    """

    name: str
    kind: str
    module: str
    shape: tuple[int, ...] | None = None
    layout: Layout = field(default_factory=lambda: Layout(()))
    parameters: int = 0
    multiply_adds: int = 0
    source: str = ""
    note: str = ""
    node: str = ""

    @property
    def units(self) -> int | None:
        """How many units can be addressed here."""
        return None if self.shape is None or not self.layout.has_units else self.layout.units(self.shape)


class Graph:
    """A network at one image size: nodes, the points that name them, the outputs."""

    def __init__(
        self,
        module: fx.GraphModule,
        points: dict[str, Point],
        outputs: Sequence[str],
        aliases: dict[str, str],
        half: torch.dtype | None = None,
    ):
        self.module = module
        # The dtype of products, where it is another than that of the weights (``lean.halve``).
        self.half = half
        self.points = points
        self.outputs = tuple(outputs)
        self.aliases = aliases
        self._nodes = {node.name: node for node in module.graph.nodes}
        self._programs: dict[tuple[tuple[str, ...], ...], fx.GraphModule] = {}

    def run(self, image: Tensor, nodes: Sequence[str], given: Mapping[str, Tensor] = NOTHING) -> tuple[Tensor, ...]:
        """The values of ``nodes``, in the network's own dtype; nothing that they do not need is computed.

        ``given`` holds the values of nodes that are not computed but taken as they are.
        """
        wanted, known = tuple(dict.fromkeys(nodes)), tuple(sorted(given))
        if (wanted, known) not in self._programs:
            self._programs[wanted, known] = _in_place(self._cut(wanted, known))
        with exact(image.device, self.half):
            # A call of the module would cost as much as the smallest operation; nobody has hooks on it.
            made = self._programs[wanted, known].forward(image, *(given[name] for name in known))
        values = dict(zip(wanted, made, strict=True))
        return tuple(values[n] for n in nodes)

    def _cut(self, wanted: tuple[str, ...], known: tuple[str, ...] = ()) -> fx.GraphModule:
        ends, taken = [self._nodes[name] for name in wanted], [self._nodes[name] for name in known]
        keep = ancestors(ends, taken)
        graph = fx.Graph()
        copied: dict[fx.Node, fx.Node] = {}
        for node in self.module.graph.nodes:
            if node.op == "placeholder":
                copied[node] = graph.node_copy(node, copied.__getitem__)
        for node in taken:
            copied[node] = graph.placeholder(node.name)
        for node in self.module.graph.nodes:
            if node in keep and node not in copied:
                copied[node] = graph.node_copy(node, copied.__getitem__)
        graph.output(tuple(copied[end] for end in ends))
        return fx.GraphModule(self.module, graph)

    def edited(self, edit: Edit) -> Graph:
        """A new graph, changed by ``edit``; this one stays as it is."""
        module = duplicate(self.module)
        edit(module)
        module.graph.lint()
        return Graph(module, self.points, self.outputs, self.aliases, self.half)

    def upto(self, names: Sequence[str]) -> Graph:
        """The part that the points need, ending in them (in the order of ``names``)."""
        ends = [self._nodes[self.points[name].node] for name in names]
        keep = {node.name for node in ancestors(ends)}
        points = {k: p for k, p in self.points.items() if p.node in keep}
        module = self._cut(tuple(dict.fromkeys(end.name for end in ends)))
        return Graph(module, points, [end.name for end in ends], self.aliases, self.half)

    def reaches(self, source: str, end: str) -> bool:
        """Whether the node ``end`` depends on the node ``source``."""
        return self._nodes[source] in ancestors([self._nodes[end]])

    def needed(self, nodes: Sequence[str]) -> set[fx.Node]:
        """All that the nodes depend on, with themselves."""
        return ancestors([self._nodes[name] for name in nodes])

    def ends_in(self, names: set[str]) -> bool:
        """Whether the first output is made by one of these operations."""
        return op_name(self._nodes[self.outputs[0]]) in names

    def count(self, target: str) -> int:
        """How many operations carry the public functional name ``target``."""
        return sum(node.op == "call_function" and op_name(node) == target for node in self._nodes.values())


# What these give is new, nobody else holds it, and their own gradients do not ask for it.
_NEW = {"conv1d", "conv2d", "conv3d", "linear", "batch_norm", "add"}
_NEW |= {"folded_convolution", "strided_convolution", "folded_strided_convolution"}


def _in_place(program: fx.GraphModule) -> fx.GraphModule:
    """A program in which a ReLU writes over what it alone reads: the values are the same, in half the memory."""
    for node in program.graph.nodes:
        if node.target is not torch.ops.aten.relu.default or len(node.args[0].users) > 1:
            continue
        if node.args[0].op == "call_function" and op_name(node.args[0]) in _NEW:
            node.target = torch.ops.aten.relu_.default
    program.recompile()
    return program


def ancestors(ends: Iterable[fx.Node], known: Iterable[fx.Node] = ()) -> set[fx.Node]:
    """The nodes that ``ends`` depend on, with themselves; not those behind ``known`` values."""
    stop = set(known)
    keep: set[fx.Node] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node not in keep:
            keep.add(node)
            stack.extend(node.all_input_nodes if node not in stop else ())
    return keep


def duplicate(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of the graph that shares its tensors and keeps the names of its nodes."""
    graph = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        copied[node] = graph.node_copy(node, copied.__getitem__)
        copied[node].name = node.name
    return fx.GraphModule(module, graph)
