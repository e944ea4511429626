"""How much accuracy is left under attack, over many labeled images: for a curve of eps, or the eps of an accuracy.

Images are read in batches; memory does not grow with them. One that falls at an eps has fallen at every larger one,
and one that withstands it does so at every smaller one: only those of which an eps says something new are attacked.
A pass can be stopped and goes on.
"""

from __future__ import annotations

import inspect
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError
from inward.methods.attacked import check_eps
from inward.methods.autoattack import Staged
from inward.methods.smallest import AnyAttack, Grid, between, most_of, option
from inward.network.modes import drawing
from inward.network.network import Network
from inward.network.room import images_at_once, in_chunks
from inward.results import Perturbation
from inward.studies.accuracy import Crossing, Judged, Robustness, Z, curve
from inward.studies.evaluation import Kept
from inward.studies.in_memory import Data, examples
from inward.studies.labeled import Examples

# What an attack is given with each batch, and what only watches it.
_EACH = {"net", "images", "label", "target", "eps", "on_pass", "on_progress"}
# Seconds between two writings of what is known; a stop writes it too.
_EVERY = 20.0
OnBatch = Callable[[int, int, float], None]
"""Called with (images done, images to do, eps) of a pass at this eps; at 0 they are shown as they are."""


def evaluate(
    net: Network,
    data: Data,
    attack: AnyAttack,
    eps: float | Sequence[float],
    *,
    batch: int = 0,
    folder: str | Path | None = None,
    on_batch: OnBatch | None = None,
) -> Robustness:
    """Clean and robust accuracy over labeled images.

    With a folder the pass is kept in it: ``report.json``, the curve as a picture, and some pictures that fell. The
    accuracy without attack is that of the images as they are given. What falls below one 8-bit level, which is judged
    in float, counts as fallen at whole levels too.

    Args:
        net: the network.
        data: a folder of labeled pictures, an .npz or idx file, or (images, labels).
        attack: an untargeted attack with its options but eps, such as ``functools.partial(inward.pgd, steps=100)``.
        eps: one or several; each image is attacked at the smallest first, and again at the next if it withstands.
        batch: images at once; 0: as many as there is memory for.
        folder: where the pass is kept, and goes on from when it was stopped.
        on_batch: called with (images done, images to do, eps) of the pass at this eps, before it and after every batch.

    Raises:
        CallError: for no image, no eps, an eps twice or outside (0, 1] (linf), or a folder that holds another
            evaluation.
        InwardError: for a file that is no picture.
    """
    given = (eps,) if isinstance(eps, (int, float)) else eps
    levels = tuple(sorted(float(e) for e in given))
    if not levels or len(set(levels)) < len(levels):
        raise CallError("eps is one number or several different ones, such as 2/255 4/255 8/255")
    for each in levels:
        check_eps(each, option(attack, "norm", "linf"))
    run = _Run(net, data, attack, Grid(levels), {"eps": list(levels)}, batch, folder, on_batch)
    with run:
        run.answer()
        for number in range(1, len(levels) + 1):
            run.attack(number)
    found = run.robustness(levels)
    run.finish(found.report(), found)
    return found


