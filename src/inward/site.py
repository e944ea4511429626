"""The page as a folder of files: pictures of channels in sheets, what real pictures excite them, and all facts.

Any web host can serve it. A sheet is made at once and written whole; one that is there as it would be made is not made
again, so a run that was stopped goes on.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from inward import draw
from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.methods.recipe import planned
from inward.methods.visualize import visualize
from inward.network.network import Network
from inward.network.stages import blocks
from inward.row import Pass
from inward.runs.record import described_network
from inward.server.looks import Look
from inward.studies.activations import Activations, activations
from inward.studies.patches import patch
from inward.studies.statistics import shown_histogram
from inward.version import VERSION

SHEET = 32
"""Units of a sheet; a run that was stopped loses no more."""
TILE, PATCH, EXAMPLES = 128, 64, 6
"""Pixels of a picture and of a patch, and patches of a unit."""
_COLUMNS = 8
_QUALITY = 82
_MARK = "inward-atlas.json"
OnSheet = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Site:
    """A static atlas of a network.

    Attributes:
        points: whose units are shown, by name.
        out: the folder.
        page: the folder of the built page.
        options: of ``visualize``.
        files: pictures that are shown to the network; none: no patches.
    """

    net: Network
    points: Sequence[str]
    out: Path
    page: Path
    options: Mapping[str, Any]
    files: Sequence[Path] = ()

    def make(self, on_sheet: OnSheet, on_pass: Callable[[Pass], None] | None = None) -> Path:
        """Makes what is not there yet, and gives the address of the page.

        Args:
            on_sheet: called with a point, how many units of all are there, and how many there are.
            on_pass: as of ``visualize``.

        Raises:
            CallError: for a point without units, or a folder that holds something else.
            InwardError: where the page is not built, or the folder cannot be written.
        """
        self._check()
        counts = {point: int(self.net.points[point].units or 0) for point in self.points}
        done, total = 0, sum(counts.values())
        try:
            self._begin()
            for point, count in counts.items():
                study = self._study(point)
                for first in range(0, count, SHEET):
                    units = range(first, min(count, first + SHEET))
                    self._sheet(point, units, study, on_pass)
                    done += len(units)
                    on_sheet(point, done, total)
                self._units(point, count, study)
            self._finish()
        except OSError as error:
            raise InwardError(f"{self.out} cannot be written ({error.strerror}); give another --out") from error
        return self.out / "index.html"

    def _check(self) -> None:
        if not (self.page / "index.html").is_file():
            raise InwardError("the page is not built; run make page in a checkout of inward, or install a wheel")
        for point in self.points:
            if point not in self.net.points or not self.net.points[point].units:
                raise CallError(f"'{point}' has no channels to show; name points that have, as inward show lists them")
        ours = not self.out.exists() or (self.out / _MARK).is_file()
        if not ours and not (self.out.is_dir() and not any(self.out.iterdir())):
            raise CallError(f"{self.out} exists and is no atlas; give another --out")
        told = self._told()
        if told and told.get("network") != json.loads(json.dumps(self._network())):
            raise CallError(f"{self.out} is the atlas of another network; give another --out")

    def _network(self) -> dict[str, Any]:
        return {**described_network(self.net), "device": ""}

    def _told(self) -> dict[str, Any]:
        try:
            return json.loads((self.out / _MARK).read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _begin(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self._json(_MARK, {"network": self._network(), "version": VERSION})

    def _study(self, point: str) -> Activations | None:
        return activations(self.net, list(self.files), [point], k=EXAMPLES) if self.files else None

    def _identity(self, point: str, units: range) -> dict[str, Any]:
        """All that a sheet follows from but the network."""
        told = planned(visualize, self.net, dict(self.options))
        return json.loads(
            json.dumps({"point": point, "units": [units.start, units.stop], "options": told}, default=str)
        )

    def _sheet(
        self, point: str, units: range, study: Activations | None, on_pass: Callable[[Pass], None] | None
    ) -> None:
        place, identity = f"api/networks/0/sheets/{slug(point)}-{units.start}", self._identity(point, units)
        if self._read(f"{place}.json").get("identity") != identity or not (self.out / f"{place}.webp").is_file():
            found = visualize(self.net, [f"{point}/{unit}" for unit in units], on_pass=on_pass, **self.options)
            self._webp(f"{place}.webp", sheet([draw.to_picture(image) for image in found.images], TILE, _COLUMNS))
            self._json(f"{place}.json", {"identity": identity, "scores": found.final.tolist()})
        patches = f"{place}-patches.webp"
        if study is not None and not (self.out / patches).is_file():
            shown = [_patches(study, self.net, f"{point}/{unit}") for unit in units]
            blank = Image.new("RGB", (PATCH, PATCH), (128, 128, 128))
            cells = [one for row in shown for one in [*row, *[blank] * (EXAMPLES - len(row))]]
            self._webp(patches, sheet(cells, PATCH, EXAMPLES))

    def _units(self, point: str, count: int, study: Activations | None) -> None:
        scores: list[float] = []
        for first in range(0, count, SHEET):
            scores += self._read(f"api/networks/0/sheets/{slug(point)}-{first}.json")["scores"]
        told = {
            "tile": TILE,
            "columns": _COLUMNS,
            "per_sheet": SHEET,
            "patch": PATCH,
            "patches": EXAMPLES if study is not None else 0,
            "scores": scores,
            "units": [None if study is None else _unit(study, f"{point}/{unit}") for unit in range(count)],
        }
        self._json(f"api/networks/0/units/{slug(point)}.json", told)

    def _finish(self) -> None:
        look = Look(0, self.net)
        about = {**look.about, "points": list(self.points)}
        limits = {"upload_bytes": 0, "upload_pixels": 0, "waiting": 0}
        session = {"version": VERSION, "folder": False, "reading": True, "limits": limits, "networks": [about]}
        self._json("api/networks/0/architecture.json", look.architecture)
        self._json("api/networks/0/times.json", look.times)
        labels = None if self.net.labels is None else list(self.net.labels)
        self._json("api/networks/0/labels.json", {"labels": labels})
        for name, point in self.net.points.items():
            if point.node:
                facts = look.facts(name)
                # Where this machine keeps its files is nobody's business.
                facts["source"] = "/".join(facts["source"].split("/")[-3:])
                self._json(f"api/networks/0/facts/{slug(name)}.json", facts)
                if facts["filters"] is not None:
                    held = io.BytesIO()
                    look.filters(name).save(held, "PNG")
                    self._write(f"api/networks/0/filters/{slug(name)}.png", held.getvalue())
        for name in ("methods", "images", "jobs"):
            self._json(f"api/{name}.json", [])
        self._page()
        # Last: a page that is there has all that it reads.
        self._json("api/session.json", session)

    def _page(self) -> None:
        for path in self.page.rglob("*"):
            if path.is_file() and path.name not in ("index.html", "sources.sha256"):
                target = self.out / path.relative_to(self.page)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        text = (self.page / "index.html").read_text("utf-8").replace("__CSP_NONCE__", "")
        # By this the page knows that files lie beside it, and no server.
        self._write("index.html", text.replace("<html ", '<html data-reading="true" ', 1).encode())

    def _read(self, name: str) -> dict[str, Any]:
        try:
            return json.loads((self.out / name).read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def _json(self, name: str, told: Any) -> None:
        self._write(name, json.dumps(told, allow_nan=False, separators=(",", ":")).encode())

    def _webp(self, name: str, picture: Image.Image) -> None:
        held = io.BytesIO()
        picture.save(held, "WEBP", quality=_QUALITY, method=4)
        self._write(name, held.getvalue())

    def _write(self, name: str, data: bytes) -> None:
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(data, target)


def points_of(net: Network, layers: Sequence[str]) -> list[str]:
    """The points that are meant: those named, or by default the blocks. Raises CallError for a name that is none."""
    if not layers:
        return [name for name in blocks(net) if name in net.points and net.points[name].units]
    found = []
    for layer in layers:
        parsed = net.resolve(layer)
        if parsed.unit is not None or parsed.output is not None:
            raise CallError(f"an atlas is of whole points, and '{layer}' is none; write the name of a module")
        found.append(parsed.point)
    return list(dict.fromkeys(found))


def slug(name: str) -> str:
    """The name of a point as part of a file's name, the same on every system; no two points share one."""
    return re.sub(r"[^a-z0-9._-]", lambda c: f"~{ord(c[0]):x}~", name)


def sheet(pictures: Sequence[Image.Image], tile: int, columns: int) -> Image.Image:
    """Pictures side by side, each brought to a square of ``tile`` pixels."""
    columns = min(columns, len(pictures))
    whole = Image.new("RGB", (columns * tile, math.ceil(len(pictures) / columns) * tile), (128, 128, 128))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        one = picture.convert("RGB").resize((tile, tile), Image.Resampling.BICUBIC)
        whole.paste(one, (column * tile, row * tile))
    return whole


def _patches(study: Activations, net: Network, address: str) -> list[Image.Image]:
    found = study.top(address)[:EXAMPLES]
    return [draw.to_picture(patch(one.file, net, one.box)) for one in found]


def _unit(study: Activations, address: str) -> dict[str, Any]:
    examples = [{"name": one.file.name, "value": one.value} for one in study.top(address)[:EXAMPLES]]
    return {
        "maximum": study.maximum(address),
        "histogram": shown_histogram(*study.histogram(address)),
        "examples": examples,
    }
