"""The smallest eps at which an attack succeeds, image by image, by bisection."""

from __future__ import annotations

import inspect
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeAlias

import torch
from torch import Tensor

from inward.errors import CallError, numbered, there_are
from inward.methods.attacked import EPS, Classes, Norm, P, check_eps
from inward.methods.levels import LEVELS
from inward.network.network import Network
from inward.results import Perturbation
from inward.runs.record import Record
from inward.types import Images

AnyAttack: TypeAlias = Callable[..., Perturbation]
"""An attack with its options but for eps, label and target, such as ``functools.partial(inward.pgd, steps=100)``."""

# The largest eps is that many times the usual one of the norm.
_MOST = 4
# Eps between a float and its double, and how many doublings there are to the largest; the same below one 8-bit level.
_FINE, _OCTAVES = 16, 10
_FINE_LEVEL, _OCTAVES_LEVEL = 8, 8
# What rounding may add to a length.
_SLACK = 1e-9


@dataclass(frozen=True)
class Grid:
    """The eps that are tried, ascending. They are numbered from 1; 0 is no change, and one beyond the last: none works.

    Of 8-bit pictures in linf they are whole levels, so that nothing lies between two of them, and parts of the first
    level, which are judged in float. Parts of the first level, and all other eps, have a constant ratio.
    """

    points: tuple[float, ...]

    @classmethod
    def of(cls, norm: str, most: float, *, eight_bit: bool) -> Grid:
        """Up to ``most``. Raises CallError for a norm or an eps that makes no sense."""
        if norm not in P:
            raise CallError(f"there is no norm '{norm}'; write linf, l2 or l1")
        check_eps(most, norm)
        levels = math.floor(most * LEVELS * (1 + _SLACK)) if norm == "linf" and eight_bit else 0
        if levels == 0:
            return cls(_geometric(most, _FINE, _OCTAVES))
        parts = _geometric(1 / LEVELS, _FINE_LEVEL, _OCTAVES_LEVEL)
        return cls((*parts, *(k / LEVELS for k in range(2, levels + 1))))

    @property
    def beyond(self) -> int:
        """The number of no eps: none of them works."""
        return len(self.points) + 1

    def __getitem__(self, number: int) -> float:
        return 0.0 if number == 0 else self.points[number - 1] if number < self.beyond else math.inf

    def holding(self, length: float) -> int:
        """The number of the smallest eps that holds a change of this length."""
        return bisect_left(self.points, length * (1 - _SLACK)) + 1 if length else 0


def _geometric(last: float, fine: int, octaves: int) -> tuple[float, ...]:
    return tuple(last * 2 ** (k / fine) for k in range(1 - fine * octaves, 1))


def between(low: int, high: int) -> int:
    """Of the whole numbers between, the one that most powers of 2 divide: different intervals share their middles."""
    shift = (low ^ (high - 1)).bit_length() - 1
    return (high - 1) >> shift << shift


@dataclass(frozen=True, eq=False)
class Smallest(Perturbation):
    """The nearest adversarial image that an attack found at any eps, of each image.

    Attributes:
        eps: (N,) float64, the norm of its change: the smallest eps that was seen to work. 0 where the image itself is
            at the goal, infinite where none works.
        attacks: (N,), how often each image was attacked.
        records: of the attack that found each, with the eps at which it did.
    """

    batched: ClassVar[tuple[str, ...]] = (*Perturbation.batched, "eps", "attacks", "records")

    eps: Tensor
    attacks: Tensor
    records: tuple[Record, ...]

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        return replace(one, record=replace(one.records[0], inputs=one.record.inputs, notes=()))

    def notes(self) -> tuple[str, ...]:
        """What was said of the attack that found it; where nothing works, up to which eps."""
        if self.eps[0].isfinite():
            return (*self.records[0].notes, *super().notes())
        return (f"it withstands every eps that was tried, up to {self.records[0].parameters['eps']:.4g}",)

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        return {"eps": self.eps[0].item(), "attacks": int(self.attacks[0])} | super().measures()


