"""Multiply-adds and parameters of operations, for a batch of one."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, fx

from inward.network.layout import op_name, sizes


def multiply_adds(node: fx.Node) -> int:
    """The multiply-adds of one operation; element-wise operations count as none."""
    name = op_name(node)
    value = node.meta.get("val")
    inputs = [i for i in node.all_input_nodes if isinstance(i.meta.get("val"), Tensor)]
    if name.startswith("scaled_dot_product"):
        query, key, val = (sizes(i.meta["val"], 1) for i in inputs[:3])
        return math.prod(query[:-1]) * key[-2] * (query[-1] + val[-1])
    if not isinstance(value, Tensor):
        return 0
    out = math.prod(sizes(value, 1))
    if name.startswith("conv_transpose"):
        return math.prod(sizes(inputs[0].meta["val"], 1)) * math.prod(_shape(inputs[1])[1:])
    if name.startswith("conv"):
        return out * math.prod(_shape(inputs[1])[1:])
    if name == "linear":
        return out * _shape(inputs[1])[-1]
    if name in {"matmul", "mm", "bmm"}:
        return out * _shape(inputs[0])[-1]
    if name in {"addmm", "baddbmm"}:
        return out * _shape(inputs[1])[-1]
    return 0


def _shape(node: fx.Node) -> tuple[int, ...]:
    return sizes(node.meta["val"], 1)


def weights(node: fx.Node) -> dict[Any, int]:
    """The parameters that an operation reads: node -> number of elements."""
    return {i: math.prod(_shape(i)) for i in node.all_input_nodes if i.meta.get("inward_parameter")}
