"""Integrated gradients along a path of small gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.errors import CallError
from inward.gradient import Sample, gradients, keys_of
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained
from inward.network.network import Network
from inward.network.room import images_at_once
from inward.results import Attribution
from inward.types import Images

# What is left of a step when it counts as made, as a share of the whole way: rounding of sums of numbers.
_ROUNDING = 1e-9


@own_draws
def guided_integrated_gradients(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    baseline: Baseline | Sequence[Baseline] = "black",
    steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The share of every pixel in the difference of the score, along a path that goes around large gradients.

    Kapishnikov, Venugopalan, Avci, Wedin, Terry and Bolukbasi, "Guided integrated gradients: an
    adaptive path method for removing noise", 2021: each step from the baseline to the image moves only
    the numbers with the smallest absolute gradients, and each number stays within ``max_dist`` of where
    the straight line would have it. The shares add up to F(x) - F(b); by how much they miss it is
    measured (error). The path is the paper's; a step counts the mean of the gradients at its two ends,
    where the paper's sum has the first alone, which is small because it was chosen so.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        baseline: black, gray, white, mean (the network's mean color), blur, noise (uniform), or a picture;
            of several the attributions are averaged.
        steps: moves from the baseline to the image; one gradient each, and one more.
        fraction: the share of all numbers that is moved at once, those of the smallest gradients; 1 is
            the straight line of integrated gradients.
        max_dist: how far a number may be ahead of the straight line or behind it, as a share of its way; 0 is that
            line, 1 the paper's path without bounds.
        seed: of the noise baseline.
        on_progress: called with (moves made, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a
            baseline of another shape, fewer than 1 step, or a fraction or distance outside of [0, 1].
    """
    rules = _Rules(steps, fraction, max_dist)
    asked = explained(net, images, target, of)
    starts = baselines(net, asked.images, baseline, seed)
    begun = torch.cat([start for _, start in starts]).cpu().double()
    change = asked.images.cpu().double().repeat(len(starts), 1, 1, 1) - begun
    values, ends = _along(asked, begun, change, rules, on_progress)
    values, ends = (v.unflatten(0, (len(starts), -1)).mean(0) for v in (values, ends))
    difference = ends[:, 1] - ends[:, 0]
    missed = (difference - values.flatten(1).sum(1)).abs()
    points = torch.full((len(values),), (steps + 1) * len(starts))
    return asked.attribution(
        "guided-integrated-gradients",
        {"of": of, "baseline": [name for name, _ in starts], "steps": steps}
        | {"fraction": fraction, "max_dist": max_dist, "seed": seed},
        values.to(asked.images),
        asked.scores(),
        kind="contribution",
        measured={**asked.completeness(difference, error=missed), "points": points},
    )


@dataclass(frozen=True)
class _Rules:
    """How a path is walked."""

    steps: int
    fraction: float
    max_dist: float

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CallError(f"a path has 1 step or more, not {self.steps}; give a larger steps")
        if not 0 <= self.fraction <= 1:
            raise CallError(f"the fraction of the numbers that move is in 0 to 1, not {self.fraction:g}")
        if not 0 <= self.max_dist <= 1:
            raise CallError(f"the distance from the straight line is in 0 to 1, not {self.max_dist:g}")

    def moved(self, ways: Tensor, lengths: Tensor, slopes: Tensor, step: int) -> Tensor:
        """The shares of their ways that the numbers of one image have gone after a step.

        All (C, H, W): ``ways`` the shares gone before, ``lengths`` |x - b| and ``slopes`` |gradient|.
        """
        if step == self.steps:
            return torch.ones_like(ways)
        share = step / self.steps
        low, high = max(share - self.max_dist, 0.0), min(share + self.max_dist, 1.0)
        ways, whole = ways.clamp_min(low), lengths.sum()
        rank = 1 + int(self.fraction * (slopes.numel() - 1))
        # What is not a number moves last; the map is refused at the end.
        slopes = slopes.nan_to_num(torch.inf, torch.inf)
        while (gap := share * whole - (lengths * ways).sum()) > _ROUNDING * whole:
            free = (lengths > 0) & (ways < high)
            bound = torch.where(free, slopes, torch.inf).flatten().kthvalue(rank).values
            chosen = free & (slopes <= bound)
            room = (lengths * (high - ways))[chosen].sum()
            moved = ways + (gap / room).clamp_max(1) * (high - ways) if room > gap else torch.full_like(ways, high)
            ways = torch.where(chosen, moved, ways)
        return ways


def _along(
    asked: Explained, begun: Tensor, change: Tensor, rules: _Rules, on_progress: Callable[[int, int], None] | None
) -> tuple[Tensor, Tensor]:
    """The path integrals, (R, C, H, W), and the scores at both ends, (R, 2), of lines from each baseline to each image.

    All lines take each step together, and each goes its own way.
    """
    net, count = asked.loop(), len(asked.images)
    chunk = images_at_once(net, keys_of(net, asked.objective, asked.size), asked.size)
    values, ways, gone = (torch.zeros_like(change) for _ in range(3))
    lengths = change.abs()
    ends = []
    for step in range(rules.steps + 1):
        points = (begun + ways * change).to(asked.images)
        samples = (Sample(line % count, point) for line, point in enumerate(points))
        batches = list(gradients(net, samples, asked.objective, asked.size, chunk=chunk))
        slopes = torch.cat([batch.gradients for batch in batches]).cpu().double()
        ends = [*ends[:1], torch.cat([batch.scores for batch in batches]).cpu().double()]
        lines = zip(ways, lengths, slopes.abs(), strict=True)
        onward = torch.stack([rules.moved(*line, step + 1) for line in lines]) if step < rules.steps else ways
        # The gradient here is one end of the move that led here and of the one that leads on.
        values += slopes * (gone + onward - ways) / 2 * change
        ways, gone = onward, onward - ways
        if on_progress is not None and step > 0:
            on_progress(step, rules.steps)
    return values, torch.stack(ends, 1)
