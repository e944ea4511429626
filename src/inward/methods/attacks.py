"""Adversarial examples."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from inward.ascent import OnPass, Row, ascend
from inward.columns.constraints import Ball, Box, normalized
from inward.columns.objectives import Margin, classes_of
from inward.columns.steps import steepest
from inward.errors import CallError
from inward.network.network import Network
from inward.network.trace import Trace
from inward.results import Perturbation
from inward.runs.record import record
from inward.types import Images

LEVELS = 255
# So that an eps of 4 / 255 in any float is 4 levels, in levels.
_SLACK = 1e-5


def targeted_attack(
    net: Network,
    images: Images,
    *,
    target: str | Sequence[str],
    eps: float = 4 / 255,
    norm: Literal["linf", "l2"] = "linf",
    step: float = 0.25,
    passes: int = 40,
    extra: int = 2,
    on_pass: OnPass | None = None,
) -> Perturbation:
    """The smallest few steps along the normalized gradient that make the network answer ``target``.

    Climbs the target's lead over every other class (its logit minus the largest other one) inside
    the ball, and goes on for ``extra`` steps after success. Success and distances are those of the
    8-bit picture: values are rounded to whole levels without leaving the ball. After Szegedy et
    al., "Intriguing properties of neural networks", 2013, and Kurakin, Goodfellow and Bengio,
    "Adversarial examples in the physical world", 2016.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1]; rounded to whole 8-bit levels first, as a picture file holds them,
            so that every distance is from what the result calls its images.
        target: the class to be taken for, class:9 or class:ostrich; one, or one an image.
        eps: the largest change, in [0, 1] units: of any value (linf), or the Euclidean length of
            the whole change (l2).
        norm: linf or l2.
        step: the length of a step, as a share of the ball's Euclidean radius.
        passes: steps at most.
        extra: steps after the first success.
        on_pass: called after every pass with what was done, :class:`inward.ascent.Pass`.

    Raises:
        CallError: for an eps outside (0, 1] (linf), a target that is no class, images not in [0, 1].
    """
    started = time.perf_counter()
    names = [target] * len(images) if isinstance(target, str) else list(target)
    _check(net, images, eps, norm, step, len(names))
    classes = classes_of(net, names, (images.shape[2], images.shape[3]))
    images = eight_bit(images.detach().to(net.device))
    ball = Ball(images, eps, math.inf if norm == "linf" else 2)
    length = step * (eps * math.sqrt(images[0].numel()) if norm == "linf" else eps)
    goal = _Goal(net, classes, ball)
    row = Row(
        objective=-1.0 * Margin(classes),
        step=steepest(length, normalized),
        passes=passes,
        constraints=(ball, Box()),
        reached=goal,
        extra=extra,
    )
    found = ascend(net, row, images, on_pass=on_pass)
    adversarial = goal.best(found.images)
    parameters = {"target": [f"class:{k}" for k in classes], "eps": eps, "norm": norm}
    parameters |= {"step": step, "passes": passes, "extra": extra}
    made = record(net, "targeted-attack", parameters, {"images": images}, started, _eight_bit_notes(eps, norm))
    success, final, linf, l2 = judge(net, images, adversarial, classes)
    return Perturbation(
        net,
        made,
        images=images,
        adversarial=adversarial,
        targets=tuple(f"class:{k}" for k in classes),
        success=success,
        steps=found.steps,
        linf=linf,
        l2=l2,
        final=final,
        history=found.scores,
    )


def _check(net: Network, images: Images, eps: float, norm: str, step: float, targets: int) -> None:
    net.preprocess.check(images)
    if norm not in ("linf", "l2"):
        raise CallError(f"there is no norm '{norm}' here; write linf or l2")
    if norm == "linf" and not 0 < eps <= 1:
        raise CallError(f"eps must be above 0 and at most 1, the whole range, not {eps:g}; write 4/255 for 4 levels")
    if norm == "l2" and not (eps > 0 and math.isfinite(eps)):
        raise CallError(f"eps is the length of the whole change and must be a number above 0, not {eps:g}; write 0.5")
    if not (step > 0 and math.isfinite(step)):
        raise CallError(f"step is a share of the ball's radius and must be above 0, not {step:g}; write 0.25")
    if targets != len(images):
        raise CallError(f"there are {targets} targets for {len(images)} images; give one, or one an image")


def _eight_bit_notes(eps: float, norm: str) -> tuple[str, ...]:
    if norm == "linf" and eps * LEVELS < 1 - 1e-9:
        return (f"eps {eps:.3g} is under one 8-bit level (1/255), so no 8-bit picture inside the ball differs",)
    return ()


class _Goal:
    """Whether the 8-bit picture of each image is taken for its target, and the one that most clearly was.

    The steps after the first success can lose it again.
    """

    def __init__(self, net: Network, classes: tuple[int, ...], ball: Ball) -> None:
        self.net, self.margin, self.ball = net, Margin(classes), ball
        self.index = torch.tensor(classes, device=net.device)
        self.pictures = ball.center.clone()
        self.lead = torch.zeros(len(classes), device=net.device)

    def __call__(self, trace: Trace) -> Tensor:
        answers = trace["class"].argmax(1) == self.index
        if answers.any():
            shown = rounded(trace.images, self.ball)
            logits = self.net.run(shown, ["class"])[0]
            answers = answers & (logits.argmax(1) == self.index)
            lead = -self.margin(Trace(self.net, shown, {"class": logits}))
            better = answers & (lead > self.lead)
            self.pictures[better], self.lead[better] = shown[better], lead[better].to(self.lead)
        return answers

    def best(self, last: Images) -> Images:
        """The clearest success of each image, and of those that had none their last picture."""
        return torch.where(self.lead.view(-1, 1, 1, 1) > 0, self.pictures, rounded(last, self.ball))


def eight_bit(images: Images) -> Images:
    """The nearest picture of whole 8-bit levels."""
    return (images * LEVELS).round() / LEVELS


def rounded(images: Images, ball: Ball) -> Images:
    """The nearest 8-bit picture; towards the 8-bit original where the nearest would leave the ball around that."""
    start = (ball.center * LEVELS).round()
    exact = images * LEVELS - start
    change = ((images * LEVELS).round() - start).clamp(-start, LEVELS - start)
    if ball.p == math.inf:
        most = math.floor(ball.eps * LEVELS + _SLACK)
        change = change.clamp(-most, most)
    else:
        length, radius = _lengths(exact).to(exact), ball.eps * LEVELS
        shorter = (exact * torch.where(length > radius, radius / length, 1)).trunc().to(change)
        change = torch.where((_lengths(change) <= radius + _SLACK).to(change.device), change, shorter)
    return ((start + change) / LEVELS).clamp(0, 1)


def _lengths(change: Images) -> Tensor:
    """The Euclidean length of each image's change, in float64, as (N, 1, 1, 1)."""
    return change.cpu().double().flatten(1).norm(dim=1).view(-1, 1, 1, 1)


@torch.no_grad()
def judge(
    net: Network, images: Images, adversarial: Images, classes: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Success, the target's lead, and the L_inf and L2 distance from the 8-bit originals (float64)."""
    logits = net(adversarial)
    index = torch.tensor(classes, device=logits.device)
    lead = -Margin(tuple(classes))(Trace(net, adversarial, {"class": logits}))
    # Whole levels, so that the distances are exact.
    change = ((adversarial * LEVELS).round() - (images * LEVELS).round()).cpu().double()
    linf, l2 = change.flatten(1).abs().amax(1) / LEVELS, change.flatten(1).norm(dim=1) / LEVELS
    return (logits.argmax(1) == index).cpu(), lead.cpu(), linf.cpu(), l2.cpu()
