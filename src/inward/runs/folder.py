"""A result as a folder: its arrays, its pictures and ``manifest.json``."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from inward import draw
from inward.errors import CallError, InwardError
from inward.figures import figures
from inward.methods.attacked import judged_again
from inward.methods.feature_attack import driven_again
from inward.results import Attribution, Driven, Perturbation, Result

MANIFEST = "manifest.json"
ARRAYS = "arrays.safetensors"
FORMAT = 1
_WRITTEN = re.compile(r"(manifest|steps)\.json|arrays\.safetensors|[a-z]+(-\d+)?\.(png|mp4|gif|webp)")


def save(result: Result, folder: Path, extra: Mapping[str, Path] | None = None) -> Path:
    """Writes a result of one image into ``folder``, which is there whole or not at all.

    An earlier result in the same place is replaced; a folder that is no result is left alone. The
    files ``extra`` are moved into it under their names.

    Raises:
        CallError: for a batch, or where ``folder`` holds something else.
        InwardError: where it cannot be written.
    """
    if len(result) != 1:
        raise CallError(f"a folder holds one result, and this is a batch of {len(result)}; save result[i]")
    check_place(folder, result.record.method)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise InwardError(f"{folder} cannot be written ({error.strerror}); give another --out") from error
    try:
        _write(result, draft, extra or {})
        draft.chmod(0o755)
        _exchange(draft, folder)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise InwardError(f"{folder} cannot be written ({why}); give another --out") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def check_place(folder: Path, method: str) -> None:
    """Raises CallError where ``folder`` holds what a result of this method must not replace."""
    try:
        other = _standing(folder, method)
    except OSError as error:
        raise InwardError(f"{folder} cannot be written ({error.strerror}); give another --out") from error
    if other:
        raise CallError(f"{folder} exists and is {other}; give another --out")


def _standing(folder: Path, method: str) -> str:
    """What stands there that must not be replaced: anything but an earlier result of the same method."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return ""
    told = manifest_in(folder)
    entries = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if told is None and ARRAYS in entries and all(_WRITTEN.fullmatch(name) for name in entries):
        # A result whose manifest was damaged.
        return ""
    if told is None or not entries <= {MANIFEST, *told["files"]}:
        return "not a result of inward"
    return "" if told["method"] == method else f"a result of {told['method']}"


def manifest_in(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, where it is one of ours; its format and types are not all checked."""
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(told, dict) and isinstance(told.get("format"), int) and isinstance(told.get("method"), str)
    return told if ours and isinstance(told.get("files"), list) else None


def finished(folder: Path, method: str, same: Mapping[str, Any], network: Mapping[str, Any]) -> bool:
    """Whether the folder holds just the result that this would compute, with all its files.

    ``same`` are the parts of its manifest that have to be so: its parameters, or what was asked.
    """
    told = manifest_in(folder)
    if told is None or told["method"] != method or not all((folder / str(name)).is_file() for name in told["files"]):
        return False
    there = told.get("network")
    by_this = isinstance(there, Mapping) and {**there, "device": ""} == {**_json(network), "device": ""}
    return by_this and all(told.get(name) == value for name, value in _json(same).items())


def arrays_in(folder: Path) -> dict[str, Tensor]:
    """The saved tensors of a result, by name. Raises InwardError where they cannot be read."""
    try:
        return load_file(folder / ARRAYS)
    except (SafetensorError, OSError) as error:
        raise InwardError(f"{folder / ARRAYS} cannot be read: {error}") from error


def _json(value: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(_plain(value)))


def free_name(out: Path, name: str, method: str) -> str:
    """``name``, or with the method behind it where ``out`` has a result of another method of that name."""
    told = manifest_in(out / name)
    return f"{name}-{method}" if told is not None and told["method"] != method else name


def replaces(folder: Path, result: Result) -> bool:
    """Whether the folder holds a result that was made otherwise: of other options, or of another picture."""
    told = manifest_in(folder)
    if told is None:
        return False
    made = manifest_of(result, [])
    inputs = [{k: (v or {}).get("sha256") for k, v in (m.get("inputs") or {}).items()} for m in (told, made)]
    return told.get("parameters") != _json(made["parameters"]) or inputs[0] != inputs[1]


def _exchange(draft: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            folder.rename(old / "old")
            draft.rename(folder)
        finally:
            # A stop between the two would lose the earlier result.
            if not folder.exists():
                (old / "old").rename(folder)
            shutil.rmtree(old, ignore_errors=True)
    else:
        draft.rename(folder)


def _write(result: Result, folder: Path, extra: Mapping[str, Path]) -> None:
    arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in result.arrays().items()}
    # safetensors' own writing leaves a file that only its owner can read.
    (folder / ARRAYS).write_bytes(to_bytes(arrays))
    pictures = figures(result)
    for name, picture in pictures.items():
        draw.save_png(picture, folder / name)
    measured = _judged_from_disk(result, folder)
    for name, file in extra.items():
        shutil.move(file, folder / name)
    manifest = manifest_of(measured, [*pictures, *extra, ARRAYS])
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _judged_from_disk(result: Result, folder: Path) -> Result:
    """What an attack reached, as its saved pictures show it, where they were asked for in 8 bits."""
    if not isinstance(result, Perturbation | Driven) or result.net.preprocess.channels not in (1, 3, 4):
        return result
    if not result.record.parameters["eight_bit"]:
        return result
    read = [draw.read_png(folder / name)[None].to(result.net.device) for name in ("original.png", "adversarial.png")]
    again = judged_again(result, *read) if isinstance(result, Perturbation) else driven_again(result, *read)
    return replace(result, **again)


def manifest_of(result: Result, files: list[str]) -> dict[str, Any]:
    """What ``manifest.json`` says: how the result came to be, and what was measured."""
    record = result.record
    return {
        "format": FORMAT,
        "method": record.method,
        **({"kind": result.kind} if isinstance(result, Attribution) else {}),
        "scores": _plain(result.measures()),
        "notes": [*record.notes, *result.notes()],
        "parameters": _plain(_of_one(result, record.parameters)),
        "network": _plain(record.network),
        "inputs": _plain(record.inputs),
        **({"asked": _plain(record.asked)} if record.asked else {}),
        "seconds": record.seconds,
        "environment": dict(record.environment),
        "files": files,
    }


def _of_one(result: Result, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of one image of a batch: its own target or address."""
    own = {
        "target": getattr(result, "targets", None),
        "label": getattr(result, "labels", None),
        "addresses": getattr(result, "addresses", None),
    }
    own["start"] = getattr(result, "starts", None)
    mine = {k: list(v) for k, v in own.items() if v is not None and parameters.get(k) is not None}
    return dict(parameters) | mine


def _plain(value: Any) -> Any:
    """JSON has no infinities and no NaN; they are written as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def folder_name(text: str) -> str:
    """An address or a file name as the name of a folder: ``mixed4a/97`` -> ``mixed4a-97``."""
    plain = re.sub(r"[^\w.]+", "-", text).strip("-.")
    # File systems count bytes, and a draft of the folder has a longer name.
    return plain.encode()[:120].decode(errors="ignore") or "result"
