"""One line by step, drawn without a plotting library: axes, three labels each, a smooth line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from inward.draw import lettering

_SIZE = (560, 260)
_LETTERS = 14
_LINE = "#1f5fae"
_RULE = "#dcdcd6"
# Pillow does not smooth lines; they are drawn this many times larger and reduced.
_FINE = 3
_TOP, _BOTTOM, _RIGHT, _EDGE = 40, 46, 20, 14


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
    draw.line([(box[0] * _FINE, box[1] * _FINE), (box[0] * _FINE, box[3] * _FINE)], fill=lettering.QUIET, width=_FINE)
    draw.line([(box[0] * _FINE, box[3] * _FINE), (box[2] * _FINE, box[3] * _FINE)], fill=lettering.QUIET, width=_FINE)
    for run in _runs(scores):
        points = [(_across(i, scores, box) * _FINE, _height(scores[i], levels, box) * _FINE) for i in run]
        _stroke(draw, points)
    return large


def _runs(scores: NDArray[np.float64]) -> list[list[int]]:
    steps = np.flatnonzero(np.isfinite(scores))
    return [run.tolist() for run in np.split(steps, np.flatnonzero(np.diff(steps) > 1) + 1)]


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]]) -> None:
    if len(points) > 1:
        draw.line(points, fill=_LINE, width=2 * _FINE, joint="curve")
        return
    # One score between two gaps has no line, and would not be seen.
    draw.circle(points[0], 3 * _FINE, fill=_LINE)
