"""One array, one picture: 8-bit pictures from images in [0, 1], and PNG files that give the same bits back."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inward.draw.cells import grid
from inward.draw.saving import write_whole
from inward.errors import CallError

Array: TypeAlias = torch.Tensor | NDArray[Any]
"""A float tensor on any device, or a float numpy array."""

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# Float32 arithmetic on images in [0, 1] may leave it by this much; more is a mistake of the caller.
_SLACK = 1e-5


def to_picture(image: Array, *, at_least: int = 0) -> Image.Image:
    """The 8-bit picture of an image: each value v becomes ``floor(255 v + 0.5)``.

    Args:
        image: (C, H, W), float, in [0, 1]. One channel is gray ("L"), three are RGB, four RGBA; any other
            number of channels is drawn as one gray tile a channel, labeled by its index from 0.
        at_least: pixels that the short side shall have at least; a smaller picture is enlarged by a whole
            factor without smoothing. 0 keeps the size.

    Raises:
        CallError: ``image`` is not float, not (C, H, W), empty, has NaN, or leaves [-1e-5, 1 + 1e-5].
    """
    levels = np.floor(as_image(image) * 255 + 0.5).astype(np.uint8)
    if len(levels) not in _MODES:
        return _tiles(levels, at_least)
    return enlarged(_picture(levels), at_least)


def channel_tiles(image: Array, *, at_least: int = 0) -> Image.Image:
    """One gray tile for each channel of an image (C, H, W) in [0, 1], whatever C is; as ``to_picture`` otherwise."""
    return _tiles(np.floor(as_image(image) * 255 + 0.5).astype(np.uint8), at_least)


def _picture(levels: NDArray[np.uint8]) -> Image.Image:
    # Pillow infers L, RGB and RGBA from the shape; gray must have no channel axis.
    return Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))


def _tiles(levels: NDArray[np.uint8], at_least: int) -> Image.Image:
    tiles = [enlarged(_picture(channel[None]), at_least) for channel in levels]
    return grid(tiles, captions=[str(index) for index in range(len(tiles))])


def as_image(image: Array) -> NDArray[np.float64]:
    """The image as a float64 array (C, H, W) in [0, 1], or a CallError that says what is wrong with it."""
    array = as_floats(image, "an image", ("C", "H", "W"))
    low, high = float(array.min()), float(array.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise CallError(f"an image has values in [0, 1], not in [{low:.6g}, {high:.6g}]; clamp or rescale it first")
    return array.clip(0, 1)


def as_floats(values: Array, what: str, axes: tuple[str, ...]) -> NDArray[np.float64]:
    """The values as a float64 array with the named axes, finite and not empty.

    Raises:
        CallError: another type, number of axes or dtype, no value at all, or a value that is NaN or infinite.
    """
    if not isinstance(values, torch.Tensor | np.ndarray):
        raise CallError(f"{what} is a float tensor or array ({', '.join(axes)}), not {type(values).__name__}")
    shape = tuple(values.shape)
    if len(shape) != len(axes) or 0 in shape:
        raise CallError(f"{what} has the shape ({', '.join(axes)}), not {shape}; give one, not empty and not a batch")
    array = _floating(values, what)
    if not np.isfinite(array).all():
        raise CallError(f"{what} has finite values, but {int((~np.isfinite(array)).sum())} are NaN or infinite")
    return array


def _floating(values: Array, what: str) -> NDArray[np.float64]:
    is_float = values.is_floating_point() if isinstance(values, torch.Tensor) else values.dtype.kind == "f"
    if not is_float:
        raise CallError(
            f"{what} has float values, not {values.dtype}; convert it first (8-bit pictures: divide by 255)"
        )
    # Through torch first, because numpy has no bfloat16.
    host = values.detach().to("cpu", torch.float64).numpy() if isinstance(values, torch.Tensor) else values
    return host.astype(np.float64)


def enlarged(picture: Image.Image, at_least: int) -> Image.Image:
    """The picture enlarged by the smallest whole factor that makes its short side ``at_least`` pixels; no smoothing."""
    factor = max(1, -(-at_least // min(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return picture if factor == 1 else picture.resize(size, Image.Resampling.NEAREST)


def to_bytes(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file (lossless)."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def data_uri(picture: Image.Image) -> str:
    """The picture as a ``data:image/png;base64,...`` address, to put into a page that needs no other file."""
    return "data:image/png;base64," + base64.b64encode(to_bytes(picture)).decode("ascii")


def save_png(picture: Image.Image, path: str | os.PathLike[str]) -> None:
    """Save the picture as a PNG file, whole or not at all.

    Raises:
        CallError: ``path`` does not end in ``.png``, or its folder does not exist.
        InwardError: the system refused the write.
    """
    if Path(path).suffix.lower() != ".png":
        raise CallError(f"pictures are saved as PNG, but the path is {os.fspath(path)}; end it in .png")
    write_whole(to_bytes(picture), path)


def read_png(path: str | os.PathLike[str]) -> torch.Tensor:
    """The image in a PNG file: a float32 tensor (C, H, W) in [0, 1].

    Gray gives C = 1, color 3, anything with transparency 4. 8-bit values are divided by 255 and 16-bit gray
    by 65535, so that ``to_picture`` gives 8-bit pictures back exactly.

    Raises:
        CallError: there is no such file, or it is not a PNG picture.
    """
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            levels = _levels(picture)
    except FileNotFoundError:
        raise CallError(f"there is no picture {os.fspath(path)}; check the path") from None
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise CallError(f"cannot read {os.fspath(path)} as a PNG picture; convert or save it again") from error
    return torch.from_numpy(np.atleast_3d(levels).transpose(2, 0, 1).copy())


def _levels(picture: Image.Image) -> NDArray[np.float32]:
    if picture.mode.startswith("I"):
        return np.asarray(picture, dtype=np.float32) / np.float32(65535)
    mode = "RGBA" if picture.has_transparency_data else "L" if picture.mode in ("1", "L") else "RGB"
    return np.asarray(picture.convert(mode), dtype=np.float32) / np.float32(255)
