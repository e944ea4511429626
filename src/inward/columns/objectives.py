"""Objectives: what is asked of the network. ``Trace -> (N,)``, always maximized.

An objective is frozen data, names the addresses that it needs, and is closed under ``+``, ``-`` and
``number *``. The batch is never averaged: image i's score depends on image i alone, or on its group.
A penalty is an objective that is subtracted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Literal, TypeAlias, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError, numbered, there_are
from inward.network.address import Address, parse
from inward.network.network import Network
from inward.network.trace import Trace, point_key
from inward.types import Logits, Scores, Size

Kind: TypeAlias = Literal["auto", "neuron", "channel", "sum", "energy", "score", "probability"]
"""What may be asked of an address, see :func:`at`."""


class Objective(ABC):
    """A score of every image of a batch, from a trace of the network."""

    @property
    @abstractmethod
    def addresses(self) -> tuple[str, ...]:
        """The addresses that must be traced."""

    @abstractmethod
    def __call__(self, trace: Trace) -> Scores:
        """The score of each image, (N,)."""

    @property
    def group(self) -> int:
        """How many neighboring images of a batch depend on one another: 1, each on itself alone; 0, all of them."""
        return 1

    def select(self, images: Sequence[int]) -> Objective:
        """The same objective for a batch of only these images of the old one, in this order (whole groups)."""
        return self

    def __add__(self, other: Objective) -> Objective:
        if not isinstance(other, Objective):
            return NotImplemented
        return Weighted((*_terms(self), *_terms(other)))

    def __radd__(self, other: object) -> Objective:
        # sum() starts at 0.
        return self if other == 0 else NotImplemented

    def __sub__(self, other: Objective) -> Objective:
        return self + -other

    def __neg__(self) -> Objective:
        return -1.0 * self

    def __rmul__(self, factor: float) -> Objective:
        if not isinstance(factor, Real):
            return NotImplemented
        return Weighted(tuple((factor * weight, part) for weight, part in _terms(self)))

    def __mul__(self, factor: float) -> Objective:
        return self.__rmul__(factor)


@dataclass(frozen=True)
class Weighted(Objective):
    """A weighted sum of objectives."""

    terms: tuple[tuple[float, Objective], ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for _, part in self.terms for a in part.addresses))

    @property
    def group(self) -> int:
        # Groups of 2 and of 3 are whole in groups of 6; what needs the whole batch (0) needs it in any company.
        return math.lcm(*(part.group for _, part in self.terms))

    def select(self, images: Sequence[int]) -> Objective:
        return Weighted(tuple((weight, part.select(images)) for weight, part in self.terms))

    def __call__(self, trace: Trace) -> Scores:
        return torch.stack([weight * part(trace) for weight, part in self.terms]).sum(0)


@dataclass(frozen=True)
class OfPart(Objective):
    """Something of another objective, ``part``, image by image; what is derived from this may have further fields."""

    part: Objective

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.part.addresses

    @property
    def group(self) -> int:
        return self.part.group

    def select(self, images: Sequence[int]) -> Objective:
        return replace(self, part=self.part.select(images))


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, Weighted) else ((1.0, objective),)


def wide(value: Tensor) -> Tensor:
    """Half precision is for the network; sums over pixels and positions are made in float32."""
    return value if value.dtype in (torch.float32, torch.float64) else value.float()


@dataclass(frozen=True)
class _OfUnit(Objective):
    """Something of one unit of a point."""

    address: str

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address,)


@dataclass(frozen=True)
class Unit(_OfUnit):
    """The activation of one neuron: ``POINT/UNIT@Y,X``; without a place, the one at the center.

    The center of a grid of 14 x 14 is (7, 7): the first behind the middle.
    """

    def __call__(self, trace: Trace) -> Scores:
        value = _of_unit(trace, self.address)
        return value if value.ndim == 1 else value[:, value.shape[1] // 2, value.shape[2] // 2]


@dataclass(frozen=True)
class Channel(_OfUnit):
    """The mean of a channel over its positions: ``POINT/UNIT``."""

    def __call__(self, trace: Trace) -> Scores:
        value = _of_unit(trace, self.address)
        return value.flatten(1).mean(1) if value.ndim > 1 else value


@dataclass(frozen=True)
class ChannelSum(_OfUnit):
    """The sum of a channel over its positions: ``POINT/UNIT``; its scale grows with the image, that of the mean not."""

    def __call__(self, trace: Trace) -> Scores:
        value = _of_unit(trace, self.address)
        return value.flatten(1).sum(1) if value.ndim > 1 else value


def _of_unit(trace: Trace, address: str) -> Tensor:
    """What a unit holds: (N, Y, X) on a grid, (N,) for one number."""
    parsed = parse(address)
    if parsed.unit is None and parsed.label is None:
        raise CallError(f"'{address}' is a whole point; name a unit of it, for example {address}/0")
    value = wide(trace[address])
    if value.ndim not in (1, 3):
        raise CallError(f"'{address}' holds {tuple(value.shape[1:])} numbers an image, which are not a grid (Y, X)")
    return value


class OfPoint(Objective):
    """Something of all the units of a point; what is derived from this has the field ``point``."""

    point: str

    def __post_init__(self) -> None:
        parsed = parse(self.point)
        if parsed.unit is not None or parsed.label is not None:
            whole = f"{type(self).__name__} is of a whole point, and '{self.point}' is a unit of one"
            raise CallError(f"{whole}; give '{point_key(parsed)}'")

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.point,)


@dataclass(frozen=True)
class Energy(OfPoint):
    """The mean of the squares of all numbers of a point (class tokens too): whatever is there becomes more.

    DeepDream: Mordvintsev, Olah and Tyka, "Inceptionism: going deeper into neural networks", 2015.

    Raises CallError where it is not known which axis of the point is the batch.
    """

    point: str

    def __call__(self, trace: Trace) -> Scores:
        axes = trace.layout(self.point).axes
        if "n" not in axes:
            raise CallError(f"which axis of '{self.point}' is the batch is not known; choose a point beside it")
        return wide(trace[self.point]).movedim(axes.index("n"), 0).square().flatten(1).mean(1)


@dataclass(frozen=True)
class _OfClasses(Objective):
    """Something of the logits and a class: one for all images, or one an image."""

    classes: int | tuple[int, ...]
    output: int = 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("class" if self.output == 0 else f"class@{self.output}",)

    def select(self, images: Sequence[int]) -> Objective:
        return self if isinstance(self.classes, int) else replace(self, classes=tuple(self.classes[i] for i in images))

    def logits(self, trace: Trace) -> tuple[Logits, Tensor]:
        """The logits and the index of every image's class."""
        logits = wide(trace[self.addresses[0]])
        if logits.ndim != 2:
            raise CallError(f"the output has the shape {tuple(logits.shape)}; class scores need (N, classes)")
        asked = (logits.device, *logits.shape)
        if asked not in self._indices:
            self._indices[asked] = self._index(logits)
        return logits, self._indices[asked]

    @cached_property
    def _indices(self) -> dict[tuple[torch.device | int, ...], Tensor]:
        """By the device and shape of logits; loops ask at every pass."""
        return {}

    def _index(self, logits: Logits) -> Tensor:
        given = [self.classes] * len(logits) if isinstance(self.classes, int) else self.classes
        if len(given) != len(logits):
            told = f"{there_are(len(given), 'class', 'classes')} for {numbered(len(logits), 'image')}"
            raise CallError(f"{told}; give one class, or one an image")
        if min(given, default=0) < 0 or max(given, default=0) >= logits.shape[1]:
            raise CallError(f"the classes must be in 0 to {logits.shape[1] - 1}, not {self.classes}")
        # One that is made in inference mode could not be kept for a gradient.
        with torch.inference_mode(False):
            return torch.tensor(given, device=logits.device)


