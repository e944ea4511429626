"""Texture synthesis: another picture with the statistics of this one."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from inward.ascent import OnPass, Row
from inward.columns.starts import Noise
from inward.errors import CallError
from inward.gradient import constant, trace_for
from inward.methods.draws import own_draws
from inward.methods.redrawing import (
    Moves,
    StepName,
    Way,
    grown,
    penalties,
    points_of,
    resized,
    scaled,
    size_of,
    sizes_of,
    told_points,
    wrapped,
)
from inward.methods.textures import LossName, Sample, Scale, Term, check_points, fine_stages, terms
from inward.network.circular import circular
from inward.network.network import Network
from inward.network.receptive import receptive_fields
from inward.results import Redrawn
from inward.runs.record import record
from inward.types import Images, Size

# White noise of the spread that pictures have.
_SMALLEST = 48
_START = Noise(std=0.1, decay=0.0)
_RATES = {"pixels": (0.05, 0.03), "fourier": (0.05, 0.1)}


@own_draws
def texture(
    net: Network,
    images: Images,
    *,
    at: str | None = None,
    through: Literal["one", "all"] = "one",
    size: Size | None = None,
    steps: int = 200,
    scales: int = 0,
    loss: LossName = "gram",
    tile: bool = False,
    parameterization: Literal["pixels", "fourier"] = "pixels",
    step: StepName = "lbfgs",
    lr: float | None = None,
    tv: float = 0.0,
    snapshots: int = 0,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Redrawn:
    """A picture from noise that has the texture of the image: its features' statistics, wherever they are.

    Gatys, Ecker and Bethge, "Texture synthesis using convolutional neural networks", 2015: the Gram matrices of
    features, their mean products over all positions, are made those of the image. Every point counts alike at the
    start. Large pictures are made from small ones, so that large patterns are there too.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1], of any size that the network takes.
        at: the points, with weights where they are not to count alike: "conv2 + 0.5 * mixed3b"; by default all stages
            down to one position for 16 pixels.
        through: all makes a row of pictures instead, of the first stage, of the first two, and so on.
        size: height and width of what is made; by default those of the image.
        steps: passes at each scale.
        scales: sizes from small to large, each half of the next; 0: as many as have 64 pixels or more.
        loss: gram, or wasserstein (the sorted values along fixed directions: Heitz et al. 2021).
        tile: whether the picture has no seams when it is laid beside itself; its size is then a whole number of
            strides, such as 256.
        parameterization: what is moved: pixels, or fourier (a spectrum with decorrelated colors).
        step: lbfgs, or adam.
        lr: the first step of lbfgs, as a root mean square, or Adam's; by default 0.05 and 0.03 (fourier: 0.1).
        tv: weight of the penalty on total variation (squared differences of neighbors, their mean).
        snapshots: how many pictures of the way are kept, where one picture is made.
        seed: of the noise that it starts from, and of the directions.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for a point without a grid, or that the network does not have; a size that it cannot take; images
            not in [0, 1]; numbers that make no sense.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    images = constant(images).to(net.device)
    size = (size[0], size[1]) if size else size_of(images)
    asked = _asked(net, at, through, size)
    if snapshots and len(asked) > 1:
        raise CallError("snapshots are of one picture on its way, and through=all makes several; leave out one of them")
    moves = Moves.of(step, lr, parameterization, steps, _RATES)
    looked = net.edit(circular) if tile else net
    # A network without a graph says so before anything else is said of it.
    looked.graph(size)
    sizes = _sizes(net, images, size, scales, next(reversed(asked.values())), tile=tile)
    way = Way(on_pass, moves.passes * len(sizes) * len(asked), snapshots, size)
    job = _Job(looked, net, images, max(size), loss, tv, seed, moves)
    made, history, left, weights, remarks = [], [], [], [], ((),) * len(images)
    for points in asked.values():
        scale = Scale()
        first = _START(images.new_zeros(len(images), images.shape[1], *sizes[0]), [seed] * len(images))
        found = grown(
            looked,
            first,
            sizes,
            partial(job.row, points, scale),
            way,
            seed=seed,
            enlarged=wrapped if tile else resized,
        )
        made.append(found.images)
        history.append(found.scores)
        left.append(job.left(points, found.images, scale))
        weights.append(scale.last.weights)
        remarks = tuple((*a, *b) for a, b in zip(remarks, found.remarks, strict=True))
    pictures = torch.stack(made, 1).cpu()
    told: dict[str, Any] = {"at": told_points(list(asked.values())[-1]), "through": through}
    told |= {**moves.told(), "size": list(size), "scales": len(sizes), "loss": loss, "tile": tile}
    told |= {"tv": tv, "snapshots": snapshots, "seed": seed}
    return Redrawn(
        net,
        record(net, "texture", told, {"images": images}, started),
        images=images,
        made=pictures,
        names=tuple(asked) if through == "all" else (told_points(asked[""]),),
        snapshots=way.pictures(pictures[:, 0]),
        measured={"loss_left": torch.stack(left, 1)} | ({"seam": _seams(pictures)} if tile else {}),
        weights=_by_point(asked, weights),
        history=torch.stack(history, 2),
        remarks=remarks,
    )


