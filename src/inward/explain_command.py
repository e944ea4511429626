"""What the commands that take pictures do: a method on every picture, or every method on one sheet."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Group, Parameter
from rich.progress import Progress, TaskID
from torch import Tensor

from inward import draw
from inward.atlas import unique_names
from inward.errors import CallError, InwardError, Unconverged
from inward.figures import caption, cell
from inward.methods.explained import explained
from inward.methods.method import Method
from inward.methods.recipe import is_sum
from inward.network.network import Network
from inward.options import Shared
from inward.pictures import find, read, size_of
from inward.results import Attribution, Result
from inward.runs.folder import finished, free_name, replaces
from inward.runs.maps import saved_map
from inward.runs.record import described_network, sha256
from inward.scoring.again import NOTHING
from inward.scoring.pointing import pointing_game
from inward.scoring.summary import score_map
from inward.terminal import answer, note, progress_bar
from inward.types import Images

R = TypeVar("R", bound=Result)

_BATCH = 16
_HOW_GOOD = Group("How good is the map", sort_key=12)
_SHEET = "methods.png"
_WHITE = 0.5
_REPLACED = "held a result of other options, and is replaced; give another --out to keep both"
# Parameters that follow the work and change no map.
_WATCHING = {"on_pass", "on_progress", "batch"}


def explain_options() -> list[inspect.Parameter]:
    """The options that are not the method's."""
    kind = inspect.Parameter
    helps = "Measure each map: areas under the deletion and insertion curves, infidelity, max-sensitivity."
    score = Annotated[bool, Parameter(group=_HOW_GOOD, negative="", help=helps)]
    helps = "A picture, white where the thing is: does the map point there (pointing game)?"
    mask = Annotated[Path | None, Parameter(group=_HOW_GOOD, help=helps)]
    return [
        kind("score", kind.KEYWORD_ONLY, default=False, annotation=score),
        kind("mask", kind.KEYWORD_ONLY, default=None, annotation=mask),
    ]


@dataclass(frozen=True)
class _Call:
    """What the command line said, and what it needs throughout."""

    given: Mapping[str, Any]
    net: Network
    files: list[Path]
    names: list[str]
    mask: Tensor | None
    bar: Progress

    @classmethod
    def of(cls, given: Mapping[str, Any], bar: Progress) -> _Call:
        # A picture is found before any work is done.
        files = find(given["things"])
        net = given["shared"].network(given["model"])
        return cls(given, net, files, unique_names([f.stem for f in files]), _mask(net, given, files), bar)

    def images(self, batch: slice) -> Images:
        return read(self.files[batch], self.net).to(self.net.device)

    def result(self, row: Method, options: Mapping[str, Any], images: Images) -> Result:
        """One batch, with what the command adds to it: a seed, how good the maps are."""
        found = _compute(row, self.net, images, options, self.bar)
        return self._judged(found) if isinstance(found, Attribution) else found

    def asked(self, row: Method, options: Mapping[str, Any], image: Images) -> dict[str, Any]:
        """All that a map follows from but the network, by which a finished one is known."""
        signature = inspect.signature(row.function).parameters.values()
        usual = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY and p.name not in _WATCHING}
        mask = None if self.mask is None else sha256(self.mask)
        told = {name: told_option(value) for name, value in {**usual, **options}.items()}
        return {"image": sha256(image), "options": told, "score": self.given["score"], "mask": mask}

    def _judged(self, found: Attribution) -> Attribution:
        measured, remarks = dict(found.measured), found.remarks
        if self.given["score"]:
            with _inner(self.bar, "how good it is") as progress:
                summary = score_map(found, on_progress=progress)
            measured |= summary.measured
            remarks = tuple((*own, *summary.remarks) for own in remarks)
        if self.mask is not None:
            pointed = pointing_game(found, self.mask)
            measured |= {"pointing": pointed.hits, "inside": pointed.inside}
        return replace(found, measured=measured, remarks=remarks)


