"""The feature attack: known optima, better than a step and than chance, nearer to a guide, and what is refused."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers import conv_net, digits, network
from helpers import inward as command
from inward import CallError, InwardError, Network, feature_attack, read
from inward.columns.batches import Diversity
from inward.columns.objectives import Channel, ClassScore, Objective
from inward.figures import figures
from inward.gradient import gradient
from inward.network.trace import Trace
from inward.results import Driven
from inward.runs.rerun import rerun
from same import images, seeded

SIZE = (9, 7)
P = {"linf": math.inf, "l2": 2, "l1": 1}
pytestmark = pytest.mark.usefixtures("single_thread")


class Linear(nn.Module):
    """Six units that are linear in the image, and classes behind them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.units, self.fc = nn.Linear(channels * SIZE[0] * SIZE[1], 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.units(x.flatten(1)))


class Encoder(nn.Module):
    """No classes: a map. Beside it something that no image reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.beside = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        alone = self.beside(torch.ones(1, 3, dtype=x.dtype))
        return self.conv(x).tanh() + alone.sum()


@dataclass(frozen=True)
class Still(Objective):
    """The same of every image."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return ("conv",)

    def __call__(self, trace: Trace) -> Tensor:
        return torch.zeros(len(trace.images))


@functools.cache
def plain(dtype: torch.dtype = torch.float64, channels: int = 3) -> Network:
    return network(conv_net(channels).to(dtype), SIZE)


