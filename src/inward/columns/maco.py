"""Pictures whose spectrum has a fixed magnitude: only the phase moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from inward.columns.parameters import Parameterization, seeds_of
from inward.columns.spectrum import natural
from inward.columns.squashing import check_edge, squash, unsquash
from inward.errors import CallError
from inward.types import Images


@dataclass(frozen=True, eq=False)
class MACO(Parameterization):
    """``x = sigmoid(C F^-1(r exp(i phi)))``: phi are the parameters, r is held.

    F^-1 of a Hermitian spectrum is real: of the phases at f and -f, one is read and the other is its
    negative. Where f is its own mirror image (up to 4 of H (W // 2 + 1)) the coefficient is real, and
    only its sign is read, which no gradient moves. So the magnitude of ``F(C^-1 logit(x))`` is r
    whatever the parameters.

    Fel et al., "Unlocking feature visualization for deeper networks with magnitude constrained
    optimization", 2023. The authors standardize every picture before C; here r is standardized, which
    is the same for the spread, and makes the mean 0 in each channel and not only over all three.

    Attributes:
        spectrum: r, (C, H, W // 2 + 1), as ``spectrum_of`` gives it; None: the 1 / f law, for any size.
        decorrelate: whether C mixes the colors of three channels.
        edge: values this close to 0 and 1 are moved inside before the phase of an image is taken.
    """

    spectrum: Tensor | None = None
    decorrelate: bool = True
    edge: float = 1e-4

    def __post_init__(self) -> None:
        check_edge(self.edge)
        if self.spectrum is not None and not (self.spectrum.isfinite().all() and self.spectrum.min() >= 0):
            raise CallError("the magnitudes of a spectrum are finite and 0 or more; make it with spectrum_of")

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        """The phases of the images; those of a frequency that an image lacks are drawn from its seed."""
        plain = unsquash(images, self.edge, self.decorrelate)
        found = torch.fft.rfft2(plain)
        drawn = torch.stack([self._draw(found.shape[1:], seed) for seed in seeds_of(images, seeds)]).to(plain)
        # Smaller coefficients are nothing but the rounding of the sum that they are.
        rounding = torch.finfo(plain.dtype).eps * plain.abs().sum((2, 3), keepdim=True)
        return [torch.where(found.abs() > rounding, found.angle(), drawn)]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        phase = _hermitian(parameters[0], like.shape[3])
        spectrum = torch.polar(self.magnitude(like).expand_as(phase), phase)
        return squash(torch.fft.irfft2(spectrum, s=like.shape[2:]), self.decorrelate)

    def magnitude(self, like: Images) -> Tensor:
        """r for pictures like these, (C or 1, H, W // 2 + 1). Raises CallError where it is of another shape."""
        channels, height, width = like.shape[1:]
        if self.spectrum is None:
            return _natural((height, width), like.dtype, like.device)
        if self.spectrum.shape != (channels, height, width // 2 + 1):
            raise CallError(
                f"a spectrum of shape {tuple(self.spectrum.shape)} is not of pictures of {channels} channels and "
                f"{height} x {width} pixels; make it with spectrum_of(images, ({height}, {width}))"
            )
        return self.spectrum.to(like)

    @staticmethod
    def _draw(shape: Sequence[int], seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (2 * torch.rand(tuple(shape), generator=generator, dtype=torch.float64) - 1) * math.pi


@lru_cache(maxsize=8)
def _natural(size: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    # A constant made in inference mode could not be used in a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        return natural(size).to(device, dtype)


def _hermitian(phase: Tensor, width: int) -> Tensor:
    """The phases of a real picture: the first column mirrors itself, and the last where the width is even."""
    last = phase.shape[-1] - 1
    if last == 0:
        return _odd(phase)
    if width % 2:
        return torch.cat([_odd(phase[..., :1]), phase[..., 1:]], -1)
    return torch.cat([_odd(phase[..., :1]), phase[..., 1:last], _odd(phase[..., last:])], -1)


def _odd(column: Tensor) -> Tensor:
    """(N, C, H, 1) with the phase at -f the negative of that at f, and 0 or pi where -f is f."""
    height = column.shape[2]
    half = (height - 1) // 2
    read = column[:, :, 1 : half + 1]
    signs = torch.where(column.detach().cos() < 0, math.pi, 0.0).to(column)
    middle = signs[:, :, half + 1 : height - half]
    return torch.cat([signs[:, :, :1], read, middle, -read.flip(2)], 2)
