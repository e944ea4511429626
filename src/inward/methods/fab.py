"""FAB: onto the boundary that the gradient shows, and from there back towards the image."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.columns.objectives import ClassScore, wide
from inward.errors import CallError
from inward.gradient import trace_for
from inward.methods.attacked import EPS, Attacked, Classes, Norm, P, attacked
from inward.methods.boundaries import lead, nearest_boundary, order_of
from inward.methods.course import Course, OnProgress, counted
from inward.methods.draws import own_draws
from inward.methods.looked import Look, look
from inward.methods.nearest import Nearest
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images, Logits

# The authors' extrapolation, largest pull towards the image, step back after a success, and steps of the final search.
_BEYOND, _PULL, _BACK, _FINAL = 1.05, 0.1, 0.9, 3
# By how much of what is left the final search stays on the far side of a boundary that it has found.
_ACROSS = 0.01
# What rounding may add to a length; what is judged is inside the ball to the last digit.
_SLACK = 1e-6
_TINY = 1e-38


@own_draws
def fab(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    norm: Norm = "linf",
    steps: int = 100,
    restarts: int = 1,
    radius: float | None = None,
    classes: int = 10,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Perturbation:
    """The smallest change that fools: onto the nearest boundary, as if the network were linear, and back again.

    Croce and Hein, "Minimally distorted adversarial examples with a fast adaptive boundary attack", 2019. Each step
    goes between the nearest points, within [0, 1], that the boundary has to the candidate and to the image, the more
    towards the image the nearer to the boundary it is; after a success a tenth of the way back. The nearest picture
    that fools is kept, and at last three secant steps from it towards the image look for a nearer one. The boundary
    is the nearest of those to the likeliest other classes, or that of the target.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        norm: linf, l2 or l1, the length of the change that is to be small.
        steps: steps of each start.
        restarts: how often to begin: at the image, and then at random places around it.
        radius: random places lie within half of this, or of the smallest change known where that is smaller. By
            default 8/255 (linf), 0.5 (l2), 12 (l1).
        classes: how many of the likeliest classes are considered, the label among them; each costs a backward
            pass a step.
        eight_bit: judge the 8-bit picture, as a file holds it; of those the smallest multiple of the change found
            that fools the network.
        seed: of the random places.
        on_progress: called after every step with (steps done, steps in all).

    Raises:
        CallError: for steps below 0, restarts below 1, fewer than two classes, a radius that is not above 0, a norm
            that there is none of, images not in [0, 1], classes that the network does not have, a target equal to
            the label, or a network of one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm=norm)
    counted("restarts", restarts)
    radius = EPS[norm] if radius is None else radius
    if steps < 0 or classes < 2:
        raise CallError(f"FAB takes 0 steps or more and considers 2 classes or more, not {steps} and {classes}")
    if not 0 < radius < math.inf:
        raise CallError(f"radius is how far random places lie and must be above 0, not {radius:g}; write 8/255")
    walk = _Nearer(asked, norm, classes, steps * restarts, on_progress)
    last, left = asked.images.clone(), walk.nearest.begin()
    seeds = asked.seeds(seed)
    for restart in range(restarts if len(left) else 0):
        start = asked.images[left.to(last.device)]
        if restart > 0:
            eps = walk.nearest.length[left].clamp_max(radius) / 2
            start = Ball(start, eps, P[norm]).sample(start, [seeds[i] + restart for i in left.tolist()]).clamp(0, 1)
        ended, _ = walk.run(left, start, steps)
        if restart == 0:
            # Of an image that withstands all, this is told: a random place has nothing to say.
            last[left.to(last.device)] = ended
    _closer(asked, walk.nearest)
    told = {"norm": norm, "steps": steps, "restarts": restarts, "radius": radius, "classes": classes, "seed": seed}
    return asked.result("fab", asked.parameters | told, walk.nearest.moved(last))


