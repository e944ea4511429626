"""Paths: sets of images, with weights, over which a gradient is averaged.

A path gives its images one at a time, so that a mean over thousands needs the memory of a few. A
cloud draws one noise for the whole batch, so that an image's answer is the same alone and in a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from inward.errors import CallError
from inward.types import Images


class Path(Protocol):
    """Weighted images; the weights add up to 1."""

    def __len__(self) -> int: ...
    def __call__(self, images: Images) -> Iterator[tuple[float, Images]]: ...


@dataclass(frozen=True)
class Point:
    """The image itself: one gradient."""

    def __len__(self) -> int:
        return 1

    def __call__(self, images: Images) -> Iterator[tuple[float, Images]]:
        yield 1.0, images


@dataclass(frozen=True, eq=False)
class Line:
    """The straight line from ``baseline`` to the image, with ``steps`` Gauss-Legendre points and weights."""

    baseline: Images
    steps: int = 50

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CallError(f"a line has 1 point or more, not {self.steps}")

    def __len__(self) -> int:
        return self.steps

    def __call__(self, images: Images) -> Iterator[tuple[float, Images]]:
        baseline = self.baseline.to(images)
        if baseline.shape[1:] != images.shape[1:] or len(baseline) not in (1, len(images)):
            shapes = f"{tuple(baseline.shape)} for images of {tuple(images.shape)}"
            raise CallError(f"the baseline has the shape {shapes}; give one baseline, or one an image")
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            yield float(weight), baseline + float(node) * (images - baseline)


@dataclass(frozen=True)
class Cloud:
    """The image with Gaussian noise of standard deviation ``std`` (in [0, 1] units), kept inside [0, 1]."""

    std: float
    samples: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise CallError(f"a cloud has 1 image or more, not {self.samples}")
        if not self.std >= 0:
            raise CallError(f"a standard deviation is 0 or more, not {self.std}")

    def __len__(self) -> int:
        return self.samples

    def __call__(self, images: Images) -> Iterator[tuple[float, Images]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64).to(images)
            yield 1 / self.samples, (images + self.std * noise).clamp(0, 1)
