"""FAB: onto the boundary that the gradient shows, and from there back towards the image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.columns.objectives import ClassScore
from inward.methods.course import Course
from inward.methods.looked import look
from inward.types import Images

# The authors' extrapolation, largest pull towards the image, and step back after a success.
_BEYOND, _PULL, _BACK = 1.05, 0.1, 0.9
# What rounding may add to a length; what is judged is inside the ball to the last digit.
_SLACK = 1e-6


def search(course: Course, goals: Tensor, steps: int) -> None:
    """One run towards the class ``goals`` (N,) of each image, for the images that need it.

    Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2020: the
    smallest change is looked for, outside the ball too, and counts where it is inside.
    """
    course.begin(steps)
    numbers = course.left
    now = course.asked.images[numbers.to(course.asked.images.device)]
    for _ in range(steps):
        if len(numbers) == 0:
            return
        where = numbers.to(now.device)
        images = course.asked.images[where]
        labels = tuple(course.asked.labels[i] for i in numbers.tolist())
        rise = ClassScore(tuple(goals[numbers].tolist())) - ClassScore(labels)
        found = look(course.net, now, rise)
        # What is across the boundary counts if the ball holds it, and goes back in any case.
        across = course.asked.fooled(found.logits, numbers)
        near = across.clone()
        if across.any():
            near &= course.ball.select(where).distance(now) <= float(course.ball.eps) * (1 + _SLACK)
        course.count(numbers, found.scores)
        gone = torch.zeros(len(numbers), dtype=torch.bool)
        if (tried := near.nonzero()[:, 0]).numel():
            on = tried.to(now.device)
            gone[tried] = course.offer(now[on], numbers[tried], found.logits[on])
        own = _step(now, images, found.scores, found.gradient, course.ball.p)
        back = images + _BACK * (now - images)
        stay = (~gone).to(now.device)
        now = torch.where(across.to(now.device).view(-1, 1, 1, 1), back, own)[stay]
        numbers = numbers[~gone]
    course.keep(now, numbers)


def _step(now: Images, images: Images, scores: Tensor, gradient: Images, p: float) -> Images:
    """Between the boundary's nearest points of where it is and of the image, a little beyond each."""
    offset = scores.to(now) - (gradient * now).flatten(1).sum(1)
    first, second = (to_plane(at, gradient, offset, p) for at in (now, images))
    far, farther = (d.flatten(1).norm(p=p, dim=1).clamp_min(1e-8) for d in (first, second))
    pull = (far / (far + farther)).clamp_max(_PULL).view(-1, 1, 1, 1)
    return ((1 - pull) * (now + _BEYOND * first) + pull * (images + _BEYOND * second)).clamp(0, 1)


def to_plane(images: Images, slope: Images, offset: Tensor, p: float) -> Images:
    """The smallest change (p = 2 or infinity) within [0, 1] after which ``slope . x + offset`` is 0.

    Where [0, 1] does not reach the plane, as far as it reaches. ``offset`` is (N,).
    """
    x, w = images.flatten(1), slope.flatten(1)
    value = (x * w).sum(1) + offset
    along = -value.sign()[:, None] * w.sign()
    room = torch.where(along > 0, 1 - x, x)
    size = w.abs()
    speed = torch.ones_like(size) if p == math.inf else size
    # Moved by ``speed`` times how long, each value meets its bound at its own time.
    time = torch.where(size > 0, room / speed.clamp_min(1e-38), 0)
    ordered, order = time.sort(dim=1)
    gain, full = (size * speed).gather(1, order), (size * room).gather(1, order)
    before = torch.cat([torch.zeros_like(full[:, :1]), full.cumsum(1)[:, :-1]], 1)
    rest = gain.flip(1).cumsum(1).flip(1)
    # The first value that is still on its way when the plane is met.
    reached = before + rest * ordered >= value.abs()[:, None]
    first = reached.int().argmax(1, keepdim=True)
    long = (value.abs()[:, None] - before.gather(1, first)) / rest.gather(1, first).clamp_min(1e-38)
    long = torch.where(reached.any(1, keepdim=True), long, math.inf)
    change = along * torch.minimum((long * speed).nan_to_num(0.0, posinf=math.inf), room)
    return torch.where(size > 0, change, 0).view_as(images)
