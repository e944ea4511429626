"""Augmentations: random changes that a picture must survive. Pure functions of (image, generator).

Every one keeps H and W. The spatial ones are affine maps, and a sequence of them resamples once,
by the product of their maps. One draw serves the whole batch, so that a picture is the same alone
and in a batch. What a picture in [0, 1] becomes is in [0, 1]: values that leave it are clipped, and
have no gradient in that pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.types import Images, Size


class Augmentation(Protocol):
    """``(image, generator) -> image`` of the same size."""

    def __call__(self, images: Images, generator: torch.Generator) -> Images: ...


def _number(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


class _Affine:
    """A spatial change: ``matrix`` takes places in the result to places in the image, in pixels from the center."""

    fill: float | None = None

    def matrix(self, generator: torch.Generator, size: Size) -> Tensor:
        """A 3 x 3 matrix on (x, y, 1), float64, for pictures of this height and width."""
        return torch.eye(3, dtype=torch.float64)

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        return resample(images, self.matrix(generator, (images.shape[2], images.shape[3])), self.fill)


@dataclass(frozen=True)
class Jitter(_Affine):
    """Moves the picture by a whole number of pixels, uniform in [-pixels, pixels], both ways."""

    pixels: int

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise CallError(f"a jitter is of 0 pixels or more, not {self.pixels}")

    def matrix(self, generator: torch.Generator, size: Size) -> Tensor:
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

    def matrix(self, generator: torch.Generator, size: Size) -> Tensor:
        factor = 1 / _number(generator, self.low, self.high)
        return torch.diag(torch.tensor([factor, factor, 1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Rotate(_Affine):
    """Turns the picture about its center, counterclockwise, by an angle uniform in [-degrees, degrees]."""

    degrees: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.degrees):
            raise CallError(f"an angle is a number of degrees, not {self.degrees}")

    def matrix(self, generator: torch.Generator, size: Size) -> Tensor:
        angle = math.radians(_number(generator, -self.degrees, self.degrees))
        cos, sin = math.cos(angle), math.sin(angle)
        return torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)


@dataclass(frozen=True)
class RandomCrop(_Affine):
    """Enlarges a part of the picture to the whole of it.

    The part has the picture's proportions, sides that are a fraction of its sides uniform in
    [low, high], and a place uniform among those inside.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high <= 1:
            raise CallError(f"a crop has from above 0 to 1 of the sides, not from {self.low} to {self.high}")

    def matrix(self, generator: torch.Generator, size: Size) -> Tensor:
        side = _number(generator, self.low, self.high)
        y, x = (_number(generator, -1, 1) * (1 - side) * length / 2 for length in size)
        return torch.tensor([[side, 0, x], [0, side, y], [0, 0, 1]], dtype=torch.float64)


@dataclass(frozen=True)
class Pad(_Affine):
    """Pads the picture with one value: what is moved in from outside is that, not a mirror image."""

    value: float = 0.5

    @property
    def fill(self) -> float:  # type: ignore[override]
        return self.value


# The luma of ITU-R BT.601: how bright red, green and blue are.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class ColorShift:
    """Changes saturation, then contrast, then brightness: ``0.5 + c (l + s (x - l) - 0.5) + b``, clipped to [0, 1].

    s is uniform in [1 - saturation, 1 + saturation], l the luma of each pixel (three channels; else
    l = x), c uniform in [1 - contrast, 1 + contrast], b uniform in [-brightness, brightness].
    """

    brightness: float = 0.1
    contrast: float = 0.2
    saturation: float = 0.2

    def __post_init__(self) -> None:
        if not all(0 <= v <= 1 for v in (self.brightness, self.contrast, self.saturation)):
            raise CallError(
                "brightness, contrast and saturation are from 0 to 1, "
                f"not {self.brightness}, {self.contrast} and {self.saturation}"
            )

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        # Always three numbers, so that what follows draws the same ones in gray and in color.
        saturation = 1 + _number(generator, -self.saturation, self.saturation)
        contrast = 1 + _number(generator, -self.contrast, self.contrast)
        brightness = _number(generator, -self.brightness, self.brightness)
        if images.shape[1] == 3:
            weights = torch.tensor(_LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
            luma = (weights * images).sum(1, keepdim=True)
            images = luma + saturation * (images - luma)
        return (contrast * images + (0.5 - 0.5 * contrast + brightness)).clamp(0, 1)


@dataclass(frozen=True)
class GaussianNoise:
    """Adds normal noise of this standard deviation, new for every pixel and channel, and clips to [0, 1]."""

    std: float

    def __post_init__(self) -> None:
        if not 0 <= self.std < math.inf:
            raise CallError(f"a standard deviation is 0 or more, not {self.std}")

    def __call__(self, images: Images, generator: torch.Generator) -> Images:
        # Drawn on the processor, so that one seed is one noise on every device.
        noise = torch.randn(images.shape[1:], generator=generator)
        return (images + self.std * noise.to(images)).clamp(0, 1)


@dataclass(frozen=True)
class Compose:
    """One augmentation after another."""

    parts: tuple[Augmentation, ...] = ()

    # A backdrop takes the alpha channel away.
    def __call__(self, images: Images, generator: torch.Generator) -> Float[Tensor, "n _ h w"]:
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
        whole = whole @ part.matrix(generator, (images.shape[2], images.shape[3]))
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


def standard(size: Size) -> Compose:
    """The usual set for feature visualization, in proportion to the picture (published for 224 pixels)."""
    unit = min(size) / 224
    shift = [max(1, round(pixels * unit)) for pixels in (8, 4)]
    return Compose((Pad(0.5), Jitter(shift[0]), Scale(0.9, 1.1), Rotate(10), Jitter(shift[1])))


CROPS = Compose((RandomCrop(0.5, 1.0), GaussianNoise(0.02)))
"""Random crops and noise, after Fel et al. 2023 ("MACO"); larger crops than theirs, as there is one a pass."""


def color(size: Size) -> Compose:
    """The usual set, and changes of color."""
    return Compose((*standard(size).parts, ColorShift()))


SETS: dict[str, Callable[[Size], Augmentation | None]] = {
    "none": lambda _: None,
    "standard": standard,
    "crops": lambda _: CROPS,
    "color": color,
}
"""The sets that have a name, for pictures of a size."""


def named(name: str, size: Size) -> Augmentation | None:
    """The set of this name for pictures of this size; None for none. Raises CallError for an unknown name."""
    if name not in SETS:
        raise CallError(f"there are no augmentations '{name}'; there are {', '.join(SETS)}")
    return SETS[name](size)
