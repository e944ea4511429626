"""Many units at once: a folder of tiles, one result each, and a page that shows them all.

A tile is there whole or not at all, and one that is there as it would be made is not made again:
so a run that was stopped goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inward import draw
from inward.ascent import OnPass, Pass
from inward.draw.atlas import Tile, atlas_page
from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.methods.method import Method
from inward.methods.recipe import batches_of, names_of, planned, summed
from inward.network.network import Network
from inward.results import Result
from inward.runs.film import Filming
from inward.runs.folder import check_place, finished, folder_name, free_name, manifest_in, save
from inward.runs.record import described_network
from inward.studies.activations import Activations, Example
from inward.studies.patches import patch

VIDEOS = ("mp4", "gif", "webp")
PAGE = "index.html"
# By this a page is known to be one of ours.
_MARK = '<ul id="tiles"'
# Patches of photographs beside a tile.
_PATCHES = 4


@dataclass(frozen=True)
class Made:
    """One unit of an atlas: ``result`` is None where its folder was there before."""

    address: str
    folder: Path
    result: Result | None


@dataclass(frozen=True, eq=False)
class Atlas:
    """Pictures of many units in one folder.

    Attributes:
        row: the method, one that takes addresses.
        out: the folder that gets a folder for every unit, and ``index.html`` where there are several.
        options: of the method; its defaults for the others.
        starts: picture files that units start from, by address; ``start`` of the options for the others.
        video: the format of a video of every tile: mp4, gif or webp.
        study: what real pictures excite the units; patches of them stand beside each tile.
    """

    net: Network
    row: Method
    out: Path
    options: Mapping[str, Any]
    starts: Mapping[str, str] | None = None
    video: str | None = None
    study: Activations | None = None

    def __post_init__(self) -> None:
        if self.video is not None and self.video not in VIDEOS:
            raise CallError(f"there are no videos as {self.video}; write {', '.join(VIDEOS)}")

    def names(self, words: Sequence[str]) -> list[str]:
        """The units that are meant. Raises CallError for none, or one that the network does not have."""
        return names_of(self.net, words, self._size)

    def make(self, names: Sequence[str], on_made: Callable[[Made], None], on_pass: OnPass | None = None) -> None:
        """Makes the tiles that are not there yet; each is told of as soon as it is there.

        ``on_pass`` is called with passes counted over all batches to come.
        """
        folders = dict(zip(names, self._folders(names), strict=True))
        there = [name for name in names if self._is_there(name, folders[name])]
        for name in there:
            on_made(Made(name, folders[name], None))
        todo = [name for name in names if name not in set(there)]
        self._check_places([folders[name] for name in todo])
        each = max(1, int(self.options.get("diverse", 1)))
        batch = self.options.get("batch")
        batches = batches_of(
            self.net, todo, lambda name: summed(self.net, name, self._size), self._size, each=each, batch=batch
        )
        with _place(self.out) as drafts:
            try:
                for index, batch in enumerate(batches):
                    watch = _counted(on_pass, index, len(batches))
                    for name, result, extra in self._batch(batch, drafts, watch):
                        on_made(Made(name, save(result, folders[name], extra), result))
                    self._page()
            except BaseException:
                # What stopped it is told, not that the page cannot be written either.
                with contextlib.suppress(InwardError):
                    self._page()
                raise
            self._page()

    @property
    def _size(self) -> tuple[int, int]:
        return self.options.get("size") or self.net.size

    def _folders(self, names: Sequence[str]) -> list[Path]:
        unique = unique_names([_spelled(name) for name in names])
        return [self.out / free_name(self.out, name, self.row.name) for name in unique]

    def _check_places(self, folders: Sequence[Path]) -> None:
        """Raises CallError where something else stands, before hours of work."""
        page = self.out / PAGE
        if page.exists() and not (page.is_file() and _MARK in page.read_text("utf-8", errors="replace")):
            raise CallError(f"{page} exists and is not the page of an atlas; give another --out")
        for folder in folders:
            check_place(folder, self.row.name)

    def _is_there(self, name: str, folder: Path) -> bool:
        asked = {**self.options, "start": self._start(name)} if self._takes_starts else self.options
        parameters = {"addresses": [name], **planned(self.row.function, self.net, asked)}
        filmed = self.video is not None and parameters["steps"] > 0
        films = [folder / _film_name(0, str(self.video))] if filmed else []
        network = described_network(self.net)
        films += [folder / _patch_name(0)] if self._examples(name) else []
        return finished(folder, self.row.name, {"parameters": parameters}, network) and all(
            film.is_file() for film in films
        )

    @property
    def _takes_starts(self) -> bool:
        return "start" in planned(self.row.function, self.net, {})

    def _start(self, name: str) -> list[str]:
        return [(self.starts or {}).get(name) or str(self.options.get("start", "noise"))]

    def _examples(self, name: str) -> list[Example]:
        """The places in real pictures that excite a unit most, where the study knows them."""
        if self.study is None:
            return []
        try:
            return self.study.top(name)[:_PATCHES]
        except CallError:
            return []

    def _patches(self, name: str, index: int, drafts: Path) -> dict[str, Path]:
        found = {}
        for rank, example in enumerate(self._examples(name)):
            draft = drafts / f"{index}-{rank}.png"
            draw.save_png(draw.to_picture(patch(example.file, self.net, example.box)), draft)
            found[_patch_name(rank)] = draft
        return found

    def _batch(
        self, names: list[str], drafts: Path, on_pass: OnPass | None
    ) -> Iterator[tuple[str, Result, dict[str, Path]]]:
        """The results of a batch, each with the files of its patches and videos."""
        options = {**self.options, "batch": len(names)}
        if self._takes_starts:
            options["start"] = [start for name in names for start in self._start(name)]
        patches = [self._patches(name, index, drafts) for index, name in enumerate(names)]
        if self.video is None:
            result = self.row.function(self.net, names, on_pass=on_pass, **options)
            yield from ((name, result[i], patches[i]) for i, name in enumerate(names))
            return
        with self._filming(names, drafts) as film:
            result = self.row.function(self.net, names, on_pass=_both(film, on_pass), **options)
        each = len(film.paths) // len(names)
        for index, name in enumerate(names):
            own = film.paths[index * each : (index + 1) * each]
            # An ascent of no steps leaves no film.
            films = {_film_name(k, self.video): path for k, path in enumerate(own) if path.is_file()}
            yield name, result[index], patches[index] | films

    def _filming(self, names: Sequence[str], drafts: Path) -> Filming:
        options = planned(self.row.function, self.net, self.options)
        channels = self.net.preprocess.channels + bool(options.get("transparent"))
        pictures = [name for name in names for _ in range(int(options.get("diverse", 1)))]
        return Filming(drafts / f"{{number}}.{self.video}", pictures, (channels, *self._size), options["steps"])

    def _page(self) -> None:
        """The page of all tiles of this method in the folder, written beside its place and renamed into it."""
        found = [(folder, told) for folder in sorted(self.out.glob("*/")) if (told := manifest_in(folder))]
        tiles = [tile for folder, told in found if told["method"] == self.row.name for tile in _tile(folder, told)]
        if len(tiles) > 1:
            about = f"{self.net.name}: {self.row.question} {self.row.paper}."
            page = atlas_page(f"{self.net.name}: {len(tiles)} units", tiles, about)
            write_whole(page.encode(), self.out / PAGE)


@contextlib.contextmanager
def _place(out: Path) -> Iterator[Path]:
    """Makes the folder of an atlas, and gives a hidden one in it, from which files are moved into tiles.

    That is gone at the end, and so is the folder itself where nothing came into it.
    """
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    # Named before it is there: a stop at any moment finds it, also one while tiles are written.
    drafts = out / f".drafts.{secrets.token_hex(8)}"
    try:
        try:
            drafts.mkdir(parents=True)
        except OSError as error:
            raise InwardError(f"{out} cannot be written ({error.strerror}); give another --out") from error
        yield drafts
    finally:
        shutil.rmtree(drafts, ignore_errors=True)
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()


def _tile(folder: Path, told: Mapping[str, Any]) -> list[Tile]:
    scores = told.get("scores")
    if not isinstance(scores, Mapping) or not isinstance(scores.get("address"), str):
        return []
    final = scores.get("final")
    parameters = told.get("parameters")
    size = parameters.get("size") if isinstance(parameters, Mapping) else None
    return [
        Tile(
            picture=f"{folder.name}/picture.png",
            address=scores["address"],
            score=f"{final:.4g}" if isinstance(final, int | float) else "",
            photographs=tuple(
                f"{folder.name}/{_patch_name(rank)}" for rank in range(_PATCHES) if _patch_name(rank) in told["files"]
            ),
            folder=folder.name,
            size=(size[0], size[1]) if isinstance(size, list) and len(size) == 2 else None,
        )
    ]


def _patch_name(rank: int) -> str:
    return f"photograph-{rank + 1}.png"


def _spelled(address: str) -> str:
    """A sum whose signs are words: a folder's name has none, and ``a + b`` and ``a - b`` are two units."""
    return re.sub(r"(^|\s)-(?=\s|\d)", r"\1minus ", address)


def _film_name(variant: int, suffix: str) -> str:
    return f"video.{suffix}" if variant == 0 else f"video-{variant + 1}.{suffix}"


def unique_names(names: Sequence[str]) -> list[str]:
    """A folder's name for each; told apart by a number, also where a file system ignores the case."""
    found: dict[str, str] = {}
    for name in map(folder_name, names):
        count, unique = 1, name
        while unique.casefold() in found:
            count += 1
            unique = f"{name}-{count}"
        found[unique.casefold()] = unique
    return list(found.values())


def _both(film: Filming, on_pass: OnPass | None) -> OnPass:
    def watch(now: Pass) -> None:
        film(now)
        if on_pass is not None:
            on_pass(now)

    return watch


def _counted(on_pass: OnPass | None, index: int, batches: int) -> OnPass | None:
    """Passes counted over all batches."""
    if on_pass is None:
        return None
    return lambda now: on_pass(replace(now, done=index * now.total + now.done, total=batches * now.total))
