"""What a network wants done to an image in [0, 1]: channel order, mean, standard deviation, size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.errors import CallError
from inward.types import Images, Size

# How far outside [0, 1] arithmetic alone can put a value.
ROUNDING = 1e-5

# Ten thousand by ten thousand: beyond it, the memory runs out somewhere inside a network.
_PIXELS = 100_000_000


@dataclass(frozen=True)
class Preprocess:
    """``(image - mean) / std`` by channel, for images of ``channels`` channels.

    ``mean`` and ``std`` are in [0, 1] units, in the order of the image's channels; ``order`` is
    ``rgb``, or ``bgr`` where the network wants its channels reversed; ``size`` is the height and
    width that pictures are brought to before they are shown to the network.
    """

    channels: int = 3
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: Size = (224, 224)
    order: str = "rgb"

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values and len(values) not in (1, self.channels):
                raise CallError(f"{name} has {len(values)} values for {self.channels} channels; give one a channel")
            if not all(math.isfinite(v) for v in values):
                raise CallError(f"{name} must be finite numbers, not {values}")
        if any(value <= 0 for value in self.std):
            raise CallError(f"std has a {min(self.std):g} in it; every channel is divided by a positive number")
        if any(not 0 <= value <= 1 for value in self.mean):
            raise CallError(f"mean must be in [0, 1], as the images are, not {self.mean}; divide 8-bit values by 255")
        if self.order not in ("rgb", "bgr"):
            raise CallError(f"order is rgb or bgr, not '{self.order}'; give one of the two")
        check_size(self.size)

    def __call__(self, images: Images, dtype: torch.dtype) -> Tensor:
        """The network's input. Differentiable.

        A short dtype comes last: rounded before the mean is taken off, an image loses its last levels.
        """
        images = images.float() if dtype in (torch.bfloat16, torch.float16) else images.to(dtype)
        if self.mean:
            images = images - _column(self.mean, images)
        if self.std:
            images = images / _column(self.std, images)
        images = images.to(dtype)
        return images.flip(1) if self.order == "bgr" else images

    def check(self, images: Tensor) -> None:
        """Refuses what is not a batch of images in [0, 1], saying what it is instead."""
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            raise CallError(f"images must be a float tensor in [0, 1], not {kind}; inward.read gives one from a file")
        if images.ndim != 4:
            raise CallError(f"images must have the shape (N, C, H, W), not {tuple(images.shape)}; add a batch axis")
        if images.shape[1] != self.channels:
            raise CallError(f"this network takes {self.channels} channels, and the image has {images.shape[1]}")
        if images.numel() == 0:
            raise CallError(f"the batch is empty: its shape is {tuple(images.shape)}")
        low, high = (bound.item() for bound in torch.aminmax(images.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CallError("the image holds NaN or infinite values; every value must be in [0, 1]")
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise CallError(
                f"images must be in [0, 1], and this one goes from {low:g} to {high:g}; "
                "divide 8-bit values by 255, and leave mean and std to the network"
            )


def check_size(size: Size) -> None:
    """Refuses a size that no picture has, before memory for it is asked for."""
    if min(size) < 1:
        raise CallError(f"size {size[0]} x {size[1]} is empty; give positive numbers of pixels")
    if size[0] * size[1] > _PIXELS:
        raise CallError(f"size {size[0]} x {size[1]} is more than 100 megapixels; give a smaller one")


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1)
