"""FAB: the nearest point of a plane within [0, 1], and the smallest change that is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError
from inward.columns.constraints import Ball
from inward.methods.attacked import attacked
from inward.methods.course import Course
from inward.methods.fab import fab, search, to_plane
from minimal import P, Sharp, linear, whole_levels
from same import images, seeded

SIZE = (5, 4)
pytestmark = pytest.mark.usefixtures("single_thread")


def by_bisection(x: Tensor, w: Tensor, height: float, p: float) -> Tensor:
    """One image: how long each value must move, halved 200 times."""
    along = -math.copysign(1, height) * w.sign()
    speed = torch.ones_like(w) if p == math.inf else w.abs()
    room = torch.where(along > 0, 1 - x, x)
    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        change = along * torch.minimum(middle * speed, room)
        low, high = (low, middle) if abs(float((change * w).sum())) >= abs(height) else (middle, high)
    return along * torch.minimum(high * speed, room)


def planes() -> tuple[Tensor, Tensor, Tensor]:
    """Values that do not matter, one bound met at once, a plane on either side, one that [0, 1] does not reach."""
    x = images(6, 2, *SIZE, dtype=torch.float64)
    w = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    w[:, 0, 0] = 0
    x[0, 1, 1, 1], x[1, 1, 1, 1] = 0, 1
    return x, w, torch.tensor([0.3, -0.3, 2.0, -2.0, 0.0, 1e3], dtype=torch.float64)


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_the_nearest_point_of_a_plane(p: float) -> None:
    x, w, height = planes()
    change = to_plane(x, w, height, p)
    for i in range(6 if p > 1 else 0):
        torch.testing.assert_close(change[i], by_bisection(x[i], w[i], float(height[i]), p), rtol=1e-9, atol=1e-12)
    left = height + (change * w).flatten(1).sum(1)
    assert left[:5].abs().max() < 1e-12
    assert left[5] > 900
    assert (x + change).min() >= -1e-15
    assert (x + change).max() <= 1 + 1e-15
    assert change[w == 0].abs().max() == 0
    # No other change of the same length is lower: with no bound in the way the closed form holds.
    free = to_plane(0.5 + 0 * x[:1], w[:1], torch.tensor([0.01], dtype=torch.float64), p)
    dual = w[:1].flatten().norm(p={1: math.inf, 2: 2, math.inf: 1}[p])
    assert free.flatten().norm(p=p).item() == pytest.approx(0.01 / dual.item(), rel=1e-9)


@pytest.mark.parametrize("p", [1, math.inf])
def test_no_linear_program_finds_a_nearer_point(p: float) -> None:
    """scipy: minimize the length of u - v, with the changes u up and v down within [0, 1]."""
    optimize = pytest.importorskip("scipy.optimize")
    x, w, height = planes()
    change = to_plane(x, w, height, p).flatten(1)
    for i in range(4):
        up, slope, count = x[i].flatten().numpy(), w[i].flatten().numpy(), x[i].numel()
        bounds = [*((0, 1 - v) for v in up), *((0, v) for v in up)]
        equal, cost = np.concatenate([slope, -slope])[None], np.ones(2 * count)
        above = limit = None
        if p == math.inf:
            # One more variable, which no change is above.
            equal, cost = np.append(equal, 0)[None], np.append(np.zeros(2 * count), 1)
            above, limit = np.hstack([np.eye(2 * count), -np.ones((2 * count, 1))]), np.zeros(2 * count)
            bounds = [*bounds, (0, 1)]
        least = optimize.linprog(cost, above, limit, equal, [-float(height[i])], bounds)
        assert least.success
        assert change[i].norm(p=p).item() == pytest.approx(least.fun, rel=1e-7)


def test_no_change_on_the_plane_is_shorter() -> None:
    """Every change that goes on to another point of the plane within [0, 1] is longer, so that p = 2 is right too."""
    x, w, height = planes()
    change = to_plane(x, w, height, 2)
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        other = torch.rand(x.shape, generator=generator, dtype=torch.float64) - x
        # The plane is met between this point, or the opposite corner, and the one found.
        gap = height + (other * w).flatten(1).sum(1)
        corner = torch.where((w > 0) ^ (gap[:, None, None, None] > 0), 1.0, 0.0) - x
        far = height + (corner * w).flatten(1).sum(1)
        share = (gap / (gap - far)).clamp(0, 1).view(-1, 1, 1, 1)
        there = other + share * (corner - other)
        assert (height + (there * w).flatten(1).sum(1))[:4].abs().max() < 1e-9
        assert (there.flatten(1).norm(dim=1) >= change.flatten(1).norm(dim=1))[:4].all()


def test_without_a_slope_nothing_moves() -> None:
    x = images(2, 1, *SIZE)
    for p in (1, 2, math.inf):
        assert to_plane(x, torch.zeros_like(x), torch.ones(2), p).abs().max() == 0


def slow_fab(module: nn.Module, image: Tensor, norm: str, steps: int) -> float:
    """Algorithm 1 of the paper without restarts, of one image; the length of the nearest candidate that fools."""
    p, dual = P[norm], {"linf": 1, "l2": 2, "l1": math.inf}[norm]
    label = int(module(image[None]).argmax())
    now, best = image, math.inf
    for _ in range(steps):
        now = now.detach().requires_grad_(True)
        logits = module(now[None])[0]
        ways = []
        for k in range(len(logits)):
            if k != label:
                rise = logits[k] - logits[label]
                (w,) = torch.autograd.grad(rise, now, retain_graph=True)
                ways.append((abs(rise.item()) / w.flatten().norm(p=dual).item(), rise.item(), w))
        _, rise, w = min(ways, key=lambda way: way[0])
        now = now.detach()
        behind = rise + float(((image - now) * w).sum())
        first, second = (
            to_plane(a[None], w[None], torch.tensor([h], dtype=torch.float64), p)[0]
            for a, h in ((now, rise), (image, behind))
        )
        near, far = (max(d.flatten().norm(p=p).item(), 1e-8) for d in (first, second))
        pull = min(near / (near + far), 0.1)
        now = ((1 - pull) * (now + 1.05 * first) + pull * (image + 1.05 * second)).clamp(0, 1)
        if int(module(now[None]).argmax()) != label:
            best = min(best, (now - image).flatten().norm(p=p).item())
            now = image + 0.9 * (now - image)
    return best


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_is_its_slow_replica_and_the_final_search_comes_nearer(norm: Any) -> None:
    sharp = Sharp(conv_net().double()).eval()
    net, x = network(sharp, (9, 7)), whole_levels(5)
    found = fab(net, x, norm=norm, steps=8, eight_bit=False)
    lengths = getattr(found, norm)
    for i in range(5):
        slow = slow_fab(sharp, x[i], norm, 8)
        # The last of it is 5 % beyond a boundary, at the most.
        assert 0.94 * slow < lengths[i] <= slow * (1 + 1e-6)
    assert found.success.all()
    assert found.steps.tolist() == [8] * 5


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_network_it_is_the_closed_form(norm: Any, channels: int) -> None:
    """The nearest of the planes; in l1 values go to their bounds, one after the other, until it is met."""
    module, net, shown = linear(channels)
    found = fab(net, shown, norm=norm, steps=6, eight_bit=False)
    weight, logits = module.fc.weight.detach(), net(shown)  # type: ignore[union-attr]
    answers = logits.argmax(1)
    least = torch.full((5,), math.inf, dtype=torch.float64)
    for k in range(4):
        slope = (weight[k] - weight[answers]).view_as(shown)
        way = to_plane(shown, slope, (logits[:, k] - logits.gather(1, answers[:, None])[:, 0]), P[norm])
        least = torch.where(answers == k, least, torch.minimum(least, way.flatten(1).norm(p=P[norm], dim=1)))
    assert found.success.all()
    # A hundredth of 5 % beyond the boundary, and a hundredth of that again, and again. In l1 the way back shortens all
    # values alike, and not the last first.
    torch.testing.assert_close(getattr(found, norm), least, rtol=5e-4 if norm == "l1" else 1e-6, atol=0)


class Bowl(nn.Module):
    """From the middle, where it is flat, the boundary is 0.2 away in all directions."""

    def forward(self, x: Tensor) -> Tensor:
        far = (x - 0.5).square().flatten(1).sum(1)
        return torch.stack([torch.full_like(far, 0.04), far], 1)


def test_random_starts_find_what_the_image_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = network(Bowl().eval().double(), (9, 7)), torch.full((2, 3, 9, 7), 0.5, dtype=torch.float64)
    options: dict[str, Any] = {"norm": "l2", "steps": 4, "eight_bit": False}
    assert not fab(net, x, **options).success.any()
    drawn: list[Tensor] = []
    sample = Ball.sample

    def watched(ball: Ball, *given: Any) -> Tensor:
        drawn.append(torch.as_tensor(ball.eps))
        return sample(ball, *given)

    monkeypatch.setattr(Ball, "sample", watched)
    found = fab(net, x, restarts=3, radius=0.3, **options)
    # The parabola's tangent is 1 % off at the last steps' distance from the boundary.
    assert ((found.l2 > 0.2) & (found.l2 < 0.202)).all()
    assert found.steps.tolist() == [12, 12]
    # Half of the radius, and then of what is known, before the final search.
    assert drawn[0].tolist() == [0.15, 0.15]
    assert ((drawn[1] > 0.1) & (drawn[1] < 0.107)).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_no_worse_than_torchattacks_s(norm: Any) -> None:
    """torchattacks 3.5.1: FAB, untargeted, with as many steps; it computes in float32, and its l1 raises an error."""
    torchattacks = pytest.importorskip("torchattacks")
    module = Sharp(conv_net()).eval()
    x = whole_levels(7).float()
    labels = module(x).argmax(1)
    with torch.random.fork_rng():
        theirs = torchattacks.FAB(module, norm=norm.capitalize(), eps=100.0, steps=15, n_classes=5)(x, labels)
    found = fab(network(module, (9, 7)), x, norm=norm, steps=15, eight_bit=False)
    fooled = module(theirs).argmax(1) != labels
    assert found.success.sum() >= fooled.sum() >= 5
    lengths = (theirs.double() - x.double()).flatten(1).norm(p=P[norm], dim=1)
    assert (getattr(found, norm)[fooled] <= lengths[fooled] * 1.001).all()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"steps": -1}, "0 steps or more"),
        ({"classes": 1}, "considers 2 classes or more, not 100 and 1"),
        ({"restarts": 0}, "restarts must be 1 or more"),
        ({"radius": 0.0}, "radius is how far random places lie"),
        ({"norm": "l0"}, "no norm 'l0'"),
        ({"label": [1] * 3, "target": "class:1"}, "the target class:1 is the label itself"),
    ],
    ids=str,
)
def test_senseless_calls_are_refused(options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        fab(network(conv_net().double(), (9, 7)), whole_levels(3), **options)


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


@pytest.mark.parametrize("p", [2, math.inf])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.timeout(60)
def test_a_slope_that_is_no_number_does_not_go_on_for_ever(p: float, wrong: float) -> None:
    x, w, height = planes()
    w[2, 0, 1, 1] = wrong
    change = to_plane(x, w, height, p)
    others = torch.arange(6) != 2
    torch.testing.assert_close(change[others], to_plane(x[others], w[others], height[others], p))
