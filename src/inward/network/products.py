"""What sums of products do to axes: linear maps, convolutions, attention, sequences.

A weight makes a new axis of features; two activations leave the rows of one and the columns of the
other, so that scores of tokens and tokens have no features at all.
"""

from __future__ import annotations

from typing import Any

from inward.network import axes as ax
from inward.network.axes import Axes, Axis
from inward.network.operation import Operation, shape_of


def normalized(op: Operation) -> Axes:
    """Layer norm over one axis names it, where nothing else holds the features."""
    dims = op.argument("normalized_shape")
    if op.index > 0:
        return op.blank
    named = ax.labels(op.source)
    if len(dims) != 1 or "c" in named or named[-1] != "?":
        return op.source
    return _feature_last(op.source[:-1], op.shape[-1])


def _feature_last(rest: Axes, size: int) -> Axes:
    """A new last axis of features; where the rest has features already, it is not known what it holds."""
    if "c" in ax.labels(rest):
        return (*ax.compact(rest, "yx"), ax.unknown(size))
    return (*ax.compact(_no_features(rest), "yx"), ax.whole("c", size))


def _no_features(axes: Axes) -> Axes:
    return tuple(ax.lost(ax.length(a)) if any(atom.kind == "c" for atom in a) else a for a in axes)


def linear(op: Operation) -> Axes:
    return _feature_last(op.source[:-1], op.shape[-1])


def convolution(op: Operation) -> Axes:
    """Features second; then y and x, in the order that the input has them."""
    source = op.source
    if len(source) != len(op.shape) or len(op.shape) < 3:
        return op.blank
    named = ax.labels(source)
    default = {1: "t", 2: "yx", 3: "?yx"}.get(len(op.shape) - 2, "?" * len(op.shape))
    rest = [source[0]]
    for i, letter in enumerate(default, start=2):
        label = named[i] if named[i] != "?" else letter
        partial = any(a.kind in "yx" for a in source[i]) and op.shape[i] == ax.length(source[i])
        rest.append(source[i] if partial else ax.whole(label, op.shape[i], *_grid_of(source[i], op.shape[i])))
    kept = ax.compact(_no_features(tuple(rest)), "yx")
    return (kept[0], ax.whole("c", op.shape[1]), *kept[1:])


def _grid_of(axis: Axis, size: int) -> tuple[tuple[int, int] | None, int]:
    found = ax.tokens(axis)
    return found if found is not None and size == ax.length(axis) else (None, 0)


def matmul(op: Operation) -> Axes:
    """Rows of the first, columns of the second; scores of tokens and tokens are neither."""
    first: Any = 1 if op.name in {"addmm", "baddbmm"} else 0
    left, right = op.node.args[first : first + 2]
    a, b = op.axes(left), op.axes(right)
    a_shape, b_shape = shape_of(left), shape_of(right)
    if min(len(a_shape), len(b_shape)) < 2:
        return op.blank
    batch = ax.unified([axes[:-2] for axes in (a, b) if axes is not None], op.shape[:-2])
    if b is None and a is not None:
        return _feature_last((*(a[:-2] if len(a_shape) == len(op.shape) else batch), a[-2]), op.shape[-1])
    if a is None and b is not None:
        # Weights from the left mix the second last axis.
        turned = _feature_last((*batch, b[-1]), op.shape[-2])
        return (*turned[:-2], turned[-1], turned[-2])
    return (*batch, a[-2], b[-1]) if a is not None and b is not None else op.blank


def attention(op: Operation) -> Axes:
    """The places of the query, the features of the value."""
    query, value = op.axes(op.node.args[0]), op.axes(op.node.args[2])
    return op.blank if query is None or value is None or op.index > 0 else (*query[:-1], value[-1])


def einsum(op: Operation) -> Axes:
    """A letter counts what it counts in the first tensor that has it; one of a weight is like a linear map's."""
    equation, operands = op.node.args[:2]
    terms, out = str(equation).replace(" ", "").split("->")
    if "." in terms:
        return op.blank
    found: dict[str, Axis] = {}
    for term, value in zip(terms.split(","), operands, strict=True):  # type: ignore[arg-type]
        for letter, axis in zip(term, op.axes(value) or (), strict=False):
            if ax.length(axis) > 1:
                found.setdefault(letter, axis)
    new = [i for i, letter in enumerate(out) if letter not in found and op.shape[i] > 1]
    axes = tuple(found.get(letter, ax.unknown(s)) for letter, s in zip(out, op.shape, strict=True))
    if len(new) == 1 and "c" not in ax.labels(axes):
        rest = _no_features(axes)
        return (*rest[: new[0]], ax.whole("c", op.shape[new[0]]), *rest[new[0] + 1 :])
    return axes


def recurrent(op: Operation) -> Axes:
    """The sequence with new features; the last states as (layers, batch, features)."""
    if op.index == 0:
        return (*op.source[:-1], ax.whole("c", op.shape[-1]))
    return (ax.lost(op.shape[0]), *ax.blank(op.shape[1:-1]), ax.whole("c", op.shape[-1]))


def embedding(op: Operation) -> Axes:
    indices = op.axes(op.node.args[1])
    return op.blank if indices is None else (*_no_features(indices), ax.whole("c", op.shape[-1]))
