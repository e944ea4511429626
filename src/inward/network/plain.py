"""Operations of exported programs whose functional form is known: it takes their place without a second trace.

What :func:`inward.network.functional.decomposed` makes of a program is the measure: tests compare the two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx

from inward.network.layout import PRIME

Rewrite = Callable[[], None]
_ATEN = torch.ops.aten
# What these give shares no memory with what they are given: it may be written into.
_OWN = frozenset(
    f"aten.{name}"
    for name in (
        *("conv2d.default", "conv_transpose2d.input", "linear.default", "matmul.default", "relu.default"),
        *("leaky_relu.default", "elu.default", "silu.default", "gelu.default", "sigmoid.default", "tanh.default"),
        *("softplus.default", "hardtanh.default", "relu6.default", "hardswish.default", "hardsigmoid.default"),
        *("add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "max_pool2d.default", "avg_pool2d.default"),
        *("adaptive_avg_pool2d.default", "mean.dim", "cat.default", "clone.default", "softmax.int", "exp.default"),
        *("sqrt.default", "neg.default", "square.default", "abs.default", "clamp.default", "clamp_min.default"),
        *("layer_norm.default", "group_norm.default", "scaled_dot_product_attention.default", "batch_norm.default"),
    )
)
_WRITING = {
    getattr(getattr(_ATEN, name + "_"), overload): getattr(getattr(_ATEN, name), overload)
    for name, overload in (
        *(("relu", "default"), ("leaky_relu", "default"), ("elu", "default"), ("silu", "default")),
        *(("hardtanh", "default"), ("hardswish", "default"), ("hardsigmoid", "default")),
        *(("sigmoid", "default"), ("tanh", "default"), ("add", "Tensor"), ("sub", "Tensor"), ("mul", "Tensor")),
        ("div", "Tensor"),
    )
}


def rewrites(program: torch.export.ExportedProgram, unchanged: frozenset[str]) -> list[Rewrite] | None:
    """What has to be done to a program of operations that are known; None where one is not. Nothing is done yet."""
    signature = program.graph_signature
    images = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in signature.user_inputs]
    if len(images) != 1:
        return None
    found: list[Rewrite] = []
    known = _Known(images[0])
    for node in program.graph.nodes:
        if node.op in ("placeholder", "output"):
            continue
        if node.op != "call_function":
            return None
        if str(node.target) in unchanged or node.target is operator.mul:
            known.own |= {node} if str(node.target) in _OWN else set()
            continue
        rewrite = known.rewrite(node)
        if rewrite is None:
            return None
        found.append(rewrite)
    return found


class _Known:
    """The nodes so far that own their memory, and how the next is rewritten."""

    def __init__(self, image: fx.Node) -> None:
        self.image = image
        self.own: set[fx.Node] = set()

    def rewrite(self, node: fx.Node) -> Rewrite | None:
        """How this node gets its functional form; None where that is not known."""
        name = str(node.target)
        if node.target in _WRITING:
            return self._writing(node)
        if name == "aten.batch_norm.default":
            return self._batch_norm(node)
        if name == "aten.dropout.default":
            return None if node.args[2] else partial(_exchange, node, _ATEN.clone.default, (node.args[0],))
        if name == "aten.dropout_.default":
            return None if node.args[2] else partial(_leave_out, node)
        if name == "aten.contiguous.default":
            return self._contiguous(node)
        if name in ("aten.flatten.using_ints", "aten.reshape.default", "aten.unflatten.int"):
            return self._reshaped(node)
        return None

    def _writing(self, node: fx.Node) -> Rewrite | None:
        """What is read later is what was written; nothing else may share the memory that is written into."""
        target: Any = node.args[0]
        before = [user for user in target.users if user < node]
        # A second write is of what the first gave; one that is not is not understood here.
        again = any(user.target in _WRITING and user.args[0] is target for user in before)
        if again or target not in self.own or not all(user in self.own for user in before):
            return None
        tensors = [other.meta["val"] for other in node.all_input_nodes]
        if len({t.dtype for t in tensors if isinstance(t, Tensor)}) != 1 or not tensors[0].is_floating_point():
            return None
        self.own.add(node)
        return partial(_written, node, target)

    def _batch_norm(self, node: fx.Node) -> Rewrite | None:
        x, weight, bias, mean, variance, training, momentum, eps, _ = node.args
        if training or mean is None or variance is None:
            return None
        self.own.add(node)
        return partial(_normalized, node, (x, weight, bias, mean, variance, momentum, eps))

    def _contiguous(self, node: fx.Node) -> Rewrite | None:
        source: Any = node.args[0]
        if len(node.args) > 1 or node.kwargs or _concrete(source.meta["val"]).is_contiguous():
            return None
        self.own.add(node)
        how = {"memory_format": torch.contiguous_format}
        return partial(_exchange, node, _ATEN.clone.default, (source,), how)

    def _reshaped(self, node: fx.Node) -> Rewrite | None:
        source: Any = node.args[0]
        old, new = source.meta["val"], node.meta["val"]
        if _numbers(old.shape) == _numbers(new.shape):
            return None
        given: Any = node.args[1] if str(node.target) == "aten.reshape.default" else new.shape
        batch = str(self.image.meta["val"].shape[0])
        if not all(isinstance(n, (int, fx.Node)) or str(n) == batch for n in given):
            return None
        try:
            _concrete(old).view(_numbers(new.shape))
            return partial(self._seen, node, source, given)
        except RuntimeError:
            # The copy is told its shape in numbers.
            shape = [n if isinstance(n, fx.Node) else m for n, m in zip(given, new.shape, strict=True)]
            known = all(isinstance(n, (int, fx.Node)) or str(n) == batch for n in shape)
            return partial(self._copied, node, source, shape) if known else None

    def _copied(self, node: fx.Node, source: fx.Node, shape: list[Any]) -> None:
        value = source.meta["val"]
        with node.graph.inserting_before(node):
            copy = node.graph.call_function(_ATEN.clone.default, (source,), {"memory_format": torch.contiguous_format})
        with value.fake_mode:
            copy.meta = {**node.meta, "val": value.clone(memory_format=torch.contiguous_format)}
        self._seen(node, copy, shape, _ATEN._unsafe_view.default)

    def _seen(self, node: fx.Node, source: fx.Node, shape: Any, how: Any = _ATEN.view.default) -> None:
        _exchange(node, how, (source, [n if isinstance(n, (int, fx.Node)) else self._batch() for n in shape]))

    def _batch(self) -> fx.Node:
        """The node that is the number of images."""
        size = _ATEN.sym_size.int
        found = next((u for u in self.image.users if u.target is size and u.args[1] == 0), None)
        if found is None:
            with self.image.graph.inserting_after(self.image):
                found = self.image.graph.call_function(size, (self.image, 0))
            found.meta = {"val": self.image.meta["val"].shape[0]}
        return found


def _exchange(node: fx.Node, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
    node.target, node.args, node.kwargs = target, args, kwargs or {}


def _written(node: fx.Node, target: fx.Node) -> None:
    node.target = _WRITING[node.target]
    target.replace_all_uses_with(node, delete_user_cb=lambda user: node < user)


def _leave_out(node: fx.Node) -> None:
    source: Any = node.args[0]
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)


def _normalized(node: fx.Node, args: tuple[Any, ...]) -> None:
    value = node.meta["val"]
    with node.graph.inserting_before(node):
        made = node.graph.call_function(_ATEN._native_batch_norm_legit_no_training.default, args)
    with value.fake_mode:
        made.meta = {**node.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
    _exchange(node, operator.getitem, (made, 0))


def _numbers(lengths: Any) -> list[int]:
    """Lengths or strides, with one number for the symbol of the batch."""
    return [n if isinstance(n, int) else _number(n) for n in lengths]


def _number(length: torch.SymInt) -> int:
    expression = length.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, PRIME)))


def _concrete(value: Tensor) -> Tensor:
    """A tensor of that shape and order, without memory."""
    return torch.empty_strided(_numbers(value.shape), _numbers(value.stride()), device="meta")
