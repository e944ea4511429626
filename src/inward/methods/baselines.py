"""Baselines: the images that an explanation compares with; what "nothing to see" means.

An attribution along a path, or by hiding, is always relative to one of these, and which one is
part of the answer (Sturmfels, Lundberg and Lee, "Visualizing the impact of feature attribution
baselines", 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from inward.columns.steps import gaussian_blur
from inward.errors import CallError
from inward.network.network import Network
from inward.pictures import read
from inward.types import Images

Baseline: TypeAlias = str | Tensor
"""A name, the path of a picture, or an image (C, H, W), or one an image (N, C, H, W)."""

# The standard deviation of the blur, as a share of the shorter side: nothing but large colored areas is left.
_BLUR = 0.1


def _mean(net: Network, images: Images) -> Images:
    """What the network is shown as 0 after its mean is taken off; black where it has none."""
    column = torch.tensor(net.preprocess.mean or (0.0,), dtype=images.dtype, device=images.device)
    return column.view(1, -1, 1, 1).expand_as(images)


def _noise(images: Images, seed: int) -> Images:
    """The same for every image, so that none depends on its company."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(images.shape[1:], generator=generator, dtype=torch.float64)
    return drawn.to(images).expand_as(images)


NAMED = ("black", "gray", "white", "mean", "blur", "noise")
"""The baselines that need no more than a name: uniform colors, the network's mean color, the image blurred
with a standard deviation of a tenth of its shorter side, and uniform noise."""


def named(net: Network, images: Images, name: str, seed: int = 0) -> Images:
    """A baseline of :data:`NAMED`, for each image."""
    if name == "mean":
        return _mean(net, images)
    if name == "noise":
        return _noise(images, seed)
    if name == "blur":
        return gaussian_blur(images.detach(), _BLUR * min(images.shape[2:])).clamp(0, 1)
    return torch.full_like(images, {"black": 0.0, "gray": 0.5, "white": 1.0}[name])


def baselines(
    net: Network, images: Images, given: Baseline | Sequence[Baseline], seed: int = 0
) -> list[tuple[str, Images]]:
    """Each baseline by its name, as images of the same shape as ``images``.

    Raises:
        CallError: for a name that is none and no picture, another shape, values outside of [0, 1], or no baseline.
        InwardError: for a picture that cannot be read.
    """
    words = [given] if isinstance(given, (str, Tensor)) else list(given)
    if not words:
        raise CallError(f"there is no baseline; name one of {', '.join(NAMED)}, or give an image")
    return [_one(net, images, word, seed) for word in words]


def _one(net: Network, images: Images, word: Baseline, seed: int) -> tuple[str, Images]:
    if isinstance(word, Tensor):
        return "given", fitting(net, images, word, "the baseline")
    if word in NAMED:
        return word, named(net, images, word, seed)
    if not Path(word).exists():
        raise CallError(f"there is no baseline '{word}'; write {', '.join(NAMED)}, or the path of a picture")
    size = (images.shape[2], images.shape[3])
    return str(Path(word).absolute()), read([word], net, size).to(images).expand_as(images)


def fitting(net: Network, images: Images, given: Tensor, name: str) -> Images:
    """An image for each of ``images``: one for all, or one an image. Raises CallError for another shape or range."""
    batch = given[None] if given.ndim == 3 else given
    if batch.ndim != 4 or batch.shape[1:] != images.shape[1:] or len(batch) not in (1, len(images)):
        shapes = f"{tuple(given.shape)} for images of {tuple(images.shape)}"
        raise CallError(f"{name} has the shape {shapes}; give one {name.removeprefix('the ')}, or one an image")
    net.preprocess.check(batch)
    return batch.detach().to(images).expand_as(images)
