"""Pictures with an alpha channel, and the backgrounds that they are shown on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from inward.columns.parameterizations import Fourier
from inward.columns.parameters import Parameterization
from inward.columns.starts import Noise
from inward.errors import CallError
from inward.types import Images

# The last of the a channels is alpha.
_WithAlpha: TypeAlias = Float[Tensor, "n a h w"]
_Colors: TypeAlias = Float[Tensor, "n a-1 h w"]

_ALPHA = Fourier(decorrelate=False)


@dataclass(frozen=True)
class Transparent(Parameterization):
    """A picture (N, C + 1, H, W) whose last channel says how much of its background it covers: alpha.

    The colors are those of ``inner``, alpha has Fourier parameters of its own. ``Backdrop`` shows the
    picture on a new background at every pass, so that what does not matter to the objective can be
    left transparent. Mordvintsev, Pezzotti, Schubert and Olah, "Differentiable image
    parameterizations", 2018.

    Attributes:
        inner: the parameterization of the colors.
        opacity: alpha at the start. Half: there the sigmoid is steepest, and neither way is longer.
    """

    inner: Parameterization = field(default_factory=Fourier)
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if self.inner.pixels or isinstance(self.inner, Transparent):
            kind = type(self.inner).__name__
            raise CallError(f"{kind} cannot be made transparent, its colors must keep to [0, 1] alone; use Fourier()")
        if not 0 < self.opacity < 1:
            raise CallError(f"an opacity is between 0 and 1, not {self.opacity}")

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        """The parameters of ``inner`` for images of C channels, and those of alpha."""
        alpha = torch.full_like(images[:, :1], self.opacity)
        return [*self.inner.init(images, seeds), *_ALPHA.init(alpha)]

    def image(self, parameters: list[Tensor], like: Images) -> Float[Tensor, "n c+1 h w"]:
        colors = self.inner.image(parameters[:-1], like)
        return torch.cat([colors, _ALPHA.image(parameters[-1:], like[:, :1])], 1)

    def opaque(self, images: _WithAlpha) -> _Colors:
        """The picture on mid-gray: (N, C, H, W)."""
        return over(images, torch.full_like(images[:1, :-1], 0.5))


@dataclass(frozen=True)
class Backdrop:
    """An augmentation: shows (N, C + 1, H, W) on smooth noise, one and the same for the batch; (N, C, H, W).

    The noise has a mean of 0.5 and a spectrum that falls as 1 / f^decay. In a sequence this comes first, so that
    what follows moves the picture and its background together.

    Attributes:
        std: of the noise, in [0, 1] units, before it is clipped to them.
        decay: the higher, the smoother.
    """

    std: float = 0.25
    decay: float = 1.0

    def __post_init__(self) -> None:
        Noise(self.std, self.decay)

    def __call__(self, images: _WithAlpha, generator: torch.Generator) -> _Colors:
        if images.shape[1] < 2:
            raise CallError(
                "a backdrop is for pictures with an alpha channel, and these have 1 channel; use Transparent"
            )
        seed = int(torch.randint(2**62, (), generator=generator))
        return over(images, Noise(self.std, self.decay)(images[:1, :-1], [seed]))


def over(images: _WithAlpha, background: Float[Tensor, "1 a-1 h w"]) -> _Colors:
    """Colors and alpha, the last channel, on a background of the colors' channels: ``alpha c + (1 - alpha) b``."""
    colors, alpha = images[:, :-1], images[:, -1:]
    return background + alpha * (colors - background)
