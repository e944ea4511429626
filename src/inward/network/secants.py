"""Secants: multipliers that carry a difference exactly, where a gradient carries it for small steps only.

An operation ``y = f(x)`` is met with two inputs, ``x`` and its reference ``x0``. What is handed back
for ``dy`` is ``M^T dy`` with a matrix of multipliers for which ``M (x - x0) = f(x) - f(x0)`` to
rounding: the rescale rule of Shrikumar, Greenside and Kundaje, "Learning important features through
propagating activation differences", 2017, and what follows from it for operations of several numbers.
By the chain rule of multipliers, the contributions of all inputs of a network then add up to the
difference of its output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Units in the last place by which a function may miss its true value (GELU near -3 misses it by more).
_ULPS = 4


@dataclass(frozen=True)
class Pair:
    """A tensor that carries multipliers, and its reference, which is constant."""

    value: Tensor
    reference: Tensor

    def linear(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """Both, through a function that is linear but for a constant: its gradient is exact."""
        return Pair(function(self.value), function(self.reference))

    def rescaled(self, function: Callable[[Tensor], Tensor]) -> Pair:
        """Both, through a function of each number by itself."""
        return Pair(elementwise(function, self.value, self.reference), function(self.reference))


class _Elementwise(torch.autograd.Function):
    """``m = (f(x) - f(x0)) / (x - x0)``, number by number."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x, x0)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, x0 = ctx.saved_tensors
        # A constant argument may be larger than x.
        wide, wide0 = x.expand_as(grads[0]), x0.expand_as(grads[0])
        return (grads[0] * quotient(ctx.function, wide, wide0)).sum_to_size(x.shape), None, None


def elementwise(function: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor) -> Tensor:
    """``function(x)``, of each number by itself, with the rescale rule."""
    return _Elementwise.apply(x, x0, function)  # type: ignore[return-value]


def quotient(function: Callable[[Tensor], Tensor], x: Tensor, x0: Tensor) -> Tensor:
    """The difference quotient of a function of each number, or its slope half way where the two cannot be told apart.

    The difference of two values is wrong by some units in their last place, which divided by a small
    ``x - x0`` is anything at all. The slope half way is wrong by the third order of ``x - x0``
    only. So where the quotient is the slope to within its own rounding error, the slope is taken;
    nothing is lost by it, since the two then carry the same difference to rounding. At a bend,
    as of a ReLU, they differ, and the quotient stands, however small the difference.
    """
    y, y0, slope = function(x), function(x0), _slope(function, (x + x0) / 2)
    same = x == x0
    step = torch.where(same, torch.ones_like(x), x - x0)
    found = (y - y0) / step
    doubt = _ULPS * torch.finfo(x.dtype).eps * torch.maximum(y.abs(), y0.abs()) / step.abs()
    # Where x stays as it is and the slope is infinite (a root at 0), there is nothing to carry.
    still = torch.where(slope.isfinite(), slope, torch.zeros_like(slope))
    return torch.where(same, still, torch.where((found - slope).abs() <= doubt, slope, found))


def _slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.enable_grad():
        middle = x.detach().requires_grad_(True)
        y = function(middle)
        return torch.autograd.grad(y.sum(), middle)[0] if y.requires_grad else torch.zeros_like(x)


