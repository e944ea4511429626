"""Where graphs come from: a module or an exported program, one graph for every image size."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from inward.errors import CallError, InwardWarning
from inward.network.edit import rewrite_local_response_norm
from inward.network.export import export
from inward.network.graph import Graph
from inward.network.hooks import HookGraph, call
from inward.network.modes import ordinary, repeatable
from inward.network.normalization import local_response_norm
from inward.network.preprocess import check_size
from inward.types import Size

# Sizes that are tried when a network refuses the one asked for, to name some that it takes.
_USUAL = (8, 16, 28, 32, 64, 96, 112, 128, 160, 192, 224, 227, 240, 256, 288, 299, 320, 384, 448, 512)
# A graph is the module's own operations; only their order can differ (float32 rounding).
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-4, torch.bfloat16: 0.1, torch.float16: 0.02}

# The rewrite is exact but for rounding, and a mistaken one is off by far more.
_REWRITTEN = {torch.bfloat16: 0.1, torch.float16: 0.02}


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
    """A PyTorch module. What runs is a copy that shares its weights, so that the module is never changed.

    Forward hooks that the module has when it is given are part of the network, since they may change
    what it computes: they are exported with it. So one that only looks on sees the runs that make
    and check a graph too, and in one of them tensors without values.
    """

    told = False

    def __init__(self, module: nn.Module, name: str) -> None:
        self.module, self.name = _sharing(module), name
        tensor = next((t for t in [*module.parameters(), *module.buffers()] if t.is_floating_point()), None)
        self.device = torch.device("cpu") if tensor is None else tensor.device
        self.dtype = _dtype(module, torch.get_default_dtype())
        # While a graph is made the module holds tensors without values, and another thread may ask.
        self._weights = dict(self.module.state_dict())
        self._graphs: dict[Size, Graph | HookGraph] = {}
        self._reason: str | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> ModuleSource:
        """A copy of the module there; exported anew, since device and dtype can be baked into a graph."""
        if (device, dtype) == (self.device, self.dtype):
            return self
        with torch.inference_mode(False):
            return ModuleSource(_duplicate(self.module).to(device=device, dtype=dtype), self.name)

    def weights(self) -> dict[str, Tensor]:
        """The module's parameters and buffers."""
        return dict(self._weights)

    def parameters(self) -> int:
        """The number of parameters; one that is used twice counts once."""
        return sum(p.numel() for p in self.module.parameters())

    def graph(self, size: Size, channels: int) -> Graph | HookGraph:
        """The graph at this size; where the module cannot be exported, hooks on it."""
        if size not in self._graphs:
            check_size(size)
            devices = [self.device] if self.device.type == "cuda" else []
            with ordinary(self.device), torch.random.fork_rng(devices=devices):
                generator = torch.Generator().manual_seed(0)
                image = torch.rand((1, channels, *size), generator=generator).to(self.device, self.dtype)
                self._graphs[size] = self._make(image)
        return self._graphs[size]

    def _make(self, image: Tensor) -> Graph | HookGraph:
        if self._reason is None:
            try:
                graph = export(self.module, image)
                faster = rewritten(graph, image)
                self._reason = self._difference(graph, faster, image)
                if self._reason is None:
                    return faster
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

    def _difference(self, graph: Graph, faster: Graph, image: Tensor) -> str | None:
        """Why the graph is not the module, or None; ``faster`` is the graph with its rewrites.

        Rounding in a rewrite can turn a ReLU, and with it a gradient; so what is compared is the
        graph before it. Where the module lacks operations in its own dtype, that graph does not run
        either: the module in float32 is then compared with its own graph, which is traced alike,
        and the outputs alone with those of the short graph, whose gradient rounding has changed.
        """
        short = self.dtype in (torch.bfloat16, torch.float16)
        if not short or _takes(self.module, image):
            return difference(self.module, graph, image)
        reference, wide = _duplicate(self.module).float(), image.float()
        found = difference(reference, export(reference, wide), wide)
        return found or difference(reference, faster, image, gradient=False)

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


@repeatable()
def rewritten(graph: Graph, image: Tensor) -> Graph:
    """The graph with the rewrites that make it faster, where they are exact for this image."""
    changed = graph.edited(rewrite_local_response_norm)
    if not changed.count(local_response_norm.__name__):
        return graph
    with torch.no_grad():
        try:
            plain = _flat(graph.run(image, graph.outputs))
        except RuntimeError:
            # PyTorch's own has no kernel in this dtype; the rewrite is compared with the module in float32.
            return changed
        gap, scale = _gap(_flat(changed.run(image, graph.outputs)), plain)
    return changed if gap <= _REWRITTEN.get(image.dtype, 1e-4) * scale else graph


