"""A network without one of its units."""

from __future__ import annotations

import torch
from torch import fx

from inward.errors import CallError
from inward.network.hooks import HookGraph
from inward.network.network import Network


def without(net: Network, address: str) -> Network:
    """The network in which a unit is 0 at every place: what reads it reads zeros.

    Morcos et al., "On the importance of single directions for generalization", 2018, arXiv:1803.06959.

    Args:
        address: a unit, such as ``layer3/17``.

    Raises CallError for what is no unit, for a class, and for a network without a graph.
    """
    parsed, graph = net.resolve(address), net.graph(net.size)
    if parsed.unit is None or parsed.place is not None or parsed.output is not None:
        raise CallError(f"'{address}' is no unit inside the network; write the name of a point and a number, layer3/17")
    if isinstance(graph, HookGraph):
        raise CallError(f"{net.name} has no graph ({graph.reason}), so nothing in it can be changed")
    point = graph.points[parsed.point]
    axis, unit = point.layout.axes.index("c"), parsed.unit

    def edit(module: fx.GraphModule) -> None:
        node = next(n for n in module.graph.nodes if n.name == point.node)
        with module.graph.inserting_after(node):
            changed = module.graph.call_function(zeroed, (node, axis, unit))
        # A name of its own, at which nothing else looks.
        node.replace_all_uses_with(changed, delete_user_cb=lambda user: user is not changed)

    return net.edit(edit)


def zeroed(value: torch.Tensor, axis: int, unit: int) -> torch.Tensor:
    """The tensor with one index of an axis at 0."""
    return value.index_fill(axis, torch.tensor([unit], device=value.device), 0.0)
