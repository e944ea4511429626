"""Pictures from files: exact values, the rule of the crop, every kind of file that Pillow opens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import ConvNet, network
from inward import CallError, InwardError, Network, read
from inward.pictures import find

SIZE = (6, 8)


def net(channels: int = 3, size: tuple[int, int] = SIZE) -> Network:
    return network(ConvNet(channels).eval(), size)


def noise(*shape: int, top: int = 256) -> np.ndarray:
    return np.random.default_rng(3).integers(0, top, shape).astype(np.uint8 if top == 256 else np.uint16)


def saved(folder: Path, array: np.ndarray, name: str = "a.png", mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(array)
    (picture.convert(mode) if mode else picture).save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def levels(found: torch.Tensor) -> np.ndarray:
    """Whole levels, (H, W, C)."""
    values = found.double().numpy()[0].transpose(1, 2, 0) * 255
    assert np.abs(values - values.round()).max() < 1e-5
    return values.round().astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp"])
def test_lossless_files_give_their_levels(tmp_path: Path, suffix: str) -> None:
    array = noise(*SIZE, 3)
    options = {"lossless": True} if suffix == "webp" else {}
    found = read(saved(tmp_path, array, f"a.{suffix}", **options), net())
    assert found.shape == (1, 3, *SIZE)
    assert found.dtype == torch.float32
    assert np.array_equal(levels(found), array)
    # Each level is the float32 nearest to k / 255.
    assert np.array_equal(found[0, 0].numpy(), array[:, :, 0].astype(np.float32) / np.float32(255))


def test_several_files_are_a_batch_in_their_order(tmp_path: Path) -> None:
    first, second = (saved(tmp_path, np.full((*SIZE, 3), v, np.uint8), f"{v}.png") for v in (200, 100))
    assert (read([first, str(second)], net()).amax((1, 2, 3)) * 255).round().tolist() == [200, 100]


@pytest.mark.parametrize(
    ("picture", "top", "left"),
    [((6, 8), 0, 0), ((6, 9), 0, 0), ((6, 10), 0, 1), ((7, 9), 0, 0), ((6, 80), 0, 36), ((30, 9), 12, 0)],
)
def test_up_to_an_eighth_larger_is_only_cropped(tmp_path: Path, picture: tuple[int, int], top: int, left: int) -> None:
    """The factor is the smaller of the two sides', 1 / 0.875 at most; odd rests are cut at the far side."""
    array = noise(*picture, 3)
    found = levels(read(saved(tmp_path, array), net()))
    assert np.array_equal(found, array[top : top + 6, left : left + 8])


def test_limit_of_the_crop(tmp_path: Path) -> None:
    """At 64 / 56 = 1 / 0.875 a picture keeps its pixels; a pixel more and it is scaled to that first."""
    at, over = noise(64, 64, 3), noise(65, 65, 3)
    small = net(size=(56, 56))
    assert np.array_equal(levels(read(saved(tmp_path, at), small)), at[4:60, 4:60])
    expected = np.asarray(Image.fromarray(over).resize((64, 64), Image.Resampling.BICUBIC))[4:60, 4:60]
    assert np.array_equal(levels(read(saved(tmp_path, over), small)), expected)


def test_larger_is_scaled_and_smaller_enlarged(tmp_path: Path) -> None:
    # 60 x 40 for 6 x 8: the short way is 40 / 8 = 5 times, so it is scaled by 8 / 7 / 5: to 14 x 9.
    large = noise(60, 40, 3)
    scaled = np.asarray(Image.fromarray(large).resize((9, 14), Image.Resampling.BICUBIC))
    assert np.array_equal(levels(read(saved(tmp_path, large), net())), scaled[4:10, 0:8])
    tiny = noise(1, 1, 3)
    assert np.array_equal(levels(read(saved(tmp_path, tiny), net())), np.broadcast_to(tiny, (*SIZE, 3)))
    strip = noise(1, 300, 3)
    assert read(saved(tmp_path, strip), net()).shape == (1, 3, *SIZE)


