"""``python -m benchmarks.strength [--save]``: attacks beside Foolbox's and torchattacks', on the same images.

Networks trained on MNIST and CIFAR-10 (tests/trained.py), and SqueezeNet on photographs. Only images that the network
takes for what they are; successes and lengths are those of the float images, on the plain module. The length is the
median over the images that both fool.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import foolbox
import torch
import torchattacks
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from benchmarks.shared import DATA, load_file, photographs
from inward import Network, autoattack, carlini_wagner, ddn, deepfool, fmn
from inward.network.load import import_torchvision
from inward.results import Perturbation
from tests.trained import network, shown, trained

RESULTS = Path(__file__).parent / "results" / "strength.json"
P = {"linf": math.inf, "l2": 2, "l1": 1}
# Searches and steps of each of Carlini and Wagner's.
SEARCHES, STEPS = 5, 300
Ours: TypeAlias = Callable[[Network, Tensor, Tensor], Perturbation]
Peer: TypeAlias = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Subject:
    """A network, images in [0, 1] that it takes for what they are, and what AutoAttack is to stay within.

    Attributes:
        eps: a list of (norm, eps).
        near: of how many images the smallest change is looked for. Paths part by rounding, and single lengths differ by
            some percent either way: the median needs many.
        few: of how many by searches of a thousand passes and more.
    """

    name: str
    module: nn.Module
    images: Tensor
    labels: Tensor
    eps: Sequence[tuple[Literal["linf", "l2"], float]]
    near: int
    few: int

    @property
    def net(self) -> Network:
        """As inward sees it."""
        return network(self.module, self.images)


class _Shown(nn.Module):
    """The preprocessing of the Caffe networks, for peers that know none."""

    def forward(self, x: Tensor) -> Tensor:
        return 255 * x - torch.tensor([123.0, 117.0, 104.0]).view(-1, 1, 1)


def small(name: str, eps: Sequence[tuple[Literal["linf", "l2"], float]], count: int = 128, near: int = 64) -> Subject:
    """A network of the tests and the first test images that it is right about."""
    return _right(name, trained(name), *shown(name, 4 * count), eps, count, (near, near))


def squeezenet(count: int = 32) -> Subject:
    """SqueezeNet v1.1 and photographs."""
    module = import_torchvision().models.squeezenet1_1(weights=None)
    module.load_state_dict(load_file(DATA / "weights" / "squeezenet1_1.safetensors"))
    whole = nn.Sequential(_Shown(), module).eval()
    images = photographs(Network.of(whole, size=227), count)
    labels = whole(images).argmax(1)
    return _right("squeezenet", whole, images, labels, [("linf", 0.25 / 255)], count, (16, 4))


def _right(
    name: str, module: nn.Module, images: Tensor, labels: Tensor, eps: Sequence[Any], count: int, near: tuple[int, int]
) -> Subject:
    with torch.no_grad():
        right = (module(images).argmax(1) == labels).nonzero()[:count, 0]
    return Subject(name, module, images[right], labels[right], eps, *near)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "mnist_normal": lambda: small("mnist_normal", [("linf", 0.08), ("l2", 1.0)]),
    "mnist_robust": lambda: small("mnist_robust", [("linf", 0.3)]),
    "cifar_normal": lambda: small("cifar_normal", [("linf", 1 / 255), ("l2", 0.15)]),
    "cifar_robust": lambda: small("cifar_robust", [("linf", 8 / 255), ("l2", 0.5)]),
    "squeezenet": squeezenet,
}


@dataclass(frozen=True)
class Contest:
    """An attack that looks for the smallest change, and its peers, which make as many steps; a thousand, where long."""

    name: str
    norm: str
    ours: Ours
    peers: dict[str, Peer]
    is_long: bool = False


def _foolbox(kind: str, **options: Any) -> Peer:
    def run(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        model = PyTorchModel(module, bounds=(0, 1), device="cpu")
        return getattr(foolbox.attacks, kind)(**options)(model, images, labels, epsilons=None)[1]

    return run


def _torchattacks(kind: str, **options: Any) -> Peer:
    def run(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        with torch.random.fork_rng():
            return getattr(torchattacks, kind)(module, **options)(images, labels)

    return run


def _ours(attack: Callable[..., Perturbation], **options: Any) -> Ours:
    return lambda net, images, labels: attack(net, images, label=labels, eight_bit=False, **options)


CONTESTS = (
    Contest(
        "deepfool",
        "l2",
        _ours(deepfool, norm="l2"),
        {
            "foolbox L2DeepFoolAttack": _foolbox("L2DeepFoolAttack", steps=50),
            "torchattacks DeepFool": _torchattacks("DeepFool", steps=50),
        },
    ),
    Contest(
        "deepfool",
        "linf",
        _ours(deepfool, norm="linf"),
        {"foolbox LinfDeepFoolAttack": _foolbox("LinfDeepFoolAttack", steps=50)},
    ),
    Contest(
        "carlini-wagner",
        "l2",
        _ours(carlini_wagner, searches=SEARCHES, steps=STEPS, constant=1e-2),
        {
            "foolbox L2CarliniWagnerAttack": _foolbox(
                "L2CarliniWagnerAttack", binary_search_steps=SEARCHES, steps=STEPS, initial_const=1e-2
            ),
            "torchattacks CW": _torchattacks("CW", steps=SEARCHES * STEPS),
        },
        is_long=True,
    ),
    Contest("ddn", "l2", _ours(ddn), {"foolbox DDNAttack": _foolbox("DDNAttack", steps=100)}),
    Contest("fmn", "l2", _ours(fmn, norm="l2"), {"foolbox L2FMNAttack": _foolbox("L2FMNAttack", steps=100)}),
    Contest("fmn", "linf", _ours(fmn, norm="linf"), {"foolbox LInfFMNAttack": _foolbox("LInfFMNAttack", steps=100)}),
    Contest("fmn", "l1", _ours(fmn, norm="l1"), {"foolbox L1FMNAttack": _foolbox("L1FMNAttack", steps=100)}),
)


def smallest(subject: Subject, contest: Contest) -> list[dict[str, Any]]:
    """A row for every peer: successes and median lengths."""
    count = subject.few if contest.is_long else subject.near
    images, labels = subject.images[:count], subject.labels[:count]
    fooled, lengths = _lengths(subject, contest.ours(subject.net, images, labels).adversarial, contest.norm)
    rows = []
    for name, peer in contest.peers.items():
        # Its Jacobian is one of all classes.
        if name == "torchattacks DeepFool" and subject.name == "squeezenet":
            continue
        theirs, further = _lengths(subject, peer(subject.module, images, labels), contest.norm)
        both = fooled & theirs
        row = {"network": subject.name, "attack": contest.name, "norm": contest.norm, "peer": name}
        row |= {"images": len(images), "fooled": int(fooled.sum()), "peer_fooled": int(theirs.sum())}
        rows.append(row | {"length": median(lengths[both]), "peer_length": median(further[both])})
    return rows


def _lengths(subject: Subject, found: Tensor, norm: str) -> tuple[Tensor, Tensor]:
    """Which images fool the plain module, and the lengths of all changes in float64."""
    images, labels = subject.images[: len(found)], subject.labels[: len(found)]
    with torch.no_grad():
        fooled = subject.module(found).argmax(1) != labels
    # Where Foolbox's Carlini-Wagner finds nothing it gives a black image.
    fooled &= found.flatten(1).any(1)
    return fooled, (found.double() - images.double()).flatten(1).norm(p=P[norm], dim=1)


def median(lengths: Tensor) -> float:
    """To six digits."""
    return float(f"{lengths.quantile(0.5).item():.6g}") if len(lengths) else math.nan


def left(subject: Subject, norm: Literal["linf", "l2"], eps: float) -> dict[str, Any]:
    """How many images withstand AutoAttack, ours and torchattacks' with its own defaults."""
    ours = autoattack(subject.net, subject.images, label=subject.labels, norm=norm, eps=eps, eight_bit=False)
    with torch.no_grad():
        classes = subject.module(subject.images[:1]).shape[1]
    # It heads for all other classes, of which there are a thousand; ten are what the standard has.
    peer = _torchattacks("AutoAttack", norm=norm.capitalize(), eps=eps, n_classes=min(classes, 10), seed=0)
    fooled, _ = _lengths(subject, peer(subject.module, subject.images, subject.labels), norm)
    return {
        "network": subject.name,
        "attack": "autoattack",
        "norm": norm,
        "eps": float(f"{eps:.6g}"),
        "peer": "torchattacks AutoAttack",
        "images": len(subject.images),
        "left": int((~ours.success).sum()),
        "peer_left": int((~fooled).sum()),
        "only_peer_fooled": int((fooled & ~ours.success).sum()),
        "by": {name: ours.by.count(name) for name in dict.fromkeys(ours.by) if name},
    }


def main() -> None:
    """Measures the networks that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.strength", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"by default all: {', '.join(SUBJECTS)}")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.names or SUBJECTS:
        subject = SUBJECTS[name]()
        found = [row for contest in CONTESTS for row in smallest(subject, contest)]
        for row in [*found, *(left(subject, norm, eps) for norm, eps in subject.eps)]:
            print(row, flush=True)
            rows.append(row)
    if options.save:
        held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
        measured = {row["network"] for row in rows}
        rows = sorted(
            [r for r in held if r["network"] not in measured] + rows, key=lambda r: list(SUBJECTS).index(r["network"])
        )
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
