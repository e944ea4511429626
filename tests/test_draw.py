"""Pictures, maps, sheets and pages: pixel values computed by hand, and facts a reader relies on."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inward.draw import (
    Figure,
    Section,
    curve,
    data_uri,
    grid,
    heat_map,
    lettering,
    overlay,
    page,
    read_png,
    save_page,
    save_png,
    saving,
    side_by_side,
    to_bytes,
    to_picture,
)
from inward.draw.colors import scale_of
from inward.errors import CallError, InwardError

NEUTRAL, REDDEST, BLUEST = (247, 247, 247), (103, 0, 31), (5, 48, 97)
BLACKEST, BRIGHTEST = (0, 0, 4), (252, 255, 164)
WHITE = (255, 255, 255)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def eight_bit(channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (channels, 19, 31), generator=generator).float() / 255


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> bool:
    text = str(error.value)
    return "\n" not in text and ". " not in text and len(text.split()) > 5


# Pictures


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA")])
def test_the_channels_decide_the_mode_and_rows_stay_rows(channels: int, mode: str) -> None:
    image = eight_bit(channels)
    picture = to_picture(image)
    assert (picture.mode, picture.size) == (mode, (31, 19))
    levels = np.asarray(picture).reshape(19, 31, channels)
    assert np.array_equal(levels, (image * 255).round().byte().permute(1, 2, 0).numpy())


def test_values_are_rounded_to_the_nearest_level_and_halves_upwards() -> None:
    values = torch.tensor([[[0.0, 0.49 / 255, 0.51 / 255, 1.49 / 255, 1.51 / 255, 0.5, 254.51 / 255, 1.0]]])
    assert np.asarray(to_picture(values)).tolist() == [[0, 0, 1, 1, 2, 128, 255, 255]]


def test_rounding_errors_of_the_caller_are_forgiven_and_mistakes_are_not() -> None:
    assert np.asarray(to_picture(torch.tensor([[[-9e-6, 1 + 9e-6]]]))).tolist() == [[0, 255]]
    for wrong in (-2e-5, 1 + 2e-5, 255.0):
        with pytest.raises(CallError, match=r"\[0, 1\]") as error:
            to_picture(torch.tensor([[[0.5, wrong]]]))
        assert one_sentence(error)


@pytest.mark.parametrize(
    "wrong",
    [
        torch.tensor([[[0.5, float("nan")]]]),
        torch.tensor([[[0.5, float("inf")]]]),
        torch.zeros(1, 3, 4, 5),
        torch.zeros(4, 5),
        torch.zeros(3, 0, 5),
        torch.zeros(3, 4, 5, dtype=torch.uint8),
        np.zeros((3, 4, 5), dtype=bool),
        [[[0.5]]],
    ],
)
def test_what_is_no_image_is_refused_in_one_sentence(wrong: torch.Tensor) -> None:
    with pytest.raises(CallError) as error:
        to_picture(wrong)
    assert one_sentence(error)


def test_tensors_of_any_float_type_and_arrays_give_the_same_picture() -> None:
    image = torch.tensor([[[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]]], requires_grad=True)
    expected = [[0, 64, 255], [128, 191, 32]]
    for given in (image, image.detach().bfloat16(), image.detach().half(), image.detach().double().numpy()):
        assert np.asarray(to_picture(given)).tolist() == expected


@pytest.mark.parametrize(("at_least", "factor"), [(0, 1), (8, 1), (9, 2), (224, 28), (225, 29)])
def test_small_pictures_are_enlarged_by_the_least_whole_factor_without_smoothing(at_least: int, factor: int) -> None:
    image = torch.rand(3, 8, 11, generator=torch.Generator().manual_seed(0))
    picture = to_picture(image, at_least=at_least)
    assert picture.size == (11 * factor, 8 * factor)
    assert np.array_equal(pixels(picture), pixels(to_picture(image)).repeat(factor, 0).repeat(factor, 1))


@pytest.mark.parametrize("channels", [2, 5])
def test_other_numbers_of_channels_become_labeled_gray_tiles(channels: int) -> None:
    levels = torch.arange(channels) / 10
    picture = to_picture(levels[:, None, None].expand(channels, 40, 60))
    drawn = pixels(picture)
    assert np.ptp(drawn, axis=2).max() <= 4, "tiles are gray, and their labels nearly"
    columns, padding = {2: 2, 5: 3}[channels], 8
    rows = -(-channels // columns)
    pitch = (picture.height - padding) // rows
    assert pitch > 40 + padding, "there is room for the labels"
    for index in range(channels):
        row, column = divmod(index, columns)
        x, y = padding + column * (60 + padding), padding + row * pitch
        assert (drawn[y : y + 40, x : x + 60] == int(index * 25.5 + 0.5)).all()
        assert drawn[y + 40 : y + pitch - padding, x : x + 60].min() < 100, "its index stands below"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_saved_picture_comes_back_bit_by_bit(channels: int, tmp_path: Path) -> None:
    image = eight_bit(channels)
    save_png(to_picture(image), tmp_path / "a.png")
    back = read_png(tmp_path / "a.png")
    assert (back.dtype, back.shape) == (torch.float32, image.shape)
    assert torch.equal(back, image)
    assert os.listdir(tmp_path) == ["a.png"]


def test_every_level_survives_reading_and_drawing(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    save_png(Image.fromarray(levels), tmp_path / "a.png")
    assert np.array_equal(np.asarray(to_picture(read_png(tmp_path / "a.png"))), levels)


@pytest.mark.parametrize(
    ("mode", "channels", "value"), [("1", 1, 1.0), ("P", 3, 1.0), ("LA", 4, 1.0), ("I;16", 1, 60000 / 65535)]
)
def test_other_kinds_of_png_are_read(mode: str, channels: int, value: float, tmp_path: Path) -> None:
    picture = Image.new("I;16", (5, 3), 60000) if mode == "I;16" else Image.new("L", (5, 3), 255).convert(mode)
    picture.save(tmp_path / "a.png")
    back = read_png(tmp_path / "a.png")
    assert back.shape == (channels, 3, 5)
    assert back.numpy() == pytest.approx(np.full((channels, 3, 5), value), abs=1e-7)


def test_bytes_and_address_hold_the_same_picture() -> None:
    picture = to_picture(eight_bit(3))
    head, body = data_uri(picture).split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == to_bytes(picture)
    assert to_bytes(picture)[:8] == b"\x89PNG\r\n\x1a\n"


def test_saving_where_nothing_can_be_saved_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    picture = to_picture(eight_bit(1))
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "missing" / "a.png", tmp_path / "folder.png", tmp_path / "a.jpg"):
        with pytest.raises(CallError) as error:
            save_png(picture, path)
        assert one_sentence(error)
        assert str(path) in str(error.value)
    assert os.listdir(tmp_path) == ["folder.png"]


def test_a_write_that_fails_half_way_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_page("before", tmp_path / "a.html")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving.os, "fsync", full)
    with pytest.raises(InwardError, match="No space left") as error:
        save_page("after", tmp_path / "a.html")
    assert one_sentence(error)
    assert os.listdir(tmp_path) == ["a.html"]
    assert (tmp_path / "a.html").read_text() == "before"


def test_a_saved_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    save_page("x", tmp_path / "a.html")
    assert (tmp_path / "a.html").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_reading_what_is_no_png_says_so(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    whole = to_bytes(to_picture(eight_bit(3)))
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    for name in ("text.png", "half.png", "missing.png"):
        with pytest.raises(CallError, match=name) as error:
            read_png(tmp_path / name)
        assert one_sentence(error)


# Maps


def bare(values: list[list[float]], *, signed: bool, limit: float | None = None) -> np.ndarray:
    """The colors of a map, one pixel a value."""
    tensor = torch.tensor(values)
    drawn = pixels(heat_map(tensor, signed=signed, scale=False, limit=limit))
    factor = drawn.shape[0] // tensor.shape[0]
    assert np.array_equal(drawn, drawn[::factor, ::factor].repeat(factor, 0).repeat(factor, 1)), "no smoothing"
    return drawn[::factor, ::factor]


def test_a_signed_map_is_neutral_at_zero_and_reaches_both_ends() -> None:
    drawn = bare([[-2.0, 0.0, 2.0], [-5.0, -0.0, 5.0]], signed=True, limit=2.0)
    assert [[tuple(color) for color in row] for row in drawn] == [[BLUEST, NEUTRAL, REDDEST]] * 2


def test_opposite_values_lie_equally_far_from_the_neutral_color() -> None:
    steps = torch.linspace(-1, 1, 257)
    ramp = bare([steps.tolist(), steps.tolist()], signed=True, limit=1.0)[0]
    assert len(np.unique(ramp, axis=0)) == 257
    position = {tuple(color): index - 128 for index, color in enumerate(ramp)}
    for value in (0.001, 0.00391, 0.1, 0.1234567, 0.5, 0.998, 1.0, 3.0):
        up, down = bare([[value, -value], [0, 0]], signed=True, limit=1.0)[0]
        assert position[tuple(up)] == -position[tuple(down)] == round(128 * min(value, 1))
        assert (up[0] > up[2]) == (down[2] > down[0]) == (value > 0.003), "up is red, down is blue"


def test_an_unsigned_map_goes_from_black_to_the_brightest_color_and_never_darkens() -> None:
    drawn = bare([[0.0, 3.0, 7.0], [0.0, 1.5, 3.0]], signed=False, limit=3.0)
    assert [tuple(color) for color in drawn[0]] == [BLACKEST, BRIGHTEST, BRIGHTEST]
    ramp = bare([torch.linspace(0, 1, 256).tolist()] * 2, signed=False, limit=1.0)[0]
    assert (np.diff(ramp @ [0.299, 0.587, 0.114]) > -0.5).all()


def test_the_usual_limit_is_the_percentile_of_the_sizes() -> None:
    values = torch.arange(-100, 101).float().view(3, 67)
    assert scale_of(values.double().numpy(), signed=True, limit=None).limit == pytest.approx(
        np.quantile(values.abs().numpy(), 0.995)
    )
    spike = torch.zeros(40, 50)
    spike[3, 4] = 0.25
    assert tuple(pixels(heat_map(spike, signed=False, scale=False))[3 * 6, 4 * 6]) == BRIGHTEST


def test_rows_and_columns_of_a_map_keep_their_place() -> None:
    values = torch.zeros(7, 12)
    values[1, 10] = 1.0
    drawn = pixels(heat_map(values, signed=True, scale=False, limit=1.0))
    assert drawn.shape == (224, 384, 3)
    assert (drawn[32:64, 320:352] == REDDEST).all()
    assert (drawn != NEUTRAL).any(axis=2).sum() == 32 * 32


def test_a_map_that_is_all_zero_is_drawn_as_zero_and_says_so() -> None:
    zero = np.zeros((8, 9))
    assert scale_of(zero, signed=True, limit=None).note == "all zero"
    assert (pixels(heat_map(zero, signed=True, scale=False)) == NEUTRAL).all()
    assert (pixels(heat_map(zero, signed=False, scale=False)) == BLACKEST).all()
    almost = zero.copy()
    almost[0, 0] = 1e-30
    assert scale_of(almost, signed=True, limit=1.0).note == ""


def test_the_scale_says_how_far_clipped_values_reach() -> None:
    values = np.array([[-7.0, 0.5], [0.0, 3.0]])
    both = scale_of(values, signed=True, limit=2.0)
    assert both.note == "values beyond ±2 are clipped (lowest -7, highest 3)"
    assert scale_of(values, signed=True, limit=7.0).note == ""
    assert not scale_of(values, signed=True, limit=5.0).clipped_above


def test_the_scale_shows_every_color_in_order_beside_the_untouched_map() -> None:
    values = torch.linspace(-1, 1, 300 * 256).view(300, 256)
    whole, map_only = (pixels(heat_map(values, signed=True, scale=scale, limit=1.0)) for scale in (True, False))
    assert np.array_equal(whole[20:320, 10:266], map_only)
    stripe = whole[20:320, 280]
    assert tuple(stripe[0]) == REDDEST
    assert tuple(stripe[-1]) == BLUEST
    assert len(np.unique(stripe, axis=0)) == 257
    assert (whole[:, 310:] < 128).any(), "numbers stand beside it"


def test_arrows_stand_only_where_values_go_on_beyond_the_scale() -> None:
    values = torch.linspace(-1, 1, 300 * 256).view(300, 256)
    values[0, 0] = 5.0
    drawn = pixels(heat_map(values, signed=True, limit=1.0))
    assert (drawn[11:20, 284] == REDDEST).all(), "above"
    assert (drawn[320:330, 284] == WHITE).all(), "not below"


@pytest.mark.parametrize(
    ("numbers", "labels", "factor"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"], ""),
        ([-3.473, 0, 3.473], ["-3.47", "0", "3.47"], ""),
        ([0, 1.735e-5, 3.47e-5], ["0", "1.74", "3.47"], "1e-5"),
        ([100.001, 100.0015, 100.002], ["100.0010", "100.0015", "100.0020"], ""),
        ([0, 1e-310], ["0", "1"], "1e-310"),
        ([0], ["0"], ""),
        ([-2e6, 4e6], ["-2", "4"], "1e6"),
    ],
)
def test_labels_tell_numbers_apart_in_few_digits(numbers: list[float], labels: list[str], factor: str) -> None:
    assert lettering.number_labels(numbers) == (labels, factor)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (torch.tensor([[0.0, float("nan")]]), {}),
        (torch.zeros(1, 4, 5), {}),
        (torch.zeros(4, 5, dtype=torch.int64), {}),
        (torch.tensor([[-0.1, 1.0]]), {"signed": False}),
        (torch.ones(4, 5), {"limit": 0.0}),
        (torch.ones(4, 5), {"limit": float("inf")}),
    ],
)
def test_maps_that_make_no_sense_are_refused(values: torch.Tensor, options: dict[str, float]) -> None:
    with pytest.raises(CallError) as error:
        heat_map(values, **{"signed": True, **options})
    assert one_sentence(error)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_an_overlay_mixes_the_map_with_the_gray_picture(channels: int) -> None:
    image = torch.full((channels, 230, 250), 0.5)
    values = torch.zeros(230, 250)
    values[100:, :] = 2.0
    drawn = pixels(overlay(image, values, signed=True, opacity=0.6, scale=False, limit=2.0))
    # Half transparent middle gray on white is lighter than middle gray.
    gray = 255 * 0.75 if channels == 4 else 127.5
    assert drawn.shape == (230, 250, 3)
    assert tuple(drawn[50, 70]) == tuple(int(0.6 * level + 0.4 * gray + 0.5) for level in NEUTRAL)
    assert tuple(drawn[150, 70]) == tuple(int(0.6 * level + 0.4 * gray + 0.5) for level in REDDEST)


def test_an_overlay_of_no_opacity_is_the_luma_of_the_picture() -> None:
    image = torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1).expand(3, 224, 240)
    drawn = pixels(overlay(image, torch.ones(4, 6), signed=False, opacity=0.0, scale=False))
    assert (drawn == int(255 * (0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 1.0) + 0.5)).all()


def test_a_coarse_map_is_enlarged_smoothly_to_its_own_side_of_the_picture() -> None:
    coarse = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    drawn = pixels(overlay(torch.zeros(1, 240, 300), coarse, signed=False, opacity=1.0, scale=False, limit=1.0))
    brightness = drawn.sum(axis=2)
    assert (brightness[:, :150] == sum(BLACKEST)).all()
    assert (brightness[:, 250:] == sum(BRIGHTEST)).all()
    assert len(np.unique(brightness[0, 150:250])) > 60, "it rises in many small steps"
    assert (brightness == brightness[:1]).all()


def test_an_overlay_refuses_a_map_of_something_larger() -> None:
    for values, opacity in ((torch.zeros(9, 8), 0.5), (torch.zeros(8, 9), 1.5)):
        with pytest.raises(CallError) as error:
            overlay(torch.zeros(3, 8, 9), values, signed=True, opacity=opacity)
        assert one_sentence(error)


# Sheets


def solid(width: int, height: int, color: str = "teal") -> Image.Image:
    return Image.new("RGB", (width, height), color)


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
    assert written == ["cat", "dog", f"difference x {factor}"]
    third = drawn[8 : 8 + 224, 8 + 2 * 248 : 8 + 2 * 248 + 240]
    assert tuple(third[50, 50]) == (128, level, 128)
    assert (third[100:] == 128).all()
    assert (third[:, 70:] == 128).all()


def test_float32_rounding_does_not_cost_a_step_of_the_factor(written: list[str]) -> None:
    original = torch.linspace(0.1, 0.9, 224 * 240).view(1, 224, 240)
    difference = (original + 1 / 64 - original).max().item()
    assert difference > 1 / 64, "the case is one of rounding"
    side_by_side(original, original + 1 / 64)
    assert written[-1] == "difference x 64"


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_identical_images_differ_nowhere(channels: int, written: list[str]) -> None:
    image = eight_bit(channels)
    sheet = side_by_side(image, image.clone())
    assert "no difference" in written
    assert sheet.width > 3 * 224


def test_the_difference_of_large_changes_is_not_amplified(written: list[str]) -> None:
    drawn = pixels(side_by_side(torch.zeros(1, 224, 225), torch.ones(1, 224, 225)))
    assert written[-1] == "difference x 1"
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


# Pages


class Outline(HTMLParser):
    """The tags, attributes and text of a page, and whether its tags are closed in order."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1], data))

    def texts(self, tag: str) -> list[str]:
        return [text for parent, text in self.words if parent == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


EVIL = "<script>alert('x')</script> & \"quoted\""


def full_page() -> str:
    tiny, large, wide = solid(8, 9), solid(300, 200), solid(900, 200)
    figures = (Figure(tiny, "a digit"), Figure(large, EVIL, alt="the second"), Figure(wide))
    table = (("name", "eps"), (EVIL, "0.5"), ("b", "1,024"))
    return page(EVIL, [Section(EVIL, f"one {EVIL}\n\ntwo\nlines\n \n\nthree", figures, table, code=f"{EVIL}\n  x = 1")])


def test_a_page_escapes_whatever_it_is_given() -> None:
    source = full_page()
    outline = Outline(source)
    assert outline.open == []
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "<script" not in source
    assert outline.texts("h1") == outline.texts("h2") == outline.texts("title") == [EVIL]
    assert outline.texts("figcaption") == ["a digit", EVIL]
    assert outline.texts("code") == [f"{EVIL}\n  x = 1"]
    assert outline.texts("td") == [EVIL, "0.5", "b", "1,024"]


def test_a_page_asks_nothing_of_any_other_place() -> None:
    source = full_page()
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", source)
    for forbidden in ("http", "//", "url(", "@import", "srcset", "onload"):
        assert forbidden not in without_pictures
    outline = Outline(source)
    addresses = [a[key] for _, a in outline.tags for key in ("src", "href") if key in a]
    assert len(addresses) == 4, "three pictures and an icon that is not fetched"
    assert all(str(address).startswith("data:") for address in addresses)


def test_a_page_has_real_headings_paragraphs_and_alternative_texts() -> None:
    outline = Outline(full_page())
    assert outline.texts("p") == [f"one {EVIL}", "two\nlines", "three"]
    assert [image["alt"] for image in outline.attributes("img")] == ["a digit", "the second", EVIL]
    assert [image["width"] for image in outline.attributes("img")] == ["8", "300", "900"]
    assert [figure.get("class") for figure in outline.attributes("figure")] == ["tiny", None, "wide"]
    assert [cell.get("class") for cell in outline.attributes("td")] == [None, "number"] * 2
    assert [cell["scope"] for cell in outline.attributes("th")] == ["col", "col"]
    assert outline.attributes("html") == [{"lang": "en"}]


def test_a_page_adapts_to_dark_systems_and_phones() -> None:
    source = full_page()
    assert "prefers-color-scheme: dark" in source
    assert 'name="viewport"' in source
    assert "max-width: 72rem" in source
    assert "image-rendering: pixelated" in source
    assert "tabular-nums" in source


def test_the_pictures_of_a_page_are_the_pictures_given() -> None:
    picture = to_picture(eight_bit(3))
    assert f'src="{data_uri(picture)}"' in page("t", [Section("h", figures=(Figure(picture),))])


def test_a_long_page_lists_its_sections() -> None:
    headings = ["a", "b", "c", "d & e"]
    outline = Outline(page("t", [Section(heading) for heading in headings]))
    links = [link["href"] for link in outline.attributes("a")]
    assert outline.texts("a") == headings
    assert links == [f"#{heading['id']}" for heading in outline.attributes("h2")]
    assert Outline(page("t", [Section("a")])).attributes("nav") == []


def test_a_table_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(CallError) as error:
        Section("h", table=(("a", "b"), ("c",)))
    assert one_sentence(error)


def test_a_page_is_saved_whole_as_utf8(tmp_path: Path) -> None:
    save_page(page("Gürteltier → 日", []), tmp_path / "a.html")
    assert "<h1>Gürteltier → 日</h1>" in (tmp_path / "a.html").read_bytes().decode("utf-8")
    with pytest.raises(InwardError, match="make it first") as error:
        save_page("x", tmp_path / "missing" / "a.html")
    assert one_sentence(error)
    assert os.listdir(tmp_path) == ["a.html"]


# The package


def test_importing_draw_loads_no_plotting_library_and_nothing_else_of_inward() -> None:
    code = (
        "import sys, inward; before = {m for m in sys.modules if m.startswith('inward')};"
        "import inward.draw; print('matplotlib' in sys.modules);"
        "new = {m for m in sys.modules if m.startswith('inward')} - before;"
        "print(sorted(m for m in new if not m.startswith('inward.draw') and m != 'inward.errors'))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False", "[]"]


def test_files_of_draw_import_nothing_of_inward_but_its_errors() -> None:
    folder = Path(saving.__file__).parent
    for file in folder.glob("*.py"):
        for module in re.findall(r"^\s*(?:from|import) (inward\S*)", file.read_text(), re.MULTILINE):
            assert module == "inward.errors" or module.startswith("inward.draw"), f"{file.name} imports {module}"