def eps_at(
    net: Network,
    data: Data,
    attack: AnyAttack,
    accuracy: float,
    *,
    most: float | None = None,
    batch: int = 0,
    folder: str | Path | None = None,
    on_batch: OnBatch | None = None,
) -> Crossing:
    """The eps at which the accuracy is down to a given one, by bisection over the whole set.

    At each eps of the bisection only those images are attacked of which it is not known whether they fall there. The
    eps are those of :func:`inward.smallest_eps`: of 8-bit pictures in linf whole levels, and parts of the first. In the
    same folder a search for another accuracy begins with what is known.

    Args:
        net: the network.
        data: a folder of labeled pictures, an .npz or idx file, or (images, labels).
        attack: an untargeted attack with its options but eps, such as ``functools.partial(inward.pgd, steps=100)``.
        accuracy: the share of right answers, above 0 and below that without attack.
        most: the largest eps that is tried; by default four times the usual one (32/255, 2, 48).
        batch, folder, on_batch: as for :func:`evaluate`.

    Raises:
        CallError: for an accuracy that is not between 0 and that without attack, and as :func:`evaluate`.
        InwardError: for a file that is no picture.
    """
    if not 0 < accuracy < 1:
        raise CallError(f"accuracy is a share of right answers between 0 and 1, not {accuracy:g}; write 0.5")
    norm = option(attack, "norm", "linf")
    most = most_of(norm, most)
    grid = Grid.of(norm, most, eight_bit=option(attack, "eight_bit", True))
    # What is known of the images serves any other accuracy too.
    run = _Run(net, data, attack, grid, {"most": most}, batch, folder, on_batch)
    with run:
        run.answer()
        clean, count = run.accuracy(0), len(run.rows)
        if accuracy >= clean:
            raise CallError(f"the accuracy without attack is {clean:.1%} already; ask for less than that")
        # The accuracies of which Wilson's intervals just hold the one that is asked for.
        reach = Z * math.sqrt(accuracy * (1 - accuracy) / count)
        middle, low, high = (grid[run.crossing(a)] for a in (accuracy, accuracy + reach, accuracy - reach))
    found = Crossing(accuracy, middle, low, high, run.robustness(run.attacked))
    run.finish(found.report(), found.robustness)
    return found


