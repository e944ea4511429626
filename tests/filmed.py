"""What the tests of videos share: pictures to film, and how videos are read back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

from drawn import pixels

# The margin left of and above every picture.
MARGIN = 8


def smooth(height: int, width: int, phase: float = 0.0) -> torch.Tensor:
    """Slow color waves: what 4:2:0 and 256 colors can show well."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 4, width), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x + k * y + phase + k) for k in range(3)])


def decoded(path: Path) -> list[np.ndarray]:
    """Every frame of an MP4 as RGB, from its BT.709 planes by the standard's own formula.

    FFmpeg's conversion back to RGB rounds down by one level, which is no fault of the file.
    """
    with av.open(str(path)) as container:
        return [_rgb(frame) for frame in container.decode(video=0)]


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    height, width = frame.height, frame.width
    values = frame.to_ndarray().reshape(-1).astype(float)
    y = (values[: height * width].reshape(height, width) - 16) / 219
    halves = (values[height * width :].reshape(2, height // 2, width // 2) - 128) / 224
    blue, red = halves.repeat(2, 1).repeat(2, 2)
    return 255 * np.stack([y + 1.5748 * red, y - 0.18732 * blue - 0.46812 * red, y + 1.8556 * blue], -1).clip(0, 1)


def frames_of(path: Path) -> list[np.ndarray]:
    if path.suffix == ".mp4":
        return decoded(path)
    with Image.open(path) as film:
        return [_seek(film, i) for i in range(film.n_frames)]  # type: ignore[attr-defined]


def _seek(film: Image.Image, index: int) -> np.ndarray:
    film.seek(index)
    return pixels(film).astype(float)


def durations(path: Path) -> list[int]:
    """Milliseconds of each frame, as Pillow reads them."""
    found = []
    with Image.open(path) as film:
        for index in range(film.n_frames):  # type: ignore[attr-defined]
            film.seek(index)
            film.load()
            found.append(film.info["duration"])
    return found


def inside(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    return frame[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
