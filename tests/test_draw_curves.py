"""Several lines in one plot: where they run, their areas, and axes that go as far as they do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from drawn import one_sentence, pixels
from inward.draw import Line, curves
from inward.errors import CallError
from lettered import Written, listened, tidy

# The plot of [0, 1] x [0, 1] with the labels 0, 0.25, ... 1.00, found by its axes.
SIDE = 246
BLUE, ORANGE = (0x1F, 0x5F, 0xAE), (0xCF, 0x5A, 0x0A)
X = torch.linspace(0, 1, 21)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    return listened(monkeypatch)


def box_of(written: list[Written], picture: Image.Image) -> tuple[float, float]:
    """Left and bottom of the plot: the label of its left end begins there."""
    zeros = [line for line in written if line.text == "0"]
    return zeros[-1].left, zeros[-1].top - 5


def heights(picture: Image.Image, color: tuple[int, int, int], corner: tuple[float, float]) -> dict[int, float]:
    """Of every column of the plot: the middle height of the pixels of one color, as a share of its side."""
    near = np.abs(pixels(picture) - color).sum(axis=2) < 60
    found = {}
    for column in range(SIDE + 1):
        (rows,) = np.nonzero(near[: int(corner[1]), int(corner[0]) + column])
        if len(rows):
            found[column] = (corner[1] - rows.mean()) / SIDE
    return found


def test_lines_run_where_their_values_are(written: list[Written]) -> None:
    falling, rising = Line("deletion", X, (1 - X) ** 2), Line("insertion", X, 0.2 + 0.6 * X)
    picture = curves([falling, rising], "of class:281", up="probability")
    corner = box_of(written, picture)
    for color, function in ((BLUE, lambda x: (1 - x) ** 2), (ORANGE, lambda x: 0.2 + 0.6 * x)):
        found = heights(picture, color, corner)
        assert len(found) > 200
        # A line is two pixels wide; where the lines cross, one of them is hidden.
        assert all(height == pytest.approx(function(column / SIDE), abs=0.015) for column, height in found.items())
    texts = [line.text for line in written]
    assert texts[:5] == ["0", "0.25", "0.50", "0.75", "1.00"]
    assert texts[5:8] == ["0", "0.5", "1"]
    assert {"share of the pixels", "probability", "of class:281"} <= set(texts)
    # By the trapezoidal rule with 20 intervals of (1 - x)^2: 1/3 + 1/(6 * 400) = 0.33375; and 0.2 + 0.3.
    assert texts[-5:-1] == ["deletion", "area 0.334", "insertion", "area 0.5"]
    assert tidy(written, picture)


def test_the_area_of_uneven_places_and_a_given_one() -> None:
    uneven = Line("a", torch.tensor([0.0, 0.5, 0.6, 1.0]), torch.tensor([1.0, 0.0, 0.5, 0.5]))
    assert uneven.shown_area == pytest.approx(0.25 + 0.025 + 0.2, abs=1e-7)
    assert Line("a", X, X, area=0.123).shown_area == 0.123


def test_axes_go_as_far_as_the_values(written: list[Written]) -> None:
    picture = curves([Line("a", X, 1.5 * X - 0.25)], "t")
    assert [line.text for line in written[:3]] == ["0", "0.5", "1.0"]
    found = heights(picture, BLUE, box_of(written, picture))
    # From -0.25 at the bottom to 1.25 at the top: the line is the diagonal.
    assert all(height == pytest.approx(column / SIDE, abs=0.015) for column, height in found.items())
    labels = {line.text: (line.top + line.bottom) / 2 for line in written[:3]}
    assert labels["0"] - labels["1.0"] == pytest.approx(SIDE / 1.5, abs=1)
    assert tidy(written, picture)


@pytest.mark.parametrize(("top", "least", "unit"), [(3e7, 3, "score (in units of 1e7)"), (2.6, 3, "score")])
def test_labels_are_round_numbers(top: float, least: int, unit: str, written: list[Written]) -> None:
    picture = curves([Line("a", X, top * X - 1)], "t")
    labels = []
    for line in written:
        if line.right >= box_of(written, picture)[0]:
            break
        labels.append(float(line.text))
    steps = np.diff(labels)
    assert least <= len(labels) <= 6
    assert steps == pytest.approx(steps[0])
    assert unit in {line.text for line in written}


def test_six_lines_of_six_colors(written: list[Written]) -> None:
    picture = curves([Line(f"integrated-gradients-number-{i} of a long name", X, X**i) for i in range(6)], "t" * 200)
    drawn = pixels(picture)[40:, 330:]
    strong = {tuple(color) for color in drawn.reshape(-1, 3) if np.ptp(color) > 60 or color.max() < 40}
    known = [(0x1F, 0x5F, 0xAE), (0xCF, 0x5A, 0x0A), (0x00, 0x86, 0x6A), (0x9C, 0x4A, 0x8C), (0xB3, 0x8A, 0x00)]
    assert strong.issuperset(known)
    assert picture.width == 560
    assert tidy(written, picture)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X[:1], X[:1]),
        (X, X[:3]),
        (X.flip(0), X),
        (X * 2, X),
        (X - 0.1, X),
        (X, X * float("nan")),
        (X, X[None]),
        (X, torch.arange(21)),
    ],
)
def test_what_is_no_line_is_refused(x: Any, y: Any) -> None:
    with pytest.raises(CallError) as error:
        Line("a", x, y)
    assert one_sentence(error)


@pytest.mark.parametrize("count", [0, 7])
def test_too_many_lines_and_none_are_refused(count: int) -> None:
    with pytest.raises(CallError) as error:
        curves([Line("a", X, X)] * count, "t")
    assert one_sentence(error)


def test_a_band_lies_where_its_edges_are(written: list[Written]) -> None:
    line = Line("a", X, 0.5 - 0.2 * X, told="and so on", band=(0.3 - 0.2 * X, 0.8 - 0.2 * X))
    picture = curves([line], "t", ticks=((0.0, "0"), (0.25, "2"), (1.0, "8")))
    left, bottom = box_of(written, picture)
    shown = pixels(picture).astype(int)
    for column in (50, 100, 150, 200):
        x = column / SIDE
        # Blueish, and lighter than the line.
        rows = [y for y in range(int(bottom)) if shown[y, int(left) + column, 2] - shown[y, int(left) + column, 0] > 12]
        heights_of = [(bottom - y) / SIDE for y in rows]
        assert min(heights_of) == pytest.approx(0.3 - 0.2 * x, abs=0.02)
        assert max(heights_of) == pytest.approx(0.8 - 0.2 * x, abs=0.02)
    texts = [one.text for one in written]
    assert {"and so on", "2", "8"} <= set(texts)
    assert not [text for text in texts if text.startswith("area")]
    with pytest.raises(CallError, match="the band of the line 'a' has other places than the line"):
        Line("a", X, X, band=(X[:-1], X))
