"""The pointing game: whether a map points into a mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.results import Attribution
from inward.scoring.planes import planes_of
from inward.types import Scores


@dataclass(frozen=True, eq=False)
class Pointing:
    """Where a map points.

    Attributes:
        hits: (N,), 1 where the largest value lies in the mask or near it, else 0; where several are
            the largest, the share of them that do.
        inside: (N,), the share of the sum of all values above 0 that lies in the mask itself; nan
            where there are none.
    """

    hits: Scores
    inside: Scores


def pointing_game(attribution: Attribution, mask: Tensor, *, tolerance: float = 15) -> Pointing:
    """Whether the largest value of a map lies on the object.

    Zhang, Lin, Brandt, Shen and Sclaroff, "Top-down neural attention by excitation backprop", 2016;
    beside it the share of the map that lies there, the energy-based pointing game of Wang et al.,
    "Score-CAM: score-weighted visual explanations for convolutional neural networks", 2020.

    Args:
        attribution: the map; from a coarser grid it is enlarged bilinearly.
        mask: (N, H, W) or, one for all images, (H, W): bool, True on the object.
        tolerance: how far beside the object still counts as a hit, in pixels, from center to center;
            15 in the paper.

    Raises:
        CallError: for a mask that is not bool, not of the images' height and width, or empty, and for a
            tolerance below 0.
    """
    if not (tolerance >= 0 and math.isfinite(tolerance)):
        raise CallError(f"the tolerance is 0 pixels or more, not {tolerance:g}; write 15")
    planes, object_ = planes_of(attribution), _fitting(attribution, mask)
    largest = planes == planes.amax((1, 2), keepdim=True)
    near = _dilated(object_, tolerance)
    hits = (largest & near).sum((1, 2)).double() / largest.sum((1, 2))
    positive = planes.clamp_min(0)
    # 0 / 0 is nan: where nothing is positive there is no share.
    return Pointing(hits, (positive * object_).sum((1, 2)) / positive.sum((1, 2)))


def _fitting(attribution: Attribution, mask: Tensor) -> Tensor:
    count, size = len(attribution), attribution.size
    if mask.dtype != torch.bool:
        raise CallError(f"a mask is a bool tensor, True on the object, not {mask.dtype}; give mask > 0.5")
    if tuple(mask.shape) not in (size, (count, *size)):
        wanted = f"({size[0]}, {size[1]}) or ({count}, {size[0]}, {size[1]})"
        raise CallError(f"the mask has the shape {tuple(mask.shape)}, which does not fit; give one of {wanted}")
    every = mask.detach().cpu().expand(count, *size)
    if not every.flatten(1).any(1).all():
        first = int((~every.flatten(1).any(1)).nonzero()[0])
        raise CallError(f"the mask of image {first} is empty, so there is nothing to point at; leave that image out")
    return every


def _dilated(mask: Tensor, radius: float) -> Tensor:
    """All pixels of (N, H, W) whose center is at most ``radius`` away from the center of one in the mask."""
    height, width = mask.shape[1:]
    found = mask.clone()
    for dy in range(-min(int(radius), height - 1), min(int(radius), height - 1) + 1):
        reach = min(int(math.sqrt(radius**2 - dy**2)), width - 1)
        wide = F.max_pool2d(mask.double(), (1, 2 * reach + 1), stride=1, padding=(0, reach)) > 0
        found[:, max(0, dy) : height + min(0, dy)] |= wide[:, max(0, -dy) : height - max(0, dy)]
    return found
