"""What self-checks work on: a few labeled images of a network, in batches that fit, and what a check found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.methods.attacked import Attacked, Norm
from inward.methods.looked import Look, look
from inward.network.network import Network
from inward.network.room import images_at_once
from inward.results import Perturbation
from inward.types import Images, Logits

# Attacks are run on so many of the images that are answered rightly.
_ATTACKED = 32


@dataclass(frozen=True)
class Finding:
    """What a self-check found.

    Attributes:
        name: of the check.
        ok: False where what was found makes the accuracy under attack doubtful; None where it could not be told.
        measured: the number that was judged; None where there is none.
        told: what was measured, in words.
        meaning: what it means, and what to do.
    """

    name: str
    ok: bool | None
    measured: float | None
    told: str
    meaning: str


@dataclass(frozen=True)
class Examined:
    """A network, a few images and their classes, and the ball that attacks move in.

    Attributes:
        asked: the network, the images on its device, their labels, and what it answers.
        eps: the radius of the ball of
        norm: linf, l2 or l1.
        seed: of all that is random.
    """

    asked: Attacked
    eps: float
    norm: Norm
    seed: int

    @property
    def net(self) -> Network:
        """The network."""
        return self.asked.net

    @property
    def images(self) -> Images:
        """On the network's device."""
        return self.asked.images

    @property
    def everyone(self) -> Tensor:
        """The numbers of all images."""
        return torch.arange(len(self.images))

    @property
    def answers(self) -> tuple[int, ...]:
        """The classes that the network gives."""
        return tuple(self.asked.logits.argmax(1).tolist())

    @property
    def right(self) -> Tensor:
        """The numbers of the images that are answered rightly."""
        return (~self.asked.fooled(self.asked.logits, self.everyone)).nonzero()[:, 0]

    @property
    def attacked(self) -> Tensor:
        """The numbers of those that attacks are run on."""
        return self.right[:_ATTACKED]

    @cached_property
    def _at_once(self) -> int:
        return images_at_once(self.net, ["class"], self.asked.size)

    def batches(self, numbers: Tensor) -> Iterator[Tensor]:
        """The numbers of images, as many at a time as there is memory for."""
        return iter(numbers.split(self._at_once))

    def at(self, numbers: Tensor) -> Images:
        """The images with these numbers."""
        return self.images[numbers.to(self.images.device)]

    @torch.no_grad()
    def logits(self, images: Images) -> Logits:
        """What the network says of other images."""
        return torch.cat([self.net(some) for some in images.split(self._at_once)])

    def look(self, objective: Objective) -> Look:
        """The objective of all the images, its gradient, and the logits."""
        found = [look(self.net, self.at(some), objective.select(some.tolist())) for some in self.batches(self.everyone)]
        return Look(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def attack(self, run: Callable[[Images, Sequence[int]], Perturbation], numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Success of an attack on the images with these numbers, given it with their labels, and the final lead."""
        labels = torch.tensor(self.asked.labels)
        found = [run(self.at(some), labels[some].tolist()) for some in self.batches(numbers)]
        return torch.cat([one.success for one in found]), torch.cat([one.final for one in found]).double()

    def noise(self, size: float) -> Images:
        """The images with every value moved by ``size`` up or down, as far as [0, 1] allows; for all the same moves."""
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(2, self.images.shape[1:], generator=generator) * 2 - 1
        return (self.images + size * signs.to(self.images)).clamp(0, 1)


def share(hits: Tensor) -> float:
    """The share of True among booleans; 0 of none."""
    return float(hits.double().mean()) if hits.numel() else 0.0
