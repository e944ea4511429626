"""An edit that closes pictures into a torus: what lies beyond an edge is what begins at the opposite one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, fx
from torch.nn import functional as F

from inward.errors import CallError
from inward.network.layout import op_name

_PADS = {"pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"}


def circular(module: fx.GraphModule) -> None:
    """The edit by which convolutions and poolings look around the edges: a grid of H becomes one of H / stride.

    Shifting a picture by a whole stride then shifts the features, and nothing else (where no operation knows of
    places by itself, as position embeddings do).

    Raises CallError for a network that pads pictures by an operation of its own.
    """
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        name = op_name(node)
        if name in _PADS and any(node.args[1][:4]):
            raise CallError(f"this network pads pictures by an operation of its own ({node.name}), which is not closed")
        if name in _CLOSED:
            node.target = _CLOSED[name]


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    found = [value] if isinstance(value, int) else list(value)
    return found[0], found[-1]


def _closed(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """With as much of the other side at each edge as windows reach over it."""
    margins: list[int] = []
    for axis in (1, 0):
        length = x.shape[2 + axis]
        if length % stride[axis]:
            raise CallError(
                f"a picture without seams is a whole number of strides large, and {length} positions are no multiple "
                f"of {stride[axis]}; give a size that is"
            )
        margins += [padding[axis], max(0, kernel[axis] - stride[axis] - padding[axis])]
        if max(margins[-2:]) > length:
            raise CallError(
                f"a window reaches around a grid of {length} positions more than once; give a larger --size"
            )
    return F.pad(x, margins, mode="circular") if any(margins) else x


def _closed_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    steps, spread = _pair(stride), _pair(dilation)
    reach = [(n - 1) * d + 1 for n, d in zip(weight.shape[2:], spread, strict=True)]
    if isinstance(padding, str):
        padding = [(n - 1) // 2 if padding == "same" else 0 for n in reach]
    return F.conv2d(_closed(x, reach, steps, _pair(padding)), weight, bias, steps, 0, spread, groups)


def _closed_max_pool2d(
    x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, *_: Any
) -> Tensor:
    size, spread = _pair(kernel), _pair(dilation)
    steps = _pair(stride) if stride else size
    reach = [(n - 1) * d + 1 for n, d in zip(size, spread, strict=True)]
    return F.max_pool2d(_closed(x, reach, steps, _pair(padding)), size, steps, 0, spread)


def _closed_avg_pool2d(x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0, *_: Any) -> Tensor:
    size = _pair(kernel)
    steps = _pair(stride) if stride else size
    return F.avg_pool2d(_closed(x, size, steps, _pair(padding)), size, steps)


_CLOSED: dict[str, Callable[..., Tensor]] = {
    "conv2d": _closed_conv2d,
    "max_pool2d": _closed_max_pool2d,
    "avg_pool2d": _closed_avg_pool2d,
}
