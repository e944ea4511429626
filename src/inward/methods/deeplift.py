"""Attribution of a difference of scores, carried back from the score to the image without a gradient's error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, fx

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import Total, constant, keys_of, no_path
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Target, explained, inside, of_point
from inward.network.address import parse
from inward.network.backward import on_the_way
from inward.network.graph import Graph
from inward.network.modes import ordinary
from inward.network.network import Network, node_of
from inward.network.rescale import passes_by, reference_of, rescale, unruled
from inward.network.room import images_at_once, in_chunks
from inward.network.trace import Trace
from inward.results import Attribution
from inward.types import Images

# Gauss-Legendre points on the line between the two ends of a score that is no linear function of its
# points (an energy): exact to the 16th degree.
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@own_draws
def deeplift(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    at: str | None = None,
    baseline: Baseline | Sequence[Baseline] = "black",
    seed: int = 0,
) -> Attribution:
    """The share of every pixel in the difference of the score between a baseline and the image, in one pass.

    Shrikumar, Greenside and Kundaje, "Learning important features through propagating activation
    differences", 2017, rescale rule: every nonlinearity hands back ``(f(x) - f(b)) / (x - b)`` in
    place of its slope. The shares add up to ``F(x) - F(b)`` but for rounding; what is missing is
    measured. Products of activations share the difference evenly, a maximum gives it to the inputs
    that made it, normalizations and attention follow from their parts. The graph is what is
    edited, so functions and modules that are used again are treated as all others.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        baseline: black, gray, white, mean (the network's mean color), blur, noise (uniform), or a picture;
            of several the attributions are averaged.
        seed: of the noise baseline.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a baseline of
            another shape, a point from which there is no path to the target, a network without a graph, or an
            operation on the way for which there is no rule.
    """
    asked = explained(net, images, target)
    key = None if at is None else inside(net, at, asked.size)
    starts = baselines(net, asked.images, baseline, seed)
    doubled = _Doubled.of(asked, key)
    pairs = [_Pair(i, asked.images[i], start[i]) for _, start in starts for i in range(len(asked.images))]
    total = Total(len(asked.images))
    for found in in_chunks(pairs, images_at_once(doubled.net, doubled.keys, asked.size), doubled.run):
        weights = torch.full((len(found.owners),), 1 / len(starts), dtype=torch.float64)
        total.add(found.owners, weights, found.change, found.values)
    missing = (total.scores - total.values.flatten(1).sum(1)).abs()
    return asked.attribution(
        "deeplift",
        {"at": at, "baseline": [name for name, _ in starts], "seed": seed},
        total.values.to(asked.images),
        asked.scores(),
        kind="contribution",
        at=key or "",
        measured=asked.completeness(total.scores, error=missing),
        notes=doubled.notes(),
    )


class _Pair(NamedTuple):
    """An image (C, H, W), its number, and the baseline that it is compared with."""

    owner: int
    image: Tensor
    baseline: Tensor


class _Found(NamedTuple):
    """Of some pairs: the numbers of the images, the differences of the scores (B,), the contributions (B, ...)."""

    owners: list[int]
    change: Tensor
    values: Tensor


@dataclass(frozen=True)
class _Doubled:
    """The network that sees images and baselines together, and what is asked of it."""

    asked: Explained
    net: Network
    graph: Graph
    keys: list[str]
    at: str | None

    @classmethod
    def of(cls, asked: Explained, at: str | None) -> _Doubled:
        """Raises CallError where there is no graph, or no rule for an operation on the way."""
        net = asked.net.derived("deeplift", lambda plain: plain.edit(rescale))
        # The edit has refused every other.
        graph = cast("Graph", net.graph(asked.size))
        made = cls(asked, net, graph, list(dict.fromkeys(keys_of(net, asked.objective, asked.size))), at)
        made._check()
        return made

    def _node(self, key: str) -> str:
        return node_of(self.graph, parse(key))

    @property
    def _ends(self) -> list[str]:
        return [self._node(key) for key in self.keys]

    @property
    def _start(self) -> str | None:
        return None if self.at is None else self._node(self.at)

    def _check(self) -> None:
        way = on_the_way(self.graph, self._ends, self._start)
        found = next((node for node in self.graph.module.graph.nodes if node in way and unruled(node)), None)
        if found is not None:
            raise CallError(
                f"deeplift cannot go through '{_address(self.graph, found)}', since {unruled(found)}; "
                "attribute to a point behind it, or ask for integrated gradients"
            )

    def notes(self) -> tuple[str, ...]:
        """Says where contributions need not add up, since not all that the score depends on passes the point."""
        if self._start is None or not passes_by(self.graph, self._start, self._ends):
            return ()
        return (f"the score also depends on the image past {self.at}, so that the shares need not add up",)

    def run(self, batch: list[_Pair]) -> _Found:
        """Scores and contributions of some pairs."""
        owners = [pair.owner for pair in batch]
        wanted = self._ends + ([] if self._start is None else [self._start])
        references = [reference_of(self.graph, name) for name in wanted]
        with ordinary(self.net.device):
            image = torch.stack([constant(pair.image) for pair in batch]).requires_grad_(True)
            baseline = torch.stack([constant(pair.baseline) for pair in batch])
            made = self.graph.run(self.net.shown(torch.cat([image, baseline])), [*wanted, *references])
            values, starts = [image, *made[: len(wanted)]], [baseline, *made[len(wanted) :]]
            used = len(self.keys) + 1
            change, slopes = self._score(self.asked.objective.select(owners), values[:used], starts[:used])
            source = 0 if self.at is None else -1
            share = self._carried(values[:used], slopes, values[source]) * (values[source] - starts[source])
        share = share.detach()
        return _Found(
            owners, change, share if self.at is None else of_point(self.asked.net, self.at, share, self.asked.size)
        )

    def _score(
        self, objective: Objective, ends: Sequence[Tensor], starts: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """By how much the score differs, and its mean gradient on the straight line between the two ends.

        Both are those of the images and of the points that the score is made of: it has a difference
        quotient of its own, which for a class or a channel is its gradient.
        """

        def score(points: Sequence[Tensor]) -> Tensor:
            return objective(Trace(self.asked.net, points[0], dict(zip(self.keys, points[1:], strict=True))))

        slopes = [torch.zeros_like(end) for end in ends]
        for place, weight in zip((_POINTS + 1) / 2, _WEIGHTS / 2, strict=True):
            line = zip(starts, ends, strict=True)
            points = [(a + float(place) * (b - a)).detach().requires_grad_(True) for a, b in line]
            found = score(points)
            if found.requires_grad:
                grads = torch.autograd.grad(found.sum(), points, allow_unused=True)
                slopes = [s if g is None else s + float(weight) * g for s, g in zip(slopes, grads, strict=True)]
        with torch.no_grad():
            return score(ends).cpu().double() - score(starts).cpu().double(), slopes

    def _carried(self, ends: Sequence[Tensor], slopes: Sequence[Tensor], source: Tensor) -> Tensor:
        """The multipliers of the source: those of the ends, carried back."""
        live = [(end, slope) for end, slope in zip(ends, slopes, strict=True) if end.requires_grad]
        found = None
        if source.requires_grad:
            (found,) = torch.autograd.grad(
                [end for end, _ in live], source, [slope for _, slope in live], allow_unused=True
            )
        if found is None and self.at is not None:
            raise no_path(self.at)
        return torch.zeros_like(source) if found is None else found


def _address(graph: Graph, node: fx.Node) -> str:
    """The point that an operation computes, directly or as one of several results."""
    nodes = {node.name, *(user.name for user in node.users)}
    return next((p.name for p in graph.points.values() if p.node == node.name), None) or next(
        (p.name for p in graph.points.values() if p.node in nodes), node.name
    )