def search(course: Course, goals: Tensor, steps: int) -> None:
    """One run towards the boundary of the class ``goals`` (N,) of each image, for the images that need it.

    The smallest change is looked for, outside the ball too, and counts where it is inside.
    """
    course.begin(steps)
    start = course.asked.images[course.left.to(course.asked.images.device)]
    course.keep(*_Within(course, goals).run(course.left, start, steps))


class _Walk(ABC):
    """Steps onto a boundary and back towards the image."""

    asked: Attacked
    net: Network
    p: float

    @abstractmethod
    def look_at(self, now: Images, numbers: Tensor) -> Look:
        """How far candidates for the images with these numbers are above a boundary, and the slope."""

    @abstractmethod
    def judge(self, now: Images, numbers: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
        """Which candidates are across a boundary, and which images need no more work."""

    def run(self, numbers: Tensor, start: Images, steps: int) -> tuple[Tensor, Tensor]:
        """Where the images that still need work end, and their numbers."""
        now = start
        for _ in range(steps):
            if len(numbers) == 0:
                break
            found = self.look_at(now, numbers)
            images = self.asked.images[numbers.to(now.device)]
            now = _step(wide(now), wide(images), wide(found.scores), wide(found.gradient), self.p).to(now)
            with torch.no_grad():
                logits = trace_for(self.net, now, ["class"])["class"]
            across, gone = self.judge(now, numbers, logits)
            back = images + _BACK * (now - images)
            stay = (~gone).to(now.device)
            now = torch.where(across.to(now.device).view(-1, 1, 1, 1), back, now)[stay]
            numbers = numbers[~gone]
        return now, numbers


class _Within(_Walk):
    """Until a candidate is inside a ball; towards a class each."""

    def __init__(self, course: Course, goals: Tensor) -> None:
        self.asked, self.net, self.p = course.asked, course.net, course.ball.p
        self._course, self._goals = course, goals

    def look_at(self, now: Images, numbers: Tensor) -> Look:
        labels = tuple(self.asked.labels[i] for i in numbers.tolist())
        found = look(self.net, now, ClassScore(tuple(self._goals[numbers].tolist())) - ClassScore(labels))
        self._course.count(numbers, found.scores)
        return found

    def judge(self, now: Images, numbers: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
        across, ball = self.asked.fooled(logits, numbers), self._course.ball.select(numbers.to(now.device))
        near = across & (ball.distance(now) <= float(self._course.ball.eps) * (1 + _SLACK))
        gone = torch.zeros_like(across)
        if (tried := near.nonzero()[:, 0]).numel():
            on = tried.to(now.device)
            gone[tried] = self._course.offer(now[on], numbers[tried], logits[on])
        return across, gone


class _Nearer(_Walk):
    """To the end, for any candidate may still be nearer."""

    def __init__(self, asked: Attacked, norm: str, classes: int, total: int, on_progress: OnProgress | None) -> None:
        self.asked, self.net, self.p = asked, lean(asked.net, asked.size, half=False), P[norm]
        self.nearest, self._norm, self._order = Nearest(asked, norm), norm, order_of(asked, classes)
        self._done, self._total, self._on_progress = 0, total, on_progress

    def look_at(self, now: Images, numbers: Tensor) -> Look:
        if self.asked.targets is None:
            order = self._order[numbers.to(now.device)]
            found = nearest_boundary(self.net, now, order, self._norm)
            self.nearest.note(numbers, lead(found.logits, order))
        else:
            found = look(self.net, now, self.asked.lead.select(numbers.tolist()))
            self.nearest.note(numbers, found.scores)
        return found

    def judge(self, now: Images, numbers: Tensor, logits: Logits) -> tuple[Tensor, Tensor]:
        across = self.nearest.fooled(now, logits, numbers)
        self.nearest.offer(now, numbers, across)
        self._done += 1
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)
        return across, torch.zeros_like(across)


def _closer(asked: Attacked, nearest: Nearest) -> None:
    """The final search: secant steps on the way from each kept candidate to the image, judged by the plain network."""
    numbers = (nearest.reached & (nearest.length > 0)).nonzero()[:, 0]
    if len(numbers) == 0:
        return
    where = numbers.to(asked.images.device)
    images, change = asked.images[where], nearest.exact[where] - asked.images[where]
    low, high = (torch.full((len(numbers),), share, dtype=torch.float64) for share in (0, 1))
    below, above = (asked.judged(at, numbers)[1].double() for at in (images, images + change))
    for _ in range(_FINAL):
        met = low - below * (high - low) / (above - below)
        # What only the loop's network takes for fooled has no boundary in between.
        share = torch.where(above > 0, met + _ACROSS * (high - met), high).clamp(0, 1)
        now = images + share.to(images).view(-1, 1, 1, 1) * change
        across, leads = asked.judged(now, numbers)
        nearest.offer(now, numbers, across)
        leads = leads.double()
        low, below = torch.where(across, low, share), torch.where(across, below, leads)
        high, above = torch.where(across, share, high), torch.where(across, leads, above)


def _step(now: Images, images: Images, height: Tensor, slope: Images, p: float) -> Images:
    """Between the boundary's nearest points of where it is and of the image, a little beyond each."""
    behind = height + (slope * (images - now)).flatten(1).sum(1)
    first, second = (to_plane(at, slope, above, p) for at, above in ((now, height), (images, behind)))
    far, farther = (d.flatten(1).norm(p=p, dim=1).clamp_min(1e-8) for d in (first, second))
    pull = (far / (far + farther)).clamp_max(_PULL).view(-1, 1, 1, 1)
    return ((1 - pull) * (now + _BEYOND * first) + pull * (images + _BEYOND * second)).clamp(0, 1)


def to_plane(images: Images, slope: Images, height: Tensor, p: float) -> Images:
    """The smallest change within [0, 1] after which a linear score, ``height`` (N,) at the images, is 0.

    Where [0, 1] does not reach so far, as far as it reaches.
    """
    x, w = images.flatten(1), slope.flatten(1)
    along = -height.sign()[:, None] * w.sign()
    # 1 - x upwards, x downwards, and 0 where nothing is gained. (torch.where takes five times as long.)
    room = along.clamp_min(0) - along * x
    size, missing = w.abs(), height.abs()[:, None]
    move = _steepest_first(size, room, missing) if p == 1 else _together(size, room, missing, size if p == 2 else None)
    return (along * move).view_as(images)


def _together(size: Tensor, room: Tensor, missing: Tensor, speed: Tensor | None) -> Tensor:
    """All values at once, each at its speed (p = 2: as steep as it is; infinity: 1) until its bound.

    What they gain in a time is concave and made of straight pieces. So Newton's steps from time 0 come from below and
    end in the piece where the plane is met, after a few; sorting the bounds takes ten times as long.
    """
    gain, full = size if speed is None else size * speed, size * room
    bound = room if speed is None else room / speed.clamp_min(_TINY)
    time, whole = torch.zeros_like(missing), full.sum(1, keepdim=True)
    while True:
        free = (bound > time).to(gain)
        rest, held = (torch.linalg.vecdot(each, free)[:, None] for each in (gain, full))
        held = whole - held
        # Where all are at their bounds and more is missing, for ever.
        more = torch.where(missing > held, (missing - held) / rest.clamp_min(_TINY), 0).maximum(time)
        # So written, what is not a number ends it too.
        if not (more > time).any():
            return torch.minimum(time if speed is None else time * speed, room)
        time = more


def _steepest_first(size: Tensor, room: Tensor, missing: Tensor) -> Tensor:
    """p = 1: one value after the other to its bound, in the order of the slopes."""
    ordered, order = size.sort(dim=1, descending=True)
    most = room.gather(1, order)
    full = ordered * most
    left = (missing - (full.cumsum(1) - full)).clamp_min(0)
    return torch.zeros_like(size).scatter(1, order, torch.minimum(left / ordered.clamp_min(_TINY), most))
