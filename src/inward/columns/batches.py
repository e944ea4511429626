"""Batches: objectives for which it matters where in the batch an image is, or what the others are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from inward.columns.objectives import Objective, OfPoint, wide
from inward.errors import CallError
from inward.network.trace import Trace
from inward.types import Scores


@dataclass(frozen=True)
class Each(Objective):
    """A batch of several pictures: part i scores the i-th ``group`` neighboring images, and sees no others.

    The network runs once for all, and the cost of the scores grows with the batch, not its square.

    Raises CallError where there is no part, for a group below 1, for a batch of another length than
    ``group`` times the parts, and for a selection that is not of whole groups.
    """

    parts: tuple[Objective, ...]
    group: int = 1  # type: ignore[override]

    def __post_init__(self) -> None:
        if not self.parts:
            raise CallError("a batch needs an objective for each picture, and there is none; give at least one")
        if self.group < 1:
            raise CallError(f"a group is of 1 image or more, not {self.group}")

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for part in self.parts for a in part.addresses))

    def select(self, images: Sequence[int]) -> Objective:
        firsts = images[:: self.group]
        whole = [first + i for first in firsts for i in range(self.group)]
        if list(images) != whole or any(first % self.group for first in firsts):
            raise CallError(f"the images {list(images)} are not whole groups of {self.group} neighbors; select those")
        return replace(self, parts=tuple(self.parts[first // self.group] for first in firsts))

    def __call__(self, trace: Trace) -> Scores:
        if len(trace.images) != len(self.parts) * self.group:
            needed = f"{len(self.parts)} objectives are for {len(self.parts) * self.group} images"
            raise CallError(f"{needed} ({self.group} each), not for {len(trace.images)}; give one a group of images")
        shares = zip(self.parts, trace.split(self.group), strict=True)
        return torch.cat([part(share) for part, share in shares])


@dataclass(frozen=True)
class Diversity(OfPoint):
    """How unlike the images of a batch are at a point: minus the mean cosine of an image's Gram matrix with each other.

    The Gram matrix, (C, C), holds the products of every two units, summed over the positions: what
    occurs together, not where. -1: all alike; 0: nothing in common, or alone in its batch. Each
    image has its own mean over the others; an ascent climbs the sum over the batch, in which each
    pair counts from both sides. Olah, Mordvintsev and Schubert, "Feature visualization", 2017.
    """

    point: str

    @property
    def group(self) -> int:
        return 0

    def __call__(self, trace: Trace) -> Scores:
        features = wide(trace.features(self.point))
        count = len(features)
        if count == 1:
            return features.new_zeros(1)
        # Of length 1 first: the entries of a Gram matrix are squares, and those of small features vanish.
        rows = F.normalize(features.flatten(1), dim=1).view(count, features.shape[1], -1)
        grams = F.normalize((rows @ rows.transpose(1, 2)).flatten(1), dim=1)
        others = 1 - torch.eye(count, dtype=grams.dtype, device=grams.device)
        return -((grams @ grams.T) * others).sum(1) / (count - 1)


@dataclass(frozen=True)
class Diverse(Objective):
    """A score, less by the share of it that images are alike: ``s - strength |s| a``.

    a is the mean cosine of :class:`Diversity`; |s| is only a scale here and not climbed, so that one
    strength suits scores of any size (ours: in the paper the penalty has a weight of its own). The
    images of the whole batch depend on one another.
    """

    part: Objective
    point: str
    strength: float = 1.0

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.part.addresses, self.point)))

    @property
    def group(self) -> int:
        return 0

    def select(self, images: Sequence[int]) -> Objective:
        return replace(self, part=self.part.select(images))

    def __call__(self, trace: Trace) -> Scores:
        score = self.part(trace)
        return score + self.strength * score.detach().abs() * Diversity(self.point)(trace)