@repeatable()
def difference(module: nn.Module, graph: Graph, image: Tensor, *, gradient: bool = True) -> str | None:
    """Why the graph is not the module: the check that every export must pass, or None.

    Compares the outputs for batches of one and two, and for two the ``gradient`` of the image.
    """
    tolerance = _TOLERANCE.get(image.dtype, 0.1)
    pair = torch.rand((2, *image.shape[1:]), generator=torch.Generator().manual_seed(1)).to(image)
    for batch in (image, pair):
        ours = _answers(lambda x: list(graph.run(x, graph.outputs)), batch)
        theirs = _answers(lambda x: call(module, x), batch.to(_dtype(module, batch.dtype)))
        pairs = list(zip(("output", "gradient"), ours, theirs, strict=True))
        for what, a, b in pairs if gradient else pairs[:1]:
            if a.shape != b.shape:
                return f"its {what} has another shape for a batch of {len(batch)}"
            gap, scale = _gap(a, b)
            if gap > tolerance * scale + 1e-30:
                return f"the {what} of the graph differs by {gap:.2g} from the module's for a batch of {len(batch)}"
    return None


def _gap(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """The largest difference and the largest value where both are finite; elsewhere they must be the same."""
    finite = ours.isfinite() & theirs.isfinite()
    others = (ours[~finite], theirs[~finite])
    if not torch.equal(*(o.isnan() for o in others)) or not torch.equal(*(o.double().nan_to_num() for o in others)):
        return math.inf, 0.0
    if not finite.any():
        return 0.0, 0.0
    return (ours - theirs)[finite].abs().max().item(), theirs[finite].abs().max().item()


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
        flat = _flat(run(image))
        weights = torch.cos(torch.arange(flat.numel(), device=flat.device)).to(flat)
        if not flat.requires_grad:
            return flat.detach(), torch.zeros_like(image)
        (gradient,) = torch.autograd.grad((flat * weights).sum(), image, allow_unused=True)
    return flat.detach(), torch.zeros_like(image) if gradient is None else gradient


def _flat(outputs: Iterable[Tensor]) -> Tensor:
    return torch.cat([_wide(o).flatten() for o in outputs if o.is_floating_point()])


def _wide(output: Tensor) -> Tensor:
    return output.double() if output.device.type != "mps" else output.float()


def _sharing(module: nn.Module) -> nn.Module:
    """A copy of the module with the same tensors: what it does to itself when it runs stays there."""
    held = [v for m in module.modules() for kept in (m._parameters, m._buffers, vars(m)) for v in kept.values()]
    memo: dict[int, Any] = {id(v): _ordinary(v) for v in held if isinstance(v, Tensor)}
    try:
        return copy.deepcopy(module, dict(memo))
    except Exception:  # it holds a lock, an open file or anything else that cannot be copied
        shells = {m: object.__new__(type(m)) for m in module.modules()}
        memo |= {id(m): shell for m, shell in shells.items()}
        for each, shell in shells.items():
            vars(shell).update({k: _copied(v, memo) for k, v in vars(each).items()})
        return shells[module]


def _duplicate(module: nn.Module) -> nn.Module:
    """A copy with tensors of its own."""
    made = _sharing(module)
    copies: dict[int, Any] = {}
    for each in made.modules():
        each._parameters.update({k: copy.deepcopy(v, copies) for k, v in each._parameters.items()})
        each._buffers.update({k: copy.deepcopy(v, copies) for k, v in each._buffers.items()})
    return made


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A copy that shares tensors and knows the copied modules; what cannot be copied is shared as well."""
    trial = dict(memo)
    try:
        made = copy.deepcopy(value, trial)
    except Exception:
        return copy.copy(value) if isinstance(value, (dict, list, set)) else value
    memo.update(trial)
    return made


def _ordinary(tensor: Tensor) -> Tensor:
    """The tensor itself; a copy where it is bound to ``inference_mode``, in which no gradient can be had."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        copied = tensor.detach().clone()
        return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def _takes(module: nn.Module, image: Tensor) -> bool:
    try:
        with torch.no_grad():
            call(module, image)
    except Exception:
        return False
    return True


def _mixed(module: nn.Module) -> str:
    kinds = {str(p.dtype) for p in module.parameters() if p.is_floating_point()}
    return ", ".join(sorted(kinds)) if len(kinds) > 1 else ""


def _first_line(error: BaseException) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {text}"[:200]
