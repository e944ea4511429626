"""Feature inversion: the picture that a layer keeps."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from inward.ascent import OnPass
from inward.columns.objectives import Objective, Weighted
from inward.columns.starts import NAMED, Given
from inward.errors import CallError
from inward.gradient import constant, trace_for
from inward.methods.draws import own_draws
from inward.methods.likeness import psnr, ssim
from inward.methods.redrawing import (
    Moves,
    StepName,
    Way,
    likenesses,
    penalties,
    points_of,
    size_of,
    together,
    told_points,
)
from inward.network.network import Network
from inward.network.stages import stages
from inward.pictures import read
from inward.results import Redrawn
from inward.runs.record import record
from inward.types import Images

_LOGITS = "class"
_RATES = {"fourier": (0.02, 0.1), "pixels": (0.02, 0.02)}
# Of 0, 0.5, 1, 1.5 and 2 this came nearest to the features of ten photographs.
_DECAY = 1.0


@own_draws
def invert(
    net: Network,
    images: Images,
    *,
    at: str | None = None,
    through: Literal["one", "all"] = "one",
    steps: int = 300,
    start: str = "noise",
    parameterization: Literal["pixels", "fourier"] = "pixels",
    step: StepName = "lbfgs",
    lr: float | None = None,
    tv: float = 0.0,
    l2: float = 0.0,
    l6: float = 0.0,
    snapshots: int = 0,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Redrawn:
    """The picture whose features are those of the image: what a layer keeps of it, and what it has lost.

    Mahendran and Vedaldi, "Understanding deep image representations by inverting them", 2015: the squared distance of
    the features, as a share of their energy, is made small. They moved pixels by gradient descent; here it is L-BFGS,
    whose first guess moves large patches further than fine detail: forms and colors come at once, and do not drift.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        at: the point whose features are kept, or several with weights: "conv2 + 0.5 * mixed3b"; by default the middle
            stage of the network.
        through: all makes a row of pictures instead, one of each stage from shallow to deep, and of the logits.
        steps: passes of each picture.
        start: noise, gray, or the file of a picture.
        parameterization: what is moved: pixels, or fourier (a spectrum with decorrelated colors).
        step: lbfgs, or adam.
        lr: the first step of lbfgs, as a root mean square, or Adam's; by default 0.02 (fourier: 0.1 of Adam).
        tv: weight of the penalty on total variation (squared differences of neighbors); penalties are means over the
            values of a picture.
        l2: weight of the penalty on the squared distance from gray.
        l6: weight of the penalty on the sixth power of twice the distance from gray.
        snapshots: how many pictures of the way are kept, where one picture is made.
        seed: of the noise that it starts from.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for a unit, or a point that the network does not have; for both a point and the row of all; images
            not in [0, 1], steps below 1, a rate or a weight that makes no sense; features that are all 0.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    images, size = constant(images).to(net.device), size_of(images)
    asked = _asked(net, images, at, through)
    if snapshots and len(asked) > 1:
        raise CallError("snapshots are of one picture on its way, and through=all makes several; leave out one of them")
    moves = replace(Moves.of(step, lr, parameterization, steps, _RATES), decay=_DECAY)
    way = Way(on_pass, moves.passes * len(asked), snapshots, size)
    costs = penalties(images, tv=tv, l2=l2, l6=l6)
    like = images if start in NAMED else read(start, net, size).to(images).expand_as(images)
    made, errors, histories = [], [], []
    remarks: tuple[tuple[str, ...], ...] = ((),) * len(images)
    for points in asked.values():
        likeness = Weighted(tuple(likenesses(net, images, points)))
        row = moves.row(likeness, costs, NAMED.get(start, Given()))
        found = together(net, row, like, seed, way.part(steps))
        made.append(found.images)
        errors.append(_errors(net, found.images, likeness))
        histories.append(found.scores)
        remarks = tuple((*a, *b) for a, b in zip(remarks, found.remarks, strict=True))
    pictures = torch.stack(made, 1).cpu()
    told: dict[str, Any] = {"at": None if through == "all" else told_points(asked[""]), "through": through}
    told |= {**moves.told(), "start": start if start in NAMED else str(Path(start).absolute())}
    told |= {"tv": tv, "l2": l2, "l6": l6}
    told |= {"snapshots": snapshots, "seed": seed}
    inputs = {} if start in NAMED else {"start": like[:1]}
    flat = pictures.flatten(0, 1)
    beside = images.cpu().repeat_interleave(len(asked), 0)
    alike = {name: of(flat, beside).view(len(images), -1) for name, of in (("psnr", psnr), ("ssim", ssim))}
    return Redrawn(
        net,
        record(net, "invert", told, {"images": images, **inputs}, started),
        images=images,
        made=pictures,
        names=tuple(asked) if through == "all" else (told_points(asked[""]),),
        snapshots=way.pictures(pictures[:, 0]),
        measured={"error": torch.stack(errors, 1), **alike},
        history=torch.stack(histories, 2),
        weights={},
        remarks=remarks,
    )


def _asked(net: Network, images: Images, at: str | None, through: str) -> dict[str, dict[str, float]]:
    """The points of every picture with their weights, by its name; a single one has none."""
    size = size_of(images)
    if through not in ("one", "all"):
        raise CallError(f"through is one or all, not '{through}'")
    if through == "all":
        if at is not None:
            raise CallError(f"through=all is of every stage, and '{at}' is given; leave out one of them")
        return {name: {name: 1.0} for name in (*stages(net), _LOGITS)}
    known = stages(net) if at is None else []
    return {"": points_of(net, known[len(known) // 2] if at is None else at, size)}


@torch.no_grad()
def _errors(net: Network, made: Images, likeness: Objective) -> Tensor:
    return -likeness(trace_for(net, made, list(likeness.addresses))).double().cpu()
