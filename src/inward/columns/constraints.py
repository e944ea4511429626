"""Constraints: where the image may be. Each gives ``project``, ``sample`` and ``steepest`` together.

So a norm is stated once: the ball one projects onto is the ball whose steepest direction one takes
and from which one draws a start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from inward.errors import CallError, numbered, there_are
from inward.types import Images


class Constraint(Protocol):
    """A closed convex set of images."""

    def project(self, images: Images) -> Images: ...
    def sample(self, like: Images, seeds: Sequence[int]) -> Images: ...
    def steepest(self, gradient: Images) -> Images: ...
    def select(self, images: Tensor) -> Constraint: ...


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

    def sample(self, like: Images, seeds: Sequence[int]) -> Images:
        """Uniform in the box; each image by its own seed."""
        return self.low + (self.high - self.low) * _drawn(like, seeds, _uniform)

    def steepest(self, gradient: Images) -> Images:
        return _unit(gradient)

    def select(self, images: Tensor) -> Box:
        return self


@dataclass(frozen=True, eq=False)
class Ball:
    """``||x - center||_p <= eps``, for p = 1, 2 or infinity.

    eps is in [0, 1] units: of every value (infinity), or of the norm of the whole change; one, or one an image (N,).
    """

    center: Images
    eps: float | Tensor
    p: float = math.inf

    def __post_init__(self) -> None:
        if self.p not in (1, 2, math.inf):
            raise CallError(f"there is no ball of the norm {self.p}; p is 1, 2 or inf")
        each = self.eps.flatten().tolist() if isinstance(self.eps, Tensor) else [self.eps]
        if not all(math.isfinite(eps) and eps >= 0 for eps in each):
            raise CallError(f"eps must be a number from 0 up, not {self.eps}")
        if isinstance(eps := self.eps, Tensor) and (eps.ndim > 1 or (eps.ndim == 1 and len(eps) != len(self.center))):
            told = f"{there_are(len(eps), 'eps', 'eps')} for {numbered(len(self.center), 'image')}"
            raise CallError(f"{told}; give one, or one an image")

    def project(self, images: Images) -> Images:
        """The nearest image of the ball (for p = infinity to the last digit inside, as :meth:`distance` tells)."""
        center = self._center(images)
        if self.p == math.inf:
            return images.clamp(*self._bounds(images))
        eps, offset = self._eps(images), images - center
        if self.p == 1:
            return center + _onto_l1(offset, eps)
        norms = _norms(offset)
        return center + offset * torch.where(norms > eps, eps / norms.clamp_min(1e-38), 1)

    def inside(self, images: Images) -> Images:
        """:meth:`project`, and then towards the center until the norm, in float64, is at most eps."""
        found = self.project(images)
        if self.p == math.inf:
            return found
        center, eps = self._center(found), self._exact()
        share = torch.finfo(found.dtype).eps
        while (outside := self.distance(found) > eps).any():
            shrunk = center + (found - center) * max(0.0, 1 - share)
            found = torch.where(_column(outside, found).to(found.device), shrunk, found)
            share *= 2
        return found

    def sample(self, like: Images, seeds: Sequence[int]) -> Images:
        """Uniform in the ball; each image by its own seed."""
        center, eps = self._center(like), self._eps(like)
        if self.p == math.inf:
            return center + eps * (2 * _drawn(like, seeds, _uniform) - 1)
        return center + eps * _drawn(like, seeds, _in_l1 if self.p == 1 else _in_l2)

    def steepest(self, gradient: Images) -> Images:
        """The direction of unit p-norm in which a linear score rises most (p = 1: one value, the first of equals)."""
        if self.p == math.inf:
            return gradient.sign()
        if self.p == 2:
            return _unit(gradient)
        flat = gradient.flatten(1)
        where = flat.abs().argmax(1, keepdim=True)
        return torch.zeros_like(flat).scatter_(1, where, flat.gather(1, where).sign()).view_as(gradient)

    def distance(self, images: Images) -> Tensor:
        """``||x - center||_p`` of each image, computed in float64."""
        offset = (images.cpu().double() - self._center(images).cpu().double()).flatten(1)
        return offset.norm(p=self.p, dim=1)

    def select(self, images: Tensor) -> Ball:
        """The balls of only these images."""
        if len(self.center) == 1 and not isinstance(self.eps, Tensor):
            return self
        eps = self.eps[images.to(self.eps.device)] if isinstance(self.eps, Tensor) else self.eps
        if self.p == math.inf:
            self._bounds(self.center)
        ball = Ball(self.center[images], eps, self.p)
        ball._known.update({key: (low[images], high[images]) for key, (low, high) in self._known.items()})
        return ball

    @cached_property
    def _known(self) -> dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]:
        return {}

    def _bounds(self, like: Images) -> tuple[Tensor, Tensor]:
        """The smallest and the largest values; computed once, for loops ask at every pass, of ever fewer images."""
        key = (like.dtype, like.device)
        if key not in self._known:
            center, eps = self._center(like), self._exact().view(-1, *[1] * (like.ndim - 1))
            self._known[key] = (_within(center, -eps), _within(center, eps))
        return self._known[key]

    def _exact(self) -> Tensor:
        """eps in float64, (1,) or (N,)."""
        return torch.as_tensor(self.eps, dtype=torch.float64).view(-1).cpu()

    def _eps(self, like: Images) -> Tensor:
        """As (1, 1, 1, 1), or (N, 1, 1, 1)."""
        return torch.as_tensor(self.eps, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.ndim - 1))

    def _center(self, like: Images) -> Tensor:
        """The center where the images are. Raises CallError where it is of other images."""
        if self.center.shape[1:] != like.shape[1:] or len(self.center) not in (1, len(like)):
            shapes = f"{tuple(self.center.shape)} for images of {tuple(like.shape)}"
            raise CallError(f"the ball's center has the shape {shapes}; give one center, or one an image")
        return self.center.to(like)


def _within(center: Tensor, change: Tensor) -> Tensor:
    """``center + change`` (float64), or the next number towards the center where rounding went beyond it."""
    exact = center.cpu().double()
    found = (exact + change).to(center.dtype)
    beyond = (found.double() - exact).abs() > change.abs()
    return torch.where(beyond, torch.nextafter(found, center.cpu()), found).to(center.device)


def _onto_l1(offset: Tensor, eps: Tensor) -> Tensor:
    """The nearest change whose absolute values sum up to at most eps.

    Duchi, Shalev-Shwartz, Singer and Chandra, "Efficient projections onto the l1-ball", 2008.
    """
    flat, radius = offset.flatten(1), eps.flatten(1)
    size = flat.abs()
    falling = size.sort(dim=1, descending=True).values
    counts = torch.arange(1, size.shape[1] + 1, device=size.device, dtype=size.dtype)
    threshold = (falling.cumsum(1) - radius) / counts
    last = (falling > threshold).sum(1, keepdim=True).clamp_min(1) - 1
    shrunk = flat.sign() * (size - threshold.gather(1, last).clamp_min(0)).clamp_min(0)
    return torch.where(size.sum(1, keepdim=True) > radius, shrunk, flat).view_as(offset)


def _drawn(like: Images, seeds: Sequence[int], draw: Callable[[tuple[int, ...], torch.Generator], Tensor]) -> Images:
    """What each seed draws for one image, in float64: it depends neither on the others nor on their dtype."""
    if len(seeds) != len(like):
        raise CallError(f"{there_are(len(seeds), 'seed')} for {numbered(len(like), 'image')}; give one an image")
    shape = tuple(like.shape[1:])
    drawn = {seed: draw(shape, torch.Generator().manual_seed(seed)).to(like) for seed in dict.fromkeys(seeds)}
    return torch.stack([drawn[seed] for seed in seeds])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def _in_l2(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    radius = torch.rand((), generator=generator, dtype=torch.float64) ** (1 / normal.numel())
    return radius * _unit(normal[None])[0]


def _in_l1(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Exponential variates, one more than there are values, divided by their sum, with random signs."""
    count = math.prod(shape)
    drawn = -torch.rand(count + 1, generator=generator, dtype=torch.float64).clamp_min(1e-300).log()
    signs = torch.randint(2, (count,), generator=generator) * 2 - 1
    return (drawn[:-1] / drawn.sum() * signs).view(shape)


def movable(images: Images, gradient: Images) -> Images:
    """The gradient of those values that can follow it: none is moved out of [0, 1], nor takes the others' share."""
    outwards = ((images <= 0) & (gradient < 0)) | ((images >= 1) & (gradient > 0))
    return torch.where(outwards, 0, gradient)


def normalized(gradient: Tensor) -> Tensor:
    """The gradient of each image divided by its Euclidean norm."""
    return _unit(gradient)
