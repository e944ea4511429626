"""Memory: graphs that run with the channels last in it, as convolutions are fastest."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx
from torch._ops import OpOverload

from inward.network.layout import op_name

# Operations that ask where numbers lie, and are more than a view.
_OF_MEMORY = {"as_strided", "view_as_complex"}
_OURS = {"local_response_norm", "folded_convolution", "strided_convolution", "folded_strided_convolution"}
_OURS |= {"stop_gradient", "channels_last"}


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
