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
# What float32 leaves of a level at most, in levels.
_TIE = 1e-4


def eight_bit(images: Images) -> Images:
    """The nearest picture of whole 8-bit levels."""
    return (images * LEVELS).round() / LEVELS


def rounded(images: Images, ball: Ball) -> Images:
    """The nearest 8-bit picture; where it would leave the ball around the 8-bit original, values are rounded to that.

    As many as needed (l1, l2), those first that lie nearest to the middle of two levels.
    """
    start = (ball.center * LEVELS).round()
    exact = (images * LEVELS).clamp(0, LEVELS) - start
    return ((start + _no_longer(exact, ball.eps, ball.p)) / LEVELS).clamp(0, 1)


def whole(change: Images, eps: float, p: float) -> Images:
    """The nearest change of whole levels; rounded towards 0 where the nearest would be longer than eps."""
    return _no_longer(change * LEVELS, eps, p) / LEVELS


def _no_longer(exact: Images, eps: float | Tensor, p: float) -> Images:
    """A change in whole levels, its values rounded towards 0 as far as it would be too long."""
    radius = torch.as_tensor(eps, dtype=torch.float64).cpu().view(-1, 1, 1, 1) * LEVELS
    if p == math.inf:
        most = (radius.to(exact) + _SLACK).floor()
        return _nearest(exact).clamp(-most, most)
    nearest = _nearest(exact)
    too_long = (lengths(nearest, p) > radius + _SLACK).flatten().nonzero()[:, 0]
    if len(too_long) == 0:
        return nearest
    own = radius if len(radius) == 1 else radius[too_long]
    where = too_long.to(exact.device)
    return nearest.index_copy(0, where, _shortened(exact[where].cpu().double(), own, p).to(nearest))


def _nearest(exact: Tensor) -> Tensor:
    """The nearest whole change, from the middle of two towards 0: steps of half a level are common, and rounding
    errors of float32 do not decide.
    """
    return exact.sign() * (exact.abs() - 0.5 - _TIE).ceil().clamp_min(0)


def _shortened(exact: Tensor, radius: Tensor, p: float) -> Tensor:
    """Of changes that are too long as the nearest levels: with the fewest values rounded towards 0, in that order."""
    exact = exact * (radius / lengths(exact, p)).clamp_max(1)
    low, near = exact.trunc().flatten(1), _nearest(exact).flatten(1)
    spared = near.abs() ** p - low.abs() ** p
    excess = (near.abs() ** p).sum(1, keepdim=True) - (radius.flatten(1) + _SLACK) ** p
    order = (exact.flatten(1) - low).abs().where(spared > 0, math.inf).argsort(dim=1, stable=True)
    before = spared.gather(1, order).cumsum(1) - spared.gather(1, order)
    back = torch.zeros_like(spared, dtype=torch.bool).scatter(1, order, before < excess)
    return torch.where(back, low, near).view_as(exact)


def lengths(change: Images, p: float = 2) -> Tensor:
    """The p-norm of each image's change, in float64, as (N, 1, 1, 1)."""
    return change.cpu().double().flatten(1).norm(p=p, dim=1).view(-1, 1, 1, 1)
