"""Parameterizations: what is moved. ``init(image) -> parameters``, ``image(parameters) -> image``.

The law, where it is invertible: ``image(init(x)) = x``. The first axis of every parameter is the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.errors import CallError
from inward.types import Images

# Square root of the covariance of the colors of natural images (ImageNet), Olah et al. 2017.
_COLOR = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class Parameterization(ABC):
    """A pair of functions."""

    @property
    def pixels(self) -> bool:
        """Whether the parameters are the image, so that constraints can be kept exactly."""
        return False

    @abstractmethod
    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        """The parameters of these images; what an image does not tell is drawn from its seed."""

    @abstractmethod
    def image(self, parameters: list[Tensor], like: Images) -> Images:
        """The pictures, of the batch, size, dtype and device of ``like``."""

    def opaque(self, images: Images) -> Images:
        """The pictures as a network can take them, also where they have an alpha channel."""
        return images


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
        if not 0 < self.edge < 0.5:
            raise CallError(f"the edge is between 0 and 0.5, not {self.edge}")

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        inside = images.detach().clamp(self.edge, 1 - self.edge)
        plain = torch.logit(inside)
        color = self._color(images)
        if color is not None:
            plain = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(color), plain)
        spectrum = torch.fft.rfft2(plain) / self._scale(images)
        return [torch.view_as_real(spectrum).contiguous()]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        spectrum = torch.view_as_complex(parameters[0]) * self._scale(like)
        plain = torch.fft.irfft2(spectrum, s=like.shape[2:])
        color = self._color(like)
        if color is not None:
            plain = torch.einsum("cd,ndhw->nchw", color, plain)
        return torch.sigmoid(plain)

    def _color(self, like: Images) -> Tensor | None:
        if not self.decorrelate or like.shape[1] != 3:
            return None
        matrix = torch.tensor(_COLOR, dtype=like.dtype, device=like.device)
        return matrix / matrix.norm(dim=0).max()

    def _scale(self, like: Images) -> Tensor:
        height, width = like.shape[2:]
        fy = torch.fft.fftfreq(height, dtype=like.dtype, device=like.device)[:, None]
        fx = torch.fft.rfftfreq(width, dtype=like.dtype, device=like.device)[None, :]
        frequency = (fy.square() + fx.square()).sqrt().clamp_min(1 / max(height, width))
        return (height * width) ** 0.5 / frequency**self.decay
