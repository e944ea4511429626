"""Products in half precision, all else as it was: what autocast does, with the weights converted once."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from inward.network.edit import hold
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.memory import OUR_CONVOLUTIONS, any_order, free_views

_PRODUCTS = {"conv1d", "conv2d", "conv3d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "linear_of_map"}


def halve(graph: Graph, dtype: torch.dtype) -> Graph:
    """The graph with its products in ``dtype``; float32 graphs alone change.

    Weights have their channels last in memory, which is how convolutions in half precision are
    fast, and so has then what they give: unless that could disturb an operation.
    """
    module = graph.edited(free_views).module
    order = torch.channels_last if any_order(module) else torch.contiguous_format
    for node in module.graph.nodes:
        if node.op == "call_function" and op_name(node) in _PRODUCTS | OUR_CONVOLUTIONS:
            node.args = tuple(_halved(module, node, value, dtype, order) for value in node.args)
            node.kwargs = {k: _halved(module, node, value, dtype, order) for k, value in node.kwargs.items()}
    return Graph(module, graph.points, graph.outputs, graph.aliases, dtype)


def _halved(module: fx.GraphModule, node: fx.Node, value: Any, dtype: torch.dtype, order: torch.memory_format) -> Any:
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return value
    tensor = getattr(module, str(value.target))
    if tensor.dtype != torch.float32:
        return value
    short = tensor.to(dtype)
    return hold(module, node, short.contiguous(memory_format=order) if short.ndim == 4 else short)
