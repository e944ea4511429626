"""Stored programs: a ``torch.export`` program from a ``.pt2`` file as a source of graphs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from inward.errors import CallError
from inward.network.export import from_program
from inward.network.graph import Graph
from inward.network.modes import ordinary
from inward.network.preprocess import check_size
from inward.network.source import difference, rewritten
from inward.types import Size


class ProgramSource:
    """A program, in the dtype that it was exported with, at the sizes that it was exported for."""

    told = False

    def __init__(self, program: ExportedProgram, name: str) -> None:
        self.program, self.name = program, name
        image = _image_of(program, name)
        _check_batch(program, image.shape[0], name)
        _check_evaluates(program, name)
        self.device, self.dtype = image.device, image.dtype
        self.channels, *self._axes = image.shape[1:]
        if not isinstance(self.channels, int):
            raise CallError(f"{name} was exported for any number of channels; export it again with a fixed one")
        self.sizes = (_example(self._axes[0], name), _example(self._axes[1], name))
        self._graphs: dict[Size, Graph] = {}
        self._stored: torch.nn.Module | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ProgramSource:
        """The program there; another dtype is refused, since dtypes are baked into it."""
        if dtype != self.dtype:
            raise CallError(f"{self.name} was exported in {self.dtype}; export it again for {dtype}")
        if device == self.device:
            return self
        from torch.export.passes import move_to_device_pass

        with ordinary(device):
            return ProgramSource(move_to_device_pass(self.program, device), self.name)

    def weights(self) -> dict[str, Tensor]:
        """The program's parameters and buffers."""
        return dict(self.program.state_dict)

    def parameters(self) -> int:
        """The number of parameters; one that is used twice counts once."""
        return sum(p.numel() for p in {id(p): p for p in self.program.parameters()}.values())

    def graph(self, size: Size, channels: int) -> Graph:
        """The graph at this size. Raises CallError for a size that the program was not exported for."""
        self.check(*size)
        if size not in self._graphs:
            devices = [self.device] if self.device.type == "cuda" else []
            with ordinary(self.device), torch.random.fork_rng(devices=devices):
                self._graphs[size] = self._make(size)
        return self._graphs[size]

    def check(self, height: int, width: int) -> None:
        """Refuses a size that the program was not exported for."""
        check_size((height, width))
        taken = [self._taken(axis) for axis in self._axes]
        if not all(low <= length <= high for (low, high), length in zip(taken, (height, width), strict=True)):
            said = " x ".join(_range(low, high) for low, high in taken)
            raise CallError(f"{self.name} cannot take images of {height} x {width}; it takes {said}")

    def _taken(self, axis: Any) -> tuple[Any, Any]:
        """The smallest and the largest length that an axis may have."""
        if isinstance(axis, int):
            return axis, axis
        bounds = self.program.range_constraints[axis.node.expr]
        return bounds.lower, bounds.upper

    def _make(self, size: Size) -> Graph:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand((1, self.channels, *size), generator=generator).to(self.device, self.dtype)
        if self._stored is None:
            # Before anything is changed to keep the gradients of the program's blocks.
            self._stored = self.program.module()
        graph = from_program(self.program, size)
        reason = difference(self._stored, graph, image)
        if reason is not None:
            raise CallError(f"{self.name} has no faithful graph ({reason}); load the module that it was exported from")
        return rewritten(graph, image)


def _range(low: Any, high: Any) -> str:
    if low == high:
        return str(low)
    return f"({low} or more)" if math.isinf(high) else f"({low} to {high})"


def _image_of(program: ExportedProgram, name: str) -> Tensor:
    users = program.graph_signature.user_inputs
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in users]
    if len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        raise CallError(f"{name} must take one batch of images (N, C, H, W)")
    return values[0]


def _check_batch(program: ExportedProgram, batch: Any, name: str) -> None:
    """Refuses a program that holds for some sizes of the batch only: the branch not taken is not in it."""
    remedy = "export it with a dynamic batch (Dim.DYNAMIC)"
    if isinstance(batch, int):
        raise CallError(f"{name} was exported for a batch of {batch}; {remedy}")
    bounds = program.range_constraints.get(batch.node.expr)
    if bounds is None:
        raise CallError(f"{name} was exported for batches of {batch.node.expr}; {remedy}")
    if bounds.lower > 2 or not math.isinf(bounds.upper):
        upper = "more" if math.isinf(bounds.upper) else bounds.upper
        raise CallError(f"{name} was exported for batches of {bounds.lower} to {upper}; {remedy}")


def _example(axis: Any, name: str) -> int:
    """The length that an axis was exported with."""
    if isinstance(axis, int):
        return axis
    if not axis.node.expr.is_Symbol or axis.node.hint is None:
        raise CallError(f"{name} was exported for a height or width of {axis.node.expr}; export it with Dim.DYNAMIC")
    return int(axis.node.hint)


def _check_evaluates(program: ExportedProgram, name: str) -> None:
    """Refuses a program that was exported in train mode, whose answers are random or change its weights."""
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            if node.op == "call_function" and _trains(node):
                kind = getattr(node.target, "overloadpacket", node.target)
                raise CallError(f"{name} was exported in train mode ({kind}); call .eval() before exporting it")


def _trains(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return False
    if schema.name.startswith("aten::_batch_norm_with_update"):
        return True
    given = {a.name: a.default_value if a.has_default_value() else None for a in schema.arguments}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    if given.get("dropout_p"):
        return True
    training = any(given.get(name) is True for name in ("train", "training", "use_input_stats"))
    # Without running statistics a norm uses those of the images, in eval mode too.
    return (
        training
        and not ("running_mean" in given and given["running_mean"] is None)
        and schema.overload_name != "no_stats"
    )
