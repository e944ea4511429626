"""Augmentations of a whole batch, on its device: each picture by numbers of its own from one generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.training.recipe import Recipe
from inward.types import Images

# Of a random crop and of an erased rectangle, width by height.
_ASPECT = (3 / 4, 4 / 3)
_ERASED = (0.02, 0.25)


def augmented(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Images:
    """uint8 pictures (N, C, H, W) as floats in [0, 1] of the recipe's size, each changed at random.

    Crop, flip, rotation and shift are one resampling; beyond the border the picture is mirrored.
    """
    moved = recipe.crop < 1 or recipe.flip or recipe.rotation > 0 or recipe.shift > 0
    if moved:
        # One sample a pixel would alias where pictures are much larger than they are shown.
        most = stored_size(recipe.size)
        scaled = plain(images, most) if min(images.shape[2:]) > most else images.float() / 255
        places = _places(images, recipe, generator).to(images.device)
        grid = F.affine_grid(places, [*images.shape[:2], recipe.size, recipe.size], align_corners=False)
        scaled = F.grid_sample(scaled, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    else:
        scaled = plain(images, recipe.size)
    if recipe.erase > 0:
        scaled = _erased(scaled, recipe.erase, generator)
    if recipe.noise > 0:
        size = recipe.noise * _uniform(len(scaled), generator).view(-1, 1, 1, 1)
        scaled = scaled + (size * torch.randn(scaled.shape, generator=generator)).to(scaled)
    return scaled.clamp(0, 1)


def stored_size(size: int) -> int:
    """The size that pictures are kept at: larger than they are shown, for crops to have something to cut."""
    return round(size * 1.25)


def plain(images: Tensor, size: int) -> Images:
    """uint8 pictures as floats in [0, 1] of this size, as they are shown to be judged."""
    scaled = images.float() / 255
    if scaled.shape[2:] != (size, size):
        scaled = F.interpolate(scaled, (size, size), mode="bilinear", align_corners=False, antialias=True)
    return scaled.clamp(0, 1)


def _uniform(count: int, generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Drawn on the processor, so that every device sees the same."""
    return low + (high - low) * torch.rand(count, generator=generator)


def _places(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """(N, 2, 3): where each pixel of the result comes from, in coordinates of -1 to 1."""
    count = len(images)
    area = _uniform(count, generator, recipe.crop, 1.0)
    aspect = torch.exp(_uniform(count, generator, math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    # As far as a rectangle of that area fits into the picture.
    aspect = aspect.clamp(area, 1 / area)
    wide, high = ((area * aspect).sqrt().clamp_max(1), (area / aspect).sqrt().clamp_max(1))
    left, top = ((1 - side) * _uniform(count, generator, -1.0, 1.0) for side in (wide, high))
    if recipe.shift:
        across, down = (torch.randint(-recipe.shift, recipe.shift + 1, (count,), generator=generator) for _ in range(2))
        left, top = left + across * 2 * wide / recipe.size, top + down * 2 * high / recipe.size
    mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0) if recipe.flip else 1.0
    angle = _uniform(count, generator, -1.0, 1.0) * math.radians(recipe.rotation)
    cosine, sine = angle.cos(), angle.sin()
    rows = [torch.stack([wide * cosine * mirrored, -wide * sine, left], 1)]
    rows.append(torch.stack([high * sine * mirrored, high * cosine, top], 1))
    return torch.stack(rows, 1)


def _erased(images: Images, share: float, generator: torch.Generator) -> Images:
    """A rectangle of uniform noise in this share of the pictures.

    Zhong, Zheng, Kang, Li and Yang, "Random erasing data augmentation", 2017.
    """
    count, _, height, width = images.shape
    area = _uniform(count, generator, *_ERASED)
    aspect = torch.exp(_uniform(count, generator, math.log(_ASPECT[0]), math.log(_ASPECT[1])))
    chosen = torch.rand(count, generator=generator) < share
    inside = chosen.view(-1, 1, 1)
    for length, part, axis in ((height, (area / aspect).sqrt(), 1), (width, (area * aspect).sqrt(), 2)):
        first = _uniform(count, generator) * (1 - part).clamp_min(0) * length
        lines = torch.arange(length).view((1, -1, 1) if axis == 1 else (1, 1, -1))
        column = first.view(-1, 1, 1)
        inside = inside & (lines >= column) & (lines < column + part.view(-1, 1, 1) * length)
    noise = torch.rand(images.shape, generator=generator).to(images)
    return torch.where(inside[:, None].to(images.device), noise, images)
