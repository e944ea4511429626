"""What ``inward visualize`` does: pictures of units, as they get ready, with a rate and the time left."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from rich.progress import Progress

from inward.ascent import Pass
from inward.atlas import PAGE, Atlas, Made
from inward.errors import CallError
from inward.methods.method import Method
from inward.options import Shared
from inward.results import describe
from inward.studies.activations import load
from inward.terminal import answer, note, progress_bar

_FILES = Group("Files", sort_key=15)


def atlas_options() -> list[inspect.Parameter]:
    """The options that are not the method's."""
    kind = inspect.Parameter
    video = Annotated[
        Literal["mp4", "gif", "webp"] | None,
        Parameter(group=_FILES, help="Film every picture on its way, with its score: mp4 (H.264), gif or webp."),
    ]
    study = Annotated[
        Path | None,
        Parameter(
            group=_FILES,
            help="The folder of `inward study activations`: its photographs stand beside each picture, "
            "and --start real begins with the one that excites the unit most.",
        ),
    ]
    return [
        kind("video", kind.KEYWORD_ONLY, default=None, annotation=video),
        kind("study", kind.KEYWORD_ONLY, default=None, annotation=study),
    ]


def run_atlas(row: Method, given: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """Makes the pictures that are not there yet, and says of each where it is.

    ``given`` is what the command line said (model, things, shared, out, video, study), ``options`` the
    method's part of it.
    """
    shared: Shared = given["shared"]
    net = shared.network(given["model"])
    if "seed" in inspect.signature(row.function).parameters:
        options = {**options, "seed": shared.seed}
    if shared.size is not None:
        options = {**options, "size": shared.size}
    atlas = Atlas(net, row, given["out"], options, video=given["video"])
    names = atlas.names(given["things"])
    if given["study"] is not None or options.get("start") == "real":
        atlas = _with_study(atlas, names, given["study"])
    with progress_bar(rate="pictures") as bar:
        task = bar.add_task(row.name, total=len(names))
        shown = _Shown(bar, task, row.name, len(names))
        try:
            atlas.make(names, shown.made, shown.passed)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped; {shown.there} of {len(names)} pictures are there, and the same command goes on"
            ) from None
    page = given["out"] / PAGE
    if len(names) > 1 and page.is_file():
        print(page)
    return 0


def _with_study(atlas: Atlas, names: Sequence[str], folder: Path | None) -> Atlas:
    """The atlas with the photographs of a study, each unit starting from its best where that is asked."""
    if folder is None:
        raise CallError("--start real needs --study FOLDER, made by `inward study activations`")
    study = load(folder, atlas.net)
    if atlas.options.get("start") != "real":
        return replace(atlas, study=study)
    starts = {}
    for name in names:
        examples = study.top(name)
        if not examples:
            raise CallError(f"the study in {folder} has not seen a picture yet; let it run first")
        starts[name] = str(examples[0].file)
    options = {key: value for key, value in atlas.options.items() if key != "start"}
    return replace(atlas, study=study, starts=starts, options=options)


class _Shown:
    """What the terminal shows of an atlas on its way."""

    def __init__(self, bar: Progress, task: Any, name: str, total: int) -> None:
        self.bar, self.task, self.name, self.total = bar, task, name, total
        self.there, self.left = 0, total

    def made(self, made: Made) -> None:
        """A tile is there."""
        self.there += 1
        if made.result is None:
            self.left -= 1
            # What was there before says nothing of how long the others take.
            self.bar.update(self.task, total=self.left)
            answer(self.bar, f"{made.folder}  (there before)")
            return
        answer(self.bar, f"{made.folder}  {describe(made.result.measures())}")
        for text in (*made.result.record.notes, *made.result.notes()):
            note(self.bar, text)

    def passed(self, now: Pass) -> None:
        """A pass was made, of as many as all batches take."""
        shown = f"{self.name}, pass {now.done}/{now.total}"
        self.bar.update(self.task, completed=self.left * now.done / now.total, description=shown)
