"""Data sets in ``.npz`` archives: pictures and the numbers or names of their classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inward.data.dataset import Arrays
from inward.data.packed import from_npz, names_of
from inward.errors import InwardError

# MedMNIST and others name their parts as in the last of each.
_TRAIN = ("images", "data", "x", "x_train", "train_images"), ("labels", "y", "y_train", "train_labels")
_HELD = ("x_test", "test_images"), ("y_test", "test_labels")


def from_archive(path: Path) -> list[Arrays]:
    """What is in an archive: all of it, or what is trained on and what is held out, where it has both.

    Classes are numbered from 0 without a gap, or have names.

    Raises:
        InwardError: for a file that is missing or damaged; pictures that are not uint8 of one shape; labels that are
            not one a picture, leave a class out, or name a class that is not trained on.
    """
    pixels, labels = from_npz(path, _TRAIN)
    names = _classes(path, labels := _one_each(path, labels))
    parts = [Arrays(path.stem, _pictures(path, pixels), _numbers(path, labels, names), names)]
    known = names_of(path)
    named = [next((name for name in names if name in known), None) for names in _HELD]
    if named == [None, None]:
        return parts
    if None in named:
        there, what, missing = (named[0], "labels", _HELD[1]) if named[0] else (named[1], "pictures", _HELD[0])
        raise InwardError(f"{path} has {there} and no {what} of it; add {' or '.join(missing)}")
    pixels, labels = from_npz(path, _HELD)
    held = Arrays(path.stem, _pictures(path, pixels), _numbers(path, _one_each(path, labels), names), names)
    if held.shape != parts[0].shape:
        shapes = (" x ".join(map(str, one.shape)) for one in (held, parts[0]))
        raise InwardError(f"the held-out pictures of {path} are {' and the others '.join(shapes)}; give both one shape")
    return [*parts, held]


def _pictures(path: Path, pixels: NDArray[Any]) -> torch.Tensor:
    given = f"{pixels.dtype} {pixels.shape}"
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[1] not in (1, 3) and pixels.shape[3] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    if 0 in pixels.shape:
        raise InwardError(f"{path} holds pictures without pixels: {given}; give it pictures")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        raise InwardError(f"{path} holds {given}, and no uint8 pictures (N, H, W), (N, H, W, C) or (N, C, H, W)")
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _one_each(path: Path, labels: NDArray[Any]) -> NDArray[Any]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "buiUS" or len(labels) == 0:
        given = f"{labels.dtype} {labels.shape}"
        raise InwardError(f"{path} holds labels {given}; it needs one whole number or one name a picture")
    return labels


def _classes(path: Path, labels: NDArray[Any]) -> tuple[str, ...]:
    """The names of the classes that are trained on."""
    found = np.unique(labels)
    if labels.dtype.kind in "US":
        return tuple(_word(name) for name in found)
    gap = next((k for k, number in enumerate(found.tolist()) if int(number) != k), None)
    if gap is not None:
        low, high = int(found[0]), int(found[-1])
        raise InwardError(
            f"{path} has labels from {low} to {high} and none of the class {gap}; number the classes from 0 without "
            "gaps"
        )
    return tuple(str(k) for k in range(len(found)))


def _numbers(path: Path, labels: NDArray[Any], names: Sequence[str]) -> torch.Tensor:
    """(N,), int64: of each label the place of its class."""
    known = {name: k for k, name in enumerate(names)}
    words = [_word(label) for label in labels.tolist()]
    unknown = next((word for word in words if word not in known), None)
    if unknown is not None:
        raise InwardError(f"the held-out part of {path} has the class {unknown}, and what is trained on has not")
    return torch.tensor([known[word] for word in words])


def _word(label: Any) -> str:
    if isinstance(label, bytes):
        return label.decode("utf-8", "replace")
    return label if isinstance(label, str) else str(int(label))
