"""What one can choose of a method: its keyword-only parameters, as commands and forms offer them.

A function's signature and its docstring are the only source; here they are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from docstring_parser import parse as parse_docstring

from inward.columns.objectives import Objective
from inward.columns.starts import NAMED as STARTS
from inward.methods.baselines import NAMED as BASELINES
from inward.methods.method import Method

_INTERNAL = {"on_pass", "on_progress", "size", "seed"}
# What a method takes as one or several, or as a tensor, and is given as one word, or as several.
_WORD = {"target", "label", "start", "guide"}
SEVERAL = {"baseline", "references", "style", "regions"}
NUMBERS = {"shares"}
_PICTURES = {"baseline", "references", "style", "regions", "start", "guide"}
FOLDERS = {"spectrum"}
"""Options whose words are folders or files of other kinds."""


@dataclass(frozen=True)
class Choice:
    """One of them.

    Attributes:
        parameter: of the method's function.
        hint: the type as it is given: numbers, ``bool``, ``Literal`` words, ``str``, and tuples of words or numbers,
            or None where it may be left out.
        help: of the docstring, in one line.
        objective: whether it is a unit, a class or a sum of them.
    """

    parameter: inspect.Parameter
    hint: Any
    help: str
    objective: bool

    @property
    def name(self) -> str:
        """As in Python."""
        return self.parameter.name

    @property
    def default(self) -> Any:
        """``inspect.Parameter.empty`` for what has to be given."""
        return self.parameter.default

    @property
    def needed(self) -> bool:
        """Whether it has to be given."""
        return self.default is inspect.Parameter.empty

    @property
    def pictures(self) -> bool:
        """Whether its words may be picture files."""
        return self.name in _PICTURES and self.hint is not float

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it knows beside pictures."""
        own = [self.default] if isinstance(self.default, str) else list(self.default or ()) if not self.needed else []
        if self.name == "baseline":
            return tuple(dict.fromkeys([*BASELINES, *own]))
        if self.name == "start":
            return tuple(STARTS) if self.default in STARTS else tuple(dict.fromkeys([*own, "noise"]))
        return ()


def choices(row: Method) -> list[Choice]:
    """What there is to choose, in the order of the signature."""
    hints = get_type_hints(row.function)
    helps = {p.arg_name: p.description for p in parse_docstring(inspect.getdoc(row.function) or "").params}
    found = []
    for parameter in inspect.signature(row.function).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in _INTERNAL:
            continue
        hint = hints[parameter.name]
        told = " ".join((helps.get(parameter.name) or "").split())
        objective = Objective in get_args(hint)
        found.append(Choice(parameter, _given(parameter, hint, objective=objective), told, objective))
    return found


def _given(parameter: inspect.Parameter, hint: Any, *, objective: bool) -> Any:
    if parameter.name in SEVERAL:
        return tuple[str, ...] | None
    if parameter.name in NUMBERS:
        return tuple[float, ...]
    # Of one attack the start is a length.
    if parameter.name in _WORD and hint is not float:
        return str | None if parameter.default is None else str
    return str | None if objective else hint


def number_of(hint: Any) -> Any:
    """The type of an option that may be left out."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if len(kinds) == 1 and type(None) in get_args(hint) else hint


def of_words(row: Method, name: str, value: Sequence[Any] | Any) -> Any:
    """What a method takes of several words: all of them, or the only one. Raises ValueError for more than it takes."""
    if name not in SEVERAL or value is None:
        return value
    if len(value) == 1:
        return value[0]
    if "Sequence" not in str(inspect.signature(row.function).parameters[name].annotation):
        raise ValueError(f"{row.name} takes one {name}, not {len(value)}; give one")
    return value
