"""Edits: exchanging what an operation does, in a private copy of the graph.

A backward rule is an edit, independent of both engines, and so is an exact rewrite. An edit
changes ``target`` and ``args`` of nodes in place and keeps their names, so that every address
means the same before and after. Functional, in-place and re-used ReLUs are all nodes here, and so
are all reached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.network.layout import op_name


def replace(name: str, function: Callable[..., Any]) -> Callable[[fx.GraphModule], None]:
    """The edit that exchanges every operation called ``name`` for ``function`` (same arguments)."""

    def edit(module: fx.GraphModule) -> None:
        for node in module.graph.nodes:
            if node.op == "call_function" and op_name(node) == name:
                node.target = function

    return edit


class _RedirectedReLU(torch.autograd.Function):
    """ReLU whose gradient passes where it would be blocked and the unit is asked to rise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.relu()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,), (grad,) = ctx.saved_tensors, grads
        blocked = torch.where((x > 0) | (grad > 0), grad, torch.zeros_like(grad))
        passed = torch.where(x > 0, grad, torch.zeros_like(grad))
        alive = passed.flatten(1).ne(0).any(1).view(-1, *[1] * (x.ndim - 1))
        return torch.where(alive, passed, blocked)


def redirected_relu(x: Tensor) -> Tensor:
    """ReLU with redirected gradients: an image that gets no gradient through it gets the rising part.

    Where a unit is dead, its ReLU blocks the gradient and ascent stands still (a gray picture).
    For those images of the batch, and for them alone, the gradient that asks the unit to rise is
    let through. After Olah, Mordvintsev and Schubert, "Feature visualization", 2017.
    """
    return _RedirectedReLU.apply(x)  # type: ignore[return-value]


redirect_relus = replace("relu", redirected_relu)
"""The edit for the first steps of an ascent: see :func:`redirected_relu`."""


def local_response_norm(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Local response normalization as a banded 1x1 convolution and a power.

    ``x / (k + alpha * mean of x^2 over size neighboring channels) ** beta``, the same formula as
    ``torch.nn.LocalResponseNorm``, several times faster, and in bfloat16 too (the power in float32).
    """
    channels = x.shape[1]
    index = torch.arange(channels, device=x.device)
    offset = index[None, :] - index[:, None]
    band = ((offset >= -(size // 2)) & (offset <= (size - 1) // 2)).to(x.dtype) / size
    mean = F.conv2d(x * x, band[:, :, None, None])
    wide = mean if mean.dtype in (torch.float32, torch.float64) else mean.float()
    return x * torch.exp(torch.log(wide * alpha + k) * -beta).to(x.dtype)


def rewrite_local_response_norm(module: fx.GraphModule) -> None:
    """Exchanges the average pooling over channels that PyTorch uses for :func:`local_response_norm`.

    Agrees with it to rounding (2e-7 in float32).
    """
    for node in list(module.graph.nodes):
        match = _match_normalization(node) if node.op == "call_function" and op_name(node) == "div" else None
        if match is not None:
            node.target, node.args = local_response_norm, (node.args[0], *match)


def _match_normalization(div: fx.Node) -> tuple[int, float, float, float] | None:
    """The parameters (size, alpha, beta, k), where ``div`` ends a local response normalization."""
    chain = {"pow": 0.0, "add": 0.0, "mul": 0.0}
    node: Any = div.args[1]
    for name in chain:
        if not isinstance(node, fx.Node) or op_name(node) != name or not isinstance(node.args[1], (int, float)):
            return None
        chain[name], node = float(node.args[1]), node.args[0]
    while isinstance(node, fx.Node) and op_name(node) in {"view", "squeeze"}:
        node = node.args[0]
    if not isinstance(node, fx.Node) or op_name(node) != "avg_pool3d":
        return None
    size: Any = node.args[1]
    square = _square_behind(node)
    if square is None or square.args[0] is not div.args[0] or list(size[1:]) != [1, 1]:
        return None
    return int(size[0]), chain["mul"], chain["pow"], chain["add"]


def _square_behind(node: fx.Node) -> fx.Node | None:
    behind: Any = node.args[0]
    while isinstance(behind, fx.Node) and op_name(behind) in {"pad", "constant_pad_nd", "view", "unsqueeze"}:
        behind = behind.args[0]
    if isinstance(behind, fx.Node) and op_name(behind) == "mul" and behind.args[0] is behind.args[1]:
        return behind
    return None
