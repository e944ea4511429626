"""The options of feature visualization, and the row of an ascent that they mean."""

from __future__ import annotations

import hashlib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from inward.ascent import Row
from inward.columns.augmentations import SETS, Augmentation, Compose, named
from inward.columns.batches import Diverse, Each
from inward.columns.constraints import Box
from inward.columns.goals import Plateau
from inward.columns.maco import MACO
from inward.columns.objectives import Kind, Objective, at
from inward.columns.parameterizations import KINDS, parameterization
from inward.columns.parameters import Parameterization
from inward.columns.penalties import L1, L2, Blur, TotalVariation, Transparency
from inward.columns.starts import NAMED
from inward.columns.steps import adam
from inward.columns.transparency import Backdrop, Transparent
from inward.errors import CallError
from inward.gradient import keys_of
from inward.network.graph import Graph, Point
from inward.network.lean import lean, precision_of
from inward.network.network import Network
from inward.network.room import images_at_once
from inward.network.selection import select
from inward.types import Size

# What changes nothing in the pictures.
UNRECORDED = {"on_pass", "batch"}
# Adam's step. Ours: 0.05 in the authors' code of Fourier pictures leaves some channels unsettled.
RATES = {"fourier": 0.03, "pixels": 0.02, "cppn": 0.003, "maco": 0.1, "pyramid": 0.03}
_TERMS = re.compile(r"\s+([+-])\s+")
_FACTOR = re.compile(r"^(?P<factor>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*\*\s*(?P<address>.+)$")


