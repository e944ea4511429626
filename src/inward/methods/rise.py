"""RISE: which pixels, when seen, raise the score, from random masks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.gradient import Sample, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, usual_of
from inward.network.lean import lean, precision_of
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images, Size

# One mask in so many is computed in full precision, too.
_CHECKED = 16


@own_draws
def rise(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of | None = None,
    samples: int = 4000,
    cells: int = 7,
    keep: float = 0.5,
    baseline: Baseline = "mean",
    precision: Literal["auto", "full", "mixed"] = "auto",
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The mean score of images of which random parts are seen, over those in which a pixel is among them.

    Petsiuk, Das and Saenko, "RISE: randomized input sampling for explanation of black-box models", 2018:
    ``1 / (keep n) sum f(I * M_i) M_i`` over n masks. A mask is a grid of cells that are seen or not,
    enlarged bilinearly and shifted at random; all images of a batch have the same ones. Its standard
    error, the mean over the pixels, is measured.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy. By
            default the probability, as in the paper, and of what is no class its score.
        samples: how many masks.
        cells: how many cells a mask has along each side.
        keep: with which probability a cell is seen.
        baseline: what is shown where nothing is seen: mean (as in the authors' code), black, gray, white, blur,
            noise, or the path of a picture; from Python also an image.
        precision: mixed multiplies in bfloat16, and corrects the mean by what that gets wrong behind a sixteenth of
            the masks; auto does so where the device has it. Scores of the images themselves are always exact.
        seed: of the masks.
        on_progress: called with how many masked images are done, and how many there are.

    Raises:
        CallError: for fewer than 2 masks, no cells, a probability that is not between 0 and 1, or a
            baseline that does not fit.
    """
    of = usual_of(net, images, target, of)
    asked = explained(net, images, target, of)
    if samples < 2:
        raise CallError(f"a mean with its error is over 2 masks or more, not {samples}")
    if not 1 <= cells <= min(asked.size):
        raise CallError(f"there are 1 to {min(asked.size)} cells along a side of this image, not {cells}")
    if not 0 < keep < 1:
        raise CallError(f"a cell is seen with a probability between 0 and 1, not {keep:g}")
    ((name, hidden),) = baselines(net, asked.images, baseline)
    precision = precision_of(net, precision)
    loop = lean(net, asked.size, half=precision == "mixed")
    again = max(2, samples // _CHECKED) if precision == "mixed" else 0
    report = _Progress((samples + again) * len(asked.images), on_progress)
    mean = _mean(loop, asked, hidden, masks(asked.size, samples, cells, keep, seed), report)
    values, variance = mean.found(keep)
    if again:
        # What bfloat16 gets wrong is much the same behind every mask, so that a few tell it.
        exact = asked.loop()
        missed = _mean(exact, asked, hidden, masks(asked.size, again, cells, keep, seed), report, mean.scores)
        values, variance = (a + b for a, b in zip((values, variance), missed.found(keep), strict=True))
    parameters = {
        "of": of,
        "samples": samples,
        "cells": cells,
        "keep": keep,
        "baseline": name,
        "precision": precision,
        "seed": seed,
    }
    return asked.attribution(
        "rise",
        parameters,
        values.to(asked.images),
        asked.scores(),
        kind="amount" if of == "probability" else "contribution",
        measured={"standard_error": variance.sqrt().mean((1, 2, 3))},
    )


def masks(size: Size, count: int, cells: int, keep: float, seed: int) -> Iterator[Tensor]:
    """Masks (H, W) with values in [0, 1], float64, whose mean is ``keep`` everywhere."""
    generator = torch.Generator().manual_seed(seed)
    cell = [-(-length // cells) for length in size]
    large = [(cells + 1) * length for length in cell]
    for _ in range(count):
        grid = torch.rand((1, 1, cells, cells), generator=generator, dtype=torch.float64) < keep
        top, left = (int(torch.randint(length, (), generator=generator)) for length in cell)
        enlarged = F.interpolate(grid.double(), size=large, mode="bilinear", align_corners=False)
        # Its weights may add up to a rounding more than 1.
        yield enlarged.clamp(0, 1)[0, 0, top : top + size[0], left : left + size[1]]


def _samples(images: Images, hidden: Images, drawn: Iterator[Tensor], shown: deque[Tensor]) -> Iterator[Sample]:
    """Every image behind every mask; ``shown`` has the masks of those that wait for their scores."""
    for mask in drawn:
        seen = mask.to(images)
        for owner, masked in enumerate(torch.lerp(hidden, images, seen)):
            shown.append(mask)
            yield Sample(owner, masked)


@dataclass
class _Progress:
    """Tells how much is done."""

    total: int
    on_progress: Callable[[int, int], None] | None
    done: int = 0

    def add(self, count: int) -> None:
        self.done += count
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)


class _Mean:
    """The sums, over the masks, of scores times masks and of their squares, (N, H W) in float64."""

    def __init__(self, images: int, size: Size) -> None:
        self.size = size
        self.sums = torch.zeros((images, size[0] * size[1]), dtype=torch.float64)
        self.squares = torch.zeros_like(self.sums)
        self.scores: list[Tensor] = []

    def add(self, owners: list[int], found: Tensor, seen: Tensor) -> None:
        """Adds masks (B, H, W) and the score (B,) that the image of each owner has behind them."""
        flat = seen.flatten(1)
        whose = torch.zeros((len(self.sums), len(owners)), dtype=torch.float64)
        whose[owners, range(len(owners))] = found
        self.sums += whose @ flat
        self.squares += whose.square() @ flat.square()
        self.scores.extend(found)

    def found(self, keep: float) -> tuple[Tensor, Tensor]:
        """The maps, (N, 1, H, W), and the squares of the standard errors of their values."""
        count, shape = len(self.scores) // len(self.sums), (-1, 1, *self.size)
        mean = self.sums / count
        variance = (self.squares / count - mean.square()).clamp_min(0) / (count - 1)
        return (mean / keep).view(shape), (variance / keep**2).view(shape)


def _mean(
    loop: Network,
    asked: Explained,
    hidden: Images,
    drawn: Iterator[Tensor],
    report: _Progress,
    less: Sequence[Tensor] = (),
) -> _Mean:
    """The sums over the masks of scores, ``less`` others of the same pictures where they are given."""
    shown: deque[Tensor] = deque()
    mean = _Mean(len(asked.images), asked.size)
    for batch in scores(loop, _samples(asked.images, hidden, drawn, shown), asked.objective, asked.size):
        found = batch.scores.double().cpu()
        if less:
            first = len(mean.scores)
            found = found - torch.stack(list(less[first : first + len(found)]))
        mean.add(batch.owners, found, torch.stack([shown.popleft() for _ in batch.samples]))
        report.add(len(found))
    return mean