class _Run:
    """What is known of each image, and the attacks that say more."""

    def __init__(
        self,
        net: Network,
        data: Data,
        attack: AnyAttack,
        grid: Grid,
        asked: Mapping[str, Any],
        batch: int,
        folder: str | Path | None,
        on_batch: OnBatch | None,
    ) -> None:
        self.net, self.data, self.grid, self.on_batch = net, examples(data, net), grid, on_batch
        self._attack, self._numbers = attack, set[int]()
        if len(self.data.labels) == 0:
            raise CallError("there is nothing to evaluate; name a folder of labeled pictures")
        if batch < 0:
            raise CallError(f"a batch is of 1 image or more (0: as memory allows), not {batch}")
        self.at_once = batch or images_at_once(net, ["class"], net.size)
        self.kept = None if folder is None else Kept(Path(folder), _identity(net, self.data, attack, asked))
        self.rows = [] if self.kept is None else self.kept.begin()
        self._written = time.monotonic()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        """Also where it is stopped: what is known so far is kept."""
        self._write()

    @property
    def attacked(self) -> tuple[float, ...]:
        """The eps at which all is known, ascending."""
        return tuple(self.grid[number] for number in sorted(self._numbers))

    def robustness(self, eps: Sequence[float]) -> Robustness:
        return Robustness(tuple(eps), tuple(self.rows), option(self._attack, "norm", "linf"))

    def accuracy(self, number: int) -> float:
        return self.robustness(()).accuracy(self.grid[number])

    def finish(self, report: Mapping[str, Any], found: Robustness) -> None:
        if self.kept is None:
            return
        name, parameters = described(self._attack)
        told = json.loads(json.dumps({"attack": name, "parameters": parameters, "network": self.net.name}, default=str))
        drawn = curve(found, name, self.net.name) if found.eps else None
        self.kept.finish(told | report, drawn)

    def answer(self) -> None:
        """Shows the network the images as they are."""
        self._through(list(range(len(self.rows), len(self.data.labels))), 0.0, self._answers)

    def attack(self, number: int) -> None:
        """Attacks, at an eps, the images of which it is not known how they fare there."""
        eps = self.grid[number]
        waiting = [i for i, row in enumerate(self.rows) if row.open(eps)]
        self._through(waiting, eps, partial(self._attacked, number))
        self._numbers.add(number)

    def crossing(self, accuracy: float) -> int:
        """The number of the smallest eps at which no more than this accuracy is left."""
        known = {number: self.accuracy(number) for number in (0, *self._numbers)}
        low = max((n for n, left in known.items() if left > accuracy), default=0)
        high = min((n for n, left in known.items() if left <= accuracy), default=self.grid.beyond)
        while high - low > 1:
            number = between(low, high)
            self.attack(number)
            low, high = (low, number) if self.accuracy(number) <= accuracy else (number, high)
        return high

    def _through(self, waiting: list[int], eps: float, judge: Callable[[list[int]], int]) -> None:
        done = 0
        if self.on_batch is not None and waiting:
            self.on_batch(0, len(waiting), eps)
        for count in in_chunks(waiting, self.at_once, judge):
            done += count
            if time.monotonic() - self._written > _EVERY:
                self._write()
            if self.on_batch is not None:
                self.on_batch(done, len(waiting), eps)

    def _write(self) -> None:
        if self.kept is not None:
            self.kept.write(self.rows)
        self._written = time.monotonic()

    def _images(self, numbers: Sequence[int]) -> Tensor:
        return self.data.images(numbers).to(self.net.device, self.net.dtype)

    @torch.no_grad()
    def _answers(self, numbers: list[int]) -> int:
        with drawing(0, self.net.device):
            answers = self.net(self._images(numbers)).argmax(1).tolist()
        new = []
        for i, answer in zip(numbers, answers, strict=True):
            wrong = 0.0 if answer != self.data.labels[i] else None
            new.append(Judged(self.data.names[i], int(self.data.labels[i]), answer, wrong, wrong))
        self.rows += new
        return len(numbers)

    def _attacked(self, number: int, numbers: list[int]) -> int:
        labels = torch.tensor([self.rows[i].label for i in numbers])
        found = self._attack(self.net, self._images(numbers), label=labels, eps=self.grid[number])
        lengths = getattr(found, option(self._attack, "norm", "linf"))
        for k, i in enumerate(numbers):
            if self.kept is not None and found.success[k]:
                self.kept.sample(found[k], f"{self.rows[i].label}-{Path(self.rows[i].name).stem}")
            self.rows[i] = self._judged(self.rows[i], number, found, k, lengths[k].item())
        return len(numbers)

    def _judged(self, row: Judged, number: int, found: Perturbation, k: int, length: float) -> Judged:
        eps = self.grid[number]
        if row.fell_unrounded is None and bool(found.unrounded[k]):
            row = replace(row, fell_unrounded=eps)
        if not found.success[k]:
            return replace(row, withstood=eps)
        # What is shorter than it had to be counts at a smaller eps too, but at none that was withstood.
        held = next(n for n in (self.grid.holding(length), number) if self.grid[n] > row.withstood)
        fell = self.grid[min(held, number)]
        unrounded = min(fell, eps if row.fell_unrounded is None else row.fell_unrounded)
        by = found.by[k] if isinstance(found, Staged) else ""
        return replace(row, fell=fell, fell_unrounded=unrounded, by=by)


def _identity(net: Network, data: Examples, attack: AnyAttack, asked: Mapping[str, Any]) -> dict[str, Any]:
    network = {"name": net.name, "spec": net.spec, "weights_sha256": net.weights_hash(), "size": list(net.size)}
    network |= {"dtype": str(net.dtype).removeprefix("torch."), "preprocess": asdict(net.preprocess)}
    name, parameters = described(attack)
    told = {"study": "robustness", "attack": name, "parameters": parameters, **asked, "network": network}
    return json.loads(json.dumps(told | {"data": data.identity()}, default=str))


def described(attack: AnyAttack) -> tuple[str, dict[str, Any]]:
    """The name of an attack and all its options, its own defaults too, as far as JSON has them (no functions)."""
    if not isinstance(attack, partial):
        signature = inspect.signature(attack).parameters.values()
        usual = {p.name: p.default for p in signature if p.default is not p.empty and p.name not in _EACH}
        return str(getattr(attack, "__qualname__", type(attack).__qualname__)), _told(usual)
    name, inner = described(attack.func)
    given = {k: v for k, v in attack.keywords.items() if k not in _EACH}
    return name, _told(inner | given)


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if not callable(value)}
