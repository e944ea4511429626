"""Edits: exchanging what an operation does, in a private copy of the graph.

A backward rule is an edit, independent of both engines, and so is an exact rewrite. An edit
changes ``target`` and ``args`` of nodes in place and keeps their names, so that every address
means the same before and after. Functional, in-place and re-used ReLUs are all nodes here, and so
are all reached.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from inward.network.graph import Graph
from inward.network.hooks import HookGraph
from inward.network.layout import PRIME, op_name, sizes
from inward.network.normalization import local_response_norm


def replace(name: str, function: Callable[..., Any]) -> Callable[[fx.GraphModule], None]:
    """The edit that exchanges every operation called ``name`` for ``function`` (same arguments)."""

    def edit(module: fx.GraphModule) -> None:
        for node in module.graph.nodes:
            if node.op == "call_function" and op_name(node) == name:
                node.target = function

    return edit


class _Redirected(torch.autograd.Function):
    """An activation whose gradient passes where it would be blocked and the unit is asked to rise."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor], edge: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function, ctx.edge = function, edge
        return function(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,), (grad,) = ctx.saved_tensors, grads
        with torch.enable_grad():
            again = x.detach().requires_grad_(True)
            (passed,) = torch.autograd.grad(ctx.function(again), again, grad)
        rising = torch.where((x <= ctx.edge) & (grad > 0), grad, passed)
        moves = (passed != 0) & (x >= ctx.edge)
        alive = moves.flatten(1).any(1).view(-1, *[1] * (x.ndim - 1))
        return torch.where(alive, passed, rising), None, None


def redirected_relu(x: Tensor) -> Tensor:
    """ReLU with redirected gradients: an image that gets no gradient through it gets the rising part.

    Where a unit is dead, its ReLU blocks the gradient and ascent stands still (a gray picture).
    For those images of the batch, and for them alone, the gradient that asks the unit to rise is
    let through. After Olah, Mordvintsev and Schubert, "Feature visualization", 2017.
    """
    return _Redirected.apply(x, torch.relu, 0.0)  # type: ignore[return-value]


def redirect_relus(module: fx.GraphModule) -> None:
    """The edit for the first steps of an ascent: :func:`redirected_relu` for every ReLU and its kin.

    Those are the activations that give nothing below an edge: ReLU6 (a hardtanh from 0), a clamp, a
    maximum or a threshold at 0, hardswish. Their values stay as they are; nothing is let through
    above an upper edge.
    """
    for node in module.graph.nodes:
        edge = _edge(node, module)
        if edge is not None:
            if op_name(node) == "maximum" and not _is_zero(node.args[1], module):
                node.args = node.args[::-1]
            node.target = _redirecting(node.target, edge, op_name(node))


def redirectable(graph: Graph | HookGraph) -> bool:
    """Whether there is any operation that :func:`redirect_relus` changes."""
    return isinstance(graph, Graph) and any(_edge(n, graph.module) is not None for n in graph.module.graph.nodes)


def _redirecting(function: Callable[..., Tensor], edge: float, name: str) -> Callable[..., Tensor]:
    def redirected(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return _Redirected.apply(x, lambda y: function(y, *args, **options), edge)  # type: ignore[return-value]

    redirected.__name__ = f"redirected_{name}"
    return redirected


def _edge(node: fx.Node, module: fx.GraphModule) -> float | None:
    """Below which input an activation gives nothing; None for every other operation."""
    name = op_name(node) if node.op == "call_function" else ""
    if name in {"relu", "relu6"}:
        return 0.0
    if name == "hardswish":
        # Its slope is negative from -3 to -1.5: there, too, the way up is blocked.
        return -1.5
    if name in {"hardtanh", "clamp", "clamp_min", "threshold"}:
        names = {"hardtanh": "min_val", "threshold": "threshold"}
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get(names.get(name, "min"))
        return 0.0 if _is_zero(low, module) else None
    return 0.0 if name == "maximum" and any(_is_zero(a, module) for a in node.args) else None


def _is_zero(value: Any, module: fx.GraphModule) -> bool:
    if not isinstance(value, fx.Node):
        return isinstance(value, (int, float)) and value == 0
    if value.op == "get_attr":
        tensor = getattr(module, str(value.target))
        return isinstance(tensor, Tensor) and not value.meta.get("inward_parameter") and not bool(tensor.any())
    name = op_name(value) if value.op == "call_function" else ""
    if name in {"clone", "alias", "lift_fresh_copy", "detach", "stop_gradient", "expand", "to"}:
        return _is_zero(value.args[0], module)
    filled = name in {"full", "full_like", "scalar_tensor"}
    return name in {"zeros", "zeros_like"} or (filled and _is_zero(value.args[-1], module))


def hold(module: fx.GraphModule, before: fx.Node, value: Tensor) -> fx.Node:
    """A new constant of the graph, for the node ``before``."""
    name = next(n for n in (f"held_{i}" for i in itertools.count()) if not hasattr(module, n))
    module.register_buffer(name, value.detach())
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node


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
    x, pool = div.args[0], _behind(node, {"view", "squeeze"})
    size = _pooled_channels(pool)
    pad: Any = pool.args[0] if size is not None else None
    if div.kwargs or size is None or not isinstance(x, fx.Node) or not _pads(pad, size) or not _same_shape(node, x):
        return None
    square = _behind(pad.args[0], {"view", "unsqueeze"})
    if not isinstance(square, fx.Node) or op_name(square) != "mul" or square.args[:2] != (x, x):
        return None
    # The window must lie along the channels: (N, 1, C, ...), as the image's own order has it.
    shapes = [sizes(n.meta["val"], PRIME) for n in (pad.args[0], x)]
    along = len(shapes[0]) == 5 and len(shapes[1]) == 4 and shapes[0][:3] == (PRIME, 1, shapes[1][1])
    return (size, chain["mul"], chain["pow"], chain["add"]) if along else None


def _behind(node: Any, names: set[str]) -> Any:
    while isinstance(node, fx.Node) and node.op == "call_function" and op_name(node) in names:
        node = node.args[0]
    return node


def _pooled_channels(pool: Any) -> int | None:
    """How many channels an average pooling takes together, one place and one step at a time."""
    if not isinstance(pool, fx.Node) or pool.op != "call_function" or op_name(pool) != "avg_pool3d":
        return None
    usual: list[Any] = [[], [0, 0, 0], False, True, None]
    size: Any = pool.args[1]
    stride, padding, ceil, _, divisor = [*pool.args[2:], *usual[len(pool.args) - 2 :]]
    plain = list(stride) in ([1], [1, 1, 1]) and not any(padding) and not ceil and divisor is None
    return int(size[0]) if plain and not pool.kwargs and len(size) == 3 and list(size[1:]) == [1, 1] else None


def _pads(pad: Any, size: int) -> bool:
    """Whether a node pads with the zeros that PyTorch's normalization does, more of them in front."""
    if not isinstance(pad, fx.Node) or pad.op != "call_function" or op_name(pad) not in {"pad", "constant_pad_nd"}:
        return False
    rest: list[Any] = [v for v in (*pad.args[2:], *pad.kwargs.values()) if v != "constant" and v is not None]
    amounts: Any = pad.args[1]
    return list(amounts) == [0, 0, 0, 0, size // 2, (size - 1) // 2] and not any(rest)


def _same_shape(node: fx.Node, other: fx.Node) -> bool:
    return sizes(node.meta["val"], PRIME) == sizes(other.meta["val"], PRIME)
