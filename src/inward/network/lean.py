"""Edits that make a graph faster and leave what it computes as it is, but for rounding.

They are for loops that run a network hundreds of times. Every point keeps its name and its meaning:
a batch normalization becomes a convolution of its own, and the convolution before it is there for
whoever asks for it.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.errors import CallError
from inward.network.edit import hold
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.memory import arrange_channels_last
from inward.network.modes import has_half
from inward.network.network import Network
from inward.network.operation import argument, shape_of
from inward.types import Size

# A convolution of more channels is fast enough as it is; one of fewer is mostly waiting for memory.
_FEW_CHANNELS = 8


def lean(net: Network, size: Size, *, half: bool) -> Network:
    """The network for many runs: batch normalization folded, strided first layers rearranged.

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
    return net.edit(fold_batch_norms, unshuffle_convolutions, arrange_channels_last)


def _half(net: Network) -> Network:
    return _lean(net).halved(torch.bfloat16)


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


def unshuffle_convolutions(module: fx.GraphModule) -> None:
    """The edit that computes a strided convolution of few channels over blocks of pixels.

    A stride of s over C channels is a stride of 1 over the s x s C channels of blocks, with the
    kernel's weights rearranged. The gradient of the plain form runs at a fifth of the speed.
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
        height, width = shape_of(node.args[0])[2:]
        blocks = hold(module, node, _over_blocks(weight, stride[0]))
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        sizes = [(n + 2 * p - weight.shape[2]) // stride[0] + 1 for n, p in zip((height, width), padding, strict=True)]
        plain = node.target is not folded_convolution
        node.target = unshuffled_convolution if plain else folded_unshuffled_convolution
        node.args, node.kwargs = (node.args[0], blocks, bias, stride[0], tuple(padding), tuple(sizes)), {}


def argument_of(node: fx.Node, index: int) -> Any:
    """The stride, padding, dilation or groups of a convolution."""
    name, default = _GEOMETRY[index]
    if node.target is folded_convolution:
        found: Any = node.args[3 + index]
    else:
        found = argument(node, name, default)
    return [found, found] if name != "groups" and isinstance(found, int) else found


def _over_blocks(weight: Tensor, stride: int) -> Tensor:
    """The kernel (O, C, k, k) over blocks, (O, s s C, k', k'): k' = k / s rounded up."""
    out, channels, size, _ = weight.shape
    taps = -(-size // stride)
    padded = F.pad(weight, [0, taps * stride - size] * 2)
    return padded.view(out, channels, taps, stride, taps, stride).permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous()


def unshuffled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: tuple[int, int], sizes: tuple[int, int]
) -> Tensor:
    """A convolution with a stride as one of stride 1 over blocks of ``stride`` x ``stride`` pixels."""
    batch, channels = x.shape[:2]
    # Rearranged in the dtype of the products, which is less to move.
    x = x.to(weight.dtype)
    # Grids of blocks that give just the wanted positions: what lies behind is cut off or padded.
    grid = [size + weight.shape[2] - 1 for size in sizes]
    behind = [g * stride - n - p for g, n, p in zip(grid, x.shape[2:], padding, strict=True)]
    padded = F.pad(x, [padding[1], behind[1], padding[0], behind[0]])
    blocks = padded.reshape(batch, channels, grid[0], stride, grid[1], stride).permute(0, 2, 4, 3, 5, 1)
    last = blocks.reshape(batch, *grid, stride * stride * channels)
    return torch.conv2d(last.permute(0, 3, 1, 2), weight, bias)


def folded_unshuffled_convolution(*args: Any) -> tuple[Tensor]:
    """The same in the place of a batch normalization, which gives a tuple."""
    return (unshuffled_convolution(*args),)


def _is_plain_convolution(node: Any) -> bool:
    if not isinstance(node, fx.Node) or node.op != "call_function" or op_name(node) != "conv2d":
        return False
    weights = [node.args[1], argument(node, "bias")]
    return all(w is None or (isinstance(w, fx.Node) and w.op == "get_attr") for w in weights)


def _constants(module: fx.GraphModule, nodes: Any) -> list[Tensor] | None:
    if not all(isinstance(n, fx.Node) and n.op == "get_attr" for n in nodes):
        return None
    return [getattr(module, str(n.target)) for n in nodes]
