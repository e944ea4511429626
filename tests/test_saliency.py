"""Saliency is the gradient: equal to autograd's and to Captum's, on every kind of target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.network.load import import_torchvision
from same import images, seeded

SIZE = (9, 7)
LABELS = ["tench", "goldfish, Carassius auratus", "shark", "ostrich", "cock"]


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE, labels=LABELS, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def by_hand(module: nn.Module, x: Tensor, score: Any) -> Tensor:
    x = x.clone().requires_grad_(True)
    mean, std = torch.tensor((0.4, 0.5, 0.6)).view(1, 3, 1, 1), torch.tensor((0.2, 0.25, 0.3)).view(1, 3, 1, 1)
    return torch.autograd.grad(score(module, (x - mean) / std).sum(), x)[0]


def hidden(module: Any, x: Tensor) -> Tensor:
    return module.second(module.relu(module.conv(x)))


CASES: dict[str, tuple[Any, str, Any]] = {
    "class": ("class:3", "score", lambda m, x: m(x)[:, 3]),
    "label": ("class:carassius auratus", "score", lambda m, x: m(x)[:, 1]),
    "own answer": (None, "score", lambda m, x: m(x).amax(1)),
    "one an image": (["class:4", "class:0", "class:4"], "score", lambda m, x: m(x)[range(3), [4, 0, 4]]),
    "channel": ("second/5", "score", lambda m, x: hidden(m, x)[:, 5].mean((1, 2))),
    "neuron": ("second/5@4,1", "score", lambda m, x: hidden(m, x)[:, 5, 4, 1]),
    "cross-entropy": ("class:3", "cross-entropy", lambda m, x: m(x).log_softmax(1)[:, 3]),
    "own cross-entropy": (None, "cross-entropy", lambda m, x: m(x).log_softmax(1).amax(1)),
}


@pytest.mark.parametrize("case", CASES)
def test_is_the_gradient_by_hand(net: Network, case: str) -> None:
    target, score, hand = CASES[case]
    x = images(3, 3, *SIZE)
    found = saliency(net, x, target=target, of=score)
    expected = by_hand(conv_net(), x, hand)
    assert expected.abs().max() > 0
    # The same operations in the same order, but for the mean over places, which a graph may spell otherwise.
    assert (found.values - expected).abs().max() <= (0 if "entropy" not in case else 1e-6 * expected.abs().max())
    assert found.values.shape == x.shape


def test_targets_are_named(net: Network) -> None:
    x = images(3, 3, *SIZE)
    assert saliency(net, x).targets == tuple(f"class:{k}" for k in net(x).argmax(1).tolist())
    assert saliency(net, x, target="class:ostrich").targets == ("class:3",) * 3
    assert saliency(net, x, target="second/5@4,1").targets == ("second/5@4,1",) * 3
    scores = saliency(net, x, target="class:3").scores
    assert torch.equal(scores, net(x)[:, 3])
    assert saliency(net, x)[1].measures() == {
        "target": saliency(net, x).targets[1],
        "score": net(x)[1].max().item(),
        "score_kind": "logit",
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"target": "second/5", "of": "cross-entropy"},
            "cross-entropy is of a class, and 'second/5' is none",
        ),
        ({"target": "secnod/5"}, "the nearest: second"),
        ({"target": "second/8"}, "no unit 8 in second; it has 8, 0 to 7"),
        ({"target": "second/0@9,0"}, "9,0"),
        ({"target": "class:5"}, "5 classes, 0 to 4"),
        ({"target": "Ostrich"}, "^'Ostrich' is a class of ConvNet; write class:Ostrich$"),
        ({"target": ["class:1", "4"]}, "^'4' is a class of ConvNet; write class:4$"),
        ({"target": "5"}, "no point '5'"),
        ({"target": "class:goldfis"}, "the nearest names: goldfish"),
        ({"target": ["class:1"]}, "there is 1 target for 2 images"),
        ({"target": ["second/1", "second/2"]}, "is not a class"),
        ({"target": []}, "there are 0 targets for 2 images"),
        ({"of": "softmax"}, "nothing here is of 'softmax'"),
        ({"target": ""}, "is not an address"),
    ],
    ids=str,
)
def test_senseless_targets_are_refused(net: Network, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        saliency(net, images(2, 3, *SIZE), **options)


def test_a_dead_unit_is_said_to_be_dead() -> None:
    net = network(seeded(Dead), SIZE)
    found = saliency(net, images(2, 3, *SIZE), target="conv/0")
    assert found[0].notes() == ()
    dead = saliency(net, images(2, 3, *SIZE), target="class:0")
    assert dead.values.abs().max() == 0
    assert dead[1].notes() == ("the map is exactly 0: class:0 is dead on this image",)
    assert "class:0 is dead on this image" in dead._repr_html_()


def test_agrees_with_captum(net: Network) -> None:
    captum = pytest.importorskip("captum.attr")
    plain = network(conv_net(), SIZE)
    x = images(3, 3, *SIZE)
    theirs = captum.Saliency(conv_net()).attribute(x.clone().requires_grad_(True), target=3, abs=False)
    ours = saliency(plain, x, target="class:3").values
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_agrees_with_captum_on_photographs(shared_data: Path) -> None:
    captum = pytest.importorskip("captum.attr")
    import inward

    net = inward.load(
        "torchvision/squeezenet1_1",
        weights=shared_data / "weights" / "squeezenet1_1.safetensors",
        mean=(123 / 255, 117 / 255, 104 / 255),
        std=(1 / 255,) * 3,
        size=227,
        device="cpu",
    )
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:2]
    x = inward.read(files, net)
    module = import_torchvision().models.squeezenet1_1(weights=None).eval()
    from safetensors.torch import load_file

    module.load_state_dict(load_file(shared_data / "weights" / "squeezenet1_1.safetensors"))
    shown = (x - torch.tensor((123 / 255, 117 / 255, 104 / 255)).view(1, 3, 1, 1)) / (1 / 255)
    answers = net(x).argmax(1)
    theirs = captum.Saliency(module).attribute(shown.requires_grad_(True), target=answers, abs=False) * 255
    ours = saliency(net, x).values
    assert ours.abs().max() > 1
    # Captum's gradient is with respect to the network's input, 255 times as large as the image.
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
