"""Constraints: where the image may be. Each gives ``project``, ``sample`` and ``steepest`` together.

So a norm is stated once: the ball one projects onto is the ball whose steepest direction one takes
and from which one draws a start.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from inward.errors import CallError
from inward.types import Images


class Constraint(Protocol):
    """A closed convex set of images."""

    def project(self, images: Images) -> Images: ...
    def sample(self, like: Images, generator: torch.Generator) -> Images: ...
    def steepest(self, gradient: Images) -> Images: ...


def _column(values: Tensor, like: Tensor) -> Tensor:
    """One number an image as (N, 1, ...): parameters may have more axes than an image."""
    return values.view(-1, *[1] * (like.ndim - 1))


def _norms(x: Tensor) -> Tensor:
    """The Euclidean norm of each image, as (N, 1, ...)."""
    return _column(x.flatten(1).norm(dim=1), x)


def _unit(x: Tensor) -> Tensor:
    """Each image divided by its norm; an image that is 0 stays 0, one that is tiny does not underflow."""
    largest = _column(x.abs().flatten(1).amax(1), x)
    scaled = torch.where(largest > 0, x / torch.where(largest > 0, largest, 1), 0)
    norms = _norms(scaled)
    return torch.where(norms > 0, scaled / torch.where(norms > 0, norms, 1), 0)


@dataclass(frozen=True)
class Box:
    """Every value in [low, high]."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise CallError(f"a box goes from low up to high, not from {self.low} to {self.high}")

    def project(self, images: Images) -> Images:
        return images.clamp(self.low, self.high)

    def sample(self, like: Images, generator: torch.Generator) -> Images:
        """Uniform in the box."""
        return self.low + (self.high - self.low) * _uniform(like, generator)

    def steepest(self, gradient: Images) -> Images:
        return _unit(gradient)


@dataclass(frozen=True, eq=False)
class Ball:
    """``||x - center||_p <= eps``, for p = 2 or infinity; eps in [0, 1] units (L2: of the whole image)."""

    center: Images
    eps: float
    p: float = math.inf

    def __post_init__(self) -> None:
        if self.p not in (2, math.inf):
            raise CallError(f"there is no ball of the norm {self.p}; p is 2 or inf")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise CallError(f"eps must be a number from 0 up, not {self.eps}")

    def project(self, images: Images) -> Images:
        center = self._center(images)
        if self.p == math.inf:
            return torch.minimum(torch.maximum(images, center - self.eps), center + self.eps)
        offset = images - center
        norms = _norms(offset)
        return center + offset * torch.where(norms > self.eps, self.eps / norms.clamp_min(1e-38), 1)

    def sample(self, like: Images, generator: torch.Generator) -> Images:
        """Uniform in the ball."""
        center = self._center(like)
        if self.p == math.inf:
            return center + self.eps * (2 * _uniform(like, generator) - 1)
        normal = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
        size = like[0].numel()
        radius = torch.rand((len(like), 1, 1, 1), generator=generator, dtype=like.dtype).to(like.device) ** (1 / size)
        return center + self.eps * radius * _unit(normal)

    def steepest(self, gradient: Images) -> Images:
        """The direction of unit p-norm in which a linear score rises most."""
        return gradient.sign() if self.p == math.inf else _unit(gradient)

    def distance(self, images: Images) -> Tensor:
        """``||x - center||_p`` of each image, computed in float64."""
        offset = (images.cpu().double() - self._center(images).cpu().double()).flatten(1)
        return offset.abs().amax(1) if self.p == math.inf else offset.norm(dim=1)

    def _center(self, like: Images) -> Tensor:
        """The center where the images are. Raises CallError where it is of other images."""
        if self.center.shape[1:] != like.shape[1:] or len(self.center) not in (1, len(like)):
            shapes = f"{tuple(self.center.shape)} for images of {tuple(like.shape)}"
            raise CallError(f"the ball's center has the shape {shapes}; give one center, or one an image")
        return self.center.to(like)


def _uniform(like: Images, generator: torch.Generator) -> Images:
    return torch.rand(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def normalized(gradient: Tensor) -> Tensor:
    """The gradient of each image divided by its Euclidean norm."""
    return _unit(gradient)
