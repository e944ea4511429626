"""Occlusion: what is lost when a window of the image is hidden."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from inward.errors import CallError
from inward.gradient import Sample, keys_of, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained
from inward.network.beside import Windows
from inward.network.incremental import Incremental, Interval, incremental
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images, Scores, Size

_Place: TypeAlias = tuple[int, int]
"""The number of an interval of rows, and that of an interval of columns."""

# The default window, as a share of the shorter side.
_SHARE = 7
# How many crops are computed at once.
_TOGETHER = 16


@own_draws
def occlusion(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    window: int | None = None,
    stride: int | None = None,
    baseline: Baseline | Sequence[Baseline] = "gray",
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The drop of a score when a window over a pixel is hidden, as the mean over the windows that cover it.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013. Windows begin
    at every multiple of the stride; the last are cut off at the right and lower edges, as in Captum.
    Positive: what is there speaks for the target. On the CPU, no more of the network is computed
    for a window than it can change, which is exact (inward.network.incremental).

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        window: height and width of the window in pixels; by default a seventh of the shorter side.
        stride: how far apart windows are, in pixels; by default half a window.
        baseline: what is shown in the window: black, gray, white, mean, blur, noise, or the path of a picture;
            from Python also an image, or several, whose drops are averaged.
        on_progress: called with how many windows are done, and how many there are, over all images.

    Raises:
        CallError: for a window that does not fit into the image, a stride below 1 or above the window
            (which would leave pixels out), or a baseline that does not fit.
    """
    asked = explained(net, images, target, of)
    shorter = min(asked.size)
    extent = max(1, round(shorter / _SHARE)) if window is None else window
    step = max(1, extent // 2) if stride is None else stride
    if not 1 <= extent <= shorter:
        raise CallError(f"a window of {extent} pixels does not fit into {shorter}; give 1 to {shorter}")
    if not 1 <= step <= extent:
        raise CallError(f"a stride of {step} leaves pixels out; give 1 to {extent}, the window")
    hidden = baselines(net, asked.images, baseline)
    grid = _Grid(*(tuple(_intervals(length, extent, step)) for length in asked.size))
    drops = _drops(asked, [shown for _, shown in hidden], grid, on_progress)
    values = grid.spread(drops, asked.size)[:, None].to(asked.images)
    parameters = {"of": of, "window": extent, "stride": step, "baseline": [name for name, _ in hidden]}
    return asked.attribution("occlusion", parameters, values, asked.scores(), kind="contribution")


def _intervals(length: int, extent: int, step: int) -> list[Interval]:
    count = -(-(length - extent) // step) + 1
    return [(i * step, min(i * step + extent, length)) for i in range(count)]


@dataclass(frozen=True)
class _Grid:
    """The windows: every interval of rows with every interval of columns."""

    rows: tuple[Interval, ...]
    columns: tuple[Interval, ...]

    def __iter__(self) -> Iterator[_Place]:
        return ((i, j) for i in range(len(self.rows)) for j in range(len(self.columns)))

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def hide(self, image: Tensor, other: Tensor, place: _Place) -> Tensor:
        """The image (C, H, W) with another in one window."""
        (top, bottom), (left, right) = self.rows[place[0]], self.columns[place[1]]
        hidden = image.clone()
        hidden[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        return hidden

    def spread(self, drops: Tensor, size: Size) -> Tensor:
        """The mean (N, H, W) of the drops (N, windows) over the windows that cover a pixel."""
        rows, columns = _covers(self.rows, size[0]), _covers(self.columns, size[1])
        summed = rows.T @ drops.view(-1, len(rows), len(columns)) @ columns
        return summed / torch.outer(rows.sum(0), columns.sum(0))


def _covers(intervals: Sequence[Interval], length: int) -> Tensor:
    """1 where an interval covers a position, (intervals, length)."""
    table, positions = np.array(intervals), np.arange(length)
    return torch.from_numpy((table[:, :1] <= positions) & (positions < table[:, 1:])).double()


def _drops(
    asked: Explained, hidden: Sequence[Images], grid: _Grid, on_progress: Callable[[int, int], None] | None
) -> Tensor:
    """What each window takes from the score, (N, windows), averaged over the baselines; in float64."""
    loop = asked.loop()
    plan = incremental(loop, keys_of(loop, asked.objective, asked.size), asked.size, grid.rows, grid.columns)
    samples, at = _samples(asked.images, hidden, grid, plan), None if plan is None else plan.at
    found: list[Scores] = []
    done, total = 0, len(asked.images) * (1 + len(hidden) * len(grid))
    for batch in scores(loop, samples, asked.objective, asked.size, at=at):
        found.append(batch.scores.double().cpu())
        done += len(batch.samples)
        if on_progress is not None:
            on_progress(done, total)
    # The image itself is a sample as the others are, so that their rounding is the same.
    whole, others = torch.cat(found).view(len(asked.images), -1).split([1, total // len(asked.images) - 1], 1)
    return (whole[:, :, None] - others.view(-1, len(hidden), len(grid))).mean(1)


def _samples(images: Images, hidden: Sequence[Images], grid: _Grid, plan: Incremental | None) -> Iterator[Sample]:
    """For each image, itself, and then for each baseline every window."""
    for owner, image in enumerate(images):
        beside = None if plan is None else plan.beside(image[None])
        yield Sample(owner, image, given=None if beside is None else beside.unchanged()[0])
        for baseline in hidden:
            for first in range(0, len(grid), _TOGETHER):
                places = list(itertools.islice(grid, first, first + _TOGETHER))
                pictures = [grid.hide(image, baseline[owner], place) for place in places]
                windows = Windows(torch.zeros(len(places), dtype=torch.long), *torch.tensor(places).T)
                known = [None] * len(places) if beside is None else beside.changed(torch.stack(pictures), windows)
                yield from (Sample(owner, p, given=k) for p, k in zip(pictures, known, strict=True))
