"""Where graphs come from: a module or an exported program, one graph for every image size."""

from __future__ import annotations

import copy
import warnings
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from inward.errors import CallError, InwardWarning
from inward.network.edit import rewrite_local_response_norm
from inward.network.export import export, flat_tensors, from_program
from inward.network.graph import Graph
from inward.network.hooks import HookGraph, state_of
from inward.types import Size

# Sizes that are tried when a network refuses the one asked for, to name some that it takes.
_USUAL = (8, 16, 28, 32, 64, 96, 112, 128, 160, 192, 224, 227, 240, 256, 288, 299, 320, 384, 448, 512)
# A graph is the module's own operations; only their order can differ (float32 rounding).
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


class Source(Protocol):
    """Gives the graph for an image size, and itself on another device or in another dtype."""

    device: torch.device
    dtype: torch.dtype
    told: bool

    def graph(self, size: Size, channels: int) -> Graph | HookGraph: ...
    def to(self, device: torch.device, dtype: torch.dtype) -> Source: ...
    def weights(self) -> dict[str, Tensor]: ...
    def parameters(self) -> int: ...


class ModuleSource:
    """A PyTorch module. What runs is a copy that shares its weights, so that the module is never changed."""

    told = False

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = _sharing(module), name
        tensor = next((t for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()), None)
        self.device = torch.device("cpu") if tensor is None else tensor.device
        self.dtype = _dtype(module, torch.get_default_dtype())
        self._graphs: dict[Size, Graph | HookGraph] = {}
        self._reason: str | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ModuleSource:
        """A copy of the module there; exported anew, since device and dtype can be baked into a graph."""
        if (device, dtype) == (self.device, self.dtype):
            return self
        return ModuleSource(copy.deepcopy(self.module).to(device=device, dtype=dtype), self.name)

    def weights(self) -> dict[str, Tensor]:
        return dict(self.module.state_dict())

    def parameters(self) -> int:
        return sum(p.numel() for p in self.module.parameters())

    def graph(self, size: Size, channels: int) -> Graph | HookGraph:
        if size not in self._graphs:
            generator = torch.Generator().manual_seed(0)
            image = torch.rand((1, channels, *size), generator=generator).to(self.device, self.dtype)
            devices = [self.device] if self.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                self._graphs[size] = self._make(image)
        return self._graphs[size]

    def _make(self, image: Tensor) -> Graph | HookGraph:
        if self._reason is None:
            try:
                graph = export(self.module, image)
                rewritten = graph.edited(rewrite_local_response_norm)
                reference = self._reference(image)
                # The rewrite is exact but for rounding, and rounding can turn a ReLU; so what is
                # compared is the graph before it, wherever that runs.
                self._reason = difference(reference, graph if reference is self.module else rewritten, image)
                if self._reason is None:
                    return rewritten
            except Exception as error:  # export raises anything at all
                self._refuse_size(image, error)
                self._reason = _first_line(error)
            warnings.warn(
                f"{self.name} cannot be exported as a graph ({self._reason}); only its modules can be addressed",
                InwardWarning,
                stacklevel=2,
            )
        try:
            return HookGraph(self.module, image, self._reason)
        except Exception as error:
            self._refuse_size(image, error)
            raise

    def _reference(self, image: Tensor) -> nn.Module:
        """What the graph must agree with: the module, in float32 where it lacks operations in its dtype."""
        short = self.dtype in (torch.bfloat16, torch.float16)
        return copy.deepcopy(self.module).float() if short and not _takes(self.module, image) else self.module

    def _refuse_size(self, image: Tensor, error: Exception) -> None:
        """Where the module itself cannot take the image, that is the error."""
        if _takes(self.module, image):
            return
        height, width = image.shape[2:]
        if _mixed(self.module):
            raise CallError(
                f"{self.name} mixes dtypes ({_mixed(self.module)}) and does not run; give dtype="
            ) from error
        possible = [s for s in _USUAL if _takes(self.module, image.new_zeros(1, image.shape[1], s, s))]
        if not possible:
            raise CallError(
                f"{self.name} does not run on {image.shape[1]}-channel {self.dtype} images: {_first_line(error)}"
            ) from error
        sizes = ", ".join(f"{s} x {s}" for s in possible)
        raise CallError(f"{self.name} cannot take images of {height} x {width}; it takes {sizes}") from error


