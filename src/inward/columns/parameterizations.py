"""Parameterizations: what is moved. ``init(image) -> parameters``, ``image(parameters) -> image``.

The law, where it is invertible: ``image(init(x)) = x``. The first axis of every parameter is the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from inward.columns.cppn import CPPN
from inward.columns.maco import MACO
from inward.columns.parameters import Parameterization
from inward.columns.pyramid import LaplacianPyramid
from inward.columns.spectrum import frequencies
from inward.columns.squashing import check_edge, squash, unsquash
from inward.errors import CallError
from inward.types import Images, Size


@dataclass(frozen=True)
class Pixels(Parameterization):
    """The image itself."""

    @property
    def pixels(self) -> bool:
        return True

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        return [images.detach().clone()]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        return parameters[0]


@dataclass(frozen=True)
class Fourier(Parameterization):
    """The spectrum of the image before a sigmoid, scaled so that every frequency has its natural share.

    ``x = sigmoid(C F^-1(s z / f^decay))``: z are the parameters, f the frequency in cycles a pixel
    (not under one cycle an image), C the decorrelation of colors (three channels: the square root of
    the covariance of natural colors; else the identity). Any number of channels, any H and W.
    Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable image parameterizations", 2018.
    """

    decay: float = 1.0
    decorrelate: bool = True
    # Values this close to 0 and 1 are moved inside before the inverse of the sigmoid.
    edge: float = 1e-4

    def __post_init__(self) -> None:
        check_edge(self.edge)

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        plain = unsquash(images, self.edge, self.decorrelate)
        return [torch.view_as_real(torch.fft.rfft2(plain) / self._scale(images)).contiguous()]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        spectrum = torch.view_as_complex(parameters[0]) * self._scale(like)
        return squash(torch.fft.irfft2(spectrum, s=like.shape[2:]), self.decorrelate)

    def _scale(self, like: Images) -> Tensor:
        return _shares((like.shape[2], like.shape[3]), self.decay, like.dtype, like.device)


@lru_cache(maxsize=8)
def _shares(size: Size, decay: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``sqrt(H W) / f^decay``, (H, W // 2 + 1)."""
    # A constant made in inference mode could not be used in a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        return (size[0] * size[1]) ** 0.5 / frequencies(size, dtype, device) ** decay


KINDS: dict[str, type[Parameterization]] = {
    "fourier": Fourier,
    "pixels": Pixels,
    "cppn": CPPN,
    "maco": MACO,
    "pyramid": LaplacianPyramid,
}
"""The parameterizations that need no more than a name."""


def parameterization(name: str) -> Parameterization:
    """The parameterization of this name, with its defaults. Raises CallError for an unknown one."""
    if name not in KINDS:
        raise CallError(f"there is no parameterization '{name}'; there are {', '.join(KINDS)}")
    return KINDS[name]()
