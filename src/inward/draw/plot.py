"""Lines drawn without a plotting library: scores by step, and several named lines with the areas below them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from inward.draw import lettering
from inward.draw.pictures import Array, as_floats
from inward.errors import CallError

_SIZE = (560, 260)
_LETTERS = 14
_LINE = "#1f5fae"
_RULE = "#dcdcd6"
# Pillow does not smooth lines; they are drawn this many times larger and reduced.
_FINE = 3
_TOP, _BOTTOM, _RIGHT, _EDGE = 40, 46, 20, 14
_SQUARE, _LEGEND = 246, 28
# Blue, orange, green, purple, black and ocher: apart in lightness too, for color-blind readers.
_COLORS = (_LINE, "#cf5a0a", "#00866a", "#9c4a8c", "#1c1d20", "#b38a00")


def plotted(scores: NDArray[np.float64], title: str) -> Image.Image:
    """The plot of scores (N,) of which at least one is finite, as an RGB picture of 560 x 260 pixels."""
    levels = _levels(scores)
    labels, factor = lettering.number_labels(levels)
    left = _EDGE + 8 + max(lettering.width(label, _LETTERS) for label in labels)
    box = (left, _TOP, _SIZE[0] - _RIGHT, _SIZE[1] - _BOTTOM)
    picture = _lines(scores, levels, box).reduce(_FINE)
    for level, label in zip(levels, labels, strict=True):
        _write(picture, (box[0] - 8, _height(level, levels, box)), label, (1, 0.5))
    for step in sorted({0, (len(scores) - 1) // 2, len(scores) - 1}):
        x = _across(step, scores, box)
        # The first and last label end where the axis does, so that long numbers stay in the picture.
        _write(picture, (x, box[3] + 5), f"{step}", ((x - box[0]) / (box[2] - box[0]), 0))
    _write(picture, ((box[0] + box[2]) / 2, _SIZE[1] - 4), _axis(scores), (0.5, 1))
    heading = f"{title} (in units of {factor})" if factor else title
    lettering.write_lines(picture, (_EDGE, 8), _heading(heading), _LETTERS + 2, lettering.INK)
    return picture


def _heading(text: str) -> list[str]:
    return lettering.wrap(text, _LETTERS + 2, _SIZE[0] - 2 * _EDGE, most=1)


def _levels(scores: NDArray[np.float64]) -> list[float]:
    finite = scores[np.isfinite(scores)]
    low, high = float(finite.min()), float(finite.max())
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        # A flat line is drawn in the middle of a scale wide enough to label.
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    return [low, low / 2 + high / 2, high]


def _axis(scores: NDArray[np.float64]) -> str:
    missing = int((~np.isfinite(scores)).sum())
    return f"step ({missing} not finite, left out)" if missing else "step"


def _across(step: int, scores: NDArray[np.float64], box: tuple[int, int, int, int]) -> float:
    return box[0] + (box[2] - box[0]) * (step / (len(scores) - 1) if len(scores) > 1 else 0.5)


def _height(score: float, levels: list[float], box: tuple[int, int, int, int]) -> float:
    # Halved first, because the difference of two huge scores overflows.
    share = (score / 2 - levels[0] / 2) / (levels[2] / 2 - levels[0] / 2)
    return box[3] - (box[3] - box[1]) * share


def _write(picture: Image.Image, at: tuple[float, float], text: str, where: tuple[float, float]) -> None:
    lettering.write(picture, at, text, _LETTERS, lettering.QUIET, where)


def _lines(scores: NDArray[np.float64], levels: list[float], box: tuple[int, int, int, int]) -> Image.Image:
    large = Image.new("RGB", (_SIZE[0] * _FINE, _SIZE[1] * _FINE), "white")
    draw = ImageDraw.Draw(large)
    for level in levels:
        y = _height(level, levels, box) * _FINE
        draw.line([(box[0] * _FINE, y), (box[2] * _FINE, y)], fill=_RULE, width=_FINE)
    _axes(draw, box)
    for run in _runs(scores):
        points = [(_across(i, scores, box) * _FINE, _height(scores[i], levels, box) * _FINE) for i in run]
        _stroke(draw, points)
    return large


def _axes(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = (side * _FINE for side in box)
    draw.line([(left, top), (left, bottom)], fill=lettering.QUIET, width=_FINE)
    draw.line([(left, bottom), (right, bottom)], fill=lettering.QUIET, width=_FINE)


def _runs(scores: NDArray[np.float64]) -> list[list[int]]:
    steps = np.flatnonzero(np.isfinite(scores))
    return [run.tolist() for run in np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)]


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], color: str = _LINE) -> None:
    if len(points) > 1:
        draw.line(points, fill=color, width=2 * _FINE, joint="curve")
        return
    # One score between two gaps has no line, and would not be seen.
    draw.circle(points[0], 3 * _FINE, fill=color)


@dataclass(frozen=True)
class Line:
    """One named line of :func:`curves`.

    Args:
        name: in the legend.
        across: (P,), float, rising from 0 at the least to 1 at the most, two or more.
        up: (P,), float, finite.
        area: the number beside the name; by default the area below the line, by the trapezoidal rule.
        told: what stands beside the name in place of the area.
        band: where the values may lie, low and high, (P,) each: a light area behind the line, which then has dots where
            its values are.

    Raises:
        CallError: another shape, ``across`` that falls or leaves [0, 1], or values that are not finite.
    """

    name: str
    across: Array
    up: Array
    area: float | None = None
    told: str = ""
    band: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        x, y = self.points
        if any(len(edge) != len(x) for edge in self.edges):
            raise CallError(f"the band of the line '{self.name}' has other places than the line; give as many")
        if len(x) != len(y) or len(x) < 2:
            raise CallError(f"the line '{self.name}' has {len(x)} places and {len(y)} values; give two or more of each")
        if x[0] < 0 or x[-1] > 1 or (np.diff(x) < 0).any():
            raise CallError(f"the places of the line '{self.name}' do not rise within [0, 1]; give shares in order")

    @property
    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Places and values."""
        return as_floats(self.across, "what lies across", ("P",)), as_floats(self.up, "a line", ("P",))

    @property
    def edges(self) -> list[NDArray[np.float64]]:
        """The low and the high edge of the band; none where there is no band."""
        return [as_floats(edge, "the edge of a band", ("P",)) for edge in self.band or ()]

    @property
    def shown_area(self) -> float:
        """The number in the legend."""
        x, y = self.points
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum()) if self.area is None else self.area


