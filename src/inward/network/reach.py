"""How the pixels that reach a tensor travel through the operations: one rule a family.

An operation without a rule gives every value all that its inputs see: too much perhaps, never too little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.network.graph import Graph, ancestors
from inward.network.layout import op_name
from inward.network.operation import argument, shape_of
from inward.network.spans import Span, hull, pixels, strided, union
from inward.types import Size

Reach: TypeAlias = tuple[Span, Span]
"""Rows and columns."""


@dataclass(frozen=True)
class _Op:
    """One tensor that an operation gives."""

    node: fx.Node
    name: str
    index: int
    shape: tuple[int, ...]
    known: dict[fx.Node, Reach]

    def argument(self, name: str, default: Any = None) -> Any:
        return argument(self.node, name, default)

    @property
    def source_shape(self) -> tuple[int, ...]:
        return shape_of(self.node.args[0])

    @property
    def source(self) -> Reach:
        """That of the first argument, the only one that depends on the image; KeyError where there are others."""
        (only,) = {n for n in self.node.all_input_nodes if n in self.known}
        if only is not self.node.args[0]:
            raise KeyError(only)
        return self.known[only]

    def dims(self, name: str) -> list[int]:
        """Axes of the source counted from the front; all of them where none is named."""
        given, rank = self.argument(name), len(self.source_shape)
        return [d % rank for d in ([given] if isinstance(given, int) else given or range(rank))]

    def blank(self) -> Reach:
        """Everything that the inputs see, for every value."""
        inputs = [self.known[n] for n in self.node.all_input_nodes if n in self.known]
        return hull([r for r, _ in inputs]), hull([c for _, c in inputs])


def reaches(graph: Graph, size: Size, ends: Iterable[fx.Node]) -> dict[fx.Node, Reach]:
    """What every tensor that ``ends`` need sees of an image of this size; without those made of weights alone."""
    known: dict[fx.Node, Reach] = {}
    needed = ancestors(ends)
    for node in graph.module.graph.nodes:
        if node.op == "placeholder":
            known[node] = (pixels(size[0], 2), pixels(size[1], 3))
        elif node in needed and isinstance(node.meta.get("val"), Tensor):
            made, index = _made(node)
            if any(n in known for n in made.all_input_nodes):
                known[node] = _reach(_Op(made, op_name(made), index, shape_of(node), known))
    return known


def _made(node: fx.Node) -> tuple[fx.Node, int]:
    """The operation behind one of several tensors, and which of them it is."""
    if getattr(node.target, "__name__", "") == "getitem" and isinstance(node.args[0], fx.Node):
        return node.args[0], node.args[1] if isinstance(node.args[1], int) else 0
    return node, 0


def _reach(op: _Op) -> Reach:
    rule = _RULES.get(op.name)
    if rule is None:
        alike = torch.Tag.pointwise in getattr(op.node.target, "tags", ()) or op.name.startswith("redirected_")
        rule = _pointwise if alike else _Op.blank
    try:
        found = rule(op)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        # An overload whose arguments are not those that the rule was written for.
        return op.blank()
    return found if all(_fits(span, op.shape) for span in found) else op.blank()


def _fits(span: Span, shape: tuple[int, ...]) -> bool:
    return span.axis is None or (0 <= span.axis < len(shape) and shape[span.axis] % (len(span) * span.stride) == 0)


def _pointwise(op: _Op) -> Reach:
    inputs = [n for n in op.node.all_input_nodes if n in op.known]
    shifted = [[_behind(s, len(op.shape) - len(shape_of(n))) for s in op.known[n]] for n in inputs]
    return union([r for r, _ in shifted]), union([c for _, c in shifted])


def _behind(span: Span, more: int) -> Span:
    return span if span.axis is None else replace(span, axis=span.axis + more)


def _each(op: _Op, rule: Callable[[Span, int], Span]) -> Reach:
    """The rule for each span that has an axis, given that axis."""
    found = [span if span.axis is None else rule(span, span.axis) for span in op.source]
    return found[0], found[1]


def _mixing(op: _Op, dims: Iterable[int]) -> Reach:
    """All that lies along some axes comes together."""
    mixed = set(dims)
    return _each(op, lambda span, axis: hull([span]) if axis in mixed else span)


def _sides(op: _Op, name: str, default: Any) -> tuple[int, int]:
    given = op.argument(name, default)
    given = default if given in ([], None) else given
    pair = [given] * 2 if isinstance(given, int) else list(given)
    return pair[0], pair[-1]


def _windows(op: _Op, kernel: tuple[int, int], step: Any, padding: Any, dilation: Any) -> Reach:
    """Convolution and pooling over the last two axes."""
    if len(op.shape) != 4:
        return op.blank()

    def rule(span: Span, axis: int) -> Span:
        if axis not in (2, 3) or not span.fills(op.source_shape, axis):
            return hull([span])
        k, s, p, d = (v[axis - 2] for v in (kernel, step, padding, dilation))
        index = np.arange(op.shape[axis])[:, None] * s - p + d * np.arange(k)[None]
        return span.taken(index, strided(span.steps, -p, s, 1 + d * (k - 1)))

    return _each(op, rule)


def _convolution(op: _Op) -> Reach:
    kernel = shape_of(op.node.args[1])[2:]
    dilation = _sides(op, "dilation", 1)
    if op.argument("transposed", False) or len(kernel) != 2:
        return op.blank()
    given = op.argument("padding", 0)
    if isinstance(given, str):
        # More of an uneven padding lies behind.
        same = (given == "same") * 1
        padding = (same * (dilation[0] * (kernel[0] - 1) // 2), same * (dilation[1] * (kernel[1] - 1) // 2))
    else:
        padding = _sides(op, "padding", 0)
    return _windows(op, (kernel[0], kernel[1]), _sides(op, "stride", 1), padding, dilation)


def _pool(op: _Op) -> Reach:
    kernel = _sides(op, "kernel_size", 1)
    return _windows(op, kernel, _sides(op, "stride", kernel), _sides(op, "padding", 0), _sides(op, "dilation", 1))


def _probed(op: _Op) -> Reach:
    """Interpolation, adaptive pooling, padding with pixels, transposed convolution: run along one axis at a time.

    A picture that is 1 in one row tells who reads that row.
    """

    def rule(span: Span, axis: int) -> Span:
        if axis not in (2, 3) or len(op.source_shape) != 4 or not span.fills(op.source_shape, axis):
            return hull([span])
        other = op.source_shape[5 - axis]
        lit = torch.eye(len(span), dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, other)
        answer = _PROBES.get(op.name, _again)(op, lit if axis == 2 else lit.transpose(2, 3))
        reads = answer.abs().amax(dim=(1, 5 - axis)).T > 0
        most = max(int(reads.sum(1).max()), 1)
        order = reads.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
        return span.taken(torch.where(reads.gather(1, order), order, -1).numpy(), None)

    return _each(op, rule)


def _again(op: _Op, lit: Tensor) -> Tensor:
    target: Any = op.node.target
    found = target(lit, *op.node.args[1:], **op.node.kwargs)
    return found if isinstance(found, Tensor) else found[0]


def _lit_transposed(op: _Op, lit: Tensor) -> Tensor:
    kernel = torch.ones((1, 1, *shape_of(op.node.args[1])[2:]), dtype=lit.dtype)
    names = ("stride", "padding", "output_padding")
    stride, padding, output_padding = (_sides(op, n, int(n == "stride")) for n in names)
    return F.conv_transpose2d(lit, kernel, None, stride, padding, output_padding, dilation=_sides(op, "dilation", 1))


def _adaptive(op: _Op) -> Reach:
    return _mixing(op, (2, 3)) if len(op.shape) == 4 and op.shape[2:] == (1, 1) else _probed(op)


def _pad(op: _Op) -> Reach:
    amounts, rank = op.argument("pad"), len(op.shape)
    if op.argument("mode", "constant") != "constant":
        return _probed(op)

    def rule(span: Span, axis: int) -> Span:
        place = 2 * (rank - 1 - axis)
        before, after = amounts[place : place + 2] or (0, 0)
        if before == after == 0:
            return span
        if not span.fills(op.source_shape, axis):
            return hull([span])
        return span.taken(np.arange(op.shape[axis])[:, None] - before, strided(span.steps, -before, 1, 1))

    return _each(op, rule)


def _reduce(op: _Op) -> Reach:
    gone = op.dims("dim")
    if len(op.shape) == len(op.source_shape):
        return _mixing(op, gone)
    return _each(op, lambda span, axis: span.moved(None if axis in gone else axis - sum(d < axis for d in gone)))


def _along(op: _Op) -> Reach:
    return _mixing(op, op.dims("dim"))


def _linear(op: _Op) -> Reach:
    return _mixing(op, [len(op.source_shape) - 1])


def _product(op: _Op) -> Reach:
    return _linear(op) if len(shape_of(op.node.args[1])) == 2 else op.blank()


def _normalized(op: _Op) -> Reach:
    rank = len(op.source_shape)
    return _mixing(op, range(rank - len(op.argument("normalized_shape")), rank))


def _batch_norm(op: _Op) -> Reach:
    return op.blank() if op.argument("training", False) else _pointwise(op)


def _view(op: _Op) -> Reach:
    """A digit of the flat index stays one: the same count in the same stride."""

    def rule(span: Span, axis: int) -> Span:
        flat = math.prod(op.source_shape[axis + 1 :]) * span.stride
        for new, length in enumerate(op.shape):
            inner = math.prod(op.shape[new + 1 :])
            whole = inner * length
            if flat % inner == 0 and whole % (flat * len(span)) == 0 and len(span) > 1:
                return replace(span, axis=new, stride=flat // inner)
        return replace(span, axis=None) if len(span) == 1 else hull([span])

    return _each(op, rule)


def _permute(op: _Op) -> Reach:
    order = op.dims("dims")
    return _each(op, lambda span, axis: span.moved(order.index(axis)))


def _transpose(op: _Op) -> Reach:
    rank = len(op.shape)
    plain = op.name == "transpose"
    a, b = (d % rank for d in ((op.argument("dim0"), op.argument("dim1")) if plain else (-2, -1)))
    return _each(op, lambda span, axis: span.moved({a: b, b: a}.get(axis, axis)))


def _unsqueeze(op: _Op) -> Reach:
    new = op.argument("dim") % len(op.shape)
    return _each(op, lambda span, axis: span.moved(axis + (axis >= new)))


def _squeeze(op: _Op) -> Reach:
    gone = [d for d in op.dims("dim") if op.source_shape[d] == 1]
    return _each(op, lambda span, axis: span.moved(None if axis in gone else axis - sum(d < axis for d in gone)))


def _select(op: _Op) -> Reach:
    dim = (op.argument("dim", 0) or 0) % len(op.source_shape)
    index = op.index if op.name == "unbind" else op.argument("index")

    def rule(span: Span, axis: int) -> Span:
        if axis != dim:
            return span.moved(axis - (dim < axis))
        if not span.fills(op.source_shape, axis):
            return span.moved(None)
        return span.taken(np.array([[index % len(span)]])).moved(None)

    return _each(op, rule)


def _slice(op: _Op) -> Reach:
    dim = (op.argument("dim", 0) or 0) % len(op.source_shape)
    chosen = slice(op.argument("start"), op.argument("end"), op.argument("step", 1))

    def rule(span: Span, axis: int) -> Span:
        if axis != dim or op.shape[dim] == op.source_shape[dim]:
            return span
        if not span.fills(op.source_shape, axis):
            return hull([span])
        index = np.arange(len(span))[chosen]
        steps = strided(span.steps, int(index[0]), chosen.step, 1)
        return span.taken(index[:, None], steps)

    return _each(op, rule)


def _split(op: _Op) -> Reach:
    return _mixing(op, [(op.argument("dim", 0) or 0) % len(op.source_shape)])


def _cat(op: _Op) -> Reach:
    rank = len(op.shape)
    parts = [n for n in op.node.all_input_nodes if n in op.known]
    if any(len(shape_of(n)) != rank for n in parts):
        return op.blank()
    dim = (op.argument("dim", 0) or 0) % rank
    cut = [[hull([s]) if s.axis == dim else s for s in op.known[n]] for n in parts]
    return union([r for r, _ in cut]), union([c for _, c in cut])


def _named(names: str, rule: Callable[[_Op], Reach]) -> dict[str, Callable[[_Op], Reach]]:
    return dict.fromkeys(names.split(), rule)


_PROBES: dict[str, Callable[[_Op, Tensor], Tensor]] = {"conv_transpose2d": _lit_transposed}
_RULES: dict[str, Callable[[_Op], Reach]] = {
    **_named("clone contiguous to detach alias lift_fresh lift_fresh_copy stop_gradient dropout", _pointwise),
    **_named("feature_dropout alpha_dropout local_response_norm expand expand_as broadcast_to", _pointwise),
    # Elementwise, though torch does not tag them so.
    **_named("hardswish prelu prelu_kernel log_sigmoid log_sigmoid_forward fill", _pointwise),
    **_named("batch_norm cudnn_batch_norm", _batch_norm),
    **_named("conv2d convolution", _convolution),
    **_named("max_pool2d max_pool2d_with_indices avg_pool2d", _pool),
    **_named("interpolate conv_transpose2d reflection_pad2d replication_pad2d", _probed),
    **_named("adaptive_avg_pool2d adaptive_max_pool2d", _adaptive),
    **_named("pad constant_pad_nd", _pad),
    **_named("mean sum amax amin max min prod any all var std var_mean std_mean logsumexp argmax argmin", _reduce),
    **_named("linalg_vector_norm norm median", _reduce),
    **_named("softmax log_softmax safe_softmax glu cumsum", _along),
    "linear": _linear,
    **_named("matmul mm", _product),
    **_named("layer_norm rms_norm fused_rms_norm", _normalized),
    **_named("view reshape flatten unflatten", _view),
    "permute": _permute,
    **_named("transpose t mT numpy_T", _transpose),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    **_named("select unbind", _select),
    "slice": _slice,
    **_named("split split_with_sizes chunk", _split),
    **_named("cat concat concatenate", _cat),
}
