"""The answers by step of an attack, beside what the network says of the pictures on the way."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers import conv_net, network
from inward import CallError, Network, pgd
from inward.row import Pass
from inward.runs.steps import Steps
from same import images

SIZE = (9, 7)


@pytest.fixture
def net() -> Network:
    return network(conv_net(), SIZE)


@pytest.fixture
def image() -> Tensor:
    return images(1, 3, *SIZE)


def test_every_step_is_what_the_network_says_of_its_picture(net: Network, image: Tensor) -> None:
    steps, seen = Steps(net, image), [image]

    def watch(now: Pass) -> None:
        steps(now)
        seen.append(now.images())

    found = pgd(net, image, eps=0.2, steps=7, restarts=2, stop=False, eight_bit=False, on_pass=watch)
    told = steps.told(found.adversarial, [3])
    assert told["passes"] == list(range(15))
    assert next(row["class"] for row in told["classes"]) == 3
    assert sorted(row["class"] for row in told["classes"]) == [0, 1, 2, 3, 4]
    seen[-1] = found.adversarial
    for row in told["classes"]:
        expected = [net(x).softmax(1)[0, row["class"]].item() for x in seen]
        assert row["probabilities"] == pytest.approx(expected, rel=1e-5)


def test_long_attacks_are_looked_at_sixty_times_and_others_before_and_after(net: Network, image: Tensor) -> None:
    steps = Steps(net, image)
    found = pgd(net, image, eps=0.01, steps=500, stop=False, on_pass=steps)
    passes = steps.told(found.adversarial)["passes"]
    assert (len(passes), passes[0], passes[-1]) == (61, 0, 500)
    assert {b - a for a, b in itertools.pairwise(passes[1:])} <= {8, 9}
    assert Steps(net, image).told(found.adversarial)["passes"] == [0, 1]
    with pytest.raises(CallError, match="one image are told, and this is a batch of 2"):
        Steps(net, torch.cat([image, image]))


def test_a_network_without_classes_is_refused_and_draws_nothing_of_the_attack(image: Tensor) -> None:
    dense = network(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3)).eval(), SIZE)
    with pytest.raises(CallError, match="gives no number a class"):
        Steps(dense, image)
    noisy = network(torch.nn.Sequential(torch.nn.Flatten(), _Noise(), torch.nn.Linear(189, 5)).eval(), SIZE)
    options = {"eps": 0.1, "steps": 5, "stop": False, "eight_bit": False}
    torch.manual_seed(3)
    alone = pgd(noisy, image, **options).adversarial
    torch.manual_seed(3)
    watched = pgd(noisy, image, **options, on_pass=Steps(noisy, image)).adversarial
    assert torch.equal(watched, alone)


class _Noise(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * torch.randn_like(x)


def test_a_file_is_written(net: Network, image: Tensor, tmp_path: Path) -> None:
    file = Steps(net, image).write(tmp_path, image)
    assert file.name == "steps.json"
    assert file.read_text("utf-8").startswith('{"passes": [0, 1]')
