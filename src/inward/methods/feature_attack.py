"""Attacks on anything inside a network: a unit driven up or down, another picture's features met, within a ball."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from inward.ascent import OnPass
from inward.columns.constraints import Ball
from inward.columns.matching import Match
from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import constant, keys_of, trace_for, whole
from inward.methods.attacked import EPS, Attacked, Norm, P, distances, framed, named
from inward.methods.attacks import Climb, step_length
from inward.methods.baselines import fitting
from inward.methods.course import counted
from inward.methods.draws import own_draws
from inward.methods.recipe import checked_sum, summed
from inward.network.modes import drawing, ordinary
from inward.network.network import Network
from inward.pictures import read
from inward.results import Driven
from inward.runs.record import record
from inward.types import Images, Pictures, Scores, Size

_MADE = "the {} was made in Python, so this cannot be computed again from its manifest"


@own_draws
def feature_attack(
    net: Network,
    images: Images,
    *,
    objective: str | Objective | None = None,
    guide: str | Tensor | None = None,
    at: str | None = None,
    eps: float | None = None,
    norm: Norm = "linf",
    steps: int = 40,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Driven:
    """Drives a unit, or a sum of several, up inside a ball; or makes the features of a point another picture's.

    Sabour, Cao, Faghri and Fleet, "Adversarial manipulation of deep representations", 2015: a change too small to be
    seen gives a picture the inner representation of another one, the guide. With a guide the Euclidean distance
    of the features is made small; they did so by L-BFGS, here it is projected gradient descent. Of all starts
    the best saved picture is kept, and the picture itself where none is better.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        objective: what is driven up: a unit such as mixed4a/97 or class:9, a point (its energy), or a sum with factors,
            "-1 * mixed4a/97 + 0.5 * class:9", in which a negative one is driven down. From Python any objective.
        guide: the picture whose features are to be met; its file (from Python an image too, or one an image).
        at: the point whose features those are.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2,
            l1). By default 8/255 (linf), 0.5 (l2), 12 (l1).
        norm: linf, l2 or l1.
        steps: steps of every start.
        step_size: the length of a step as a share of eps; by default 2.5 / steps.
        random_start: begin at a place drawn uniformly from the ball; else at the image.
        restarts: how many starts there are.
        eight_bit: change and judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of the random starts, and of what a random network draws.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for both an objective and a guide, or neither; a guide without a point, or a point without a guide;
            a guide of another size; an objective that does not depend on the image, or whose images depend
            on one another; for an eps outside (0, 1] (linf), steps below 1, a step that is not above 0, and images
            not in [0, 1].
    """
    started = time.perf_counter()
    eps = EPS.get(norm, 0.0) if eps is None else eps
    step_size = 2.5 / counted("steps", steps) if step_size is None else step_size
    images, eight_bit, notes = framed(net, images, eight_bit_judge=eight_bit, eps=eps, norm=norm)
    asked = _asked(net, images, objective, guide, at)
    before = _start(net, images, asked)
    frame = Attacked(net, images, images.new_empty(0), (), None, eight_bit, started, notes)
    ball, length = Ball(images, eps, P[norm]), step_length(step_size) * eps
    climb = Climb(asked.objective, ball, counted("steps", steps), length, random_start=random_start, stop=False)
    shown, history = _best_of(frame, climb, before, restarts, seed, on_pass)
    told: dict[str, Any] = {"objective": asked.told, "guide": asked.guide_told, "at": at, "eps": eps, "norm": norm}
    told |= {"steps": steps, "step_size": step_size, "random_start": random_start, "restarts": restarts}
    told |= {"eight_bit": eight_bit, "seed": seed}
    inputs = {"images": images} | ({} if guide is None else {"guide": asked.guide})
    return Driven(
        net,
        record(net, "feature-attack", told, inputs, started, (*notes, *asked.notes)),
        images=images,
        adversarial=shown,
        guide=asked.guide,
        objective=asked.objective,
        **_measured(net, asked.objective, images, shown, whole=eight_bit),
        history=history,
    )


@dataclass(frozen=True)
class _Asked:
    """What is driven up, and how the manifest names it. ``guide``: (N, C, H, W), of no channels where there is none."""

    objective: Objective
    guide: Pictures
    told: str | None
    guide_told: str | None
    notes: tuple[str, ...] = ()


def _asked(
    net: Network, images: Images, objective: str | Objective | None, guide: str | Tensor | None, at: str | None
) -> _Asked:
    if (objective is None) == (guide is None):
        both = "both are given" if guide is not None else "neither is given"
        raise CallError(f"what is changed is an objective, or a guide's features, and {both}; give one of them")
    if guide is None and at is not None:
        raise CallError(f"'{at}' is the point at which a guide's features are met, and there is no guide; give one")
    size = (images.shape[2], images.shape[3])
    if guide is not None:
        if at is None:
            raise CallError("a guide's features are met at a point, and none is given; write --at and a point's name")
        return _guided(net, images, guide, whole(net, at, size), size)
    return _driven(net, images, cast("str | Objective", objective), size)


def _driven(net: Network, images: Images, objective: str | Objective, size: Size) -> _Asked:
    none = images[:, :0]
    if isinstance(objective, str):
        return _Asked(summed(net, objective, size), none, checked_sum(net, objective, size), None)
    if objective.group != 1:
        raise CallError("the images of this objective depend on one another; give one of images alone")
    return _Asked(objective, none, repr(objective), None, (_MADE.format("objective"),))


def _guided(net: Network, images: Images, guide: str | Tensor, key: str, size: Size) -> _Asked:
    if isinstance(guide, str):
        shown = read([guide], net, size).to(images)
        told, notes = str(Path(guide).absolute()), ()
    else:
        shown = fitting(net, images, guide, "the guide")
        told, notes = "given", (_MADE.format("guide"),)
    with torch.no_grad():
        value = trace_for(net, shown, [key])[key]
    axes = net.layout_of(net.resolve(key, size), size).axes
    # Without a known batch, Match says so.
    values = value.movedim(axes.index("n"), 0) if "n" in axes else value
    return _Asked(Match(key, values), shown.expand_as(images), None, told, notes)


def _start(net: Network, images: Images, asked: _Asked) -> Scores:
    """The scores of the images. Raises CallError where they do not depend on them."""
    with ordinary(net.device):
        found = asked.objective(
            trace_for(net, constant(images).requires_grad_(True), keys_of(net, asked.objective, _size(images)))
        )
    if not found.requires_grad:
        what = asked.told or f"the point {asked.objective.addresses[0]}"
        raise CallError(f"{what} does not depend on the image: there is no path from one to the other; name another")
    return found.detach().cpu()


def _best_of(
    frame: Attacked, climb: Climb, before: Scores, restarts: int, seed: int, on_pass: OnPass | None
) -> tuple[Images, Tensor]:
    """Of every image the best picture as it is saved, over all starts; the scores of all passes."""
    if restarts < 1:
        raise CallError(f"an attack begins 1 time or more, not {restarts}")
    everyone = torch.arange(len(frame.images))
    best, score, history = frame.images.clone(), before, []
    for restart in range(restarts):
        found = climb.run(frame, seed=seed + restart, on_pass=on_pass)
        reached = _scores(frame.net, climb.objective, found.shown)
        better = (reached > score).nonzero()[:, 0]
        best[better.to(best.device)] = found.shown[better.to(best.device)]
        score = torch.maximum(score, reached)
        history.append(found.history)
    return frame.shown(best, everyone, climb.ball), torch.cat(history)


@torch.no_grad()
def _scores(net: Network, objective: Objective, images: Images) -> Scores:
    return objective(trace_for(net, images, keys_of(net, objective, _size(images)))).cpu()


def _size(images: Images) -> Size:
    return (images.shape[2], images.shape[3])


def _measured(net: Network, objective: Objective, images: Images, changed: Images, *, whole: bool) -> dict[str, Any]:
    """Scores, answers and distances of pictures, before and after."""
    return {
        "before": _scores(net, objective, images),
        "final": _scores(net, objective, changed),
        "answers_before": tuple(_answers(net, images)),
        "answers": tuple(_answers(net, changed)),
        **distances(images, changed, whole=whole),
    }


@torch.no_grad()
def _answers(net: Network, images: Images) -> Sequence[str]:
    """The class of each image; empty words where the network has none."""
    try:
        net.classes(size=_size(images))
    except CallError:
        return [""] * len(images)
    logits = net.run(images, ["class"])[0]
    return named(logits.argmax(1).tolist()) if logits.ndim == 2 else [""] * len(images)


def driven_again(result: Driven, images: Images, adversarial: Images) -> dict[str, Any]:
    """Scores, answers and distances of a result, as saved pictures show them."""
    with drawing(result.record.parameters["seed"], result.net.device):
        return _measured(result.net, result.objective, images, adversarial, whole=True)
