"""Results on the disk, by what they were computed of: one that is there is not computed again."""

from __future__ import annotations

import hashlib
import inspect
import json
import mimetypes
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError
from inward.methods.method import Method
from inward.methods.table import by_name
from inward.network.network import Network
from inward.results import Result, describe
from inward.runs.folder import ARRAYS, MANIFEST, arrays_in, manifest_in, save
from inward.runs.record import described_network
from inward.server.reproduce import python_lines, shell_line

_ID = re.compile(r"[a-z0-9-]{1,60}-[0-9a-f]{24}")
_KINDS = {".png": "picture", ".mp4": "video", ".webp": "video", ".gif": "video", ".safetensors": "arrays"}
_WATCHING = {"on_pass", "on_progress"}


@dataclass(frozen=True)
class Store:
    """The results below a folder."""

    out: Path
    seed: int

    def keys(
        self,
        row: Method,
        net: Network,
        options: Mapping[str, Any],
        things: Iterable[str],
        hashes: Mapping[str, str],
        *,
        video: bool,
    ) -> list[str]:
        """The ids of results: they follow from all that the results do.

        Args:
            things: of each the address, or the SHA-256 of the picture.
            hashes: the SHA-256 of every picture among the options, by its file.
        """
        signature = inspect.signature(row.function).parameters.values()
        usual = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in _WATCHING}
        told = {k: _hashed(v, hashes) for k, v in {**usual, **options}.items() if v is not inspect.Parameter.empty}
        network = {**described_network(net), "device": ""}

        def key(of: str) -> str:
            all_of_it = [row.name, told, network, of, self.seed, video]
            digest = hashlib.sha256(json.dumps(all_of_it, sort_keys=True, default=str).encode()).hexdigest()
            return f"{row.name}-{digest[:24]}"

        return [key(of) for of in things]

    def has(self, name: str) -> bool:
        """Whether a result is there whole."""
        return manifest_in(self._folder(name)) is not None

    def has_any(self, method: str) -> bool:
        """Whether there are results of a method."""
        return next((self.out / "results").glob(f"{method}-*"), None) is not None

    def picture(self, name: str) -> str | None:
        """The address of the first picture of a result; None where there is none."""
        files = (manifest_in(self._folder(name)) or {"files": []})["files"]
        first = next((str(file) for file in files if _KINDS.get(Path(str(file)).suffix) == "picture"), None)
        return None if first is None else _file(name, first)["url"]

    def save(self, name: str, result: Result, extra: Mapping[str, Path]) -> None:
        """Keeps a result of one picture or unit. Raises InwardError where it cannot be written."""
        save(result, self._folder(name), extra)

    def told(self, name: str) -> dict[str, Any]:
        """A result as a page reads it. Raises CallError where there is none."""
        manifest = self._manifest(name)
        scores = {k: v for k, v in (manifest.get("scores") or {}).items() if isinstance(v, str | int | float | list)}
        row = manifest["method"]
        return {
            "id": name,
            "method": row,
            "command": by_name(row).command,
            "network": manifest["network"],
            "caption": describe(scores),
            "notes": manifest.get("notes", []),
            "manifest": manifest,
            "python": python_lines(manifest),
            "shell": shell_line(manifest),
            "files": [_file(name, file) for file in (*manifest["files"], MANIFEST)],
        }

    def file(self, name: str, wanted: str) -> tuple[Path, str]:
        """One of its files and its type. Raises CallError where there is none of this name."""
        # Compared with names that are known, never joined to a path as it came.
        known = (*self._manifest(name)["files"], MANIFEST)
        found = next((str(file) for file in known if file == wanted and Path(str(file)).name == file), None)
        if found is None or not (self._folder(name) / found).is_file():
            raise CallError("this result has no such file")
        kind = "application/octet-stream" if found == ARRAYS else mimetypes.guess_type(found)[0]
        return self._folder(name) / found, kind or "application/octet-stream"

    def attacked(self, name: str, net: Network) -> Tensor:
        """A picture and its adversarial one, (2, C, H, W) in [0, 1].

        Raises CallError where the result is none of an attack on this network.
        """
        there = self._manifest(name)["network"]
        if {**there, "device": ""} != {**described_network(net), "device": ""}:
            raise CallError("this result is of another network; attack the picture here")
        arrays = arrays_in(self._folder(name))
        if not {"images", "adversarial"} <= arrays.keys():
            raise CallError("this result is of no attack, so nothing is known of what one changes")
        return torch.cat([arrays["images"], arrays["adversarial"]])

    def _manifest(self, name: str) -> dict[str, Any]:
        told = manifest_in(self._folder(name)) if _ID.fullmatch(name) else None
        if told is None:
            raise CallError("there is no such result; it may have been deleted, so compute it again")
        return told

    def _folder(self, name: str) -> Path:
        return self.out / "results" / name


def _file(result: str, name: str) -> dict[str, str]:
    kind = _KINDS.get(Path(name).suffix, "other")
    return {"name": name, "kind": kind, "url": f"api/results/{result}/files/{name}"}


def _hashed(value: Any, hashes: Mapping[str, str]) -> Any:
    if isinstance(value, list | tuple):
        return [_hashed(each, hashes) for each in value]
    return {"sha256": hashes[value]} if isinstance(value, str) and value in hashes else value
