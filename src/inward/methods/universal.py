"""One change for all images, by steps up their summed loss."""

from __future__ import annotations

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.columns.objectives import wide
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, Moved, Norm, P, attacked
from inward.methods.course import OnProgress, ball_of, counted, radius, two_norms
from inward.methods.draws import own_draws
from inward.methods.levels import whole
from inward.methods.looked import look
from inward.methods.together import Passes
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Universal
from inward.types import Images


@own_draws
def universal_pgd(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    steps: int = 100,
    step_size: float | None = None,
    clip: float = 9.0,
    minibatch: int = 32,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Universal:
    """One change inside a ball that fools the network with as many of the images as possible.

    Shafahi, Najibi, Xu, Dickerson, Davis and Goldstein, "Universal adversarial training", 2018: steps in the
    steepest direction of the norm up the sum over the images of the cross-entropy, cut off at ``clip``, so that no
    image counts for more once it is fooled; back into the ball after each. (Moosavi-Dezfooli et al., "Universal
    adversarial perturbations", 2016, add up DeepFool's changes image by image, which costs many times as much.)
    The images depend on one another: of another batch the change is another one.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2).
            By default 8/255 (linf), 0.5 (l2).
        norm: linf or l2.
        steps: steps of the change.
        step_size: the length of a step as a share of eps; by default 2.5 / steps.
        clip: the cross-entropy, in nats, from which on an image no longer counts. (Towards a target it falls to 0
            by itself.)
        minibatch: images a step.
        eight_bit: judge the 8-bit picture, as a file holds it; the change is one of whole levels then.
        seed: of the order of the images.
        on_progress: called after every step with (steps done, steps in all).

    Raises:
        CallError: for an eps outside (0, 1] (linf), the norm l1, steps or minibatch below 1, a step or a clip that is
            not above 0, images not in [0, 1], classes that the network does not have, a target equal to the label, or a
            network of one output.
    """
    eps = radius(eps, norm)
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm)
    ball = ball_of(asked, eps, two_norms(norm))
    passes = Passes(asked, counted("steps", steps), counted("minibatch", minibatch), seed, on_progress)
    step_size = 2.5 / steps if step_size is None else step_size
    for name, value in (("step_size", step_size), ("clip", clip)):
        if not 0 < value < float("inf"):
            raise CallError(f"{name} must be a number above 0, not {value:g}")
    free = Ball(torch.zeros_like(wide(asked.images[:1])), eps, P[norm])
    change = _climbed(asked, free, passes, step_size * eps, clip)
    everyone = torch.arange(len(asked.images))
    exact = _added(asked.images, change)
    saved = whole(change, eps, P[norm]) if asked.eight_bit else change
    shown = asked.shown(_added(asked.images, saved), everyone, ball)
    nobody = torch.zeros(len(everyone), dtype=torch.bool)
    told = {"eps": eps, "norm": norm, "steps": steps, "step_size": step_size}
    told |= {"clip": clip, "minibatch": minibatch, "seed": seed}
    moved = Moved(exact, shown, nobody, passes.steps, passes.history)
    found = asked.result("universal-pgd", asked.parameters | told, moved)
    return found.of_kind(Universal, change=saved, rate=found.success.double().mean().item())


def _climbed(asked: Attacked, ball: Ball, passes: Passes, length: float, clip: float) -> Images:
    """The change after all passes, (1, C, H, W)."""
    fast, objective = lean(asked.net, asked.size, half=False), asked.objective("cross-entropy")
    change = ball.center
    for numbers in passes:
        images = asked.images[numbers.to(change.device)]
        now = _added(images, change)
        seen = look(fast, now, objective.select(numbers.tolist()))
        passes.note(numbers, seen.scores)
        # What has left [0, 1] does not move the picture, and what is cut off has no slope.
        counts = ((images + change) == now) & (seen.scores < clip).view(-1, 1, 1, 1)
        slope = torch.where(counts, wide(seen.gradient), 0).sum(0, keepdim=True)
        change = ball.project(change + length * ball.steepest(slope))
    return change


def _added(images: Images, change: Tensor) -> Images:
    return (images + change).clamp(0, 1).to(images)