class _Product(torch.autograd.Function):
    """``f(a, b) - f(a0, b0) = f(a - a0, (b + b0) / 2) + f((a + a0) / 2, b - b0)``: the gradient half way."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], count: int, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.function, ctx.count = function, count
        return function(*tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        values, references = ctx.saved_tensors[: ctx.count], ctx.saved_tensors[ctx.count :]
        with torch.enable_grad():
            middle = [((a + b) / 2).detach().requires_grad_(True) for a, b in zip(values, references, strict=True)]
            found = torch.autograd.grad(ctx.function(*middle), middle, grads[0])
        return None, None, *found, *[None] * ctx.count


def product(function: Callable[..., Tensor], *pairs: Pair) -> Tensor:
    """A function of the second degree in all its arguments together: products, sums of products."""
    tensors = [*(p.value for p in pairs), *(p.reference for p in pairs)]
    return _Product.apply(function, len(pairs), *tensors)  # type: ignore[return-value]


class _Largest(torch.autograd.Function):
    """The largest of windows along the last axis.

    What it rises by belongs to the input that is the largest now, what it falls by to the one that
    was; neither of them can have changed by less. An input that did not change gets the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, index: Tensor, index0: Tensor) -> Tensor:
        ctx.save_for_backward(x, x0, index, index0)
        return x.gather(-1, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, x0, index, index0 = ctx.saved_tensors
        y, y0 = x.gather(-1, index), x0.gather(-1, index0)
        top = torch.maximum(y, y0)
        # Windows overlap, and one input can be the largest of several.
        moved = torch.zeros_like(x).scatter_add_(-1, index, grads[0] * (top - y0))
        moved.scatter_add_(-1, index0, grads[0] * (y - top))
        plain = torch.zeros_like(x).scatter_add_(-1, index, grads[0])
        same = x == x0
        return torch.where(same, plain, moved / torch.where(same, torch.ones_like(x), x - x0)), None, None, None


def largest(pair: Pair, find: Callable[[Tensor], Tensor], axes: int) -> Tensor:
    """The largest of windows of the last ``axes`` axes; ``find`` gives their places in these, flattened."""
    with torch.no_grad():
        index, index0 = find(pair.value), find(pair.reference)
    flat = [t.flatten(-axes) for t in (pair.value, pair.reference, index, index0)]
    return _Largest.apply(*flat).view(index.shape)  # type: ignore[attr-defined, no-any-return]


def largest_along(pair: Pair, dims: Sequence[int], keepdim: bool = False) -> Tensor:
    """The largest along some axes, taken together."""
    along = sorted(dim % pair.value.ndim for dim in dims)
    last = list(range(-len(along), 0))
    moved = pair.linear(lambda t: t.movedim(along, last).flatten(-len(along)))
    found = largest(moved, lambda t: t.argmax(-1, keepdim=True), 1).squeeze(-1)
    for dim in along if keepdim else ():
        found = found.unsqueeze(dim)
    return found


class _LogSoftmax(torch.autograd.Function):
    """``d log sum exp x = sum_i L_i dx_i / sum_i L_i``, with ``L_i`` the logarithmic mean of y_i and y0_i.

    Of ``u = log softmax x``: ``y_i - y0_i = L_i (u_i - u0_i)`` by the definition of that mean, and
    ``u_i - u0_i = dx_i - d log sum exp x``; both y and y0 add up to 1, so that the sum over i is 0.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, x0: Tensor, dim: int) -> Tensor:
        u = x.log_softmax(dim)
        ctx.save_for_backward(u, x0)
        ctx.dim = dim
        return u

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        u, x0 = ctx.saved_tensors
        u0 = x0.log_softmax(ctx.dim)
        # (y - y0) / (u - u0) without a difference of neighbors; where both are exp(-inf), nothing.
        apart = torch.where(u == u0, torch.zeros_like(u), (u - u0).abs())
        share = torch.where(apart == 0, torch.ones_like(u), -torch.expm1(-apart) / apart)
        mean = torch.maximum(u, u0).exp() * share
        total = grads[0].sum(ctx.dim, keepdim=True)
        return grads[0] - mean * (total / mean.sum(ctx.dim, keepdim=True)), None, None


def log_softmax(pair: Pair, dim: int) -> Pair:
    """The logarithm of the softmax along an axis."""
    made = _LogSoftmax.apply(pair.value, pair.reference, dim)
    return Pair(made, pair.reference.log_softmax(dim))  # type: ignore[arg-type]


def softmax(pair: Pair, dim: int) -> Pair:
    """The softmax along an axis."""
    return log_softmax(pair, dim).rescaled(torch.exp)


def divided(above: Pair, below: Pair) -> Tensor:
    """A quotient, as a product with the reciprocal."""
    return product(torch.mul, above, below.rescaled(torch.reciprocal))


def standardized(pair: Pair, dims: Sequence[int], eps: float, *, centered: bool = True) -> Tensor:
    """Values less their mean over some axes, divided by their deviation over these, ``sqrt(mean square + eps)``."""
    dims = list(dims)
    apart = pair.linear(lambda t: t - t.mean(dims, keepdim=True)) if centered else pair
    square = apart.rescaled(torch.square).linear(lambda t: t.mean(dims, keepdim=True))
    return product(torch.mul, apart, square.rescaled(lambda t: (t + eps).rsqrt()))


def attention(query: Pair, key: Pair, value: Pair, scale: float, bias: Tensor | None) -> Tensor:
    """``softmax(scale query key^T + bias) value``, the bias constant."""
    keys = key.linear(lambda t: t.transpose(-2, -1))
    scores = Pair(product(torch.matmul, query, keys), torch.matmul(query.reference, keys.reference))
    scores = scores.linear(lambda t: t * scale if bias is None else t * scale + bias)
    return product(torch.matmul, softmax(scores, -1), value)


def local_response_norm(pair: Pair, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """``x (k + alpha mean of x^2 over neighboring channels) ^ -beta``, of (N, C, H, W)."""

    def neighbors(square: Tensor) -> Tensor:
        padded = F.pad(square.unsqueeze(1), (0, 0, 0, 0, size // 2, (size - 1) // 2))
        return F.avg_pool3d(padded, (size, 1, 1), stride=1).squeeze(1)

    square = pair.rescaled(torch.square).linear(neighbors)
    return product(torch.mul, pair, square.rescaled(lambda t: (k + alpha * t) ** -beta))
