"""DDN: the direction of a change and its length, each followed for itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from inward.columns.constraints import normalized
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, attacked
from inward.methods.draws import own_draws
from inward.methods.looked import look
from inward.methods.nearest import Nearest
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# What the length of the steps falls to, from 1, as in the paper.
_LAST_STEP = 0.01


@own_draws
def ddn(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    steps: int = 100,
    start: float = 1.0,
    gamma: float = 0.05,
    eight_bit: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Perturbation:
    """The smallest l2 change that fools: its direction follows the gradient, its length whether it fools.

    Rony, Hafemann, Oliveira, Ben Ayed, Sabourin and Granger, "Decoupling direction and norm for efficient
    gradient-based L2 adversarial attacks and defenses", 2018. The change takes a step along the gradient of the
    cross-entropy and is then made as long as eps, which shrinks by the share gamma where the image fooled and grows
    by it where not. The steps fall along a cosine from 1 to 0.01, and the nearest picture that fools is kept.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        steps: passes, each forward and backward.
        start: the first eps, the Euclidean length of the whole change in [0, 1] units.
        gamma: the share by which eps shrinks and grows.
        eight_bit: judge the 8-bit picture, as a file holds it; of those the smallest multiple of the change found
            that fools the network.
        on_progress: called after every pass with (passes done, passes in all).

    Raises:
        CallError: for steps below 0, a start that is not above 0, a gamma outside (0, 1), images not in [0, 1],
            classes that the network does not have, a target equal to the label, or a network of one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm="l2")
    if steps < 0:
        raise CallError(f"a search takes 0 passes or more, not {steps}")
    if not 0 < start < math.inf:
        raise CallError(f"start is the first length and must be above 0, not {start:g}; write 1.0")
    if not 0 < gamma < 1:
        raise CallError(f"gamma is the share by which eps changes and is between 0 and 1, not {gamma:g}; write 0.05")
    nearest = Nearest(asked, "l2")
    last = asked.images.clone()
    left = nearest.begin()
    if len(left):
        last[left.to(last.device)] = _searched(asked, nearest, left, steps, start, gamma, on_progress)
    told = {"steps": steps, "start": start, "gamma": gamma}
    return asked.result("ddn", asked.parameters | told, nearest.moved(last))


def _searched(
    asked: Attacked,
    nearest: Nearest,
    numbers: Tensor,
    steps: int,
    start: float,
    gamma: float,
    on_progress: Callable[[int, int], None] | None,
) -> Images:
    """Where each image was at its last pass; each makes all its steps, for any may still be nearer."""
    fast = lean(asked.net, asked.size, half=False)
    origin = asked.images[numbers.to(asked.images.device)]
    objective = asked.objective("cross-entropy").select(numbers.tolist())
    # The longest change that leaves every value in [0, 1].
    most = torch.maximum(origin, 1 - origin).flatten(1).norm(dim=1)
    images, eps = origin, torch.full_like(most, start)
    for step in range(steps):
        seen = look(fast, images, objective)
        fooled = nearest.fooled(images, seen.logits, numbers)
        nearest.offer(images, numbers, fooled)
        nearest.note(numbers, seen.scores)
        if on_progress is not None:
            on_progress(step + 1, steps)
        if step == steps - 1:
            break
        length = _LAST_STEP + (1 - _LAST_STEP) * (1 + math.cos(math.pi * step / steps)) / 2
        ahead = images - origin + length * normalized(seen.gradient)
        eps = torch.minimum(eps * torch.where(fooled.to(eps.device), 1 - gamma, 1 + gamma), most)
        images = (origin + eps.view(-1, 1, 1, 1) * normalized(ahead)).clamp(0, 1)
    return images
