"""Pictures that belong to no class, for an open world; and how well a network tells them from those that do."""

from __future__ import annotations

import torch
from torch import Tensor

from inward.training.recipe import Recipe
from inward.types import Images

KINDS = ("noise", "shuffled patches", "mixtures")
# Of a batch, how many of each kind: one for so many pictures.
_ONE_IN = 12
_PATCHES = 4
_EPS = {"linf": 0.1, "l2": 2.0, "l1": 40.0}


def strange_eps(recipe: Recipe) -> float:
    """How far pictures of no class are moved to be taken for one."""
    return max(recipe.eps, _EPS[recipe.ball])


def strangers(images: Images, generator: torch.Generator) -> Tensor:
    """Noise, shuffled patches and mixtures of pictures, as many of each kind, a quarter as many as pictures in all."""
    count = max(1, len(images) // _ONE_IN)
    return torch.cat([make(images, count, generator) for make in (_noise, _shuffled, _mixed)])


def auroc(known: Tensor, unknown: Tensor) -> float:
    """The area under the ROC curve: how often a picture of a class scores above one of none, ties counted half."""
    scores = torch.cat([known, unknown]).double()
    order = scores.argsort()
    ranks = torch.empty_like(scores)
    ranks[order] = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    # Equal scores share the mean of their ranks.
    _, inverse, counts = scores.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, inverse, ranks)
    ranks = (sums / counts)[inverse]
    above = ranks[: len(known)].sum() - len(known) * (len(known) + 1) / 2
    return float(above / (len(known) * len(unknown)))


def _noise(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Gaussian, of coarse and fine grain, about the mean of the pictures."""
    channels, height, width = images.shape[1:]
    grain = int(torch.randint(1, max(2, height // 4), (), generator=generator))
    coarse = torch.randn(count, channels, -(-height // grain), -(-width // grain), generator=generator)
    whole = coarse.repeat_interleave(grain, 2).repeat_interleave(grain, 3)[:, :, :height, :width].to(images)
    return (images.mean() + images.std() * whole).clamp(0, 1)


def _shuffled(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Sixteen patches of each picture in another order."""
    chosen = images[torch.randint(len(images), (count,), generator=generator).to(images.device)]
    _, channels, height, width = chosen.shape
    high, wide = height // _PATCHES, width // _PATCHES
    found = chosen.clone()
    inner = chosen[:, :, : high * _PATCHES, : wide * _PATCHES]
    patches = inner.reshape(count, channels, _PATCHES, high, _PATCHES, wide).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    for i in range(count):
        patches[i] = patches[i, torch.randperm(_PATCHES**2, generator=generator).to(images.device)]
    patches = patches.unflatten(1, (_PATCHES, _PATCHES)).permute(0, 3, 1, 4, 2, 5)
    found[:, :, : high * _PATCHES, : wide * _PATCHES] = patches.reshape(inner.shape)
    return found


def _mixed(images: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Half of one picture and half of another, upside down, over each other."""
    first, second = (
        images[torch.randint(len(images), (count,), generator=generator).to(images.device)] for _ in range(2)
    )
    return 0.5 * first + 0.5 * second.flip(2)
