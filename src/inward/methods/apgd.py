"""Auto-PGD: ascent with momentum whose step is halved, from the best point, where it no longer pays."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.columns.objectives import Objective, TargetedDLR
from inward.errors import InwardError
from inward.methods.attacked import Attacked, Classes, Norm, attacked
from inward.methods.course import Course, OnProgress, ball_of, counted, radius, two_norms
from inward.methods.draws import own_draws
from inward.methods.looked import look
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

AutoLoss: TypeAlias = Literal["cross-entropy", "margin", "dlr", "targeted-dlr"]
"""What is climbed; ``targeted-dlr``: towards each of the next classes in turn."""

# The share of the way from the last move that a step keeps, and of moves that must raise the score.
_MOMENTUM = 0.25
_RISING = 0.75


@own_draws
def apgd(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    loss: AutoLoss = "cross-entropy",
    steps: int = 100,
    classes: int = 9,
    restarts: int = 1,
    stop: bool = True,
    eot: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Perturbation:
    """PGD that needs no step size: it begins with 2 eps, and is halved when the score stops rising.

    Auto-PGD: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
    parameter-free attacks", 2020. Steps have momentum. At checkpoints, which come closer and closer, the step is
    halved and the search goes on from the best point so far, where fewer than three quarters of the steps since
    the last checkpoint raised the score, or where no better point was found with the same step.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2).
            By default 8/255 (linf), 0.5 (l2).
        norm: linf or l2.
        loss: what is climbed: cross-entropy, margin, dlr, or targeted-dlr, which heads for each of the next
            classes in turn (with a target: for that one) and counts any other answer as success.
        steps: steps at most, of every start.
        classes: how many of the largest other logits targeted-dlr heads for.
        restarts: how often to begin anew with the images that withstood.
        stop: leave an image alone once it fools the network.
        eot: runs of the network over which each gradient is averaged, and the logits by which a candidate counts on
            the way. More than 1 only helps where the network draws random numbers.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of the random starts, and of what a random network draws.
        on_progress: called with (passes done, passes at most).

    Raises:
        CallError: for an eps outside (0, 1] (linf), the norm l1, steps, classes, restarts or eot below 1, images not
            in [0, 1], classes that the network does not have, a target equal to the label, a network of one
            output, or of fewer than 3 (dlr) or 4 (targeted dlr).
    """
    eps = radius(eps, norm)
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm, eot=eot)
    counted("steps", steps)
    counted("restarts", restarts)
    objectives = climbed(asked, loss, counted("classes", classes))
    passes = len(objectives) * restarts * steps
    course = Course(asked, ball_of(asked, eps, two_norms(norm)), passes, stop=stop, on_progress=on_progress)
    for i, objective in enumerate(objectives):
        for restart in range(restarts):
            climb(course, objective, steps, seed + i * restarts + restart)
    told = {"eps": eps, "norm": norm, "loss": loss, "steps": steps, "classes": classes, "restarts": restarts}
    return asked.result("apgd", asked.parameters | told | {"stop": stop, "eot": eot, "seed": seed}, course.moved())


def climbed(asked: Attacked, loss: AutoLoss, classes: int) -> list[Objective]:
    """What is climbed, one after the other. Raises CallError for a loss that these classes do not have."""
    if loss != "targeted-dlr":
        return [asked.objective(loss)]
    asked.check_classes(loss, 4)
    if asked.targets is not None:
        return [asked.objective("dlr")]
    ratios = (TargetedDLR(asked.labels, targets=tuple(goals)) for goals in next_classes(asked, classes).T.tolist())
    return [asked.averaged(ratio) for ratio in ratios]


def next_classes(asked: Attacked, classes: int) -> Tensor:
    """The classes of the largest logits but for the label's, (N, classes), the largest first."""
    own = torch.tensor(asked.labels, device=asked.logits.device)[:, None]
    others = asked.logits.float().scatter(1, own, -torch.inf)
    return others.topk(min(classes, others.shape[1] - 1), dim=1).indices


