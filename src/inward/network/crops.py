"""What a change of an interval of pixels changes behind an operation, and how operations run on crops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx
from torch.nn import functional as F

from inward.network.axes import sizes
from inward.network.layout import op_name
from inward.network.lean import argument_of
from inward.network.operation import argument
from inward.types import Size

Ints: TypeAlias = NDArray[np.int64]
_SHAPE = "inward.shape_of_one"
# A convolution of so few positions with so few weights is one product of matrices.
_FEW_PLACES, _FEW_WEIGHTS = 16, 2**16


@dataclass(frozen=True, eq=False)
class Lines:
    """The positions along one axis that each of several intervals of pixels changes: from ``low`` to before ``high``.

    Crops hold ``count`` positions from ``first`` on, the same number for all; more of them than were changed
    is no error, since the further ones are computed to be what they were.
    """

    low: Ints
    high: Ints
    size: int

    @cached_property
    def count(self) -> int:
        return max(1, int((self.high - self.low).max()))

    @cached_property
    def first(self) -> Ints:
        return np.minimum(self.low, self.size - self.count)

    def seen(self, kernel: int, stride: int, padding: int, size: int) -> Lines:
        """What changes behind a sliding window over these positions, of which there are then ``size``."""
        low = -((kernel - 1 - padding - self.low) // stride)
        high = (self.high - 1 + padding) // stride + 1
        low = low.clip(0, size)
        return Lines(low, np.maximum(high.clip(0, size), low), size)

    def joined(self, other: Lines) -> Lines:
        """What changes where either does."""
        return Lines(np.minimum(self.low, other.low), np.maximum(self.high, other.high), self.size)

    def same(self, other: Lines) -> bool:
        """Whether the crops are the same ones."""
        return self.count == other.count and bool((self.first == other.first).all())


@dataclass(frozen=True)
class Slide:
    """An operation over windows: how they lie along rows and columns, what lies outside, and itself without padding."""

    kernel: Size
    stride: Size
    padding: Size
    outside: float
    run: Callable[[Tensor, Size], Any]


def shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of what an operation gives, for a batch of one; of several tensors, of the first."""
    # Kept, for it is asked again and again, and answered by symbolic algebra.
    if _SHAPE not in node.meta:
        held = node.meta.get("val")
        held = held[0] if isinstance(held, (tuple, list)) and held else held
        node.meta[_SHAPE] = sizes(held, 1) if isinstance(held, Tensor) else ()
    return node.meta[_SHAPE]


