"""Pictures, and the package as a whole."""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn import eight_bit, one_sentence, pixels
from inward.draw import (
    data_uri,
    read_png,
    save_page,
    save_png,
    saving,
    to_bytes,
    to_picture,
)
from inward.errors import CallError, InwardError

NEUTRAL, REDDEST, BLUEST = (247, 247, 247), (103, 0, 31), (5, 48, 97)
BLACKEST, BRIGHTEST = (0, 0, 4), (252, 255, 164)
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
