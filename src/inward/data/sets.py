"""Data sets by name or place: what is trained on, and what is held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from inward.data.dataset import Arrays, Dataset
from inward.data.fetch import CIFAR10, CIFAR10_FOLDER, CIFAR10_URL, MNIST, MNIST_URL, OnBytes, fetch, unpacked
from inward.data.folders import Folder
from inward.data.packed import from_cifar, from_idx, from_npz
from inward.errors import CallError, InwardError

NAMES = ("mnist", "cifar10", "digits")
_CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_DIGITS = tuple("0123456789")
# Of a set in one piece every tenth picture is held out.
_HELD = 10
_HELD_FOLDERS = ("val", "test")
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

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        return self.whole.images(self.numbers[torch.as_tensor(numbers)])


def open_set(name: str, *, size: int | None = None, on_bytes: OnBytes | None = None) -> Split:
    """A data set, in what is trained on and what is held out.

    Args:
        name: mnist or cifar10, which are fetched into the user's cache; digits (those of scikit-learn); a folder with
            the usual files of mnist (idx) or cifar10 (Python batches); a folder of class folders, or one with these in
            train and in val or test; a folder of pictures, all of one class; an .npz file with images and labels (and,
            where it has them, x_test and y_test).
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
        return _npz(path)
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
    if (path / "train").is_dir() and held is not None:
        train = Folder(path / "train", size, name=path.name)
        return Split(train, Folder(held, size, classes=train.classes, name=path.name))
    return _apart(Folder(path, size))


def _apart(whole: Dataset) -> Split:
    """Every tenth picture is held out: of sorted pictures a tenth of each class."""
    numbers = torch.arange(len(whole.labels))
    held = numbers % _HELD == _HELD - 1
    if not held.any():
        raise InwardError(f"{whole.name} has only {len(numbers)} pictures; {_HELD} or more are needed")
    return Split(Part(whole, numbers[~held]), Part(whole, numbers[held]))


def _mnist(files: Mapping[str, Path]) -> Split:
    parts = []
    for part in ("train", "t10k"):
        images = from_idx(files[f"{part}-images-idx3-ubyte.gz"], 3)
        labels = from_idx(files[f"{part}-labels-idx1-ubyte.gz"], 1)
        parts.append(Arrays("mnist", torch.from_numpy(images)[:, None], torch.from_numpy(labels).long(), _DIGITS))
    return Split(*parts)


def _idx_files(folder: Path) -> dict[str, Path]:
    """The four files of MNIST in a folder, gzipped or not; none where the first of them is not there."""
    found = {}
    for name in MNIST:
        places = [folder / name, folder / name.removesuffix(".gz")]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            if found:
                raise InwardError(f"{folder} has {next(iter(found))} and no {name}; give it all four files")
            return {}
        found[name] = path
    return found


def _batches(folder: Path) -> Path | None:
    """Where the Python batches of CIFAR-10 are, if they are."""
    places = (folder, folder / CIFAR10_FOLDER)
    return next((place for place in places if (place / "test_batch").is_file()), None)


def _cifar10(folder: Path) -> Split:
    batches = [from_cifar(folder / f"data_batch_{i}") for i in range(1, 6)], [from_cifar(folder / "test_batch")]
    return Split(*(_joined(found) for found in batches))


def _joined(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> Arrays:
    pixels, labels = (torch.from_numpy(np.concatenate(parts)) for parts in zip(*batches, strict=True))
    return Arrays("cifar10", pixels, labels, _CIFAR_CLASSES)


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    levels = (torch.from_numpy(pixels).view(-1, 1, 8, 8) * 255 / 16).round().to(torch.uint8)
    return Arrays("digits", levels, torch.from_numpy(labels).long(), _DIGITS)


def _npz(path: Path) -> Split:
    train = _arrays(path, ("images", "data", "x", "x_train"), ("labels", "y", "y_train"))
    try:
        held = _arrays(path, ("x_test",), ("y_test",))
    except InwardError:
        return _apart(train)
    count = max(len(train.classes), len(held.classes))
    names = tuple(str(k) for k in range(count))
    return Split(*(Arrays(one.name, one.pixels, one.labels, names) for one in (train, held)))


def _arrays(path: Path, images: Sequence[str], labels: Sequence[str]) -> Arrays:
    pixels, numbers = (torch.from_numpy(np.ascontiguousarray(a)) for a in from_npz(path, (images, labels)))
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.permute(0, 3, 1, 2)
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or numbers.ndim != 1 or numbers.is_floating_point():
        raise InwardError(f"{path} holds no uint8 pictures (N, H, W) or (N, H, W, C) with one whole number a picture")
    if len(numbers) == 0 or int(numbers.min()) < 0:
        raise InwardError(f"{path} has no labels, or some below 0; classes are numbered from 0")
    count = int(numbers.max()) + 1
    return Arrays(path.stem, pixels, numbers.long(), tuple(str(k) for k in range(count)))
