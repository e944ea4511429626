"""Every activation, output and augmentation, trained alike and attacked alike: what is robust, and what only masks.

Each network is attacked with its gradient (FGSM, PGD of 40 steps), by AutoAttack, without its gradient (Square), and by
images made on another network (transfer). One that withstands its own gradient better than what asks for none has no
robustness but gradients that lead nowhere: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of
security", 2018.
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from inward.data.sets import Split
from inward.draw.saving import write_whole
from inward.errors import CallError
from inward.methods.attacks import fgsm, pgd
from inward.methods.autoattack import autoattack
from inward.methods.square import square
from inward.network.network import Network
from inward.studies.accuracy import student, wilson
from inward.studies.small_networks import Shown, attacked, clean, network_of, spread, trained
from inward.training import Recipe, Watch
from inward.training.checkpoint import read_json
from inward.version import VERSION

AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {"shift": 0},
    "heavy": {"shift": 3, "rotation": 15.0, "erase": 0.3, "noise": 0.2},
}
# A pace at which every activation learns: at sgd's 0.1 the steep logarithm loses in each epoch what it had learned.
TRAINED: dict[str, Any] = {"optimizer": "adamw", "rate": 0.001}
ATTACKS: dict[str, Any] = {
    "fgsm": fgsm,
    "pgd-40": partial(pgd, steps=40),
    "autoattack": autoattack,
    "square": square,
}
COLUMNS = ("clean", *ATTACKS, "transfer")
# By how much a gradient has to be outdone by what asks for none before it counts as masked.
_MASKED = 0.05
_AT_ONCE = 250
# Of the network that images are made on: none of the others has it, so that none is attacked by its own.
_OTHER_SEED = 1_000_000
_FIGURES, REPORT, TABLE = "figures.json", "table.json", "table.md"


@dataclass(frozen=True)
class Kind:
    """One line of the table.

    Attributes:
        activation, output, augmentation: their names.
        seeds: what was measured of the network of each seed: the share of right answers, by column.
        pictures: how many were attacked.
    """

    activation: str
    output: str
    augmentation: str
    seeds: tuple[Mapping[str, float], ...]
    pictures: int

    def mean(self, column: str) -> float:
        """Over the seeds."""
        return sum(one[column] for one in self.seeds) / len(self.seeds)

    def interval(self, column: str) -> tuple[float, float]:
        """95 %: Wilson's of the pictures, and Student's of the seeds where there are several, by root of squares."""
        mean, count = self.mean(column), len(self.seeds)
        low, high = wilson(mean, self.pictures)
        spread = 0.0
        if count > 1:
            spread = student(count) * statistics.stdev(one[column] for one in self.seeds) / math.sqrt(count)
        return max(0.0, mean - math.hypot(mean - low, spread)), min(1.0, mean + math.hypot(high - mean, spread))

    @property
    def masked(self) -> bool:
        """Whether what asks for no gradient of the network does better than its gradient (PGD of 40 steps).

        By five points, and by more than the intervals of both explain.
        """
        best = min(("square", "transfer"), key=self.mean)
        lead = self.mean("pgd-40") - self.mean(best)
        known = math.hypot(self.mean("pgd-40") - self.interval("pgd-40")[0], self.interval(best)[1] - self.mean(best))
        return lead > max(_MASKED, known)

    def report(self) -> dict[str, Any]:
        """The figures, as ``table.json`` has them."""
        intervals = {c: self.interval(c) for c in COLUMNS}
        told = {c: {"mean": self.mean(c), "low": low, "high": high} for c, (low, high) in intervals.items()}
        own = {"activation": self.activation, "output": self.output, "augmentation": self.augmentation}
        return own | {"accuracy": told, "masked": self.masked, "seeds": [dict(one) for one in self.seeds]}


def table(
    split: Split,
    recipe: Recipe,
    folder: Path,
    *,
    activations: Sequence[str],
    outputs: Sequence[str],
    augmentations: Sequence[str],
    seeds: int,
    eps: float,
    pictures: int,
    device: str = "cpu",
    on_network: Callable[[str, int, int], None] | None = None,
    on_step: Callable[[Watch], None] | None = None,
) -> list[Kind]:
    """Trains and measures every kind; what the folder has is not done again.

    Args:
        recipe: what all have in common.
        activations, outputs, augmentations: the names of what is combined, of the last ``AUGMENTATIONS``.
        seeds: networks of each kind.
        eps: of the attacks, in linf.
        pictures: how many held-out pictures are attacked.
        device: where networks are trained and attacked: cpu, cuda, mps or auto.
        on_network: called with what is done now, networks done, and networks in all.

    Raises:
        CallError: for an unknown augmentation, an eps outside (0, 1], or numbers below 1.
    """
    if wrong := [name for name in augmentations if name not in AUGMENTATIONS]:
        raise CallError(f"there is no augmentation '{wrong[0]}'; choose {', '.join(AUGMENTATIONS)}")
    if seeds < 1 or pictures < 1:
        raise CallError(f"seeds and pictures are 1 or more, not {seeds} and {pictures}")
    if not 0 < eps <= 1:
        raise CallError(f"eps is the largest change of any value, above 0 and at most 1, not {eps:g}; write 0.3")
    shown = Shown(split.held_out, recipe.size, spread(len(split.held_out.labels), pictures))
    kinds = list(itertools.product(activations, outputs, augmentations))
    total, done, found = 1 + len(kinds) * seeds, 0, []

    def tell(doing: str) -> None:
        if on_network is not None:
            on_network(doing, done, total)

    def network(own: Recipe, name: str) -> Network:
        kept = trained(own, split, folder / name, photographs=False, device=device, on_step=on_step)
        return network_of(kept, name, device)[0]

    tell("the network that images are made on")
    first = network(_own(recipe, "relu", "softmax", "none", recipe.seed + _OTHER_SEED), "surrogate")
    moved = _moved(first, shown, eps)
    for activation, output, augmentation in kinds:
        figures = []
        for seed in range(recipe.seed, recipe.seed + seeds):
            done += 1
            name = f"{activation}-{output}-{augmentation}-{seed}"
            tell(name)
            made = partial(network, _own(recipe, activation, output, augmentation, seed), name)
            figures.append(_figures(made, folder / name, shown, moved, eps))
        found.append(Kind(activation, output, augmentation, tuple(figures), len(shown.labels)))
    return found


def _own(recipe: Recipe, activation: str, output: str, augmentation: str, seed: int) -> Recipe:
    return replace(recipe, activation=activation, output=output, seed=seed, **AUGMENTATIONS[augmentation])


def _moved(net: Network, shown: Shown, eps: float) -> torch.Tensor:
    """The pictures as PGD leaves them on another network, which goes on after its success: so they transfer best."""
    images = shown.images(range(len(shown.labels)))
    return pgd(net, images, label=torch.tensor(shown.labels), eps=eps, stop=False).adversarial


def _figures(
    network: Callable[[], Network], folder: Path, shown: Shown, moved: torch.Tensor, eps: float
) -> dict[str, float]:
    """The share of right answers by column; kept in the folder, column after column."""
    asked = {"eps": eps, "pictures": len(shown.labels)}
    found = read_json(folder / _FIGURES) or {}
    if {k: found.get(k) for k in asked} != asked:
        found = dict(asked)
    if missing := [column for column in COLUMNS if column not in found]:
        net = network()
        for column in missing:
            found[column] = _left(net, column, shown, moved, eps)
            write_whole((json.dumps(found, indent=1) + "\n").encode(), folder / _FIGURES)
    return {column: float(found[column]) for column in COLUMNS}


@torch.no_grad()
def _left(net: Network, column: str, shown: Shown, moved: torch.Tensor, eps: float) -> float:
    if column == "clean":
        return clean(net, shown)
    if column in ATTACKS:
        return attacked(net, shown, ATTACKS[column], eps)
    # Transfer is of images that are answered rightly as they are.
    labels, images = torch.tensor(shown.labels), shown.images(range(len(shown.labels)))
    answers = [
        torch.cat([net(x.to(net.device)).argmax(1).cpu() for x in some.split(_AT_ONCE)]) for some in (images, moved)
    ]
    right = [answer == labels for answer in answers]
    return (right[0] & right[1]).double().mean().item()


def write_table(found: Sequence[Kind], folder: Path, recipe: Recipe, eps: float) -> Path:
    """Writes ``table.json`` and ``table.md``; gives the path of the latter."""
    told = {"eps": eps, "pictures": found[0].pictures, "seeds": len(found[0].seeds), "versions": {"inward": VERSION}}
    told |= {"recipe": json.loads(recipe.as_json()), "kinds": [one.report() for one in found]}
    write_whole((json.dumps(told, indent=1) + "\n").encode(), folder / REPORT)
    heads = ("activation", "output", "augmentation", *COLUMNS, "masked")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for one in found:
        figures = [f"{one.mean(c):.1%} ({low:.0%} to {high:.0%})" for c in COLUMNS for low, high in [one.interval(c)]]
        cells = (one.activation, one.output, one.augmentation, *figures, "yes" if one.masked else "no")
        lines.append(f"| {' | '.join(cells)} |")
    many = "mean over {} seeds" if len(found[0].seeds) > 1 else "{} seed, whose chance is not in the intervals"
    told_seeds = many.format(len(found[0].seeds))
    lines += ["", f"{found[0].pictures} pictures, {told_seeds}; in brackets 95 %."]
    write_whole(("\n".join(lines) + "\n").encode(), folder / TABLE)
    return folder / TABLE
