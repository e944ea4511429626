"""Multiply-adds and parameters of operations, for a batch of one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, fx

from inward.network.layout import op_name, sizes
from inward.network.operation import argument


def multiply_adds(node: fx.Node) -> int:
    """The multiply-adds of one operation; element-wise operations count as none.

    Accounting never stops an export: an operation whose arguments are not as expected counts as none.
    """
    if getattr(node.target, "__name__", "") == "getitem":
        # One of several results: they were counted where they were made.
        return 0
    try:
        return _count(node, op_name(node))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return 0


def _count(node: fx.Node, name: str) -> int:
    # Arguments by their place: a tensor that an operation reads twice is an input once.
    args = node.args
    if name.startswith("scaled_dot_product"):
        query, key, value = (_shape(a) for a in args[:3])
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    if name.startswith("conv_transpose") or (name == "convolution" and argument(node, "transposed")):
        return math.prod(_shape(args[0])) * math.prod(_shape(args[1])[1:])
    if name in {"conv1d", "conv2d", "conv3d", "convolution"}:
        return _results(node) * math.prod(_shape(args[1])[1:])
    rule = _RULES.get(name)
    return 0 if rule is None else rule(node)


def _results(node: fx.Node) -> int:
    return math.prod(_shape(node))


def _rows_by_columns(node: fx.Node) -> int:
    return _results(node) * _shape(node.args[0])[-1]


def _added_product(node: fx.Node) -> int:
    return _results(node) * _shape(node.args[1])[-1]


def _added_products(node: fx.Node) -> int:
    batch, _, inner = _shape(node.args[1])
    return _results(node) * batch * inner


def _bilinear(node: fx.Node) -> int:
    # The inner product with the second input, then with the first.
    _, first, second = _shape(node.args[2])
    return _results(node) * first * (second + 1)


def _einsum(node: fx.Node) -> int:
    """Operands from left to right; what no later operand has and the result has not is summed at once."""
    equation, operands = node.args[:2]
    terms, out = str(equation).replace(" ", "").split("->")
    shapes = [_shape(o) for o in operands]  # type: ignore[union-attr]
    parts = [_letters(t, len(s)) for t, s in zip(terms.split(","), shapes, strict=True)]
    size: dict[str, int] = {}
    for letters, shape in zip(parts, shapes, strict=True):
        for letter, length in zip(letters, shape, strict=True):
            size[letter] = max(size.get(letter, 1), length)
    result = set(_letters(out, len(_shape(node))))
    held, count = set(parts[0]), 0
    for index, letters in enumerate(parts[1:], start=1):
        later = result.union(*parts[index + 1 :])
        every = held | set(letters)
        held = every & later
        # Where nothing is summed it is an element-wise product.
        count += math.prod(size[k] for k in every) if every - held else 0
    return count


def _letters(term: str, rank: int) -> list[str]:
    """The letters of an operand; dimensions that ``...`` stands for are numbered from the last."""
    before, dots, after = term.partition("...")
    between = rank - len(before) - len(after) if dots else 0
    return [*before, *(str(i) for i in range(between, 0, -1)), *after]


def _recurrent(node: fx.Node) -> int:
    """Every step multiplies every matrix of every layer and direction once."""
    steps = math.prod(_shape(node.args[0])[:-1])
    return steps * sum(math.prod(_shape(w)) for w in argument(node, "params") if len(_shape(w)) == 2)


def _cell(node: fx.Node) -> int:
    matrices = [_shape(argument(node, name)) for name in ("w_ih", "w_hh")]
    return math.prod(_shape(node.args[0])[:-1]) * sum(map(math.prod, matrices))


_RULES: dict[str, Callable[[fx.Node], int]] = {
    **dict.fromkeys(("linear", "matmul", "mm", "bmm", "mv", "dot", "vdot", "inner"), _rows_by_columns),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), _added_product),
    "addbmm": _added_products,
    "bilinear": _bilinear,
    "einsum": _einsum,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _recurrent),
    **dict.fromkeys(("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"), _cell),
}


def _shape(value: Any) -> tuple[int, ...]:
    """The shape of a tensor for a batch of one."""
    held = value.meta["val"]
    if not isinstance(held, Tensor):
        raise TypeError("not a tensor")
    return sizes(held, 1)


def weights(node: fx.Node) -> dict[Any, int]:
    """The parameters that an operation reads: node -> number of elements."""
    return {i: math.prod(_shape(i)) for i in node.all_input_nodes if i.meta.get("inward_parameter")}
