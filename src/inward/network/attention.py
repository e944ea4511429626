"""Attention in a graph: where tokens are mixed by a softmax over their products."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.operation import argument, shape_of


def _names(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FUSED = "scaled_dot_product_attention"
_PRODUCTS = {"matmul": 0, "bmm": 0, "baddbmm": 1}
# What gives the same numbers in other places of memory.
_REARRANGED = _names("clone contiguous to detach alias dropout view reshape permute transpose expand")
# What a feature goes through without meeting another one: with everything pointwise, and pooling.
_KEPT = _REARRANGED | _names(
    "feature_dropout alpha_dropout batch_norm instance_norm flatten unflatten t unsqueeze squeeze select unbind slice "
    "narrow split split_with_sizes chunk cat concat stack pad constant_pad_nd interpolate mean sum amax "
    "max_pool2d max_pool2d_with_indices avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d"
)


@dataclass(frozen=True)
class Attention:
    """One attention: the operation that mixes the values, and what it reads.

    ``operands`` are the queries, keys and values; ``softmax`` is the operation that makes the weights,
    None where all is one operation.
    """

    node: fx.Node
    operands: tuple[fx.Node, fx.Node, fx.Node]
    softmax: fx.Node | None = None

    @property
    def reads(self) -> tuple[fx.Node, ...]:
        """The operations whose values :meth:`weights` needs."""
        if self.softmax is not None:
            return (self.softmax,)
        mask = argument(self.node, "attn_mask")
        return (*self.operands[:2], *([mask] if isinstance(mask, fx.Node) else []))

    @property
    def shape(self) -> tuple[tuple[int, ...], int, int]:
        """Of the weights: what is before the last two axes (``PRIME`` is the batch), tokens, tokens looked at."""
        query, key = (shape_of(operand) for operand in self.operands[:2])
        found: list[int] = list(shape_of(self.softmax)) if self.softmax is not None else [*query[:-1], key[-2]]
        return tuple(found[:-2]), found[-2], found[-1]

    def weights(self, values: Sequence[Tensor]) -> Tensor:
        """How much each token (row) takes from every other: (..., tokens, tokens), rows that add up to 1.

        ``values`` are those of :attr:`reads`.
        """
        if self.softmax is not None:
            return values[0]
        query, key, *mask = values
        scale = argument(self.node, "scale")
        scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if argument(self.node, "is_causal", False):
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -torch.inf)
        for each in mask:
            scores = scores.masked_fill(~each, -torch.inf) if each.dtype == torch.bool else scores + each
        return scores.softmax(-1)


def attentions(graph: Graph, ends: Sequence[str]) -> list[Attention]:
    """Every attention that the nodes ``ends`` depend on, in the order of computation."""
    needed = graph.needed(ends)
    found = (_attention(node) for node in graph.module.graph.nodes if node in needed and node.op == "call_function")
    return [each for each in found if each is not None]


def unfollowed(graph: Graph, ends: Sequence[str], known: Iterable[Attention]) -> fx.Node | None:
    """The first operation that ``ends`` depend on and that may be an attention of another make; None for none."""
    followed = {node for each in known for node in (each.node, each.softmax)}
    needed = graph.needed(ends)
    return next((n for n in graph.module.graph.nodes if n in needed and n not in followed and _may_attend(n)), None)


def _may_attend(node: fx.Node) -> bool:
    if node.op != "call_function":
        return False
    held = node.meta.get("val")
    name = op_name(node)
    # A row of probabilities for every image is an answer.
    is_weights = name == "softmax" and isinstance(held, Tensor) and held.ndim > 2
    return is_weights or name.startswith(("scaled_dot_product", "multi_head_attention", "transformer_encoder"))


def _attention(node: fx.Node) -> Attention | None:
    if op_name(node) == _FUSED:
        grouped = argument(node, "enable_gqa", False)
        return None if grouped else Attention(node, tuple(node.args[:3]))  # type: ignore[arg-type]
    if op_name(node) not in ("matmul", "bmm"):
        return None
    weights, value = node.args
    while isinstance(weights, fx.Node) and op_name(weights) in _REARRANGED and weights.op == "call_function":
        weights = weights.args[0]
    if not isinstance(weights, fx.Node) or weights.op != "call_function" or op_name(weights) != "softmax":
        return None
    scores: Any = weights.args[0]
    if argument(weights, "dim") not in (-1, scores.meta["val"].ndim - 1):
        return None
    products = [n for n in behind([scores], keeps_features) if n.op == "call_function" and op_name(n) in _PRODUCTS]
    if len(products) != 1:
        return None
    first = _PRODUCTS[op_name(products[0])]
    query, key = products[0].args[first : first + 2]
    return Attention(node, (query, key, value), weights)  # type: ignore[arg-type]


def behind(ends: Iterable[fx.Node], through: Callable[[fx.Node], bool]) -> set[fx.Node]:
    """``ends`` and all that leads to them by operations that ``through`` holds for, with the first others."""
    found: set[fx.Node] = set()
    stack = list(ends)
    while stack:
        node = stack.pop()
        if node not in found:
            found.add(node)
            stack.extend(node.all_input_nodes if through(node) else ())
    return found


def keeps_features(node: fx.Node) -> bool:
    """Whether an operation leaves features apart: pointwise, pooled, rearranged, put beside others."""
    if node.op != "call_function":
        return False
    return op_name(node) in _KEPT or torch.Tag.pointwise in getattr(node.target, "tags", ())


def only_rearranges(node: fx.Node) -> bool:
    """Whether an operation gives the numbers that it was given, or some of them."""
    return node.op == "call_function" and op_name(node) in {*_REARRANGED, "slice", "narrow"}
