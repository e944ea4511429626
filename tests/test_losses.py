"""Every loss with every attack that climbs one, towards a class and away from one: the value is the formula's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, apgd, fgsm, momentum_fgsm, pgd
from same import images, seeded

SIZE = (9, 7)
ATTACKS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "fgsm": (fgsm, {}),
    "pgd": (pgd, {"steps": 5, "random_start": False}),
    "momentum-fgsm": (momentum_fgsm, {"steps": 5}),
    "apgd": (apgd, {"steps": 6}),
}
LABELS, TARGETS = [0, 2, 4], [1, 0, 3]
pytestmark = pytest.mark.usefixtures("single_thread")


@functools.cache
def net() -> Network:
    return network(conv_net().double(), SIZE)


def by_hand(loss: str, z: list[float], label: int, target: int | None) -> float:
    """What is climbed, in plain numbers: of the label, or towards the target."""
    others = [v for k, v in enumerate(z) if k != (label if target is None else target)]
    falling = sorted(z, reverse=True)
    own = z[label] if target is None else z[target]
    sign = 1 if target is None else -1
    if loss == "cross-entropy":
        return sign * float(torch.logsumexp(torch.tensor(z, dtype=torch.float64), 0) - own)
    if loss == "margin":
        return sign * (max(others) - own)
    if target is None:
        return (max(others) - own) / (falling[0] - falling[2])
    return (z[target] - z[label]) / (falling[0] - (falling[2] + falling[3]) / 2)


def scores(loss: str, x: Tensor, targets: list[int] | None) -> list[float]:
    goals: list[int | None] = [None] * 3 if targets is None else list(targets)
    return [by_hand(loss, z, k, t) for z, k, t in zip(net()(x).tolist(), LABELS, goals, strict=True)]


@pytest.mark.parametrize("targets", [None, TARGETS], ids=["untargeted", "targeted"])
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_loss_is_the_formula_s_and_rises(name: str, loss: str, targets: list[int] | None) -> None:
    attack, options = ATTACKS[name]
    x = images(3, 3, *SIZE, dtype=torch.float64)
    # Far less than what turns a ReLU or the order of the logits; the gradient is then that of the whole way.
    options = options | {"eps": 1e-5, "stop": False, "eight_bit": False, "loss": loss}
    found = attack(net(), x, label=LABELS, target=targets, **options)
    before, after = scores(loss, x, targets), scores(loss, found.adversarial, targets)
    if name != "apgd":
        # The first pass is at the image; sums in another order.
        assert found.history[0].tolist() == pytest.approx(before, rel=1e-9)
    assert all(b > a for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd"])
def test_a_loss_that_these_classes_do_not_have_is_refused(name: str) -> None:
    class Two(nn.Module):
        def __init__(self, classes: int) -> None:
            super().__init__()
            self.fc = nn.Linear(3, classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.mean((2, 3)))

    attack, x = ATTACKS[name][0], images(3, 3, *SIZE)
    two, three = (network(seeded(lambda n=n: Two(n)), SIZE, channels=3) for n in (2, 3))
    with pytest.raises(CallError, match="dlr compares 3 logits, and this network has 2; use loss='margin'"):
        attack(two, x, label=[0] * 3, loss="dlr")
    with pytest.raises(CallError, match="dlr compares 4 logits, and this network has 3; use loss='margin'"):
        attack(three, x, label=[0] * 3, target=[1] * 3, loss="dlr")
    with pytest.raises(CallError, match="there is no loss 'hinge'; write cross-entropy, margin or dlr"):
        attack(three, x, loss="hinge")
