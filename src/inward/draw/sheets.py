"""Sheets that answer one question: what changed between two images, and how scores went from step to step."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inward.draw.cells import grid
from inward.draw.pictures import Array, as_image, channel_tiles, to_picture
from inward.draw.plot import plotted
from inward.errors import CallError

__all__ = ["curve", "difference", "grid", "side_by_side"]

_AT_LEAST = 224


def side_by_side(
    original: Array,
    adversarial: Array,
    captions: tuple[str, str] = ("original", "adversarial"),
) -> Image.Image:
    """Two images and the amplified difference between them, in one row, as an RGB picture.

    The difference is drawn as ``0.5 + factor * (adversarial - original) / 2``: middle gray where nothing changed.
    The factor is the largest whole number for which this stays in [0, 1] (at least 1), and its caption tells half of
    it: by how much a change is enlarged.
    Of images with four channels the difference is drawn one channel at a time, since half of a transparency is
    nothing to look at.

    Args:
        original: (C, H, W), float, in [0, 1], any C.
        adversarial: the same shape and range.
        captions: of the two images.

    Raises:
        CallError: as ``to_picture``; also images of different shapes.
    """
    changed, caption = difference(original, adversarial, at_least=_AT_LEAST)
    pictures = [to_picture(as_image(image), at_least=_AT_LEAST) for image in (original, adversarial)]
    return grid([*pictures, changed], captions=[*captions, caption])


def difference(original: Array, adversarial: Array, *, at_least: int = 0) -> tuple[Image.Image, str]:
    """The amplified difference between two images as ``side_by_side`` draws it, and its caption.

    Args:
        original, adversarial: (C, H, W), float, in [0, 1].
        at_least: as for ``to_picture``.

    Raises:
        CallError: as ``side_by_side``.
    """
    first, second = as_image(original), as_image(adversarial)
    if first.shape != second.shape:
        raise CallError(f"two images of one shape are compared, not {first.shape} and {second.shape}; resize one first")
    shown, caption = _difference(first, second)
    drawn = channel_tiles if len(first) == 4 else to_picture
    return drawn(shown, at_least=at_least), caption


def _difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[NDArray[np.float64], str]:
    difference = second - first
    largest = float(np.abs(difference).max())
    if largest == 0:
        return np.full_like(difference, 0.5), "no difference"
    # The slack forgives float32 rounding, which would turn 1/64 into a factor of 63; the clip takes it back.
    factor = max(1, math.floor((1 + 1e-4) / largest))
    return np.clip(0.5 + factor * difference / 2, 0, 1), f"difference x {factor / 2:g} (gray: none)"


def curve(values: Sequence[float] | Array, title: str) -> Image.Image:
    """A line plot of scores by step, 560 x 260 pixels, as an RGB picture.

    Args:
        values: one score a step, steps counted from 0. Scores that are NaN or infinite leave a gap in the line,
            and the axis says how many they are.
        title: above the plot, shortened to one line.

    Raises:
        CallError: values that are not a list of numbers, or none of them finite.
    """
    scores = _scores(values)
    if scores.ndim != 1 or not np.isfinite(scores).any():
        raise CallError(f"a curve has one finite score or more in a row, not {scores.size} of shape {scores.shape}")
    return plotted(scores, title)


def _scores(values: Sequence[float] | Array) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", torch.float64).numpy()
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CallError(f"a curve has one number a step, and these are no numbers ({error}); give floats") from None
