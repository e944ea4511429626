"""Reading a manifest, which may come from anywhere: what it says has to be of the right types."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from inward.errors import InwardError
from inward.methods.table import by_name
from inward.runs.folder import FORMAT

DTYPES = {str(kind)[6:]: kind for kind in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
# What manifests of another form are of, and the command that makes it again.
_STUDIES = {"robustness": ("an evaluation", "evaluate"), "activations": ("a study", "study activations")}
_MOST_BYTES = 16 * 1024 * 1024


def read(path: Path) -> dict[str, Any]:
    """The contents of a ``manifest.json``. Raises InwardError where it is none, or its format is another."""
    if not path.is_file():
        raise InwardError(f"there is no manifest {path}")
    if path.stat().st_size > _MOST_BYTES:
        raise InwardError(f"{path} is too large for a manifest")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InwardError(f"{path} is not a manifest of inward: {error}") from error
    if isinstance(told, dict) and (made := _STUDIES.get(str(told.get("study")))):
        raise InwardError(
            f"{path} is of {made[0]}, which is no single result; run the same `inward {made[1]}` command again"
        )
    needed = {"format": int, "method": str, "parameters": dict, "network": dict, "inputs": dict}
    if not isinstance(told, dict) or not all(isinstance(told.get(k), kind) for k, kind in needed.items()):
        raise InwardError(f"{path} is not a manifest of inward: it needs {', '.join(needed)}")
    if told["format"] != FORMAT:
        raise InwardError(f"{path} has the format {told['format']}, and this version reads {FORMAT}")
    wrong = _wrong_network(told["network"]) or _wrong_parameter(told["method"], told["parameters"])
    if wrong:
        raise InwardError(f"{path} is not a manifest of inward: {wrong}")
    return told


def _is_word(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return value is None or type(value) is int


def _is_list(value: Any, *kinds: type) -> bool:
    return value is None or (isinstance(value, list) and all(type(each) in kinds for each in value))


_NETWORK: dict[str, Callable[[Any], bool]] = {"device": _is_word, "weights_sha256": _is_word}
_SPEC: dict[str, Callable[[Any], bool]] = {
    "spec": _is_word,
    "weights": _is_word,
    "dtype": lambda value: value is None or (_is_word(value) and value in DTYPES),
    "seed": _is_whole,
    "source_sha256": _is_word,
    "mean": lambda value: _is_list(value, int, float),
    "std": lambda value: _is_list(value, int, float),
    "size": lambda value: _is_list(value, int) and (value is None or len(value) == 2),
    "labels": lambda value: _is_word(value) or _is_list(value, str),
}


def _wrong_network(told: Mapping[str, Any]) -> str:
    spec = told.get("spec") or {}
    if not isinstance(spec, dict):
        return "its spec is no object"
    wrong = [k for k, fits in _NETWORK.items() if not fits(told.get(k))]
    wrong += [k for k, fits in _SPEC.items() if not fits(spec.get(k))]
    return f"the {wrong[0]} of its network is of the wrong type" if wrong else ""


def _fits(value: Any, usual: Any, hint: Any) -> bool:
    """Whether a recorded value is of the kind of a parameter's default, or of its type where there is none."""
    if isinstance(value, list):
        return not isinstance(usual, bool | int | float) and _is_list(value, str, int, float)
    if isinstance(usual, bool | int | float | str):
        return type(value) is type(usual) or (type(usual) is float and type(value) is int)
    kinds = get_args(hint)
    return type(value) in kinds or (type(value) is int and float in kinds)


def _wrong_parameter(method: str, told: Mapping[str, Any]) -> str:
    function = by_name(method).function
    known, hints = inspect.signature(function).parameters, get_type_hints(function)
    for name, value in told.items():
        if name not in known or name in ("net", "images", "on_pass", "batch"):
            return f"{method} has no parameter '{name}'"
        if not _fits(value, known[name].default, hints[name]):
            return f"{name} cannot be {value!r:.60}"
    if "addresses" in known and not told.get("addresses"):
        return "it names no addresses"
    return ""
