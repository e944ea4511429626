"""How long the operations of a network take."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.network.graph import Graph, Point
from inward.network.modes import exact
from inward.network.network import Network


def seconds(net: Network, repeats: int = 5) -> dict[str, float]:
    """What every module and operation takes of one image of the network's own size, in seconds.

    The operations run one by one, without gradients, after one pass that is not counted; of each the least is taken,
    since all above it comes from what else the machine does, and a module has the sum of what lies inside it. What
    lies between them, in Python, is not counted, so that a network takes longer than its operations, above all a
    small one.

    Args:
        repeats: how often each is measured.

    Returns:
        by the names of the points and of the modules around them; for what a module ends in, which is no point of
        its own, under ``:`` and the name of its node. Empty for a network without a graph, whose operations are
        not known.

    Raises CallError for less than one repetition.
    """
    if repeats < 1:
        raise CallError(f"repeats must be 1 or more, not {repeats}")
    graph = net.graph(net.size)
    if not isinstance(graph, Graph):
        return {}
    image = torch.full((1, net.preprocess.channels, *net.size), 0.5, dtype=net.dtype, device=net.device)
    stopwatch = _Stopwatch(graph.module, net.device)
    with torch.no_grad(), exact(net.device, graph.half):
        shown = net.shown(image)
        passes = [stopwatch.pass_over(shown) for _ in range(repeats + 1)][1:]
    nodes = {node: min(each[node] for each in passes) for node in passes[0]}
    return _by_name(graph, nodes)


def _by_name(graph: Graph, nodes: Mapping[fx.Node, float]) -> dict[str, float]:
    found: dict[str, list[float]] = defaultdict(list)
    for node, took in nodes.items():
        for around in _around(node.meta.get("inward_owner", "")):
            found[around].append(took)
    by_node = {node.name: node for node in nodes}
    told = {name: math.fsum(parts) for name, parts in found.items()}
    for name, point in graph.points.items():
        if point.kind == "operation" and point.node in by_node:
            told[name] = _own(by_node[point.node], nodes)
        elif name not in told:
            told |= _of_call(name, point, told)
    return told | {f":{node.name}": _own(node, nodes) for node in nodes}


def _around(owner: str) -> Iterator[str]:
    parts = owner.split(".") if owner else []
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def _own(node: fx.Node, nodes: Mapping[fx.Node, float]) -> float:
    """What an operation takes; of one of several results, what all of them took."""
    if getattr(node.target, "__name__", "") == "getitem" and node.args[0] in nodes:
        return nodes[node.args[0]]  # type: ignore[index]
    return nodes[node]


def _of_call(name: str, point: Point, told: Mapping[str, float]) -> dict[str, float]:
    """Of one of several results of a module, what the module took."""
    call = name.rpartition(".")[0]
    return {name: told[call]} if point.node and call in told else {}


class _Stopwatch(fx.Interpreter):
    """Runs a graph node by node, and looks at the clock before and after each."""

    def __init__(self, module: fx.GraphModule, device: torch.device) -> None:
        super().__init__(module)
        self._device = device
        self._took: dict[fx.Node, float] = {}
        self._node: fx.Node | None = None

    def pass_over(self, image: Tensor) -> dict[fx.Node, float]:
        """The seconds of every operation in one pass."""
        self._took = {}
        self.run(image)
        return self._took

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        before = self._now()
        made = super().call_function(target, args, kwargs)
        if self._node is not None:
            self._took[self._node] = self._now() - before
        return made

    def _now(self) -> float:
        # A GPU answers before it is done.
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
