"""The architecture of a network, as data and as a tree of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from inward.errors import CallError, numbered
from inward.network.graph import Point
from inward.network.network import Network


def points_table(
    net: Network, depth: int | None = None, seconds: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Every point as plain data: name, kind, shape (for a batch of one), layout, parameters,
    multiply-adds, module, source line, and a note where something is unusual.

    Args:
        depth: how many levels are listed; all by default.
        seconds: what each takes (:func:`inward.network.timing.seconds`), listed too where it is given.

    Raises CallError for a depth below 1.
    """
    check_depth(depth)
    return [
        {
            "name": p.name,
            "kind": p.kind,
            "shape": None if p.shape is None else list(p.shape),
            "layout": p.layout.kind if p.shape is not None else None,
            "units": p.units,
            "parameters": p.parameters,
            "multiply_adds": p.multiply_adds,
            "module": p.module,
            "source": p.source,
            "note": p.note,
            **({} if seconds is None else {"seconds": seconds.get(p.name)}),
        }
        for p in net.points.values()
        if depth is None or p.name.count(".") < depth
    ]


def check_depth(depth: int | None) -> None:
    """Raises CallError for a depth below 1."""
    if depth is not None and depth < 1:
        raise CallError(f"a tree has 1 level or more, not {depth}")


def totals(net: Network) -> dict[str, int]:
    """Parameters and multiply-adds (of one image) of the whole network."""
    outer = [p for p in net.points.values() if _outermost(p.name, net.points)]
    return {
        "points": len(net.points),
        "parameters": net.parameters,
        "multiply_adds": sum(p.multiply_adds for p in outer),
    }


def _outermost(name: str, points: dict[str, Point]) -> bool:
    parts = name.split(".")
    return not any(".".join(parts[:depth]) in points for depth in range(1, len(parts)))


def show(console: Console, net: Network, depth: int | None = None, seconds: Mapping[str, float] | None = None) -> None:
    """Prints the tree in whole lines: a terminal wraps what is too long, and rich would cut it off."""
    drawn = tree(net, depth, seconds)
    wide = console.measure(drawn, options=console.options.update(width=10_000)).maximum
    console.width = max(console.width, wide)
    console.print(drawn)


def tree(net: Network, depth: int | None = None, seconds: Mapping[str, float] | None = None) -> Tree:
    """The points as a tree of modules, for the terminal.

    Args:
        depth: how many levels are shown; what lies deeper is counted. All by default.
        seconds: what each takes (:func:`inward.network.timing.seconds`), shown where it is given.

    Raises CallError for a depth below 1.
    """
    check_depth(depth)
    whole = totals(net)
    height, width = net.size
    head = Text.assemble(
        (net.name, "bold"),
        f"  {net.preprocess.channels} x {height} x {width}"
        f"  {_count(whole['parameters'])} parameters  {_count(whole['multiply_adds'])} multiply-adds",
    )
    root = Tree(head)
    branches: dict[str, Tree] = {}
    _grow(root, net.points, branches, depth, seconds or {})
    return root


def _grow(
    root: Tree, points: dict[str, Point], branches: dict[str, Tree], depth: int | None, seconds: Mapping[str, float]
) -> None:
    """Adds every point below its nearest ancestor; a parent that is no point gets a plain line."""
    parents = {name.rpartition(".")[0] for name in points}
    folded = Counter(".".join(name.split(".")[:depth]) for name in points if depth and name.count(".") >= depth)
    for name in _by_path([*points, *folded.keys() - points.keys()]):
        if depth and name.count(".") >= depth:
            continue
        parent = _parent(root, name, points, branches)
        text = _line(name, points[name]) if name in points else Text(name.rpartition(".")[2], style="bold")
        if name in seconds:
            text.append(f"  {1000 * seconds[name]:.3g} ms", "green")
        if name in folded:
            text.append(f"  + {numbered(folded[name], 'point')} inside", "dim")
        line = parent.add(text)
        if name in parents:
            branches[name] = line


def _parent(root: Tree, name: str, points: dict[str, Point], branches: dict[str, Tree]) -> Tree:
    path = name.rpartition(".")[0]
    if not path:
        return root
    if path not in branches:
        above = _parent(root, path, points, branches)
        branches[path] = above.add(Text(path.rpartition(".")[2], style="bold"))
    return branches[path]


def _by_path(names: list[str]) -> list[str]:
    """Parents before their children, else in the order of computation (a module ends after its parts)."""
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        parts = name.split(".")
        for depth in range(1, len(parts) + 1):
            first.setdefault(".".join(parts[:depth]), position)

    def key(name: str) -> list[tuple[int, str]]:
        parts = name.split(".")
        paths = [".".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        return [(first[path], path) for path in paths]

    return sorted(names, key=key)


def _line(name: str, point: Point) -> Text:
    kind = "bold" if point.kind == "module" else "italic"
    shape = "" if point.shape is None else " x ".join(map(str, point.shape[1:])) or "one number"
    text = Text.assemble((name.rpartition(".")[2], kind), (f"  {point.module}", "cyan"), f"  {shape}")
    if point.parameters:
        text.append(f"  {_count(point.parameters)} parameters", "dim")
    if point.multiply_adds:
        text.append(f"  {_count(point.multiply_adds)} multiply-adds", "dim")
    if point.note:
        text.append(f"  ({point.note})", "yellow")
    return text


def _count(number: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