def _sizes(
    net: Network, images: Images, size: Size, scales: int, points: Mapping[str, float], *, tile: bool
) -> list[Size]:
    """From small to large: as small as there is enough to be seen of the image, and as the network can be closed at.

    Raises CallError for a size that it cannot be closed at.
    """
    found = sizes_of(net, size, scales)
    enough = [s for s in found if min(size_of(images)) * max(s) >= _SMALLEST * max(size)]
    found = enough or found[-1:]
    if not tile:
        return found
    stride = 1
    for field in receptive_fields(net, list(points), size).values():
        for steps in field.steps:
            if steps is None or steps.step == 0:
                raise CallError("a point that sees the whole picture has edges of its own; leave out tile")
            stride = math.lcm(stride, steps.step)
    if size[0] % stride or size[1] % stride:
        raise CallError(
            f"a picture without seams is a whole number of strides large, and {size[0]} x {size[1]} is no multiple of "
            f"{stride}; give --size {-(-size[0] // stride) * stride} {-(-size[1] // stride) * stride}"
        )
    return [s for s in found if not (s[0] % stride or s[1] % stride)]


def _asked(net: Network, at: str | None, through: str, size: Size) -> dict[str, dict[str, float]]:
    """The points of every picture with their weights, by its name; a single one has none."""
    if through not in ("one", "all"):
        raise CallError(f"through is one or all, not '{through}'")
    points = points_of(net, fine_stages(net) if at is None else at, size)
    check_points(net, points, size)
    if through == "one":
        return {"": points}
    names = list(points)
    return {f"up to {name}" if i else name: {n: points[n] for n in names[: i + 1]} for i, name in enumerate(names)}


@dataclass(frozen=True, eq=False)
class _Job:
    """What the ascents of all sizes have in common; ``net`` looks at what is made, ``plain`` at what is given."""

    net: Network
    plain: Network
    images: Images
    whole: int
    loss: LossName
    tv: float
    seed: int
    moves: Moves

    def row(self, points: Mapping[str, float], scale: Scale, start: Images) -> Row:
        """The row for these pictures."""
        found = self._terms(points, size_of(start))
        return self.moves.row(scale.of(self.net, start, found), penalties(start, tv=self.tv))

    @torch.no_grad()
    def left(self, points: Mapping[str, float], made: Images, scale: Scale) -> Tensor:
        """The loss of the pictures as a share of what it was at the start, (N,)."""
        return scale.left(trace_for(self.net, made, list(points)))

    def _terms(self, points: Mapping[str, float], size: Size) -> list[Term]:
        # Of what is given as much is seen as of what is made: the same share of its size.
        given = scaled(self.images, max(size) / self.whole)
        return terms(self.plain, [Sample(given)], points, size, loss=self.loss, seed=self.seed)


def _by_point(asked: Mapping[str, Mapping[str, float]], weights: Sequence[Tensor]) -> dict[str, Tensor]:
    """By point (N, S), 0 where a picture was made without it."""
    names = list(dict.fromkeys(name for points in asked.values() for name in points))
    found = {}
    for name in names:
        rows = [
            own[list(points).index(name)] if name in points else torch.zeros(own.shape[1], dtype=own.dtype)
            for points, own in zip(asked.values(), weights, strict=True)
        ]
        found[name] = torch.stack(rows, 1)
    return found


def _seams(made: Tensor) -> Tensor:
    """How much more pixels differ across the edges than beside one another, (N, S): 1 where there is no seam."""
    found = []
    for axis in (3, 4):
        first, last = made.select(axis, 0), made.select(axis, -1)
        across, inside = (last - first).abs().flatten(2).mean(2), made.diff(dim=axis).abs().flatten(2).mean(2)
        found.append(across / inside.clamp_min(1e-12))
    return torch.stack(found).amax(0).double().cpu()
