"""Attention rollout: where in the image the tokens that are answered from have looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, fx

from inward.columns.objectives import wide
from inward.errors import CallError
from inward.gradient import keys_of
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Target, explained
from inward.methods.places import probed
from inward.network.address import parse
from inward.network.attention import Attention, attentions, unfollowed
from inward.network.axes import PRIME
from inward.network.graph import Graph, Point
from inward.network.network import Network, node_of
from inward.results import Attribution
from inward.types import Images

Fusion: TypeAlias = Literal["mean", "max", "min"]
"""How the heads of an attention become one: the mean of the paper, or the largest or smallest of their weights."""


@own_draws
def attention_rollout(
    net: Network, images: Images, *, target: Target = None, head_fusion: Fusion = "mean"
) -> Attribution:
    """How much of each patch is in the token that is answered from, if attention alone moved information.

    Abnar and Zuidema, "Quantifying attention flow in transformers", 2020: the product over the layers,
    from the last to the first, of ``0.5 A + 0.5 I``, A the attention weights fused over the heads and
    their rows brought to a sum of 1. Shown is the row of the class token, or where the answer is read
    from several tokens (the mean over all patches), the mean of their rows. The target only says up to
    which layer: which class is asked for changes nothing. Measured is the share that the patches have;
    the rest is that of class tokens.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address whose layers are followed, and whose score is told; by default each image's own answer.
        head_fusion: how the heads of a layer become one: mean (published), max or min.

    Raises:
        CallError: for a network without a graph or without attention, and where attention is not
            among all tokens (windows, pooled tokens) or is computed in a way that is not known here.
    """
    if head_fusion not in _FUSED:
        raise CallError(f"heads are not fused by '{head_fusion}'; write mean, max or min")
    asked = explained(net, images, target)
    tokens = _tokens(asked)
    rows = torch.stack([_rolled(asked, tokens, head_fusion, i) for i in range(len(asked.images))])
    height, width = tokens.grid
    patches = rows[:, tokens.prefix : tokens.prefix + height * width]
    values = patches.unflatten(1, (height, width))[:, None].to(asked.images.dtype)
    note = "attention rollout does not depend on which class or unit is asked for"
    return asked.attribution(
        "attention-rollout",
        {"head_fusion": head_fusion},
        values,
        asked.scores(),
        kind="amount",
        measured={"share_of_patches": patches.sum(1)},
        notes=(note,),
    )


_FUSED = {"mean": lambda a: a.mean(0), "max": lambda a: a.amax(0), "min": lambda a: a.amin(0)}


@dataclass(frozen=True)
class _Tokens:
    """The attentions to follow, where the patches are among the tokens, and which tokens are read, (T,)."""

    followed: list[Attention]
    grid: tuple[int, int]
    prefix: int
    read: Tensor


def _tokens(asked: Explained) -> _Tokens:
    net, size = asked.net, asked.size
    graph = net.graph(size)
    if not isinstance(graph, Graph):
        raise CallError(f"attention rollout needs the network's graph, and there is none: {graph.reason}")
    keys = keys_of(net, asked.objective, size)
    ends = [node_of(graph, parse(key)) for key in keys]
    followed = attentions(graph, ends)
    other = unfollowed(graph, ends, followed)
    if other is not None:
        raise CallError(f"'{_name(graph, other)}' may be an attention, of a kind that is not known; use grad-cam")
    if not followed:
        raise CallError(f"{net.name} has no attention before {asked.targets[0]}; use grad-cam")
    count = _count(graph, followed)
    needed = {node.name for node in graph.needed(ends)}
    points = [p for p in graph.points.values() if p.node in needed]
    held = [(point, grid) for point in points if (grid := _grid(point, count)) is not None]
    if not held:
        raise CallError(f"no point of {net.name} is known to hold {count} tokens on a grid; use grad-cam")
    last, grid = held[-1]
    return _Tokens(followed, grid, last.layout.prefix, _read(asked, ends, last))


def _name(graph: Graph, node: fx.Node) -> str:
    """The address of an operation, or of the first point that is made of it."""
    return next((p.name for p in graph.points.values() if p.node == node.name), node.name)


def _count(graph: Graph, followed: Sequence[Attention]) -> int:
    """How many tokens attend to one another, the same everywhere."""
    counts = set()
    for each in followed:
        name = _name(graph, each.node)
        rest, rows, columns = each.shape
        if rows != columns:
            raise CallError(f"'{name}' looks from {rows} to {columns} tokens, not from all to all; use grad-cam")
        # Heads may lie with the batch in one axis; what lies there beside an axis of heads are windows.
        if len(rest) > 2 or (len(rest) == 2 and rest[0] != PRIME):
            raise CallError(f"'{name}' attends within windows, so that no token looks at the whole image; use grad-cam")
        counts.add(rows)
    if len(counts) > 1:
        raise CallError(f"the attentions are among {sorted(counts)} tokens, not always the same ones; use grad-cam")
    return counts.pop()


def _grid(point: Point, count: int) -> tuple[int, int] | None:
    """The grid of a point that holds so many tokens."""
    layout = point.layout
    fits = layout.kind == "tokens" and point.shape is not None and point.shape[layout.axes.index("t")] == count
    return layout.grid if fits else None


def _read(asked: Explained, ends: Sequence[str], last: Point) -> Tensor:
    """Which tokens of the last layer are read, (T,)."""
    (slope,) = probed(asked.net, asked.size, ends, [last.node])
    read = None if slope is None else slope.movedim(last.layout.axes.index("t"), 0).flatten(1).any(1)
    if read is None or not read.any():
        raise CallError(f"no token of '{last.name}' reaches {asked.targets[0]}: the weights between them are all zero")
    return read


@torch.no_grad()
def _rolled(asked: Explained, tokens: _Tokens, fusion: Fusion, index: int) -> Tensor:
    """The share of every token (T,) in the answer to one image."""
    # One at a time: where heads and images lie in one axis, none can be taken for the other.
    graph, nodes = asked.net.graph(asked.size), [n for each in tokens.followed for n in each.reads]
    held = graph.run(asked.net.shown(asked.images[index : index + 1]), [n.name for n in nodes])
    values = dict(zip(nodes, map(wide, held), strict=True))
    layers = [_fused(each.weights([values[n] for n in each.reads]), fusion) for each in tokens.followed]
    found = tokens.read.to(layers[0]) / tokens.read.sum()
    for layer in reversed(layers):
        found = found @ layer
    return found


def _fused(weights: Tensor, fusion: Fusion) -> Tensor:
    """One layer (T, T) of heads (..., T, T): half of what a token takes is its own, by the residual connection."""
    fused = _FUSED[fusion](weights.flatten(0, -3))
    mixed = 0.5 * fused + 0.5 * torch.eye(len(fused)).to(fused)
    return mixed / mixed.sum(1, keepdim=True)
