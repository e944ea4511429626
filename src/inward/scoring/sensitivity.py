"""Max-sensitivity: how much a map changes when the image hardly does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError
from inward.results import Attribution
from inward.scoring.again import NOTHING, made_again
from inward.types import Scores


def max_sensitivity(
    attribution: Attribution,
    *,
    radius: float = 0.02,
    samples: int = 10,
    given: Mapping[str, Any] = NOTHING,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """The largest change of a map within a small ball around the image, relative to the map, (N,).

    Yeh, Hsieh, Suggala, Inouye and Ravikumar, "On the (in)fidelity and sensitivity of explanations",
    2019. Every pixel is moved by a uniformly random amount of up to ``radius``, the same for all
    images of a batch, and stays in [0, 1]; the method then runs again with the same options and
    the target that the image had. Changes and maps are measured by their Euclidean length over all
    values. (The change of a map that is 0 throughout is not relative.)

    Args:
        attribution: the map.
        radius: how far a pixel is moved at most, in [0, 1] units.
        samples: how many times the image is moved, and the method runs.
        given: options of the method that its record cannot hold: an objective or a baseline made in Python.
        seed: of the movements.
        on_progress: called with (maps done, maps in all).

    Raises:
        CallError: for no sample, a radius that is not above 0, or a record that cannot be followed.
    """
    if samples < 1:
        raise CallError(f"max-sensitivity is the largest of 1 change or more, not {samples}")
    if not 0 < radius <= 1:
        raise CallError(f"the radius is above 0 and at most 1, the whole range, not {radius:g}; write 0.02")
    generator = torch.Generator().manual_seed(seed)
    images, length = attribution.images, _length(attribution.values)
    largest = torch.zeros(len(images), dtype=torch.float64)
    for k in range(samples):
        drawn = torch.rand(images.shape[1:], generator=generator, dtype=torch.float64) * 2 - 1
        moved = made_again(attribution, images=(images + (radius * drawn).to(images)).clamp(0, 1), given=given)
        change = _length(moved.values.to(attribution.values) - attribution.values)
        largest = largest.maximum(change / torch.where(length > 0, length, 1))
        if on_progress is not None:
            on_progress(k + 1, samples)
    return largest


def _length(values: Tensor) -> Tensor:
    return values.detach().cpu().double().flatten(1).norm(dim=1)
