"""Memory: graphs that run with the channels last in it, as convolutions are fastest."""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch._ops import OpOverload
from torch.nn import functional as F

from inward.network.edit import hold
from inward.network.layout import op_name
from inward.network.operation import shape_of

# Operations that ask where numbers lie, and are more than a view.
_OF_MEMORY = {"as_strided", "view_as_complex"}
OUR_CONVOLUTIONS = frozenset({"folded_convolution", "strided_convolution", "folded_strided_convolution"})
_OURS = OUR_CONVOLUTIONS | {"local_response_norm", "stop_gradient", "channels_last", "linear_of_map"}


def arrange_channels_last(module: fx.GraphModule) -> None:
    """The edit that hands the images over with their channels last; not where that could disturb an operation."""
    if not any_order(module):
        return
    free_views(module)
    image = next(node for node in module.graph.nodes if node.op == "placeholder")
    with module.graph.inserting_after(image):
        arranged = module.graph.call_function(channels_last, (image,))
    arranged.meta["val"] = image.meta["val"]
    image.replace_all_uses_with(arranged, delete_user_cb=lambda user: user is not arranged)


def channels_last(x: Tensor) -> Tensor:
    """The same tensor, its channels last in memory."""
    # One channel lies first and last at once, and what is made of it would lie as if it was first.
    order = torch.channels_last
    return x.clone(memory_format=order) if x.shape[1] == 1 else x.contiguous(memory_format=order)


def convolve_channels_last(module: fx.GraphModule) -> None:
    """The edit that lays out the weights of convolutions as their images lie, where these lie channels last.

    Else they are laid out anew at every run, which is a third of the time of a small network with a few images.
    """
    if not any(node.target is channels_last for node in module.graph.nodes):
        return
    for node in module.graph.nodes:
        if node.op == "call_function" and op_name(node) in {"conv2d", *OUR_CONVOLUTIONS}:
            node.args = tuple(_channels_last_weight(module, node, value) for value in node.args)


def _channels_last_weight(module: fx.GraphModule, node: fx.Node, value: Any) -> Any:
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return value
    weight = getattr(module, str(value.target))
    if weight.ndim != 4 or weight.numel() > _FEW_WEIGHTS or weight.is_contiguous(memory_format=torch.channels_last):
        return value
    return hold(module, node, weight.contiguous(memory_format=torch.channels_last))


def flatten_channels_last(module: fx.GraphModule) -> None:
    """The edit that lets a linear layer read a flattened map as it lies, with its weights in that order.

    The flattened map itself is there for whoever asks for it. Layers of many weights, which a copy would hold
    twice, stay as they are.
    """
    if not any(node.target is channels_last for node in module.graph.nodes):
        return
    for node in module.graph.nodes:
        if node.op != "call_function" or op_name(node) != "linear" or not isinstance(node.args[1], fx.Node):
            continue
        flat, weight = node.args[0], node.args[1]
        if weight.op != "get_attr" or flat.op != "call_function" or op_name(flat) not in _FLATTENING:
            continue
        grid, matrix = shape_of(flat.args[0])[1:], getattr(module, str(weight.target))
        if len(grid) != 3 or shape_of(flat)[1:] != (math.prod(grid),) or matrix.numel() > _FEW_WEIGHTS:
            continue
        arranged = matrix.view(-1, *grid).permute(0, 2, 3, 1).flatten(1).contiguous()
        node.args = (flat.args[0], hold(module, node, arranged), *node.args[2:])
        node.target = linear_of_map


def linear_of_map(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer of the numbers of a map, channels last."""
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, bias)


_FLATTENING = {"view", "reshape", "flatten"}
_FEW_WEIGHTS = 4_000_000


def any_order(module: fx.GraphModule) -> bool:
    """Whether all that the graph computes is the same, however the numbers lie in memory.

    A function of the user's own may ask for a view, and what is in it is not known.
    """
    return all(_in_any_order(node) for node in module.graph.nodes if node.op not in ("get_attr", "placeholder"))


def _in_any_order(node: fx.Node) -> bool:
    if node.op != "call_function":
        return node.op == "output"
    if isinstance(node.target, OpOverload):
        asks = op_name(node) in _OF_MEMORY or node.target is torch.ops.aten.view.dtype
        return node.target.namespace == "aten" and not asks
    module = getattr(node.target, "__module__", "")
    # Those of symbolic numbers, and getitem.
    plain = module in (operator.__name__, operator.getitem.__module__, "math", "torch")
    return plain or module == "inward.network.edit" or (module.startswith("inward.") and _name(node) in _OURS)


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "")


def free_views(module: fx.GraphModule) -> None:
    """The edit that lets a view copy its numbers where they do not lie as it needs them.

    An export writes every reshape of its own image as a view, since there it was one. Nothing in a
    graph is changed in place, so that a copy is as good.
    """
    for node in module.graph.nodes:
        if node.op == "call_function" and node.target in _VIEWS:
            node.target = torch.ops.aten.reshape.default


_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
