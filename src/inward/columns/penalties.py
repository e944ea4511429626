"""Penalties: what a picture should have little of; objectives to be subtracted, and one that multiplies.

All but :class:`Transparency` are sums over the pixels of an image, so that a weight that suits 112
pixels is four times as heavy at 224. They see the picture before augmentation, and nothing of the
network is needed. Where the picture has an alpha channel (last, one more than the network is
shown), L1, L2 and L6 are of the colors alone; TotalVariation and Blur are of alpha too, whose edges
are edges of the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.columns.objectives import Objective, OfPart, wide
from inward.errors import CallError
from inward.network.trace import Trace
from inward.types import Images, Scores


def _has_alpha(trace: Trace) -> bool:
    return trace.picture.shape[1] == trace.images.shape[1] + 1


def _colors(trace: Trace) -> Tensor:
    picture = wide(trace.picture)
    return picture[:, :-1] if _has_alpha(trace) else picture


@dataclass(frozen=True)
class _OfPixels(Objective):
    """Something of the picture itself."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True)
class L1(_OfPixels):
    """The sum of the absolute distances of an image's pixels from ``constant``, by default the gray of an empty image.

    What costs the same everywhere is drawn only where it pays: it leaves the rest of the picture gray.
    """

    constant: float = 0.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.constant):
            raise CallError(f"the constant is a value that pixels can have, for example 0.5, not {self.constant:g}")

    def __call__(self, trace: Trace) -> Scores:
        return (_colors(trace) - self.constant).abs().flatten(1).sum(1)


@dataclass(frozen=True)
class L2(_OfPixels):
    """The sum of the squares of an image's pixels, ||x||^2; or of their distances from a ``constant``."""

    constant: float = 0.0

    def __call__(self, trace: Trace) -> Scores:
        return (_colors(trace) - self.constant).square().flatten(1).sum(1)


@dataclass(frozen=True)
class L6(_OfPixels):
    """The sum of the sixth powers of an image's distances from gray, ``sum |2 (x - 1/2)|^6``: steep at the ends.

    It keeps values off the ends of their range and leaves contrast alone. Mahendran and Vedaldi, "Understanding deep
    image representations by inverting them", 2015, where alpha is 6.
    """

    def __call__(self, trace: Trace) -> Scores:
        return (2 * _colors(trace) - 1).pow(6).flatten(1).sum(1)


@dataclass(frozen=True)
class TotalVariation(_OfPixels):
    """The sum of the absolute differences of neighboring pixels (anisotropic), or of a ``power`` of them.

    Squared (2) it has no kinks, at which L-BFGS stands still: the beta of Mahendran and Vedaldi, 2015.
    """

    power: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 4:
            raise CallError(f"the power of a total variation is 1 to 4, not {self.power:g}")

    def __call__(self, trace: Trace) -> Scores:
        images = wide(trace.picture)
        down, right = (images.diff(dim=axis).abs() for axis in (2, 3))
        if self.power != 1:
            down, right = down.pow(self.power), right.pow(self.power)
        return down.flatten(1).sum(1) + right.flatten(1).sum(1)


@dataclass(frozen=True)
class Blur(_OfPixels):
    """Half the squared distance of an image from a blurred copy of itself, which counts as a constant.

    Its gradient is x - blur(x): a step of the size 1 down k times this is ``x <- (1 - k) x + k blur(x)``,
    the picture blurred a little at each step (Yosinski et al., "Understanding neural networks
    through deep visualization", 2015; as a penalty in Olah, Mordvintsev and Schubert, "Feature
    visualization", 2017). The blur is a mean over 3 x 3 pixels in which the center counts twice;
    beyond the border there is nothing.
    """

    def __call__(self, trace: Trace) -> Scores:
        images = wide(trace.picture)
        return 0.5 * (images - _blurred(images.detach())).square().flatten(1).sum(1)


def _blurred(images: Images) -> Images:
    kernel = torch.full((1, 1, 3, 3), 0.5, dtype=images.dtype, device=images.device)
    kernel[:, :, 1, 1] = 1
    weights = F.conv2d(torch.ones_like(images[:1, :1]), kernel, padding=1)
    planes = images.flatten(0, 1)[:, None]
    return F.conv2d(planes, kernel, padding=1).view_as(images) / weights


@dataclass(frozen=True)
class Transparency(OfPart):
    """``part * (1 - mean alpha)``: what is there must be worth being opaque.

    For a part above 0; below it, opaque pictures would score higher. Mordvintsev, Pezzotti,
    Schubert and Olah, "Differentiable image parameterizations", 2018.

    Raises CallError where the picture has no alpha channel.
    """

    def __call__(self, trace: Trace) -> Scores:
        if not _has_alpha(trace):
            channels = f"{trace.picture.shape[1]} channels and the network takes {trace.images.shape[1]}"
            raise CallError(f"the picture has {channels}, so there is no alpha; use a parameterization that has one")
        return self.part(trace) * (1 - wide(trace.picture)[:, -1].flatten(1).mean(1))
