"""What ``inward invert``, ``texture``, ``style`` and ``dream`` do: a picture of every picture, and its video."""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from rich.progress import Progress, TaskID

from inward.atlas import unique_names
from inward.errors import InwardError
from inward.explain_command import seeded, told_option, with_input
from inward.figures import caption
from inward.methods.method import Method
from inward.network.network import Network
from inward.options import Shared, as_whole
from inward.pictures import find, read, read_whole
from inward.row import Pass
from inward.runs.film import LateFilming
from inward.runs.folder import check_place, finished, free_name, replaces, save
from inward.runs.record import described_network, sha256
from inward.terminal import answer, note, progress_bar
from inward.types import Images

_FILES = Group("Files", sort_key=15)
# The long side of what is read where nothing is said; 0: as the file has it; None: as the network sees pictures.
_LONGEST: dict[str, int | None] = {"invert": None, "texture": 256, "style": 512, "dream": 0}
# Parameters that follow the work and change nothing.
_WATCHING = {"on_pass"}
_REPLACED = "held a result of other options, and is replaced; give another --out to keep both"


def redraw_options(command: str) -> list[inspect.Parameter]:
    """The options that are not the method's."""
    kind = inspect.Parameter
    usual = _LONGEST[command]
    told = {None: "cropped to what the network sees", 0: "as it is"}.get(usual, f"{usual} pixels")
    longest = Annotated[
        int | None,
        Parameter(
            group=_FILES, converter=as_whole, help=f"Bring the long side of the picture to so many pixels; else {told}."
        ),
    ]
    video = Annotated[
        Literal["mp4", "gif", "webp"] | None,
        Parameter(group=_FILES, help="Film every picture on its way: mp4 (H.264), gif or webp."),
    ]
    return [
        kind("longest", kind.KEYWORD_ONLY, default=None, annotation=longest),
        kind("video", kind.KEYWORD_ONLY, default=None, annotation=video),
    ]


def run_redraw(row: Method, options: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """One picture after the other, a folder each; what is there as it would be made is not made again."""
    with progress_bar() as bar:
        shared: Shared = given["shared"]
        options = seeded(row, options, shared)
        if shared.size is not None and "size" in inspect.signature(row.function).parameters:
            options["size"] = shared.size
        files = find(given["things"])
        net = shared.network(given["model"])
        names = unique_names([file.stem for file in files])
        shown = _Shown(bar, bar.add_task(row.name, total=None), len(files))
        try:
            for file, name in zip(files, names, strict=True):
                _one(row, options, given, net, file, name, shown)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {shown.there} of {len(files)} pictures are there, and the same command goes on"
            ) from None
    return 0


@dataclass
class _Shown:
    """What the terminal shows."""

    bar: Progress
    task: TaskID
    total: int
    there: int = 0

    def passed(self, name: str) -> Callable[[Pass], None]:
        """Tells of the passes of a picture."""
        which = f", picture {self.there + 1} of {self.total}" if self.total > 1 else ""

        def tell(now: Pass) -> None:
            self.bar.update(self.task, completed=now.done, total=now.total, description=f"{name}{which}")

        return tell


def _one(
    row: Method,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    net: Network,
    file: Path,
    name: str,
    shown: _Shown,
) -> None:
    image = read_for(row, net, file, given["longest"])
    place: Path = given["out"] / free_name(given["out"], name, row.name)
    # Before minutes of work.
    check_place(place, row.name)
    asked = _asked(row, options, image, given["video"])
    if finished(place, row.name, {"asked": asked}, described_network(net)):
        shown.there += 1
        answer(shown.bar, f"{place}  (there before)")
        return
    tell = shown.passed(name)
    with _filming(given, name) as film:
        result = row.function(net, image, on_pass=_both(film, tell), **options)
        one = with_input(result[0], file, asked)
        if replaces(place, one):
            note(shown.bar, f"{place} {_REPLACED}")
        save(one, place, film.finish())
    shown.there += 1
    answer(shown.bar, f"{place}  {caption(one)}")
    for text in (*one.record.notes, *one.notes()):
        note(shown.bar, f"{name}: {text}")


def longest_of(row: Method) -> int | None:
    """The long side at which a picture is redrawn unless asked otherwise; 0: its own, None: as the network sees it."""
    return _LONGEST.get(row.command)


def read_for(row: Method, net: Network, file: Path, longest: int | None = None) -> Images:
    """A picture as a method redraws it: as the network sees it, or whole with its long side at ``longest``.

    By default as the command of the method does; 0: at its own size. Raises InwardError below that.
    """
    longest = _LONGEST[row.command] if longest is None else longest
    if longest is None or file.suffix.lower() == ".npy":
        return read([file], net).to(net.device)
    if longest < 0:
        raise InwardError(f"the long side of a picture is 1 pixel or more, not {longest}; give another --longest")
    return read_whole(file, net, longest or None).to(net.device)


def _asked(row: Method, options: Mapping[str, Any], image: Images, video: str | None) -> dict[str, Any]:
    """All that a picture follows from but the network, by which a finished one is known."""
    signature = inspect.signature(row.function).parameters.values()
    usual = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in _WATCHING}
    told = {name: told_option(value) for name, value in {**usual, **options}.items() if value is not inspect._empty}
    return {"image": sha256(image), "options": told, "video": video}


def _both(film: LateFilming, tell: Callable[[Pass], None]) -> Callable[[Pass], None]:
    def watch(now: Pass) -> None:
        film(now)
        tell(now)

    return watch


@contextlib.contextmanager
def _filming(given: Mapping[str, Any], name: str) -> Iterator[LateFilming]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        yield LateFilming(given["video"], name, Path(folder), stack)
