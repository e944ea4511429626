"""What the pictures of the server's folder do to the units of a point: one pass over them a point, kept on the disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from inward import draw
from inward.errors import CallError, InwardError
from inward.methods.method import Method
from inward.network.address import parse
from inward.network.network import Network
from inward.network.trace import point_key
from inward.pictures import find, read
from inward.results import Result
from inward.server.jobs import Progress
from inward.studies.activations import Activations, Example, activations, load
from inward.studies.patches import patch
from inward.studies.statistics import shown_histogram

STUDY = Method(
    name="activations",
    command="study activations",
    function=activations,  # type: ignore[arg-type]
    takes="points",
    returns=Result,
    question="What real pictures excite the units of a point?",
    paper="Zeiler and Fergus 2014, arXiv:1311.2901",
)
"""The study as a job: no row of the table, since it takes a folder."""


@dataclass(frozen=True)
class Studies:
    """The studies below a folder, of the pictures in another."""

    nets: Sequence[Network]
    pictures: Path | None
    out: Path
    _read: dict[Path, Activations] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def make(self, number: int, point: str, progress: Progress) -> None:
        """Looks at all pictures, or at those that an earlier pass did not come to. Raises CallError for no folder."""
        if self.pictures is None:
            raise CallError("there are no pictures to look at; start inward serve with --images FOLDER")
        files = [file for file in find([self.pictures]) if file.suffix.lower() != ".npy"]
        activations(self.nets[number], files, [point], folder=self._folder(number, point), on_batch=progress)

    def of(self, number: int, point: str) -> Activations | None:
        """The study of a point, once it has seen all pictures."""
        folder = self._folder(number, point)
        with self._lock:
            if folder not in self._read and folder.is_dir():
                try:
                    found = load(folder, self.nets[number])
                except InwardError:
                    return None
                if found.seen == len(found.files):
                    self._read[folder] = found
            return self._read.get(folder)

    def unit(self, number: int, address: str) -> dict[str, Any]:
        """What is known of a unit; ``study`` is none where there is nothing to look at, open where nobody looked."""
        net = self.nets[number]
        parsed = net.resolve(address)
        if parsed.unit is None or parsed.place is not None:
            raise CallError("this is no unit; write the name of a point and a number, layer3/17")
        nothing = {"maximum": None, "histogram": None, "examples": []}
        study = self.of(number, point_key(parsed))
        if study is None:
            return {"study": "none" if self.pictures is None else "open", **nothing}
        examples = [_told(net, number, address, rank, one) for rank, one in enumerate(study.top(address))]
        histogram = shown_histogram(*study.histogram(address))
        return {"study": "ready", "maximum": study.maximum(address), "histogram": histogram, "examples": examples}

    def example(self, number: int, address: str, rank: int, *, whole: bool) -> Image.Image:
        """What a unit saw where it was excited most, or all of that picture. Raises CallError for what is not known."""
        study = self.of(number, point_key(self.nets[number].resolve(address)))
        examples = [] if study is None else study.top(address)
        if rank >= len(examples):
            raise CallError("this unit has no such example; let its study run first")
        one, net = examples[rank], self.nets[number]
        return draw.to_picture(read(one.file, net)[0] if whole else patch(one.file, net, one.box))

    def _folder(self, number: int, point: str) -> Path:
        pictures = str(self.pictures and self.pictures.resolve())
        told = f"{self.nets[number].weights_hash()} {self.nets[number].size} {point} {pictures}"
        return self.out / "studies" / hashlib.sha256(told.encode()).hexdigest()[:24]


def _told(net: Network, number: int, address: str, rank: int, one: Example) -> dict[str, Any]:
    url = f"api/networks/{number}/example.png?address={quote(address, safe='')}&rank={rank}&v={net.weights_hash()[:12]}"
    box = [one.box.top, one.box.left, one.box.bottom, one.box.right]
    told = {"name": one.file.name, "value": one.value, "patch": url, "picture": f"{url}&whole=true"}
    return told | {"place": None if one.place is None else list(one.place), "box": box}


def studied(net: Network, point: str) -> str:
    """The key of a whole point whose units can be studied. Raises CallError."""
    parsed = net.resolve(point)
    if parse(point).unit is not None or not net.layout_of(parsed, net.size).has_units:
        raise CallError("this point has no units to study; choose one that has channels")
    return point_key(parsed)
