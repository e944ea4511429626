"""Named numbers as horizontal bars around zero, in the colors of signed maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inward.draw import lettering
from inward.draw.colors import table
from inward.draw.maps import CAPTION
from inward.errors import CallError

_WIDTH, _EDGE, _GAP = 560, 14, 8
_LETTERS = 14
_ROW, _THICK = 24, 14
_NAMES = 200
_RULE = "#dcdcd6"
# Pillow does not smooth edges; bars are drawn this many times larger and reduced.
_FINE = 3
# The ends of the signed map are nearly black; these lie where its colors are strongest.
_STRONG = 102
# More letters than this never fit into the room for a name.
_LONGEST = 100


@dataclass(frozen=True)
class _Layout:
    """Where everything stands: the right end of the names, the top of the first row, and numbers as pixels."""

    names: int
    top: int
    zero: float
    unit: float

    def end(self, share: float) -> float:
        """The x of a bar's end; a number that is not 0 has a bar that can be seen beside the line at zero."""
        length = math.copysign(max(abs(share) * self.unit, 2), share) if share else 0.0
        return self.zero + length

    def middle(self, row: int) -> float:
        """The y of the middle of a row."""
        return self.top + (row + 0.5) * _ROW


def bars(names: Sequence[str], values: Sequence[float], title: str, caption: str = "") -> Image.Image:
    """Horizontal bars from zero, one a row from the top, 560 pixels wide, as an RGB picture.

    Positive numbers are red and negative ones blue, as in signed maps; each stands at the end of its bar with three
    significant digits. The longest bar has the largest absolute number.

    Args:
        names: one a bar, to its left; long ones are shortened in the middle, where addresses tell least.
        values: one a bar, finite.
        title: one or two lines above the bars.
        caption: what was measured, in a few lines below them.

    Raises:
        CallError: no bars, another number of names than of values, or a value that is not a finite number.
    """
    numbers = _numbers(names, values)
    # Divided before they are added, because two huge numbers overflow.
    shares = numbers / (np.abs(numbers).max() or 1.0)
    labels = [lettering.number_label(number) for number in numbers + 0.0]
    heading = lettering.wrap(title, _LETTERS + 2, _WIDTH - 2 * _EDGE, most=2)
    shown = [_fitted(name) for name in names]
    layout = _laid_out(shown, labels, shares, 8 + len(heading) * lettering.line_height(_LETTERS + 2) + _GAP)
    below = lettering.wrap(caption, _LETTERS, _WIDTH - 2 * _EDGE, most=CAPTION)
    rows = _rows(shares, layout).reduce(_FINE)
    picture = Image.new("RGB", (_WIDTH, rows.height + len(below) * lettering.line_height(_LETTERS)), "white")
    picture.paste(rows)
    lettering.write_lines(picture, (_EDGE, 8), heading, _LETTERS + 2, lettering.INK)
    for row, (name, label, share) in enumerate(zip(shown, labels, shares.tolist(), strict=True)):
        y = layout.middle(row)
        lettering.write(picture, (layout.names, y), name, _LETTERS, lettering.INK, (1, 0.5))
        side, where = (-_GAP / 2, 1) if share < 0 else (_GAP / 2, 0)
        lettering.write(picture, (layout.end(share) + side, y), label, _LETTERS, lettering.QUIET, (where, 0.5))
    lettering.write_lines(picture, (_EDGE, rows.height - _EDGE // 2), below, _LETTERS, lettering.QUIET)
    return picture


def _numbers(names: Sequence[str], values: Sequence[float]) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CallError(f"bars have one number each, and these are no numbers ({error}); give floats") from None
    if numbers.ndim != 1 or not len(numbers) or len(names) != len(numbers):
        shape = " x ".join(map(str, numbers.shape))
        raise CallError(f"there are {len(names)} names for {shape} values; give one value or more, and a name for each")
    if not np.isfinite(numbers).all():
        raise CallError(f"bars have finite values, but {(~np.isfinite(numbers)).sum()} are NaN or infinite; drop them")
    return numbers


def _fitted(name: str) -> str:
    """The name in its room: what is cut is in the middle, for addresses begin and end with what tells them apart."""
    text = lettering.plain(name).replace("\n", " ")
    if lettering.width(text, _LETTERS) <= _NAMES:
        return text
    halves = ((kept - kept // 2, kept // 2) for kept in range(min(len(text), _LONGEST) - 1, 1, -1))
    cut = (f"{text[:head]}…{text[-tail:]}" for head, tail in halves)
    return next(short for short in cut if lettering.width(short, _LETTERS) <= _NAMES)


def _laid_out(names: Sequence[str], labels: Sequence[str], shares: NDArray[np.float64], top: int) -> _Layout:
    widths = [lettering.width(label, _LETTERS) + _GAP for label in labels]
    left = max((width for width, share in zip(widths, shares, strict=True) if share < 0), default=0)
    right = max((width for width, share in zip(widths, shares, strict=True) if share >= 0), default=0)
    edge = _EDGE + max(lettering.width(name, _LETTERS) for name in names)
    room = _WIDTH - _EDGE - right - (edge + _GAP + left)
    below, above = max(-float(shares.min()), 0.0), max(float(shares.max()), 0.0)
    unit = room / (below + above or 1.0)
    return _Layout(edge, top, edge + _GAP + left + below * unit, unit)


def _rows(shares: NDArray[np.float64], layout: _Layout) -> Image.Image:
    bottom = layout.top + len(shares) * _ROW
    large = Image.new("RGB", (_WIDTH * _FINE, (bottom + _EDGE) * _FINE), "white")
    draw = ImageDraw.Draw(large)
    colors = table(True)
    middle = len(colors) // 2
    for row, share in enumerate(shares.tolist()):
        y = layout.middle(row)
        ends = sorted((layout.zero, layout.end(share)))
        color = tuple(int(level) for level in colors[middle + (_STRONG if share > 0 else -_STRONG)])
        if share:
            _box(draw, (ends[0], y - _THICK / 2, ends[1], y + _THICK / 2), color)
    _box(draw, (layout.zero - 0.5, layout.top, layout.zero + 0.5, bottom), lettering.QUIET if shares.any() else _RULE)
    return large


def _box(draw: ImageDraw.ImageDraw, corners: tuple[float, ...], color: str | tuple[int, ...]) -> None:
    x0, y0, x1, y1 = (round(corner * _FINE) for corner in corners)
    # Pillow's rectangles hold their last row and column.
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=color)