@dataclass(frozen=True)
class Recipe:
    """How pictures of units are made; see :func:`inward.visualize` for what each option means."""

    size: Size
    steps: int
    objective: Kind
    negative: bool
    parameterization: str
    transparent: bool
    augment: str
    diverse: int
    diversity: float
    settle: float
    l1: float
    l2: float
    tv: float
    blur: float
    lr: float
    redirect: int
    precision: str
    spectrum: Tensor | None = None
    objectives: Mapping[str, Objective] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.diverse < 1:
            raise CallError(f"there is 1 picture of a unit or more, not {self.diverse}")
        if self.parameterization not in KINDS:
            raise CallError(f"there is no parameterization '{self.parameterization}'; there are {', '.join(KINDS)}")
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise CallError(f"lr must be a number above 0, not {self.lr:g}")
        if self.augment not in SETS:
            raise CallError(f"there are no augmentations '{self.augment}'; there are {', '.join(SETS)}")
        for name in ("settle", "diversity", "l1", "l2", "tv", "blur"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise CallError(f"{name} is a number from 0 up, not {getattr(self, name):g}")

    def row(self, net: Network, addresses: Sequence[str]) -> Row:
        """The row for these units, ``diverse`` neighboring pictures each."""
        return Row(
            objective=Each(tuple(self._objective(net, address) for address in addresses), self.diverse),
            step=adam(self.lr),
            passes=self.steps,
            parameterization=self._parameterization(),
            augmentation=self._augmentation(),
            constraints=(Box(),),
            plateau=Plateau(tolerance=self.settle) if self.settle else None,
            prepare=partial(lean, half=self.precision == "mixed"),
            redirect=self.redirect,
        )

    def unit(self, net: Network, address: str) -> Objective:
        """What is asked of the network: an address, or a sum of several with factors."""
        if address in self.objectives:
            return self.objectives[address]
        return summed(net, address, self.size, self.objective)

    def _objective(self, net: Network, address: str) -> Objective:
        found = -self.unit(net, address) if self.negative else self.unit(net, address)
        if self.diverse > 1 and self.diversity:
            found = Diverse(found, _grid_point(net, found.addresses[0], self.size), self.diversity)
        if self.transparent:
            found = Transparency(found)
        penalties = ((self.l1, L1()), (self.l2, L2()), (self.tv, TotalVariation()), (self.blur, Blur()))
        for weight, penalty in penalties:
            found = found - weight * penalty if weight else found
        return found

    def _parameterization(self) -> Parameterization:
        made = parameterization(self.parameterization) if self.spectrum is None else MACO(self.spectrum)
        return Transparent(made) if self.transparent else made

    def _augmentation(self) -> Augmentation | None:
        found = named(self.augment, self.size)
        if not self.transparent:
            return found
        # What is around the picture is the background's mean.
        return Compose((Backdrop(), *(found.parts if isinstance(found, Compose) else ())))


def planned(function: Callable[..., Any], net: Network, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a method as they will be recorded: defaults filled in, what is automatic decided."""
    known = inspect.signature(function).parameters.values()
    options = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY} | dict(given)
    options = {name: value for name, value in options.items() if name not in UNRECORDED}
    options["size"] = list(options.get("size") or net.size)
    kind = options.get("parameterization", "")
    if "lr" in options and options["lr"] is None:
        options["lr"] = RATES.get(kind, 0.0)
    if "precision" in options:
        options["precision"] = precision_of(net, options["precision"])
    # Manifests name files as they are found from every folder.
    if isinstance(options.get("start"), list):
        options["start"] = [word if word in NAMED else str(Path(word).absolute()) for word in options["start"]]
    if options.get("spectrum"):
        options["spectrum"] = str(Path(options["spectrum"]).absolute())
    usual = {p.name: p.default for p in known}
    return {k: float(v) if type(usual[k]) is float else v for k, v in options.items()}


def names_of(net: Network, addresses: str | Sequence[str], size: Size) -> list[str]:
    """The addresses that are meant, in order; sums of units as they are, checked."""
    words = [addresses] if isinstance(addresses, str) else list(addresses)
    if not words:
        return select(net, words)
    found: list[str] = []
    for word in words:
        found += [checked_sum(net, word, size)] if is_sum(word) else select(net, word, size)
    return list(dict.fromkeys(found))


def batches_of(
    net: Network,
    names: Sequence[str],
    unit: Callable[[str], Objective],
    size: Size,
    *,
    each: int = 1,
    batch: int | None = None,
) -> list[list[str]]:
    """The names in batches of ``batch`` units, by default as many as there is memory for, ``each`` pictures a unit.

    Units of the same points together, so that each costs what its own point costs.
    """
    if batch is not None and batch < 1:
        raise CallError(f"a batch is of 1 unit or more, not {batch}")
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        groups.setdefault(tuple(keys_of(net, unit(name), size)), []).append(name)
    found = []
    for keys, group in groups.items():
        count = batch or max(1, images_at_once(net, keys, size) // each)
        found += [group[i : i + count] for i in range(0, len(group), count)]
    return found


def is_sum(address: str) -> bool:
    """Whether an address is a sum of several, ``mixed4a/97 + 0.5 * mixed4a/3``, or has a factor."""
    return len(_TERMS.split(address.strip())) > 1 or _FACTOR.match(address.strip()) is not None


def checked_sum(net: Network, address: str, size: Size) -> str:
    """A sum of addresses, each checked, as manifests name it."""
    signs, names = terms_of(address)
    found = ""
    for sign, name in zip(signs, names, strict=True):
        joint, factor = (" - " if sign < 0 else " + ", abs(sign)) if found else ("", sign)
        found += f"{joint}{'' if factor == 1 else f'{factor:.15g} * '}{net.resolve(name, size)}"
    return found


def summed(net: Network, address: str, size: Size, kind: Kind = "auto") -> Objective:
    """What an address asks for, or a sum of several."""
    factors, names = terms_of(address)
    parts = [factor * at(net, name, size, kind) for factor, name in zip(factors, names, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def terms_of(text: str) -> tuple[list[float], list[str]]:
    """The factors and the addresses of a sum such as "mixed4a/97 + 0.5 * mixed4a/3"."""
    parts = _TERMS.split(text.strip())
    signs = [1.0, *(-1.0 if sign == "-" else 1.0 for sign in parts[1::2])]
    names = []
    for index, term in enumerate(parts[::2]):
        match = _FACTOR.match(term)
        signs[index] *= float(match["factor"]) if match else 1.0
        names.append(match["address"] if match else term)
    return signs, names


def _grid_point(net: Network, address: str, size: Size) -> str:
    """Where pictures are compared: the unit's own point, or the last one with a grid before it."""
    graph, resolved = net.graph(size), net.resolve(address, size)
    own = graph.points.get(resolved.point)
    known = [p for p in graph.points.values() if p.units and _positions(p) > 1]
    if own in known:
        return own.name
    if own is not None and isinstance(graph, Graph):
        known = [p for p in known if graph.reaches(p.node, own.node)]
    if not known:
        raise CallError(f"nothing before '{address}' has a grid to compare pictures by; use --diversity 0")
    return known[-1].name


def _positions(point: Point) -> int:
    grid = None if point.shape is None else point.layout.grid_size(point.shape)
    return 0 if grid is None else math.prod(grid)


def picture_seed(seed: int, address: str, variant: int = 0) -> int:
    """The seed of one picture: its own, so that a picture is the same alone and among others."""
    told = hashlib.sha256(f"{seed} {address} {variant}".encode()).digest()
    return int.from_bytes(told[:8], "big") >> 1
