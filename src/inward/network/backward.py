"""Backward rules that let only the rising part of a gradient through ReLUs: guided, and deconvnet.

Edits of the graph, so that a ReLU counts whether it is a module, a function, in place, or used
again. ReLU's kin are what gives nothing below 0 and passes what is above: ReLU6, and a clamp, a
maximum, a threshold or a hardtanh at 0. Every value stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from inward.network.edit import _edge, _is_zero
from inward.network.graph import Graph
from inward.network.layout import op_name

# Activations that are no ReLU: no rule of theirs is known, and they keep their own gradient.
_OTHERS = {
    *("celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid"),
    *("mish", "prelu", "prelu_kernel", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink", "tanh"),
    "threshold",
}


class _Rising(torch.autograd.Function):
    """An activation that hands the positive part of the gradient on: through its own slope, or past it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], gated: bool) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function, ctx.gated = function, gated
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), rising = ctx.saved_tensors, grads[0].clamp_min(0)
        if not ctx.gated:
            return rising, None, None
        with torch.enable_grad():
            again = x.detach().requires_grad_(True)
            (passed,) = torch.autograd.grad(ctx.function(again), again, rising)
        return passed, None, None


def guide_relus(module: fx.GraphModule) -> None:
    """The edit for guided backpropagation: ``dx = (x > 0) max(dy, 0)`` at every ReLU.

    Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for simplicity: the all convolutional
    net", 2014.
    """
    _exchange(module, gated=True)


def deconvolve_relus(module: fx.GraphModule) -> None:
    """The edit for the deconvnet: ``dx = max(dy, 0)`` at every ReLU, whatever its input was.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013.
    """
    _exchange(module, gated=False)


def _exchange(module: fx.GraphModule, gated: bool) -> None:
    for node in module.graph.nodes:
        if is_relu(node, module):
            if op_name(node) == "maximum" and not _is_zero(node.args[1], module):
                node.args = node.args[::-1]
            node.target = _rising(node.target, gated, op_name(node))


def _rising(function: Callable[..., Tensor], gated: bool, name: str) -> Callable[..., Tensor]:
    def rising(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return _Rising.apply(x, lambda y: function(y, *args, **options), gated)  # type: ignore[return-value]

    rising.__name__ = f"{'guided' if gated else 'deconvolved'}_{name}"
    return rising


def is_relu(node: fx.Node, module: fx.GraphModule) -> bool:
    """Whether an operation is a ReLU or one of its kin (hardswish, which falls before it rises, is none)."""
    return _edge(node, module) == 0.0


def other_activations(nodes: Iterable[fx.Node], module: fx.GraphModule) -> int:
    """How many of these operations are activations but no ReLU, or functions with a backward pass of their own."""
    calls = [n for n in nodes if n.op == "call_function" and not is_relu(n, module)]
    return sum(op_name(n) in _OTHERS or hasattr(n.target, "single_output") for n in calls)


def on_the_way(graph: Graph, ends: Sequence[str], start: str | None = None) -> set[fx.Node]:
    """The nodes between ``start``, by default the image, and ``ends``: they depend on it, and the ends on them."""
    behind: set[fx.Node] = set()
    for node in graph.module.graph.nodes:
        begins = (n.op == "placeholder" if start is None else n.name == start for n in node.all_input_nodes)
        if any(begins) or any(n in behind for n in node.all_input_nodes):
            behind.add(node)
    return graph.needed(ends) & behind
