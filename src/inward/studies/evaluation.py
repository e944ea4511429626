"""The folder of an evaluation: what is known so far, the report, the curve, some pictures that fell."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from inward import draw
from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.results import Perturbation
from inward.studies.accuracy import Judged
from inward.version import VERSION

IMAGES, MANIFEST, REPORT, CURVE, SAMPLES = "images.json", "manifest.json", "report.json", "curve.png", "samples"
# Images that fell and are kept.
_MOST = 8


class Kept:
    """A folder that an evaluation is kept in."""

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder, self._identity = folder, identity

    def begin(self) -> list[Judged]:
        """What an earlier pass has found already. Raises CallError where the folder holds anything else."""
        told = self._read(MANIFEST)
        if not isinstance(told, dict):
            if self._folder.exists() and (not self._folder.is_dir() or any(self._folder.iterdir())):
                raise CallError(f"{self._folder} exists and is no evaluation; give another folder")
        else:
            keys = {**self._identity, **told}.keys() - {"versions"}
            other = [key for key in sorted(keys) if told.get(key) != self._identity.get(key)]
            if other:
                raise CallError(
                    f"{self._folder} holds an evaluation of another {other[0]}; give another folder, or remove it"
                )
        try:
            (self._folder / SAMPLES).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InwardError(f"{self._folder} cannot be made ({error.strerror}); give another folder") from error
        self._write(MANIFEST, {**self._identity, "versions": {"inward": VERSION, "torch": torch.__version__}})
        try:
            return [Judged(**row) for row in self._read(IMAGES) or []]
        except TypeError as error:
            raise InwardError(f"{self._folder / IMAGES} is damaged; remove it to begin anew") from error

    def write(self, done: Sequence[Judged]) -> None:
        """What is known so far."""
        self._write(IMAGES, [asdict(one) for one in done])

    def sample(self, one: Perturbation, name: str) -> None:
        """Keeps a result of one image, with its pictures, as long as there are few."""
        place = self._folder / SAMPLES / name
        drawn = one.net.preprocess.channels in (1, 3, 4)
        if drawn and one.l0[0] > 0 and (place.exists() or len(list(place.parent.iterdir())) < _MOST):
            one.save(place)

    def finish(self, report: Mapping[str, Any], curve: Image.Image | None) -> None:
        """The figures, and the curve."""
        self._write(REPORT, report)
        if curve is not None:
            draw.save_png(curve, self._folder / CURVE)

    def add(self, name: str, value: object) -> None:
        """A further entry of the report, which is there."""
        self._write(REPORT, self._read(REPORT) | {name: value})

    def _write(self, name: str, value: object) -> None:
        write_whole((json.dumps(value, indent=1) + "\n").encode(), self._folder / name)

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self._folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return None
