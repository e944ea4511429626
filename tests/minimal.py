"""What the tests of searches for the smallest change share."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from helpers import network
from inward import Network
from inward.methods.carlini_wagner import carlini_wagner
from inward.methods.ddn import ddn
from inward.methods.deepfool import deepfool
from inward.methods.fab import fab
from inward.methods.fast_minimum import fmn
from inward.results import Perturbation
from same import images, seeded

SIZE = (9, 7)
P = {"linf": math.inf, "l2": 2, "l1": 1}
# Small changes fool a network behind a small standard deviation.
SHARP = {"mean": (0.5,) * 3, "std": (0.05,) * 3}

ATTACKS: dict[str, Callable[..., Perturbation]] = {
    "deepfool": deepfool,
    "deepfool-linf": lambda *args, **options: deepfool(*args, norm="linf", **options),
    "carlini-wagner": lambda *args, **options: carlini_wagner(*args, **{"steps": 20, "searches": 4} | options),
    "fab-linf": lambda *args, **options: fab(*args, **{"steps": 15, "restarts": 2} | options),
    "fab-l2": lambda *args, **options: fab(*args, norm="l2", **{"steps": 15} | options),
    "fab-l1": lambda *args, **options: fab(*args, norm="l1", **{"steps": 15} | options),
    "ddn": lambda *args, **options: ddn(*args, **{"steps": 20} | options),
    "fmn": lambda *args, **options: fmn(*args, **{"steps": 20} | options),
    "fmn-linf": lambda *args, **options: fmn(*args, norm="linf", **{"steps": 20} | options),
    "fmn-l1": lambda *args, **options: fmn(*args, norm="l1", **{"steps": 20} | options),
}
every = pytest.mark.parametrize("name", ATTACKS)


def norm_of(name: str) -> str:
    return name.rpartition("-")[2] if name.endswith(("linf", "l1")) else "l2"


class Sharp(nn.Module):
    """A network behind a small standard deviation, for peers that know none."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - 0.5) / 0.05)


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, channels: int, classes: int = 4) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * SIZE[0] * SIZE[1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def linear(channels: int, classes: int = 4) -> tuple[nn.Module, Network, Tensor]:
    """With images in the middle of the range, so that no pixel meets its bound."""
    module = seeded(lambda: Linear(channels, classes)).double()
    shown = 0.5 + 0.2 * (images(5, channels, *SIZE, dtype=torch.float64) - 0.5)
    return module, network(module, SIZE, channels=channels), shown


def whole_levels(count: int) -> Tensor:
    """Pictures as attacks on 8-bit pictures begin with them."""
    return (images(count, 3, *SIZE, dtype=torch.float64) * 255).round() / 255