class ProgramSource:
    """A ``torch.export`` program from a ``.pt2`` file, at the size and dtype that it was exported with."""

    told = False

    def __init__(self, program: torch.export.ExportedProgram, name: str) -> None:
        self.program, self.name = program, name
        image = _program_input(program, name)
        self.device, self.dtype = image.device, image.dtype
        self.channels, *size = image.shape[1:]
        self.sizes = (int(size[0]), int(size[1]))
        self._graph: Graph | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ProgramSource:
        if dtype != self.dtype:
            raise CallError(f"{self.name} was exported in {self.dtype}; export it again for {dtype}")
        if device == self.device:
            return self
        from torch.export.passes import move_to_device_pass

        return ProgramSource(move_to_device_pass(self.program, device), self.name)

    def weights(self) -> dict[str, Tensor]:
        return dict(self.program.state_dict)

    def parameters(self) -> int:
        return sum(p.numel() for p in self.program.parameters())

    def graph(self, size: Size, channels: int) -> Graph:
        if size != self.sizes:
            taken = f"{self.sizes[0]} x {self.sizes[1]}"
            raise CallError(f"{self.name} cannot take images of {size[0]} x {size[1]}; it takes {taken}")
        if self._graph is None:
            self._graph = from_program(self.program).edited(rewrite_local_response_norm)
        return self._graph


def _program_input(program: torch.export.ExportedProgram, name: str) -> Any:
    users = program.graph_signature.user_inputs
    values = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in users]
    if len(values) != 1 or not isinstance(values[0], Tensor) or values[0].ndim != 4:
        raise CallError(f"{name} must take one batch of images (N, C, H, W)")
    if isinstance(values[0].shape[0], int):
        raise CallError(
            f"{name} was exported for a batch of {values[0].shape[0]}; export it with a dynamic batch (Dim.DYNAMIC)"
        )
    return values[0]


def difference(module: nn.Module, graph: Graph, image: Tensor) -> str | None:
    """Why the graph is not the module: the check that every export must pass, or None.

    Compares the outputs for batches of one and two, and for two the gradient of the image.
    """
    tolerance = _TOLERANCE.get(image.dtype, 0.1)
    pair = torch.rand((2, *image.shape[1:]), generator=torch.Generator().manual_seed(1)).to(image)
    for batch in (image, pair):
        ours = _answers(lambda x: list(graph.run(x, graph.outputs)), batch)
        theirs = _answers(lambda x: _run(module, x), batch.to(_dtype(module, batch.dtype)))
        for what, a, b in zip(("output", "gradient"), ours, theirs, strict=True):
            if a.shape != b.shape:
                return f"its {what} has another shape for a batch of {len(batch)}"
            gap, scale = (a - b).abs().max().item(), b.abs().max().item()
            if not gap <= tolerance * scale + 1e-30 and not (a.isnan() & b.isnan()).any():
                return f"the {what} of the graph differs by {gap:.2g} from the module's for a batch of {len(batch)}"
    return None


def _run(module: nn.Module, image: Tensor) -> list[Tensor]:
    return flat_tensors(torch.func.functional_call(module, state_of(module), (image,)))


def _dtype(module: nn.Module, otherwise: torch.dtype) -> torch.dtype:
    tensors = [*module.parameters(), *module.buffers()]
    return next((t.dtype for t in tensors if t.is_floating_point()), otherwise)


def _answers(run: Any, batch: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs in a row and, of several images, the gradient of a fixed combination of them.

    The same randomness each time.
    """
    torch.manual_seed(0)
    image = batch.detach().clone().requires_grad_(len(batch) > 1)
    with torch.set_grad_enabled(len(batch) > 1):
        flat = torch.cat([_wide(o).flatten() for o in run(image) if o.is_floating_point()])
        weights = torch.cos(torch.arange(flat.numel(), device=flat.device)).to(flat)
        if not flat.requires_grad:
            return flat.detach(), torch.zeros_like(image)
        (gradient,) = torch.autograd.grad((flat * weights).sum(), image, allow_unused=True)
    return flat.detach(), torch.zeros_like(image) if gradient is None else gradient


def _wide(output: Tensor) -> Tensor:
    return output.double() if output.device.type != "mps" else output.float()


def _sharing(module: nn.Module) -> nn.Module:
    """A copy of the module with the same tensors: what it does to itself when it runs stays there.

    A module that cannot be copied (it holds a lock or an open file) is run as it is.
    """
    held = [v for m in module.modules() for kept in (m._parameters, m._buffers, vars(m)) for v in kept.values()]
    try:
        return copy.deepcopy(module, {id(v): v for v in held if isinstance(v, Tensor)})
    except Exception:
        return module


def _takes(module: nn.Module, image: Tensor) -> bool:
    try:
        with torch.no_grad():
            _run(module, image)
    except Exception:
        return False
    return True


def _mixed(module: nn.Module) -> str:
    kinds = {str(p.dtype) for p in module.parameters() if p.is_floating_point()}
    return ", ".join(sorted(kinds)) if len(kinds) > 1 else ""


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]
