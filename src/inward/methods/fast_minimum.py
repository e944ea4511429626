"""The smallest change by following the boundary: a ball that grows where the image withstands and shrinks where not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.columns.constraints import Ball, movable, normalized
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, Norm, P, attacked
from inward.methods.draws import own_draws
from inward.methods.looked import Look, look
from inward.methods.nearest import Nearest
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# What the share by which the ball grows and shrinks falls to, as in the paper.
_LAST_GAMMA = 0.001
# On which side of the boundary of a linear network the first step ends is not left to rounding.
_ACROSS = 1 + 1e-4
_DUAL = {1: math.inf, 2: 2, math.inf: 1}


@own_draws
def fmn(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    norm: Norm = "l2",
    steps: int = 100,
    step_size: float = 1.0,
    gamma: float = 0.05,
    eight_bit: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Perturbation:
    """The smallest change that fools: steps along the gradient inside a ball whose eps follows the boundary.

    Pintor, Roli, Brendel and Biggio, "Fast minimum-norm adversarial attacks through adaptive norm constraints",
    2021. Until an image first fools the network, eps is as large as it would have to be, were the network linear;
    from then on it shrinks by the share gamma where the image fools and grows by it where not. Both gamma and the
    steps fall along a cosine, and the nearest picture that fools is kept. (In l2, :func:`ddn` is of the same kind, but
    begins at an eps of 1 whatever the network.)

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        norm: linf, l2 or l1, the length of the change that is to be small.
        steps: passes, each forward and backward.
        step_size: the Euclidean length of the first step; in l2 never more than eps.
        gamma: the share by which eps first grows and shrinks; the last is 0.001.
        eight_bit: judge the 8-bit picture, as a file holds it; of those the smallest multiple of the change found
            that fools the network.
        on_progress: called after every pass with (passes done, passes in all).

    Raises:
        CallError: for steps below 0, a step that is not above 0, a gamma outside (0, 1), a norm that there is none
            of, images not in [0, 1], classes that the network does not have, a target equal to the label, or
            a network of one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm=norm)
    if steps < 0:
        raise CallError(f"a search takes 0 passes or more, not {steps}")
    if not 0 < step_size < math.inf:
        raise CallError(f"step_size is a length and must be above 0, not {step_size:g}; write 1.0")
    if not 0 < gamma < 1:
        raise CallError(f"gamma is the share by which eps changes and is between 0 and 1, not {gamma:g}; write 0.05")
    nearest = Nearest(asked, norm)
    last = asked.images.clone()
    left = nearest.begin()
    if len(left):
        last[left.to(last.device)] = _Following(asked, nearest, left, norm, steps, step_size, gamma).run(on_progress)
    told = {"norm": norm, "steps": steps, "step_size": step_size, "gamma": gamma}
    return asked.result("fmn", asked.parameters | told, nearest.moved(last))


@dataclass(frozen=True, eq=False)
class _Following:
    """The search for the images with these numbers; each makes all its steps, for any may still be nearer."""

    asked: Attacked
    nearest: Nearest
    numbers: Tensor
    norm: str
    steps: int
    step_size: float
    gamma: float

    def run(self, on_progress: Callable[[int, int], None] | None) -> Images:
        """Gives where each image was at its last pass."""
        fast = lean(self.asked.net, self.asked.size, half=False)
        start = self.asked.images[self.numbers.to(self.asked.images.device)]
        objective = self.asked.lead.select(self.numbers.tolist())
        images, eps = start, torch.full((len(start),), math.inf, dtype=start.dtype)
        # The longest change that leaves every value in [0, 1].
        most = torch.maximum(start, 1 - start).flatten(1).norm(p=P[self.norm], dim=1).cpu()
        for step in range(self.steps):
            seen = look(fast, images, objective)
            seen = seen._replace(gradient=movable(images, seen.gradient))
            fooled = self.nearest.fooled(images, seen.logits, self.numbers)
            self.nearest.offer(images, self.numbers, fooled)
            self.nearest.note(self.numbers, seen.scores)
            if on_progress is not None:
                on_progress(step + 1, self.steps)
            if step == self.steps - 1:
                break
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            eps = torch.minimum(self._eps(eps, images, seen, fooled, share), most)
            images = self._moved(start, images, seen.gradient, eps, share)
        return images

    def _eps(self, eps: Tensor, images: Images, seen: Look, fooled: Tensor, share: float) -> Tensor:
        """The radius of each image's next ball, (N,)."""
        gamma = _LAST_GAMMA + (self.gamma - _LAST_GAMMA) * share
        best = self.nearest.length[self.numbers]
        slope = seen.gradient.flatten(1).norm(p=_DUAL[P[self.norm]], dim=1).cpu()
        # Without a slope there is nowhere to go, and 0 / 0 is no radius.
        ahead = torch.where(slope > 0, seen.scores.abs().cpu() / slope, 0)
        outwards = (self.nearest.lengths(images, self.numbers) + ahead) * _ACROSS
        withstood = torch.where(best.isfinite(), eps * (1 + gamma), outwards.to(eps))
        return torch.where(fooled, torch.minimum(eps * (1 - gamma), best.to(eps)), withstood)

    def _moved(self, start: Images, images: Images, gradient: Images, eps: Tensor, share: float) -> Images:
        length = torch.full_like(eps, self.step_size)
        if self.norm == "l2":
            # A step longer than the ball forgets the way there.
            length = torch.minimum(length, eps)
        ahead = images + share * length.to(images).view(-1, 1, 1, 1) * normalized(gradient)
        return Ball(start, eps, P[self.norm]).project(ahead).clamp(0, 1)
