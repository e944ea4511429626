"""Directions: objectives of all the units of a point at once, as a vector of numbers.

Features are (N, C, ...) whatever the network's layout; the dot product is over the C units, at each
position, and the mean over the positions is the score (class tokens are no position). Vectors and
targets are kept as constant copies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.columns.objectives import Objective, OfPoint, wide
from inward.errors import CallError, numbered, there_are
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.trace import Trace
from inward.types import Images, Scores

# A picture that starts far from the direction has a cosine near 0, or below: its power would leave no gradient, or
# turn the sign of an even one.
_FLOOR = 0.1


@dataclass(frozen=True, eq=False)
class Direction(OfPoint):
    """The dot product of the features with a vector, its mean over the positions, or at one place.

    Attributes:
        point: a whole point.
        vector: (C,), for all images, or (N, C), one an image.
        place: (Y, X) on the grid of the point, counted from 0.

    Raises CallError for a unit instead of a point, for a vector that is 0 or not finite, for one
    that does not fit the point, and for a place outside the grid.
    """

    point: str
    vector: Tensor
    place: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "vector", _constant(self.vector, "vector", {1: "(C,)", 2: "(N, C)"}))

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.vector.ndim == 1 else replace(self, vector=self.vector[list(images)])

    def __call__(self, trace: Trace) -> Scores:
        return _along(trace, self.point, self.vector, self.place, 0)


@dataclass(frozen=True, eq=False)
class CosineDirection(OfPoint):
    """``a·v max(0.1, cos(a, v))^power`` of the features a and a vector v, at each position; else as :class:`Direction`.

    A large dot product alone can be one of features that point elsewhere; the cosine asks that they
    point along v. Carter, Armstrong, Schubert, Johnson and Olah, "Activation atlas", 2019,
    doi:10.23915/distill.00015; the floor of 0.1 is that of their code. A power of 0 is a Direction.

    Raises CallError as Direction does, and for a power below 0.
    """

    point: str
    vector: Tensor
    power: float = 2.0
    place: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_power(self.power)
        object.__setattr__(self, "vector", _constant(self.vector, "vector", {1: "(C,)", 2: "(N, C)"}))

    def select(self, images: Sequence[int]) -> Objective:
        return self if self.vector.ndim == 1 else replace(self, vector=self.vector[list(images)])

    def __call__(self, trace: Trace) -> Scores:
        return _along(trace, self.point, self.vector, self.place, self.power)


@dataclass(frozen=True, eq=False)
class Caricature(OfPoint):
    """``a·t max(0.1, cos(a, t))^power`` of the features a and those of an image, t, at each position; the mean.

    What the network sees in the image, exaggerated: the dot product has no best length. After
    Olah's feature inversion caricatures in Lucid (2018), who take one dot product and one cosine of
    the whole point; here each position has its own, as in :class:`CosineDirection`, so that a
    place of strong features does not decide for all others.

    Attributes:
        point: a whole point, on a grid or a vector.
        target: (C, Y, X), or (C,) for a vector, for all images; with N in front, one an image.
        power: how much the form counts, against the size; 0 is the dot product alone.

    Raises CallError for a unit instead of a point, for a target that is 0, not finite or does not
    fit the point, and for a power below 0.
    """

    point: str
    target: Tensor
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_power(self.power)
        shapes = {1: "(C,)", 2: "(N, C)", 3: "(C, Y, X)", 4: "(N, C, Y, X)"}
        object.__setattr__(self, "target", _constant(self.target, "target", shapes))

    @property
    def _one_an_image(self) -> bool:
        return self.target.ndim in (2, 4)

    def select(self, images: Sequence[int]) -> Objective:
        return replace(self, target=self.target[list(images)]) if self._one_an_image else self

    def __call__(self, trace: Trace) -> Scores:
        features = wide(trace.features(self.point))
        target = self.target if self._one_an_image else self.target[None]
        target = _fitting(target, features, "target", self.point)
        return _dots(_rows(features), _rows(target), self.power).mean(1)


def difference(net: Network, first: Images, second: Float[Tensor, "m c v u"], point: str) -> Float[Tensor, " k"]:
    """The direction from the second images to the first: the difference of their mean features, of length 1.

    The mean is over the positions of a point and over the images of a batch, whose sizes may differ.
    For :class:`Direction`: what the first have and the second have not.

    Raises:
        CallError: for a unit instead of a point, and where there is no difference.
    """
    with ordinary(net.device), torch.no_grad():
        gap = _mean_features(net, first, point) - _mean_features(net, second, point)
        length = gap.norm()
        if length == 0:
            raise CallError(f"both images have the same mean features at '{point}'; give two that differ there")
        return gap / length


def caricature(net: Network, image: Images, point: str, power: float = 1.0) -> Caricature:
    """The caricature of an image, for pictures of its size: of several images, one for each picture of a batch."""
    with ordinary(net.device), torch.no_grad():
        features = net.trace(image, point).features(point)
        return Caricature(point, features[0] if len(features) == 1 else features, power)


def _mean_features(net: Network, images: Images, point: str) -> Tensor:
    if net.resolve(point, (images.shape[2], images.shape[3])).unit is not None:
        raise CallError(f"a direction is of a whole point, and '{point}' is a unit; leave out the unit")
    return _rows(wide(net.trace(images, point).features(point))).mean((0, 2))


def _rows(features: Tensor) -> Tensor:
    """(N, C, ...) as (N, C, positions), one for a vector."""
    return features[:, :, None] if features.ndim == 2 else features.flatten(2)


def _along(trace: Trace, point: str, vector: Tensor, place: tuple[int, int] | None, power: float) -> Scores:
    features = wide(trace.features(point))
    if place is not None:
        _check_place(trace, features, point, place)
        features = features[:, :, place[0], place[1]]
    rows = _rows(features)
    target = _fitting(vector if vector.ndim == 2 else vector[None], rows[:, :, 0], "vector", point)
    return _dots(rows, target[:, :, None], power).mean(1)


def _dots(features: Tensor, target: Tensor, power: float) -> Tensor:
    """Dot products of (N, C, P) with (N or 1, C, P or 1), times a power of the cosines: (N, P)."""
    dots = (features * target).sum(1)
    if power == 0:
        return dots
    # Features that are 0 have no cosine; normalize leaves them 0, with a finite gradient.
    cosines = (F.normalize(features, dim=1) * F.normalize(target, dim=1)).sum(1)
    return dots * cosines.clamp_min(_FLOOR) ** power


def _check_place(trace: Trace, features: Tensor, point: str, place: tuple[int, int]) -> None:
    if not trace.layout(point).has_grid:
        raise CallError(f"'{point}' has no grid, so {place} is no place of it; leave out place")
    height, width = features.shape[2:]
    if not (0 <= place[0] < height and 0 <= place[1] < width):
        grid = f"{height} x {width} (Y, X from 0)"
        raise CallError(f"the place {place} lies outside the grid of '{point}', which is {grid}")


def _fitting(target: Tensor, features: Tensor, name: str, point: str) -> Tensor:
    """``target``, (N or 1, C, ...), where the features are and of their dtype; each image has the shape of theirs."""
    if target.shape[1:] != features.shape[1:]:
        shapes = f"{tuple(target.shape[1:])} and the features of '{point}' are of {tuple(features.shape[1:])}"
        raise CallError(f"the {name} is of the shape {shapes}; make it of this point, at this size of images")
    if len(target) not in (1, len(features)):
        raise CallError(
            f"{there_are(len(target), name)} for {numbered(len(features), 'image')}; give one, or one an image"
        )
    return target.to(features)


def _constant(values: Tensor, name: str, shapes: dict[int, str]) -> Tensor:
    """A copy that no later change of the original reaches, and that an ascent can differentiate around."""
    if values.ndim not in shapes:
        raise CallError(f"a {name} is of the shape {' or '.join(shapes.values())}, not {tuple(values.shape)}")
    with torch.inference_mode(False), torch.no_grad():
        copy = values.clone()
    if not copy.isfinite().all() or not copy.any():
        raise CallError(f"a {name} is of finite numbers that are not all 0, and this is not; check what made it")
    return copy


def _check_power(power: float) -> None:
    if not (power >= 0 and math.isfinite(power)):
        raise CallError(f"the power of the cosine is a number from 0 up, not {power:g}")
