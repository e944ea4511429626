"""Self-checks of gradients: whether they vanish, and why, by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, fx

from inward.columns.objectives import CrossEntropy, Margin
from inward.methods.looked import Look
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.opaque import is_stop
from inward.network.operation import argument
from inward.studies.examined import Examined, Finding, share
from inward.types import Images

# Noise that finite changes are measured with, where eps is less; and a larger one, which crosses coarse steps.
_NOISE, _COARSE = 8 / 255, 0.25
# Above this share of images whose cross-entropy is 0, it is not the few that a network is very sure of.
_SURE = 0.5
# A unit jumps where it goes to or from an end of its range (within 1 %) by a quarter of the range or more.
_END, _JUMP = 0.01, 0.25
# Jumps make no share at all of the changes in usual networks (0.0 % in those with real weights).
_JUMPING = 0.1
_RANGES: dict[str, tuple[float, float]] = {
    "sigmoid": (0, 1),
    "hardsigmoid": (0, 1),
    "tanh": (-1, 1),
    "softsign": (-1, 1),
    "erf": (-1, 1),
    "atan": (-math.pi / 2, math.pi / 2),
    "relu6": (0, 6),
}
_CLIPPED = {"hardtanh": ("min_val", "max_val"), "clamp": ("min", "max")}
_STEPS = {
    *("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "heaviside", "floor_divide", "bucketize"),
    *("gt", "ge", "lt", "le", "argmax", "detach", "fake_quantize_per_tensor_affine"),
    *("fake_quantize_per_channel_affine", "quantize_per_tensor"),
}


class Gradients:
    """The gradients that attacks begin with, and what finite changes show beside them.

    Labels are the network's own answers: it is sure of those that an attack leads away from.
    """

    def __init__(self, of: Examined) -> None:
        self.of = of

    @cached_property
    def loss(self) -> Look:
        """The cross-entropy."""
        return self.of.look(CrossEntropy(self.of.answers))

    @cached_property
    def margin(self) -> Look:
        """The lead of another class."""
        return self.of.look(Margin(self.of.answers))

    @property
    def lossless(self) -> Tensor:
        """Where the gradient of the cross-entropy leads nowhere, and that of the margin does.

        Where the loss is exactly 0, the answer's probability has been rounded to 1, and what the loss's gradient
        has of its logit, p - 1, is 0.
        """
        return (vanished(self.loss.gradient) | (self.loss.scores.cpu() == 0)) & ~self.dead

    @cached_property
    def dead(self) -> Tensor:
        """Where the gradient of the margin vanishes."""
        return vanished(self.margin.gradient)

    @cached_property
    def moved(self) -> Tensor:
        """Of which images the scores change with noise."""
        sizes = (self._noise, _COARSE)
        before = self.of.asked.logits
        return torch.stack([(self.of.logits(self.of.noise(s)) != before).any(1).cpu() for s in sizes]).any(0)

    @property
    def _noise(self) -> float:
        return max(_NOISE, self.of.eps) if self.of.norm == "linf" else _NOISE

    @cached_property
    def jumps(self) -> dict[str, float]:
        """Of each bounded activation the share of its change with noise that jumping units make."""
        bounded = list(_bounded(self.of))
        sums = torch.zeros(2, len(bounded), dtype=torch.float64)
        noisy = self.of.noise(self._noise)
        names = [one.node for one in bounded]
        for some in self.of.batches(self.of.everyone) if names else ():
            before, after = (_values(self.of, x[some.to(x.device)], names) for x in (self.of.images, noisy))
            for k, one in enumerate(bounded):
                sums[:, k] += _jumped(before[k].double(), after[k].double(), one)
        return {one.name: float(j / a) if a > 0 else 0.0 for one, j, a in zip(bounded, *sums, strict=True)}


def zero_gradients(found: Gradients) -> Finding:
    """Whether an image has no gradient, of the loss or of the margin."""
    losses, margins = vanished(found.loss.gradient), found.dead
    pixels = share((found.margin.gradient == 0).any(1).cpu())
    either = share(losses | margins)
    told = f"of {len(losses)} images {_count(losses)} have no gradient of the cross-entropy, {_count(margins)} none of "
    told += f"the margin; {pixels:.1%} of the pixels have none"
    return Finding(
        "zero gradients",
        either == 0,
        either,
        told,
        "An attack by gradients does not move where the gradient is 0, underflows or is not finite, and what "
        "withstands it need not be robust. The checks below say why.",
    )


def saturated_loss(found: Gradients) -> Finding:
    """Whether the cross-entropy is 0 to the last digit where the margin has a gradient."""
    hit, measured = found.lossless, share(found.lossless)
    none = share(vanished(found.loss.gradient) & ~found.dead)
    top = found.margin.scores.neg().median().item()
    return Finding(
        "saturated loss",
        measured <= _SURE and none == 0,
        measured,
        f"of {len(hit)} images {_count(hit)} have a cross-entropy of exactly 0; the answer leads by {top:.3g} (median)",
        "The logits are so far apart that the softmax is exactly 1: the cross-entropy loses its gradient, though the "
        "logits have one. Attack with --loss margin or --loss dlr, which no scale of the logits changes.",
    )


def rounding_layer(found: Gradients) -> Finding:
    """Whether scores change, and the gradient is 0 all the same: something on the way has no derivative."""
    known = _without_derivative(found.of)
    # Some images can lie where every ReLU is off; all of them do so nowhere that noise reaches out of.
    cut = bool(known) or (bool(found.dead.all()) and not saturates(found))
    hit = found.dead & found.moved & cut
    told = f"of {len(hit)} images {_count(hit)} change their scores with noise and have no gradient"
    told += f"; without derivative: {_listed(known)}" if known and hit.any() else ""
    return Finding(
        "rounding layer",
        not hit.any(),
        share(hit),
        told,
        "Rounding, thresholds, or a block without gradients cuts the way back, so that attacks by gradients are "
        "blind while small changes do matter. Replace its backward pass by that of a smooth stand-in, or attack with "
        "--attack square, which needs no gradient.",
    )


def saturating_activation(found: Gradients) -> Finding:
    """Whether units of bounded activations jump from end to end, where their gradients are 0."""
    jumps = found.jumps
    worst = max(jumps, key=lambda name: jumps[name], default="")
    kind = "" if found.of.net.is_graph else " that is a module"
    told = f"there is no bounded activation{kind}"
    if jumps:
        told = f"jumps from an end of the range make {jumps[worst]:.1%} of what noise changes in {worst}"
    return Finding(
        "saturating activation",
        not saturates(found),
        jumps.get(worst, 0.0),
        told,
        "The activation is driven so hard that its units stand at the ends of their range, where the gradient is 0 or "
        "tiny, and small changes of the image throw them to the other end. Attack with --attack square, or attack the "
        "network with a gentler slope in its place and judge on this one.",
    )


def saturates(found: Gradients) -> bool:
    """Whether jumps are what the changes of some activation are made of."""
    return max(found.jumps.values(), default=0.0) > _JUMPING


def vanished(gradient: Images) -> Tensor:
    """Which images have no gradient: it is 0, under the smallest normal number, or not finite."""
    flat = gradient.flatten(1)
    return ((flat.abs().amax(1) < torch.finfo(flat.dtype).tiny) | ~flat.isfinite().all(1)).cpu()


class _Bounded(NamedTuple):
    """An activation with a range."""

    name: str
    node: str
    low: float
    high: float


def _bounded(of: Examined) -> Iterator[_Bounded]:
    graph = of.net.graph(of.asked.size)
    if not isinstance(graph, Graph):
        kinds = {p.name: _RANGES.get(p.module.lower()) for p in graph.points.values() if p.node}
        yield from (_Bounded(name, name, *ends) for name, ends in kinds.items() if ends is not None)
        return
    names = {p.node: p.name for p in graph.points.values()}
    for node in _operations(graph):
        ends = _range(node)
        if ends is not None and ends[0] < ends[1]:
            yield _Bounded(names.get(node.name, node.name), node.name, *ends)


def _operations(graph: Graph) -> list[fx.Node]:
    """The operations on the way to the logits, in order."""
    needed = graph.needed(graph.outputs[:1])
    return [node for node in graph.module.graph.nodes if node in needed and node.op == "call_function"]


def _range(node: fx.Node) -> tuple[float, float] | None:
    name = op_name(node)
    if name in _CLIPPED:
        low, high = (argument(node, end) for end in _CLIPPED[name])
        if name == "hardtanh":
            low, high = -1 if low is None else low, 1 if high is None else high
        known = isinstance(low, (int, float)) and isinstance(high, (int, float))
        return (float(low), float(high)) if known else None
    return _RANGES.get(name)


@torch.no_grad()
def _values(of: Examined, images: Images, nodes: list[str]) -> tuple[Tensor, ...]:
    return of.net.graph(of.asked.size).run(of.net.shown(images), nodes)


def _jumped(before: Tensor, after: Tensor, one: _Bounded) -> Tensor:
    """The sum of all changes, and before it that of those by jumps."""
    change, size = (after - before).abs(), one.high - one.low
    ends = (before, after)
    at_end = torch.stack([torch.minimum(v - one.low, one.high - v) <= _END * size for v in ends]).any(0)
    return torch.stack([change[at_end & (change >= _JUMP * size)].sum(), change.sum()]).cpu()


def _without_derivative(of: Examined) -> list[str]:
    """Operations on the way to the logits that have none."""
    graph = of.net.graph(of.asked.size)
    if not isinstance(graph, Graph):
        return []
    names = {p.node: p.name for p in graph.points.values()}
    steps = [n for n in _operations(graph) if op_name(n) in _STEPS or is_stop(n)]
    return [names.get(node.name, node.name) for node in steps]


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _count(hits: Tensor) -> int:
    return int(hits.sum())
