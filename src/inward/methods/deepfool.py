"""DeepFool: to the nearest of the boundaries that the network would have, were it linear."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from inward.columns.constraints import normalized
from inward.columns.objectives import wide
from inward.errors import CallError
from inward.gradient import trace_for
from inward.methods.attacked import Attacked, Classes, attacked
from inward.methods.boundaries import lead, length, nearest_boundary, order_of
from inward.methods.draws import own_draws
from inward.methods.nearest import Nearest
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# So that a boundary is crossed also where a step ends just on it: this many roundings of 1.
_ROUNDINGS = 16
# How often the way back to the boundary is halved.
_HALVINGS = 8


@own_draws
def deepfool(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    norm: Literal["l2", "linf"] = "l2",
    steps: int = 50,
    overshoot: float = 0.02,
    classes: int = 10,
    eight_bit: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Perturbation:
    """The shortest way to the nearest class, as if the network were linear; again from there until it is fooled.

    Moosavi-Dezfooli, Fawzi and Frossard, "DeepFool: a simple and accurate method to fool deep neural networks",
    2015. Of every class considered it takes the difference of its logit and the answer's, ``f``, and the gradient
    ``w`` of that; the boundary at which ``|f| / ||w||`` is smallest is gone to, ``|f| / ||w||^2 w`` away (linf:
    ``|f| / ||w||_1 sign(w)``). The sum of the steps is lengthened by the overshoot, and what then fools is taken back
    along the whole change as far as it still does, by halving. Of a linear network it is the smallest change there
    is. Where half of the steps did not suffice, values at 0 or 1 that would have to leave [0, 1] no longer count: on
    images of much black and white they take most of each step. No picture's eps is given: the result's ``l2``
    (``linf``) is what was found.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        norm: linf or l2, the length of the change that is to be small.
        steps: steps at most.
        overshoot: by how much of itself the change is lengthened to get across the boundary, before the way back.
        classes: how many of the likeliest classes are considered, the answer among them; each costs a backward
            pass a step.
        eight_bit: judge the 8-bit picture, as a file holds it; of those the smallest multiple of the change found
            that fools the network.
        on_progress: called after every step with (steps done, steps in all).

    Raises:
        CallError: for a norm that is not linf or l2, fewer than two classes, steps or an overshoot below 0, images
            not in [0, 1], classes that the network does not have, or a network of one output.
    """
    asked = attacked(net, images, label, None, eight_bit_judge=eight_bit, eps=None, norm=norm)
    if norm not in ("l2", "linf"):
        raise CallError(f"DeepFool has no norm {norm} here; write linf or l2")
    if steps < 0 or classes < 2:
        raise CallError(f"DeepFool takes 0 steps or more and considers 2 classes or more, not {steps} and {classes}")
    if not (overshoot >= 0 and math.isfinite(overshoot)):
        raise CallError(f"overshoot is a share of the change and is 0 or more, not {overshoot:g}; write 0.02")
    nearest = Nearest(asked, norm)
    last = _search(asked, nearest, norm, classes, steps, overshoot, on_progress)
    told = {"norm": norm, "steps": steps, "overshoot": overshoot, "classes": classes}
    own = {name: asked.parameters[name] for name in ("label", "eight_bit")}
    return asked.result("deepfool", own | told, nearest.moved(last))


def _search(
    asked: Attacked,
    nearest: Nearest,
    norm: str,
    classes: int,
    steps: int,
    overshoot: float,
    on_progress: Callable[[int, int], None] | None,
) -> Images:
    """Moves every image until it fools; gives where each ended."""
    fast = lean(asked.net, asked.size, half=False)
    last, total = asked.images.clone(), torch.zeros_like(wide(asked.images))
    order = order_of(asked, classes)
    left = nearest.begin()
    for done in range(1, steps + 1):
        if len(left) == 0:
            break
        where = left.to(last.device)
        seen = nearest_boundary(fast, last[where], order[where], norm, whole=2 * done <= steps)
        way, leads = _way(seen.scores, seen.gradient, norm), lead(seen.logits, order[where])
        # Where no class has a gradient, no step leads anywhere.
        alive = way.flatten(1).count_nonzero(1).cpu() > 0
        left, where, way = left[alive], where[alive.to(where.device)], way[alive.to(where.device)]
        if len(left) == 0:
            break
        nearest.note(left, leads[alive.to(leads.device)])
        # What a value is denied at black or white it does not owe later.
        start = wide(asked.images[where])
        total[where] = (start + total[where] + way).clamp(0, 1) - start
        last[where] = (start + (1 + overshoot) * total[where]).clamp(0, 1).to(last)
        left = _withstanding(asked, nearest, fast, last, left)
        if on_progress is not None:
            on_progress(done, steps)
    return last


def _withstanding(asked: Attacked, nearest: Nearest, fast: Network, images: Images, left: Tensor) -> Tensor:
    """Those of the images left that do not fool the network yet; the others are taken back as far as they do."""
    fooled = _offered(nearest, fast, images[left.to(images.device)], left)
    done = left[fooled]
    where = done.to(images.device)
    start, change = asked.images[where], wide(images[where]) - wide(asked.images[where])
    low, high = torch.zeros(len(done), dtype=torch.float64), torch.ones(len(done), dtype=torch.float64)
    for _ in range(_HALVINGS if len(done) else 0):
        middle = (low + high) / 2
        shorter = (start + middle.to(change).view(-1, 1, 1, 1) * change).to(images)
        does = _offered(nearest, fast, shorter, done)
        low, high = torch.where(does, low, middle), torch.where(does, middle, high)
    return left[~fooled]


def _offered(nearest: Nearest, fast: Network, candidates: Images, numbers: Tensor) -> Tensor:
    """Which candidates fool; these are kept where they are nearer."""
    with torch.no_grad():
        logits = trace_for(fast, candidates, ["class"])["class"]
    fooled = nearest.fooled(candidates, logits, numbers)
    nearest.offer(candidates, numbers, fooled)
    return fooled


def _way(height: Tensor, slope: Images, norm: str) -> Images:
    """The way to a boundary that is so high above, (N,); 0 where there is no slope."""
    norms = length(slope, norm)
    beyond = _ROUNDINGS * torch.finfo(slope.dtype).eps
    distance = torch.where(norms > 0, height.abs() / norms + beyond, 0)
    direction = normalized(slope) if norm == "l2" else slope.sign()
    return distance.view(-1, 1, 1, 1) * direction
