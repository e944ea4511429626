"""Pictures from files, as a network wants to see them: float (N, C, H, W) in [0, 1].

Every file is untrusted: its size is read before its pixels, and what is no picture, or not all of
one, is refused in one sentence.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inward.decoding import DEEP, SUFFIXES, is_picture, opened
from inward.errors import CallError, InwardError
from inward.network.network import Network
from inward.types import Images, Size

# The share of the short side that the usual evaluation of ImageNet networks crops.
CROP = 0.875
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read(paths: str | Path | Sequence[str | Path], net: Network, size: Size | None = None) -> Images:
    """Pictures from files, cropped from the center to the network's size.

    A picture whose short side is up to 1 / 0.875 times the network's is only cropped; a larger one
    is scaled down to that first, a smaller one up to the network's size. Values stay whole 8-bit
    levels divided by 255 (16-bit pictures: 65535). A ``.npy`` file holds (C, H, W) floats in
    [0, 1], for networks of any number of channels.

    Args:
        paths: one file or several.
        net: gives the size and the number of channels (1: gray, 3: RGB, 4: RGBA).
        size: another height and width than the network's.

    Returns:
        (N, C, H, W) in [0, 1], float32.

    Raises:
        InwardError: for a file that is missing, no picture, truncated, or over 100 megapixels.
    """
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not files:
        raise CallError("there is no picture to read; name at least one file")
    return torch.stack([_read_one(Path(file), net.preprocess.channels, size or net.size) for file in files])


def read_whole(path: str | Path, net: Network, longest: int | None = None) -> Images:
    """A picture at its own shape, nothing cropped: (1, C, H, W) in [0, 1], float32.

    Args:
        path: a picture file.
        net: gives the number of channels.
        longest: the long side is brought to so many pixels; None: it stays.

    Raises InwardError as :func:`read`.
    """
    channels = net.preprocess.channels
    picture = _checked(Path(path), channels)
    if longest is not None and longest != max(picture.size):
        factor = longest / max(picture.size)
        scaled = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    return _as_tensor(picture, channels)[None]


def find(places: Sequence[str | Path]) -> list[Path]:
    """The picture files that are named, and those inside the folders that are (but for hidden ones), sorted by name."""
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = sorted(p for p in place.iterdir() if is_picture(p))
            if not inside:
                raise InwardError(f"the folder {place} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif place.exists():
            found.append(place)
        else:
            raise InwardError(f"there is no file {place}")
    return found


def size_of(path: str | Path) -> Size:
    """Height and width of a picture file as it is seen, upright. Raises InwardError as :func:`read`."""
    picture = _quietly(Path(path), "L")
    return picture.height, picture.width


def _read_one(path: Path, channels: int, size: Size) -> Tensor:
    _check_there(path)
    if path.suffix.lower() == ".npy":
        return _read_array(path, channels, size)
    return _as_tensor(_fit(_checked(path, channels), size), channels)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise InwardError(f"{path} is a folder, not a picture" if path.is_dir() else f"there is no file {path}")
    if path.stat().st_size == 0:
        raise InwardError(f"{path} is empty (0 bytes)")


def _checked(path: Path, channels: int) -> Image.Image:
    """The picture of a file, in a mode of so many channels."""
    _check_there(path)
    if channels not in _MODES:
        raise CallError(f"this network takes {channels} channels and a picture file has 1, 3 or 4; give a .npy file")
    return _quietly(path, _MODES[channels])


def _quietly(path: Path, mode: str) -> Image.Image:
    """Without what Pillow warns of. (Decoding in threads, these could not be put back as they were.)"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return opened(path, mode)


def _as_tensor(picture: Image.Image, channels: int) -> Tensor:
    """(C, H, W) in [0, 1]."""
    scaled = np.asarray(picture).astype(np.float32) / (DEEP if picture.mode.startswith("I") else 255)
    if scaled.ndim == 2:
        scaled = np.repeat(scaled[:, :, None], channels, axis=2)
        if channels == 4:
            scaled[:, :, 3] = 1
    # Scaling can put the values of deep pictures a little outside.
    return torch.from_numpy(scaled.transpose(2, 0, 1).copy()).clamp(0, 1)


# Longer pictures are cut in their middle: a thread of pixels would be enlarged to gigabytes.
_LONGEST = 32


def _without_ends(picture: Image.Image) -> Image.Image:
    wide, tall = (min(side, _LONGEST * other) for side, other in (picture.size, picture.size[::-1]))
    if (wide, tall) == picture.size:
        return picture
    left, top = (picture.width - wide) // 2, (picture.height - tall) // 2
    return picture.crop((left, top, left + wide, top + tall))


def _fit(picture: Image.Image, size: Size) -> Image.Image:
    height, width = size
    picture = _without_ends(picture)
    spare = min(picture.height / height, picture.width / width)
    wanted = min(max(spare, 1.0), 1 / CROP)
    if abs(wanted - spare) > 1e-9:
        factor = wanted / spare
        scaled = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
        picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def _read_array(path: Path, channels: int, size: Size) -> Tensor:
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InwardError(f"{path} is not a .npy file of numbers: {' '.join(str(error).split())[:160]}") from error
    if mapped.shape != (channels, *size) or mapped.dtype.kind != "f":
        shape = (channels, *size)
        raise CallError(
            f"{path} holds {mapped.dtype} values of shape {mapped.shape}; this network takes floats of shape {shape}"
        )
    low, high = float(mapped.min()), float(mapped.max())
    if not (low >= 0 and high <= 1):
        told = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
        raise CallError(f"{path} holds {told}; every value must be in [0, 1], before mean and std are applied")
    return torch.from_numpy(np.array(mapped, dtype=np.float32))