def curves(
    lines: Sequence[Line],
    title: str,
    *,
    across: str = "share of the pixels",
    up: str = "score",
    ticks: Sequence[tuple[float, str]] = ((0.0, "0"), (0.5, "0.5"), (1.0, "1")),
) -> Image.Image:
    """Several lines in one square plot of [0, 1] x [0, 1], 560 pixels wide, with their areas in the legend.

    Where values leave [0, 1] the axis goes on as far as they do.

    Args:
        lines: one to six, in the order of the legend.
        title: above the plot, shortened to one line.
        across, up: the names of the axes.
        ticks: where labels stand below, as shares of the width, and what they say.

    Raises:
        CallError: no line, or more than six.
    """
    if not 0 < len(lines) <= len(_COLORS):
        raise CallError(f"a plot has one to {len(_COLORS)} lines, not {len(lines)}; draw several plots")
    values = np.concatenate([part for line in lines for part in (line.points[1], *line.edges)])
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    levels = _ticks(low, high)
    labels, factor = lettering.number_labels(levels)
    left = _EDGE + 8 + max(lettering.width(label, _LETTERS) for label in labels)
    top = _TOP + lettering.line_height(_LETTERS)
    box = (left, top, left + _SQUARE, top + _SQUARE)
    picture = _plane(lines, [low, low / 2 + high / 2, high], levels, box).reduce(_FINE)
    for level, label in zip(levels, labels, strict=True):
        _write(picture, (left - 8, _height(level, [low, 0.0, high], box)), label, (1, 0.5))
    for share, label in ticks:
        _write(picture, (left + share * _SQUARE, box[3] + 5), label, (0.5 if 0 < share < 1 else share, 0))
    _write(picture, (left + _SQUARE / 2, picture.height - 4), across, (0.5, 1))
    _write(picture, (_EDGE, top - 7), f"{up} (in units of {factor})" if factor else up, (0, 1))
    _legend(picture, lines, (box[2] + _LEGEND, top))
    lettering.write_lines(picture, (_EDGE, 8), _heading(title), _LETTERS + 2, lettering.INK)
    return picture


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within the axis, three to six of them."""
    least = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _plane(
    lines: Sequence[Line], levels: list[float], ticks: list[float], box: tuple[int, int, int, int]
) -> Image.Image:
    large = Image.new("RGB", (_SIZE[0] * _FINE, (box[3] + _BOTTOM) * _FINE), "white")
    draw = ImageDraw.Draw(large)
    for tick in ticks:
        y = _height(tick, levels, box) * _FINE
        draw.line([(box[0] * _FINE, y), (box[2] * _FINE, y)], fill=_RULE, width=_FINE)
    _axes(draw, box)
    # The first line is the last drawn, above the others.
    for line, color in reversed(list(zip(lines, _COLORS, strict=False))):
        x, y = line.points
        points, edges = _placed(x, y, levels, box), [_placed(x, edge, levels, box) for edge in line.edges]
        if edges:
            large.paste(_lighter(color), mask=_area([*edges[0], *reversed(edges[1])], large.size))
        _stroke(draw, points, color)
        for point in points if edges else ():
            draw.circle(point, 3 * _FINE, fill=color)
    return large


def _placed(
    x: NDArray[np.float64], y: NDArray[np.float64], levels: list[float], box: tuple[int, int, int, int]
) -> list[tuple[float, float]]:
    pairs = zip(x, y, strict=True)
    return [((box[0] + _SQUARE * float(a)) * _FINE, _height(float(b), levels, box) * _FINE) for a, b in pairs]


def _area(corners: list[tuple[float, float]], size: tuple[int, int]) -> Image.Image:
    """A mask that lets half of what is below shine through: the rules stay."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon(corners, fill=128)
    return mask


def _lighter(color: str) -> tuple[int, ...]:
    return tuple((level + 2 * 255) // 3 for level in ImageColor.getrgb(color))


def _legend(picture: Image.Image, lines: Sequence[Line], corner: tuple[int, int]) -> None:
    row, indent = lettering.line_height(_LETTERS), 26
    room = _SIZE[0] - _EDGE - corner[0] - indent
    large = Image.new("RGB", (20 * _FINE, row * _FINE), "white")
    for i, (line, color) in enumerate(zip(lines, _COLORS, strict=False)):
        y = corner[1] + i * (2 * row + 6)
        sample = large.copy()
        _stroke(ImageDraw.Draw(sample), [(0, large.height / 2), (large.width, large.height / 2)], color)
        picture.paste(sample.reduce(_FINE), (corner[0], y))
        name = "".join(lettering.wrap(line.name.replace("\n", " "), _LETTERS, room, most=1))
        lettering.write(picture, (corner[0] + indent, y), name, _LETTERS, lettering.INK)
        below = line.told or f"area {lettering.number_label(line.shown_area)}"
        _write(picture, (corner[0] + indent, y + row - 2), below, (0, 0))
