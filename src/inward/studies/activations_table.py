"""Every activation, output and augmentation, trained alike and attacked alike: what is robust, and what only masks.

Each network is attacked with its gradient (FGSM, PGD of 40 steps), by AutoAttack, without its gradient (Square), and by
images made on another network (transfer). One that withstands its own gradient better than what asks for none has no
robustness but gradients that lead nowhere: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of
security", 2018.
"""

from __future__ import annotations

import itertools
import json
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
from inward.studies.accuracy import wilson
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

    @property
    def masked(self) -> bool:
        """Whether what asks for no gradient of the network does better than its gradient (PGD of 40 steps)."""
        return self.mean("pgd-40") - min(self.mean(c) for c in ("square", "transfer")) > _MASKED

    def report(self) -> dict[str, Any]:
        """The figures, as ``table.json`` has them."""
        intervals = {c: wilson(self.mean(c), self.pictures) for c in COLUMNS}
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

    # Of a seed that none of the others has, so that transfer is never from a network to itself.
    tell("the network that images are made on")
    first = _own(recipe, "relu", "softmax", "none", recipe.seed + seeds)
    moved = _moved(
        network_of(trained(first, split, folder / "surrogate", photographs=False, on_step=on_step), "")[0], shown, eps
    )
    for activation, output, augmentation in kinds:
        figures = []
        for seed in range(recipe.seed, recipe.seed + seeds):
            done += 1
            name = f"{activation}-{output}-{augmentation}-{seed}"
            tell(name)
            own = _own(recipe, activation, output, augmentation, seed)
            figures.append(_figures(own, split, folder / name, shown, moved, eps, on_step))
        found.append(Kind(activation, output, augmentation, tuple(figures), len(shown.labels)))
    return found


def _own(recipe: Recipe, activation: str, output: str, augmentation: str, seed: int) -> Recipe:
    return replace(recipe, activation=activation, output=output, seed=seed, **AUGMENTATIONS[augmentation])


def _moved(net: Network, shown: Shown, eps: float) -> torch.Tensor:
    """The pictures as PGD leaves them on another network, which goes on after its success: so they transfer best."""
    images = shown.images(range(len(shown.labels)))
    return pgd(net, images, label=torch.tensor(shown.labels), eps=eps, stop=False).adversarial


def _figures(
    recipe: Recipe,
    split: Split,
    folder: Path,
    shown: Shown,
    moved: torch.Tensor,
    eps: float,
    on_step: Callable[[Watch], None] | None,
) -> dict[str, float]:
    asked = {"eps": eps, "pictures": len(shown.labels)}
    known = read_json(folder / _FIGURES)
    if known is not None and {k: known.get(k) for k in asked} == asked and set(COLUMNS) <= set(known):
        return {column: float(known[column]) for column in COLUMNS}
    net, _ = network_of(trained(recipe, split, folder, photographs=False, on_step=on_step), folder.name)
    labels = torch.tensor(shown.labels)
    found = {"clean": clean(net, shown)}
    found |= {name: attacked(net, shown, attack, eps) for name, attack in ATTACKS.items()}
    # Of images that are answered rightly as they are.
    images = shown.images(range(len(labels)))
    right = (net(images).argmax(1) == labels) & (net(moved).argmax(1) == labels)
    found["transfer"] = right.double().mean().item()
    write_whole((json.dumps(found | asked, indent=1) + "\n").encode(), folder / _FIGURES)
    return found


def write_table(found: Sequence[Kind], folder: Path, recipe: Recipe, eps: float) -> Path:
    """Writes ``table.json`` and ``table.md``; gives the path of the latter."""
    told = {"eps": eps, "pictures": found[0].pictures, "seeds": len(found[0].seeds), "versions": {"inward": VERSION}}
    told |= {"recipe": json.loads(recipe.as_json()), "kinds": [one.report() for one in found]}
    write_whole((json.dumps(told, indent=1) + "\n").encode(), folder / REPORT)
    heads = ("activation", "output", "augmentation", *COLUMNS, "masked")
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    for one in found:
        figures = [f"{one.mean(c):.1%}" for c in COLUMNS]
        cells = (one.activation, one.output, one.augmentation, *figures, "yes" if one.masked else "no")
        lines.append(f"| {' | '.join(cells)} |")
    reach = max(high - low for low, high in (wilson(one.mean(c), one.pictures) for one in found for c in COLUMNS)) / 2
    lines += [
        "",
        f"Means over {len(found[0].seeds)} seeds, {found[0].pictures} pictures; 95 % within {reach:.1%} at most.",
    ]
    write_whole(("\n".join(lines) + "\n").encode(), folder / TABLE)
    return folder / TABLE
