"""Pictures of any size in rows and columns, each with its caption in its own column."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence

from PIL import Image

from inward.draw import lettering
from inward.errors import CallError

# A caption may widen the column of a narrow picture up to this many letter heights, and no further.
_CAPTION_ROOM = 7


def grid(
    pictures: Sequence[Image.Image],
    *,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    padding: int = 8,
    background: str = "white",
) -> Image.Image:
    """Pictures in rows and columns, row by row, as one RGB picture.

    A column is as wide as its widest picture (a little wider if its pictures are too narrow for any caption).
    Pictures keep their pixels, stand at the left of their column and on the same line as their row; captions are
    wrapped to at most three lines inside their column and shortened with an ellipsis.

    Args:
        pictures: at least one, of any sizes and modes; transparency shows the background.
        columns: pictures a row; by default all of up to four, else about as many as there are rows.
        captions: one a picture, or None for none. Letters that Pillow's built-in font lacks lose their accents
            or become "?".
        padding: pixels around and between pictures.
        background: a color as Pillow names them; the letters are dark or light to suit it.

    Raises:
        CallError: no pictures, another number of captions than of pictures, fewer than one column, a negative
            padding, or an unknown color.
    """
    _check(pictures, columns, captions, padding)
    ink = lettering.ink_on(background)
    across = _columns(len(pictures)) if columns is None else min(columns, len(pictures))
    words = [""] * len(pictures) if captions is None else list(captions)
    size = _letter_size(pictures)
    widths = [_column_width(pictures[i::across], words[i::across], size) for i in range(across)]
    lines = [lettering.wrap(text, size, widths[i % across]) for i, text in enumerate(words)]
    return _drawn(pictures, lines, widths, size, padding, (background, ink))


def _check(pictures: Sequence[Image.Image], columns: int | None, captions: Sequence[str] | None, padding: int) -> None:
    if not pictures:
        raise CallError("a grid needs at least one picture, and none was given")
    if captions is not None and len(captions) != len(pictures):
        raise CallError(f"{len(captions)} captions were given for {len(pictures)} pictures; give one for each, or None")
    if columns is not None and columns < 1:
        raise CallError(f"a grid has one column or more, not {columns}")
    if padding < 0:
        raise CallError(f"the padding is a number of pixels from 0 up, not {padding}")


def _columns(count: int) -> int:
    return count if count <= 4 else math.ceil(math.sqrt(count))


def _letter_size(pictures: Sequence[Image.Image]) -> int:
    # Large pictures are looked at reduced, so that their captions must grow with them.
    return min(20, max(14, int(statistics.median(picture.width for picture in pictures)) // 24))


def _column_width(pictures: Sequence[Image.Image], words: Sequence[str], size: int) -> int:
    wish = max(lettering.width(lettering.plain(text).replace("\n", " "), size) for text in words)
    return max(max(picture.width for picture in pictures), min(wish, _CAPTION_ROOM * size))


def _starts(lengths: Sequence[int], padding: int) -> list[int]:
    return [padding + before + i * padding for i, before in enumerate(itertools.accumulate([0, *lengths]))]


def _drawn(
    pictures: Sequence[Image.Image],
    lines: Sequence[list[str]],
    widths: Sequence[int],
    size: int,
    padding: int,
    colors: tuple[str, str],
) -> Image.Image:
    across = len(widths)
    rows = range(0, len(pictures), across)
    tops = [max(picture.height for picture in pictures[i : i + across]) for i in rows]
    texts = [_caption_height(lines[i : i + across], size) for i in rows]
    xs, ys = _starts(widths, padding), _starts([a + b for a, b in zip(tops, texts, strict=True)], padding)
    sheet = Image.new("RGB", (xs[-1], ys[-1]), colors[0])
    for i, (picture, text) in enumerate(zip(pictures, lines, strict=True)):
        row, column = divmod(i, across)
        floor = ys[row] + tops[row]
        _paste(sheet, picture, (xs[column], floor - picture.height))
        lettering.write_lines(sheet, (xs[column], floor + _gap(size)), text, size, colors[1])
    return sheet


def _gap(size: int) -> int:
    return size // 3


def _caption_height(lines: Sequence[list[str]], size: int) -> int:
    most = max(len(text) for text in lines)
    return _gap(size) + most * lettering.line_height(size) if most else 0


def _paste(sheet: Image.Image, picture: Image.Image, at: tuple[int, int]) -> None:
    shown = picture.convert("RGBA")
    sheet.paste(shown, at, shown)
