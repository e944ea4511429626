"""One change, and one patch, for all images of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers import conv_net, network
from inward import CallError, Network
from inward.methods.noise import noise
from inward.methods.patch import patch
from inward.methods.universal import universal_pgd
from inward.runs.rerun import rerun
from minimal import SHARP, P, linear, whole_levels

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE, **SHARP)


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Away from 0 and 1, so that no change is cut off."""
    return ((0.25 + 0.5 * whole_levels(16)) * 255).round() / 255


@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5)])
@pytest.mark.parametrize("eight_bit", [True, False])
def test_one_and_the_same_change_that_fools_more_than_noise(
    net: Network, x: Tensor, norm: Any, eps: float, eight_bit: bool
) -> None:
    found = universal_pgd(net, x, norm=norm, eps=eps, steps=30, eight_bit=eight_bit)
    change = found.adversarial - x
    if eight_bit:
        levels = (change * 255).round()
        assert torch.equal(levels, (found.change * 255).round().expand_as(x))
    # Of floats only rounding is between them.
    torch.testing.assert_close(change, found.change.expand_as(x), rtol=0, atol=1e-12)
    assert found.change.flatten().norm(p=P[norm]) <= eps * (1 + 1e-9)
    assert (getattr(found, norm) <= eps * (1 + 1e-9)).all()
    assert torch.equal(found.success, net(found.adversarial).argmax(1) != net(x).argmax(1))
    assert found.rate == found.success.double().mean().item()
    drawn = noise(net, x, norm=norm, eps=eps, repeats=1, eight_bit=eight_bit)
    assert found.success.sum() >= 3 + drawn.success.sum()


def test_on_a_linear_network_of_two_classes_it_is_the_closed_form() -> None:
    """All images of one answer are led along the same signs: the whole eps against the slope."""
    module, net, shown = linear(3, 2)
    slope = (module.fc.weight[1] - module.fc.weight[0]).detach().view(1, 3, 9, 7)  # type: ignore[union-attr,index]
    found = universal_pgd(net, shown, label="class:0", eps=0.03, steps=5, eight_bit=False)
    torch.testing.assert_close(found.change, 0.03 * slope.sign(), rtol=0, atol=1e-12)


def test_the_order_of_the_images_changes_nothing(net: Network, x: Tensor) -> None:
    options: dict[str, Any] = {"eps": 8 / 255, "steps": 7, "minibatch": 5}
    order = torch.tensor([3, 1, 4, 15, 9, 2, 6, 5, 8, 7, 0, 10, 14, 12, 11, 13])
    found, other = universal_pgd(net, x, **options), universal_pgd(net, x[order], **options)
    torch.testing.assert_close(found.change, other.change, rtol=0, atol=1e-9)
    # 16 images, 5 a step, all of them before one comes again: 5 5 5 1 5 5 5.
    assert found.steps.sum() == 31
    assert found.steps.min() == 1
    assert found.steps.max() == 2
    assert found.history.shape == (2, 16)
    sure = found[int(found.steps.argmin())]
    assert len(sure.history) == 1


def test_targets_clipping_and_half_precision(net: Network, x: Tensor) -> None:
    towards = universal_pgd(net, x, target="class:2", eps=40 / 255, steps=20)
    assert torch.equal(towards.success, net(towards.adversarial).argmax(1) == 2)
    assert towards.rate > (net(x).argmax(1) == 2).double().mean()
    # Every image is above the clip: nothing counts, and nothing moves.
    assert universal_pgd(net, x, steps=3, clip=1e-9).l0.max() == 0
    half = network(conv_net(5).bfloat16(), SIZE, mean=(0.5,) * 5, std=(0.05,) * 5)
    shown = whole_levels(6)[:, :1].expand(-1, 5, -1, -1).bfloat16()
    assert universal_pgd(half, shown, eps=24 / 255, steps=10).rate > 0


def test_outside_the_patch_nothing_changes(net: Network, x: Tensor) -> None:
    found = patch(net, x, target="class:2", share=0.15, steps=30, places=6)
    # sqrt(0.15 * 63) = 3.07
    assert found.patch.shape == (1, 3, 3, 3)
    places = set()
    for i in range(16):
        changed = (found.adversarial[i] != x[i]).any(0)
        at = [
            (r, c)
            for r in range(7)
            for c in range(5)
            if torch.equal(found.adversarial[i, :, r : r + 3, c : c + 3], found.patch[0])
        ]
        assert len(at) == 1
        r, c = at[0]
        changed[r : r + 3, c : c + 3] = False
        assert not changed.any()
        places |= {at[0]}
    assert len(places) > 5
    torch.testing.assert_close(found.patch * 255, (found.patch * 255).round(), rtol=0, atol=1e-9)
    assert torch.equal(found.success, net(found.adversarial).argmax(1) == 2)
    assert torch.equal(found.hits * 6, (found.hits * 6).round())


def test_a_patch_is_learned(net: Network, x: Tensor) -> None:
    """At places that it was not made for, more often than the gray square that it begins as, and than fewer steps."""
    goal = int(net(x).mean(0).argsort()[-2])
    options: dict[str, Any] = {"target": f"class:{goal}", "share": 0.4, "places": 8}
    gray = patch(net, x, steps=1, step_size=1e-9, **options)
    found = patch(net, x, steps=60, **options)
    assert found.hits.mean() > gray.hits.mean() + 0.2
    order = torch.arange(15, -1, -1)
    other = patch(net, x[order], steps=60, **options)
    torch.testing.assert_close(found.hits, other.hits[order], rtol=0, atol=1e-12)


def test_the_shared_change_is_saved_shown_and_not_made_again_of_one(net: Network, x: Tensor, tmp_path: Path) -> None:
    found = universal_pgd(net, x, steps=4)
    folder = found[2].save(tmp_path / "universal")
    shown = torch.from_numpy(np.array(Image.open(folder / "change.png"))).double()
    largest = found.change.abs().max()
    expected = (255 * (0.5 + found.change[0] / (2 * largest)) + 0.5).floor().movedim(0, 2)
    assert (shown - expected).abs().max() <= 1
    other = patch(net, x, target="class:1", steps=1)[0].save(tmp_path / "patch")
    assert np.array(Image.open(other / "patch.png")).shape[2] == 3
    with pytest.raises(CallError, match="found for all its pictures together"):
        rerun_of_known(net, folder)


def rerun_of_known(net: Network, folder: Path) -> None:
    """A rerun whose network is known: the tests' own has no name."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("inward.runs.rerun._network", lambda *_: net)
        rerun(folder)


@pytest.mark.parametrize(
    ("attack", "options", "reason"),
    [
        (universal_pgd, {"norm": "l1"}, "no norm l1 here"),
        (universal_pgd, {"steps": 0}, "steps must be 1 or more"),
        (universal_pgd, {"minibatch": 0}, "minibatch must be 1 or more"),
        (universal_pgd, {"clip": 0.0}, "clip must be a number above 0"),
        (universal_pgd, {"step_size": -1.0}, "step_size must be a number above 0"),
        (patch, {"target": "class:1", "share": 0.0}, "share is that of the image's area"),
        (patch, {"target": "class:1", "steps": 0}, "steps must be 1 or more"),
        (patch, {"target": "class:1", "places": 0}, "places must be 1 or more"),
        (patch, {"target": "class:1", "step_size": 0.0}, "step_size must be a number above 0"),
        (patch, {"target": "class:7"}, "5 classes"),
    ],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
def test_senseless_calls_are_refused(net: Network, x: Tensor, attack: Any, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        attack(net, x, **options)
