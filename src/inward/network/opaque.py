"""What tracing would lose: custom backward passes and blocks without gradient.

``torch.export`` traces through a ``torch.autograd.Function`` and through ``torch.no_grad()``; the
forward pass stays right and the gradient is wrong without a word. While a network is exported,
both become opaque operations, which are exchanged for the real ones in the finished graph.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.autograd.function import _SingleLevelFunction
from torch.fx.traceback import preserve_node_meta

from inward.network.graph import duplicate
from inward.network.modes import LOCK

_LIBRARY = torch.library.Library("inward", "DEF")
_LIBRARY.define("call(Tensor[] tensors, str key) -> Tensor[]")
_LIBRARY.define("stop(Tensor x) -> Tensor")
_CALLS: dict[str, _Call] = {}
_KEYS = itertools.count()


@dataclass(frozen=True)
class _Call:
    """A call of a custom autograd function with its arguments that are no tensors."""

    function: type[torch.autograd.Function]
    slots: tuple[Any, ...]

    def arguments(self, tensors: list[Tensor]) -> list[Any]:
        rest = iter(tensors)
        return [next(rest) if slot is _TENSOR else slot for slot in self.slots]


_TENSOR = object()


@torch.library.register_fake("inward::call")
def _fake_call(tensors: list[Tensor], key: str) -> list[Tensor]:
    call = _CALLS[key]
    result = _forward_only(call.function, call.arguments(tensors))
    return [r.clone() for r in (result if isinstance(result, tuple) else (result,))]


@torch.library.register_fake("inward::stop")
def _fake_stop(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class _Context:
    """What a forward pass without a backward pass gets for ``ctx``: it keeps whatever is put into it."""

    def __init__(self, arguments: list[Any]) -> None:
        self.needs_input_grad = tuple(isinstance(a, Tensor) and a.is_floating_point() for a in arguments)
        self.saved_tensors: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        self.saved_tensors = tensors

    def _ignore(self, *_: Any) -> None:
        """For what only a backward pass would ask."""

    save_for_forward = mark_dirty = mark_non_differentiable = set_materialize_grads = _ignore


def _forward_only(function: Any, arguments: list[Any]) -> Any:
    if function.setup_context is torch.autograd.Function.setup_context:
        return function.forward(_Context(arguments), *arguments)
    return function.forward(*arguments)


@contextmanager
def recording() -> Iterator[list[str]]:
    """Within, every custom autograd function becomes one opaque operation; yields their keys."""
    keys: list[str] = []

    def apply(cls: type[torch.autograd.Function], *args: Any) -> Any:
        tensors = [a for a in args if isinstance(a, Tensor)]
        key = str(next(_KEYS))
        _CALLS[key] = _Call(cls, tuple(_TENSOR if isinstance(a, Tensor) else a for a in args))
        keys.append(key)
        results = torch.ops.inward.call(tensors, key)
        single = not isinstance(_forward_only(cls, list(args)), tuple)
        return results[0] if single else tuple(results)

    # One level below `Function`, so that it is reached through `act = MyFunction.apply` too, the
    # bound method that many networks keep.
    with LOCK:
        here = threading.get_ident()

        def chosen(cls: type[torch.autograd.Function], *args: Any) -> Any:
            ours = threading.get_ident() == here
            return apply(cls, *args) if ours else super(_SingleLevelFunction, cls).apply(*args)  # type: ignore[misc]

        _SingleLevelFunction.apply = classmethod(chosen)  # type: ignore[attr-defined]
        try:
            yield keys
        finally:
            del _SingleLevelFunction.apply  # type: ignore[attr-defined]


def keep_blocks(program: torch.export.ExportedProgram) -> None:
    """Prepares the blocks of a program (``no_grad``, ``autocast``) for being inlined.

    Marks every value computed where gradients are off, and has the blocks interpreted, node by
    node, so that what is inlined still knows its module.
    """
    _stop_in(program.graph_module, enabled=True)


def _stop_in(module: fx.GraphModule, enabled: bool) -> None:
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        blocks = _blocks(module, node)
        for block in blocks:
            _stop_in(block, bool(node.args[0]) if "wrap_with_set_grad_enabled" in str(node.target) else enabled)
            block.forward = functools.partial(_interpret, block)
        if any(is_stop(user) for user in node.users):
            continue
        if not blocks and (node.target is torch.ops.aten.detach.default or (not enabled and _is_float(node))):
            _insert_stop(module.graph, node)
    module.recompile()


def _blocks(module: fx.GraphModule, node: fx.Node) -> list[fx.GraphModule]:
    """Private copies of the graphs that a higher-order operation runs: whoever else has them keeps them."""
    copies = []
    for name in [str(i.target) for i in node.all_input_nodes if i.op == "get_attr"]:
        held = getattr(module, name)
        if isinstance(held, fx.GraphModule):
            copies.append(duplicate(held))
            setattr(module, name, copies[-1])
    return copies


def _interpret(block: fx.GraphModule, *args: Any) -> Any:
    with preserve_node_meta():
        return fx.Interpreter(block).run(*args)


def is_stop(node: fx.Node) -> bool:
    """Whether a node marks a value as a constant."""
    return node.target is torch.ops.inward.stop.default


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


def _insert_stop(graph: fx.Graph, node: fx.Node) -> None:
    with graph.inserting_after(node):
        stop = graph.call_function(torch.ops.inward.stop.default, (node,))
    stop.meta = dict(node.meta)
    node.replace_all_uses_with(stop, delete_user_cb=lambda user: user is not stop)


def restore(graph: fx.Graph) -> None:
    """Exchanges the opaque operations for the real ones."""
    for node in graph.nodes:
        if is_stop(node):
            node.target = stop_gradient
        elif node.target is torch.ops.inward.call.default:
            tensors, key = node.args
            node.target, node.args = _custom_function(_CALLS[key], len(node.meta["val"])), (tensors,)


def forget(keys: list[str]) -> None:
    """Lets go of recorded calls, once the graph that holds them is made."""
    for key in keys:
        _CALLS.pop(key, None)


def stop_gradient(x: Tensor) -> Tensor:
    """``x`` as a constant: what a ``no_grad`` block or ``detach`` gives."""
    return x.detach()


def _custom_function(call: _Call, count: int) -> Any:
    """Runs a custom autograd function as its author wrote it."""

    def custom(tensors: list[Tensor]) -> tuple[Tensor, ...]:
        result = call.function.apply(*call.arguments(tensors))  # type: ignore[attr-defined]
        return result if isinstance(result, tuple) else (result,)

    custom.__name__ = call.function.__name__
    custom.single_output = count == 1  # type: ignore[attr-defined]
    return custom