@dataclass(frozen=True)
class ClassScore(_OfClasses):
    """The logit of a class, before softmax."""

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        return logits.gather(1, index[:, None])[:, 0]


@dataclass(frozen=True)
class Probability(_OfClasses):
    """The probability of a class, softmax(z)_y or sigmoid(z_y); to look at, rarely to climb.

    It rises most easily by lowering the logits of other classes, so that a picture need not show its
    own (Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks", 2013), and its
    gradient vanishes where the network is sure. ClassScore has neither fault.
    """

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        return trace.probabilities(logits).gather(1, index[:, None])[:, 0]


@dataclass(frozen=True)
class CrossEntropy(_OfClasses):
    """The cross-entropy, -log softmax(z)_y in nats: maximized, it leads away from the class y."""

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        return F.cross_entropy(logits, index, reduction="none")


@dataclass(frozen=True)
class Margin(_OfClasses):
    """max over j != y of z_j, minus z_y: above 0 where the class y is not the answer."""

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        if logits.shape[1] < 2:
            raise CallError("a margin is between two classes, and this network has one; use ClassScore(0)")
        return _lead(logits, index)


@dataclass(frozen=True)
class DLR(_OfClasses):
    """The difference of logits ratio: the margin divided by how far the largest logit is above the third.

    ``(max over j != y of z_j - z_y) / (z_(1) - z_(3))``: no rescaling of the logits changes it. Croce and Hein,
    "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks", 2020.
    """

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        if logits.shape[1] < 3:
            raise CallError(f"DLR compares three logits, and this network has {logits.shape[1]}; use the margin")
        top = logits.topk(3, dim=1).values
        return _lead(logits, index) / (top[:, 0] - top[:, 2] + _TINY)


