"""Places: the map on whose grid a class-activation map is drawn.

Of all maps inside, the last through which the target sees the image. It is told from the graph and
its weights, never from the images, so that every batch has the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.gradient import whole
from inward.network.address import parse
from inward.network.attention import attentions, behind, keeps_features, only_rearranges
from inward.network.edit import redirect_relus
from inward.network.graph import Graph, Point
from inward.network.hooks import HookGraph
from inward.network.modes import drawing, ordinary
from inward.network.network import Network, node_of
from inward.types import Size

# The last map is nearly always among so many: nothing before them is differentiated.
_LAST = 32


def map_for(net: Network, keys: Sequence[str], size: Size, at: str | None = None) -> str:
    """The map to draw on: ``at``, checked, or else the last one that every image reaches ``keys`` through.

    It has a grid of more than one place, each of which the target depends on (so in a vision
    transformer with a class token it lies before the last attention), and no other map bypasses it.
    What is the target's own feature, before a ReLU or a pooling, is passed over, since it explains
    nothing; so are queries, keys and values, and what is only another order of the same numbers.

    Args:
        net: the network.
        keys: the whole points that the target is computed from.
        size: height and width of the images.
        at: a point by its address.

    Raises:
        CallError: where there is no such map, or ``at`` is a unit, has no grid, one place, or no path to the target.
    """
    if not keys:
        raise CallError("the target depends on no point inside the network, so no map can explain it; give an address")
    if at is None:
        return net.derived(("map", tuple(keys), size), lambda plain: _last(plain, keys, size))
    return _checked(net, keys, size, at)


def probed(net: Network, size: Size, ends: Sequence[str], nodes: Sequence[str]) -> list[Tensor | None]:
    """A gradient of the nodes ``ends`` at every one of ``nodes``: exactly zero where nothing there is read.

    Of random weights on everything at ``ends``, for one random image, in a network whose ReLUs let
    gradients through where they would be blocked: a unit that is dead is still one that is read. Where
    that is zero everywhere, a layer of zeros is in the way, as the heads of new networks are, and
    the gradient is of what the last layers read.
    """
    graph = net.derived("redirected", lambda plain: plain.edit(redirect_relus)).graph(size)
    found = _slopes(net, graph, size, ends, nodes)
    if any(g is not None and g.any() for g in found) or not isinstance(graph, Graph):
        return found
    return _slopes(net, graph, size, [n.name for n in _read_last(graph, ends)], nodes)


def _slopes(
    net: Network, graph: Graph | HookGraph, size: Size, ends: Sequence[str], nodes: Sequence[str]
) -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    # Found once and kept: what a random network draws here must not be missing the second time.
    with ordinary(net.device), drawing(0, net.device):
        image = torch.rand(1, net.preprocess.channels, *size, generator=generator).to(net.device).requires_grad_(True)
        values = graph.run(net.shown(image), [*ends, *nodes])
        weighted = [(v * torch.randn(v.shape, generator=generator).to(v)).sum() for v in values[: len(ends)]]
        total = torch.stack(weighted).sum() if weighted else image.new_zeros(())
        if not total.requires_grad:
            return [None] * len(nodes)
        # Noise that a network draws, and what is made of it alone, does not come from the image.
        reached = [value for value in values[len(ends) :] if value.requires_grad]
        slopes = iter(torch.autograd.grad(total, reached, allow_unused=True) if reached else ())
        return [next(slopes) if value.requires_grad else None for value in values[len(ends) :]]


def _read_last(graph: Graph, ends: Sequence[str]) -> list[fx.Node]:
    """The activations that are read by the last operations which mix features."""
    nodes = [n for n in graph.module.graph.nodes if n.name in ends]
    layers = [n for n in behind(nodes, keeps_features) if not keeps_features(n)]
    read = {i for layer in layers for i in layer.all_input_nodes if i.op == "call_function"}
    return [n for n in graph.module.graph.nodes if n in read and isinstance(n.meta.get("val"), Tensor)]


def _alive(net: Network, keys: Sequence[str], size: Size, names: Sequence[str]) -> list[str]:
    """Those of the maps whose places ``keys`` depend on."""
    graph = net.graph(size)
    ends = [node_of(graph, parse(key)) for key in keys]
    found = probed(net, size, ends, [graph.points[name].node for name in names])
    alive = zip(names, found, strict=True)
    return [name for name, g in alive if g is not None and _features(net, name, g, size).any()]


def _features(net: Network, key: str, value: Tensor, size: Size) -> Tensor:
    return net.layout_of(net.resolve(key, size), size).features(value)


def _last(net: Network, keys: Sequence[str], size: Size) -> str:
    graph = net.graph(size)
    maps = [p.name for p in graph.points.values() if p.node and _is_map(p)]
    if not isinstance(graph, Graph):
        example = f", for example at='{maps[-1]}'" if maps else ""
        raise CallError(f"without a graph the last map of {net.name} cannot be told; name one{example}")
    found = _candidates(graph, [node_of(graph, parse(key)) for key in keys])
    if not found:
        rest = f"give at='{keys[0]}' for the target's own map" if keys[0] in maps else "use saliency"
        raise CallError(f"no map of more than one place lies before {', '.join(keys)}; {rest}")
    for names in (found[-_LAST:], found):
        alive = _alive(net, keys, size, names)
        if alive:
            return alive[-1]
    # All weights on the way are zero, and so is every map.
    return found[-1]


def _is_map(point: Point) -> bool:
    grid = None if point.shape is None or not point.layout.has_units else point.layout.grid_size(point.shape)
    return grid is not None and grid[0] * grid[1] > 1


def _candidates(graph: Graph, ends: Sequence[str]) -> list[str]:
    """The points that no other map bypasses, in the order of computation."""
    maps = _maps(graph)
    nodes = [n for n in graph.module.graph.nodes if n.name in maps]
    needed = set.intersection(*(graph.needed([end]) for end in ends))
    own = behind([n for n in graph.module.graph.nodes if n.name in ends], keeps_features)
    inside = {n for a in attentions(graph, ends) for n in behind(a.operands, keeps_features)}
    copies = {n for n in nodes if any(_same(maps, n, i) for i in behind([n], only_rearranges) - {n})}
    left = [n for n in nodes if n in needed - own - inside - copies]
    return [maps[n.name].name for n in _in_line(graph, left)]


def _maps(graph: Graph) -> dict[str, Point]:
    """Every map by its node: the outermost module whose output it is, else the operation."""
    found: dict[str, Point] = {}
    for point in graph.points.values():
        named = point.node in found and (point.note == "returns its input" or point.kind != "module")
        if point.node and _is_map(point) and not named:
            found[point.node] = point
    return found


def _same(maps: dict[str, Point], node: fx.Node, source: fx.Node) -> bool:
    """Whether both are maps of as many units on the same grid."""
    shapes = [(p.units, p.shape and p.layout.grid_size(p.shape)) for p in map(maps.get, (node.name, source.name)) if p]
    return len(shapes) == 2 and shapes[0] == shapes[1]


def _in_line(graph: Graph, maps: Sequence[fx.Node]) -> list[fx.Node]:
    """Those that depend on every earlier one, and every later one on them."""
    before: dict[fx.Node, int] = {}
    for index, node in enumerate(graph.module.graph.nodes):
        bits = 1 << index
        for source in node.all_input_nodes:
            bits |= before[source]
        before[node] = bits
    own = {node: 1 << index for index, node in enumerate(graph.module.graph.nodes)}
    earlier, found = 0, []
    for i, node in enumerate(maps):
        if not earlier & ~before[node] and all(own[node] & before[later] for later in maps[i + 1 :]):
            found.append(node)
        earlier |= own[node]
    return found


def _checked(net: Network, keys: Sequence[str], size: Size, at: str) -> str:
    key = whole(net, at, size)
    graph = net.graph(size)
    point = graph.points.get(key)
    layout = net.layout_of(net.resolve(at, size), size)
    if point is None or point.shape is None or not layout.has_grid or not layout.has_units:
        what = f"a tensor of shape {point.shape}" if point is not None else "the network's answer"
        raise CallError(f"'{at}' is {what}, in which no grid is known, so it has no places; name a map before it")
    if not _is_map(point):
        raise CallError(f"'{at}' has one place, which cannot tell places apart; name a map before it, or leave it out")
    _check_path(graph, keys, point, at)
    return key


def _check_path(graph: Graph | HookGraph, keys: Sequence[str], point: Point, at: str) -> None:
    ends = [node_of(graph, parse(key)) for key in keys]
    if any(graph.reaches(point.node, end) for end in ends):
        return
    target = ", ".join(keys)
    if any(graph.reaches(end, point.node) for end in ends if end in {p.node for p in graph.points.values()}):
        raise CallError(f"'{at}' comes after the target in {target}; name a map before it")
    raise CallError(f"there is no path from '{at}' to the target in {target}; name a map before that")


def check_places(net: Network, keys: Sequence[str], size: Size, key: str) -> None:
    """Raises CallError where other maps reach ``keys`` by their places, and this one only by other tokens."""
    if not isinstance(net.graph(size), Graph):
        return
    last = _last(net, keys, size)
    alive = _alive(net, keys, size, [key, last])
    if key not in alive and last in alive:
        raise CallError(f"of '{key}' the target reads no place of the grid, only a class token; name '{last}'")
