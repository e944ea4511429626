"""The parts of a network from shallow to deep, as one would name them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from inward.errors import CallError
from inward.network.network import Network

# Stages of a network that keeps one grid throughout.
_AT_LEAST = 4


def blocks(net: Network) -> list[str]:
    """The points that are studied by default: what the modules at the top gave, where that has units.

    A ``Sequential``, and a module that holds nearly all of the parameters (an encoder, a backbone), is no
    block but a row of them: its children take its place. So these are the blocks of a ResNet, the mixed
    layers of Inception, the layers of a VGG, of a vision transformer or of a Swin.
    """
    named = {p.name: p for p in net.points.values() if p.kind == "module" and p.node}
    parents = {_outer(name, named) for name in named} - {None}
    rows = {
        name
        for name in parents
        if name and (named[name].module == "Sequential" or 5 * named[name].parameters > 4 * net.parameters)
    }
    found: dict[str, str] = {}
    for name, point in named.items():
        outer = _outer(name, named)
        while outer in rows:
            outer = _outer(outer, named) if outer else None
        if outer is None and name not in rows and point.units is not None and not point.note:
            found.setdefault(point.node, name)
    if not found:
        raise CallError(f"no module of {net.name} has units that are known; name the points")
    return list(found.values())


def _outer(name: str, named: Mapping[str, object]) -> str | None:
    """The innermost other module that a module lies in; a list of modules is never called, and is none."""
    parts = name.split(".")
    inside = [".".join(parts[:i]) for i in range(len(parts) - 1, 0, -1)]
    return next((outer for outer in inside if outer in named), None)


def stages(net: Network) -> list[str]:
    """A point of each depth, from shallow to deep: the last block before the grid becomes coarser.

    Of networks with hardly more than one grid (vision transformers) a few blocks evenly spaced instead. What is the
    output itself, or has one position only, is left out.

    Raises CallError where no block is known.
    """
    points, outputs = net.points, set(net.graph(net.size).outputs)
    grids = {}
    for name in blocks(net):
        point = points[name]
        grid = None if point.shape is None else point.layout.grid_size(point.shape)
        if grid is not None and grid[0] * grid[1] > 1 and point.node not in outputs:
            grids[name] = grid
    names = list(grids)
    if not names:
        raise CallError(f"no block of {net.name} has a grid of positions; name the points")
    last = [a for a, b in pairwise(names) if grids[a] > grids[b]]
    found = [*last, names[-1]]
    if len(found) >= _AT_LEAST or len(names) < _AT_LEAST:
        return found
    return list(dict.fromkeys(names[round((i + 1) * len(names) / _AT_LEAST) - 1] for i in range(_AT_LEAST)))
