"""Deletion and insertion: what becomes of the answer when the pixels go, or come, in the order of a map."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inward.columns.objectives import ClassScore, Objective, Probability
from inward.errors import CallError
from inward.gradient import Sample, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.explained import Explained
from inward.network.graph import Graph
from inward.results import Attribution
from inward.scoring.again import asked_again
from inward.scoring.planes import planes_of
from inward.types import Images, Scores


@dataclass(frozen=True, eq=False)
class Curve:
    """The target by how much of an image was exchanged.

    Attributes:
        shares: (K + 1,), the share of the pixels, from 0 to 1.
        values: (N, K + 1). Of a class its probability; of any other target its score between that
            of the baseline (0) and that of the image (1): nan where these two are the same.
        area: (N,), the area under the curve by trapezoids.
    """

    shares: Float[Tensor, " k"]
    values: Float[Tensor, "n k"]
    area: Scores


def deletion(
    attribution: Attribution,
    *,
    steps: int = 50,
    baseline: Baseline = "black",
    target: Objective | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """The target as the pixels that matter most by the map are taken out first: a good map has a small area.

    Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models",
    2018. The pixels are ordered by what the picture of the map shows (enlarged bilinearly from a
    coarser grid). Equal pixels come in a random order, the same for all images: so a map that tells
    nothing apart is scored as a random one, and not as one that goes from the top to the bottom.

    Args:
        attribution: the map.
        steps: how many times pixels are exchanged and the network is run.
        baseline: what they are exchanged for: black, gray, white, mean, blur, noise, a picture or an image.
        target: the objective, where the attribution's was made in Python.
        seed: of the order of equal pixels, and of the baseline noise.
        on_progress: called with (pictures done, pictures in all).

    Raises:
        CallError: for no step or more steps than pixels, a map that is not on a grid, or a baseline
            of another shape.
    """
    asked, other = _asked(attribution, steps, baseline, target, seed)
    return _curve(attribution, asked, (asked.images, other), steps, seed, on_progress)


def insertion(
    attribution: Attribution,
    *,
    steps: int = 50,
    baseline: Baseline = "blur",
    target: Objective | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """The target as the pixels that matter most by the map are put in first: a good map has a large area.

    The counterpart of :func:`deletion`, with the same paper, arguments and refusals. It begins with
    the image blurred, so that what is put in has no sharp edges of its own.
    """
    asked, other = _asked(attribution, steps, baseline, target, seed)
    return _curve(attribution, asked, (other, asked.images), steps, seed, on_progress)


def _asked(
    attribution: Attribution, steps: int, baseline: Baseline, target: Objective | None, seed: int
) -> tuple[Explained, Images]:
    pixels = attribution.size[0] * attribution.size[1]
    if not 1 <= steps <= pixels:
        raise CallError(f"a curve over {pixels} pixels has from 1 to {pixels} steps, not {steps}")
    asked = asked_again(attribution, target, None if target is not None else "score")
    return asked, baselines(asked.net, asked.images, baseline, seed)[0][1]


def _curve(
    attribution: Attribution,
    asked: Explained,
    ends: tuple[Images, Images],
    steps: int,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> Curve:
    ranks, objective = _ranks(planes_of(attribution), seed).to(asked.images.device), _judged(asked)
    pixels = ranks[0].numel()
    counts = [round(pixels * k / steps) for k in range(steps + 1)]

    def pictures() -> Iterator[Sample]:
        for count in counts:
            for i, (first, last) in enumerate(zip(*ends, strict=True)):
                yield Sample(i, torch.where(ranks[i] < count, last, first))

    found: list[Tensor] = []
    for batch in scores(asked.loop(), pictures(), objective, asked.size):
        found.append(batch.scores.cpu().double())
        if on_progress is not None:
            on_progress(sum(map(len, found)), len(counts) * len(ranks))
    values = torch.cat(found).view(len(counts), -1).T
    if not _is_probability(asked, objective):
        low, high = (values[:, [-1]], values[:, [0]]) if ends[0] is asked.images else (values[:, [0]], values[:, [-1]])
        values = (values - low) / (high - low)
        values[(high == low)[:, 0]] = torch.nan
    shares = torch.tensor(counts, dtype=torch.float64) / pixels
    return Curve(shares, values, torch.trapezoid(values, shares))


def _ranks(planes: Tensor, seed: int) -> Tensor:
    """The place of every pixel in the order of the map, (N, H, W): 0 for the largest; equal ones at random."""
    flat = planes.flatten(1)
    shuffled = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    order = shuffled[flat[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    places = torch.arange(flat.shape[1]).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places).view(planes.shape)


def _judged(asked: Explained) -> Objective:
    """The probability of a class; every other target itself."""
    objective = asked.objective
    if not isinstance(objective, ClassScore) or _is_probability(asked, objective):
        return objective
    single = asked.net.classes(objective.output, asked.size) < 2
    return objective if single else Probability(objective.classes, objective.output)


def _is_probability(asked: Explained, objective: Objective) -> bool:
    """Whether the values are probabilities already: also those of a network that ends in a softmax or a sigmoid."""
    if isinstance(objective, Probability):
        return True
    graph = asked.net.graph(asked.size)
    ends = isinstance(graph, Graph) and graph.ends_in({"softmax", "sigmoid"})
    return ends and isinstance(objective, ClassScore) and objective.output == 0
