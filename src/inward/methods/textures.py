"""What texture synthesis and style transfer share: the statistics of pictures, as terms with weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from inward.columns.objectives import Objective, Weighted
from inward.columns.texture import Gram, SlicedWasserstein, along, gram, on_grid, orthogonal
from inward.errors import CallError
from inward.gradient import trace_for
from inward.network.network import Network
from inward.network.stages import stages
from inward.network.trace import Trace
from inward.types import Images, Scores, Size

LossName: TypeAlias = Literal["gram", "wasserstein"]
# Beyond this stride a texture is no more than where things are.
_COARSEST = 16
# A loss that is less than this share of the target's energy counts as if it was that much.
_MET = 1e-4


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures whose statistics are to be met: (1, C, h, w) by all images, or (N, C, h, w), one an image.

    Attributes:
        share: of all samples.
        region: (1, H, W) in [0, 1], where in the picture that is made; None: everywhere.
    """

    pictures: Images
    share: float = 1.0
    region: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Term:
    """One point and one sample: minus the distance of their statistics."""

    point: str
    sample: int
    weight: float
    objective: Gram | SlicedWasserstein


def fine_stages(net: Network) -> list[str]:
    """The stages of a network whose grid is not coarser than one position for 16 pixels."""
    found = []
    for name in stages(net):
        point = net.points[name]
        grid = None if point.shape is None else point.layout.grid_size(point.shape)
        if grid is not None and _COARSEST * grid[0] >= net.size[0] - _COARSEST:
            found.append(name)
    return found or stages(net)[:1]


def check_points(net: Network, points: Mapping[str, float], size: Size) -> None:
    """Raises CallError for a point without positions, of which there is no texture."""
    for name in points:
        layout = net.layout_of(net.resolve(name, size), size)
        if not layout.has_units or not layout.has_grid:
            raise CallError(f"'{name}' has no grid of positions, and so no texture; name a point before it")


@torch.no_grad()
def terms(
    net: Network, samples: Sequence[Sample], points: Mapping[str, float], size: Size, *, loss: LossName, seed: int
) -> list[Term]:
    """A term for every sample and point, with its targets computed once.

    Args:
        points: their weights.
        size: of the pictures that are made.

    Raises CallError for another loss, or regions with one that has none for them.
    """
    if loss not in ("gram", "wasserstein"):
        raise CallError(f"there is no loss '{loss}'; write gram or wasserstein")
    found = []
    for number, sample in enumerate(samples):
        trace = trace_for(net, sample.pictures, list(points))
        for name, weight in points.items():
            found.append(Term(name, number, weight * sample.share, _target(trace, name, sample, loss, seed, size, net)))
    return found


def _target(
    trace: Trace, name: str, sample: Sample, loss: LossName, seed: int, size: Size, net: Network
) -> Gram | SlicedWasserstein:
    features = trace.features(name)
    if loss == "wasserstein":
        if sample.region is not None:
            raise CallError("regions are of Gram matrices; leave them out, or give --loss gram")
        directions = orthogonal(features.shape[1], seed).to(features.device)
        return SlicedWasserstein(name, directions, along(features, directions))
    mask = None
    if sample.region is not None:
        point = net.graph(size).points[name]
        grid = None if point.shape is None else point.layout.grid_size(point.shape)
        if grid is None or features.ndim != 4:
            raise CallError(
                f"the grid of '{name}' is not known, so that regions have no places there; name another point"
            )
        mask = on_grid(sample.region, grid)
    return Gram(name, gram(features), mask)


@torch.no_grad()
def at_start(net: Network, start: Images, found: Sequence[Term]) -> list[Scores]:
    """The loss of every term at the first pictures, (N,) each."""
    trace = trace_for(net, start, list(dict.fromkeys(term.point for term in found)))
    return [-term.objective(trace) for term in found]


@dataclass(frozen=True, eq=False)
class Balanced(Objective):
    """Minus the weighted mean of losses; those of a point are a share of what they were at the start, so that all
    points count alike there.

    Attributes:
        found: the terms.
        starts: (terms, N), their losses at the start.
    """

    found: tuple[Term, ...]
    starts: Tensor

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.point for term in self.found))

    def select(self, images: Sequence[int]) -> Objective:
        own = tuple(replace(t, objective=t.objective.select(images)) for t in self.found)
        return Balanced(own, self.starts[:, torch.as_tensor(images)])

    @cached_property
    def weights(self) -> Tensor:
        """What each loss is multiplied by, (terms, N); they add up to 1 at the start."""
        given = torch.tensor([term.weight for term in self.found], dtype=torch.float64)[:, None]
        # By point: one style that is there from the start does not outweigh the others.
        alike = torch.tensor([[a.point == b.point for b in self.found] for a in self.found], dtype=torch.float64)
        starts = alike @ (given * self.starts.double().cpu()) / (alike @ given)
        return given / given.sum() / torch.where(starts > 0, starts, 1)

    def __call__(self, trace: Trace) -> Scores:
        losses = torch.stack([term.objective(trace) for term in self.found])
        return (self.weights.to(losses) * losses).sum(0)


@dataclass(eq=False)
class Scale:
    """The losses of pictures that are made from small to large: what each weighs, from the first size, and the last.

    Attributes:
        now: the losses at the size that is being made.
    """

    now: Balanced | None = None

    def of(self, net: Network, start: Images, found: Sequence[Term]) -> Balanced:
        """The losses at a size, whose pictures are now these; the first of all says what each weighs."""
        if self.now is None:
            losses = torch.stack(at_start(net, start, found))
            # What is met from the start is not asked for to the last digit.
            least = torch.stack([(_MET * t.objective.energy).expand(len(start)) for t in found])
            starts = torch.maximum(losses, least.to(losses))
        else:
            starts = self.now.starts
        self.now = Balanced(tuple(found), starts)
        return self.now

    def left(self, trace: Trace) -> Tensor:
        """What is left of the losses of the last size, as a share of what there was at the start: (N,), float64."""
        losses = torch.stack([-term.objective(trace) for term in self.last.found]).double().cpu()
        return (self.last.weights * losses).sum(0)

    @property
    def last(self) -> Balanced:
        """The losses at the last size. Raises CallError before any."""
        if self.now is None:
            raise CallError("nothing has been made yet")
        return self.now


def weighted(parts: Sequence[tuple[float, Objective]]) -> Objective:
    """The sum of those objectives whose weight is not 0."""
    return Weighted(tuple((weight, part) for weight, part in parts if weight))
