"""The gradient times the image, or times what is inside: by hand, and as Captum has it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network
from inward.methods.gradient_times_input import gradient_x_input
from same import images, seeded

SIZE = (9, 7)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

pytestmark = pytest.mark.usefixtures("single_thread")


class Channels(nn.Module):
    """Features last inside, as transformers with windows have it; a ReLU that is a function and used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.mix(torch.relu(self.conv(x)).permute(0, 2, 3, 1)))
        return self.fc(inner.mean((1, 2)))


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE, mean=MEAN, std=STD)


def shown(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


@pytest.mark.parametrize(
    ("target", "of", "hand"),
    [
        ("class:3", "score", lambda m, x: m(x)[:, 3]),
        (None, "score", lambda m, x: m(x).amax(1)),
        (["class:4", "class:0", "class:4"], "score", lambda m, x: m(x)[range(3), [4, 0, 4]]),
        ("second/5@4,1", "score", lambda m, x: m.second(m.relu(m.conv(x)))[:, 5, 4, 1]),
        ("class:3", "probability", lambda m, x: m(x).softmax(1)[:, 3]),
    ],
)
def test_is_the_image_times_its_gradient(net: Network, target: Any, of: Any, hand: Any) -> None:
    x = images(3, 3, *SIZE).requires_grad_(True)
    expected = x * torch.autograd.grad(hand(conv_net(), shown(x)).sum(), x)[0]
    found = gradient_x_input(net, x.detach(), target=target, of=of)
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert torch.equal(found.scores, hand(conv_net(), shown(x)).detach()) or of == "probability"
    assert (found.kind, found.at) == ("contribution", "")


def test_of_a_score_without_offset_the_contributions_are_the_score() -> None:
    """A network of ReLUs without biases is homogeneous: by Euler, x dF/dx adds up to F."""
    module = conv_net()
    for part in (module.conv, module.second, module.fc):
        part.bias = None  # type: ignore[assignment]
    x = images(3, 3, *SIZE)
    net = network(module, SIZE)
    found = gradient_x_input(net, x, target="class:1")
    assert found.scores.abs().min() > 1e-3
    assert (found.values.flatten(1).sum(1) - found.scores).abs().max() <= 1e-5 * found.scores.abs().max()
    inside = gradient_x_input(net, x, target="class:1", at="second")
    assert (inside.values.flatten(1).sum(1) - found.scores).abs().max() <= 1e-5 * found.scores.abs().max()


def test_agrees_with_captum_at_the_image_and_inside() -> None:
    captum = pytest.importorskip("captum.attr")
    module = conv_net()
    net, x = network(module, SIZE), images(3, 3, *SIZE)
    theirs = captum.InputXGradient(module).attribute(x.clone().requires_grad_(True), target=3)
    ours = gradient_x_input(net, x, target="class:3").values
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
    for point in ("conv", "relu", "second", "fc"):
        theirs = captum.LayerGradientXActivation(module, getattr(module, point)).attribute(x.clone(), target=3)
        found = gradient_x_input(net, x, target="class:3", at=point)
        assert theirs.abs().max() > 0
        assert found.values.shape == theirs.shape
        assert (found.values - theirs).abs().max() <= 1e-6 * theirs.abs().max()
        assert found.at == point


def test_a_point_keeps_its_own_layout() -> None:
    module = seeded(Channels)
    net, x = network(module, SIZE), images(3, 3, *SIZE)
    found = gradient_x_input(net, x, target="class:2", at="mix")
    with torch.no_grad():
        inner = module.mix(module.conv(x).relu().permute(0, 2, 3, 1))
        weight = module.fc.weight[2] / 63
    expected = inner.clamp_min(0) * weight
    assert found.values.shape == (3, 9, 7, 8)
    assert (found.values - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert found.features().shape == (3, 8, 9, 7)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": "class:9"}, "there is no class 9"),
        ({"at": "conv/3"}, "give at='conv'"),
        ({"at": "nowhere"}, "no point 'nowhere'"),
        ({"target": "conv/2", "at": "fc"}, "no path"),
        ({"target": "conv/2", "of": "probability"}, "is of a class"),
    ],
)
def test_senseless_questions_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        gradient_x_input(net, images(2, 3, *SIZE), **options)
