"""Text in pictures: Pillow's built-in font, measured, wrapped and shortened to its room; numbers for scales."""

from __future__ import annotations

import functools
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence

from PIL import Image, ImageColor, ImageDraw, ImageFont

from inward.errors import CallError

INK = "#1c1d20"
QUIET = "#5c6068"
_CHALK = "#f1f1ee"
_ELLIPSIS = "…"
_FINE = 4
# The built-in font has little beyond ASCII; this is what captions of networks and attacks really use.
_PLAIN = str.maketrans(
    {"×": "x", "−": "-", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "→": "->", "≤": "<=", "≥": ">="}
    | {"≈": "~", "∞": "inf", "ε": "eps", "α": "alpha", "β": "beta", "σ": "sigma", "λ": "lambda", "μ": "u", "µ": "u"}
    | {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l"}
)


@functools.cache
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's built-in font at ``size`` pixels."""
    return ImageFont.load_default(size)


def ink_on(background: str) -> str:
    """Dark letters for a light background, light letters for a dark one."""
    try:
        red, green, blue = ImageColor.getrgb(background)[:3]
    except ValueError:
        message = f"{background!r} is no color; give a name such as 'white' or a code such as '#16171a'"
        raise CallError(message) from None
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 127 else _CHALK


def write(
    picture: Image.Image, at: tuple[float, float], text: str, size: int, ink: str, where: tuple[float, float] = (0, 0)
) -> None:
    """Write one line of text into an RGB picture.

    Args:
        picture: changed in place.
        at: x and y in pixels of the point ``where`` of the line.
        text: the line; ``size`` pixels high, in the color ``ink``.
        where: (0, 0) for the left top of the line, (0.5, 0.5) for its middle, (1, 1) for its right bottom.
    """
    # Drawn large and reduced: at reading sizes the font's own letters stand at whole pixels, unevenly.
    room = (width(text, size) + 2, line_height(size))
    large = Image.new("L", (room[0] * _FINE, room[1] * _FINE))
    middle = (_FINE, large.height / 2)
    ImageDraw.Draw(large).text(middle, text, fill=255, font=font(size * _FINE), anchor="lm")
    corner = (round(at[0] - where[0] * (room[0] - 2)) - 1, round(at[1] - where[1] * room[1]))
    picture.paste(Image.new("RGB", room, ink), corner, large.reduce(_FINE))


def write_lines(picture: Image.Image, at: tuple[int, int], lines: Sequence[str], size: int, ink: str) -> None:
    """Write lines of text from ``at`` (their left and top) downwards, as ``write`` does."""
    for i, line in enumerate(lines):
        write(picture, (at[0], at[1] + i * line_height(size)), line, size, ink)


def line_height(size: int) -> int:
    """Pixels from one line to the next."""
    return math.ceil(1.3 * size)


def width(text: str, size: int) -> int:
    """Pixels that ``text`` takes on one line, rounded up."""
    return math.ceil(font(size * _FINE).getlength(text) / _FINE)


def plain(text: str) -> str:
    """``text`` in the characters that the built-in font has: accents dropped, ``?`` for what is left over."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN).replace(_ELLIPSIS, "\0"))
    kept = (c for c in decomposed if not unicodedata.combining(c))
    return "".join(_ELLIPSIS if c == "\0" else c if c.isspace() or _has_glyph(c) else "?" for c in kept)


@functools.cache
def _has_glyph(character: str) -> bool:
    # A character that no font may have shows what the font draws for a missing one.
    return _shape(character) != _shape("\uffff")


def _shape(character: str) -> bytes:
    picture = Image.new("1", (48, 48))
    ImageDraw.Draw(picture).text((4, 0), character, fill=1, font=font(32))
    return picture.tobytes()


def wrap(text: str, size: int, room: int, most: int = 3) -> list[str]:
    """``text`` as at most ``most`` lines, none wider than ``room`` pixels; what is cut ends in an ellipsis."""
    lines = [line for paragraph in plain(text).splitlines() for line in _filled(paragraph, size, room)]
    if len(lines) <= most:
        return lines
    return [*lines[: most - 1], _shortened(lines[most - 1], size, room)]


def _filled(paragraph: str, size: int, room: int) -> list[str]:
    lines = [""]
    for word in paragraph.split():
        glue = " "
        for piece in _pieces(word, size, room):
            joined = lines[-1] + glue + piece if lines[-1] else piece
            if width(joined, size) <= room:
                lines[-1] = joined
            else:
                lines.append(piece)
            glue = ""
    return lines


def _pieces(word: str, size: int, room: int) -> list[str]:
    if width(word, size) <= room:
        return [word]
    # Addresses are long words: break them where a reader would, before breaking them anywhere.
    return [piece for part in re.split(r"(?<=[/._@:-])", word) for piece in _chopped(part, size, room)]


def _chopped(part: str, size: int, room: int) -> list[str]:
    pieces = [""]
    for character in part:
        if width(pieces[-1] + character, size) > room and pieces[-1]:
            pieces.append("")
        # Dropped where not even one letter fits: a caption may be lost, never run over its neighbor.
        pieces[-1] += character if width(pieces[-1] + character, size) <= room else ""
    return pieces


def _shortened(line: str, size: int, room: int) -> str:
    while line and width(line + _ELLIPSIS, size) > room:
        line = line[:-1]
    return line.rstrip() + _ELLIPSIS if width(_ELLIPSIS, size) <= room else ""


def number_labels(numbers: Sequence[float]) -> tuple[list[str], str]:
    """Short labels that tell the numbers of a scale apart, and their common factor ("1e-5"; "" for 1).

    Numbers are rounded by at most a hundredth of the smallest step between them and 0.2% of the largest.
    """
    largest = max(abs(number) for number in numbers)
    power = 0 if largest == 0 or 1e-3 <= largest < 1e5 else math.floor(math.log10(largest))
    scaled = [_lowered(number, power) for number in numbers]
    decimals = _decimals(scaled)
    # Adding 0.0 turns -0.0 into 0.0.
    labels = [f"{round(number, decimals) + 0.0:.{decimals}f}" if number else "0" for number in scaled]
    return labels, f"1e{power}" if power else ""


def number_label(number: float) -> str:
    """One number in a sentence: three significant digits, such as 0.858 or 2.83e-6."""
    return re.sub(r"e([-+])0*", lambda found: "e" + found[1].strip("+"), f"{number:.3g}")


def _lowered(number: float, power: int) -> float:
    # In two halves, because 10.0 ** -power overflows for the smallest float64 numbers.
    half = power // 2
    return number / 10.0**half / 10.0 ** (power - half)


def _decimals(numbers: Sequence[float]) -> int:
    ordered = sorted(set(numbers))
    step = min((b - a for a, b in itertools.pairwise(ordered)), default=abs(ordered[0]) or 1.0)
    slack = min(0.01 * step, 0.002 * max(abs(n) for n in numbers))
    fits = (d for d in range(15) if all(abs(round(n, d) - n) <= slack for n in numbers))
    return next(fits, 15)