def checkpoints(steps: int) -> tuple[int, ...]:
    """After how many steps the step size is looked at: 22 % of them, then 19 %, 16 % and so on, no fewer than 6 %."""
    # In whole percents, which floats would round up beyond the next step.
    ends, percents = [], [0, 22]
    while percents[-1] <= 100:
        ends.append(-(-percents[-1] * steps // 100))
        percents.append(percents[-1] + max(percents[-1] - percents[-2] - 3, 6))
    return tuple(after for before, after in pairwise([0, *ends]) if after > before)


def climb(course: Course, objective: Objective, steps: int, seed: int) -> None:
    """One run of Auto-PGD from a random start, for the images that need it."""
    course.begin(steps)
    if len(numbers := course.left) == 0:
        return
    run = _Run(course, objective, numbers, seed)
    checks, last = checkpoints(steps), 0
    for step in range(1, steps + 1):
        if len(run.numbers) == 0:
            return
        course.count(run.numbers, run.score)
        run.move(_MOMENTUM if step > 1 else 0.0)
        if step in checks:
            run.check(step - last)
            last = step
    course.keep(run.best, run.numbers)


class _Run:
    """The state of one run, of the images that are in it; each attribute has an entry an image.

    Attributes:
        now, before: where each is, and was before its last move.
        score, gradient: at ``now``.
        best, best_score, best_gradient: where the score was largest.
        length: of the step.
        rose: moves since the last checkpoint that raised the score.
        halved, checked: whether the step was halved at the last checkpoint, and the best score then.
    """

    _rows = (
        *("now", "before", "score", "gradient", "best", "best_score", "best_gradient"),
        *("length", "rose", "halved", "checked"),
    )

    def __init__(self, course: Course, objective: Objective, numbers: Tensor, seed: int) -> None:
        self.course, self.whole, self.numbers = course, objective, numbers
        self._narrow()
        images = course.asked.images[numbers.to(course.asked.images.device)]
        seeds = course.asked.seeds(seed)
        self.now = self._inside(self.ball.sample(images, [seeds[i] for i in numbers.tolist()]))
        self.before = self.now
        found = look(course.net, self.now, self.objective)
        self.score, self.gradient = found.scores, self._finite(found.gradient)
        self.best, self.best_score, self.best_gradient = self.now, self.score, self.gradient
        self.length = torch.full((len(images), 1, 1, 1), 2.0).to(images) * course.ball.eps
        self.rose = torch.zeros_like(self.score)
        self.halved = torch.zeros_like(self.score, dtype=torch.bool)
        self.checked = self.score
        self._leave(course.offer(self.now, numbers, found.logits))

    def _narrow(self) -> None:
        self.objective = self.whole.select(self.numbers.tolist())
        self.ball: Ball = self.course.ball.select(self.numbers.to(self.course.asked.images.device))

    def _inside(self, images: Images) -> Images:
        return self.ball.project(images).clamp(0, 1)

    def _finite(self, gradient: Images) -> Images:
        if not gradient.isfinite().all():
            name = self.course.asked.net.name
            raise InwardError(f"a gradient of {name} is not finite; check its weights, or use --dtype float32")
        return gradient

    def _leave(self, gone: Tensor) -> None:
        """Takes images out of the batch."""
        if not gone.any():
            return
        stay = (~gone).to(self.now.device)
        for name in self._rows:
            setattr(self, name, getattr(self, name)[stay])
        self.numbers = self.numbers[~gone]
        if len(self.numbers):
            self._narrow()

    def move(self, momentum: float) -> None:
        """One step, and a look at where it led."""
        ahead = self._inside(self.now + self.length * self.ball.steepest(self.gradient))
        mixed = self.now + (1 - momentum) * (ahead - self.now) + momentum * (self.now - self.before)
        self.before, self.now = self.now, self._inside(mixed)
        found = look(self.course.net, self.now, self.objective)
        self.rose = self.rose + (found.scores > self.score)
        self.score, self.gradient = found.scores, self._finite(found.gradient)
        better = self.score > self.best_score
        self.best_score = torch.where(better, self.score, self.best_score)
        wide = better.view(-1, 1, 1, 1)
        self.best = torch.where(wide, self.now, self.best)
        self.best_gradient = torch.where(wide, self.gradient, self.best_gradient)
        self._leave(self.course.offer(self.now, self.numbers, found.logits))

    def check(self, moves: int) -> None:
        """Halves the step and goes back to the best point where it no longer pays, ``moves`` after the last check."""
        swings = self.rose < _RISING * moves
        stands = ~self.halved & (self.best_score == self.checked)
        self.halved = swings | stands
        self.checked, self.rose = self.best_score, torch.zeros_like(self.rose)
        self.score = torch.where(self.halved, self.best_score, self.score)
        wide = self.halved.view(-1, 1, 1, 1)
        self.length = torch.where(wide, self.length / 2, self.length)
        self.now = torch.where(wide, self.best, self.now)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)
