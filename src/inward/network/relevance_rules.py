"""Rules of layer-wise relevance propagation: how an operation divides relevance among what it reads.

Every rule gives an input the relevance ``x dz/dx R / z``, for some sum ``z`` that the input is part of;
what differs is the sum. ``w+`` and ``w-`` are the positive and the negative part. Bach, Binder,
Montavon, Klauschen, Müller and Samek, "On pixel-wise explanations for non-linear classifier decisions
by layer-wise relevance propagation", 2015; Montavon, Binder, Lapuschkin, Samek and Müller,
"Layer-wise relevance propagation: an overview", 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

Map: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A layer as a function of input, weight and bias, linear in input and weight."""
Part: TypeAlias = tuple[Tensor, Tensor, Tensor | None]
"""Input, weight and bias of one summand of a denominator."""

STABILIZER = 1e-6
"""What keeps the denominators of all rules but epsilon away from 0, as in Zennit."""


class Rule(Protocol):
    """How a layer with weights gives relevance to its input."""

    def __call__(self, layer: Map, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        """The relevance of ``x``, in its shape, from that of the output."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """In proportion to ``x w``, over ``z + epsilon sign(z)``; the bias keeps its own share."""

    epsilon: float

    def __call__(self, layer: Map, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        """The relevance of ``x``."""
        return _by_parts(layer, [(x, weight, bias)], relevance, self.epsilon)


@dataclass(frozen=True)
class Gamma:
    """In proportion to ``x (w + gamma w+)``: what speaks for the output counts for more.

    For inputs of both signs, and outputs below 0, in the general form of Andeol et al., "Learning
    domain invariant representations by joint Wasserstein distance minimization", 2021: the share is
    enlarged where ``x w`` has the sign of the output.
    """

    gamma: float

    def __call__(self, layer: Map, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        """The relevance of ``x``."""
        above, below = self._enlarged(weight, 0.0, None), self._enlarged(weight, None, 0.0)
        z = layer(x, weight, bias)
        found = torch.zeros_like(x)
        for sign, same, other, bounds in ((1, above, below, (0.0, None)), (-1, below, above, (None, 0.0))):
            here = torch.where(z * sign > 0, relevance, 0)
            # Behind a ReLU nothing is asked of outputs below 0.
            if here.any():
                offset = None if bias is None else self._enlarged(bias, *bounds)
                parts: list[Part] = [(x.clamp(min=0), same, offset), (x.clamp(max=0), other, None)]
                found = found + _by_parts(layer, parts, here, STABILIZER)
        return found

    def _enlarged(self, value: Tensor, low: float | None, high: float | None) -> Tensor:
        return value + self.gamma * value.clamp(low, high)


@dataclass(frozen=True)
class ZPlus:
    """In proportion to the positive part of ``x w``: alpha 1, beta 0."""

    def __call__(self, layer: Map, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        """The relevance of ``x``."""
        offset = None if bias is None else bias.clamp(min=0)
        parts: list[Part] = [
            (x.clamp(min=0), weight.clamp(min=0), offset),
            (x.clamp(max=0), weight.clamp(max=0), None),
        ]
        return _by_parts(layer, parts, relevance, STABILIZER)


@dataclass(frozen=True, eq=False)
class ZBox:
    """In proportion to ``x w - low w+ - high w-``, for inputs that lie between bounds, of shape (1, C, H, W).

    Montavon, Lapuschkin, Binder, Samek and Müller, "Explaining nonlinear classification decisions
    with deep Taylor decomposition", 2017.
    """

    low: Tensor
    high: Tensor

    def __call__(self, layer: Map, x: Tensor, weight: Tensor, bias: Tensor | None, relevance: Tensor) -> Tensor:
        """The relevance of ``x``; the bias has no part in it."""
        low, high = (-bound.to(x).expand_as(x) for bound in (self.low, self.high))
        parts: list[Part] = [
            (x, weight, None),
            (low, weight.clamp(min=0), None),
            (high, weight.clamp(max=0), None),
        ]
        return _by_parts(layer, parts, relevance, STABILIZER)


def _by_parts(layer: Map, parts: Sequence[Part], relevance: Tensor, epsilon: float) -> Tensor:
    """What the inputs of all parts get together."""
    # Without inputs below 0, as behind a ReLU, half of the work falls away.
    used = [part for part in parts if part[2] is not None or part[0].any()] or list(parts[:1])
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_(True) for x, _, _ in used]
        outputs = [layer(x, weight, bias) for x, (_, weight, bias) in zip(inputs, used, strict=True)]
    return torch.stack(shares(inputs, outputs, relevance, epsilon)).sum(0)


def proportional(function: Callable[..., Tensor], inputs: Sequence[Tensor], relevance: Tensor, epsilon: float) -> Any:
    """What each input of a linear function without weights gets: of a mean, or of a sum of branches."""
    with torch.enable_grad():
        again = [x.detach().requires_grad_(True) for x in inputs]
        output = function(*again)
    return shares(again, [output], relevance, epsilon)


def shares(inputs: Sequence[Tensor], outputs: Sequence[Tensor], relevance: Tensor, epsilon: float) -> list[Tensor]:
    """``x dz/dx R / z`` of each input, for the stabilized sum ``z`` of the outputs."""
    quotient = relevance / stabilized(torch.stack([z.detach() for z in outputs]).sum(0), epsilon)
    gradients = torch.autograd.grad(outputs, inputs, [quotient] * len(outputs))
    return [x.detach() * gradient for x, gradient in zip(inputs, gradients, strict=True)]


def stabilized(z: Tensor, epsilon: float) -> Tensor:
    """``z`` moved away from 0 by ``epsilon``; 0 itself upwards."""
    return torch.where(z < 0, z - epsilon, z + epsilon)


Back: TypeAlias = Callable[[Callable[..., Tensor], tuple[Tensor, ...], Tensor], Sequence[Tensor]]
"""From the function, its inputs and the relevance of its output, the relevance of each input."""


def relevant(function: Callable[..., Tensor], back: Back, inputs: Sequence[Tensor]) -> Tensor:
    """``function(*inputs)``, whose gradient is the relevance."""
    return _Relevance.apply(function, back, *inputs)  # type: ignore[return-value]


class _Relevance(torch.autograd.Function):
    """A function whose backward pass propagates relevance."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], back: Back, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*inputs)
        ctx.function, ctx.back = function, back
        return function(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        return None, None, *ctx.back(ctx.function, ctx.saved_tensors, grads[0])
