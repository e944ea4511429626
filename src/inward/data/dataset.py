"""What a data set is: pictures of one size as whole levels, and the numbers of their classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from inward.errors import CallError, InwardError


class Dataset(Protocol):
    """Pictures of one size, in a fixed order."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        ...

    @property
    def labels(self) -> Tensor:
        """(N,), int64: the number of each picture's class."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each picture."""
        ...

    @property
    def divided(self) -> str:
        """How it was taken from a set in one piece; empty where it comes as a part."""
        ...

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        """Those with these numbers, (N, C, H, W), uint8."""
        ...

    def content(self) -> str:
        """A hash of the pictures, in their order; of files of their names and sizes."""
        ...


@dataclass(frozen=True, eq=False)
class Arrays:
    """A data set in memory.

    Attributes:
        pixels: (N, C, H, W), uint8.
        labels: (N,), int64.
        classes: their names.

    Raises:
        InwardError: for labels outside the classes, none at all, or not as many as pictures.
        CallError: for pictures of another kind or shape.
    """

    name: str
    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            kind = str(self.pixels.dtype).removeprefix("torch.")
            raise CallError(f"pictures are uint8 (N, C, H, W), and {self.name} has {kind} {tuple(self.pixels.shape)}")
        check_labels(self.name, self.labels, len(self.pixels), len(self.classes))

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def divided(self) -> str:
        return ""

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        return self.pixels[torch.as_tensor(numbers)]

    def content(self) -> str:
        return hashlib.sha256(self.pixels.contiguous().numpy().tobytes()).hexdigest()


def fingerprint(train: Dataset, held_out: Dataset) -> dict[str, Any]:
    """By what a data set is told from another of its name: its size, and a hash of both of its parts.

    Of sets that are divided here also how, so that runs from before another division are known.
    """
    told = {"pictures": len(train.labels), "classes": len(train.classes), "held_out": len(held_out.labels)}
    digest = hashlib.sha256()
    for part in (train, held_out):
        digest.update(json.dumps([part.classes, part.shape, part.content()]).encode())
        digest.update(part.labels.contiguous().numpy().tobytes())
    return told | {"sha256": digest.hexdigest()} | ({"divided": train.divided} if train.divided else {})


def check_labels(name: str, labels: Tensor, pictures: int, classes: int) -> None:
    """Raises InwardError where labels are not one a picture and each a class."""
    if pictures == 0:
        raise InwardError(f"{name} holds no pictures; name another data set")
    if labels.ndim != 1 or len(labels) != pictures:
        raise InwardError(f"{name} has {labels.numel()} labels for {pictures} pictures; it needs one a picture")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InwardError(f"{name} has the label {low if low < 0 else high}, and its classes are 0 to {classes - 1}")
