"""What a page may ask of a method: a model of its options, whose JSON schema is the form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Union, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from inward.choices import FOLDERS, NUMBERS, SEVERAL, Choice, choices, number_of, of_words
from inward.errors import CallError
from inward.methods.method import Method
from inward.methods.table import TABLE

# How a picture is named in place of a file.
_PICTURE = re.compile(r"image:([A-Za-z0-9]{1,64})")
_MOST_WORDS = 16
_WHOLE, _LETTERS = 10**6, 400
# Of what takes memory or time before the first pass, at which a job can be stopped.
_MOST = {"diverse": 64, "octaves": 32, "steps": 5000, "snapshots": 200}


class OptionError(CallError):
    """An option that does not fit; ``option`` is its name, empty where it is not known."""

    def __init__(self, sentence: str, option: str = "") -> None:
        self.option = option
        CallError.__init__(self, sentence)


class _Strict(BaseModel):
    """No option that there is not, and no number in words."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=False)


@cache
def model_of(name: str) -> type[BaseModel]:
    """The options of a method, by its name in the table."""
    row = next(row for row in TABLE if row.name == name)
    fields: dict[str, Any] = {choice.name: _field(choice) for choice in choices(row) if choice.name not in FOLDERS}
    return create_model(row.name, __base__=_Strict, **fields)


def schema(row: Method) -> dict[str, Any]:
    """The JSON schema of a method's options."""
    return model_of(row.name).model_json_schema()


def _field(choice: Choice) -> tuple[Any, Any]:
    more: dict[str, Any] = {}
    if choice.pictures:
        more = {"x-pictures": True, "x-words": list(choice.words)}
    elif choice.objective or choice.name in ("label", "at", "content_at", "style_at", "through"):
        more = {"x-address": True}
    default = ... if choice.needed else _plain(choice.default)
    told = Field(default, title=choice.name.replace("_", " "), description=choice.help, json_schema_extra=more or None)
    return _bounded(choice), told


def _plain(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def _bounded(choice: Choice) -> Any:
    """Its type with the bounds that no method goes beyond; what else does not fit, the method says."""
    optional, kind = type(None) in get_args(choice.hint), number_of(choice.hint)
    word = Annotated[str, Field(max_length=_LETTERS)]
    if choice.name in SEVERAL:
        found: Any = Union[Annotated[list[word], Field(max_length=_MOST_WORDS)], word]  # noqa: UP007
    elif choice.name in NUMBERS:
        found = Annotated[list[Annotated[float, Field(ge=0, le=_WHOLE)]], Field(max_length=_MOST_WORDS)]
    elif kind is int:
        found = Annotated[int, Field(ge=0, le=_MOST.get(choice.name, _WHOLE))]
    elif kind is float:
        found = Annotated[float, Field(ge=0, le=_WHOLE, allow_inf_nan=False)]
    elif kind is str:
        found = word
    else:
        found = kind
    return found | None if optional else found


def checked(row: Method, given: Mapping[str, Any], file_of: Callable[[str], str]) -> dict[str, Any]:
    """The options of a request, as the method takes them; pictures by their files, of which ``file_of`` knows each.

    Raises OptionError for one that there is not, or that does not fit.
    """
    try:
        model = model_of(row.name).model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]) if first["loc"] else ""
        raise OptionError(f"{option}: {_said(first)}", option) from error
    known = {choice.name: choice for choice in choices(row)}
    found = {}
    for name in model.model_fields_set:
        value = getattr(model, name)
        if known[name].pictures:
            value = _with_files(known[name], value, file_of)
        found[name] = _as_taken(row, name, value)
    return found


def _said(error: Any) -> str:
    kinds = {"extra_forbidden": "there is no such option", "missing": "this has to be given"}
    return kinds.get(error["type"], str(error["msg"]).lower())


def _as_taken(row: Method, name: str, value: Any) -> Any:
    if name in SEVERAL and isinstance(value, str):
        return value
    try:
        taken = of_words(row, name, value)
    except ValueError as error:
        raise OptionError(str(error), name) from error
    return tuple(taken) if isinstance(taken, list) else taken


def _with_files(choice: Choice, value: Any, file_of: Callable[[str], str]) -> Any:
    """Pictures in place of their names; no word of a request is ever taken for a path."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_with_files(choice, each, file_of) for each in value]
    if value in choice.words:
        return value
    picture = _PICTURE.fullmatch(value)
    if picture is None:
        words = ", ".join((*choice.words, "image:ID"))
        raise OptionError(f"{choice.name}: there is no '{value:.40}'; write one of {words}", choice.name)
    return file_of(picture[1])
