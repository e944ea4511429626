"""Small networks of a recipe: trained into a folder, and measured on pictures that they were not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from inward.data.dataset import Dataset, fingerprint
from inward.data.sets import Split
from inward.errors import CallError
from inward.methods.in_training import inner
from inward.methods.smallest import AnyAttack
from inward.nets.trained import WEIGHTS, build, load_trained, output_of, rounded, save_trained
from inward.network.devices import pick_device
from inward.network.load import IMAGENET_MEAN, IMAGENET_STD
from inward.network.network import Network
from inward.studies.accuracy import wilson
from inward.studies.robustness import evaluate
from inward.training import Recipe, Watch, train
from inward.training.augment import plain
from inward.training.checkpoint import TRAINED_ON, Checkpoint
from inward.training.losses import loss_of
from inward.training.strangers import auroc, strange_eps, strangers
from inward.types import Images

OnCount = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""
_AT_ONCE = 250


def trained(
    recipe: Recipe,
    split: Split,
    folder: Path,
    *,
    photographs: bool,
    device: str = "cpu",
    on_step: Callable[[Watch], None] | None = None,
) -> Path:
    """The file of weights of a recipe, which is trained where the folder does not have it yet, or goes on.

    Args:
        photographs: normalize by the mean and standard deviation of ImageNet, as networks of photographs do.
        device: where it is trained: cpu, cuda, mps, or auto. On a processor the same recipe gives the same weights.

    Raises:
        CallError: for pictures that are not square, a single class, a folder of another recipe or other pictures, or
            a device that is not there.
        InwardError: where a loss is not finite.
    """
    _check_shape(split.train)
    # Also where it was trained already: the folder may hold another recipe's.
    trained_on = fingerprint(*split)
    Checkpoint(folder, recipe, trained_on)
    kept = folder / WEIGHTS
    if not kept.is_file():
        _train(recipe, split, folder, photographs, pick_device(device), on_step)
        return kept
    told = load_trained(kept)[1]
    other = [k for k, v in told.get("recipe", {}).items() if asdict(recipe).get(k) != v]
    other += ["set of pictures"] if told.get(TRAINED_ON, trained_on) != trained_on else []
    if other:
        raise CallError(f"{kept} was trained with another {other[0]}; remove it to train anew, or give another --out")
    return kept


def network_of(path: Path, name: str, device: str = "cpu") -> tuple[Network, dict[str, Any]]:
    """The network of a file of weights, and what it was told."""
    module, told = load_trained(path)
    net = Network.of(
        module,
        name=name,
        size=told["size"],
        channels=told["channels"],
        mean=told["mean"],
        std=told["std"],
        labels=told["classes"],
        output=output_of(told),
        device=device,
    )
    return net, told


def _check_shape(data: Dataset) -> None:
    _, height, width = data.shape
    if height != width:
        raise CallError(f"the pictures of {data.name} are {height} x {width}; networks here are trained on square ones")
    if len(data.classes) < 2:
        raise CallError(
            f"{data.name} has one class, and a network is trained to tell two or more apart; of pictures, put those of "
            "each class into a folder"
        )


def _normalization(data: Dataset) -> tuple[list[float], list[float]]:
    """Mean and standard deviation by channel of a thousand pictures spread over the set, to three digits."""
    pixels = data.images(spread(len(data.labels), 1000)).double().div(255).transpose(0, 1).flatten(1)
    means, spreads = pixels.mean(1).tolist(), pixels.std(1).clamp_min(0.05).tolist()
    return [round(v, 3) for v in means], [round(v, 3) for v in spreads]


def _train(
    recipe: Recipe,
    split: Split,
    folder: Path,
    photographs: bool,
    device: torch.device,
    on_step: Callable[[Watch], None] | None,
) -> None:
    mean, std = (list(IMAGENET_MEAN), list(IMAGENET_STD)) if photographs else _normalization(split.train)
    channels, classes = split.train.shape[0], split.train.classes
    own = {"activation": recipe.activation, "norm": recipe.norm}
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        module = build(recipe.net, channels=channels, classes=len(classes), size=recipe.size, **own)
    low, high = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    found = train(
        recipe,
        module.to(device),
        lambda images: (images - low.to(images)) / high.to(images),
        split.train,
        split.held_out,
        adversary=inner(recipe.ball, recipe.steps, recipe.step_size),  # type: ignore[arg-type]
        strangers=strangers if recipe.open_world else None,
        folder=folder,
        on_step=on_step,
    )
    rounded(found.module)
    told = {"net": {"name": recipe.net, **own}, "classes": list(classes), "channels": channels, "size": recipe.size}
    told |= {"mean": mean, "std": std, "recipe": asdict(recipe), "history": list(found.history)}
    told[TRAINED_ON] = fingerprint(*split)
    save_trained(folder / WEIGHTS, found.module, told, half=True)


@dataclass(frozen=True, eq=False)
class Shown:
    """Some pictures of a data set as a study takes them: floats in [0, 1] of the network's size, in whole levels."""

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
        return (plain(self.data.images(self.numbers[torch.tensor(list(numbers))]), self.size) * 255).round() / 255

    def identity(self) -> Any:
        return {"data": self.data.name, "numbers": self.numbers.tolist()}


