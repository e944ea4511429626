"""Random weights in the place of a network's own, in an edit of its graph: the network stays as it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.network.address import parse
from inward.network.graph import Edit, Graph
from inward.network.network import Network, node_of
from inward.types import Size

# A network that was initialized with the same seed must not get correlated weights: the stream is the same.
_APART = 1_000_003


@dataclass(frozen=True)
class Layer:
    """A point that reads parameters, and what the graph calls those that no later point reads."""

    name: str
    weights: tuple[str, ...]


def layers_of(net: Network, keys: Sequence[str], size: Size) -> tuple[Layer, ...]:
    """The layers with parameters on the way to these whole points, in the order of computation.

    A parameter that several points read belongs to the last of them, the first to be met from the output.

    Raises:
        CallError: for a network without a graph, or without parameters on the way.
    """
    graph = _graph_of(net, size)
    needed = graph.needed([node_of(graph, parse(key)) for key in keys])
    ordered = [node for node in graph.module.graph.nodes if node in needed]
    names = _names(graph)
    found: dict[str, list[str]] = defaultdict(list)
    places: dict[str, int] = {}
    for node in ordered:
        if node.op == "get_attr" and node.meta.get("inward_parameter"):
            place, name = max(_read(user, needed, names, ordered) for user in node.users if user in needed)
            found[name].append(str(node.target))
            places[name] = place
    if not found:
        raise CallError(f"no parameters lie on the way to {', '.join(keys)}, so there is nothing to randomize")
    return tuple(Layer(name, tuple(found[name])) for name in sorted(found, key=places.__getitem__))


def _graph_of(net: Network, size: Size) -> Graph:
    graph = net.graph(size)
    if not isinstance(graph, Graph):
        raise CallError(f"{net.name} has no graph ({graph.reason}), and its weights can be exchanged in a graph only")
    return graph


def _names(graph: Graph) -> dict[str, str]:
    """The innermost point of every node that has one."""
    names: dict[str, str] = {}
    for point in graph.points.values():
        known = names.get(point.node)
        if point.node and (known is None or point.name.count(".") > known.count(".")):
            names[point.node] = point.name
    return names


def _read(node: fx.Node, needed: set[fx.Node], names: Mapping[str, str], ordered: list[fx.Node]) -> tuple[int, str]:
    """Where in the order the first point from a node on lies, and its name: a weight may be reshaped before."""
    while node.name not in names:
        following = [user for user in node.users if user in needed]
        if not following:
            break
        node = min(following, key=ordered.index)
    return ordered.index(node), names.get(node.name, node.name)


def drawn(net: Network, layers: Sequence[Layer], size: Size, seed: int) -> dict[str, Tensor]:
    """Random weights for all parameters of the layers, by what the graph calls them.

    Weights (of two axes or more) are drawn from a normal distribution around 0 with their own root
    mean square, so that activations keep about their size; vectors, which are biases and gains, have
    their values shuffled.
    """
    module = _graph_of(net, size).module
    generator = torch.Generator().manual_seed(_APART + seed)
    names = [name for layer in layers for name in layer.weights]
    return {name: _random(getattr(module, name), generator) for name in names}


def _random(weight: Tensor, generator: torch.Generator) -> Tensor:
    if weight.ndim < 2:
        order = torch.randperm(weight.numel(), generator=generator)
        return weight.detach().flatten()[order.to(weight.device)].view(weight.shape)
    scale = weight.detach().double().square().mean().sqrt().item()
    return (scale * torch.randn(weight.shape, generator=generator)).to(weight)


def exchanged(weights: Mapping[str, Tensor]) -> Edit:
    """The edit that puts tensors in the place of those that the graph calls by these names."""

    def edit(module: fx.GraphModule) -> None:
        for node in module.graph.nodes:
            if node.op == "get_attr" and node.target in weights:
                name = f"exchanged_{node.target}"
                module.register_buffer(name, weights[node.target])
                node.target = name

    return edit
