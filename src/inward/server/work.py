"""What a job does: a method on a picture or on units, its results saved as they come."""

from __future__ import annotations

import inspect
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inward.errors import CallError
from inward.explain_command import with_input
from inward.network.network import Network
from inward.network.room import bytes_to_begin, free_bytes
from inward.pictures import read
from inward.redraw_command import longest_of, read_for
from inward.results import Driven, Perturbation, Redrawn, Result
from inward.row import Pass
from inward.runs.film import LateFilming
from inward.runs.steps import STEPS, Steps
from inward.server.jobs import Ask, Progress
from inward.server.library import Library
from inward.server.store import Store
from inward.server.studying import STUDY, Studies

_VIDEO = "webp"
"""Every browser plays it, and no encoder has to be installed."""


@dataclass(frozen=True)
class Work:
    """Computes what jobs ask for."""

    nets: Sequence[Network]
    library: Library
    store: Store
    studies: Studies
    _needed: dict[int, int] = field(default_factory=dict)

    def fits(self, ask: Ask) -> bool:
        """Whether there is memory to begin this beside what has begun; not where nothing is known of what it needs."""
        needed = self._needed.get(ask.network)
        if not needed:
            return False
        net = self.nets[ask.network]
        return free_bytes(net.device) >= needed * max(1, self._pixels(ask) / math.prod(net.size))

    def _pixels(self, ask: Ask) -> int:
        """Of the picture as the method reads it; 0: as the network sees it."""
        longest = longest_of(ask.row)
        if longest is None or ask.image is None:
            return 0
        picture = self.library.get(ask.image)
        return longest**2 or picture.height * picture.width

    def keys(self, ask: Ask) -> dict[str, str]:
        """The ids of what is asked for: by address, or under no name for a picture."""
        of_units = ask.row.takes == "addresses"
        things = ask.addresses if of_units else [self.library.sha256(self.library.get(ask.image or ""))]
        net, hashes = self.nets[ask.network], self._hashes(ask.options)
        found = self.store.keys(ask.row, net, ask.options, things, hashes, video=ask.video)
        return dict(zip(ask.addresses if of_units else [""], found, strict=True))

    def known(self, ask: Ask) -> dict[str, str]:
        """Those of them that are there."""
        if ask.row is STUDY:
            return {p: "" for p in ask.addresses if self.studies.of(ask.network, p) is not None}
        return {address: name for address, name in self.keys(ask).items() if self.store.has(name)}

    def __call__(self, ask: Ask, progress: Progress) -> None:
        """Computes what is not there yet."""
        # Here, where nothing else computes: a graph may have to be made for it.
        for number, net in enumerate(self.nets):
            if number not in self._needed:
                self._needed[number] = bytes_to_begin(net)
        if ask.row is STUDY:
            for point in ask.addresses:
                self.studies.make(ask.network, point, progress)
                progress.found(point, "")
            return
        keys = self.keys(ask)
        todo = [address for address, name in keys.items() if not self.store.has(name)]
        for address in [each for each in keys if each not in todo]:
            progress.found(address, keys[address])
        if not todo:
            return
        with tempfile.TemporaryDirectory(prefix="inward-") as folder:
            film = LateFilming(_VIDEO if ask.video else None, todo[0], Path(folder))
            given = self._given(ask, todo)
            steps = _steps(ask, self.nets[ask.network], given)
            with film.stack:
                result = self._result(ask, given, progress, [film, *([steps] if steps else [])])
                for index, address in enumerate(todo):
                    one, extra = result[index], film.finish()
                    if ask.row.takes == "images":
                        one = with_input(one, self.library.get(ask.image or "").file)
                    if steps is not None:
                        extra[STEPS] = _written(steps, one, Path(folder))
                    self.store.save(keys[address], one, extra)
                    progress.found(address, keys[address])

    def _given(self, ask: Ask, todo: list[str]) -> Any:
        """What the method takes: addresses, or the picture as it is read for it."""
        if ask.row.takes == "addresses":
            return todo
        net, file = self.nets[ask.network], self.library.get(ask.image or "").file
        return read_for(ask.row, net, file) if ask.row.returns is Redrawn else read([file], net).to(net.device)

    def _result(self, ask: Ask, given: Any, progress: Progress, observers: Sequence[Callable[[Pass], None]]) -> Result:
        row, options = ask.row, dict(ask.options)
        known = inspect.signature(row.function).parameters

        def passed(now: Pass) -> None:
            progress(now.done, now.total)
            for observer in observers:
                observer(now)

        options |= {"on_pass": passed} if "on_pass" in known else {}
        options |= {"on_progress": progress} if "on_progress" in known else {}
        options |= {"seed": self.store.seed} if "seed" in known else {}
        progress(0, 1)
        return row.function(self.nets[ask.network], given, **options)

    def _hashes(self, options: Mapping[str, Any]) -> dict[str, str]:
        """The SHA-256 of the pictures among options, by file."""
        words = {word for value in options.values() for word in ([value] if isinstance(value, str) else _listed(value))}
        return {str(p.file): self.library.sha256(p) for p in self.library.all() if str(p.file) in words}


def _steps(ask: Ask, net: Network, images: Any) -> Steps | None:
    """The answers by step of an attack, where the network gives a number a class."""
    if not issubclass(ask.row.returns, Perturbation | Driven):
        return None
    try:
        return Steps(net, images)
    except CallError:
        return None


def _written(steps: Steps, result: Result, folder: Path) -> Path:
    """The steps of an attack, with the class it led away from and the one it was to lead to."""
    if not isinstance(result, Perturbation | Driven):
        raise TypeError(f"{type(result).__name__} is no attack")
    led = (*result.labels, *result.targets) if isinstance(result, Perturbation) else ()
    named = [steps.net.resolve(address, steps.net.size).unit for address in led if address]
    return steps.write(folder, result.adversarial, [unit for unit in named if unit is not None])


def _listed(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple) else []
