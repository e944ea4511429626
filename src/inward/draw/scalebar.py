"""The scale beside a map: its colors, the numbers they stand for, and arrows where values go on beyond it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inward.draw import lettering
from inward.draw.colors import Scale

LETTERS = 14
OVERHANG = 10
_WIDTH, _TICK, _GAP = 16, 5, 4
_LOWEST = 112
_FINE = 4


def scale_bar(scale: Scale, colors: NDArray[np.uint8], height: int) -> Image.Image:
    """The scale as a picture: a bar of ``height`` pixels (at least 112), and ``OVERHANG`` more at both ends.

    Args:
        scale: what the colors mean; a map that is all zero has a bar of one color and the number 0.
        colors: (K, 3), 8-bit, from the first color of the scale to its last.
        height: pixels from the first color to the last.
    """
    length = max(height, _LOWEST)
    numbers = _ticks(scale, length)
    labels, _ = lettering.number_labels(numbers)
    room = max(lettering.width(label, LETTERS) for label in labels)
    bar = Image.new("RGB", (_WIDTH + _TICK + _GAP + room, length + 2 * OVERHANG), "white")
    bar.paste(_stripe(scale, colors, length), (0, 0))
    for number, label in zip(numbers, labels, strict=True):
        _mark(bar, OVERHANG + round((length - 1) * (1 - _share(number, scale))), label)
    return bar


def factor_of(scale: Scale) -> str:
    """The common factor of the numbers beside the bar, such as ``1e-5``, or "" for 1."""
    return lettering.number_labels(_ticks(scale, _LOWEST))[1]


def _ticks(scale: Scale, length: int) -> list[float]:
    if scale.limit == 0:
        return [0.0]
    count = 5 if length >= 2 * _LOWEST - OVERHANG else 3
    return np.linspace(-scale.limit if scale.signed else 0, scale.limit, count).tolist()


def _share(number: float, scale: Scale) -> float:
    if scale.limit == 0:
        return 0.5
    return (number / scale.limit + 1) / 2 if scale.signed else number / scale.limit


def _mark(bar: Image.Image, y: int, label: str) -> None:
    ImageDraw.Draw(bar).line([(_WIDTH, y), (_WIDTH + _TICK - 1, y)], fill=lettering.QUIET)
    lettering.write(bar, (_WIDTH + _TICK + _GAP, y), label, LETTERS, lettering.INK, (0, 0.5))


def _stripe(scale: Scale, colors: NDArray[np.uint8], length: int) -> Image.Image:
    zero = len(colors) // 2 if scale.signed else 0
    shown = colors if scale.limit > 0 else colors[zero : zero + 1]
    rows = shown[np.rint(np.linspace(len(shown) - 1, 0, length)).astype(np.int64)]
    stripe = Image.new("RGB", (_WIDTH, length + 2 * OVERHANG), "white")
    stripe.paste(Image.fromarray(np.repeat(rows[:, None], _WIDTH, axis=1)), (0, OVERHANG))
    if scale.clipped_above:
        stripe.paste(_arrow(shown[-1]), (0, 0))
    if scale.clipped_below:
        stripe.paste(_arrow(shown[0]).transpose(Image.Transpose.FLIP_TOP_BOTTOM), (0, OVERHANG + length))
    return stripe


def _arrow(color: NDArray[np.uint8]) -> Image.Image:
    # Drawn large and reduced, because Pillow does not smooth the edges of a polygon.
    large = Image.new("RGB", (_WIDTH * _FINE, OVERHANG * _FINE), "white")
    corners = [(0, large.height), (large.width // 2, 0), (large.width, large.height)]
    ImageDraw.Draw(large).polygon(corners, fill=tuple(int(level) for level in color))
    return large.reduce(_FINE)
