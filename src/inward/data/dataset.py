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

# Pictures by which a set is told from another: to decode more would take its time at every start.
_SAMPLED = 32


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

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        """Those with these numbers, (N, C, H, W), uint8."""
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

    def images(self, numbers: Sequence[int] | Tensor) -> Tensor:
        return self.pixels[torch.as_tensor(numbers)]


def fingerprint(data: Dataset) -> dict[str, Any]:
    """By what a data set is told from another of its name: its size, and a hash of all labels and some pictures."""
    count = len(data.labels)
    some = data.images(torch.linspace(0, count - 1, min(count, _SAMPLED)).long())
    digest = hashlib.sha256(json.dumps([data.classes, data.shape]).encode())
    for values in (data.labels, some):
        digest.update(values.contiguous().numpy().tobytes())
    return {"pictures": count, "classes": len(data.classes), "sha256": digest.hexdigest()}


def check_labels(name: str, labels: Tensor, pictures: int, classes: int) -> None:
    """Raises InwardError where labels are not one a picture and each a class."""
    if pictures == 0:
        raise InwardError(f"{name} holds no pictures; name another data set")
    if labels.ndim != 1 or len(labels) != pictures:
        raise InwardError(f"{name} has {labels.numel()} labels for {pictures} pictures; it needs one a picture")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InwardError(f"{name} has the label {low if low < 0 else high}, and its classes are 0 to {classes - 1}")
