"""Starts: the image an ascent begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from inward.columns.constraints import Constraint
from inward.errors import CallError
from inward.types import Images


class Start(Protocol):
    """Makes the first images; image i depends on its own seed alone."""

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images: ...


@dataclass(frozen=True)
class Given:
    """The image itself."""

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images:
        return like.detach().clone()


@dataclass(frozen=True)
class Inside:
    """Drawn from a constraint, each image by its own seed."""

    constraint: Constraint

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images:
        return self.constraint.sample(like, seeds)


@dataclass(frozen=True)
class Gray:
    """One value everywhere."""

    value: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise CallError(f"a gray is in [0, 1], not {self.value}")

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images:
        return torch.full_like(like, self.value)


@dataclass(frozen=True)
class Noise:
    """Gray with noise whose spectrum falls as 1 / f^decay, as that of natural images does (decay 0: white).

    ``std`` is the standard deviation over an image's pixels, in [0, 1] units.
    """

    std: float = 0.01
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not self.std >= 0:
            raise CallError(f"a standard deviation is 0 or more, not {self.std}")

    def __call__(self, like: Images, seeds: Sequence[int]) -> Images:
        drawn = [self._one(like, seed) for seed in seeds]
        return torch.stack(drawn).to(like).clamp(0, 1)

    def _one(self, like: Images, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        white = torch.randn(like.shape[1:], generator=generator, dtype=torch.float64)
        height, width = white.shape[1:]
        fy = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
        fx = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :]
        frequency = (fy.square() + fx.square()).sqrt().clamp_min(1 / max(height, width))
        colored = torch.fft.irfft2(torch.fft.rfft2(white) / frequency**self.decay, s=(height, width))
        spread = colored.std(correction=0).clamp_min(1e-12)
        return 0.5 + self.std * (colored - colored.mean()) / spread


NAMED: dict[str, Start] = {"noise": Noise(), "gray": Gray()}
"""The starts that need no more than a name."""