def pictures(count: int = 3, channels: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return (images(count, channels, *SIZE, dtype=dtype) * 255).round() / 255


@pytest.mark.parametrize(("norm", "channels"), [("linf", 3), ("linf", 5), ("l2", 3), ("l1", 3)])
def test_on_a_linear_layer_it_is_the_optimum(norm: str, channels: int) -> None:
    """A unit rises by eps times the dual norm of its weights, and no more; down by as much."""
    module = seeded(lambda: Linear(channels)).double()
    net = network(module, SIZE, channels=channels)
    # In the middle of the range, so that no pixel meets its bound.
    x = 0.5 + 0.1 * (images(3, channels, *SIZE, dtype=torch.float64) - 0.5)
    eps = {"linf": 0.05, "l2": 0.2, "l1": 0.3}[norm]
    slope = net._source.weights()["units.weight"][4]
    dual = {"linf": slope.abs().sum(), "l2": slope.norm(), "l1": slope.abs().max()}[norm]
    for sign in (1, -1):
        objective = f"{sign} * units/4"
        options: dict[str, Any] = {"eps": eps, "norm": norm, "eight_bit": False, "random_start": norm == "linf"}
        found = feature_attack(net, x, objective=objective, steps=60, **options)
        torch.testing.assert_close(found.before, sign * net.trace(x, "units/4")["units/4"], rtol=1e-12, atol=0)
        torch.testing.assert_close(found.final - found.before, (eps * dual).expand(3), rtol=1e-9, atol=0)
        assert (getattr(found, norm) <= eps).all()


def test_it_beats_one_step_and_chance() -> None:
    net, x, objective, eps = plain(), pictures(5), Channel("second/3"), 8 / 255
    found = feature_attack(net, x, objective="second/3", eps=eps, eight_bit=False, random_start=False)
    _, slope = gradient(net, x, objective)
    step = (x + eps * slope.sign()).clamp(0, 1)
    by_step = objective(net.trace(step, "second/3"))
    assert (found.final >= by_step - 1e-12).all()
    assert (found.final > by_step + 1e-6).any()
    generator = torch.Generator().manual_seed(0)
    for i in range(5):
        signs = torch.randint(2, (500, *x.shape[1:]), generator=generator) * 2.0 - 1
        chance = objective(net.trace((x[i] + eps * signs).clamp(0, 1).double(), "second/3"))
        # Of 500 corners of the ball none comes near.
        assert found.final[i] - found.before[i] > 2 * (chance.max() - found.before[i])


def test_sums_are_parsed_as_elsewhere_and_objectives_are_each_image_s_own() -> None:
    net, x = plain(), pictures()
    by_word = feature_attack(net, x, objective="-1 * second/3 + 0.5 * class:2", steps=5)
    made = -1 * Channel("second/3") + 0.5 * ClassScore((2, 2, 2))
    by_object = feature_attack(net, x, objective=made, steps=5)
    torch.testing.assert_close(by_word.adversarial, by_object.adversarial, rtol=0, atol=1e-12)
    assert by_word.record.parameters["objective"] == "-1 * second/3 + 0.5 * class:2"
    assert by_word.record.notes == ()
    assert "made in Python" in by_object.record.notes[0]
    wanted = -x.new_tensor([net.trace(by_word.adversarial, "second/3")["second/3"][i].mean() for i in range(3)])
    torch.testing.assert_close(by_word.final, wanted + 0.5 * net(by_word.adversarial)[:, 2], rtol=1e-9, atol=1e-12)
    each = feature_attack(net, x, objective=ClassScore((0, 3, 1)), steps=5)
    for i, k in enumerate((0, 3, 1)):
        one = each[i]
        assert one.objective == ClassScore((k,))
        torch.testing.assert_close(one.final, net(one.adversarial)[:, k], rtol=1e-12, atol=0)
    assert each.answers == tuple(f"class:{k}" for k in net(each.adversarial).argmax(1).tolist())


def test_it_comes_nearer_to_the_guide_the_more_it_may_change() -> None:
    net, x = plain(), pictures()
    guide = pictures(5)[4]
    shares = []
    for eps in (2 / 255, 8 / 255, 32 / 255, 1.0):
        found = feature_attack(net, x, guide=guide, at="conv", eps=eps, steps=60)
        shares.append(found.distance_left)
        features = [net.trace(each, "conv")["conv"].flatten(1) for each in (x, found.adversarial, guide[None])]
        wanted = (features[1] - features[2]).norm(dim=1) / (features[0] - features[2]).norm(dim=1)
        torch.testing.assert_close(found.distance_left, wanted, rtol=1e-9, atol=0)
    for nearer, farther in zip(shares[1:], shares, strict=False):
        assert (nearer < farther).all()
    # The guide itself lies in the last ball; the steps, of 1/24 each, swing about it.
    assert (shares[-1] < 0.1).all()
    assert (shares[0] < 0.99).all()


def test_each_image_can_have_its_own_guide_and_the_result_of_one_keeps_it() -> None:
    net, x, guides = plain(), pictures(), pictures(6)[3:]
    together = feature_attack(net, x, guide=guides, at="second", eps=16 / 255, steps=15)
    for i in range(3):
        alone = feature_attack(net, x[i : i + 1], guide=guides[i], at="second", eps=16 / 255, steps=15)
        one = together[i]
        # Sums of a batch in another order; a whole level more would be 4e-3.
        torch.testing.assert_close(one.adversarial, alone.adversarial, rtol=0, atol=1e-9)
        torch.testing.assert_close(one.guide, guides[i : i + 1])
        torch.testing.assert_close(one.distance_left, alone.distance_left, rtol=1e-6, atol=0)
        assert one.measures().keys() == alone.measures().keys()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("channels", [1, 5])
def test_the_ball_is_kept_in_whole_levels(norm: str, channels: int) -> None:
    eps = {"linf": 4 / 255, "l2": 0.3, "l1": 1.5}[norm]
    x = images(4, channels, *SIZE)
    found = feature_attack(
        plain(torch.float32, channels),
        x,
        objective="class:1",
        eps=eps,
        norm=norm,  # type: ignore[arg-type]
        steps=10,
    )
    levels = found.adversarial.double() * 255
    assert (levels - levels.round()).abs().max() < 1e-4
    change = (levels.round() - (x.double() * 255).round()).flatten(1) / 255
    assert (change.norm(p=P[norm], dim=1) <= eps + 1e-7).all()
    assert (found.final > found.before).all()


def test_no_picture_is_worse_than_it_was_and_more_starts_are_never_worse() -> None:
    net, x = plain(), pictures()
    # At the middle of a hill of unit steps there is only down.
    far = feature_attack(net, x, guide=x, at="conv", eps=8 / 255, steps=3)
    assert torch.equal(far.adversarial, far.images)
    assert far.distance_left.tolist() == [1.0] * 3
    assert "nothing was changed" in far[0].notes()[0]
    few, many = (feature_attack(net, x, objective="second/3", steps=3, restarts=n).final for n in (1, 4))
    assert (many >= few).all()


def test_a_network_without_classes() -> None:
    net = network(seeded(Encoder), SIZE)
    found = feature_attack(net, pictures(dtype=torch.float32), objective="conv/2", steps=8)
    assert (found.final > found.before).all()
    assert found.answers == ("", "", "")
    assert "answer" not in found[0].measures()
    assert set(figures(found[0])) == {"comparison.png", "adversarial.png", "original.png"}
    # What no image reaches has no batch.
    with pytest.raises(CallError, match="which axis of 'beside' is the batch is not known"):
        feature_attack(net, pictures(dtype=torch.float32), objective="beside")
    with pytest.raises(CallError, match=r"Still\(\) does not depend on the image: there is no path"):
        feature_attack(net, pictures(dtype=torch.float32), objective=Still())


def test_what_is_refused() -> None:
    net, x = plain(), pictures()
    options: list[tuple[dict[str, Any], str]] = [
        ({}, "an objective, or a guide's features, and neither is given; give one of them"),
        ({"objective": "class:1", "guide": x[0], "at": "conv"}, "and both are given; give one of them"),
        ({"objective": "class:1", "at": "conv"}, "'conv' is the point at which a guide's features are met"),
        ({"guide": x[0]}, "met at a point, and none is given; write --at"),
        ({"guide": x[0, :, :4], "at": "conv"}, r"the guide has the shape \(3, 4, 7\) for images of"),
        ({"guide": x[:2], "at": "conv"}, r"the guide has the shape \(2, 3, 9, 7\)"),
        ({"guide": 2 * x[0], "at": "conv"}, r"must be in \[0, 1\]"),
        ({"guide": x[0], "at": "conv/1"}, "a whole point, and 'conv/1' is a unit"),
        ({"objective": "conv/99"}, "there is no unit 99"),
        ({"objective": Diversity("conv")}, "depend on one another"),
        ({"objective": "class:1", "eps": 0.0}, "eps must be above 0"),
        ({"objective": "class:1", "restarts": 0}, "begins 1 time or more, not 0"),
        ({"objective": "class:1", "step_size": 0.0}, "step_size is a share"),
        ({"objective": "class:1", "norm": "l3"}, "there is no norm 'l3'"),
        ({"objective": "class:1", "steps": 0, "step_size": 0.5}, "steps must be 1 or more, not 0"),
    ]
    for given, reason in options:
        with pytest.raises(CallError, match=reason):
            feature_attack(net, x, **given)
    with pytest.raises(InwardError, match="there is no file"):
        feature_attack(net, x, guide="nowhere.png", at="conv")


def test_the_command_saves_what_it_found_and_rerun_finds_it_again(tmp_path: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        pixels = torch.randint(256, (28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{name}.png")
    cat, dog, out = tmp_path / "cat.png", tmp_path / "dog.png", tmp_path / "out"
    call = ["attack", *digits(), cat, "--method", "feature-attack", "--steps", "10", "--eps", "32/255"]
    driven = command(*call, "--objective", "-1 * conv2/3", "--out", out)
    assert driven.status == 0, driven.err
    met = command(*call, "--guide", dog, "--at", "conv2", "--out", tmp_path / "met")
    assert met.status == 0, met.err
    told = json.loads((out / "cat" / "manifest.json").read_text())
    assert told["parameters"]["objective"] == "-1 * conv2/3"
    assert told["scores"]["final"] > told["scores"]["before"]
    folder = tmp_path / "met" / "cat"
    scores = json.loads((folder / "manifest.json").read_text())["scores"]
    assert 0 < scores["distance_left"] < 1
    assert {f.name for f in folder.iterdir()} >= {"guide.png", "comparison.png", "adversarial.png", "original.png"}
    for place in (out / "cat", folder):
        again = rerun(place)
        assert isinstance(again.result, Driven)
        assert max(again.differences.values()) == 0
    # What the pictures show is what the manifest says.
    net = again.result.net
    features = [
        net.trace(read(folder / f"{name}.png", net), "conv2")["conv2"].flatten()
        for name in ("original", "adversarial", "guide")
    ]
    left = (features[1] - features[2]).norm() / (features[0] - features[2]).norm()
    assert scores["distance_left"] == pytest.approx(left.item(), rel=1e-4)
    dog.write_bytes(cat.read_bytes())
    with pytest.raises(InwardError, match="the guide is not the picture that the manifest was made with"):
        rerun(folder)
    assert "give one of them" in command(*call, "--out", out).err
