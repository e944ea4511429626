"""What methods that make pictures of pictures have in common: sizes, points with weights, what is told on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.ascent import Ascent, OnPass, Pass, Row, ascend
from inward.columns.goals import Plateau
from inward.columns.lbfgs import lbfgs
from inward.columns.matching import Alike
from inward.columns.objectives import Objective
from inward.columns.parameterizations import parameterization
from inward.columns.penalties import L2, L6, TotalVariation
from inward.columns.starts import Given, Start
from inward.columns.steps import adam
from inward.errors import CallError
from inward.gradient import keys_of, trace_for, whole
from inward.methods.course import counted
from inward.methods.recipe import terms_of
from inward.network.lean import lean
from inward.network.network import Network
from inward.network.room import images_at_once
from inward.types import Images, Scores, Size

StepName: TypeAlias = Literal["lbfgs", "adam"]
# Pairs that L-BFGS keeps; at 2048 x 2048 pixels they are 1 GB.
MEMORY = 10
# L-BFGS is at its end where ten passes did no better than the ten before.
_SETTLED = Plateau(window=10, tolerance=0.0)
_GIVEN = Given()


def size_of(images: Images) -> Size:
    """Height and width."""
    return (images.shape[2], images.shape[3])


def resized(images: Images, size: Size) -> Float[Tensor, "n c tall wide"]:
    """Pictures at another size, smoothed where that is smaller; values stay in [0, 1]."""
    if size_of(images) == size:
        return images
    found = F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
    return found.clamp(0, 1)


def scaled(images: Images, factor: float) -> Float[Tensor, "n c tall wide"]:
    """:func:`resized` by a factor."""
    height, width = size_of(images)
    return resized(images, (max(1, round(height * factor)), max(1, round(width * factor))))


def cropped(images: Images, size: Size) -> Float[Tensor, "n c tall wide"]:
    """The middle of pictures that has the proportions of a size, at that size."""
    height, width = size_of(images)
    factor = min(height / size[0], width / size[1])
    tall, wide = min(height, max(1, round(size[0] * factor))), min(width, max(1, round(size[1] * factor)))
    top, left = (height - tall) // 2, (width - wide) // 2
    return resized(images[:, :, top : top + tall, left : left + wide], size)


def wrapped(images: Images, size: Size) -> Float[Tensor, "n c tall wide"]:
    """:func:`resized` for pictures that go on at the opposite edge."""
    if size_of(images) == size:
        return images
    # Beyond what the filter reaches, in whole pixels at both sizes.
    margins = [min(n, 8) for n in size_of(images)]
    scale = [new / old for new, old in zip(size, size_of(images), strict=True)]
    whole = [max(1, round(m * s)) for m, s in zip(margins, scale, strict=True)]
    around = F.pad(images, (margins[1], margins[1], margins[0], margins[0]), mode="circular")
    large = resized(around, (size[0] + 2 * whole[0], size[1] + 2 * whole[1]))
    return large[:, :, whole[0] : whole[0] + size[0], whole[1] : whole[1] + size[1]]


def scales_of(size: Size, count: int, smallest: int = 64) -> list[Size]:
    """Sizes from small to large, each half of the next.

    Args:
        size: the last.
        count: how many, at most as many as keep the short side at ``smallest`` pixels; 0: all of these.

    Raises CallError for a count below 0.
    """
    if count < 0:
        raise CallError(f"scales are 1 or more, or 0 for as many as there are, not {count}")
    found = [size]
    while (count == 0 or len(found) < count) and min(found[-1]) >= 2 * smallest:
        height, width = found[-1]
        found.append((round(height / 2), round(width / 2)))
    return found[::-1]


def sizes_of(net: Network, size: Size, count: int) -> list[Size]:
    """:func:`scales_of`; of as many as there are, those that the network takes, and the last."""
    found = scales_of(size, count)
    return found if count else [*(s for s in found[:-1] if takes(net, s)), size]


def takes(net: Network, size: Size) -> bool:
    """Whether a network takes pictures of a size."""
    try:
        net.graph(size)
    except CallError:
        return False
    return True


def points_of(net: Network, words: str | Sequence[str], size: Size) -> dict[str, float]:
    """Whole points and their weights: of a sum such as "conv2 + 0.5 * mixed3b", or of several, which add up.

    Raises CallError for a unit, a point twice, or a weight that is not above 0.
    """
    found: dict[str, float] = {}
    for text in [words] if isinstance(words, str) else words:
        for factor, name in zip(*terms_of(text), strict=True):
            key = whole(net, name, size)
            if key in found:
                raise CallError(f"'{key}' is named twice; give it one weight")
            if not factor > 0:
                raise CallError(f"the weight of '{key}' is above 0, not {factor:g}")
            found[key] = factor
    if not found:
        raise CallError("no point is named; give at least one")
    return found


def told_points(points: dict[str, float]) -> str:
    """As manifests name them, and :func:`points_of` reads them."""
    return " + ".join(name if weight == 1 else f"{weight:.15g} * {name}" for name, weight in points.items())


def penalties(images: Images, **weights: float) -> Objective | None:
    """The weighted sum of penalties (tv, l2, l6), each a mean over the values of an image; None where there is none.

    Raises CallError for a weight below 0.
    """
    known = {"tv": TotalVariation(2.0), "l2": L2(0.5), "l6": L6()}
    total: Objective | None = None
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise CallError(f"{name} is a number from 0 up, not {weight:g}")
        if weight:
            part = weight / images[0].numel() * known[name]
            total = part if total is None else total + part
    return total


@dataclass(frozen=True)
class Moves:
    """How pictures are moved, whatever is asked of them.

    Attributes:
        step: lbfgs or adam.
        lr: the first step of the one, the rate of the other.
        parameterization: what is moved, by its name.
        passes: of each ascent.
        decay: of L-BFGS on pixels, :func:`inward.columns.lbfgs.lbfgs`.
    """

    step: StepName
    lr: float
    parameterization: str
    passes: int
    decay: float = 0.0

    @classmethod
    def of(
        cls,
        step: StepName,
        lr: float | None,
        parameterization: str,
        passes: int,
        rates: Mapping[str, tuple[float, float]],
    ) -> Moves:
        """With the rate of a method where none is given: by parameterization, that of L-BFGS and that of Adam.

        Raises CallError for a word that there is none of, a rate that is not above 0, or no passes.
        """
        if parameterization not in rates:
            raise CallError(f"there is no '{parameterization}' to be moved here; write {' or '.join(rates)}")
        if step not in ("lbfgs", "adam"):
            raise CallError(f"there is no step '{step}'; write lbfgs or adam")
        lr = rates[parameterization][step == "adam"] if lr is None else lr
        if not 0 < lr < float("inf"):
            raise CallError(f"lr is a number above 0, not {lr:g}")
        return cls(step, lr, parameterization, counted("steps", passes))

    def row(self, objective: Objective, costs: Objective | None, start: Start = _GIVEN) -> Row:
        """The row of an ascent of an objective less its penalties."""
        moved = parameterization(self.parameterization)
        bounds, decay = ((0.0, 1.0), self.decay) if moved.pixels else (None, 0.0)
        quasi_newton = lbfgs(self.lr, memory=MEMORY, bounds=bounds, decay=decay)
        return Row(
            objective=objective if costs is None else objective - costs,
            step=quasi_newton if self.step == "lbfgs" else adam(self.lr),
            passes=self.passes,
            start=start,
            parameterization=moved,
            prepare=partial(lean, half=False),
            plateau=_SETTLED if self.step == "lbfgs" else None,
            best=self.step == "lbfgs",
        )

    def told(self) -> dict[str, Any]:
        """As manifests have it."""
        return {"steps": self.passes, "parameterization": self.parameterization, "step": self.step, "lr": self.lr}


@torch.no_grad()
def likenesses(net: Network, images: Images, points: Mapping[str, float]) -> list[tuple[float, Alike]]:
    """The features of images at points, to be met, with the weights of these.

    Raises CallError where an image has no features at a point.
    """
    trace, found = trace_for(net, images, list(points)), []
    for name, weight in points.items():
        axes = trace.layout(name).axes
        value = trace[name].movedim(axes.index("n"), 0) if "n" in axes else trace[name]
        if not value.flatten(1).any(1).all():
            raise CallError(f"all features of '{name}' are 0 on an image: nothing is kept of it; name another")
        found.append((weight, Alike(name, value)))
    return found


@dataclass
class Way:
    """What is told and kept of the passes of several ascents, one after the other.

    Attributes:
        on_pass: told of every pass, counted over all ascents, with pictures of the final size.
        total: passes in all.
        snapshots: how many pictures of the way are kept, evenly spaced.
        size: of the pictures that are told of and kept.
    """

    on_pass: OnPass | None
    total: int
    snapshots: int
    size: Size
    done: int = 0
    kept: dict[int, list[Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.snapshots <= max(0, self.total - 1):
            raise CallError(
                f"there are 0 to {max(0, self.total - 1)} snapshots on a way of {self.total} steps, "
                f"not {self.snapshots}"
            )

    def part(self, passes: int, shown: Callable[[Images], Images] = lambda images: images) -> Part:
        """The observer of the next ascent, of so many passes; ``shown`` makes of its pictures what is looked at."""
        first, self.done = self.done, self.done + passes
        return Part(self, first, passes, shown)

    @property
    def when(self) -> set[int]:
        """After which passes snapshots are taken."""
        return {(i + 1) * self.total // (self.snapshots + 1) for i in range(self.snapshots)}

    def pictures(self, last: Images) -> Tensor:
        """The snapshots, (N, T, C, H, W); those that an early end left out are as the last picture."""
        last = last.cpu()
        found = []
        for when in sorted(self.when):
            parts = self.kept.get(when, [])
            have = sum(map(len, parts))
            found.append(torch.cat([*parts, last[have:]]))
        return torch.stack(found, 1) if found else last.new_zeros((len(last), 0, *last.shape[1:]))


@dataclass
class Part:
    """The observer of one of several ascents, whose images may be computed one share after the other.

    Passes are counted as if the shares went on together: of the second of two halves the first pass is the middle one.
    """

    way: Way
    first: int
    passes: int
    shown: Callable[[Images], Images]

    def share(self, number: int, shares: int) -> OnPass:
        """The observer of one share of the images."""
        way = self.way

        def tell(now: Pass) -> None:
            def pictures() -> Images:
                return resized(self.shown(now.images()), way.size)

            if self.first + now.done in way.when:
                kept = way.kept.setdefault(self.first + now.done, [])
                # Where a share ended early, its last pictures stand for those it did not come to.
                kept.append(pictures().cpu())
            if way.on_pass is not None:
                done = self.first + (number * self.passes + now.done) / shares
                way.on_pass(replace(now, done=max(1, int(done)), total=way.total, images=pictures))

        return tell


@dataclass(frozen=True, eq=False)
class Climbed:
    """What an ascent of a batch found: pictures, the scores of all passes (NaN after an end), what is to be said."""

    images: Images
    scores: Tensor
    final: Scores
    remarks: tuple[tuple[str, ...], ...]


def together(net: Network, row: Row, like: Images, seed: int, watch: Part) -> Climbed:
    """An ascent of images that do not depend on one another, as many at a time as there is memory for.

    The numbers of an image are those of its own ascent: it has nothing of the others.
    """
    count = images_at_once(net, keys_of(net, row.objective, size_of(like)), size_of(like))
    made, scores, finals, remarks = [], [], [], []
    shares = -(-len(like) // count)
    for first in range(0, len(like), count):
        some = list(range(first, min(len(like), first + count)))
        part = replace(row, objective=row.objective.select(some))
        found = ascend(net, part, like[some], seeds=[seed] * len(some), on_pass=watch.share(first // count, shares))
        made.append(found.images)
        finals.append(found.final.cpu())
        short = row.passes - len(found.scores)
        scores.append(torch.cat([found.scores, found.scores.new_full((short, len(some)), torch.nan)]))
        remarks += [_said(found, row.passes, index) for index in range(len(some))]
    return Climbed(torch.cat(made), torch.cat(scores, 1), torch.cat(finals), tuple(remarks))


def _said(found: Ascent, passes: int, index: int) -> tuple[str, ...]:
    """What is to be said of how the ascent of an image ended."""
    if found.broken[index]:
        at = f"a gradient was not finite at pass {int(found.steps[index]) + 1} of {passes}"
        return (f"{at}: the ascent ended there, with the best picture before it; give a smaller lr",)
    taken = int(found.steps[index])
    if taken < passes:
        return (
            f"it was stopped after {taken} of {passes} passes, which found no lower loss; the best picture is kept",
        )
    return ()


@dataclass(frozen=True, eq=False)
class Grown:
    """Pictures that were made from small to large: the last, all scores, and what is to be said of each."""

    images: Images
    scores: Tensor
    remarks: tuple[tuple[str, ...], ...]


def grown(
    net: Network,
    first: Images,
    sizes: Sequence[Size],
    row_at: Callable[[Images], Row],
    way: Way,
    *,
    seed: int,
    shown: Callable[[Images], Images] = lambda images: images,
    enlarged: Callable[[Images, Size], Images] = resized,
) -> Grown:
    """One ascent a size, each from the picture before it; ``row_at`` gives the row for the pictures it starts from."""
    pictures, scores = first, []
    remarks: tuple[tuple[str, ...], ...] = ((),) * len(first)
    for size in sizes:
        pictures = enlarged(pictures, size)
        row = row_at(pictures)
        found = together(net, row, pictures, seed, way.part(row.passes, shown))
        pictures = found.images
        scores.append(found.scores)
        remarks = tuple((*a, *b) for a, b in zip(remarks, found.remarks, strict=True))
    return Grown(pictures, torch.cat(scores), remarks)
