"""How the points of a network hang together, as plain data: what a picture of its architecture is drawn from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx

from inward.network.graph import Graph, Point, ancestors
from inward.network.layout import op_name
from inward.network.network import Network

INPUT = "input"
# Of a point that gives what it is given: there is nothing to draw between them.
_IDENTITY = "returns its input"
_UNREAD = "the answer is computed without it, by one operation in the place of several"


def wiring(net: Network) -> dict[str, Any]:
    """The architecture for a picture of it.

    ``nodes`` are the points with the modules around them, parents before their children, else in the order of
    computation; ``edges`` connect those that have nothing inside, along the values that one reads of another.
    Operations that are no points of their own belong to the next that is. A network without a graph has no edges:
    ``exact`` is false then, and ``reason`` says why.
    """
    graph = net.graph(net.size)
    shown = {name: p for name, p in graph.points.items() if p.node and p.note != _IDENTITY}
    inner = {".".join(parts[:depth]) for name in shown for parts in [name.split(".")] for depth in range(1, len(parts))}
    taken = INPUT if INPUT not in graph.points else f"{INPUT}:"
    leaves = {name: p for name, p in shown.items() if name not in inner}
    ends = _ends(graph, shown, leaves) if isinstance(graph, Graph) else {}
    nodes = [_input(net, taken)]
    nodes += [node(name, shown.get(name), container=name in inner) for name in _parents_first(shown)]
    nodes += [_end(name, shown[around], op) for name, (around, op) in ends.items()]
    leaves |= {name: shown[around] for name, (around, _) in ends.items()}
    exact = isinstance(graph, Graph)
    if isinstance(graph, Graph):
        _note_unread(nodes, graph, leaves)
    return {
        "name": net.name,
        "size": list(net.size),
        "exact": exact,
        "reason": None if isinstance(graph, Graph) else graph.reason,
        "nodes": nodes,
        "edges": _edges(graph, leaves, taken) if isinstance(graph, Graph) else [],
    }


def _note_unread(nodes: list[dict[str, Any]], graph: Graph, leaves: Mapping[str, Point]) -> None:
    """Says of operations that nothing on the way to the output reads, since one in their place is faster."""
    known = {each.name: each for each in graph.module.graph.nodes}
    live = {each.name for each in ancestors([known[name] for name in graph.outputs])}
    for told in nodes:
        point = leaves.get(told["id"])
        if point is not None and not told["note"] and point.node not in live:
            told["note"] = _UNREAD


def timed(net: Network, told: Mapping[str, Any], seconds: Mapping[str, float]) -> dict[str, float]:
    """Of the nodes of a :func:`wiring` the seconds that :func:`inward.network.timing.seconds` measured."""
    found = {}
    for each in told["nodes"]:
        inside = each["kind"] == "operation" and not each["point"]
        name = f":{net.points[each['parent']].node}" if inside else each["id"]
        if name in seconds:
            found[each["id"]] = seconds[name]
    return found


def _parents_first(names: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:depth]): None for depth in range(1, len(parts) + 1)}
    return list(found)


def _input(net: Network, name: str) -> dict[str, Any]:
    shape = [1, net.preprocess.channels, *net.size]
    told = {"id": name, "parent": "", "label": "image", "kind": "input", "container": False, "point": False}
    counted = {"parameters": 0, "multiply_adds": 0, "activation": math.prod(shape)}
    return told | {"module": "", "shape": shape, "units": None, "grid": list(net.size), **counted, "note": ""}


def node(name: str, point: Point | None, *, container: bool) -> dict[str, Any]:
    """A point, or a module around points that is none itself, as one of ``nodes``."""
    parent, _, label = name.rpartition(".")
    told = {"id": name, "parent": parent, "label": label, "container": container, "point": point is not None}
    if point is None:
        nothing = {"shape": None, "units": None, "grid": None, "parameters": 0, "multiply_adds": 0, "activation": 0}
        return told | {"kind": "module", "module": "", "note": "", **nothing}
    shape = None if point.shape is None else list(point.shape)
    grid = None if point.shape is None else point.layout.grid_size(point.shape)
    return told | {
        "kind": point.kind,
        "module": point.module,
        "shape": shape,
        "units": point.units,
        "grid": None if grid is None else list(grid),
        "parameters": point.parameters,
        "multiply_adds": point.multiply_adds,
        "activation": 0 if shape is None else math.prod(shape),
        "note": point.note,
    }


def _ends(graph: Graph, shown: Mapping[str, Point], leaves: Mapping[str, Point]) -> dict[str, tuple[str, str]]:
    """The last operations of modules, where they are no points of their own: with the module and what they do.

    A module that ends in an operation gives that its own name; in a picture of what is inside, it has to stand there.
    """
    owned, found = {point.node for point in leaves.values()}, dict[str, tuple[str, str]]()
    nodes = {each.name: each for each in graph.module.graph.nodes}
    # The innermost of several modules that end in one operation has it.
    for name in sorted(shown.keys() - leaves.keys(), key=lambda n: -n.count(".")):
        end = nodes[shown[name].node]
        if end.name in owned or end.op != "call_function":
            continue
        owned.add(end.name)
        op = op_name(end)
        found[f"{name}.{op}" if f"{name}.{op}" not in shown else f"{name}.{op}:out"] = (name, op)
    return found


def _end(name: str, around: Point, op: str) -> dict[str, Any]:
    """The last operation of a module as a node: its values are addressed by the name of the module."""
    whole = node(around.name, around, container=False)
    own = {"id": name, "parent": around.name, "label": op, "kind": "operation", "point": False, "module": op}
    return whole | own | {"parameters": 0, "multiply_adds": 0, "units": None, "note": ""}


def _edges(graph: Graph, leaves: Mapping[str, Point], taken: str) -> list[list[str]]:
    """Which leaf reads which: back from each of them to the nearest others."""
    # Of several points of one value the first made it.
    owners: dict[str, str] = {}
    for name, point in leaves.items():
        owners.setdefault(point.node, name)
    nodes = {each.name: each for each in graph.module.graph.nodes}
    found: dict[tuple[str, str], None] = {}
    for name, point in leaves.items():
        if owners[point.node] != name:
            found[owners[point.node], name] = None
            continue
        for source in _sources(nodes[point.node], owners, taken):
            found[source, name] = None
    return [list(edge) for edge in found]


def _sources(end: fx.Node, owners: Mapping[str, str], taken: str) -> list[str]:
    found: dict[str, None] = {}
    stack, seen = list(reversed(end.all_input_nodes)), set[fx.Node]()
    while stack:
        one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        if one.name in owners:
            found[owners[one.name]] = None
        elif one.op == "placeholder":
            found[taken] = None
        # How large a batch is, is no value that flows.
        elif not isinstance(one.meta.get("val"), int | float | torch.SymInt | torch.SymFloat):
            stack.extend(reversed(one.all_input_nodes))
    return list(found)
