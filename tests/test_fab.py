"""FAB: the nearest point of a plane within [0, 1], and the smallest change that is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward.columns.constraints import Ball
from inward.methods.attacked import attacked
from inward.methods.course import Course
from inward.methods.fab import search, to_plane
from same import images, seeded

SIZE = (5, 4)
P = {"linf": math.inf, "l2": 2}
pytestmark = pytest.mark.usefixtures("single_thread")


def by_bisection(x: Tensor, w: Tensor, offset: float, p: float) -> Tensor:
    """One image: how long each value must move, halved 200 times."""
    value = float((x * w).sum()) + offset
    along = -math.copysign(1, value) * w.sign()
    speed = torch.ones_like(w) if p == math.inf else w.abs()
    room = torch.where(along > 0, 1 - x, x)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        change = along * torch.minimum(middle * speed, room)
        low, high = (low, middle) if abs(float((change * w).sum())) >= abs(value) else (middle, high)
    return along * torch.minimum(high * speed, room)


@pytest.mark.parametrize("p", [2, math.inf])
def test_the_nearest_point_of_a_plane(p: float) -> None:
    x = images(6, 2, *SIZE, dtype=torch.float64)
    w = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    # Values that do not matter, one bound met at once, a plane on either side, one that [0, 1] does not reach.
    w[:, 0, 0] = 0
    x[0, 1, 1, 1], x[1, 1, 1, 1] = 0, 1
    gaps = torch.tensor([0.3, -0.3, 2.0, -2.0, 0.0, 1e3], dtype=torch.float64)
    offset = gaps - (w * x).flatten(1).sum(1)
    change = to_plane(x, w, offset, p)
    for i in range(6):
        torch.testing.assert_close(change[i], by_bisection(x[i], w[i], float(offset[i]), p), rtol=1e-9, atol=1e-12)
    left = ((x + change) * w).flatten(1).sum(1) + offset
    assert left[:5].abs().max() < 1e-12
    assert left[5] > 900
    assert (x + change).min() >= -1e-15
    assert (x + change).max() <= 1 + 1e-15
    # No other change of the same length is lower: with no bound in the way the closed form holds.
    free = to_plane(0.5 + 0 * x[:1], w[:1], 0.01 - (0.5 * w[:1]).flatten(1).sum(1), p)
    dual = w[:1].norm() if p == 2 else w[:1].abs().sum()
    assert free.flatten().norm(p=p).item() == pytest.approx(0.01 / dual.item(), rel=1e-9)


def test_without_a_slope_nothing_moves() -> None:
    x = images(2, 1, *SIZE)
    assert to_plane(x, torch.zeros_like(x), torch.ones(2), 2).abs().max() == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_network_it_needs_hardly_more_than_the_smallest_change(norm: str) -> None:
    """A ball 6 % too large is enough (it steps 5 % beyond the boundary), one 1 % too small is not."""
    module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, 2))).double()
    net = network(module, SIZE, channels=2)
    x = 0.5 + 0.1 * (images(4, 2, *SIZE, dtype=torch.float64) - 0.5)
    logits, slope = net(x), module[1].weight[0] - module[1].weight[1]
    dual = slope.abs().sum() if norm == "linf" else slope.norm()
    least = ((logits[:, 0] - logits[:, 1]).abs() / dual).tolist()
    for i in range(4):
        for share, expected in ((1.06, True), (0.99, False)):
            eps = least[i] * share
            asked = attacked(net, x[i : i + 1], None, None, eight_bit_judge=False, eps=eps, norm=norm)
            course = Course(asked, Ball(asked.images, eps, P[norm]), 10)
            search(course, 1 - asked.logits.argmax(1), 10)
            assert bool(course.goal.reached[0]) is expected
            moved = course.moved()
            assert course.ball.distance(moved.shown)[0] <= eps


@pytest.mark.parametrize(("norm", "eps"), [("linf", 1.5 / 255), ("l2", 0.15)])
def test_it_fools_a_curved_network_inside_the_ball(norm: str, eps: float) -> None:
    net = network(conv_net().double(), (9, 7), mean=(0.5,) * 3, std=(0.02,) * 3)
    x = images(24, 3, 9, 7, dtype=torch.float64)
    asked = attacked(net, x, None, None, eight_bit_judge=False, eps=eps, norm=norm)
    course = Course(asked, Ball(asked.images, eps, P[norm]), 30)
    search(course, asked.logits.argsort(1)[:, -2], 30)
    found = asked.result("fab", asked.parameters, course.moved())
    assert 4 <= int(found.success.sum()) < 24
    assert (getattr(found, norm) <= eps).all()
    assert torch.equal(found.success, net(found.adversarial).argmax(1) != x.new_tensor(asked.labels))
    assert found.steps[~found.success].tolist() == [30] * int((~found.success).sum())
