"""Steps against slow replicas, image by image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inward.columns import steps
from inward.columns.constraints import Ball, normalized
from inward.columns.steps import Step

SHAPE = (3, 2, 5, 7)
CENTER = torch.full(SHAPE, 0.5, dtype=torch.float64)
LINF, L2 = Ball(CENTER, 0.1), Ball(CENTER, 0.1, 2)


def gradients(count: int = 5) -> list[Tensor]:
    """Gradients of images whose sizes differ by orders of magnitude."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([1e-6, 1.0, 1e4], dtype=torch.float64).view(3, 1, 1, 1)
    return [size * torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]


def climb(step: Step, found: list[Tensor], start: Tensor) -> Tensor:
    """As ``ascend`` does: the optimizer is handed the negative gradient."""
    parameter = start.clone()
    optimizer = step([parameter])
    for g in found:
        parameter.grad = -g
        optimizer.step()
    return parameter


def slow_steepest(x: Tensor, found: list[Tensor], p: float) -> Tensor:
    for g in found:
        x = x + 0.03 * (g.sign() if p == math.inf else g / (g * g).sum().sqrt())
    return x


def slow_momentum(x: Tensor, found: list[Tensor], p: float, decay: float) -> Tensor:
    """Dong et al. 2018, equations 6 and 7: v <- decay v + g / ||g||_1; x <- x + lr sign(v)."""
    v = torch.zeros_like(x)
    for g in found:
        v = decay * v + g / g.abs().sum()
        x = x + 0.03 * (v.sign() if p == math.inf else v / (v * v).sum().sqrt())
    return x


def slow_adam(x: Tensor, found: list[Tensor], lr: float, b1: float, b2: float, eps: float) -> Tensor:
    """Kingma and Ba 2015, algorithm 1, going up."""
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for t, g in enumerate(found, start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x + lr * (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + eps)
    return x


CASES = {
    "steepest Linf": (steps.steepest(0.03, LINF.steepest), lambda x, g: slow_steepest(x, g, math.inf)),
    "steepest L2": (steps.steepest(0.03, L2.steepest), lambda x, g: slow_steepest(x, g, 2)),
    "normalized": (steps.steepest(0.03, normalized), lambda x, g: slow_steepest(x, g, 2)),
    "momentum Linf": (steps.momentum(0.03, LINF.steepest), lambda x, g: slow_momentum(x, g, math.inf, 1.0)),
    "momentum L2": (steps.momentum(0.03, L2.steepest, 0.7), lambda x, g: slow_momentum(x, g, 2, 0.7)),
    "gradient": (steps.gradient(0.2), lambda x, g: x + 0.2 * sum(g)),
    "adam": (steps.adam(0.05), lambda x, g: slow_adam(x, g, 0.05, 0.9, 0.999, 1e-8)),
    "adam slow": (
        steps.adam(0.05, betas=(0.5, 0.9), eps=1e-3),
        lambda x, g: slow_adam(x, g, 0.05, 0.5, 0.9, 1e-3),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_its_formula_for_each_image_alone(name: str) -> None:
    step, slow = CASES[name]
    found = gradients()
    together = climb(step, found, CENTER)
    for i in range(3):
        expected = slow(CENTER[i], [g[i] for g in found])
        # float64; the third image of the plain gradient goes to 1e4.
        torch.testing.assert_close(together[i], expected, rtol=1e-12, atol=1e-12)
        alone = climb(step, [g[i : i + 1] for g in found], CENTER[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_a_zero_gradient_moves_nothing_and_stays_finite(name: str) -> None:
    step, _ = CASES[name]
    found = gradients()
    for g in found:
        g[1] = 0
    moved = climb(step, found, CENTER)
    assert torch.equal(moved[1], CENTER[1])
    assert moved.isfinite().all()
    assert (moved - CENTER)[::2].abs().amax((1, 2, 3)).min() > 1e-8


def test_momentum_goes_on_where_the_gradient_ends() -> None:
    """After one gradient and then none, the velocity with decay 1 stays, so that two more steps are the same."""
    first = gradients(1)[0]
    found = climb(steps.momentum(0.01, LINF.steepest), [first, 0 * first, 0 * first], CENTER)
    torch.testing.assert_close(found, CENTER + 0.03 * first.sign(), rtol=0, atol=1e-14)


def test_momentum_adds_gradients_of_unit_l1_norm() -> None:
    """With the identity for a direction, which hides no factor: 0.5 v + g / ||g||_1."""
    found = gradients(2)
    first, second = (g / g.abs().flatten(1).sum(1).view(3, 1, 1, 1) for g in found)
    moved = climb(steps.momentum(0.1, lambda v: v, 0.5), found, CENTER)
    torch.testing.assert_close(moved, CENTER + 0.1 * (first + (0.5 * first + second)), rtol=0, atol=1e-14)


def test_parameters_of_five_axes_are_stepped_by_image() -> None:
    """Spectra are (N, C, H, W / 2 + 1, 2); here the batch is as long as the channel axis."""
    g = torch.randn((3, 3, 5, 4, 2), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    g = g * torch.tensor([1.0, 10, 100]).view(3, 1, 1, 1, 1)
    for step in (steps.steepest(0.5, normalized), steps.momentum(0.5, normalized)):
        moved = climb(step, [g], torch.zeros_like(g))
        assert moved.flatten(1).norm(dim=1).tolist() == pytest.approx([0.5] * 3, rel=1e-12)
