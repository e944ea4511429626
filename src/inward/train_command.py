"""The command ``inward train``: a small network on a data set, with a card of what it does."""

from __future__ import annotations

import inspect
import platform
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import App, Group, Parameter
from docstring_parser import parse as parse_docstring
from rich.progress import Progress

from inward import draw
from inward.data.dataset import Dataset
from inward.data.sets import NAMES, Split, kind_of, open_set
from inward.errors import CallError
from inward.methods.attacks import pgd
from inward.methods.autoattack import autoattack
from inward.methods.in_training import inner
from inward.nets.activations import activation, normalization
from inward.nets.trained import WEIGHTS, build, load_trained, rounded, save_trained
from inward.network.load import IMAGENET_MEAN, IMAGENET_STD, load
from inward.network.network import Network
from inward.options import as_number, as_whole
from inward.studies.accuracy import told_eps, wilson
from inward.studies.robustness import evaluate
from inward.terminal import answer, progress_bar
from inward.training import Recipe, Watch, train
from inward.training.augment import plain
from inward.training.card import CARD, PAGE, as_json, as_page
from inward.training.checkpoint import Checkpoint, write
from inward.training.strangers import auroc, strangers
from inward.types import Images
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
    if adversarial != "none":
        chosen["eps"] = EPS[kind]
    if given.get("output") == "sigmoid":
        # Squared errors of sigmoids vanish where these are sure, and large steps of sgd lead there at once.
        chosen |= {"optimizer": "adamw", "rate": 0.003}
    chosen |= {name: value for name, value in given.items() if value is not None}
    chosen["data"] = data if data in NAMES else Path(data).name
    recipe = Recipe(**chosen)
    # Before anything is read or written.
    activation(recipe.activation)
    normalization(recipe.norm, 1)
    return recipe


def train_command(*, out: Path, autoattack: int = 0, **given: Any) -> int:
    """Train a small network, and measure what it does.

    Stopped, it goes on where it was when it is called again; the weights are then those of a run that was not stopped.
    The folder holds weights.safetensors, card.md and card.json, curves.png, and the recipe; `inward show DIR` and every
    other command take it for a network.
    """
    if given.get("data") is None:
        raise CallError(f"there is nothing to train on; give --data, which is {', '.join(NAMES)}, a folder or an .npz")
    recipe = recipe_for(given)
    split = open_set(given["data"], size=_stored(recipe))
    _check_shape(split.train)
    # Also where it was trained already: the folder may hold another recipe's.
    Checkpoint(out, recipe)
    with progress_bar() as bar:
        try:
            if not (out / WEIGHTS).is_file():
                _train(recipe, split, kind_of(given["data"]), out, bar)
            page = _measure(recipe, split, recipe.eps or EPS[kind_of(given["data"])], out, autoattack, bar)
        except KeyboardInterrupt:
            bar.stop()
            print(f"inward: stopped; the same command goes on from what {out} holds", file=sys.stderr)
            return 130
        answer(bar, page.split("## Recipe")[0].strip())
        answer(bar, str(out))
    return 0


def _signature() -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    told = Parameter(help="The folder of the run.")
    out = inspect.Parameter("out", keyword, default=Path("inward-run"), annotation=Annotated[Path, told])
    note = Parameter(converter=as_whole, help="Also attack so many held-out pictures with AutoAttack; 0: none.")
    strong = inspect.Parameter("autoattack", keyword, default=0, annotation=Annotated[int, note])
    return inspect.Signature([*_parameters(), out, strong], return_annotation=int)


train_command.__signature__ = _signature()  # type: ignore[attr-defined]
train_command.__annotations__ = {p.name: p.annotation for p in _signature().parameters.values()} | {"return": int}
app = App(
    name="train",
    usage=_USAGE,
    help_epilogue="\n".join(["Examples:", *(f"  {text}" for text in EXAMPLES)]),
    help_format="plaintext",
)
app.default(train_command)


def _stored(recipe: Recipe) -> int:
    """Of folders the size that pictures are kept at: larger than they are shown, for crops to have something to cut."""
    return round(recipe.size * 1.25)


def _check_shape(data: Dataset) -> None:
    _, height, width = data.shape
    if height != width:
        raise CallError(f"the pictures of {data.name} are {height} x {width}; networks here are trained on square ones")
    if len(data.classes) < 2:
        raise CallError(f"{data.name} has one class; a network is trained to tell two or more apart")


