"""Class visualization by the classic recipe: from gray, uphill, held back by the distance from gray."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import inward
from helpers import conv_net, digits_weights, network
from inward.columns.steps import gaussian_blur
from inward.errors import CallError
from inward.methods.class_visualization import class_visualization
from inward.methods.predict import predict
from inward.network import Network

SIZE = (9, 7)

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def digits() -> Network:
    return inward.load("inward/digits", weights=digits_weights(), device="cpu")


@pytest.fixture(scope="module")
def double() -> Network:
    return network(conv_net(), SIZE).to(dtype=torch.float64)


def test_classes_of_a_trained_network(digits: Network) -> None:
    names = [f"class:{k}" for k in range(10)]
    found = class_visualization(digits, "class:*", steps=100)
    assert found.addresses == tuple(names)
    assert found.starts == ("gray",) * 10
    with torch.no_grad():
        empty = digits(torch.full((1, 1, 8, 8), 0.5))[0]
        logits = digits(found.images)
    assert (found.final - empty).min() > 1
    torch.testing.assert_close(found.final, logits.diagonal(), rtol=1e-5, atol=1e-5)
    # The score before softmax is climbed: the network is sure of most of what it likes best.
    answers = [top[0].index for top in predict(digits, found.images, top=1)]
    assert sum(a == k for k, a in enumerate(answers)) >= 7


def test_it_starts_at_gray(double: Network) -> None:
    found = class_visualization(double, ["class:1", "class:3"], steps=0)
    assert found.images.shape == (2, 3, *SIZE)
    assert (found.images == 0.5).all()
    one = class_visualization(double, ["class:1", "class:3"], steps=1, lr=0.02, decay=0.5)
    # Gray costs nothing: the first score is the class's, and the first step as long as asked for.
    torch.testing.assert_close(one.history[0], found.final, rtol=1e-12, atol=0)
    moved = (one.images - 0.5).square().flatten(1).mean(1).sqrt()
    assert moved.tolist() == pytest.approx([0.02, 0.02], rel=1e-9)


def replica(module: nn.Module, k: int, steps: int, lr: float, decay: float, every: int, sigma: float) -> torch.Tensor:
    """The recipe, written out: ``S_c(x) - decay ||x - 1/2||^2``, plain steps, a blur now and then, and the box."""
    x, rate = torch.full((1, 3, *SIZE), 0.5, dtype=torch.float64), None
    for step in range(1, steps + 1):
        x.requires_grad_(True)
        score = module(x)[0, k] - decay * (x - 0.5).square().sum()
        (slope,) = torch.autograd.grad(score, x)
        rate = rate or lr / slope.square().mean().sqrt()
        x = x.detach() + rate * slope
        x = (gaussian_blur(x, sigma) if every and step % every == 0 else x).clamp(0, 1)
    return x


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.05, "decay": 0.0, "blur_every": 0, "blur_sigma": 1.0},
        {"lr": 0.02, "decay": 0.03, "blur_every": 4, "blur_sigma": 0.7},
        {"lr": 0.02, "decay": 0.03, "blur_every": 1, "blur_sigma": 0.5},
    ],
    ids=str,
)
def test_against_the_recipe_written_out(double: Network, options: dict[str, Any]) -> None:
    module = conv_net().double()
    found = class_visualization(double, ["class:3", "class:0"], steps=15, **options)
    told = (options["lr"], options["decay"], options["blur_every"], options["blur_sigma"])
    for image, k in zip(found.images, (3, 0), strict=True):
        # Sums in another order, over 15 steps.
        torch.testing.assert_close(image[None], replica(module, k, 15, *told), rtol=0, atol=1e-10)


def test_the_penalty_pulls_towards_gray(double: Network) -> None:
    distances = []
    for decay in (0.0, 0.01, 0.1):
        found = class_visualization(double, ["class:1", "class:3"], steps=60, decay=decay)
        distances.append((found.images - 0.5).square().flatten(1).sum(1))
        # It is taken off the history, and not off the score that is told.
        with torch.no_grad():
            logits = double(found.images)
        torch.testing.assert_close(found.final, torch.stack([logits[0, 1], logits[1, 3]]), rtol=1e-12, atol=0)
    assert (distances[0] > 1.05 * distances[1]).all()
    assert (distances[1] > 1.5 * distances[2]).all()


def test_no_blur(double: Network) -> None:
    pictures = [
        class_visualization(double, ["class:1", "class:2"], steps=20, **blur).images
        for blur in ({"blur_every": 0}, {"blur_every": 21}, {"blur_sigma": 0.0}, {"blur_every": 5})
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], pictures[2])
    assert (pictures[0] - pictures[3]).abs().max() > 1e-3


def test_pictures_do_not_depend_on_the_batch(double: Network) -> None:
    found = class_visualization(double, "class:*", steps=12)
    for batch in (1, 2, 5):
        again = class_visualization(double, "class:*", steps=12, batch=batch)
        torch.testing.assert_close(again.images, found.images, rtol=0, atol=1e-12)
    assert (class_visualization(double, "class:4", steps=12).images - found.images[4:]).abs().max() < 1e-12


class WithClassifier(nn.Module):
    """A point whose name begins like a class."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x).mean((2, 3))


@pytest.mark.parametrize(
    ("addresses", "reason"),
    [
        ("classifier/1", "'classifier/1' is not a class; write class:NUMBER or class:NAME"),
        (["class:1", "classifier"], "'classifier' is not a class"),
        ("class", "'class' is not a class; write class:NUMBER"),
        ("class:9", "there is no class 9"),
        ("class:1 + class:2", "class"),
        ([], "no unit is named"),
    ],
)
def test_what_is_no_class_is_refused(addresses: Any, reason: str) -> None:
    net = network(WithClassifier().eval(), (6, 5))
    with pytest.raises(CallError, match=reason) as caught:
        class_visualization(net, addresses, steps=2)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"lr": 0.0}, "lr must be a number above 0 and decay one from 0 up, not 0"),
        ({"lr": float("nan")}, "lr must be"),
        ({"decay": -1.0}, "lr must be"),
        ({"decay": float("inf")}, "lr must be"),
        ({"blur_every": -1}, "a blur comes every 1 step or more"),
        ({"blur_sigma": -0.5}, "0 pixels wide or more"),
        ({"steps": -1}, "0 passes or more"),
        ({"batch": 0}, "1 unit or more"),
    ],
    ids=str,
)
def test_senseless_options(double: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        class_visualization(double, "class:1", **{"steps": 2, **options})