def run_one(row: Method, options: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """One method on every picture, a folder each. ``given`` is what the command line said."""
    with progress_bar() as bar:
        options = seeded(row, options, given["shared"])
        call = _Call.of(given, bar)
        task = bar.add_task(row.name, total=len(call.names))
        # Pictures that are changed together are one batch.
        size = len(call.names) if row.shared else _BATCH
        for start in range(0, len(call.names), size):
            batch = slice(start, start + size)
            result = call.result(row, options, call.images(batch))
            for index, name in enumerate(call.names[batch]):
                one = with_input(result[index], call.files[batch][index])
                place = given["out"] / free_name(given["out"], name, row.name)
                if replaces(place, one):
                    note(bar, f"{place} {_REPLACED}")
                folder = one.save(place)
                answer(bar, f"{folder}  {caption(one)}")
                for text in one.notes():
                    note(bar, f"{name}: {text}")
                bar.advance(task)
            for text in result.record.notes:
                note(bar, text)
    return 0


def run_all(rows: Sequence[tuple[Method, Mapping[str, Any]]], given: Mapping[str, Any]) -> int:
    """Every method on every picture: a folder of each, and one sheet of them with their numbers.

    A map that is there as it would be made is not made again: so a run that was stopped goes on.
    """
    with progress_bar() as bar:
        call = _Call.of(given, bar)
        sheet = _Sheets(call, rows, bar.add_task("methods", total=len(call.names) * len(rows)))
        try:
            for index in range(len(call.names)):
                answer(bar, str(sheet.make(index)))
        except KeyboardInterrupt:
            there = "1 map is" if sheet.there == 1 else f"{sheet.there} maps are"
            raise KeyboardInterrupt(f"stopped; {there} there, and the same command goes on") from None
    return 0


@dataclass
class _Sheets:
    """The sheets on their way; ``there`` counts their maps."""

    call: _Call
    rows: Sequence[tuple[Method, Mapping[str, Any]]]
    task: TaskID
    there: int = 0
    told: set[str] = field(default_factory=set)

    def make(self, index: int) -> Path:
        """The sheet of one picture, with all maps of it."""
        call, name = self.call, self.call.names[index]
        image = call.images(slice(index, index + 1))
        question = f"{name}: {_question(call.net, image, call.given['target'])}"
        out = call.given["out"] / free_name(call.given["out"], name, "all")
        cells: list[draw.Cell] = []
        refused: list[InwardError] = []
        left_out: list[str] = []
        for row, options in self.rows:
            call.bar.update(self.task, description=f"{name}: {row.name}")
            try:
                cells.append(cell(self._map(row, options, image, out, call.files[index])))
            except InwardError as error:
                refused.append(error)
                left_out.append(f"{row.name} ({str(error).removeprefix(row.name).strip()})")
                self._leave_out(left_out[-1])
            call.bar.advance(self.task)
        if not cells:
            raise refused[0]
        told = f"Left out: {'; '.join(left_out)}." if left_out else ""
        sheet = draw.gallery(image[0], cells, question, note=told)
        draw.save_png(sheet, out / _SHEET)
        return out / _SHEET

    def _leave_out(self, text: str) -> None:
        """Says it once, for however many pictures."""
        if text not in self.told:
            self.told.add(text)
            note(self.call.bar, f"left out: {text}")

    def _map(self, row: Method, options: Mapping[str, Any], image: Images, out: Path, file: Path) -> Attribution:
        """The map of a method, saved. Raises InwardError where there is none."""
        call, folder = self.call, out / row.name
        options = seeded(row, options, call.given["shared"])
        asked = call.asked(row, options, image)
        there = _finished(folder, row, asked, call.net)
        if there is not None:
            self.there += 1
            answer(call.bar, f"{folder}  (there before)")
            return there
        made = call.result(row, options, image)
        if not isinstance(made, Attribution):
            raise TypeError(f"{row.name} gives no attribution")
        found = with_input(made, file, asked)
        if replaces(folder, found):
            note(call.bar, f"{folder} {_REPLACED}")
        found.save(folder)
        self.there += 1
        answer(call.bar, f"{folder}  {caption(found)}")
        for text in found.notes():
            note(call.bar, f"{row.name}: {text}")
        return found


def _finished(folder: Path, row: Method, asked: Mapping[str, Any], net: Network) -> Attribution | None:
    """The map of an earlier run, where it is what this one would make."""
    if not finished(folder, row.name, {"asked": asked}, described_network(net)):
        return None
    try:
        return saved_map(folder, net)
    except InwardError:
        return None


def _question(net: Network, image: Images, target: str | None) -> str:
    """What a sheet answers. Raises CallError for a target that there is not."""
    (address,) = explained(net, image, target).targets
    parsed = None if is_sum(address) else net.resolve(address, net.size)
    if parsed is None or parsed.output is None or parsed.unit is None:
        return f"what does {net.name} see for {address}?"
    return f"why does {net.name} say {net.label(parsed.unit)}?"


def seeded(row: Method, options: Mapping[str, Any], shared: Shared) -> dict[str, Any]:
    """The options with the seed. Raises CallError where one is missing that the method cannot do without."""
    signature = inspect.signature(row.function).parameters
    needed = [p.name for p in signature.values() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    missing = [name for name in needed if name not in options]
    if missing:
        raise CallError(f"{row.name} needs --{missing[0].replace('_', '-')}")
    return {**options, "seed": shared.seed} if "seed" in signature else dict(options)


def _compute(row: Method, net: Network, inputs: Images, options: Mapping[str, Any], bar: Progress) -> Result:
    """One batch, with a bar of its own for what takes many passes. What a result says itself is not said twice."""
    with warnings.catch_warnings(), _inner(bar, row.name) as progress:
        warnings.simplefilter("ignore", Unconverged)
        parameters = inspect.signature(row.function).parameters
        if "on_pass" in parameters:
            return row.function(net, inputs, on_pass=lambda now: progress(now.done, now.total), **options)
        if "on_progress" in parameters:
            return row.function(net, inputs, on_progress=progress, **options)
        return row.function(net, inputs, **options)


@contextmanager
def _inner(bar: Progress, name: str) -> Iterator[Callable[[int, int], None]]:
    task = bar.add_task(name, total=None)
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        bar.remove_task(task)


def _mask(net: Network, given: Mapping[str, Any], files: Sequence[Path]) -> Tensor | None:
    """The mask as the network sees pictures: cropped and scaled in the same way; white is inside.

    Raises CallError for a mask of another size than a picture, and for one that is white everywhere or nowhere.
    """
    mask = given.get("mask")
    if mask is None:
        return None
    found = read([mask], net)[0].mean(0) > _WHITE
    for file in [] if mask.suffix.lower() == ".npy" else files:
        wanted, size = net.size if file.suffix.lower() == ".npy" else size_of(file), size_of(mask)
        if size not in (wanted, net.size):
            told = f"{size[1]} x {size[0]} pixels and {file.name} has {wanted[1]} x {wanted[0]}"
            raise CallError(f"the mask {mask.name} does not fit: it has {told}; draw it over the picture itself")
    if found.all():
        raise CallError(
            f"the mask {mask.name} is white everywhere, so that every map points into it; make the rest black"
        )
    if not found.any():
        raise CallError(f"the mask {mask.name} has no white where the network looks; draw the thing in white")
    return found


def with_input(result: R, file: Path, asked: Mapping[str, Any] = NOTHING) -> R:
    """The record of a result made from a file names it."""
    images = {**result.record.inputs.get("images", {}), "file": str(Path(file).resolve())}
    return replace(
        result, record=replace(result.record, inputs={**result.record.inputs, "images": images}, asked=asked)
    )


def told_option(value: Any) -> Any:
    """An option as a manifest keeps it; of a file also what is in it."""
    if isinstance(value, str) and Path(value).is_file():
        return {"file": value, "sha256": hashlib.sha256(Path(value).read_bytes()).hexdigest()}
    return [told_option(each) for each in value] if isinstance(value, (list, tuple)) else value
