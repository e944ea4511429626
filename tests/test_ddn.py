"""DDN: the change that Foolbox's finds, and the closed form on a linear network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from helpers import conv_net, network
from inward import CallError, Network, ddn
from minimal import SHARP, SIZE, Sharp, linear, whole_levels

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE, **SHARP)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("aimed", [False, True])
def test_it_is_foolbox_s(module: nn.Module, net: Network, aimed: bool) -> None:
    """Foolbox 3.3.4, DDNAttack with the same steps, in float64: to 1e-6, since its changes are no nearer by less."""
    from foolbox import PyTorchModel
    from foolbox.attacks import DDNAttack
    from foolbox.criteria import Misclassification, TargetedMisclassification

    x = whole_levels(7)
    order = net(x).argsort(1, descending=True)
    labels, goals = order[:, 0], order[:, 1]
    model = PyTorchModel(Sharp(module).eval(), bounds=(0, 1), device="cpu")
    criterion = TargetedMisclassification(goals) if aimed else Misclassification(labels)
    _, theirs, _ = DDNAttack(init_epsilon=0.3, steps=30, gamma=0.05)(model, x, criterion, epsilons=None)
    ours = ddn(net, x, target=goals if aimed else None, start=0.3, steps=30, eight_bit=False)
    assert ours.success.all()
    torch.testing.assert_close(ours.adversarial, theirs, rtol=0, atol=1e-6)
    assert (ours.l2 > 1e-3).all()


def test_a_linear_network_s_boundary_is_found() -> None:
    """Between two classes the way is |f| / ||w||; the length ends within the last share gamma of it."""
    module, net, x = linear(3, classes=2)
    weight, logits = module.fc.weight.detach(), net(x)  # type: ignore[union-attr]
    expected = (logits[:, 0] - logits[:, 1]).abs().detach() / (weight[0] - weight[1]).norm()
    found = ddn(net, x, steps=100, start=0.1, gamma=0.02, eight_bit=False)
    assert (found.l2 >= expected * (1 - 1e-9)).all()
    torch.testing.assert_close(found.l2, expected, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": -1}, "takes 0 passes or more"),
        ({"start": 0.0}, "must be above 0"),
        ({"gamma": 1.0}, "between 0 and 1"),
    ],
)
def test_senseless_calls_are_refused(net: Network, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        ddn(net, whole_levels(3), **options)
