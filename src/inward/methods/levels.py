"""Whole 8-bit levels: what a picture file can hold of an adversarial image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.types import Images

LEVELS = 255
# So that an eps of 4 / 255 in any float is 4 levels, in levels.
_SLACK = 1e-5


def eight_bit(images: Images) -> Images:
    """The nearest picture of whole 8-bit levels."""
    return (images * LEVELS).round() / LEVELS


def rounded(images: Images, ball: Ball) -> Images:
    """The nearest 8-bit picture; towards the 8-bit original where the nearest would leave the ball around that."""
    start = (ball.center * LEVELS).round()
    exact = images * LEVELS - start
    change = ((images * LEVELS).round() - start).clamp(-start, LEVELS - start)
    return ((start + _no_longer(change, exact, ball.eps, ball.p)) / LEVELS).clamp(0, 1)


def whole(change: Images, eps: float, p: float) -> Images:
    """The nearest change of whole levels; towards 0 where the nearest would be longer than eps."""
    exact = change * LEVELS
    return _no_longer(exact.round(), exact, eps, p) / LEVELS


def _no_longer(change: Images, exact: Images, eps: float | Tensor, p: float) -> Images:
    """The change in whole levels, or where it is too long, that of ``exact`` towards 0."""
    radius = torch.as_tensor(eps, dtype=torch.float64).to(exact).view(-1, 1, 1, 1) * LEVELS
    if p == math.inf:
        most = (radius + _SLACK).floor()
        return torch.minimum(torch.maximum(change, -most), most)
    length = lengths(exact, p).to(exact)
    shorter = (exact * torch.where(length > radius, radius / length, 1)).trunc().to(change)
    return torch.where(lengths(change, p).to(radius) <= radius + _SLACK, change, shorter)


def lengths(change: Images, p: float = 2) -> Tensor:
    """The p-norm of each image's change, in float64, as (N, 1, 1, 1)."""
    return change.cpu().double().flatten(1).norm(p=p, dim=1).view(-1, 1, 1, 1)
