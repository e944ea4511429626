"""Data sets by name or place: what is trained on, and what is held out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inward.data.archives import from_archive
from inward.data.dataset import Arrays, Dataset
from inward.data.fetch import CIFAR10, CIFAR10_FOLDER, CIFAR10_URL, MNIST, MNIST_URL, OnBytes, fetch, unpacked
from inward.data.folders import Folder
from inward.data.packed import from_cifar, from_idx
from inward.errors import CallError, InwardError, numbered

NAMES = ("mnist", "cifar10", "digits")
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DIGITS = tuple("0123456789")
# Of a set in one piece every tenth picture of each class is held out.
_HELD = 10
_HELD_FOLDERS = ("val", "valid", "validation", "test")
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
_DEFAULT_SIZE = 128


class Split(NamedTuple):
    """A data set in two parts."""

    train: Dataset
    held_out: Dataset


@dataclass(frozen=True, eq=False)
class Part:
    """Some pictures of a data set."""

    whole: Dataset
    numbers: Tensor

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def classes(self) -> tuple[str, ...]:
        return self.whole.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @property
    def labels(self) -> Tensor:
        return self.whole.labels[self.numbers]

    @property
    def divided(self) -> str:
        return "every tenth of each class held out"

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        return self.whole.images(self.numbers[torch.as_tensor(numbers)])

    def content(self) -> str:
        return hashlib.sha256(json.dumps([self.whole.content(), self.numbers.tolist()]).encode()).hexdigest()


def open_set(name: str, *, size: int | None = None, on_bytes: OnBytes | None = None) -> Split:
    """A data set, in what is trained on and what is held out.

    Args:
        name: mnist or cifar10, which are fetched into the user's cache; digits (those of scikit-learn); a folder with
            the usual files of mnist (idx) or cifar10 (Python batches); a folder of class folders, or one with these in
            train and in val, valid or test; a folder of pictures, all of one class; an .npz file with images and labels
            (and, where it has them, x_test and y_test). Of a set without a held-out part every tenth picture of each
            class is held out, of a class of fewer the last.
        size: of the pictures of folders in pixels, 128 by default.
        on_bytes: called with every piece of a file that is fetched.

    Raises:
        InwardError: for files that are missing, damaged or of another checksum, and without a connection.
        CallError: for a name of nothing.
    """
    if name == "digits":
        return _apart(_digits())
    if name == "mnist":
        return _mnist({file: fetch(MNIST_URL, file, checksum, on_bytes=on_bytes) for file, checksum in MNIST.items()})
    if name == "cifar10":
        ((file, checksum),) = CIFAR10.items()
        return _cifar10(unpacked(fetch(CIFAR10_URL, file, checksum, on_bytes=on_bytes), CIFAR10_FOLDER))
    path = Path(name)
    if path.suffix.lower() == ".npz":
        parts = from_archive(path)
        return _apart(parts[0]) if len(parts) == 1 else Split(*parts)
    if not path.is_dir():
        raise CallError(
            f"there is no data set '{name}'; name {', '.join(NAMES)}, a folder of class folders, or an .npz"
        )
    return _folders(path, size or _DEFAULT_SIZE)


def kind_of(name: str) -> str:
    """What a data set is by its name or place: mnist, cifar10, digits, npz or folder."""
    path = Path(name)
    if name in NAMES:
        return name
    if path.suffix.lower() == ".npz":
        return "npz"
    if _idx_files(path):
        return "mnist"
    return "folder" if _batches(path) is None else "cifar10"


def _folders(path: Path, size: int) -> Split:
    if files := _idx_files(path):
        return _mnist(files)
    if (batches := _batches(path)) is not None:
        return _cifar10(batches)
    held = next((path / name for name in _HELD_FOLDERS if (path / name).is_dir()), None)
    within = [place.name for place in path.iterdir() if place.is_dir() and not place.name.startswith(".")]
    if "train" in within and held is not None:
        train = Folder(path / "train", size, name=path.name)
        return Split(train, Folder(held, size, classes=train.classes, name=path.name))
    return _apart(Folder(path / "train" if within == ["train"] else path, size, name=path.name))


def _apart(whole: Dataset) -> Split:
    """Every tenth picture of each class is held out; of a class of fewer the last."""
    held = torch.zeros(len(whole.labels), dtype=torch.bool)
    for number, name in enumerate(whole.classes):
        own = (whole.labels == number).nonzero()[:, 0]
        if len(own) < 2:
            raise InwardError(
                f"the class {name} of {whole.name} has {numbered(len(own), 'picture')}; one is trained on and one held "
                "out, so give it two or more"
            )
        held[own[_HELD - 1 :: _HELD] if len(own) >= _HELD else own[-1:]] = True
    return Split(Part(whole, (~held).nonzero()[:, 0]), Part(whole, held.nonzero()[:, 0]))


def _mnist(files: Mapping[str, Path]) -> Split:
    parts = []
    for part in ("train", "t10k"):
        images = from_idx(files[f"{part}-images-idx3-ubyte.gz"], 3)
        labels = from_idx(files[f"{part}-labels-idx1-ubyte.gz"], 1)
        parts.append(Arrays("mnist", torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), _DIGITS))
    return Split(*parts)


def _idx_files(folder: Path) -> dict[str, Path]:
    """The four files of MNIST in a folder, gzipped or not; none where none of them is there."""
    places = {name: (folder / name, folder / name.removesuffix(".gz")) for name in MNIST}
    found = {name: next((place for place in both if place.is_file()), None) for name, both in places.items()}
    return {name: path for name, path in found.items() if path is not None and _all_there(folder, found)}


def _batches(folder: Path) -> Path | None:
    """Where the Python batches of CIFAR-10 are, if they are."""
    for place in (folder, folder / CIFAR10_FOLDER):
        found = {name: place / name if (place / name).is_file() else None for name in _BATCHES}
        if any(found.values()) and _all_there(place, found):
            return place
    return None


def _all_there(folder: Path, found: Mapping[str, Path | None]) -> bool:
    """Raises InwardError where some files of a set are there and some are not."""
    there = next((name for name, path in found.items() if path is not None), "")
    missing = next((name for name, path in found.items() if path is None), "")
    if there and missing:
        raise InwardError(f"{folder} has {there} and no {missing}; give it all {len(found)} files of the set")
    return True


def _cifar10(folder: Path) -> Split:
    batches = [from_cifar(folder / name) for name in _BATCHES[:-1]], [from_cifar(folder / _BATCHES[-1])]
    return Split(*(_joined(found) for found in batches))


def _joined(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    pixels, labels = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*batches, strict=True))
    return Arrays("cifar10", pixels, labels, _CIFAR_CLASSES)


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    levels = (torch.from_numpy(pixels).view(-1, 1, 8, 8) * 255 / 16).round().to(torch.uint8)
    return Arrays("digits", levels, torch.from_numpy(labels).long(), _DIGITS)
