"""A study as a folder: ``manifest.json`` says of what, ``arrays.safetensors`` what is known so far.

The number of pictures seen stands in the arrays' own file, so that one renaming replaces both.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.network.network import Network
from inward.network.receptive import Field
from inward.network.spans import Steps
from inward.studies.statistics import BINS, Statistics
from inward.version import VERSION

MANIFEST, ARRAYS = "manifest.json", "arrays.safetensors"
FORMAT = 1
_NAMES = ("values", "images", "places", "means", "counts")

Grids = Mapping[str, tuple[int, int] | None]


def identity(net: Network, files: Sequence[Path], points: Sequence[str], k: int) -> dict[str, Any]:
    """What a study is of: a pass goes on only where all of this is the same."""
    network = {
        "name": net.name,
        "weights_sha256": net.weights_hash(),
        "dtype": str(net.dtype).removeprefix("torch."),
        "preprocess": json.loads(json.dumps(asdict(net.preprocess))),
        "spec": net.spec,
    }
    return {
        "format": FORMAT,
        "study": "activations",
        "network": network,
        "points": list(points),
        "k": k,
        "bins": BINS,
        "files": [{"file": str(file.absolute()), "sha256": sha256_of(file)} for file in files],
    }


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file's bytes. Raises InwardError where it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InwardError(f"{file} cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class Progress:
    """The folder that a pass writes to."""

    folder: Path
    identity: dict[str, Any]

    def held(self) -> tuple[int, dict[str, Statistics]] | None:
        """The pictures seen and what is known of them, from an earlier pass; None where there was none.

        Raises CallError where the folder holds anything else.
        """
        told = _manifest(self.folder)
        if told is None:
            # What a killed writing leaves behind is hidden.
            if self.folder.exists() and (not self.folder.is_dir() or any(map(_is_other, self.folder.iterdir()))):
                raise CallError(f"{self.folder} exists and is not a study of activations; give another folder")
            self._begin()
            return None
        other = _difference(told, self.identity)
        if other:
            raise CallError(f"{self.folder} holds a study of {other}; give another folder, or remove it")
        self._begin()
        if not (self.folder / ARRAYS).exists():
            return None
        _, seen, points, _, _ = read(self.folder)
        return seen, points

    def _begin(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InwardError(f"{self.folder} cannot be made ({error.strerror}); give another folder") from error
        versions = {"inward": VERSION, "torch": torch.__version__}
        text = json.dumps({**self.identity, "versions": versions}, indent=1) + "\n"
        write_whole(text.encode(), self.folder / MANIFEST)

    def write(self, seen: int, points: Mapping[str, Statistics], fields: Mapping[str, Field], grids: Grids) -> None:
        """Replaces what is known, whole or not at all."""
        arrays = {f"{key}/{name}": t.cpu() for key, held in points.items() for name, t in held.tensors().items()}
        for key in points:
            arrays |= {f"{key}/rows": fields[key].rows, f"{key}/columns": fields[key].columns}
        places = {
            key: {"grid": grids[key], "steps": [None if s is None else asdict(s) for s in fields[key].steps]}
            for key in points
        }
        told = {"seen": str(seen), "places": json.dumps(places), "size": json.dumps(_size_of(fields))}
        write_whole(save({k: v.contiguous() for k, v in arrays.items()}, told), self.folder / ARRAYS)


def _size_of(fields: Mapping[str, Field]) -> tuple[int, int]:
    return next(iter(fields.values())).size


def _is_other(entry: Path) -> bool:
    return not (entry.name.startswith(".inward-") and entry.name.endswith(".part"))


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        told = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and told.get("study") == "activations" else None


def _difference(told: dict[str, Any], wanted: dict[str, Any]) -> str:
    """What is not the same, in words; a picture is the same wherever it lies."""
    ours, theirs = wanted["network"], told.get("network") or {}
    same = {
        "another version of inward": told.get("format") == FORMAT and told.get("bins") == BINS,
        "other weights": theirs.get("weights_sha256") == ours["weights_sha256"],
        "another network": all(theirs.get(key) == ours[key] for key in ("name", "dtype", "preprocess")),
        "other points": told.get("points") == wanted["points"],
        f"another k ({told.get('k')})": told.get("k") == wanted["k"],
        "other pictures": _hashes(told) == _hashes(wanted),
    }
    return next((what for what, is_same in same.items() if not is_same), "")


def _hashes(told: dict[str, Any]) -> list[Any]:
    files = told.get("files")
    return [f.get("sha256") for f in files if isinstance(f, dict)] if isinstance(files, list) else []


Held = tuple[dict[str, Any], int, dict[str, Statistics], dict[str, Field], dict[str, tuple[int, int] | None]]


def read(folder: Path) -> Held:
    """The manifest, the pictures seen, and of each point the statistics, the receptive fields and the grid.

    Raises InwardError where the folder holds no study, or a damaged one.
    """
    told = _manifest(folder)
    if told is None:
        raise InwardError(f"{folder} holds no study of activations; give the folder that one was written to")
    try:
        with safe_open(folder / ARRAYS, "pt") as file:
            about = file.metadata()
            size, places = json.loads(about["size"]), json.loads(about["places"])
            points, fields, grids = {}, {}, {}
            for key, place in places.items():
                points[key] = Statistics(**{name: file.get_tensor(f"{key}/{name}") for name in _NAMES})
                steps = [None if s is None else Steps(**s) for s in place["steps"]]
                rows, columns = (file.get_tensor(f"{key}/{name}") for name in ("rows", "columns"))
                fields[key] = Field((size[0], size[1]), rows, columns, (steps[0], steps[1]))
                grids[key] = None if place["grid"] is None else (place["grid"][0], place["grid"][1])
            return told, int(about["seen"]), points, fields, grids
    except FileNotFoundError as error:
        raise InwardError(f"{folder} holds a study that has not seen a picture yet; make it again") from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InwardError(f"{folder} holds a study that is damaged; remove the folder and make it again") from error
