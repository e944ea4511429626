"""The numbers that are printed below a map."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from inward.columns.objectives import Objective
from inward.errors import CallError
from inward.results import Attribution
from inward.scoring.again import NOTHING
from inward.scoring.curves import Curve, deletion, insertion
from inward.scoring.infidelity import infidelity
from inward.scoring.sensitivity import max_sensitivity

_Told: TypeAlias = Callable[[int, int], None]
# How many pictures or maps it computes, and what it then says.
_Part: TypeAlias = tuple[int, Callable[[_Told], Tensor]]


@dataclass(frozen=True, eq=False)
class Summary:
    """How good a map is.

    Attributes:
        measured: by name, (N,) each: ``deletion`` and ``insertion``, the areas under the curves;
            ``infidelity``, from 0 to 1, at the scale that suits the map best and relative to the mean square
            of what the changes do, so that maps of all units can be compared; ``max_sensitivity``.
        remarks: why a number is missing.
    """

    measured: Mapping[str, Tensor]
    remarks: tuple[str, ...]


def score_map(
    attribution: Attribution,
    *,
    steps: int = 32,
    changes: int = 64,
    moves: int = 5,
    given: Mapping[str, Any] = NOTHING,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Deletion, insertion, infidelity and max-sensitivity of a map, with few samples each.

    Of the papers of :func:`~inward.scoring.curves.deletion`, :func:`~inward.scoring.infidelity.infidelity`
    and :func:`~inward.scoring.sensitivity.max_sensitivity`.

    Args:
        attribution: the map.
        steps: of both curves.
        changes: samples of the infidelity.
        moves: samples of the max-sensitivity, each of which runs the method again; 0 leaves it out.
        given: options of the method that its record cannot hold: an objective or a baseline made in Python.
        seed: of everything random.
        on_progress: called with (pictures and maps done, in all).

    Raises:
        CallError: for numbers of samples that make no sense.
    """
    if steps < 1 or changes < 1 or moves < 0:
        raise CallError(f"there are 1 step and 1 change or more, and 0 moves or more, not {steps}, {changes}, {moves}")
    steps = min(steps, attribution.size[0] * attribution.size[1])
    parts = _parts(attribution, steps, changes, moves, given, seed)
    return _run({name: part for name, part in parts.items() if part[0]}, on_progress)


def _parts(
    attribution: Attribution, steps: int, changes: int, moves: int, given: Mapping[str, Any], seed: int
) -> dict[str, _Part]:
    count, target = len(attribution), given.get("target")
    common = {"target": target if isinstance(target, Objective) else None, "seed": seed}

    def area(of: Callable[..., Curve]) -> _Part:
        return (steps + 1) * count, lambda told: of(attribution, steps=steps, on_progress=told, **common).area

    def unfaithful(told: _Told) -> Tensor:
        baseline = given.get("baseline")
        found = infidelity(attribution, samples=changes, baseline=baseline, scaled=True, on_progress=told, **common)
        return found.relative

    def unsteady(told: _Told) -> Tensor:
        return max_sensitivity(attribution, samples=moves, given=given, seed=seed, on_progress=told)

    return {
        "deletion": area(deletion),
        "insertion": area(insertion),
        "infidelity": ((changes + 1) * count, unfaithful),
        "max_sensitivity": (moves, unsteady),
    }


def _run(parts: Mapping[str, _Part], on_progress: _Told | None) -> Summary:
    measured: dict[str, Tensor] = {}
    remarks: list[str] = []
    before, everything = 0, sum(size for size, _ in parts.values())
    for name, (size, part) in parts.items():

        def told(done: int, _: int, start: int = before) -> None:
            if on_progress is not None:
                on_progress(start + done, everything)

        try:
            measured[name] = part(told)
        except CallError as error:
            remarks.append(f"there is no {name.replace('_', '-')}: {error}")
        before += size
    return Summary(measured, tuple(remarks))