def _normalization(data: Dataset, kind: str) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by channel: of photographs those of ImageNet, as networks of photographs have them.

    Of others those of a thousand pictures spread over the set, to three digits.
    """
    if kind == "folder":
        return list(IMAGENET_MEAN), list(IMAGENET_STD)
    numbers = torch.linspace(0, len(data.labels) - 1, min(1000, len(data.labels))).long()
    pixels = data.images(numbers).double().div(255).transpose(0, 1).flatten(1)
    means, spreads = pixels.mean(1).tolist(), pixels.std(1).clamp_min(0.05).tolist()
    return [round(v, 3) for v in means], [round(v, 3) for v in spreads]


def _train(recipe: Recipe, split: Split, kind: str, out: Path, bar: Progress) -> None:
    mean, std = _normalization(split.train, kind)
    channels = split.train.shape[0]
    net = {"name": recipe.net, "activation": recipe.activation, "norm": recipe.norm}
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        module = build(
            recipe.net,
            channels=channels,
            classes=len(split.train.classes),
            size=recipe.size,
            activation=recipe.activation,
            norm=recipe.norm,
        )
    low, high = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    task = bar.add_task("train", total=None)

    def tell(now: Watch) -> None:
        known = "" if now.accuracy is None else f", {now.accuracy:.1%} right"
        doing = f"epoch {now.epoch} of {recipe.epochs}, loss {now.loss:.3f}{known}"
        bar.update(task, completed=now.step, total=now.steps, description=doing)

    attack: Any = inner(recipe.ball, recipe.steps, recipe.step_size)  # type: ignore[arg-type]
    found = train(
        recipe,
        module,
        lambda images: (images - low.to(images)) / high.to(images),
        split.train,
        split.held_out,
        adversary=attack,
        strangers=strangers if recipe.open_world else None,
        folder=out,
        on_step=tell,
    )
    bar.remove_task(task)
    rounded(found.module)
    told = {"net": net, "classes": list(split.train.classes), "channels": channels, "size": recipe.size}
    told |= {"mean": mean, "std": std, "recipe": asdict(recipe), "history": list(found.history)}
    save_trained(out / WEIGHTS, found.module, told, half=True)


def _measure(recipe: Recipe, split: Split, eps: float, out: Path, strong: int, bar: Progress) -> str:
    """What the kept weights do on pictures that were not trained on."""
    module, told = load_trained(out / WEIGHTS)
    net = load(str(out))
    history = told.pop("history")
    rows = [_clean(net, split.held_out, recipe, bar)]
    ball: Any = {"norm": recipe.ball}
    attacks: list[tuple[str, Any, int]] = [("PGD-40", partial(pgd, **ball), _MEASURED)]
    attacks += [("AutoAttack", partial(autoattack, **ball), strong)] if strong else []
    for attack_name, attack, count in attacks:
        what = f"{attack_name} ({recipe.ball}, eps {told_eps(eps, recipe.ball)})"
        shown = Shown(split.held_out, recipe.size, _spread(len(split.held_out.labels), count))
        task = bar.add_task(what, total=len(shown.labels))
        done = evaluate(
            net, shown, attack, eps, on_batch=lambda n, total, _, task=task: bar.update(task, completed=n, total=total)
        )
        bar.remove_task(task)
        low, high = done.interval(eps)
        rows.append(_row(what, done.accuracy(eps), low, high, len(shown.labels)))
    figures: dict[str, Any] = {"accuracy": rows}
    if recipe.open_world:
        figures["auroc"] = _open_set(net, split.held_out, recipe)
    card = {"name": out.name, "recipe": asdict(recipe), "classes": list(split.train.classes), "figures": figures}
    card |= {"parameters": sum(p.numel() for p in module.parameters()), "history": history}
    card |= {"seconds": sum(row["seconds"] for row in history)}
    card |= {"versions": {"inward": VERSION, "torch": torch.__version__, "Python": platform.python_version()}}
    write(out / CARD, as_json(card))
    page = as_page(card)
    write(out / PAGE, page)
    if len(history) > 1:
        draw.save_png(_curves(history, out.name), out / "curves.png")
    return page.decode()


def _clean(net: Network, data: Dataset, recipe: Recipe, bar: Progress) -> dict[str, Any]:
    shown = Shown(data, recipe.size, torch.arange(len(data.labels)))
    right, task = 0, bar.add_task("clean", total=len(shown.labels))
    with torch.no_grad():
        for some in torch.arange(len(shown.labels)).split(250):
            labels = data.labels[some]
            right += int((net(shown.images(some.tolist()).to(net.device)).argmax(1).cpu() == labels).sum())
            bar.advance(task, len(some))
    bar.remove_task(task)
    share = right / len(shown.labels)
    return _row("clean", share, *wilson(share, len(shown.labels)), len(shown.labels))


def _row(what: str, share: float, low: float, high: float, pictures: int) -> dict[str, Any]:
    return {"what": what, "accuracy": share, "low": low, "high": high, "pictures": pictures}


def _spread(whole: int, count: int) -> torch.Tensor:
    """So many numbers, spread over all."""
    return torch.linspace(0, whole - 1, min(whole, count)).long()


@torch.no_grad()
def _open_set(net: Network, data: Dataset, recipe: Recipe) -> float:
    """How well the largest output tells held-out pictures from strangers made of them."""
    shown = Shown(data, recipe.size, _spread(len(data.labels), _MEASURED))
    images = shown.images(range(len(shown.labels)))
    others = strangers(images, torch.Generator().manual_seed(recipe.seed))
    known, unknown = (net(some.to(net.device)).amax(1).cpu() for some in (images, others))
    return auroc(known, unknown)


@dataclass(frozen=True, eq=False)
class Shown:
    """Some pictures of a data set as a study takes them: floats in [0, 1] of the network's size."""

    data: Dataset
    size: int
    numbers: torch.Tensor

    @property
    def labels(self) -> list[int]:
        return self.data.labels[self.numbers].tolist()

    @property
    def names(self) -> list[str]:
        return [str(number) for number in self.numbers.tolist()]

    def images(self, numbers: Sequence[int]) -> Images:
        # Whole levels, as a file holds them.
        return (plain(self.data.images(self.numbers[torch.tensor(list(numbers))]), self.size) * 255).round() / 255

    def identity(self) -> Any:
        return {"data": self.data.name, "numbers": self.numbers.tolist()}


def _curves(history: Sequence[dict[str, float]], name: str) -> Any:
    last = history[-1]["epoch"]
    epochs, shown, right = (
        torch.tensor([row[key] for row in history], dtype=torch.float64) for key in ("epoch", "shown", "accuracy")
    )
    lines = [draw.Line("held out", epochs / last, right, told=f"{right[-1]:.1%}")]
    lines.append(draw.Line("as they were shown", epochs / last, shown, told=f"{shown[-1]:.1%}"))
    ticks = [(0.0, "0"), (1.0, f"{last:.0f}")]
    return draw.curves(lines, f"{name}: accuracy by epoch", across="epoch", up="accuracy", ticks=ticks)
