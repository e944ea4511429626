"""Changes in whole levels: inside the ball, and as near to the change itself as they can be there."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.constraints import Ball
from inward.methods.levels import LEVELS, lengths, rounded, whole
from same import images


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-3, 3).filter(lambda v: abs(abs(v) % 1 - 0.5) > 1e-3), min_size=1, max_size=6),
    share=st.floats(1.0, 1.5),
    p=st.sampled_from((1.0, 2.0)),
)
def test_as_few_values_as_needed_are_rounded_towards_zero(values: list[float], share: float, p: float) -> None:
    """Beside all choices of which values are: in order of how near they lie to the middle, up to where it fits."""
    exact = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)
    radius = share * float(lengths(exact, p)) + 1e-9
    found = (whole(exact / LEVELS, radius / LEVELS, p) * LEVELS).flatten()
    assert float(lengths(found.view(1, 1, 1, -1), p)) <= radius + 2e-5
    near, low = exact.round().flatten(), exact.trunc().flatten()
    assert all(v in (a, b) for v, a, b in zip(found.tolist(), near.tolist(), low.tolist(), strict=True))
    away = (near != low).nonzero()[:, 0].tolist()
    order = sorted(away, key=lambda i: abs(values[i]) % 1)
    wanted = near.clone()
    for i in order:
        if float(wanted.norm(p=p)) <= radius + 1e-5:
            break
        wanted[i] = low[i]
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_rounded_picture_is_in_the_ball_around_its_original(p: float, channels: int) -> None:
    center = (images(3, channels, 9, 7) * LEVELS).round() / LEVELS
    eps = torch.tensor({1.0: [3.0, 1.0, 0.2], 2.0: [0.5, 0.1, 0.02], math.inf: [8 / 255, 3.5 / 255, 1 / 255]}[p])
    ball = Ball(center, eps, p)
    moved = ball.project(center + 0.3 * torch.cos(torch.arange(center.numel()).view(center.shape) * 1.7)).clamp(0, 1)
    found = rounded(moved, ball)
    levels: Tensor = found * LEVELS
    assert (levels - levels.round()).abs().max() < 1e-4
    change = (levels.round() - (center * LEVELS).round()).double() / LEVELS
    assert (lengths(change, p).flatten() <= eps.double() * (1 + 1e-5) + 1e-7).all()
    # All of it towards the original would lose far more.
    lost = lengths(moved - found, 2)
    towards = ((moved - center) * LEVELS).trunc() / LEVELS + center
    assert (lost <= lengths(moved - towards, 2) + 1e-9).all()


def test_the_ball_is_used_where_most_values_are_near_the_middle() -> None:
    """A change of 0.6 levels everywhere, within its own length: 36 of 100 values can be a whole level."""
    center = torch.full((2, 1, 10, 10), 100 / LEVELS)
    ball = Ball(center, 6.0 / LEVELS, 2)
    found = rounded(center + 0.6 / LEVELS, ball)
    assert ((found - center) * LEVELS).round().flatten(1).sum(1).tolist() == [36, 36]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_middle_of_two_levels_is_rounded_towards_the_original(dtype: torch.dtype) -> None:
    """As PGD's steps of half a level make it, whatever rounding errors do."""
    center = (torch.arange(256, dtype=dtype) / LEVELS).view(1, 1, 16, 16)
    for half in (-2.5, -0.5, 0.5, 1.5):
        moved = center + half / LEVELS
        inside = (moved >= 0) & (moved <= 1)
        change = ((rounded(moved, Ball(center, 8 / LEVELS)) - center) * LEVELS).round()
        assert (change[inside] == math.trunc(half)).all(), half
