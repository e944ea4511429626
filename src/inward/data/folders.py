"""Folders of pictures, a folder a class; decoded by several threads and kept as far as there is room."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from inward.data.dataset import check_labels
from inward.decoding import DEEP, is_picture, opened
from inward.errors import InwardError

# Decoded pictures are kept as long as they take no more than this.
MOST_KEPT = 3 * 2**30


class Folder:
    """Pictures of class folders, each fitted into a square of ``size`` pixels: its middle, the short side scaled.

    The classes are the folders' names, sorted; pictures are sorted by class and name. A folder of pictures and no
    folders is one class of its own name. Gray becomes color where ``channels`` is 3, pictures are turned upright,
    transparency is laid on white, and 16 bits become 8. Decoding is by threads, and what is decoded is kept up to
    3 GiB.

    Raises:
        InwardError: for a folder that is missing, holds neither folders nor pictures, or a class without pictures;
            later for a file that is no picture.
    """

    def __init__(
        self, root: str | Path, size: int, channels: int = 3, *, classes: Sequence[str] | None = None, name: str = ""
    ) -> None:
        self._root, self._size, self._channels = Path(root), size, channels
        self.name = name or self._root.name
        if not self._root.is_dir():
            raise InwardError(f"there is no folder {self._root}; name one of class folders")
        found = sorted(p.name for p in self._root.iterdir() if p.is_dir() and not p.name.startswith("."))
        if not found and not _pictures(self._root):
            raise InwardError(f"{self._root} has no class folders; put the pictures of each class into one of its name")
        places = {name: self._root / name for name in found} or {self._root.resolve().name: self._root}
        found = list(places)
        self.classes = tuple(found if classes is None else classes)
        if unknown := set(found) - set(self.classes):
            raise InwardError(f"{self._root} has the class {min(unknown)}, and what is trained on has not")
        self.files: list[Path] = []
        labels: list[int] = []
        for number, name in enumerate(self.classes):
            own = _pictures(places.get(name, self._root / name))
            if name not in places:
                raise InwardError(
                    f"{self._root} has no folder of the class {name}, which is trained on; give it one, with pictures"
                )
            if not own:
                raise InwardError(f"the class {name} of {self._root} has no pictures; remove its folder or fill it")
            self.files += own
            labels += [number] * len(own)
        self.labels = torch.tensor(labels)
        check_labels(self.name, self.labels, len(self.files), len(self.classes))
        fits = len(self.files) * channels * size * size <= MOST_KEPT
        self._kept = torch.empty((len(self.files), *self.shape), dtype=torch.uint8) if fits else None
        self._known = torch.zeros(len(self.files), dtype=torch.bool)
        self._pool = ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2))

    @property
    def shape(self) -> tuple[int, int, int]:
        return self._channels, self._size, self._size

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        where = torch.as_tensor(numbers)
        if self._kept is None:
            return torch.stack(list(self._pool.map(self._decoded, where.tolist())))
        missing = where[~self._known[where]].tolist()
        for number, picture in zip(missing, self._pool.map(self._decoded, missing), strict=True):
            self._kept[number] = picture
            self._known[number] = True
        return self._kept[where]

    @property
    def divided(self) -> str:
        return ""

    def content(self) -> str:
        told = [[str(path.relative_to(self._root)), path.stat().st_size] for path in self.files]
        return hashlib.sha256(json.dumps([self._size, told]).encode()).hexdigest()

    def _decoded(self, number: int) -> Tensor:
        picture = _eight_bits(opened(self.files[number], "RGB" if self._channels == 3 else "L"), self._channels)
        picture = _square(picture, self._size)
        pixels = torch.from_numpy(np.asarray(picture).copy())
        return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if is_picture(p) and p.suffix.lower() != ".npy")


def _eight_bits(picture: Image.Image, channels: int) -> Image.Image:
    """Gray of 16 bits in 8, and in color where that is asked for."""
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.float64) / DEEP * 255
    gray = Image.fromarray(levels.round().astype(np.uint8))
    return gray.convert("RGB") if channels == 3 else gray


def _square(picture: Image.Image, size: int) -> Image.Image:
    """The middle of the picture as a square of this size."""
    if picture.size == (size, size):
        return picture
    side = min(picture.size)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    return picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
