"""Internal influence is the mean gradient inside; and targets inside are what Captum's neuron methods explain."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network, grad_cam, saliency
from inward.methods.conductance import conductance
from inward.methods.influence import internal_influence
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (9, 7)
# Of the largest value. Captum makes the weights of its points in float32.
SAME = 1e-6


@pytest.fixture(scope="module")
def module() -> Any:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


def pictures(count: int = 3) -> Tensor:
    return images(count, 3, *SIZE, dtype=torch.float64)


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("layer", ["conv", "relu", "second"])
@pytest.mark.parametrize("steps", [1, 12])
def test_agrees_with_captum_at_equal_points(net: Network, module: Any, layer: str, steps: int) -> None:
    captum = pytest.importorskip("captum.attr")
    x = pictures()
    expected = captum.InternalInfluence(module, getattr(module, layer)).attribute(
        x, baselines=torch.ones_like(x), target=[1, 4, 2], n_steps=steps, method="gausslegendre"
    )
    answers = ["class:1", "class:4", "class:2"]
    found = internal_influence(net, x, at=layer, target=answers, baseline="white", steps=steps)
    assert gap(found.values, expected.detach()) < SAME
    assert (found.at, found.kind) == (layer, "sensitivity")
    assert found.measured["points"].tolist() == [steps] * 3


def test_is_the_mean_of_gradients_by_hand(net: Network, module: Any) -> None:
    """Two Gauss-Legendre points lie at 1/2 -+ 1/sqrt(12), and weigh the same."""
    x = pictures()
    found = internal_influence(net, x, at="second", target="class:3", of="probability", baseline="gray", steps=2)
    expected = torch.zeros(3, 8, 5, 4, dtype=torch.float64)
    for place in (0.5 - 12**-0.5, 0.5 + 12**-0.5):
        with torch.no_grad():
            y = module.second(module.relu(module.conv(0.5 + place * (x - 0.5))))
        y.requires_grad_(True)
        score = module.fc(y.relu().mean((2, 3))).softmax(1)[:, 3].sum()
        expected += torch.autograd.grad(score, y)[0] / 2
    assert gap(found.values, expected) < 1e-11
    assert torch.equal(found.scores, net(x).softmax(1)[:, 3])


def test_behind_the_layer_all_is_linear(net: Network, module: Any) -> None:
    """The gradient of a logit at the logits is one, along any way and from several baselines."""
    found = internal_influence(net, pictures(), at="class", target="class:3", baseline=["black", "noise"], steps=3)
    assert (found.values - torch.eye(5, dtype=torch.float64)[3].expand(3, 5)).abs().max() < 1e-12
    assert found.measured["points"].tolist() == [6, 6, 6]


def test_of_several_baselines_the_mean(net: Network) -> None:
    x, told = pictures(2), []
    both = internal_influence(
        net, x, at="conv", baseline=["noise", "blur"], steps=4, seed=3, on_progress=lambda *at: told.append(at)
    )
    each = [internal_influence(net, x, at="conv", baseline=b, steps=4, seed=3).values for b in ("noise", "blur")]
    assert gap(both.values, (each[0] + each[1]) / 2) < 1e-12
    assert gap(each[0], each[1]) > 1e-3
    assert told[-1] == (16, 16)
    other = internal_influence(net, x, at="conv", baseline="noise", steps=4, seed=4).values
    assert gap(other, each[0]) > 1e-3


def test_the_same_alone_in_a_batch_and_whatever_the_room(net: Network) -> None:
    x = pictures()
    together = internal_influence(net, x, at="conv", target="second/5", steps=5).values
    assert gap(internal_influence(net.within(1), x, at="conv", target="second/5", steps=5).values, together) < 1e-11
    for i in range(3):
        alone = internal_influence(net, x[i : i + 1], at="conv", target="second/5", steps=5).values
        assert gap(alone, together[i : i + 1]) < 1e-11


def test_a_dead_network_has_no_influence_before_its_dead_layer() -> None:
    found = internal_influence(network(seeded(Dead), SIZE), images(2, 3, *SIZE), at="conv", steps=3)
    assert found.values.abs().max() == 0
    assert "exactly 0" in found[1].notes()[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"at": "second/3"}, "'second/3' is a unit; give at='second'"),
        ({"at": "second", "target": "conv/1"}, "does not depend on 'second': there is no path"),
        ({"at": "second", "steps": 0}, "a line has 1 point or more, not 0"),
        ({"at": "second", "baseline": "red"}, "there is no baseline 'red'"),
        ({"at": "third"}, "no point 'third'"),
    ],
    ids=str,
)
def test_senseless_calls_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        internal_influence(net, pictures(2), **options)


def test_the_record_names_every_option(net: Network) -> None:
    found = internal_influence(net, pictures(1), at="conv", steps=2)
    named = set(inspect.signature(internal_influence).parameters) - {"net", "images", "on_progress"}
    assert set(found.record.parameters) == named


@pytest.mark.parametrize("neuron", [(5, 4, 1), (0, 0, 0), (7, 2, 3)])
def test_saliency_of_a_neuron_is_captums_neuron_gradient(
    net: Network, module: Any, neuron: tuple[int, int, int]
) -> None:
    captum = pytest.importorskip("captum.attr")
    x = pictures()
    unit, y, across = neuron
    expected = captum.NeuronGradient(module, module.second).attribute(x.clone().requires_grad_(True), neuron)
    assert gap(saliency(net, x, target=f"second/{unit}@{y},{across}").values, expected) < 1e-12


def test_saliency_of_a_channel_is_the_mean_of_captums_neuron_gradients(net: Network, module: Any) -> None:
    captum = pytest.importorskip("captum.attr")
    x = pictures(2)
    theirs = captum.NeuronGradient(module, module.second)
    expected = sum(theirs.attribute(x.clone().requires_grad_(True), (2, i, j)) for i in range(5) for j in range(4)) / 20
    assert gap(saliency(net, x, target="second/2").values, expected) < 1e-12


def test_saliency_at_a_layer_is_captums_layer_gradient(net: Network, module: Any) -> None:
    """LayerGradientXActivation without the activation: the gradient inside."""
    captum = pytest.importorskip("captum.attr")
    x = pictures()
    theirs = captum.LayerGradientXActivation(module, module.conv, multiply_by_inputs=False)
    assert gap(saliency(net, x, target="class:3", at="conv").values, theirs.attribute(x, target=3).detach()) < 1e-12


@pytest.mark.parametrize("method", [internal_influence, conductance])
def test_by_default_of_the_map_that_grad_cam_draws_on(net: Network, method: Any) -> None:
    x = pictures(2)
    where = grad_cam(net, x, target="class:1").at
    found = method(net, x, target="class:1", steps=2)
    assert found.at == found.record.parameters["at"] == where
    assert torch.equal(found.values, method(net, x, target="class:1", steps=2, at=where).values)
    with pytest.raises(CallError, match="no map of more than one place lies before conv"):
        method(net, x, target="conv/0", steps=2)
