"""Augmentations: random changes that a picture must survive. Pure functions of (image, generator).

Every one keeps H and W. The spatial ones are affine maps, and a sequence of them resamples once,
by the product of their maps. One draw serves the whole batch, so that a picture is the same alone
and in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.types import Images


class Augmentation(Protocol):
    """``(image, generator) -> image`` of the same size."""

    def __call__(self, images: Images, generator: torch.Generator) -> Images: ...


def _number(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


class _Affine:
    """A spatial change: ``matrix`` takes places in the result to places in the image, in pixels from the center."""

    fill: float | None = None

    def matrix(self, generator: torch.Generator) -> Tensor:
        """A 3 x 3 matrix on (x, y, 1), float64."""
        return torch.eye(3, dtype=torch.float64)

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        return resample(images, self.matrix(generator), self.fill)


@dataclass(frozen=True)
class Jitter(_Affine):
    """Moves the picture by a whole number of pixels, uniform in [-pixels, pixels], both ways."""

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise CallError(f"a jitter is of 0 pixels or more, not {self.pixels}")

    def matrix(self, generator: torch.Generator) -> Tensor:
        found = torch.eye(3, dtype=torch.float64)
        found[:2, 2] = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator).double()
        return found


@dataclass(frozen=True)
class Scale(_Affine):
    """Enlarges the picture about its center by a factor uniform in [low, high]."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < math.inf:
            raise CallError(f"a scale goes from a positive factor up, not from {self.low} to {self.high}")

    def matrix(self, generator: torch.Generator) -> Tensor:
        factor = 1 / _number(generator, self.low, self.high)
        return torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Rotate(_Affine):
    """Turns the picture about its center, counterclockwise, by an angle uniform in [-degrees, degrees]."""

    degrees: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.degrees):
            raise CallError(f"an angle is a number of degrees, not {self.degrees}")

    def matrix(self, generator: torch.Generator) -> Tensor:
        angle = math.radians(_number(generator, -self.degrees, self.degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)


@dataclass(frozen=True)
class Pad(_Affine):
    """Pads the picture with one value: what is moved in from outside is that, not a mirror image."""

    value: float = 0.5

    @property
    def fill(self) -> float:  # type: ignore[override]
        return self.value


@dataclass(frozen=True)
class Compose:
    """One augmentation after another."""

    parts: tuple[Augmentation, ...] = ()

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        waiting: list[_Affine] = []
        for part in self.parts:
            if isinstance(part, _Affine):
                waiting.append(part)
            else:
                images = part(_apply(waiting, images, generator), generator)
                waiting = []
        return _apply(waiting, images, generator)


def _apply(parts: Sequence[_Affine], images: Images, generator: torch.Generator) -> Images:
    if not parts:
        return images
    whole = torch.eye(3, dtype=torch.float64)
    for part in parts:
        whole = whole @ part.matrix(generator)
    fills = sorted({p.fill for p in parts if p.fill is not None})
    if len(fills) > 1:
        raise CallError(f"one resampling has one outside, and there are paddings of {fills[0]} and {fills[1]}")
    return resample(images, whole, fills[0] if fills else None)


def resample(images: Images, matrix: Tensor, fill: float | None) -> Images:
    """Bilinear; what lies outside is ``fill``, or the mirror image where it is None."""
    height, width = images.shape[2:]
    half = torch.tensor([width / 2, height / 2, 1.0], dtype=torch.float64)
    theta = (matrix * half[None, :] / half[:, None])[:2].to(images)
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False).expand(len(images), -1, -1, -1)
    if fill is None:
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return F.grid_sample(images - fill, grid, padding_mode="zeros", align_corners=False) + fill


def standard(size: tuple[int, int]) -> Compose:
    """The usual set for feature visualization, in proportion to the picture (published for 224 pixels)."""
    unit = min(size) / 224
    shift = [max(1, round(pixels * unit)) for pixels in (8, 4)]
    return Compose((Pad(0.5), Jitter(shift[0]), Scale(0.9, 1.1), Rotate(10), Jitter(shift[1])))
