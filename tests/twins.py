"""The networks that come with the package: trained by its own command on Imagenette, and put into it.

``python -m tests.twins`` goes on with the trainings in ``runs`` (hours on two cores; a finished one is only measured),
and writes weights and cards to ``src/inward/nets/weights``.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from inward.cli import main
from inward.nets.trained import WEIGHTS, load_trained, rounded, save_trained, shipped
from inward.training.card import CARD, as_page
from tests.packs import imagenette
from tests.trained import ROOT, data_folder

RUNS = ROOT / "runs"
# Both are the command's own choices for a folder of photographs, but for what is said here.
RECIPES = {
    "normal": ("--smoothing", "0.1"),
    "robust": ("--adversarial", "fgsm", "--eps", "4/255", "--crop", "0.4", "--ema", "0.999", "--epochs", "50"),
}
# Held-out pictures that AutoAttack is run on.
_STRONG = 500


def names() -> list[str]:
    """What the ten classes are called, in the order of their WordNet ids."""
    with np.load(data_folder() / "imagenette" / "imagenette160.npz", allow_pickle=False) as pack:
        return [str(name) for name in pack["names"]]


def train(name: str) -> Path:
    """The folder of a finished training."""
    pictures, out = RUNS / "imagenette", RUNS / name
    if not pictures.is_dir():
        imagenette(pictures)
    words = ["train", "--data", str(pictures), *RECIPES[name], "--autoattack", str(_STRONG), "--out", str(out)]
    if main(words):
        raise SystemExit(f"{name} is not trained to its end; the same command goes on")
    return out


def ship(name: str, run: Path) -> None:
    """Puts the weights and the card of a run into the package, with the classes by their names."""
    module, told = load_trained(run / WEIGHTS)
    rounded(module)
    save_trained(shipped(name), module, told | {"classes": names()}, half=True)
    card = json.loads((run / CARD).read_text("utf-8")) | {"name": f"inward/{name}", "classes": names()}
    shipped(name).with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    page = as_page(card).decode().replace("![accuracy by epoch](curves.png)\n\n", "")
    shipped(name).with_suffix(".md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    for twin in RECIPES:
        ship(twin, train(twin))
