"""Noise and blur: changes that no one searched for, of the size that was asked for, and the clearest or the weakest."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers import conv_net, network
from inward import CallError, Network, pgd
from inward.columns.paths import diffused
from inward.methods.blur import blur
from inward.methods.noise import noise
from minimal import P, whole_levels

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    """A small standard deviation: the answer hangs on the image, and not on the biases."""
    return network(conv_net().double(), SIZE, mean=(0.5,) * 3, std=(0.02,) * 3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return whole_levels(12)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 6 / 255), ("l2", 0.4), ("l1", 6.0)])
@pytest.mark.parametrize("eight_bit", [True, False])
def test_noise_never_leaves_the_ball_and_is_judged_as_it_is_saved(
    net: Network, x: Tensor, norm: Any, eps: float, eight_bit: bool
) -> None:
    found = noise(net, x, norm=norm, eps=eps, repeats=6, eight_bit=eight_bit)
    lengths = (found.adversarial - x).flatten(1).norm(p=P[norm], dim=1)
    assert (lengths <= eps * (1 + 1e-9)).all()
    # Drawn from all of it, and not from near the image; rounding towards the image takes some back.
    assert (lengths > (0.2 if eight_bit else 0.8) * eps).all()
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1
    answers = net(x).argmax(1)
    assert torch.equal(found.success, net(found.adversarial).argmax(1) != answers)
    assert found.success.any()
    assert not found.success.all()
    assert found.steps[~found.success].tolist() == [6] * int((~found.success).sum())


def test_noise_is_the_clearest_of_its_draws(net: Network, x: Tensor) -> None:
    """Drawn again one by one: the first that fools, and the one that does so most clearly."""
    options: dict[str, Any] = {"eps": 10 / 255, "repeats": 8, "eight_bit": False}
    first, best = noise(net, x, **options), noise(net, x, stop=False, **options)
    assert torch.equal(first.success, best.success)
    assert (best.final >= first.final)[first.success].all()
    assert best.history.shape == (8, 12)
    for i in range(12):
        leads = best.history[:, i]
        if best.success[i]:
            assert best.final[i].item() == pytest.approx(leads.max().item(), rel=1e-6)
            assert first.steps[i] == int((leads > 0).int().argmax()) + 1
    seeded = noise(net, x, seed=1, **options)
    assert not torch.equal(seeded.adversarial, first.adversarial)
    # Far less than one who searches finds.
    assert pgd(net, x, eps=10 / 255, steps=10).success.sum() > first.success.sum()


def test_draws_are_an_image_s_own(net: Network, x: Tensor) -> None:
    found = noise(net, torch.cat([x[:2], x[:1]]), eps=4 / 255, repeats=3, stop=False)
    assert torch.equal(found.adversarial[0], found.adversarial[2])
    change = found.adversarial - found.images
    assert (change[0] - change[1]).abs().max() > 1 / 255


def test_noise_in_half_precision_and_towards_a_target(net: Network, x: Tensor) -> None:
    goals = net(x).argsort(1)[:, -2].tolist()
    towards = noise(net, x, target=goals, eps=30 / 255, repeats=8)
    assert torch.equal(towards.success, net(towards.adversarial).argmax(1) == torch.tensor(goals))
    assert 0 < towards.success.sum() < 12
    half = network(conv_net().bfloat16(), SIZE, mean=(0.5,) * 3, std=(0.02,) * 3)
    found = noise(half, x.bfloat16(), eps=16 / 255, repeats=8)
    assert found.success.any()
    assert found.linf.max() <= 16 / 255 + 1e-9


def test_blur_is_the_weakest_of_a_fine_scan(net: Network, x: Tensor) -> None:
    found = blur(net, x, sigma=4.0, steps=12)
    answers = net(x).argmax(1)
    depths = [math.expm1(k * math.log1p(4.0) / 12) for k in range(13)]
    assert 4 <= found.success.sum() < 12
    for i in range(12):
        sigma = found.sigma[i].item()
        saved = (diffused(x[i : i + 1], sigma) * 255).round() / 255
        torch.testing.assert_close(found.adversarial[i : i + 1], saved, rtol=0, atol=1e-12)
        fooled = [
            k
            for k in range(1, 13)
            if net((diffused(x[i : i + 1], depths[k]) * 255).round() / 255).argmax(1) != answers[i]
        ]
        assert bool(found.success[i]) == bool(fooled)
        if fooled:
            step = depths[fooled[0]] - depths[fooled[0] - 1]
            assert depths[fooled[0] - 1] < sigma <= depths[fooled[0]]
            # One halving less would not do: just below, the answer is the old one.
            below = (diffused(x[i : i + 1], max(sigma - step / 64, 0.0)) * 255).round() / 255
            assert int(net(below).argmax()) == answers[i]
        else:
            assert sigma == pytest.approx(4.0)
    assert found[0].measures()["sigma"] == found.sigma[0].item()


def test_blur_takes_no_more_than_it_has_to(net: Network, x: Tensor) -> None:
    """What is fooled is not touched, what withstands is not halved, and all of a long blur is gray."""
    answers = net(x).argmax(1).tolist()
    given = [(answers[0] + 1) % 5, *answers[1:]]
    told: list[tuple[int, int]] = []
    found = blur(net, x, label=given, sigma=4.0, steps=5, on_progress=lambda *counts: told.append(counts))
    assert found.steps[0] == 0
    assert found.sigma[0] == 0
    assert found.l0[0] == 0
    assert set(found.steps[1:][~found.success[1:]].tolist()) <= {5}
    assert told == [(i, 11) for i in range(1, 12)]
    flat = blur(net, x, sigma=1e3, steps=1, target=[(k + 1) % 5 for k in answers])
    low = (~flat.success).nonzero()[0, 0]
    assert flat.adversarial[low].flatten(1).std(1).max() < 1e-12
    for image in (0, 5):
        alone = blur(net, x[image : image + 1], label=given[image : image + 1], sigma=4.0, steps=5)
        assert alone.sigma[0] == found.sigma[image]


@pytest.mark.parametrize(
    ("attack", "options", "reason"),
    [
        (noise, {"repeats": 0}, "repeats must be 1 or more"),
        (noise, {"eps": 2.0}, "at most 1, the whole range"),
        (noise, {"norm": "l0"}, "no norm 'l0'"),
        (blur, {"steps": 0}, "steps must be 1 or more"),
        (blur, {"sigma": 0.0}, "sigma is the strongest blur in pixels"),
        (blur, {"target": "class:9"}, "5 classes"),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_senseless_calls_are_refused(net: Network, x: Tensor, attack: Any, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        attack(net, x, **options)
