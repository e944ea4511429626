"""The command ``inward train``: a small network on a data set, with a card of what it does."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import App, Group, Parameter
from docstring_parser import parse as parse_docstring
from rich.progress import Progress

from inward import draw
from inward.data.sets import NAMES, Split, kind_of, open_set
from inward.draw.saving import write_whole
from inward.errors import CallError
from inward.methods.attacks import pgd
from inward.methods.autoattack import autoattack
from inward.nets.activations import activation, normalization
from inward.nets.trained import WEIGHTS
from inward.network.devices import pick_device
from inward.options import as_number, as_whole
from inward.studies.accuracy import told_eps
from inward.studies.small_networks import (
    OnCount,
    Shown,
    attacked,
    clean,
    network_of,
    row,
    spread,
    told_apart,
    trained,
)
from inward.terminal import answer, fetching, progress_bar, stopped
from inward.training import Recipe, Watch
from inward.training.augment import stored_size
from inward.training.card import CARD, PAGE, as_json, as_page
from inward.training.recipe import BALL_EPS, OUTPUTS
from inward.version import VERSION

EXAMPLES = (
    "inward train --data mnist --out runs/mnist",
    "inward train --data cifar10 --net resnet --activation relog --adversarial pgd --eps 8/255 --out runs/relog",
    "inward train --data photographs/ --adversarial fgsm --eps 4/255 --out runs/robust",
    "inward train --data mnist --output sigmoid --open-world --out runs/open",
)
_USAGE = "Usage: inward train --data DATA --out DIR [OPTIONS]"
# What differs from a recipe's defaults by the kind of the data.
_FOLDER: dict[str, Any] = {"net": "resnet", "norm": "batch", "size": 128, "epochs": 40, "batch": 64, "crop": 0.35}
_FOLDER |= {"flip": True}
PRESETS: dict[str, dict[str, Any]] = {
    "mnist": {"norm": "batch", "shift": 2},
    "digits": {"norm": "batch", "size": 8, "epochs": 40},
    "npz": {"norm": "batch"},
    "cifar10": {"net": "resnet", "norm": "batch", "size": 32, "epochs": 30, "flip": True, "shift": 4},
    "folder": _FOLDER,
}
EPS = {"mnist": 0.3, "digits": 0.3, "npz": 8 / 255, "cifar10": 8 / 255, "folder": 4 / 255}
_ATTACKS: dict[str, dict[str, Any]] = {
    "none": {},
    "pgd": {"steps": 7, "step_size": 0.25, "warm": 0.2},
    "fgsm": {"steps": 1, "step_size": 1.25, "warm": 0.2},
    "trades": {"steps": 7, "step_size": 0.25, "warm": 0.2},
    "free": {},
}
_GROUP = Group("Recipe", sort_key=10)
# Pictures by which robust accuracy is measured.
_MEASURED = 1000
# Where AutoAttack's part is kept, and after how many pictures.
_STRONG, _AT_ONCE = "autoattack", 50


def _parameters() -> list[inspect.Parameter]:
    """An option for every setting of a recipe; None where neither the user nor a preset says."""
    told = {p.arg_name: p.description or "" for p in parse_docstring(inspect.getdoc(Recipe) or "").params}
    found = []
    for field in fields(Recipe):
        kind = type(field.default)
        converter = {float: as_number, int: as_whole}.get(kind)
        note = Parameter(group=_GROUP, converter=converter, help=" ".join(told.get(field.name, "").split()))
        annotation = Annotated[kind | None, note]
        found.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return found


def recipe_for(given: dict[str, Any]) -> Recipe:
    """The recipe of what is given; the rest by the kind of the data and of the attack, then by the defaults."""
    data = given["data"]
    kind = kind_of(data)
    chosen = dict(PRESETS[kind])
    adversarial = given.get("adversarial") or "none"
    chosen |= _ATTACKS.get(adversarial, {})
    # Radii of other balls are other numbers, which are given: networks are measured by them, however trained.
    if given.get("ball") in (None, "linf"):
        chosen |= {"eps": EPS[kind]} if adversarial != "none" else {}
    elif given["ball"] in BALL_EPS and not given.get("eps"):
        raise CallError(f"a ball in {given['ball']} needs a radius; give eps, such as {BALL_EPS[given['ball']]}")
    chosen |= OUTPUTS.get(given.get("output") or "softmax", {})
    chosen |= {name: value for name, value in given.items() if value is not None}
    chosen["data"] = data if data in NAMES else Path(data).name
    recipe = Recipe(**chosen)
    # Before anything is read or written.
    activation(recipe.activation)
    normalization(recipe.norm, 1)
    return recipe


def train_command(*, out: Path, autoattack: int = 0, device: str = "auto", **given: Any) -> int:
    """Train a small network, and measure what it does.

    Stopped, it goes on where it was when it is called again; the weights are then those of a run that was not stopped.
    The folder holds weights.safetensors, card.md and card.json, curves.png, and the recipe; `inward show DIR` and every
    other command take it for a network.
    """
    if given.get("data") is None:
        raise CallError(f"there is nothing to train on; give --data, which is {', '.join(NAMES)}, a folder or an .npz")
    recipe = recipe_for(given)
    kind = kind_of(given["data"])
    _check_strong(autoattack, recipe.ball)
    pick_device(device)
    with progress_bar() as bar:
        try:
            split = open_set(given["data"], size=stored_size(recipe.size), on_bytes=fetching(bar))
            if given.get("size") is None and kind != "folder":
                # Networks here take 8 pixels or more.
                recipe = replace(recipe, size=max(8, split.train.shape[1]))
            _train(recipe, split, kind, out, device, bar)
            page = _measure(recipe, split, recipe.eps or EPS[kind], out, autoattack, device, bar)
        except KeyboardInterrupt:
            return stopped(bar, out)
        answer(bar, page.split("## Recipe")[0].strip())
        answer(bar, str(out))
    return 0


def _signature() -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    told = Parameter(help="The folder of the run.")
    out = inspect.Parameter("out", keyword, default=Path("inward-run"), annotation=Annotated[Path, told])
    note = Parameter(converter=as_whole, help="Also attack so many held-out pictures with AutoAttack; 0: none.")
    strong = inspect.Parameter("autoattack", keyword, default=0, annotation=Annotated[int, note])
    where = Parameter(help="auto (CUDA or MPS where there is one), cpu, cuda, cuda:1, mps.")
    device = inspect.Parameter("device", keyword, default="auto", annotation=Annotated[str, where])
    return inspect.Signature([*_parameters(), out, strong, device], return_annotation=int)


train_command.__signature__ = _signature()  # type: ignore[attr-defined]
train_command.__annotations__ = {p.name: p.annotation for p in _signature().parameters.values()} | {"return": int}
app = App(
    name="train",
    usage=_USAGE,
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES)]),
    help_format="plaintext",
)
app.default(train_command)


def _check_strong(count: int, ball: str) -> None:
    """Before hours are spent on what it is asked of."""
    if count < 0:
        raise CallError(f"autoattack is a number of pictures, 0 or more, not {count}")
    if count and ball not in ("linf", "l2"):
        raise CallError(f"AutoAttack is for linf and l2, not {ball}; leave out --autoattack")


def _train(recipe: Recipe, split: Split, kind: str, out: Path, device: str, bar: Progress) -> None:
    task = bar.add_task("train", total=None)

    def tell(now: Watch) -> None:
        known = "" if now.accuracy is None else f", {now.accuracy:.1%} right"
        doing = f"epoch {now.epoch} of {recipe.epochs}, loss {now.loss:.3f}{known}"
        bar.update(task, completed=now.step, total=now.steps, description=doing)

    trained(recipe, split, out, photographs=kind == "folder", device=device, on_step=tell)
    bar.remove_task(task)


def _measure(recipe: Recipe, split: Split, eps: float, out: Path, strong: int, device: str, bar: Progress) -> str:
    """What the kept weights do on pictures that were not trained on."""
    net, told = network_of(out / WEIGHTS, out.name, device)
    held, history = split.held_out, told["history"]

    def some(count: int) -> Shown:
        return Shown(held, recipe.size, spread(len(held.labels), count))

    everyone, ball = some(len(held.labels)), {"norm": recipe.ball}
    rows = [row("clean", clean(net, everyone, _counting("clean", bar)), len(held.labels))]
    attacks: list[tuple[str, Any, int]] = [("PGD-40", partial(pgd, **ball), _MEASURED)]  # type: ignore[arg-type]
    attacks += [("AutoAttack", partial(autoattack, **ball), strong)] if strong else []  # type: ignore[arg-type]
    for attack_name, attack, count in attacks:
        what, shown = f"{attack_name} ({recipe.ball}, eps {told_eps(eps, recipe.ball)})", some(count)
        # It takes an hour where networks are robust: a stop must not cost all of it.
        kept: dict[str, Any] = {"folder": out / _STRONG, "batch": _AT_ONCE} if attack_name == "AutoAttack" else {}
        share = attacked(net, shown, attack, eps, _counting(what, bar), **kept)
        rows.append(row(what, share, len(shown.labels)))
    figures: dict[str, Any] = {"accuracy": rows}
    if recipe.open_world:
        figures |= told_apart(net, some(_MEASURED), recipe)
    card = {"name": out.name, "recipe": asdict(recipe), "classes": told["classes"], "figures": figures}
    card |= {"parameters": net.parameters, "history": history, "seconds": sum(one["seconds"] for one in history)}
    card |= {"versions": {"inward": VERSION, "torch": torch.__version__, "Python": platform.python_version()}}
    write_whole(as_json(card), out / CARD)
    page = as_page(card)
    write_whole(page, out / PAGE)
    if len(history) > 1:
        draw.save_png(_curves(history, out.name), out / "curves.png")
    return page.decode()


def _counting(what: str, bar: Progress) -> OnCount:
    """A bar of pictures, which goes when all are done."""
    task = bar.add_task(what, total=None)

    def tell(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total, visible=done < total)

    return tell


def _curves(history: Sequence[dict[str, float]], name: str) -> Any:
    last = history[-1]["epoch"]
    epochs, shown, right = (
        torch.tensor([row[key] for row in history], dtype=torch.float64) for key in ("epoch", "shown", "accuracy")
    )
    lines = [draw.Line("held out", epochs / last, right, told=f"{right[-1]:.1%}")]
    lines.append(draw.Line("as they were shown", epochs / last, shown, told=f"{shown[-1]:.1%}"))
    ticks = [(0.0, "0"), (1.0, f"{last:.0f}")]
    return draw.curves(lines, f"{name}: accuracy by epoch", across="epoch", up="accuracy", ticks=ticks)
