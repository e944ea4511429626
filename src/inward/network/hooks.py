"""The fallback for modules that cannot be exported: forward hooks on modules, for one run.

The same interface as :class:`~inward.network.graph.Graph`, with modules as the only points. The
run ends as soon as the last wanted module has answered; outputs are cloned when the hook fires,
since an in-place operation may overwrite them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from inward.errors import CallError
from inward.network.export import flat_tensors, named_tensors
from inward.network.graph import NOTHING, Point
from inward.network.layout import Layout, of_module
from inward.network.modes import exact
from inward.network.naming import numbered

OUTPUT = "output:"


class _Done(Exception):  # noqa: N818
    """Raised inside the forward pass when everything that was asked for is there."""


class HookGraph:
    """A network whose points are its modules' outputs."""

    def __init__(self, module: nn.Module, image: Tensor, reason: str) -> None:
        self.reason = reason
        self.aliases: dict[str, str] = {}
        self._module = module
        self._points = self._survey(image)
        self.points = {p.name: p for p in self._points}

    def _survey(self, image: Tensor) -> list[Point]:
        points: list[Point] = []
        known: defaultdict[tuple[int, ...], set[Layout]] = defaultdict(set)

        def visit(module: nn.Module, given: dict[str, Tensor]) -> bool:
            count = sum(p.numel() for p in module.parameters())
            for name, tensor in given.items():
                shape = (1, *tensor.shape[1:])
                layout = of_module(module, shape, tensor.shape[:1] == image.shape[:1])
                if layout.has_units:
                    known[shape].add(layout)
                elif len(known[shape]) == 1 and layout.axes[:1] == ("n",):
                    # What does not name its axes (a ReLU, a block) has those of the points of its
                    # very shape, where these agree.
                    (layout,) = known[shape]
                points.append(Point(name, "module", type(module).__name__, shape, layout, count, node=name))
            return False

        with torch.no_grad():
            outputs = self._forward(image, visit)
        self.outputs = tuple(f"{OUTPUT}{i}" for i in range(len(outputs)))
        return points

    def run(self, image: Tensor, nodes: Sequence[str], given: Mapping[str, Tensor] = NOTHING) -> tuple[Tensor, ...]:
        """The values of ``nodes``, as :meth:`Graph.run` gives them; values cannot be given."""
        if given:
            raise CallError(f"to start from activations needs the network's graph, and there is none: {self.reason}")
        wanted = {n for n in nodes if not n.startswith(OUTPUT)}
        values: dict[str, Tensor] = {}
        to_the_end = len(wanted) < len(set(nodes))

        def visit(_: nn.Module, given: dict[str, Tensor]) -> bool:
            values.update({name: tensor for name, tensor in given.items() if name in wanted})
            return not to_the_end and wanted <= set(values)

        with exact(image.device):
            outputs = self._forward(image, visit)
        values |= {f"{OUTPUT}{i}": t for i, t in enumerate(outputs)}
        missing = sorted(wanted - set(values))
        if missing:
            raise CallError(f"the module '{missing[0]}' was not called for this image")
        return tuple(values[n] for n in nodes)

    def _forward(self, image: Tensor, visit: Callable[[nn.Module, dict[str, Tensor]], bool]) -> list[Tensor]:
        """Runs the module with its weights as constants and its buffers as copies."""
        names = {id(m): n for n, m in reversed(list(self._module.named_modules()))}
        stack: list[tuple[str, str]] = []
        counts: Counter[str] = Counter()
        taken: set[str] = set()

        def enter(module: nn.Module, _: Any) -> None:
            stack.append((names[id(module)], _call_name(names[id(module)], stack, counts)))

        def leave(module: nn.Module, _: Any, output: Any) -> Any:
            _, name = stack.pop()
            kept = _cloned(output)
            given = {numbered(name + suffix, taken): tensor for suffix, tensor in named_tensors(kept)}
            taken.update(given)
            if visit(module, given):
                raise _Done
            # Downstream works on a copy, so that what was captured cannot be overwritten and is
            # still what the rest of the network depends on.
            return _cloned(kept)

        inside = [m for m in self._module.modules() if m is not self._module]
        handles = [m.register_forward_pre_hook(enter) for m in inside]
        handles += [m.register_forward_hook(leave) for m in inside]
        try:
            return call(self._module, image)
        except _Done:
            return []
        finally:
            for handle in handles:
                handle.remove()

    def edited(self, edit: Callable[[fx.GraphModule], None]) -> HookGraph:
        """Refused: there is no graph to edit."""
        raise CallError(f"this needs the network's graph, and there is none: {self.reason}")

    def upto(self, names: Sequence[str]) -> HookGraph:
        """The network ending in the points ``names``."""
        cut = object.__new__(HookGraph)
        cut.__dict__.update(self.__dict__, outputs=tuple(self.points[n].node for n in names))
        return cut

    def reaches(self, source: str, end: str) -> bool:
        """Whether ``end`` comes after ``source``; without a graph, by order."""
        order = [p.node for p in self._points]
        return end.startswith(OUTPUT) or order.index(source) <= order.index(end)

    def count(self, target: str) -> int:
        """No operation is known by name here."""
        return 0


def call(module: nn.Module, image: Tensor) -> list[Tensor]:
    """What the module returns, with its weights as constants and its buffers as copies that it may update."""
    state: dict[str, Tensor] = {}
    made: dict[int, Tensor] = {}
    # Every place of every module is named, once: where torch ties names itself, and a module has
    # two, it puts the constants back in place of the parameters.
    for path, each in module.named_modules():
        for key, tensor in [*each._parameters.items(), *each._buffers.items()]:
            if tensor is not None:
                constant = tensor.detach() if key in each._parameters else tensor.detach().clone()
                state[f"{path}.{key}" if path else key] = made.setdefault(id(tensor), constant)
    return flat_tensors(torch.func.functional_call(module, state, (image,), tie_weights=False))


def _call_name(path: str, stack: list[tuple[str, str]], counts: Counter[str]) -> str:
    base = path
    for outer, outer_name in reversed(stack):
        if path.startswith(outer + "."):
            base = outer_name + path[len(outer) :]
            break
    counts[base] += 1
    return base if counts[base] == 1 else f"{base}:{counts[base]}"


def _cloned(output: Any) -> Any:
    return pytree.tree_map_only(Tensor, torch.clone, output)
