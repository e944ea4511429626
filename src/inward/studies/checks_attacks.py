"""Self-checks by attacks: what must hold of any attack by gradients that works."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError
from inward.methods.attacks import fgsm, pgd
from inward.methods.square import square
from inward.network.network import Network
from inward.studies.examined import Examined, Finding, share

# Steps of the attacks that are compared; the last is also what others are compared with.
_FEW, _MANY = 5, 20
# Of a lead, that a batch of another size changes.
_ROUNDING = 1e-5
# Of a rise that a longer attack may lose.
_LOST = 0.05
# The share of the images that may withstand half of the range.
_STANDING = 0.05
# The Square attack: images at most, and queries of each.
_SQUARED, _QUERIES = 16, 200
# What another attack may find beyond: one image, or this share of them.
_BEYOND = 0.02


class Attacks:
    """PGD on the cross-entropy, in float, without random starts, on the images that are answered rightly."""

    def __init__(self, of: Examined) -> None:
        self.of, self.numbers = of, of.attacked

    @cached_property
    def lead(self) -> Tensor:
        """The lead of other classes before any attack."""
        _, lead = self.of.asked.judged(self.of.at(self.numbers), self.numbers)
        return lead.double()

    @property
    def rounding(self) -> float:
        """A mean rise that is no more than rounding."""
        return max(_ROUNDING, 8 * torch.finfo(self.of.net.dtype).eps) * float(self.lead.abs().mean())

    @cached_property
    def rises(self) -> tuple[float, ...]:
        """By how much one step, a few and many raise the lead of other classes, on average."""
        one = self.of.attack(lambda x, y: fgsm(self.of.net, x, label=y, stop=False, **self._ball), self.numbers)
        few = self._pgd(_FEW)
        return tuple(float((final - self.lead).mean()) for _, final in (one, few, self.many))

    @cached_property
    def many(self) -> tuple[Tensor, Tensor]:
        """Success and final lead of many steps: the white-box attack."""
        return self._pgd(_MANY)

    @property
    def fooled(self) -> Tensor:
        """Which of the images the white-box attack fools."""
        return self.many[0]

    @property
    def _ball(self) -> dict[str, Any]:
        return {"eps": self.of.eps, "norm": self.of.norm, "eight_bit": False}

    def _pgd(self, steps: int) -> tuple[Tensor, Tensor]:
        options: dict[str, Any] = {"steps": steps, "random_start": False, "stop": False, **self._ball}
        return self.of.attack(lambda x, y: pgd(self.of.net, x, label=y, **options), self.numbers)


def loss_rises_with_steps(by: Attacks) -> Finding:
    """Whether the lead of other classes rises under attack, and with more steps no less."""
    one, few, many = by.rises
    told = f"the lead of other classes rises by {one:.3g} in one step, {few:.3g} in {_FEW}, {many:.3g} in {_MANY}"
    told += f" (means of {len(by.numbers)} images)"
    return Finding(
        "loss rises with steps",
        many > by.rounding and many >= (1 - _LOST) * max(one, few),
        many,
        told,
        "An attack that goes on climbs on; where more steps do no more, or one step does more than many, the gradient "
        "points nowhere, or the steps are too long. Look at the checks above, and try other losses and --steps.",
    )


def large_eps(by: Attacks) -> Finding:
    """Whether half of the range, in which every image can be turned to gray, leaves nothing standing."""
    count = by.of.images[0].numel()
    eps = {"linf": 0.5, "l2": 0.5 * count**0.5, "l1": 0.5 * count}[by.of.norm]
    options: dict[str, Any] = {
        "eps": eps,
        "norm": by.of.norm,
        "steps": _MANY,
        "random_start": False,
        "eight_bit": False,
    }
    success, _ = by.of.attack(lambda x, y: pgd(by.of.net, x, label=y, **options), by.numbers)
    standing = share(~success)
    return Finding(
        "large eps",
        standing <= _STANDING,
        standing,
        f"of {len(success)} images {int((~success).sum())} withstand eps {eps:.3g}",
        "With half of the range any image can be turned to plain gray, so that an attack that works leaves nothing "
        "standing. What stands does so because the attack fails, not because the network is robust.",
    )


def black_box(by: Attacks) -> Finding:
    """Whether the Square attack, with a few queries, fools what gradients did not."""
    numbers = by.numbers[~by.fooled][:_SQUARED]
    found = torch.zeros(0, dtype=torch.bool)
    if len(numbers):
        options: dict[str, Any] = {
            "queries": _QUERIES,
            "seed": by.of.seed,
            "eps": by.of.eps,
            "norm": by.of.norm,
            "eight_bit": False,
        }
        found, _ = by.of.attack(lambda x, y: square(by.of.net, x, label=y, **options), numbers)
    told = f"of {len(numbers)} images that withstood {_MANY} steps, {_QUERIES} queries fool {int(found.sum())}"
    return _beyond("black box", found, len(numbers), told)


def of_autoattack(by: Sequence[str]) -> Finding:
    """The same, read off an AutoAttack that has been run: ``by`` is its result's, which attack fooled each image."""
    squares, standing = by.count("square"), by.count("")
    found = torch.arange(squares + standing) < squares
    told = f"of {len(found)} images that withstood the attacks by gradients, the Square attack fooled {squares}"
    return _beyond("black box", found, len(by) - by.count("clean"), told)


def check_other(of: Examined, other: Network) -> None:
    """Raises CallError for another network that does not take the same images to as many classes."""
    with torch.no_grad():
        shape, own = tuple(other(of.images[:1]).shape), tuple(of.asked.logits[:1].shape)
    if shape != own:
        raise CallError(f"transfer gives {shape} for an image and the network {own}; give one of the same classes")


def transfer_attack(by: Attacks, other: Network) -> Finding:
    """Whether images made on another network fool what the white-box attack did not."""
    of = by.of
    options: dict[str, Any] = {"steps": _MANY, "random_start": False, "stop": False, "eps": of.eps, "norm": of.norm}
    found = []
    for some in of.batches(by.numbers):
        labels = torch.tensor(of.asked.labels)[some]
        made = pgd(other, of.at(some), label=labels, eight_bit=False, **options)
        found.append(of.asked.fooled(of.logits(made.adversarial.to(of.images)), some))
    there = torch.cat(found)
    told = f"of {len(there)} images the network's own gradients fool {int(by.fooled.sum())}, those of {other.name} "
    told += f"{int(there.sum())}, {int((there & ~by.fooled).sum())} of them images that withstood"
    return _beyond("transfer", there & ~by.fooled, len(there), told)


def _beyond(name: str, found: Tensor, count: int, told: str) -> Finding:
    hits = int(found.sum())
    return Finding(
        name,
        hits <= max(1, _BEYOND * count),
        float(hits),
        told,
        "Who knows the gradients knows more than who does not; where an attack without them finds what they missed, "
        "they are masked, and the accuracy under attacks by gradients is too high. Count on the lower figure, and "
        "attack with --attack autoattack, other losses and more restarts.",
    )
