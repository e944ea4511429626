"""Which axis of an activation is what.

Every axis of every tensor in a graph gets a label: ``n`` batch, ``c`` features, ``y`` and ``x`` the
grid, ``t`` tokens (a flattened grid, perhaps behind a class token), ``?`` unknown. The labels are
propagated from the image through the operations, so that a unit is always the feature dimension
and a place is always on the grid, for convolutional networks and transformers alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from inward.errors import CallError

# Batch sizes are symbolic; evaluated at a large prime, a dimension that depends on the batch can
# be told from one that does not, and products of dimensions can be matched.
PRIME = 10007


@dataclass(frozen=True)
class Layout:
    """The labels of a tensor's axes; ``grid`` and ``prefix`` describe a ``t`` axis."""

    axes: tuple[str, ...]
    grid: tuple[int, int] | None = None
    prefix: int = 0

    @property
    def kind(self) -> str:
        """``map``, ``map-last``, ``tokens``, ``vector`` or ``other``."""
        known = {"ncyx": "map", "nyxc": "map-last", "nc": "vector", "ntc": "tokens", "tnc": "tokens"}
        return known.get("".join(self.axes), "other")

    @property
    def has_units(self) -> bool:
        """Whether the feature axis and the batch axis are known."""
        return "c" in self.axes and "n" in self.axes

    @property
    def has_grid(self) -> bool:
        """Whether places can be addressed."""
        return {"y", "x"} <= set(self.axes) or ("t" in self.axes and self.grid is not None)

    def units(self, shape: Sequence[int]) -> int:
        """The number of units of a tensor of this shape."""
        return shape[self.axes.index("c")]

    def grid_size(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Height and width of the grid, or None."""
        if {"y", "x"} <= set(self.axes):
            return shape[self.axes.index("y")], shape[self.axes.index("x")]
        return self.grid if "t" in self.axes else None

    def features(self, value: Tensor) -> Tensor:
        """``value`` as (N, C, ...): (N, C, H, W) where there is a grid, else (N, C, rest).

        Raises CallError where the feature axis is not known.
        """
        if not self.has_units:
            raise CallError(
                f"this point holds a tensor of shape {tuple(value.shape)} whose feature axis is not known; "
                "address the point as a whole, or a point beside it that has units"
            )
        rest = [axis for axis in range(value.ndim) if self.axes[axis] not in "nc"]
        order = [self.axes.index("n"), self.axes.index("c"), *rest]
        if {"y", "x"} <= set(self.axes) and value.ndim == 4:
            order[2:] = [self.axes.index("y"), self.axes.index("x")]
        moved = value.permute(order)
        if self.grid is not None and "t" in self.axes and value.ndim == 3:
            height, width = self.grid
            moved = moved[:, :, self.prefix : self.prefix + height * width]
            return moved.unflatten(2, (height, width))
        return moved


UNKNOWN = Layout(())


def sizes(value: Any, batch: int) -> tuple[int, ...]:
    """The shape of a fake tensor with its symbolic batch set to ``batch``."""
    return tuple(_size(d, batch) for d in value.shape)


def _size(dim: Any, batch: int) -> int:
    if isinstance(dim, int):
        return dim
    expr = dim.node.expr
    return int(expr.subs(dict.fromkeys(expr.free_symbols, batch)))


def infer(nodes: Iterable[fx.Node], image: fx.Node) -> dict[fx.Node, Layout]:
    """The layout of every node that holds one tensor, from the image's (n, c, y, x) onwards."""
    found: dict[fx.Node, Layout] = {}
    for node in nodes:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            continue
        shape = sizes(value, PRIME)
        if node is image:
            found[node] = Layout(("n", "c", "y", "x"))
        elif node.op == "call_function":
            layout = _propagate(node, shape, found)
            if not layout.has_units or "?" in layout.axes:
                layout = _from_ancestor(node, shape, found) or _by_rank(layout, shape)
            found[node] = layout
    return found


def _propagate(node: fx.Node, shape: tuple[int, ...], found: dict[fx.Node, Layout]) -> Layout:
    name = op_name(node)
    blank = Layout(tuple("n" if i == 0 and s == PRIME else "?" for i, s in enumerate(shape)))
    source = _source(node, shape, found)
    if name.startswith("conv") and len(shape) == 4:
        return Layout(("n", "c", "y", "x"))
    if source is None:
        return blank
    layout, old = found[source], sizes(source.meta["val"], PRIME)
    rule = _RULES.get(name)
    if rule is not None:
        return rule(node, layout, old, shape)
    if len(old) == len(shape):
        return layout
    return _reshape(node, layout, old, shape) if math.prod(old) == math.prod(shape) else blank


def op_name(node: fx.Node) -> str:
    """The public functional name of an operation (``relu``, ``add``, ``interpolate``)."""
    target = node.target
    if getattr(target, "__name__", "") == "getitem" and isinstance(node.args[0], fx.Node):
        return op_name(node.args[0])
    packet = getattr(target, "overloadpacket", None)
    name = packet.__name__ if packet is not None else getattr(target, "__name__", str(target))
    name = name.removesuffix("_legit_no_training").removeprefix("_native_").removeprefix("native_").lstrip("_")
    if name.startswith("upsample"):
        return "interpolate"
    return {"unsafe_view": "view", "to_copy": "to"}.get(name, name)


def _source(node: fx.Node, shape: tuple[int, ...], found: dict[fx.Node, Layout]) -> fx.Node | None:
    inputs = [i for i in node.all_input_nodes if i in found]
    if not inputs and getattr(node.target, "__name__", "") == "getitem":
        inputs = [i for i in node.args[0].all_input_nodes if i in found]  # type: ignore[union-attr]
    if op_name(node) == "cat":
        return max(inputs, key=lambda i: (found[i].grid is not None, found[i].has_units), default=None)
    same = [i for i in inputs if sizes(i.meta["val"], PRIME) == shape and found[i].has_units]
    return (same or [i for i in inputs if found[i].has_units] or inputs or [None])[0]  # type: ignore[list-item]


def _from_ancestor(node: fx.Node, shape: tuple[int, ...], found: dict[fx.Node, Layout]) -> Layout | None:
    """A block that takes a grid apart and puts it back (windowed attention) restores its layout."""
    if len(shape) < 3 or shape[0] != PRIME:
        return None
    queue, seen = list(node.all_input_nodes), set()
    while queue and len(seen) < 80:
        candidate = queue.pop(0)
        if candidate in seen:
            continue
        seen.add(candidate)
        known = found.get(candidate)
        if (
            known is not None
            and known.has_units
            and "?" not in known.axes
            and sizes(candidate.meta["val"], PRIME) == shape
        ):
            return known
        queue.extend(candidate.all_input_nodes)
    return None


def _by_rank(layout: Layout, shape: tuple[int, ...]) -> Layout:
    if shape[:1] != (PRIME,) or layout.has_units:
        return layout
    guess = {2: ("n", "c"), 3: ("n", "t", "c")}.get(len(shape))
    return layout if guess is None else Layout(guess)


def _reshape(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    """Matches groups of old dimensions with groups of new ones of equal product."""
    axes: list[str] = []
    grid, prefix = layout.grid, layout.prefix
    i = j = 0
    while j < len(new):
        olds, news = [i], [j]
        a, b = (old[i] if i < len(old) else 1), new[j]
        i, j = i + 1, j + 1
        while a != b and (i < len(old) or j < len(new)):
            if a < b and i < len(old):
                a, olds, i = a * old[i], [*olds, i], i + 1
            elif j < len(new):
                b, news, j = b * new[j], [*news, j], j + 1
            else:
                break
        labels = [layout.axes[k] for k in olds if k < len(old) and (old[k] != 1 or len(olds) == len(news) == 1)]
        parts = [new[k] for k in news]
        if labels == ["y", "x"] and len(news) == 1:
            axes.append("t")
            grid, prefix = (old[olds[-2]], old[olds[-1]]), 0
        elif labels == ["t"] and tuple(parts) == grid and prefix == 0:
            axes += ["y", "x"]
        else:
            axes += _group_labels(labels, parts)
    return Layout(tuple(axes), grid if "t" in axes else None, prefix if "t" in axes else 0)


def _group_labels(labels: list[str], parts: list[int]) -> list[str]:
    long = [part != 1 for part in parts] if len(parts) > 1 else [True]
    if sum(long) != 1 or not labels:
        return ["?"] * len(parts)
    whole = "c" if "c" in labels and set(labels) <= {"c", "y", "x", "t"} else "?"
    label = labels[0] if len(labels) == 1 else whole
    return [label if is_long else "?" for is_long in long]


def _permute(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    dims: Any = node.args[1]
    return Layout(tuple(layout.axes[d] for d in dims), layout.grid, layout.prefix)


def _transpose(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    axes = list(layout.axes)
    a, b = (0, 1) if len(node.args) == 1 else node.args[1:3]
    axes[a], axes[b] = axes[b], axes[a]  # type: ignore[index]
    return Layout(tuple(axes), layout.grid, layout.prefix)


def _last(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    """Linear maps and layer norms name the last axis: it holds the features."""
    if len(old) != len(new):
        return layout
    axes = tuple("?" if a == "c" else a for a in layout.axes[:-1])
    return Layout((*axes, "c"), layout.grid, layout.prefix)


def _layer_norm(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    normalized: Any = node.args[1]
    return _last(node, layout, old, new) if len(normalized) == 1 else layout


def _reduce(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    if len(old) == len(new):
        return layout
    dims: Any = node.args[1] if len(node.args) > 1 else range(len(old))
    gone = {d % len(old) for d in ([dims] if isinstance(dims, int) else dims)}
    return _dropped(layout, gone)


def _dropped(layout: Layout, gone: set[int]) -> Layout:
    axes = tuple(a for i, a in enumerate(layout.axes) if i not in gone)
    return Layout(axes, layout.grid if "t" in axes else None, layout.prefix if "t" in axes else 0)


def _select(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    dim: Any = node.args[1] if len(node.args) > 1 else 0
    return _dropped(layout, {dim % len(old)}) if len(new) < len(old) else layout


def _slice(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    dim, start, *_ = [*node.args[1:], 0, 0][:2] if len(node.args) > 1 else (0, 0)
    if not isinstance(dim, int) or not isinstance(start, int) or layout.axes[dim % len(old)] != "t":
        return layout
    return Layout(layout.axes, *_kept_grid(layout, start, new[dim % len(old)]))


def _kept_grid(layout: Layout, start: int, length: int) -> tuple[tuple[int, int] | None, int]:
    if layout.grid is None:
        return None, 0
    prefix = layout.prefix - start
    if prefix < 0 or prefix + math.prod(layout.grid) > length:
        return None, 0
    return layout.grid, prefix


def _cat(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    parts: Any = node.args[0]
    dim: Any = node.args[1] if len(node.args) > 1 else 0
    if layout.axes[dim % len(old)] != "t" or layout.grid is None:
        return layout
    before = 0
    for part in parts:
        length = sizes(part.meta["val"], PRIME)[dim]
        if length == old[dim]:
            return Layout(layout.axes, layout.grid, layout.prefix + before)
        before += length
    return layout


def _matmul(node: fx.Node, layout: Layout, old: tuple[int, ...], new: tuple[int, ...]) -> Layout:
    return Layout(tuple("n" if i == 0 and s == PRIME else "?" for i, s in enumerate(new)))


_RULES = {
    "permute": _permute,
    "transpose": _transpose,
    "t": _transpose,
    "linear": _last,
    "layer_norm": _layer_norm,
    "view": _reshape,
    "reshape": _reshape,
    "flatten": _reshape,
    "unflatten": _reshape,
    "unsqueeze": _reshape,
    "squeeze": _reshape,
    "mean": _reduce,
    "sum": _reduce,
    "amax": _reduce,
    "select": _select,
    "unbind": _select,
    "slice": _slice,
    "cat": _cat,
    "matmul": _matmul,
    "bmm": _matmul,
    "scaled_dot_product_attention": _matmul,
}


def of_module(module: torch.nn.Module, shape: Sequence[int]) -> Layout:
    """The layout of a module's output where there is no graph: by its kind and the rank."""
    last = isinstance(module, (torch.nn.Linear, torch.nn.LayerNorm))
    return Layout(tuple("nyxc")) if last and len(shape) == 4 else by_rank(shape)


def by_rank(shape: Sequence[int]) -> Layout:
    """The layout that a tensor of this many axes most likely has."""
    return Layout(tuple({2: "nc", 3: "ntc", 4: "ncyx"}.get(len(shape), "?" * len(shape))))