def constant(module: fx.GraphModule, node: Any) -> Tensor:
    """A weight of the graph. Raises TypeError for what is computed."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        raise TypeError("not a weight")
    return getattr(module, str(node.target))


def is_getitem(node: fx.Node) -> bool:
    """Whether this is one of several results of the operation before."""
    return getattr(node.target, "__name__", "") == "getitem"


def is_sliding(node: fx.Node) -> bool:
    """Whether there is a rule for this operation over windows."""
    return node.op == "call_function" and op_name(node) in SLIDES and not is_getitem(node)


def keeps_apart(module: fx.GraphModule, node: fx.Node, sources: list[fx.Node]) -> bool:
    """Whether every position of the result is made of the same position of the sources alone."""
    if any(shape(s)[2:] != shape(node)[2:] for s in sources):
        return False
    name = op_name(node)
    if is_getitem(node):
        return True
    if name == "cat":
        return argument(node, "dim", 0) in (1, -3)
    if name == "batch_norm":
        return "no_training" in getattr(node.target, "__name__", "")
    if name in _APART:
        return True
    held = [constant(module, n) for n in node.all_input_nodes if n not in sources]
    # What is not the same at all places would have to be cut, too.
    return torch.Tag.pointwise in getattr(node.target, "tags", ()) and all(t.shape[-2:].numel() == 1 for t in held)


_APART = {"clone", "contiguous", "detach", "alias", "channels_last", "local_response_norm", "stop_gradient"}
# Elementwise, though torch does not tag them so.
_APART |= {"prelu", "hardswish", "log_sigmoid"}


def _convolution(module: fx.GraphModule, node: fx.Node) -> Slide | None:
    folded = op_name(node).startswith("folded_")
    given = argument(node, "bias") if op_name(node) == "conv2d" else node.args[2]
    weight, bias = constant(module, node.args[1]), None if given is None else constant(module, given)
    stride, padding, dilation, groups = (argument_of(node, i) for i in range(4))
    if isinstance(padding, str) or weight.ndim != 4:
        return None
    step, apart = _pair(stride), _pair(dilation)

    product = _Product(weight, bias, step) if groups == 1 and apart == (1, 1) else None

    def run(x: Tensor, extent: Size) -> Any:
        if product is not None and extent[0] * extent[1] <= _FEW_PLACES and weight.numel() <= _FEW_WEIGHTS:
            made = product(x)
        else:
            made = torch.conv2d(x, weight, bias, step, 0, apart, groups)
        return (made,) if folded else made

    return Slide(_extent(_pair(weight.shape[2:]), apart), step, _pair(padding), 0.0, run)


class _Product:
    """A convolution as one product of matrices: on crops of a few positions, twice as fast as ``conv2d``."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: Size) -> None:
        self._weight, self._bias, self._stride = weight, bias, stride

    @cached_property
    def _first(self) -> Tensor:
        return self._weight.flatten(1).T.contiguous()

    @cached_property
    def _last(self) -> Tensor:
        return self._weight.permute(0, 2, 3, 1).flatten(1).T.contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """Of crops (N, C, h, w) without padding."""
        (down, across), (height, width) = self._stride, self._weight.shape[2:]
        # (N, C, rows, columns, kernel rows, kernel columns), and the channels where they lie in memory.
        windows = x.unfold(2, height, down).unfold(3, width, across)
        last = x.stride(1) == 1 and x.shape[1] > 1
        count, _, rows, columns = windows.shape[:4]
        order = (0, 2, 3, 4, 5, 1) if last else (0, 2, 3, 1, 4, 5)
        weight = self._last if last else self._first
        flat = windows.permute(*order).reshape(count * rows * columns, len(weight))
        made = flat @ weight if self._bias is None else torch.addmm(self._bias, flat, weight)
        return made.view(count, rows, columns, -1).permute(0, 3, 1, 2)


def _max_pool(_: fx.GraphModule, node: fx.Node) -> Slide:
    kernel, apart = _pair(argument(node, "kernel_size")), _pair(argument(node, "dilation", 1))
    step, padding = _pair(argument(node, "stride") or kernel), _pair(argument(node, "padding", 0))
    return Slide(_extent(kernel, apart), step, padding, -math.inf, lambda x, _: F.max_pool2d(x, kernel, step, 0, apart))


def _mean_pool(_: fx.GraphModule, node: fx.Node) -> Slide | None:
    kernel, padding = _pair(argument(node, "kernel_size")), _pair(argument(node, "padding", 0))
    step, divisor = _pair(argument(node, "stride") or kernel), argument(node, "divisor_override")
    if argument(node, "ceil_mode", False) or (any(padding) and not argument(node, "count_include_pad", True)):
        # Its windows at the edges divide by less.
        return None
    return Slide(kernel, step, padding, 0.0, lambda x, _: F.avg_pool2d(x, kernel, step, divisor_override=divisor))


SLIDES: dict[str, Callable[[fx.GraphModule, fx.Node], Slide | None]] = {
    **dict.fromkeys(
        ("conv2d", "folded_convolution", "strided_convolution", "folded_strided_convolution"), _convolution
    ),
    "max_pool2d": _max_pool,
    "avg_pool2d": _mean_pool,
}


def _extent(kernel: Size, dilation: Size) -> Size:
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def _pair(value: Any) -> Size:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
