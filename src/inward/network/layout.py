"""Which axis of an activation is what.

Every axis of every tensor in a graph gets a label: ``n`` batch, ``c`` features, ``y`` and ``x`` the
grid, ``t`` tokens (a flattened grid, perhaps behind a class token), ``?`` unknown. What an axis
counts is propagated from the image through the operations (:mod:`~inward.network.axes`,
:mod:`~inward.network.rules`), so that a unit is always the feature dimension and a place is always
on the grid, for convolutional networks and transformers alike. Where it cannot be told, there is
no label: a wrong unit would be far worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.network import axes as ax
from inward.network.axes import PRIME, Axes, sizes
from inward.network.operation import Operation
from inward.network.rules import is_known, propagate


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
        """Whether places can be addressed: the grid, the batch and the features, and nothing else."""
        named = sorted(self.axes)
        return named in (["c", "n", "x", "y"], ["n", "x", "y"]) or (named == ["c", "n", "t"] and self.grid is not None)

    def units(self, shape: Sequence[int]) -> int:
        """The number of units of a tensor of this shape."""
        return shape[self.axes.index("c")]

    def grid_size(self, shape: Sequence[int]) -> tuple[int, int] | None:
        """Height and width of the grid, or None."""
        if not self.has_grid:
            return None
        return self.grid or (shape[self.axes.index("y")], shape[self.axes.index("x")])

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
        if self.has_grid and self.grid is None:
            rest = [self.axes.index("y"), self.axes.index("x")]
        moved = value.permute([self.axes.index("n"), self.axes.index("c"), *rest])
        if self.has_grid and self.grid is not None:
            height, width = self.grid
            return moved[:, :, self.prefix : self.prefix + height * width].unflatten(2, (height, width))
        return moved


UNKNOWN = Layout(())


def infer(nodes: Iterable[fx.Node], image: fx.Node) -> dict[fx.Node, Layout]:
    """The layout of every node that holds one tensor, from the image's (n, c, y, x) onwards.

    What is computed from weights alone (a table of relative positions) counts as a weight.
    """
    known: dict[fx.Node, Axes] = {}
    for node in nodes:
        value = node.meta.get("val")
        if not isinstance(value, Tensor):
            continue
        shape = sizes(value, PRIME)
        if node is image:
            known[node] = tuple(ax.whole(k, s) for k, s in zip("ncyx", shape, strict=True))
        elif node.op == "call_function" and _depends(node, known):
            known[node] = _axes(node, shape, known)
    return {node: _layout(axes) for node, axes in known.items()}


def _depends(node: fx.Node, known: dict[fx.Node, Axes]) -> bool:
    read = node.all_input_nodes
    if getattr(node.target, "__name__", "") == "getitem":
        read = [i for made in read for i in made.all_input_nodes]
    return any(i in known for i in read)


def _axes(node: fx.Node, shape: tuple[int, ...], known: dict[fx.Node, Axes]) -> Axes:
    made, index = node, 0
    if getattr(node.target, "__name__", "") == "getitem" and isinstance(node.args[0], fx.Node):
        made, index = node.args[0], node.args[1]
    operation = Operation(made, op_name(made), index if isinstance(index, int) else 0, shape, known)
    axes = propagate(operation)
    if len(shape) == 2 and shape[0] == PRIME and not any(map(is_known, [*operation.inputs, axes])):
        # Nothing is known of where it comes from: a row of numbers for every image is a vector.
        return axes[0], ax.whole("c", shape[1])
    return axes


def _layout(axes: Axes) -> Layout:
    named = ax.labels(axes)
    # Only three axes can be put back on the grid: beside windows, tokens are those of one window.
    if sorted(named) != ["c", "n", "t"]:
        return Layout(named)
    found = ax.tokens(axes[named.index("t")])
    return Layout(named, *(found or (None, 0)))


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


# What modules name their axes, for a tensor of so many axes; `*` is a last axis behind any others.
_NAMED: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(Lazy)?Conv(Transpose)?1d|(Lazy)?InstanceNorm1d|(Adaptive)?(Max|Avg|LP)Pool1d", ("nct",)),
    (r"(Lazy)?BatchNorm1d", ("nc", "nct")),
    (r"(Lazy)?Conv(Transpose)?2d|(Lazy)?(Batch|Instance)Norm2d|FrozenBatchNorm2d", ("ncyx",)),
    (r"(Adaptive|Fractional)?(Max|Avg|LP)Pool2d|MaxUnpool2d|Pixel(Uns|S)huffle|Upsample\w*2d|Dropout2d", ("ncyx",)),
    (r"\w+Pad2d|LocalResponseNorm|CrossMapLRN2d|Softmax2d|ChannelShuffle", ("ncyx",)),
    (r"(Lazy)?Conv(Transpose)?3d|(Lazy)?(Batch|Instance)Norm3d|(Adaptive)?(Max|Avg)Pool3d", ("nc?yx",)),
    (r"GroupNorm|SyncBatchNorm", ("nc", "nct", "ncyx", "nc?yx")),
    (r"(Lazy)?Linear|Bilinear|Embedding|LayerNorm|RMSNorm", ("nc", "ntc", "n??c")),
)


def of_module(module: torch.nn.Module, shape: Sequence[int], batch_is_first: bool = True) -> Layout:
    """The layout of a module's output where there is no graph, if the kind of module names the axes.

    ``batch_is_first`` says that axis 0 counts the images, which a module cannot know: windows and
    sequences may come before them, or be mixed with them.
    """
    blank = Layout(("?",) * len(shape))
    last = _namer(module)
    if not batch_is_first:
        return blank
    if last is None:
        return Layout(("n", *"?" * (len(shape) - 1))) if shape else blank
    for kinds, named in _NAMED:
        fitting = [axes for axes in named if len(axes) == len(shape)]
        if fitting and re.fullmatch(kinds, type(last).__name__):
            return Layout(tuple(fitting[0]))
    return Layout(("n", *"?" * (len(shape) - 1))) if shape else blank


def _namer(module: torch.nn.Module) -> torch.nn.Module | None:
    """The module that names the axes of what this one gives: of a sequence, the last that does."""
    if type(module).forward is torch.nn.Sequential.forward:
        for child in reversed(list(module.children())):
            if not _is_elementwise(child):
                return _namer(child)
        return None
    if isinstance(module, (torch.nn.LayerNorm, torch.nn.RMSNorm)) and len(module.normalized_shape) != 1:
        return None
    return module


def _is_elementwise(module: torch.nn.Module) -> bool:
    activation = type(module).__module__ == "torch.nn.modules.activation"
    return isinstance(module, (torch.nn.Identity, torch.nn.Dropout)) or (
        activation and not isinstance(module, torch.nn.MultiheadAttention)
    )


def by_rank(shape: Sequence[int]) -> Layout:
    """The layout of an output of which nothing else is known: a row of numbers an image is classes."""
    return Layout(("n", "c")) if len(shape) == 2 else Layout(("?",) * len(shape))
