"""The lines that make a result again: of its manifest, for Python and for a shell."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import inward
from inward.choices import NUMBERS, SEVERAL, choices
from inward.methods.method import Method
from inward.methods.table import by_name

# What tells how a network is made, in a manifest and in ``load``.
_LOADED = ("weights", "mean", "std", "size", "labels", "dtype")
_IN_PYTHON = "# this network was made in Python: net = inward.Network.of(module)"


def python_lines(manifest: Mapping[str, Any]) -> str:
    """What one writes in Python to compute it."""
    row = by_name(manifest["method"])
    options = _own(row, manifest)
    name, spec = row.function.__name__, manifest["network"].get("spec") or {}
    public = name in inward.__all__
    lines = ["import inward"] + ([] if public else [f"from {row.function.__module__} import {name}"]) + [""]
    if "torch" in repr(spec.get("dtype")):
        lines.insert(1, "import torch")
    lines.append(_loading(spec) if spec.get("spec") else _IN_PYTHON)
    if row.takes == "images":
        lines.append(_reading(manifest))
        given = "images"
    else:
        given = repr(manifest["parameters"].get("addresses"))
    seed = manifest["parameters"].get("seed")
    told = [f"{k}={v!r}" for k, v in options.items()] + ([f"seed={seed}"] if seed else [])
    call = f"{'inward.' if public else ''}{name}"
    lines.append(f"result = {call}({', '.join(['net', given, *told])})")
    lines.append(f'result[0].save("{_folder(row, manifest)}")')
    return "\n".join(lines)


def shell_line(manifest: Mapping[str, Any]) -> str:
    """The command that computes it; empty for a network that has no name."""
    row = by_name(manifest["method"])
    spec = manifest["network"].get("spec") or {}
    if not spec.get("spec"):
        return ""
    words = ["inward", row.command, str(spec["spec"])]
    if row.takes == "addresses":
        words += [str(each) for each in manifest["parameters"].get("addresses") or ()]
    else:
        words.append(_file(manifest))
    rows = [each for each in inward.TABLE if each.command == row.command]
    words += ["--method", row.name] if row is not rows[0] else []
    for name, value in _own(row, manifest).items():
        words += _as_words(name, value)
    for name in _LOADED:
        if spec.get(name) is not None:
            words += _as_words(name, spec[name])
    seed = manifest["parameters"].get("seed")
    return shlex.join([*words, *(["--seed", str(seed)] if seed else [])])


def _own(row: Method, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are not what they are by default."""
    held, found = manifest["parameters"], {}
    for choice in choices(row):
        if choice.name not in held:
            continue
        value = held[choice.name]
        if isinstance(value, list) and len(value) == 1 and choice.name not in NUMBERS:
            value = value[0]
        usual = choice.default
        usual = list(usual) if isinstance(usual, tuple) else usual
        if usual is not inspect.Parameter.empty and (value == usual or value is None):
            continue
        found[choice.name] = value
    return found


def _folder(row: Method, manifest: Mapping[str, Any]) -> str:
    """A folder of its own for what is made of this."""
    given = manifest["parameters"].get("addresses") if row.takes == "addresses" else [Path(_file(manifest)).stem]
    return "-".join([row.name, *(re.sub(r"[^A-Za-z0-9]+", "-", str(each)).strip("-") for each in given or ())])


def _loading(spec: Mapping[str, Any]) -> str:
    told = [repr(spec["spec"])]
    told += [f"{name}={spec[name]!r}" for name in _LOADED if spec.get(name) is not None and name != "dtype"]
    told += [f"dtype=torch.{spec['dtype']}"] if spec.get("dtype") else []
    return f"net = inward.load({', '.join(told)})"


def _reading(manifest: Mapping[str, Any]) -> str:
    file = _file(manifest)
    size = list((manifest["inputs"].get("images") or {}).get("shape") or [])[2:]
    if size and size != list(manifest["network"].get("size") or size):
        return f"from inward.pictures import read_whole\nimages = read_whole({file!r}, net, longest={max(size)})"
    return f"images = inward.read({file!r}, net)"


def _file(manifest: Mapping[str, Any]) -> str:
    return str((manifest["inputs"].get("images") or {}).get("file", "picture.png"))


def _as_words(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{name.replace('_', '-')}"]
    if isinstance(value, list):
        return [option, *map(str, value)] if name in SEVERAL | NUMBERS or name in _LOADED else [option, str(value[0])]
    return [option, str(value)]
