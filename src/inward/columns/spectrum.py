"""Spectra of pictures: frequencies, the law of natural images, and the mean of given pictures.

Everything is laid out as ``torch.fft.rfft2`` does: (..., H, W // 2 + 1).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.columns.squashing import decorrelated
from inward.errors import CallError
from inward.types import Images, Size


def frequencies(size: Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The length of every frequency in cycles a pixel, not under one cycle an image: (H, W // 2 + 1)."""
    height, width = size
    fy = torch.fft.fftfreq(height, dtype=dtype, device=device)[:, None]
    fx = torch.fft.rfftfreq(width, dtype=dtype, device=device)[None, :]
    return (fy.square() + fx.square()).sqrt().clamp_min(1 / max(height, width))


def natural(size: Size) -> Tensor:
    """The 1 / f law of natural images, standardized: (1, H, W // 2 + 1), float64."""
    return standardized(1 / frequencies(size, torch.float64, torch.device("cpu"))[None], size)


def standardized(magnitude: Tensor, size: Size) -> Tensor:
    """The spectrum of pictures of mean 0 in every channel, and of standard deviation 1 over all of them.

    Both follow from the magnitudes alone (Parseval), whatever the phases.
    """
    height, width = size
    power = magnitude.square()
    power[:, 0, 0] = 0
    # Every column stands for two, but for those that are their own mirror images.
    twice = torch.full((width // 2 + 1,), 2.0, dtype=power.dtype, device=power.device)
    twice[0] = 1
    if width % 2 == 0:
        twice[-1] = 1
    variance = (power * twice).sum() / len(power) / (height * width) ** 2
    # A picture of one pixel has no spread; its spectrum stays 0.
    return (power / variance.clamp_min(torch.finfo(power.dtype).tiny)).sqrt()


def spectrum_of(images: Images | Iterable[Images], size: Size, *, decorrelate: bool = True) -> Tensor:
    """The mean magnitude of the spectra of pictures, to be held by ``MACO``.

    The pictures are scaled to ``size``, and the colors of three channels decorrelated, as in Fel et
    al. 2023. The mean is then standardized: no constant part, and a standard deviation of 1.

    Args:
        images: (N, C, H, W) in [0, 1], or an iterable of such batches, of any sizes, read once.
        size: height and width of the pictures to be made.
        decorrelate: as the ``MACO`` that is to hold the spectrum.

    Returns:
        (C, H, W // 2 + 1), float64.

    Raises:
        CallError: without any picture, or for batches of different numbers of channels.
    """
    total = None
    for batch in [images] if isinstance(images, Tensor) else images:
        if total is not None and len(total) != batch.shape[1]:
            raise CallError(f"pictures of {len(total)} and of {batch.shape[1]} channels have no common spectrum")
        if len(batch) == 0:
            continue
        found = _magnitudes(batch, size, decorrelate).sum(0)
        total = found if total is None else total + found
    if total is None:
        raise CallError("there are no pictures to take a spectrum of; give at least one")
    # The sum does for the mean: what is standardized has no scale.
    return standardized(total, size)


@torch.no_grad()
def _magnitudes(images: Images, size: Size, decorrelate: bool) -> Tensor:
    plain = images.double()
    if plain.shape[2:] != size:
        plain = F.interpolate(plain, size, mode="bilinear", antialias=True, align_corners=False)
    return torch.fft.rfft2(decorrelated(plain) if decorrelate else plain).abs()