def test_gray_color_and_transparency_by_the_channels(tmp_path: Path) -> None:
    gray, color = noise(*SIZE), noise(*SIZE, 3)
    assert np.array_equal(levels(read(saved(tmp_path, gray), net(1)))[:, :, 0], gray)
    assert np.array_equal(levels(read(saved(tmp_path, gray), net(3))), np.repeat(gray[:, :, None], 3, 2))
    luma = np.asarray(Image.fromarray(color).convert("L"))
    assert np.array_equal(levels(read(saved(tmp_path, color), net(1)))[:, :, 0], luma)
    four = noise(*SIZE, 4)
    assert np.array_equal(levels(read(saved(tmp_path, four), net(4))), four)
    assert np.array_equal(levels(read(saved(tmp_path, color), net(4)))[:, :, 3], np.full(SIZE, 255))


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    array = noise(*SIZE, 4)
    found = levels(read(saved(tmp_path, array), net())).astype(float)
    alpha = array[:, :, 3:] / 255
    assert np.abs(found - (array[:, :, :3] * alpha + 255 * (1 - alpha))).max() <= 1  # Pillow rounds each step


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_gray_keeps_its_depth(tmp_path: Path, channels: int) -> None:
    array = noise(*SIZE, top=65536)
    found = read(saved(tmp_path, array), net(channels))
    assert found.shape == (1, channels, *SIZE)
    for channel in found[0].numpy():
        assert np.array_equal(channel, array.astype(np.float32) / np.float32(65535))
    # Scaled, it keeps more than 256 levels and stays in the range.
    large = read(saved(tmp_path, noise(60, 80, top=65536)), net(channels, (30, 40)))
    assert len(large.unique()) > 256
    assert 0 <= large.min() < large.max() <= 1


def test_sixteen_bit_gray_for_four_channels_is_opaque(tmp_path: Path) -> None:
    found = read(saved(tmp_path, noise(*SIZE, top=65536)), net(4))
    assert found[0, 3].unique().tolist() == [1.0]


def test_palette_with_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (8, 6), 1)
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.putpixel((0, 0), 0)
    picture.save(tmp_path / "p.png", transparency=0)
    found = levels(read(tmp_path / "p.png", net()))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, 1].tolist() == [0, 0, 255]


def test_cmyk_one_bit_and_gif(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    red = levels(read(tmp_path / "c.jpg", net()))[3, 4]
    assert (red[0] >= 250, red[1] <= 5, red[2] <= 5) == (True, True, True)
    bits = Image.new("1", (8, 6))
    bits.putpixel((2, 1), 1)
    bits.save(tmp_path / "b.png")
    assert levels(read(tmp_path / "b.png", net(1)))[1, 2, 0] == 255
    assert levels(read(tmp_path / "b.png", net(1))).sum() == 255
    frames = [Image.new("RGB", (8, 6), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "g.gif", save_all=True, append_images=frames[1:])
    assert levels(read(tmp_path / "g.gif", net()))[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_camera_orientation_is_undone(tmp_path: Path, orientation: int) -> None:
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what brings the upright picture into the stored one
    upright = Image.fromarray(noise(*SIZE, 3))
    stored = upright.transpose(Image.Transpose(turned[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "o.png", exif=exif)
    assert np.array_equal(levels(read(tmp_path / "o.png", net())), np.asarray(upright))


def test_arrays_of_any_channels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((5, *SIZE))
    np.save(tmp_path / "a.npy", array)
    found = read(tmp_path / "a.npy", net(5))
    assert torch.equal(found[0], torch.from_numpy(array.astype(np.float32)))
    np.save(tmp_path / "h.npy", array[:3].astype(np.float16))
    assert read(tmp_path / "h.npy", net(3)).dtype == torch.float32


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, *SIZE)), "shape"),
        (np.zeros((5, 6, 9)), r"\(5, 6, 8\)"),
        (np.zeros((5, *SIZE), np.uint8), "uint8"),
        (np.full((5, *SIZE), 255.0), r"\[0, 1\]"),
        (np.full((5, *SIZE), -0.5), r"\[0, 1\]"),
        (np.full((5, *SIZE), np.nan), "NaN"),
        (np.full((5, *SIZE), 1e300), r"\[0, 1\]|NaN"),
    ],
    ids=["channels", "size", "uint8", "0-255", "negative", "nan", "overflow"],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(CallError, match=reason) as caught:
        read(tmp_path / "a.npy", net(5))
    assert "a.npy" in str(caught.value)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InwardError, match=r"a\.npy is not a \.npy file of numbers"):
        read(tmp_path / "a.npy", net(5))


def test_find_sorts_names_and_passes_over_what_is_no_picture(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "notes.txt", "c.npy", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()
    assert [p.name for p in find([tmp_path])] == ["a.JPG", "b.png", "c.npy"]
    assert find([tmp_path / "b.png", tmp_path / "notes.txt"]) == [tmp_path / "b.png", tmp_path / "notes.txt"]
    with pytest.raises(InwardError, match="holds no pictures"):
        find([tmp_path / "d.png"])
    with pytest.raises(InwardError, match="there is no file"):
        find([tmp_path / "e.png"])
