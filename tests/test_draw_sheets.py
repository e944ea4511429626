"""Sheets of pictures, differences and curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from drawn import WHITE, eight_bit, one_sentence, pixels, solid
from inward.draw import (
    curve,
    grid,
    lettering,
    side_by_side,
)
from inward.errors import CallError

NEUTRAL, REDDEST, BLUEST = (247, 247, 247), (103, 0, 31), (5, 48, 97)
BLACKEST, BRIGHTEST = (0, 0, 4), (252, 255, 164)
# Sheets


def test_pictures_keep_their_pixels_and_order() -> None:
    sizes, colors = [(60, 40), (50, 70), (30, 30)], ["red", "lime", "blue"]
    drawn = pixels(grid([solid(*s, c) for s, c in zip(sizes, colors, strict=True)], columns=2, padding=5))
    assert drawn.shape == (5 + 70 + 5 + 30 + 5, 5 + 60 + 5 + 50 + 5, 3)
    assert (drawn[35:75, 5:65] == (255, 0, 0)).all(), "stands on the line of its row"
    assert (drawn[5:75, 70:120] == (0, 255, 0)).all()
    assert (drawn[80:110, 5:35] == (0, 0, 255)).all()
    assert (drawn != WHITE).any(axis=2).sum() == 60 * 40 + 50 * 70 + 30 * 30


@pytest.mark.parametrize("background", ["white", "#16171a"])
def test_captions_never_leave_their_column(background: str) -> None:
    long = "a caption that says much more about layer3.1.conv2/17@6,6 than there is room for below a picture " * 3
    pictures = [solid(110, 50), solid(130, 60), solid(120, 40), solid(90, 30)]
    sheet = grid(
        pictures, columns=2, captions=[long, "W" * 200, "short", "iiii " * 80], padding=8, background=background
    )
    assert sheet.width == 8 + 120 + 8 + 130 + 8
    drawn = pixels(sheet)
    ground = drawn[0, 0]
    for left, right in ((0, 8), (128, 136), (266, 274)):
        assert (drawn[:, left:right] == ground).all(), "the gutters stay empty"
    for column in (slice(8, 128), slice(136, 266)):
        assert np.abs(drawn[68:90, column] - ground).max() > 150, "captions are there, and contrast"


def test_captions_are_wrapped_in_their_room_and_shortened_with_an_ellipsis() -> None:
    text = "layer3.1.conv2/17@6,6 of a rather long name, then words and words and words and more"
    for room in (20, 60, 100, 333):
        lines = lettering.wrap(text, 14, room)
        assert len(lines) <= 3
        assert all(lettering.width(line, 14) <= room for line in lines)
    assert lettering.wrap(text, 14, 100)[-1].endswith("…")
    assert " ".join(lettering.wrap(text, 14, 333)) == text
    assert lettering.wrap("conv2/17@6,6", 14, 50)[0] == "conv2/"
    assert lettering.wrap("one\ntwo", 14, 300) == ["one", "two"]
    assert lettering.wrap("", 14, 300) == []


def test_letters_that_the_font_lacks_become_letters_that_it_has() -> None:
    assert lettering.plain("café × 4 − ε ≤ 1 … 日") == "cafe x 4 - eps <= 1 … ?"
    assert lettering.plain("abc XYZ 019 @/._-:()[]{}%+=<>&#'\"|~^*!?;$\\`") == (
        "abc XYZ 019 @/._-:()[]{}%+=<>&#'\"|~^*!?;$\\`"
    )


def test_transparency_shows_the_background() -> None:
    drawn = pixels(grid([Image.new("RGBA", (20, 10), (255, 0, 0, 0))], background="#204060"))
    assert (drawn == (0x20, 0x40, 0x60)).all()


@pytest.mark.parametrize(
    ("count", "options"),
    [
        (0, {}),
        (2, {"captions": ["one"]}),
        (2, {"columns": 0}),
        (2, {"padding": -1}),
        (2, {"background": "no such color"}),
    ],
)
def test_grids_that_make_no_sense_are_refused(count: int, options: dict[str, object]) -> None:
    with pytest.raises(CallError) as error:
        grid([solid(9, 8)] * count, **options)  # type: ignore[arg-type]
    assert one_sentence(error)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line of text drawn since."""
    lines: list[str] = []
    write = lettering.write

    def listening(picture: Image.Image, at: tuple[float, float], text: str, *rest: object) -> None:
        lines.append(text)
        write(picture, at, text, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(lettering, "write", listening)
    return lines


@pytest.mark.parametrize(
    ("change", "factor", "level"),
    [
        (1 / 64, 64, 255),
        (-1 / 64, 64, 0),
        (0.03, 33, 254),  # 255 * (0.5 + 33 * 0.03 / 2) = 253.7
        (0.375, 2, 223),  # 255 * (0.5 + 0.375) = 223.1
        (-0.45, 2, 13),  # 255 * (0.5 - 0.45) = 12.75
        (0.5, 2, 255),
    ],
)
def test_the_factor_of_a_difference_is_whole_and_told(
    change: float, factor: int, level: int, written: list[str]
) -> None:
    original = torch.full((3, 224, 240), 0.5)
    adversarial = original.clone()
    adversarial[1, :100, :70] += change
    drawn = pixels(side_by_side(original, adversarial, ("cat", "dog")))
    assert written == ["cat", "dog", f"difference x {factor / 2:g} (gray: none)"]
    third = drawn[8 : 8 + 224, 8 + 2 * 248 : 8 + 2 * 248 + 240]
    assert tuple(third[50, 50]) == (128, level, 128)
    assert (third[100:] == 128).all()
    assert (third[:, 70:] == 128).all()


def test_float32_rounding_does_not_cost_a_step_of_the_factor(written: list[str]) -> None:
    original = torch.linspace(0.1, 0.9, 224 * 240).view(1, 224, 240)
    difference = (original + 1 / 64 - original).max().item()
    assert difference > 1 / 64, "the case is one of rounding"
    side_by_side(original, original + 1 / 64)
    assert written[-1] == "difference x 32 (gray: none)"


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_identical_images_differ_nowhere(channels: int, written: list[str]) -> None:
    image = eight_bit(channels)
    sheet = side_by_side(image, image.clone())
    assert "no difference" in written
    assert sheet.width > 3 * 224


def test_the_difference_of_large_changes_is_not_amplified(written: list[str]) -> None:
    drawn = pixels(side_by_side(torch.zeros(1, 224, 225), torch.ones(1, 224, 225)))
    assert written[-1] == "difference x 0.5 (gray: none)"
    assert (drawn[8:232, 8 + 2 * 233 : 8 + 2 * 233 + 225] == 255).all()


def test_images_of_different_shapes_are_not_compared() -> None:
    with pytest.raises(CallError) as error:
        side_by_side(torch.zeros(3, 8, 9), torch.zeros(3, 9, 8))
    assert one_sentence(error)


def blue(picture: Image.Image) -> np.ndarray:
    drawn = pixels(picture)
    return np.asarray(drawn[..., 2] - drawn[..., 0] > 60)


def test_a_curve_rises_from_corner_to_corner_smoothly(written: list[str]) -> None:
    picture = curve([0.0, 1.0, 2.0, 3.0, 4.0], "scores")
    assert picture.size == (560, 260)
    assert written == ["0", "2", "4", "0", "2", "4", "step", "scores"]
    rows, columns = np.nonzero(blue(picture))
    assert np.corrcoef(rows, columns)[0, 1] < -0.999
    assert np.ptp(columns) > 480
    assert np.ptp(rows) > 160
    shades = {tuple(color) for color in pixels(picture)[blue(picture)]}
    assert len(shades) > 3, "the edges of the line are smooth"


def test_a_curve_leaves_gaps_where_scores_are_not_finite(written: list[str]) -> None:
    scores = torch.linspace(0, 1, 100)
    scores[40:60] = float("nan")
    scores[70] = float("inf")
    seen: np.ndarray = blue(curve(scores, "scores")).max(axis=0)
    left, right = np.flatnonzero(seen)[[0, -1]]
    middle = slice(left + round(0.42 * (right - left)), left + round(0.58 * (right - left)))
    assert not seen[middle].any()
    assert "step (21 not finite, left out)" in written


@pytest.mark.parametrize("scores", [[3.0], [5.0, 5.0, 5.0], [1e308, -1e308], [0.0, 1e-310], [1e6] * 2 + [1e6 + 1]])
def test_curves_of_any_numbers_are_drawn(scores: list[float], written: list[str]) -> None:
    assert blue(curve(scores, "scores")).any()
    assert len(set(written[:3])) == 3, "three labels that differ"


@pytest.mark.parametrize("scores", [[], [float("nan")], [[1.0, 2.0]], ["a"]])
def test_what_is_no_curve_is_refused(scores: list[float]) -> None:
    with pytest.raises(CallError) as error:
        curve(scores, "scores")
    assert one_sentence(error)
