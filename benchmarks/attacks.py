"""Contests of attacks with Foolbox and torchattacks: the same network, images, eps, steps and final success."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
import torchattacks
from foolbox import attacks as foolbox
from foolbox.models.pytorch import PyTorchModel
from torch import Tensor, nn

from benchmarks.measure import Contest
from benchmarks.shared import photographs
from benchmarks.strength import squeezenet
from benchmarks.visualization import Sides
from inward import Network, autoattack, pgd
from tests.trained import network, shown, trained

Attack: TypeAlias = Callable[[], Tensor]
"""Gives adversarial images."""
Make: TypeAlias = Callable[[], tuple[nn.Module, Network, Tensor, Tensor]]
"""A module, the network of it, images and their labels."""

# Of the images, by how much two attacks with random starts may differ in their success.
_CLOSE = 0.02
LARGE = 8 / 255


def _trained(name: str, count: int) -> tuple[nn.Module, Network, Tensor, Tensor]:
    module, (images, labels) = trained(name), shown(name, count)
    return module, network(module, images), images, labels


def _photographs(count: int) -> tuple[nn.Module, Network, Tensor, Tensor]:
    """With the answers as labels, so that all are right to begin with."""
    subject = squeezenet()
    images = photographs(subject.net, count)
    with torch.no_grad():
        return subject.module, subject.net, images, subject.module(images).argmax(1)


def _torchattacks(module: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Attack:
    attack = torchattacks.PGD(module, eps=eps, alpha=2.5 * eps / steps, steps=steps)
    return lambda: attack(images, labels)


def _foolbox(module: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int) -> Attack:
    attack = foolbox.LinfPGD(rel_stepsize=2.5 / steps, steps=steps)
    model = PyTorchModel(module, bounds=(0, 1), device="cpu")
    return lambda: attack(model, images, labels, epsilons=eps)[1]


PEERS = {"torchattacks": _torchattacks, "foolbox": _foolbox}


def climbs(make: Make, eps: float, steps: int, peer: str) -> Sides:
    """PGD in L_inf, judged in float on both sides."""
    module, net, images, labels = make()

    def ours() -> Tensor:
        return pgd(net, images, label=labels, eps=eps, steps=steps, eight_bit=False).adversarial

    theirs = PEERS[peer](module, images, labels, eps, steps)
    _check(module, labels, ours(), theirs())
    return ours, theirs


def sequence(name: str, count: int, eps: float) -> Sides:
    """AutoAttack with the steps that torchattacks takes by itself, ten."""
    module, net, images, labels = _trained(name, count)
    attack = torchattacks.AutoAttack(module, norm="Linf", eps=eps, n_classes=10, seed=0)

    def ours() -> Tensor:
        return autoattack(net, images, label=labels, eps=eps, steps=10, eight_bit=False).adversarial

    def theirs() -> Tensor:
        with torch.random.fork_rng():
            return attack(images, labels)

    _check(module, labels, ours(), theirs())
    return ours, theirs


def _check(module: nn.Module, labels: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """Both leave as much accuracy."""
    with torch.no_grad():
        left, peer = (int((module(found).argmax(1) == labels).sum()) for found in (ours, theirs))
    print(f"  of {len(labels)} images {left} withstand ours, {peer} the peer's")
    assert left - peer <= _CLOSE * len(labels), f"ours leaves {left} and the peer {peer}"


def _rows(short: str, what: str, make: Make, eps: float, steps: int) -> tuple[Contest, ...]:
    told = {"torchattacks": "torchattacks 3.5.1 PGD", "foolbox": "Foolbox 3.3.4 LinfPGD"}
    return tuple(
        Contest(
            name=f"pgd-{short}-{peer}",
            question=f"PGD of {steps} steps on {what}",
            ours="inward.pgd: images that fool the network leave the batch",
            peer=f"{told[peer]}, the same eps, steps, step size",
            make=partial(climbs, make, eps, steps, peer),
        )
        for peer in PEERS
    )


CONTESTS = (
    *_rows("mnist", "256 MNIST images, eps 0.3, normal network", partial(_trained, "mnist_normal", 256), 0.3, 40),
    *_rows("cifar", "64 CIFAR-10 images, eps 8/255, normal network", partial(_trained, "cifar_normal", 64), LARGE, 20),
    *_rows(
        "cifar-resnet",
        "64 CIFAR-10 images, eps 8/255, residual network",
        partial(_trained, "cifar_resnet", 64),
        LARGE,
        20,
    ),
    *_rows("squeezenet", "32 photographs, eps 8/255, SqueezeNet", partial(_photographs, 32), LARGE, 20),
    *_rows(
        "mnist-robust",
        "256 MNIST images, eps 0.3, network trained against PGD",
        partial(_trained, "mnist_robust", 256),
        0.3,
        40,
    ),
    Contest(
        name="autoattack-mnist-robust",
        question="AutoAttack on 128 MNIST images, eps 0.3, network trained against PGD",
        ours="inward.autoattack(steps=10): squares are computed where they differ",
        peer="torchattacks 3.5.1 AutoAttack, version standard, as it comes (10 steps)",
        make=partial(sequence, "mnist_robust", 128, 0.3),
    ),
)
