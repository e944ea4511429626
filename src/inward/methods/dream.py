"""DeepDream: a layer exaggerates what it sees."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.ascent import OnPass, Pass
from inward.columns.constraints import Box
from inward.columns.guided import Guided
from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.gradient import constant, keys_of, raw_gradient, trace_for, whole
from inward.methods.course import counted
from inward.methods.draws import own_draws
from inward.methods.recipe import checked_sum, summed
from inward.methods.redrawing import Way, cropped, resized, size_of, takes
from inward.methods.tiles import Tiling, tiled_gradient, tiled_scores, tiling
from inward.network.lean import lean
from inward.network.network import Network
from inward.network.stages import stages
from inward.pictures import read_whole
from inward.results import Redrawn
from inward.runs.record import record
from inward.types import Images, Scores, Size

Other: TypeAlias = Float[Tensor, "m c tall wide"]
# Of pictures above this many pixels, and how large tiles then are.
_LARGE, _TILE = 1024 * 1024, 768
_SMALLEST = 32
_LOST = "{}, so that its tiles are pictures of their own: approximate"


@own_draws
def dream(
    net: Network,
    images: Images,
    *,
    at: str | None = None,
    guide: str | None = None,
    steps: int = 10,
    octaves: int = 4,
    octave_scale: float = 1.4,
    lr: float = 0.01,
    jitter: int = 32,
    tile: int | None = None,
    overlap: int | None = None,
    zoom: int = 0,
    zoom_rate: float = 1.05,
    snapshots: int = 0,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Redrawn:
    """The image with what a layer sees in it exaggerated: gradient ascent of its activations, from small to large.

    Mordvintsev, Olah and Tyka, "Inceptionism: going deeper into neural networks", 2015. At every size the picture is
    moved along the gradient divided by its mean absolute value; what was added is enlarged and goes on. Pictures that
    are larger than memory are looked at in tiles that have all the pixels that their positions see, so that the answer
    is that of the whole picture.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1], of any size that the network takes.
        at: what is exaggerated: a point (its energy), a unit, a class, or a sum with factors; by default the last stage
            but one.
        guide: the file of a picture: every position of the point at is led to what it agrees with best in there.
        steps: at each octave.
        octaves: sizes from small to large.
        octave_scale: how much larger each is than the one before.
        lr: how far a step moves values in the mean, in [0, 1] units (the authors' 1.5 of 255 is 0.006).
        jitter: the picture is shifted by up to so many pixels at random at each step, and back.
        tile: the size of tiles in pixels; by default 768 of pictures of more than a megapixel, and none of others.
        overlap: pixels around a tile's own, instead of all that its positions see: faster, and not exact; the error of
            the first gradient is measured.
        zoom: so many frames, each a dream of the one before, enlarged about its middle; 0: one picture.
        zoom_rate: by how much each frame is enlarged.
        snapshots: how many pictures of the way are kept.
        seed: of the shifts.
        on_pass: called after every step (with zoom after every frame) with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for what the network does not have, a guide without a point, tiles that are smaller than what a
            position sees, a size that the network cannot take, images not in [0, 1], or numbers that make no sense.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    images = constant(images).to(net.device)
    size = size_of(images)
    plan = _Plan(
        steps=counted("steps", steps),
        octaves=counted("octaves", octaves),
        octave_scale=octave_scale,
        lr=lr,
        jitter=jitter,
        tile=_tile_of(size) if tile is None else tile,
        overlap=overlap,
        seed=seed,
    )
    sizes = plan.sizes(size)
    if not plan.tile and not all(takes(net, one) for one in sizes):
        # Of a picture that it does not take either, it says which it does.
        net.graph(size)
        raise CallError(f"{net.name} does not take smaller pictures, and octaves are that; give octaves=1")
    asked = at or stages(net)[-2:][0]
    picture = None if guide is None else cropped(read_whole(guide, net).to(images), net.size)
    objective, told_at = _objective(net, images, asked, picture, plan.tile or None)
    dreamer = _Dreamer(net, objective, plan)
    frames = zoom or 1
    if zoom < 0 or not 1 <= zoom_rate <= 2:
        raise CallError(f"a zoom has 0 frames or more, each 1 to 2 times as large, not {zoom} and {zoom_rate:g}")
    way = Way(on_pass, zoom or plan.steps * len(sizes), snapshots, size)
    before = dreamer.score(images)
    history, pictures = [], images
    for frame in range(frames):
        pictures = pictures if frame == 0 else _closer(pictures, zoom_rate)
        tell = None if zoom else way.part(plan.steps * len(sizes)).share(0, 1)
        pictures, scores = dreamer.run(pictures, sizes, tell)
        history.append(scores[-1:] if zoom else scores)
        if zoom:
            way.part(1).share(0, 1)(Pass(1, 1, scores[-1], _held(pictures)))
    told: dict[str, Any] = {
        "at": told_at,
        "guide": guide and str(Path(guide).absolute()),
        "steps": steps,
        "octaves": octaves,
    }
    told |= {"octave_scale": octave_scale, "lr": lr, "jitter": jitter, "tile": plan.tile, "overlap": overlap}
    told |= {"zoom": zoom, "zoom_rate": zoom_rate, "snapshots": snapshots, "seed": seed}
    inputs = {} if picture is None else {"guide": picture}
    made = pictures[:, None].cpu()
    measured = {"before": before.cpu()[:, None], "final": dreamer.score(pictures).cpu()[:, None]}
    measured |= {k: torch.full((len(images), 1), v, dtype=torch.float64) for k, v in dreamer.errors.items()}
    return Redrawn(
        net,
        record(net, "dream", told, {"images": images, **inputs}, started, tuple(dreamer.notes)),
        images=images,
        made=made,
        names=("dream",),
        snapshots=way.pictures(made[:, 0]),
        measured=measured,
        weights={},
        history=torch.cat(history)[:, :, None],
        remarks=((),) * len(images),
    )


def _held(pictures: Images) -> Callable[[], Images]:
    return lambda: pictures


def _tile_of(size: Size) -> int:
    return _TILE if size[0] * size[1] > _LARGE else 0


def _objective(net: Network, images: Images, at: str, guide: Other | None, tile: int | None) -> tuple[Objective, str]:
    """What is exaggerated, and how the manifest names it."""
    size = (tile, tile) if tile else size_of(images)
    if guide is None:
        return summed(net, at, size), checked_sum(net, at, size)
    key = whole(net, at, size)
    with torch.no_grad():
        features = trace_for(net, guide, [key]).features(key)[0].flatten(1)
    return Guided(key, features), key


def _closer(pictures: Images, rate: float) -> Images:
    """The middle of pictures, enlarged to their size."""
    height, width = size_of(pictures)
    tall, wide = max(1, round(height / rate)), max(1, round(width / rate))
    top, left = (height - tall) // 2, (width - wide) // 2
    return resized(pictures[:, :, top : top + tall, left : left + wide], (height, width))


@dataclass(frozen=True)
class _Plan:
    """How pictures are moved."""

    steps: int
    octaves: int
    octave_scale: float
    lr: float
    jitter: int
    tile: int
    overlap: int | None
    seed: int

    def __post_init__(self) -> None:
        if not 1 < self.octave_scale <= 8:
            raise CallError(f"octave_scale is above 1 and at most 8, not {self.octave_scale:g}")
        if not 0 < self.lr < float("inf"):
            raise CallError(f"lr is a number above 0, not {self.lr:g}")
        if self.jitter < 0 or self.tile < 0:
            raise CallError(f"jitter and tile are 0 pixels or more, not {self.jitter} and {self.tile}")
        if self.overlap is not None and self.overlap < 0:
            raise CallError(f"an overlap is 0 pixels or more, not {self.overlap}")

    def sizes(self, size: Size) -> list[Size]:
        """From small to large. Raises CallError where the smallest is too small to see anything in."""
        found = []
        for octave in reversed(range(self.octaves)):
            factor = self.octave_scale**octave
            found.append((round(size[0] / factor), round(size[1] / factor)))
        if min(found[0]) < min(_SMALLEST, *size):
            raise CallError(
                f"the first of {self.octaves} octaves would have {found[0][0]} x {found[0][1]} pixels; give fewer "
                "octaves, or a larger picture"
            )
        return found


class _Dreamer:
    """Moves pictures; remembers what is to be said of it."""

    def __init__(self, net: Network, objective: Objective, plan: _Plan) -> None:
        self.net, self.objective, self.plan = net, objective, plan
        self.notes: list[str] = []
        self.errors: dict[str, float] = {}
        self._cuts: dict[Size, Tiling] = {}

    def run(self, images: Images, sizes: list[Size], tell: OnPass | None) -> tuple[Images, Tensor]:
        """The pictures and the scores before every step, (passes, N)."""
        generator = torch.Generator().manual_seed(self.plan.seed)
        base = [resized(images, size) for size in sizes]
        now, scores = base[0], []
        for number, here in enumerate(base):
            # What was added goes on; what the picture has of its own at this size was never taken away.
            if number:
                now = (here + _resized_change(now - base[number - 1], size_of(here))).clamp(0, 1)
            for _ in range(self.plan.steps):
                now, score = self._step(now, generator)
                scores.append(score)
                if tell is not None:
                    tell(Pass(len(scores), self.plan.steps * len(sizes), score, _held(now)))
        return now, torch.stack(scores)

    def _step(self, images: Images, generator: torch.Generator) -> tuple[Images, Tensor]:
        most = self.plan.jitter
        shift = torch.randint(-most, most + 1, (2,), generator=generator).tolist() if most else [0, 0]
        shown = images.roll(shift, (2, 3))
        scores, gradient = self._gradient(shown)
        size = gradient.abs().flatten(1).mean(1).view(-1, 1, 1, 1)
        moved = shown + self.plan.lr * torch.where(size > 0, gradient / torch.where(size > 0, size, 1), 0)
        return Box().project(moved).roll([-s for s in shift], (2, 3)), scores.cpu()

    def _gradient(self, images: Images) -> tuple[Scores, Tensor]:
        size = size_of(images)
        if not self.plan.tile or max(size) <= self.plan.tile:
            return raw_gradient(lean(self.net, size, half=False), images, self.objective)
        cut = self._tiling(size)
        fast = lean(self.net, (cut.size, cut.size), half=False)
        if self.plan.overlap is None or not cut.is_exact:
            return tiled_gradient(fast, images, self.objective, cut)
        scores, found = tiled_gradient(fast, images, self.objective, cut.narrowed(self.plan.overlap))
        if not self.errors:
            _, exact = tiled_gradient(fast, images, self.objective, cut.enough())
            self.errors["overlap_error"] = ((found - exact).norm() / exact.norm().clamp_min(1e-30)).item()
        return scores, found

    def _tiling(self, size: Size) -> Tiling:
        if size not in self._cuts:
            self._cuts[size] = found = tiling(self.net, self.objective, self.plan.tile, size)
            told = _LOST.format(found.why)
            if not found.is_exact and told not in self.notes:
                self.notes.append(told)
        return self._cuts[size]

    @torch.no_grad()
    def score(self, images: Images) -> Scores:
        """The objective of pictures as they are."""
        size = size_of(images)
        if self.plan.tile and max(size) > self.plan.tile:
            cut = self._tiling(size)
            return tiled_scores(self.net, images, self.objective, cut if self.plan.overlap is None else cut.enough())
        return self.objective(trace_for(self.net, images, keys_of(self.net, self.objective, size)))


def _resized_change(change: Tensor, size: Size) -> Tensor:
    """A change at another size, which may be below 0."""
    return F.interpolate(change, size, mode="bilinear", align_corners=False)
