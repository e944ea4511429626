"""Edits that make a graph faster and leave what it computes as it is, but for rounding.

They are for loops that run a network hundreds of times. Every point keeps its name and its meaning:
a batch normalization becomes a convolution of its own, and the convolution before it is there for
whoever asks for it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.network.edit import hold
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.memory import arrange_channels_last, convolve_channels_last, flatten_channels_last
from inward.network.modes import has_half
from inward.network.network import Network
from inward.network.operation import argument
from inward.network.strided import folded_strided_convolution, over_blocks, strided_convolution
from inward.types import Size

# A convolution of more channels is fast enough as it is; one of fewer is mostly waiting for memory.
_FEW_CHANNELS = 8
_FEW_NUMBERS = 10_000


def lean(net: Network, size: Size, *, half: bool) -> Network:
    """The network for many runs: batch normalization folded, strided first layers with a faster gradient.

    ``half`` computes its products in bfloat16 (sums in float32), where the device has them and the
    network is in float32; elsewhere it changes nothing. Without a graph at this size, neither does.
    """
    if not isinstance(net.graph(size), Graph):
        return net
    short = half and net.dtype == torch.float32 and has_half(net.device)
    return net.derived(("lean", short), _half if short else _lean)


def precision_of(net: Network, precision: str) -> Literal["full", "mixed"]:
    """The precision that loops will have: ``auto`` and ``mixed`` are mixed where the network and the device allow it.

    Raises CallError for a word that is none of auto, full and mixed.
    """
    if precision not in ("auto", "full", "mixed"):
        raise CallError(f"there is no precision '{precision}'; write auto, full or mixed")
    able = net.dtype == torch.float32 and has_half(net.device)
    return "mixed" if able and precision != "full" else "full"


def _lean(net: Network) -> Network:
    return net.edit(*_EDITS, convolve_channels_last)


def _half(net: Network) -> Network:
    # Halving lays out the weights by itself.
    return net.edit(*_EDITS).halved(torch.bfloat16)


def fold_constants(module: fx.GraphModule) -> None:
    """The edit that computes once what hangs on weights alone, such as a mean and a std as (C, 1, 1).

    Not of many numbers, which would be held twice.
    """
    for node in module.graph.nodes:
        given = node.all_input_nodes
        if node.op != "call_function" or not given or any(n.op != "get_attr" for n in given):
            continue
        value, drawn = node.meta.get("val"), torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
        if drawn or not isinstance(value, Tensor) or value.numel() > _FEW_NUMBERS:
            continue
        with torch.no_grad():
            read = {n: getattr(module, str(n.target)) for n in given}
            made = node.target(*fx.map_arg(node.args, read.__getitem__), **fx.map_arg(node.kwargs, read.__getitem__))
        node.replace_all_uses_with(hold(module, node, made))


def fold_batch_norms(module: fx.GraphModule) -> None:
    """The edit that computes a batch normalization behind a convolution as one convolution.

    ``(w * x + b - mean) g / sqrt(var + eps) + beta`` is a convolution with the weights
    ``w g / sqrt(var + eps)``; folded in float64.
    """
    for node in module.graph.nodes:
        if node.op != "call_function" or op_name(node) != "batch_norm" or len(node.args) != 7:
            continue
        convolution = node.args[0]
        found = _constants(module, node.args[1:5])
        if found is None or not _is_plain_convolution(convolution):
            continue
        gain, shift, mean, variance = (t.double() for t in found)
        weight = getattr(module, str(convolution.args[1].target))
        bias = argument(convolution, "bias")
        scale = gain / (variance + float(node.args[6])).sqrt()
        old = 0 if bias is None else getattr(module, str(bias.target)).double()
        new = (weight.double() * scale.view(-1, *[1] * (weight.ndim - 1)), (old - mean) * scale + shift)
        names = [hold(module, node, value.to(weight.dtype)) for value in new]
        node.target = folded_convolution
        node.args = (convolution.args[0], *names, *(argument(convolution, n, d) for n, d in _GEOMETRY))


_GEOMETRY: tuple[tuple[str, Any], ...] = (("stride", [1, 1]), ("padding", [0, 0]), ("dilation", [1, 1]), ("groups", 1))


def folded_convolution(x: Tensor, weight: Tensor, bias: Tensor, *geometry: Any) -> tuple[Tensor]:
    """A convolution in the place of a batch normalization, which gives a tuple."""
    return (torch.conv2d(x, weight, bias, *geometry),)


_WITH_GEOMETRY = (folded_convolution, strided_convolution, folded_strided_convolution)


def gradients_over_blocks(module: fx.GraphModule) -> None:
    """The edit that computes the gradient of a strided convolution of few channels over blocks of pixels.

    See :mod:`inward.network.strided`.
    """
    for node in module.graph.nodes:
        if not _is_plain_convolution(node) and node.target is not folded_convolution:
            continue
        stride, padding, dilation, groups = (argument_of(node, i) for i in range(4))
        weight = getattr(module, str(node.args[1].target))
        if len(set(stride)) > 1 or stride[0] < 2 or groups != 1 or set(dilation) != {1} or isinstance(padding, str):
            continue
        if weight.shape[1] > _FEW_CHANNELS or weight.shape[2] != weight.shape[3] or weight.shape[2] <= stride[0]:
            continue
        blocks = hold(module, node, over_blocks(weight, stride[0]))
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        padding = [padding] * 2 if isinstance(padding, int) else padding
        plain = node.target is not folded_convolution
        node.target = strided_convolution if plain else folded_strided_convolution
        node.args, node.kwargs = (node.args[0], node.args[1], bias, stride, padding, dilation, groups, blocks), {}


def argument_of(node: fx.Node, index: int) -> Any:
    """The stride, padding, dilation or groups of a convolution."""
    name, default = _GEOMETRY[index]
    if node.target in _WITH_GEOMETRY:
        found: Any = node.args[3 + index]
    else:
        found = argument(node, name, default)
    return [found, found] if name != "groups" and isinstance(found, int) else found


def _is_plain_convolution(node: Any) -> bool:
    if not isinstance(node, fx.Node) or node.op != "call_function" or op_name(node) != "conv2d":
        return False
    weights = [node.args[1], argument(node, "bias")]
    return all(w is None or (isinstance(w, fx.Node) and w.op == "get_attr") for w in weights)


def _constants(module: fx.GraphModule, nodes: Any) -> list[Tensor] | None:
    if not all(isinstance(n, fx.Node) and n.op == "get_attr" for n in nodes):
        return None
    return [getattr(module, str(n.target)) for n in nodes]


_EDITS = (fold_constants, fold_batch_norms, gradients_over_blocks, arrange_channels_last, flatten_channels_last)