@dataclass(frozen=True)
class TargetedDLR(_OfClasses):
    """The same towards a class t: ``(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2)``; one target, or one an image."""

    targets: int | tuple[int, ...] = 0

    def select(self, images: Sequence[int]) -> Objective:
        own = self.targets if isinstance(self.targets, int) else tuple(self.targets[i] for i in images)
        return replace(cast("TargetedDLR", super().select(images)), targets=own)

    def __call__(self, trace: Trace) -> Scores:
        logits, index = self.logits(trace)
        if logits.shape[1] < 4:
            raise CallError(f"targeted DLR compares four logits, and this network has {logits.shape[1]}")
        _, goal = ClassScore(self.targets, self.output).logits(trace)
        top = logits.topk(4, dim=1).values
        rise = logits.gather(1, goal[:, None])[:, 0] - logits.gather(1, index[:, None])[:, 0]
        return rise / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3]) + _TINY)


# As in the authors' code.
_TINY = 1e-12


def _lead(logits: Logits, index: Tensor) -> Scores:
    """The largest other logit minus that of the class."""
    others = logits.scatter(1, index[:, None], -torch.inf).amax(1)
    return others - logits.gather(1, index[:, None])[:, 0]


def interpolate(first: Objective, second: Objective, share: float) -> Objective:
    """``(1 - share) * first + share * second``, for a share in [0, 1]. Raises CallError for another share."""
    if not 0 <= share <= 1:
        raise CallError(f"the share of the second objective is in 0 to 1, not {share:g}")
    return (1 - share) * first + share * second


def at(network: Network, address: str, size: Size | None = None, kind: Kind = "auto") -> Objective:
    """The objective that an address means.

    | address        | auto                                  | or                          |
    | -------------- | ------------------------------------- | --------------------------- |
    | class:NAME     | score (the logit)                     | probability                 |
    | POINT/UNIT@Y,X | neuron                                |                             |
    | POINT/UNIT     | channel (the mean over its positions) | sum, neuron (at the center) |
    | POINT          | energy                                |                             |

    ``size`` is the height and width of the images to come, by default the network's own.

    Raises CallError for an address that names nothing in this network, for ``class`` without a name,
    and for a kind that the address does not have.
    """
    parsed = network.resolve(address, size)
    if parsed.output is not None and parsed.unit is None:
        raise CallError("'class' is all classes; name one, for example class:281 or class:tabby")
    known = _kinds(parsed)
    if kind == "auto":
        return next(iter(known.values()))
    if kind not in known:
        unit = "" if parsed.output is not None or parsed.unit is not None else f", or name a unit, {address}/0"
        raise CallError(f"there is no '{kind}' of '{address}'; write {' or '.join(known)}{unit}")
    return known[kind]


def _kinds(parsed: Address) -> dict[str, Objective]:
    """What can be asked of an address; first what it means by itself."""
    name = str(parsed)
    if parsed.unit is None:
        return {"energy": Energy(name)}
    if parsed.output is not None:
        return {
            "score": ClassScore(parsed.unit, parsed.output),
            "probability": Probability(parsed.unit, parsed.output),
        }
    if parsed.place is not None:
        return {"neuron": Unit(name)}
    return {"channel": Channel(name), "sum": ChannelSum(name), "neuron": Unit(name)}


def classes_of(network: Network, addresses: Sequence[str], size: Size | None = None) -> tuple[int, ...]:
    """The class of each ``class:...`` address. Raises CallError where one is not a class."""
    found = []
    for address in addresses:
        parsed = network.resolve(address, size)
        if parsed.output is None or parsed.unit is None:
            raise CallError(f"'{address}' is not a class; write class:NUMBER or class:NAME")
        found.append(parsed.unit)
    return tuple(found)
