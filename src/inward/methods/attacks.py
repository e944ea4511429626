"""Attacks that are rows of the ascent: the sign or the direction of the gradient, inside a ball."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.ascent import OnPass, Row, ascend
from inward.columns.constraints import Ball, Box, normalized
from inward.columns.objectives import Objective
from inward.columns.starts import Given, Inside
from inward.columns.steps import Step, filled, momentum, sparse, steepest
from inward.errors import CallError
from inward.methods.attacked import EPS, Attacked, Classes, Loss, Moved, Norm, P, attacked
from inward.methods.course import counted
from inward.methods.draws import own_draws
from inward.methods.goal import Goal
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images, Size


@own_draws
def fgsm(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    loss: Loss = "cross-entropy",
    stop: bool = True,
    eot: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Perturbation:
    """One step as far as the ball reaches, in the steepest direction of its norm.

    Goodfellow, Shlens and Szegedy, "Explaining and harnessing adversarial examples", 2014: the fast gradient
    sign method (linf). In l2 the step is along the gradient; in l1 the values of the largest gradient go to their
    bounds, until eps is used up.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2,
            l1). By default 8/255 (linf), 0.5 (l2), 12 (l1).
        norm: linf, l2 or l1.
        loss: what is climbed: cross-entropy, margin or dlr.
        stop: leave images alone that fool the network already.
        eot: runs of the network over which each gradient is averaged, and the logits by which a candidate counts on
            the way. More than 1 only helps where the network draws random numbers.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of what a random network draws.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for an eps outside (0, 1] (linf), images not in [0, 1], classes that the network does not
            have, a target equal to the label, a network of one output, or an eot below 1.
    """
    eps = EPS.get(norm, 0.0) if eps is None else eps
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm, eot=eot)
    far = filled(eps) if norm == "l1" else None
    climb = Climb(asked.objective(loss), Ball(asked.images, eps, P[norm]), 1, eps, stop=stop, step=far)
    moved = climb.run(asked, on_pass=on_pass)
    told = {"eps": eps, "norm": norm, "loss": loss, "stop": stop, "eot": eot, "seed": seed}
    return asked.result("fgsm", asked.parameters | told, moved)


@own_draws
def pgd(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    loss: Loss = "cross-entropy",
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    stop: bool = True,
    extra: int = 0,
    eot: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Perturbation:
    """Steps in the steepest direction of the norm, back into the ball after each, from a random place in it.

    Projected gradient descent: Madry, Makelov, Schmidt, Tsipras and Vladu, "Towards deep learning models
    resistant to adversarial attacks", 2017. Without the random start it is the iterative FGSM of Kurakin,
    Goodfellow and Bengio, 2016. Images that fool the network leave the batch, so that the others are faster.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2,
            l1). By default 8/255 (linf), 0.5 (l2), 12 (l1).
        norm: linf, l2 or l1 (there along the signs of the largest values that can move, 1 % of them at first, and one
            from the middle on).
        loss: what is climbed: cross-entropy, margin or dlr.
        steps: steps at most.
        step_size: the length of a step as a share of eps; by default 2.5 / steps, as the authors do.
        random_start: begin at a place drawn uniformly from the ball; else at the image.
        restarts: how often to begin anew with the images that withstood.
        stop: leave an image alone once it fools the network.
        extra: steps after the first success.
        eot: runs of the network over which each gradient is averaged, and the logits by which a candidate counts on
            the way. More than 1 only helps where the network draws random numbers.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of the random starts, and of what a random network draws.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for an eps outside (0, 1] (linf), steps below 1, a step that is not above 0, images not in
            [0, 1], classes that the network does not have, a target equal to the label, a network of one output, or
            an eot below 1.
    """
    eps = EPS.get(norm, 0.0) if eps is None else eps
    step_size = 2.5 / counted("steps", steps) if step_size is None else step_size
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm, eot=eot)
    climb = Climb(
        asked.objective(loss),
        Ball(asked.images, eps, P[norm]),
        counted("steps", steps),
        step_length(step_size) * eps,
        random_start=random_start,
        restarts=restarts,
        stop=stop,
        extra=extra,
    )
    told = {"eps": eps, "norm": norm, "loss": loss, "steps": steps, "step_size": step_size}
    told |= {"random_start": random_start, "restarts": restarts, "stop": stop, "extra": extra}
    told |= {"eot": eot, "seed": seed}
    return asked.result("pgd", asked.parameters | told, climb.run(asked, seed=seed, on_pass=on_pass))


@own_draws
def momentum_fgsm(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    loss: Loss = "cross-entropy",
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    stop: bool = True,
    extra: int = 0,
    eot: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Perturbation:
    """Iterative FGSM along accumulated gradients, each divided by the sum of its absolute values.

    Dong et al., "Boosting adversarial attacks with momentum", 2017: what it finds fools other networks more often.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2).
            By default 8/255 (linf), 0.5 (l2).
        norm: linf or l2.
        loss: what is climbed: cross-entropy, margin or dlr.
        steps: steps at most.
        step_size: the length of a step as a share of eps; by default 1 / steps, as the authors do.
        decay: the share of the accumulated gradient that stays.
        stop: leave an image alone once it fools the network.
        extra: steps after the first success.
        eot: runs of the network over which each gradient is averaged, and the logits by which a candidate counts on
            the way. More than 1 only helps where the network draws random numbers.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of what a random network draws.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: as for :func:`pgd`; for a decay below 0, and for the norm l1.
    """
    eps = EPS.get(norm, 0.0) if eps is None else eps
    step_size = 1 / counted("steps", steps) if step_size is None else step_size
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm, eot=eot)
    if norm == "l1":
        raise CallError("momentum has no norm l1 here; write linf or l2, or use pgd")
    if not (decay >= 0 and math.isfinite(decay)):
        raise CallError(f"decay is the share of the gradient that stays and is 0 or more, not {decay:g}")
    ball = Ball(asked.images, eps, P[norm])
    length = step_length(step_size) * eps
    step = momentum(length, ball.steepest, decay)
    climb = Climb(asked.objective(loss), ball, counted("steps", steps), length, stop=stop, extra=extra, step=step)
    told = {"eps": eps, "norm": norm, "loss": loss, "steps": steps, "step_size": step_size}
    told |= {"decay": decay, "stop": stop, "extra": extra, "eot": eot, "seed": seed}
    return asked.result("momentum-fgsm", asked.parameters | told, climb.run(asked, on_pass=on_pass))


@own_draws
def targeted_attack(
    net: Network,
    images: Images,
    *,
    target: Classes,
    eps: float = 4 / 255,
    norm: Norm = "linf",
    step_size: float = 0.25,
    steps: int = 40,
    extra: int = 2,
    eight_bit: bool = True,
    on_pass: OnPass | None = None,
) -> Perturbation:
    """The smallest few steps along the normalized gradient that make the network answer ``target``.

    Climbs the target's lead over every other class (its logit minus the largest other one) inside
    the ball, and goes on for ``extra`` steps after success. After Szegedy et al., "Intriguing
    properties of neural networks", 2013, and Kurakin, Goodfellow and Bengio, "Adversarial examples in
    the physical world", 2016.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1]; rounded to whole 8-bit levels first, as a picture file holds them,
            so that every distance is from what the result calls its images.
        target: the class to be taken for, class:9 or class:ostrich; one, or one an image.
        eps: the largest change, in [0, 1] units: of any value (linf), or the Euclidean length of the whole change (l2).
        norm: linf or l2.
        step_size: the length of a step, as a share of the ball's Euclidean radius.
        steps: steps at most.
        extra: steps after the first success.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for an eps outside (0, 1] (linf), a target that is no class, images not in [0, 1].
    """
    asked = attacked(net, images, None, target, eight_bit_judge=eight_bit, eps=eps, norm=norm)
    if norm == "l1":
        raise CallError("the normalized gradient has no norm l1 here; write linf or l2, or use pgd with a target")
    # The image's own answer is no label here: to be taken for what it is already is done at once.
    length = step_length(step_size) * (eps * math.sqrt(asked.images[0].numel()) if norm == "linf" else eps)
    ball = Ball(asked.images, eps, P[norm])
    climb = Climb(asked.lead, ball, steps, length, stop=True, extra=extra, step=steepest(length, normalized))
    told = {"eps": eps, "norm": norm, "step_size": step_size, "steps": steps, "extra": extra}
    told |= {name: asked.parameters[name] for name in ("target", "eight_bit")}
    return asked.result("targeted-attack", told, climb.run(asked, on_pass=on_pass))


@dataclass(frozen=True)
class Climb:
    """Steps up an objective inside a ball: what the attacks of this file have in common.

    ``length`` is that of a step in the ball's norm; ``step``: another step than the steepest.
    """

    objective: Objective
    ball: Ball
    steps: int
    length: float
    random_start: bool = False
    restarts: int = 1
    stop: bool = True
    extra: int = 0
    step: Step | None = None
    precision: str = "full"

    def run(self, asked: Attacked, *, seed: int = 0, on_pass: OnPass | None = None) -> Moved:
        """Begins ``restarts`` times, with the images that have withstood."""
        if self.restarts < 1:
            raise CallError(f"an attack begins 1 time or more, not {self.restarts}")
        goal = Goal(asked, self.ball)
        last, steps = asked.images.clone(), torch.zeros(len(asked.images), dtype=torch.long)
        history: list[Tensor] = []
        seeds = asked.seeds(seed) if self.random_start else [0] * len(last)
        left = torch.arange(len(asked.images))
        if self.stop:
            goal.offer(asked.images, left, asked.logits)
            left = left[~goal.reached]
        for restart in range(self.restarts if len(left) else 0):
            where = left.to(last.device)
            reached = _Among(goal, left) if self.stop else None
            found = ascend(
                asked.net,
                self._row(where, reached, asked),
                asked.images[where],
                seeds=[seeds[i] + restart for i in left.tolist()],
                on_pass=on_pass,
            )
            last[where] = found.images
            steps[left] += found.steps
            everyone = found.scores.new_full((len(found.scores), len(last)), math.nan)
            everyone[:, left] = found.scores
            history.append(everyone)
            left = left[~goal.reached[left]] if self.stop else left
            if len(left) == 0:
                break
        return goal.moved(last, steps, torch.cat(history) if history else last.new_zeros((0, len(last)), device="cpu"))

    def _row(self, where: Tensor, reached: _Among | None, asked: Attacked) -> Row:
        ball = self.ball.select(where)
        usual = sparse(self.length, self.steps) if ball.p == 1 else steepest(self.length, ball.steepest)
        return Row(
            objective=self.objective.select(where.tolist()),
            step=usual if self.step is None else self.step,
            passes=self.steps,
            start=Inside(ball) if self.random_start else Given(),
            constraints=(ball, Box()),
            reached=reached,
            extra=self.extra if reached is not None else 0,
            prepare=_lean,
        )


@dataclass(frozen=True)
class _Among:
    """A goal for an ascent of only some of the images, which knows them by other numbers."""

    goal: Callable[..., Tensor]
    numbers: Tensor

    def __call__(self, trace: object, images: Tensor) -> Tensor:
        return self.goal(trace, self.numbers[images])


def _lean(net: Network, size: Size) -> Network:
    return lean(net, size, half=False)


def step_length(step_size: float) -> float:
    if not (step_size > 0 and math.isfinite(step_size)):
        raise CallError(f"step_size is a share of the ball's radius and must be above 0, not {step_size:g}; write 0.25")
    return step_size
