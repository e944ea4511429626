"""Paths: sets of images, with weights, over which a gradient is averaged.

A path gives its images one at a time, so that a mean over thousands needs the memory of a few. What
is drawn at random is drawn once for the whole batch, so that an image's answer is the same alone
and in a batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

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
    """The image with Gaussian noise of standard deviation ``std`` (in [0, 1] units).

    The noise may leave [0, 1]: kept inside, it would be another one at dark and bright pixels, and the
    mean gradient no longer the gradient of the score's mean, ``d E F(x + noise) / dx``.
    """

    std: float
    samples: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise CallError(f"a cloud has 1 image or more, not {self.samples}")
        if not 0 <= self.std < math.inf:
            raise CallError(f"a standard deviation is 0 or more, not {self.std}")

    def __len__(self) -> int:
        return self.samples

    def __call__(self, images: Images) -> Iterator[tuple[float, Images]]:
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.samples):
            noise = torch.randn(images.shape[1:], generator=generator, dtype=torch.float64).to(images)
            yield 1 / self.samples, images + self.std * noise


@dataclass(frozen=True)
class Draws:
    """Random places on the lines from ``baselines`` images to an image: ``b + t (x - b)``.

    t falls once into each of ``samples`` equal parts of [0, 1], and every baseline is taken before one
    is taken again, in an order drawn anew each time. In every part each baseline is as likely, so that
    a mean over the draws is unbiased; it varies less than that of independent draws.
    """

    baselines: int
    samples: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.baselines < 1 or self.samples < 1:
            raise CallError(f"there is 1 draw or more, from 1 baseline or more, not {self.samples}, {self.baselines}")

    def __call__(self) -> list[tuple[int, float]]:
        """The number of the baseline and t, of every draw."""
        generator = torch.Generator().manual_seed(self.seed)
        rounds = math.ceil(self.samples / self.baselines)
        order = torch.cat([torch.randperm(self.baselines, generator=generator) for _ in range(rounds)])
        inside = torch.rand(self.samples, generator=generator, dtype=torch.float64)
        places = (torch.arange(self.samples) + inside) / self.samples
        return list(zip(order[: self.samples].tolist(), places.tolist(), strict=True))


@dataclass(frozen=True)
class ScaleSpace:
    """The curve from the image blurred with a standard deviation of ``sigma`` pixels to the image itself.

    The blur is :func:`diffused`. ``steps`` points, both ends among them, even in log(1 + sigma), because
    what a network sees changes with the scale of what is lost: with points even in sigma, the trapezoidal
    rule misses several times as much.
    """

    sigma: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise CallError(f"a curve of blurs has 2 points or more, not {self.steps}")
        if not 0 < self.sigma < math.inf:
            raise CallError(f"the strongest blur has a standard deviation above 0, not {self.sigma}")

    def __len__(self) -> int:
        return self.steps

    def __call__(self, images: Images) -> Iterator[tuple[Images, Images]]:
        """Points, each with the piece of the curve it stands for; the pieces add up to image minus blurred image.

        The sum of gradient times piece is the trapezoidal rule for the path integral, exact where the
        score is linear or quadratic between neighboring points.
        """
        points = (diffused(images, math.expm1(depth)) for depth in self._depths())
        before = here = next(points)
        for after in itertools.chain(points, [images]):
            yield here, (after - before) / 2
            before, here = here, after

    def _depths(self) -> list[float]:
        return np.linspace(math.log1p(self.sigma), 0, self.steps).tolist()


def diffused(images: Images, sigma: float) -> Images:
    """Each channel after heat has spread in it until a point has the standard deviation ``sigma``, in pixels.

    The Gaussian blur of grids: ``exp(sigma^2 / 2 L)`` with the second differences L, mirrored at the
    border. Unlike sampled Gaussians cut off somewhere, it changes smoothly with sigma, never makes a
    new extremum, and blurring twice is blurring once with the variances added. Lindeberg, "Scale-space
    for discrete signals", 1990.
    """
    if sigma == 0:
        return images
    wide = images if images.dtype == torch.float64 else images.float()
    rows, columns = (_spread(length, sigma).to(wide) for length in images.shape[2:])
    return (rows @ wide @ columns).to(images)


def _spread(length: int, sigma: float) -> Tensor:
    """The symmetric (length, length) matrix ``exp(sigma^2 / 2 L)``, whose eigenvectors are cosines."""
    index = torch.arange(length, dtype=torch.float64)
    waves = torch.cos(math.pi / length * index[:, None] * (index + 0.5))
    waves /= waves.norm(dim=1, keepdim=True)
    decay = torch.exp(-(sigma**2) * (1 - torch.cos(math.pi / length * index)))
    return waves.T @ (decay[:, None] * waves)
