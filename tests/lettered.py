"""What was written into a picture, and where."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from PIL import Image

from inward.draw import lettering


@dataclass(frozen=True)
class Written:
    """A line of text: its place in the picture that it was written into."""

    text: str
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Written) -> bool:
        """Whether they overlap by more than the space that a line keeps above and below its letters."""
        apart = min(self.right, other.right) - max(self.left, other.left) <= 0
        return not apart and min(self.bottom, other.bottom) - max(self.top, other.top) > 3


def listened(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    """Every line of text written from now on."""
    found: list[Written] = []
    write = lettering.write

    def listening(
        picture: Image.Image,
        at: tuple[float, float],
        text: str,
        size: int,
        ink: str,
        where: tuple[float, float] = (0, 0),
    ) -> None:
        wide, high = lettering.width(text, size), lettering.line_height(size)
        left, top = at[0] - where[0] * wide, at[1] - where[1] * high
        if text:
            found.append(Written(text, left, top, left + wide, top + high))
        write(picture, at, text, size, ink, where)

    monkeypatch.setattr(lettering, "write", listening)
    return found


def tidy(lines: list[Written], picture: Image.Image) -> bool:
    """Whether every line lies inside the picture, and none upon another."""
    inside = all(a.left >= 0 and a.top >= 0 and a.right <= picture.width and a.bottom <= picture.height for a in lines)
    return inside and not any(a.meets(b) for a, b in itertools.combinations(lines, 2))
