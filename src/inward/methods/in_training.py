"""Attacks on a network that is being trained: its weights change at every step, so nothing of it can be kept."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inward.columns.constraints import Ball, Box
from inward.errors import CallError
from inward.methods.attacked import Norm, P
from inward.types import Images, Scores


def inner(norm: Norm, steps: int, step_size: float) -> Callable[..., Images]:
    """The attack of adversarial training: ``steps`` of the share ``step_size`` of eps, from a random place in the ball.

    One step of 1.25 is the fast method of Wong, Rice and Kolter, "Fast is better than free", 2020; more are those of
    Madry et al., "Towards deep learning models resistant to adversarial attacks", 2017.

    Raises:
        CallError: for a norm that there is none of.
    """
    if norm not in P:
        raise CallError(f"there is no norm '{norm}'; write linf, l2 or l1")

    def attack(loss: Callable[[Images], Scores], images: Images, eps: float, generator: torch.Generator) -> Images:
        ball, box = Ball(images, eps, P[norm]), Box()
        seeds = torch.randint(2**62, (len(images),), generator=generator).tolist()
        now = box.project(ball.sample(images, seeds))
        for _ in range(steps):
            slope = _slope(loss, now)
            now = box.project(ball.project(now + step_size * eps * ball.steepest(slope)))
        return now

    return attack


def _slope(loss: Callable[[Images], Scores], images: Images) -> Tensor:
    shown = images.detach().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(loss(shown).sum(), shown)
    return slope