def spread(whole: int, count: int) -> torch.Tensor:
    """So many numbers, spread over all."""
    return torch.linspace(0, whole - 1, min(whole, count)).long()


def row(what: str, share: float, count: int) -> dict[str, Any]:
    """A line of a card: an accuracy with its 95 % interval."""
    low, high = wilson(share, count)
    return {"what": what, "accuracy": share, "low": low, "high": high, "pictures": count}


@torch.no_grad()
def clean(net: Network, shown: Shown, on_count: OnCount | None = None) -> float:
    """The share of right answers."""
    labels, right = torch.tensor(shown.labels), 0
    for some in torch.arange(len(labels)).split(_AT_ONCE):
        right += int((net(shown.images(some.tolist()).to(net.device)).argmax(1).cpu() == labels[some]).sum())
        if on_count is not None:
            on_count(int(some[-1]) + 1, len(labels))
    return right / len(labels)


def attacked(
    net: Network,
    shown: Shown,
    attack: AnyAttack,
    eps: float,
    on_count: OnCount | None = None,
    *,
    folder: Path | None = None,
    batch: int = 0,
) -> float:
    """The share of answers that are right and stay so under attack; kept in the folder, where it goes on from."""
    tell = None if on_count is None else lambda done, total, _: on_count(done, total)
    return evaluate(net, shown, attack, eps, batch=batch, folder=folder, on_batch=tell).accuracy(eps)


def told_apart(net: Network, shown: Shown, recipe: Recipe) -> dict[str, float]:
    """How well the largest output tells pictures of a class from strangers made of them (area under the ROC curve).

    ``auroc`` is of all strangers, every second of them moved by the attack that the recipe trains with, which raises
    outputs; ``auroc_as_made`` is of the strangers before.
    """
    images, generator = shown.images(range(len(shown.labels))), torch.Generator().manual_seed(recipe.seed)
    others = strangers(images, generator).to(net.device)
    loss, attack = loss_of(recipe), inner(recipe.ball, recipe.steps, recipe.step_size)  # type: ignore[arg-type]
    worse, none = others.clone(), torch.zeros(1, net.classes(), device=net.device)
    eps = strange_eps(recipe)
    for some in torch.arange(0, len(others), 2).split(_AT_ONCE):
        worse[some] = attack(lambda x: loss(net(x), none.expand(len(x), -1)), others[some], eps, generator)
    with torch.no_grad():
        known, made, moved = (
            torch.cat([net(some.to(net.device)).amax(1).cpu() for some in group.split(_AT_ONCE)])
            for group in (images, others, worse)
        )
    return {"auroc": auroc(known, moved), "auroc_as_made": auroc(known, made)}
