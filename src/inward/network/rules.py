"""What each operation does to the axes of its tensors: one rule a family of operations.

A rule that is missing costs a label; a rule that is wrong names a wrong unit. So an operation
without a rule keeps labels only where it maps one tensor to one of the same shape, and no grid.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from inward.network import axes as ax
from inward.network import products
from inward.network.axes import Axes, Axis
from inward.network.operation import Operation, shape_of

Rule: TypeAlias = Callable[[Operation], Axes]


def propagate(op: Operation) -> Axes:
    """The axes of what an operation gives."""
    rule = RULES.get(op.name)
    if rule is None:
        rule = _pointwise if torch.Tag.pointwise in getattr(op.node.target, "tags", ()) else _other
    try:
        found = rule(op)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError):
        # An overload whose arguments are not those that the rule was written for.
        return op.blank
    fits = len(found) == len(op.shape) and all(ax.length(a) == s for a, s in zip(found, op.shape, strict=True))
    return found if fits else op.blank


def _other(op: Operation) -> Axes:
    if len(op.inputs) != 1 or tuple(map(ax.length, op.inputs[0])) != op.shape:
        return op.blank
    return _without_grid(op.inputs[0])


def _without_grid(axes: Axes) -> Axes:
    named = ax.labels(axes)
    return tuple(ax.whole("t", ax.length(a)) if k == "t" else a for a, k in zip(axes, named, strict=True))


def _pointwise(op: Operation) -> Axes:
    return ax.unified(op.inputs, op.shape)


def _same(op: Operation) -> Axes:
    return op.source


def _view(op: Operation) -> Axes:
    return ax.reshaped(op.source, op.shape)


def _permute(op: Operation) -> Axes:
    return tuple(op.source[d] for d in op.argument("dims"))


def _transpose(op: Operation) -> Axes:
    axes = list(op.source)
    a, b = (op.argument("dim0", 0), op.argument("dim1", 1)) if op.name == "transpose" else (-2, -1)
    if len(axes) > 1:
        axes[a], axes[b] = axes[b], axes[a]
    return tuple(axes)


def _unsqueeze(op: Operation) -> Axes:
    dim = op.argument("dim") % len(op.shape)
    return (*op.source[:dim], (), *op.source[dim:])


def _squeeze(op: Operation) -> Axes:
    gone = {d for d in op.dims("dim", len(op.source)) if ax.length(op.source[d]) == 1}
    return tuple(a for i, a in enumerate(op.source) if i not in gone)


def _expand(op: Operation) -> Axes:
    return ax.unified([op.source], op.shape)


def _sized(op: Operation) -> Axes:
    """Pooling, padding, repeating, interpolation: an axis counts what it counted, in other steps."""
    extra = len(op.shape) - len(op.source)
    source = (*((),) * extra, *op.source)
    named = ax.labels(source)
    return tuple(ax.resized(a, k, s) for a, k, s in zip(source, named, op.shape, strict=True))


def _shuffle(op: Operation) -> Axes:
    """Pixels to features or back: what is left of each axis counts what it counted."""
    batch, _, height, width = op.source
    return (
        batch,
        ax.whole("c", op.shape[1]),
        ax.resized(height, "y", op.shape[2]),
        ax.resized(width, "x", op.shape[3]),
    )


def _patches(op: Operation) -> Axes:
    """``F.unfold``: the places of a window as tokens."""
    names = ("kernel_size", "dilation", "padding", "stride")
    sides = zip(*(op.argument(k) for k in names), strict=True)
    inner = shape_of(op.node.args[0])[2:]
    grid = [(n + 2 * pad - gap * (k - 1) - 1) // step + 1 for n, (k, gap, pad, step) in zip(inner, sides, strict=True)]
    return (op.source[0], ax.whole("c", op.shape[1]), ax.whole("t", op.shape[2], (grid[0], grid[1])))


def _unpatch(op: Operation) -> Axes:
    return (op.source[0], *(ax.whole(k, s) for k, s in zip("cyx", op.shape[1:], strict=True)))


def _windows(op: Operation) -> Axes:
    """``Tensor.unfold``: a coarser axis, and at the end what lies inside a window."""
    dim = op.argument("dimension") % len(op.source)
    axes = list(op.source)
    axes[dim] = ax.resized(axes[dim], ax.labels(op.source)[dim], op.shape[dim])
    return (*axes, ax.lost(op.shape[-1]))


def _reduce(op: Operation) -> Axes:
    return _reduced(op, "yx")


def _largest(op: Operation) -> Axes:
    """What is largest of every few features, maxout, are features of its own; means of them are statistics."""
    return _reduced(op, "cyx")


def _reduced(op: Operation, kinds: str) -> Axes:
    """Over no dimension means over all of them."""
    source = op.source
    gone = op.dims("dim", len(source))
    if len(op.shape) < len(source):
        return ax.without(source, gone, kinds)
    named = ax.labels(source)
    return tuple(ax.anew(k, 1) if i in gone else a for i, (a, k) in enumerate(zip(source, named, strict=True)))


def _ranked(op: Operation) -> Axes:
    """Sorting an axis, or the best of it: it is in another order at every place."""
    dim = op.dims("dim", len(op.source), -1)[0] if op.source else 0
    return tuple(ax.lost(op.shape[i]) if i == dim else a for i, a in enumerate(op.source))


def _turned(op: Operation) -> Axes:
    """``flip`` and ``roll``: a map is a map still, but tokens have lost their places."""
    named = ax.labels(op.source)
    dims = op.dims("dims", len(op.source))
    return tuple(ax.anew(named[i], op.shape[i]) if i in dims else a for i, a in enumerate(op.source))


def _picked(op: Operation) -> Axes:
    """``index_select``: the same values of an axis for every image."""
    dim = op.dims("dim", len(op.source))[0]
    named = ax.labels(op.source)
    return tuple(ax.anew(named[i], op.shape[i]) if i == dim else a for i, a in enumerate(op.source))


def _gathered(op: Operation) -> Axes:
    """Other values of the axis for every image: tokens stay tokens, and features are none any more."""
    dim = op.dims("dim", len(op.source))[0]
    named = ax.labels(op.source)
    found = []
    for i, axis in enumerate(op.source):
        if i == dim:
            found.append(ax.whole("t", op.shape[i]) if named[i] == "t" else ax.lost(op.shape[i]))
        else:
            found.append(axis if ax.length(axis) == op.shape[i] else ax.unknown(op.shape[i]))
    return tuple(found)


def _indexed(op: Operation) -> Axes:
    """``x[:, index]`` with one list of places; anything else is not followed."""
    places: Any = op.node.args[1]
    given = [i for i, p in enumerate(places) if p is not None]
    index = places[given[0]] if len(given) == 1 else None
    held = index.meta["val"] if index is not None else None
    if held is None or held.ndim != 1 or held.dtype == torch.bool or is_known(op.axes(index) or ()):
        return op.blank
    named, (dim,) = ax.labels(op.source), given
    return tuple(ax.anew(named[i], op.shape[i]) if i == dim else a for i, a in enumerate(op.source))


def _select(op: Operation) -> Axes:
    return ax.without(op.source, op.dims("dim", len(op.source), 0), "cyxt")


def _slice(op: Operation) -> Axes:
    start = op.argument("start") or 0
    step = op.argument("step", 1)
    return _part(op, start if isinstance(start, int) and step == 1 else None)


def _narrow(op: Operation) -> Axes:
    return _part(op, op.argument("start"))


def _split(op: Operation) -> Axes:
    """Parts of one axis; the first begins where the axis begins."""
    dim = op.dims("dim", len(op.source), 0)[0]
    given = op.argument("split_sizes", op.argument("split_size"))
    if op.name == "chunk":
        given = -(-ax.length(op.source[dim]) // op.argument("chunks"))
    return _part(op, given * op.index if isinstance(given, int) else sum(given[: op.index]))


def _part(op: Operation, start: int | None) -> Axes:
    """A part of one axis, from ``start`` on; of unknown places where that is None."""
    dim = op.dims("dim", len(op.source), 0)[0]
    axes, size, label = list(op.source), op.shape[dim], ax.labels(op.source)[dim]
    if ax.length(axes[dim]) == size:
        return op.source
    if size == 1 and label == "?":
        left = ax.without(op.source, [dim], "cyxt")
        return (*left[:dim], (), *left[dim:])
    if start is None:
        axes[dim] = ax.anew(label, size)
    else:
        axes[dim] = ax.cut(axes[dim], label, start % ax.length(axes[dim]), size)
    return tuple(axes)


def _cat(op: Operation) -> Axes:
    parts: Any = op.node.args[0]
    dim = op.dims("dim", len(op.shape), 0)[0]
    known = [(i, op.axes(p)) for i, p in enumerate(parts)]
    held = [(i, axes) for i, axes in known if axes is not None and len(axes) == len(op.shape)]
    out = list(ax.unified([axes for _, axes in held], [1 if i == dim else s for i, s in enumerate(op.shape)]))
    named = {ax.labels(axes)[dim] for _, axes in held} - {"?"}
    out[dim] = ax.unknown(op.shape[dim])
    if len(named) == 1 and named <= set("cyx"):
        out[dim] = ax.whole(named.pop(), op.shape[dim])
    if named == {"t"}:
        out[dim] = _behind([shape_of(p)[dim] for p in parts], [(i, axes[dim]) for i, axes in held])
    return tuple(out)


def _behind(lengths: list[int], held: list[tuple[int, Axis]]) -> Axis:
    """Tokens put before and behind a grid; of two grids, none."""
    size = sum(lengths)
    grids = [(i, found) for i, axis in held if (found := ax.tokens(axis)) is not None and found[0] is not None]
    if len(grids) != 1:
        return ax.whole("t", size)
    ((place, (grid, prefix)),) = grids
    return ax.whole("t", size, grid, prefix + sum(lengths[:place]))


def _stack(op: Operation) -> Axes:
    dim = op.argument("dim", 0) % len(op.shape)
    parts: Any = op.node.args[0]
    rest = [s for i, s in enumerate(op.shape) if i != dim]
    out = ax.unified([axes for p in parts if (axes := op.axes(p)) is not None], rest)
    return (*out[:dim], ax.lost(op.shape[dim]), *out[dim:])


def _sampled(op: Operation) -> Axes:
    """The picture at other places."""
    return (*op.source[:2], *(ax.whole(k, s) for k, s in zip("yx", op.shape[2:], strict=True)))


def _unfollowed(op: Operation) -> Axes:
    return op.blank


def _each(names: str, rule: Rule) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


def is_known(axes: Axes) -> bool:
    """Whether anything but the batch is known of a tensor."""
    return any(atom.kind not in "n?" for axis in axes for atom in axis)


RULES: dict[str, Rule] = {
    **_each("clone contiguous to detach alias lift_fresh lift_fresh_copy stop_gradient dropout", _same),
    **_each("feature_dropout alpha_dropout softmax log_softmax batch_norm group_norm instance_norm", _same),
    **_each("channel_shuffle cumsum cumprod triu tril slice_scatter select_scatter index_put scatter", _same),
    **_each("scatter_add masked_scatter fill zeros_like ones_like", _same),
    **_each("view reshape flatten unflatten view_as reshape_as", _view),
    "permute": _permute,
    **_each("transpose t mT numpy_T adjoint", _transpose),
    "unsqueeze": _unsqueeze,
    "squeeze": _squeeze,
    **_each("expand expand_as broadcast_to", _expand),
    **_each("max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d interpolate pad", _sized),
    **_each("max_pool2d_with_indices max_pool3d_with_indices fractional_max_pool2d glu repeat", _sized),
    **_each("adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d", _sized),
    **_each("adaptive_max_pool2d adaptive_max_pool3d constant_pad_nd reflection_pad1d reflection_pad2d", _sized),
    **_each("replication_pad1d replication_pad2d repeat_interleave tile max_unpool2d", _sized),
    **_each("layer_norm rms_norm fused_rms_norm", products.normalized),
    "linear": products.linear,
    **_each(
        "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d", products.convolution
    ),
    **_each("deform_conv2d", products.convolution),
    **_each("pixel_shuffle pixel_unshuffle", _shuffle),
    "im2col": _patches,
    "col2im": _unpatch,
    "unfold": _windows,
    **_each("mean sum argmax argmin prod any all var std var_mean std_mean median", _reduce),
    **_each("amax amin max min", _largest),
    **_each("nanmedian nansum nanmean logsumexp linalg_vector_norm norm mode kthvalue aminmax", _reduce),
    **_each("count_nonzero", _reduce),
    **_each("sort argsort topk msort", _ranked),
    **_each("flip roll rot90", _turned),
    "index_select": _picked,
    **_each("gather take_along_dim", _gathered),
    "index": _indexed,
    **_each("select unbind", _select),
    "slice": _slice,
    "narrow": _narrow,
    **_each("split split_with_sizes chunk", _split),
    **_each("cat concat concatenate", _cat),
    "stack": _stack,
    **_each("matmul mm bmm addmm baddbmm", products.matmul),
    "einsum": products.einsum,
    **_each("scaled_dot_product_attention scaled_dot_product_flash_attention", products.attention),
    **_each("scaled_dot_product_efficient_attention scaled_dot_product_flash_attention_for_cpu", products.attention),
    **_each("scaled_dot_product_fused_attention_overrideable scaled_dot_product_cudnn_attention", products.attention),
    **_each("lstm gru rnn_tanh rnn_relu", products.recurrent),
    "embedding": products.embedding,
    "grid_sampler": _sampled,
    **_each("cdist cdist_forward one_hot multi_head_attention", _unfollowed),
}