def smallest_eps(
    net: Network,
    images: Images,
    attack: AnyAttack,
    *,
    label: Classes = None,
    target: Classes = None,
    most: float | None = None,
    norm: Norm | None = None,
) -> Smallest:
    """The smallest eps at which an attack succeeds, of each image, by bisection.

    An image that falls at an eps is attacked again at a smaller one, and one that withstands at a larger one. Images
    that come to the same eps are attacked together. What an attack finds bounds eps by its own length, which may be
    below the eps it was looked for at. An attack that misses what there is to find gives too large an eps.

    In linf, 8-bit pictures are attacked at whole levels, and where one level is enough, at parts of it, which are
    judged in float. These, and the eps of all else, have a ratio of 1.09 (1.04).

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        attack: any attack within an eps, with its other options: ``functools.partial(inward.pgd, steps=100)``.
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        most: the largest eps that is tried; by default four times the usual one (32/255, 2, 48).
        norm: the attack's; by default what its options say, or linf.

    Raises:
        CallError: for an attack without eps, a ``most`` outside (0, 1] (linf), as many classes as there are not
            images, and for what the attack refuses.
    """
    known = inspect.signature(attack).parameters.values()
    if not any(p.name == "eps" or p.kind is p.VAR_KEYWORD for p in known):
        raise CallError("this attack has no eps, and so no smallest one; call it alone")
    net.preprocess.check(images)
    measured: str = norm or option(attack, "norm", "linf")
    grid = Grid.of(measured, most_of(measured, most), eight_bit=option(attack, "eight_bit", True))
    search = _Search(grid, measured, len(images))
    while (asked := search.next()) is not None:
        number, which = asked
        classes = {"label": _of(label, which, len(images)), "target": _of(target, which, len(images))}
        given = {name: value for name, value in classes.items() if value is not None}
        where = torch.tensor(which, device=images.device)
        search.note(number, which, attack(net, images[where], eps=grid[number], **given))
    return search.found()


def most_of(norm: str, most: float | None) -> float:
    """The largest eps that is tried."""
    return _MOST * EPS.get(norm, 0.0) if most is None else most


def option(attack: AnyAttack, name: str, otherwise: Any) -> Any:
    """What an attack has been given as an option, or has by default."""
    parameter = inspect.signature(attack).parameters.get(name)
    return otherwise if parameter is None or parameter.default is parameter.empty else parameter.default


class _Search:
    """Of each image the numbers of the largest eps that it withstands and the smallest at which it falls."""

    def __init__(self, grid: Grid, norm: str, count: int) -> None:
        self._grid, self._norm = grid, norm
        self._low, self._high = [0] * count, [grid.beyond] * count
        self._attacks = torch.zeros(count, dtype=torch.long)
        self._eps = torch.full((count,), math.inf, dtype=torch.float64)
        self._best: list[Perturbation | None] = [None] * count

    def next(self) -> tuple[int, list[int]] | None:
        """The eps to try, by its number, and the images that come to it: as many as there are."""
        waiting: dict[int, list[int]] = {}
        for i, (low, high) in enumerate(zip(self._low, self._high, strict=True)):
            if high - low > 1:
                waiting.setdefault(between(low, high), []).append(i)
        return max(waiting.items(), key=lambda item: (len(item[1]), -item[0])) if waiting else None

    def note(self, number: int, which: Sequence[int], found: Perturbation) -> None:
        """What an attack at an eps did to some images."""
        lengths = getattr(found, self._norm)
        self._attacks[list(which)] += 1
        for k, i in enumerate(which):
            if not found.success[k]:
                self._low[i] = number
            else:
                self._high[i] = min(number, self._grid.holding(lengths[k].item()))
            length = lengths[k].item() if found.success[k] else math.inf
            # Of those that withstand, what was tried at the largest eps.
            if length < self._eps[i] or (self._eps[i].isinf() and self._high[i] == self._grid.beyond):
                self._eps[i] = length
                self._best[i] = _own(found[k])

    def found(self) -> Smallest:
        """The best of each image, in one batch."""
        best = [one for one in self._best if one is not None]
        joint = {name: _joint([getattr(one, name) for one in best]) for name in Perturbation.batched}
        rows = max(len(one.history) for one in best)
        history = torch.full((rows, len(best)), math.nan, dtype=best[0].history.dtype)
        for i, one in enumerate(best):
            history[: len(one.history), i] = one.history[:, 0]
        records = tuple(one.record for one in best)
        told = replace(records[0], parameters={**records[0].parameters, "eps": self._grid.points[-1]}, notes=())
        own = {"eps": self._eps, "attacks": self._attacks, "records": records}
        return Smallest(best[0].net, told, history=history, **joint, **own)


def _own(one: Perturbation) -> Perturbation:
    """Without the memory of its batch."""
    held = {f.name: getattr(one, f.name) for f in fields(one)}
    return replace(one, **{name: value.clone() for name, value in held.items() if isinstance(value, Tensor)})


def _joint(parts: Sequence[Any]) -> Any:
    if isinstance(parts[0], Tensor):
        return torch.cat(list(parts))
    return tuple(one for part in parts for one in part)


def _of(given: Classes, which: Sequence[int], count: int) -> Classes:
    """The classes of some of the images."""
    if given is None or isinstance(given, str | int):
        return given
    listed: Any = given.tolist() if isinstance(given, Tensor) else list(given)
    if not isinstance(listed, list):
        return given
    if len(listed) != count:
        raise CallError(
            f"{there_are(len(listed), 'class', 'classes')} for {numbered(count, 'image')}; give one, or one an image"
        )
    return [listed[i] for i in which]
