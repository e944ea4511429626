"""One sheet of many maps of one picture: each in a cell of the same size, with its name, its scale and its numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from inward.draw import lettering
from inward.draw.colors import Scale, scale_of
from inward.draw.maps import overlay
from inward.draw.pictures import Array, as_floats, as_image, to_picture
from inward.errors import CallError

_WIDE, _LOWEST, _TALLEST = 224, 112, 336
_EDGE, _GUTTER, _ROWS = 24, 24, 32
_TITLE, _NAME, _KEY, _SMALL = 22, 16, 14, 13
_PANEL, _RULE = "#f3f3ef", "#dcdcd6"
_BAR, _ARROW = 10, 7
_FINE = 4
_KEYS = {
    False: "Bright matters most.",
    True: "Red raises the score, blue lowers it.",
}
_SCALES = "Every map has a scale of its own, and an arrow at its end where a few values lie beyond it."


@dataclass(frozen=True)
class Cell:
    """One map of a gallery, or why there is none.

    Args:
        name: the heading, one line.
        values: (h, w), float, at most as large as the picture; None where the map was refused.
        signed: whether the values have a sign, as for ``heat_map``.
        numbers: what stands below the map, name -> number, one line each.
        refused: one sentence in place of the map; "" where there is one.

    Raises:
        CallError: neither a map nor a reason, or both.
    """

    name: str
    values: Array | None = None
    signed: bool = False
    numbers: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""

    def __post_init__(self) -> None:
        if (self.values is None) != bool(self.refused):
            raise CallError(f"the cell '{self.name}' has a map or the reason why it has none; give one of the two")


@dataclass(frozen=True)
class _Layout:
    """Sizes that all cells share, in pixels.

    Attributes:
        shown: (width, height) of the picture and of each map.
        box: the height that is kept for it, or for a reason.
        lines: lines of numbers below each map.
        labels: the width of their names.
    """

    shown: tuple[int, int]
    box: int
    lines: int
    labels: int

    @property
    def picture(self) -> int:
        """From the top of a cell to its picture."""
        return lettering.line_height(_NAME) + 6

    @property
    def scale(self) -> int:
        """From the top of a cell to its scale."""
        return self.picture + self.box + 7

    @property
    def numbers(self) -> int:
        """From the top of a cell to its first number."""
        return self.scale + lettering.line_height(_SMALL) + 4

    @property
    def height(self) -> int:
        """Of a cell."""
        return self.numbers + self.lines * lettering.line_height(_SMALL)


def gallery(
    image: Array, cells: Sequence[Cell], title: str, *, note: str = "", columns: int | None = None
) -> Image.Image:
    """The picture and many maps of it on one sheet, row by row, as an RGB picture.

    All cells have one size, 224 pixels wide. A map lies over the gray picture as in ``overlay``, with a scale of its
    own below it: from 0, or from -limit over 0, to limit, the 99.5th percentile of its absolute values. A line below
    the title says what the colors mean.

    Args:
        image: (C, H, W) in [0, 1], any C.
        cells: one or more, in order; the picture itself comes before them.
        title: one or two lines above all.
        note: a few lines more below what is said of the colors.
        columns: cells a row; by default four to six, by their number.

    Raises:
        CallError: as ``overlay``, no cells, or fewer than one column.
    """
    if not cells:
        raise CallError("a gallery has one map or more, and none was given")
    if columns is not None and columns < 1:
        raise CallError(f"a gallery has one column or more, not {columns}")
    layout = _laid_out(image, cells)
    across = _columns(len(cells) + 1) if columns is None else min(columns, len(cells) + 1)
    rows = math.ceil((len(cells) + 1) / across)
    room = (across * (_WIDE + _GUTTER) - _GUTTER, rows * (layout.height + _ROWS) - _ROWS)
    sheet, top = _headed(title, [_key(cells), note], room)
    for i, cell in enumerate([None, *cells]):
        row, column = divmod(i, across)
        corner = (_EDGE + column * (_WIDE + _GUTTER), top + row * (layout.height + _ROWS))
        _draw(sheet, corner, image, cell, layout)
    return sheet


def _headed(title: str, told: Sequence[str], room: tuple[int, int]) -> tuple[Image.Image, int]:
    """A sheet with its title and what is told below that, and where the room for the cells begins."""
    heading = lettering.wrap(title, _TITLE, room[0], most=2)
    lines = [line for text in told for line in lettering.wrap(text, _KEY, room[0], most=6)]
    below = _EDGE + len(heading) * lettering.line_height(_TITLE) + 4
    top = below + len(lines) * lettering.line_height(_KEY) + 20
    sheet = Image.new("RGB", (room[0] + 2 * _EDGE, top + room[1] + _EDGE), "white")
    lettering.write_lines(sheet, (_EDGE, _EDGE), heading, _TITLE, lettering.INK)
    lettering.write_lines(sheet, (_EDGE, below), lines, _KEY, lettering.QUIET)
    return sheet, top


def _columns(count: int) -> int:
    return min(count, 4) if count <= 8 else 5 if count <= 15 else 6


def _laid_out(image: Array, cells: Sequence[Cell]) -> _Layout:
    height, width = as_image(image).shape[1:]
    factor = min(_WIDE / width, _TALLEST / height)
    shown = (max(1, round(width * factor)), max(1, round(height * factor)))
    names = [name for cell in cells for name in cell.numbers]
    labels = max((lettering.width(lettering.plain(name), _SMALL) for name in names), default=0)
    most = max(len(cell.numbers) for cell in cells)
    lowest = _LOWEST if any(cell.refused for cell in cells) else 0
    return _Layout(shown, max(shown[1], lowest), most, min(labels, _WIDE * 2 // 3))


def _key(cells: Sequence[Cell]) -> str:
    drawn = [cell for cell in cells if cell.values is not None]
    kinds = sorted({cell.signed for cell in drawn})
    return " ".join([*(_KEYS[kind] for kind in kinds), *([_SCALES] if drawn else [])])


def _draw(sheet: Image.Image, corner: tuple[int, int], image: Array, cell: Cell | None, layout: _Layout) -> None:
    x, y = corner
    name = lettering.wrap("original" if cell is None else cell.name.replace("\n", " "), _NAME, _WIDE, most=1)
    lettering.write_lines(sheet, corner, name, _NAME, lettering.INK)
    place = (x, y + layout.picture)
    if cell is None:
        _paste(sheet, place, _original(image), layout.shown)
    elif cell.values is None:
        _refuse(sheet, place, cell.refused, layout)
    else:
        meaning = scale_of(as_floats(cell.values, "a map", ("H", "W")), signed=cell.signed, limit=None)
        map_ = overlay(image, cell.values, signed=cell.signed, scale=False)
        _paste(sheet, place, map_, layout.shown)
        _scale(sheet, (x, y + layout.scale), meaning)
    if cell is not None:
        _write_numbers(sheet, (x, y + layout.numbers), cell.numbers, layout.labels)


def _original(image: Array) -> Image.Image:
    shown = as_image(image)
    # Of channels that are no colors their mean, as below the maps.
    return to_picture(shown if len(shown) in (1, 3, 4) else shown.mean(axis=0, keepdims=True))


def _paste(sheet: Image.Image, place: tuple[int, int], picture: Image.Image, size: tuple[int, int]) -> None:
    shown = picture.convert("RGBA")
    # Pixels of small pictures stay square and sharp: enlarged by a whole factor, then averaged down.
    factor = max(1, math.ceil(size[0] / shown.width))
    shown = shown.resize((shown.width * factor, shown.height * factor), Image.Resampling.NEAREST)
    whole = shown.width % size[0] == shown.height % size[1] == 0
    shown = shown.resize(size, Image.Resampling.BOX if whole else Image.Resampling.HAMMING)
    sheet.paste(shown, place, shown)


def _refuse(sheet: Image.Image, place: tuple[int, int], why: str, layout: _Layout) -> None:
    inside = 12
    frame = (place[0], place[1], place[0] + _WIDE - 1, place[1] + layout.box - 1)
    ImageDraw.Draw(sheet).rectangle(frame, fill=_PANEL, outline=_RULE)
    most = (layout.box - 2 * inside) // lettering.line_height(_SMALL)
    lines = lettering.wrap(why, _SMALL, _WIDE - 2 * inside, most=most)
    lettering.write_lines(sheet, (place[0] + inside, place[1] + inside), lines, _SMALL, lettering.QUIET)


def _scale(sheet: Image.Image, corner: tuple[int, int], scale: Scale) -> None:
    """The scale in one line: the number of its first color, its colors, the number of its last."""
    x, y = corner
    middle = y + lettering.line_height(_SMALL) / 2
    if scale.limit == 0:
        lettering.write(sheet, (x, middle), "0 everywhere", _SMALL, lettering.QUIET, (0, 0.5))
        return
    last = lettering.number_label(scale.limit)
    first = f"-{last}" if scale.signed else "0"
    lettering.write(sheet, (x, middle), first, _SMALL, lettering.QUIET, (0, 0.5))
    lettering.write(sheet, (x + _WIDE, middle), last, _SMALL, lettering.QUIET, (1, 0.5))
    left, right = lettering.width(first, _SMALL) + 7, _WIDE - lettering.width(last, _SMALL) - 7
    stripe = _stripe(right - left, scale)
    sheet.paste(stripe, (x + left, round(middle) - _BAR // 2))


def _stripe(length: int, scale: Scale) -> Image.Image:
    """The colors of an overlay over middle gray, with arrows where values go on beyond them."""
    ramp = np.linspace(-1.0 if scale.signed else 0.0, 1.0, _WIDE)
    colors = overlay(np.full((1, _WIDE, _WIDE), 0.5), ramp[None].repeat(_WIDE, 0), signed=scale.signed, scale=False)
    before, after = _ARROW * scale.clipped_below, _ARROW * scale.clipped_above
    shares = (np.arange(length) - before) / (length - before - after - 1)
    row = np.asarray(colors)[0, np.rint(shares.clip(0, 1) * (_WIDE - 1)).astype(np.int64)]
    white = Image.new("RGB", (length, _BAR), "white")
    return Image.composite(Image.fromarray(row[None].repeat(_BAR, 0)), white, _arrows(length, before, after))


def _arrows(length: int, before: int, after: int) -> Image.Image:
    # Drawn large and reduced, because Pillow does not smooth the edges of a polygon.
    shape = Image.new("L", (length * _FINE, _BAR * _FINE), 0)
    draw = ImageDraw.Draw(shape)
    far, half, low = shape.width - 1, shape.height / 2, shape.height - 1
    left, right = before * _FINE, far - after * _FINE
    draw.polygon([(left, 0), (right, 0), (far, half), (right, low), (left, low), (0, half)], fill=255)
    if not before:
        draw.rectangle((0, 0, far // 2, low), fill=255)
    if not after:
        draw.rectangle((far // 2, 0, far, low), fill=255)
    return shape.reduce(_FINE)


def _write_numbers(sheet: Image.Image, corner: tuple[int, int], numbers: Mapping[str, str], labels: int) -> None:
    x, y = corner
    for i, (name, number) in enumerate(numbers.items()):
        top = y + i * lettering.line_height(_SMALL)
        for text, left, room, ink in (
            (name, 0, labels, lettering.QUIET),
            (number, labels + 12, _WIDE - labels - 12, lettering.INK),
        ):
            line = lettering.wrap(text.replace("\n", " "), _SMALL, room, most=1)
            lettering.write_lines(sheet, (x + left, top), line, _SMALL, ink)
