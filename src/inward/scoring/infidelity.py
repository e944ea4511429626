"""Infidelity: how far what a map says of a change is from what the change does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import Sample, scores
from inward.methods.baselines import NAMED, Baseline, baselines
from inward.methods.explained import Explained
from inward.results import Attribution
from inward.scoring.again import asked_again
from inward.scoring.planes import grid_of, spread
from inward.types import Images, Scores, Size

Change: TypeAlias = Literal["squares", "noise"]
"""What is done to an image: squares of it are hidden, or all of it is exchanged for a noisy baseline."""
_Drawn: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Infidelity:
    """How far a map is from what it speaks of.

    Attributes:
        values: (N,), the mean square of the error, in squared units of the score; 0 is perfect.
        relative: (N,), the same as a share of the mean square of what the changes do: that of a map of
            zeros is 1. nan where no change did anything.
        scale: (N,), what the map was multiplied with.
    """

    values: Scores
    relative: Scores
    scale: Scores


def infidelity(
    attribution: Attribution,
    *,
    change: Change = "squares",
    samples: int = 100,
    baseline: Baseline | Sequence[Baseline] | None = None,
    largest: float = 0.4,
    noise: float = 0.1,
    scaled: bool | None = None,
    target: Objective | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Infidelity:
    """The mean square of what a map says that a change does to the score, minus what it does.

    Yeh, Hsieh, Suggala, Inouye and Ravikumar, "On the (in)fidelity and sensitivity of explanations",
    2019: ``E[(I . map - (f(x) - f(x - I)))^2]``. A change takes I away from the image. What the
    map says of it is I times the map for a sensitivity, which is score per unit of a pixel, and the
    map's sum over the hidden pixels for a contribution or an amount, which belong to all of a
    pixel's distance from the baseline. A map on a coarser grid is shared out over the pixels so that
    its sums are kept.

    Args:
        attribution: the map.
        change: squares of the image are exchanged for the baseline, or (noise) the whole image for the
            baseline with Gaussian noise on it, which only sensitivities of every channel speak of.
            With the images themselves as the baseline, that is noise on the image.
        samples: how many changes, the same for all images of a batch.
        baseline: black, gray, white, mean, blur, noise, a picture or an image; of several, one after
            the other. By default what the map itself is relative to, and else black.
        largest: the largest side of a square, as a share of the image's shorter side; sides are drawn
            from 1 pixel up.
        noise: the standard deviation of the noise, in [0, 1] units.
        scaled: whether the map is first multiplied with the number that suits it best, as in the
            paper's experiments; by default for amounts, which have no unit of the score.
        target: the objective, where the attribution's was made in Python.
        seed: of the changes.
        on_progress: called with (pictures done, pictures in all).

    Raises:
        CallError: for a number of samples, a side or a noise that makes no sense, and for a map that
            does not speak of the change: one at a point inside that is no contribution, or noise for
            what is no sensitivity of every channel.
    """
    _check(attribution, change, samples, largest, noise)
    asked = asked_again(attribution, target)
    others = _baselines(attribution, asked, baseline)
    generator = torch.Generator().manual_seed(seed)
    if change == "noise":
        drawn = _noisy(attribution, asked.images, others, noise, samples, generator)
    else:
        drawn = _squares(attribution, asked.images, others, largest, samples, generator)
    said, done = _measured(asked, drawn, samples, on_progress)
    rescaled = attribution.kind == "amount" if scaled is None else scaled
    scale = _best_scale(said, done) if rescaled else torch.ones(len(said), dtype=torch.float64)
    values, whole = (scale[:, None] * said - done).square().mean(1), done.square().mean(1)
    return Infidelity(values, torch.where(whole > 0, values / whole, torch.nan), scale)


def _check(attribution: Attribution, change: str, samples: int, largest: float, noise: float) -> None:
    if change not in ("squares", "noise"):
        raise CallError(f"no change here is '{change}'; write squares or noise")
    if samples < 1:
        raise CallError(f"infidelity is a mean over 1 change or more, not {samples}")
    if not 0 < largest <= 1:
        raise CallError(f"the largest side of a square is a share above 0, at most 1, not {largest:g}; write 0.4")
    if not (noise >= 0 and math.isfinite(noise)):
        raise CallError(f"the noise is a standard deviation of 0 or more, not {noise:g}; write 0.1")
    whole = attribution.values.shape == attribution.images.shape and not attribution.at
    if change == "noise" and not (whole and attribution.kind == "sensitivity"):
        raise CallError(f"noise is a change that a map of {attribution.kind}s says nothing of; give change='squares'")
    if attribution.kind == "sensitivity" and not whole:
        raise CallError(
            "a sensitivity says what a change of the image does only with a value for every channel of it; "
            "attribute to the image, or use a method that gives contributions"
        )


def _baselines(attribution: Attribution, asked: Explained, given: Baseline | Sequence[Baseline] | None) -> list[Images]:
    words = _own_baseline(attribution) if given is None else given
    seed = int(attribution.record.parameters.get("seed") or 0)
    return [images for _, images in baselines(asked.net, asked.images, words, seed)]


def _own_baseline(attribution: Attribution) -> list[Baseline]:
    """What the map itself is relative to, as far as its record tells."""
    kept = attribution.record.parameters.get("baseline")
    if kept is None:
        return ["black"]
    words = [kept] if isinstance(kept, (str, Tensor)) else list(kept)
    for word in words:
        if isinstance(word, str) and word not in NAMED and not Path(word).is_file():
            what = {"given": "an image made in Python"}.get(word, f"'{word}', which is no single picture")
            raise CallError(f"the map is relative to {what}; say what pixels are exchanged for with baseline=")
    return words


def _squares(
    attribution: Attribution,
    images: Images,
    others: list[Images],
    largest: float,
    samples: int,
    generator: torch.Generator,
) -> Iterator[_Drawn]:
    """The images (N, C, H, W) with a square hidden in all of them, and what the maps say of that (N,)."""
    said = [_by_pixel(attribution, images - other) for other in others]
    for k in range(samples):
        rows, columns = _square(attribution.size, largest, generator)
        changed = images.clone()
        changed[:, :, rows, columns] = others[k % len(others)][:, :, rows, columns]
        yield changed, said[k % len(others)][:, rows, columns].sum((1, 2))


def _by_pixel(attribution: Attribution, distance: Tensor) -> Tensor:
    """What a map says of exchanging each pixel for a baseline that is so far away, (N, H, W)."""
    if attribution.kind == "sensitivity":
        return (attribution.values.to(distance) * distance).sum(1).cpu().double()
    return spread(grid_of(attribution), attribution.size)


def _square(size: Size, largest: float, generator: torch.Generator) -> tuple[slice, slice]:
    most = max(1, round(largest * min(size)))
    side = int(torch.randint(1, most + 1, (), generator=generator))
    top, left = (int(torch.randint(0, length - side + 1, (), generator=generator)) for length in size)
    return slice(top, top + side), slice(left, left + side)


def _noisy(
    attribution: Attribution,
    images: Images,
    others: list[Images],
    noise: float,
    samples: int,
    generator: torch.Generator,
) -> Iterator[_Drawn]:
    """Baselines with noise in the place of the images, and what the maps say of that (N,)."""
    for k in range(samples):
        drawn = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64)
        changed = others[k % len(others)] + noise * drawn.to(images)
        said = attribution.values.to(images).double() * (images - changed).double()
        yield changed, said.flatten(1).sum(1).cpu()


def _measured(
    asked: Explained, drawn: Iterator[_Drawn], samples: int, on_progress: Callable[[int, int], None] | None
) -> _Drawn:
    """What the maps say that each change takes from the scores, and what it does take: (N, samples) each."""
    said: list[Tensor] = []

    def pictures() -> Iterator[Sample]:
        yield from (Sample(i, image) for i, image in enumerate(asked.images))
        for changed, claims in drawn:
            said.append(claims)
            yield from (Sample(i, image) for i, image in enumerate(changed))

    found: list[Tensor] = []
    for batch in scores(asked.loop(), pictures(), asked.objective, asked.size):
        found.append(batch.scores.cpu().double())
        if on_progress is not None:
            on_progress(sum(map(len, found)), (samples + 1) * len(asked.images))
    first, *rest = torch.cat(found).view(samples + 1, -1)
    return torch.stack(said, 1), first[:, None] - torch.stack(rest, 1)


def _best_scale(said: Tensor, done: Tensor) -> Tensor:
    """The factor with the smallest mean square error, (N,); 0 where the maps say nothing."""
    power = said.square().sum(1)
    return torch.where(power > 0, (said * done).sum(1) / power.clamp_min(torch.finfo(power.dtype).tiny), 0)
