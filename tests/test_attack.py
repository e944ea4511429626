"""The targeted attack: every picture inside its ball, success judged on what a PNG holds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from helpers import conv_net, network
from inward import CallError, Network, pgd, targeted_attack
from inward.figures import caption
from inward.methods.predict import predict
from inward.results import Perturbation
from same import images

SIZE = (9, 7)
LABELS = ["tench", "goldfish", "great white shark", "ostrich", "cock"]


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    # A small standard deviation: the answer hangs on the image, and not on the biases.
    return network(conv_net(), SIZE, labels=LABELS, mean=(0.5,) * 3, std=(0.02,) * 3)


def pictures(count: int = 4, exact: bool = False) -> Tensor:
    found = images(count, 3, *SIZE)
    return found if exact else (found * 255).round() / 255


def runner_up(net: Network, x: Tensor) -> list[str]:
    return [f"class:{k}" for k in net(x).topk(2, dim=1).indices[:, 1].tolist()]


def levels(x: Tensor) -> Tensor:
    found = x.double() * 255
    # What is called an 8-bit picture is one: float32 holds k / 255 to within 2e-8.
    assert (found - found.round()).abs().max() < 1e-5
    return found.round()


@pytest.mark.parametrize("eps", [1 / 255, 2.5 / 255, 4 / 255, 0.0157, 0.1, 1.0])
@pytest.mark.parametrize("on_grid", [True, False], ids=["8-bit", "float"])
def test_inside_the_linf_ball(net: Network, eps: float, on_grid: bool) -> None:
    x = pictures(exact=not on_grid)
    found = targeted_attack(net, x, target=runner_up(net, x), eps=eps, steps=12)
    change = levels(found.adversarial) - levels((x * 255).round() / 255)
    assert change.abs().max() <= eps * 255 + 1e-5
    assert torch.equal(found.linf, change.abs().amax((1, 2, 3)) / 255)
    assert torch.allclose(found.l2, change.flatten(1).norm(dim=1) / 255, rtol=1e-12)
    # It uses the room it has: a whole level, at least.
    assert change.abs().max() >= 1


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("on_grid", [True, False], ids=["8-bit", "float"])
def test_inside_the_l2_ball(net: Network, eps: float, on_grid: bool) -> None:
    x = pictures(exact=not on_grid)
    found = targeted_attack(net, x, target=runner_up(net, x), eps=eps, norm="l2", steps=12, step_size=0.5)
    change = levels(found.adversarial) - levels((x * 255).round() / 255)
    assert (change.flatten(1).norm(dim=1) / 255).max() <= eps + 1e-7
    assert found.l2.max() <= eps + 1e-7
    assert found.l2.max() > 0


def test_under_a_level_no_picture_can_hold_it_and_the_floats_are_judged(net: Network) -> None:
    x = pictures(8, exact=True)
    found = targeted_attack(net, x, target=runner_up(net, x), eps=0.9 / 255)
    assert torch.equal(found.images, x)
    assert 0 < found.linf.max() <= 0.9 / 255
    assert torch.equal(found.linf, (found.adversarial.double() - x.double()).abs().amax((1, 2, 3)))
    assert found.record.parameters["eight_bit"] is False
    answers = [f"class:{k}" for k in net(found.adversarial).argmax(1).tolist()]
    assert found.success.tolist() == [a == t for a, t in zip(answers, found.targets, strict=True)]
    # Said once, not of every image.
    assert found[1].notes() == ()
    assert "which no 8-bit picture can hold: judged in float" in found.record.notes[0]
    assert targeted_attack(net, x, target="class:1", eps=1 / 255).record.notes == ()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [-0.1, 0.0, math.nan, math.inf])
def test_senseless_eps_is_refused(net: Network, norm: str, eps: float) -> None:
    with pytest.raises(CallError, match=r"eps .*must be .*above 0.* not|eps must be above 0"):
        targeted_attack(net, pictures(), target="class:1", eps=eps, norm=norm)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"eps": 1.01}, "at most 1, the whole range, not 1.01; write 4/255"),
        ({"eps": 4}, "write 4/255"),
        ({"step_size": 0.0}, "step_size is a share"),
        ({"step_size": math.nan}, "step_size is a share"),
        ({"steps": -1}, "0 passes or more, not -1"),
        ({"extra": -1}, "from 0 up, not -1"),
        ({"norm": "l0"}, "no norm 'l0'; write linf, l2 or l1"),
        ({"target": "class:5"}, "5 classes, 0 to 4"),
        ({"target": "ostrich"}, "^'ostrich' is a class of ConvNet; write class:ostrich$"),
        ({"target": ["class:1", "3", "class:1", "class:2"]}, "^'3' is a class of ConvNet; write class:3$"),
        ({"target": "ostritch"}, "no point 'ostritch'"),
        ({"target": "class:ostritch"}, "the nearest names: ostrich"),
        ({"target": "conv/0"}, "'conv/0' is not a class; write class:NUMBER or class:NAME"),
        ({"target": "class"}, "is not a class"),
        ({"target": ["class:1", "class:2"]}, "2 targets for 4 images"),
    ],
    ids=str,
)
def test_senseless_options_are_refused(net: Network, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        targeted_attack(net, pictures(), **{"target": "class:1", **options})


def test_success_is_what_the_8_bit_picture_is_taken_for(net: Network) -> None:
    x = pictures(8)
    goals = runner_up(net, x)
    outcomes = set()
    for eps in (1 / 255, 3 / 255, 10 / 255, 30 / 255):
        found = targeted_attack(net, x, target=goals, eps=eps, steps=15)
        answers = [top[0].index for top in predict(net, found.adversarial, top=1)]
        assert found.success.tolist() == [f"class:{k}" == goal for k, goal in zip(answers, goals, strict=True)]
        assert found.answers == tuple(f"class:{k}" for k in answers)
        assert found[3].measures()["answer"] == f"class:{answers[3]}"
        # The lead over the best other class is positive exactly where it succeeds.
        assert found.success.tolist() == (found.final > 0).tolist()
        outcomes |= set(found.success.tolist())
    assert outcomes == {True, False}  # the judge was asked about both


def test_the_answer_is_told_with_its_name(net: Network) -> None:
    found = pgd(net, pictures(), eps=20 / 255)
    assert found.success.all()
    for i in range(4):
        label, (best,) = found.labels[i], predict(net, found.adversarial[i : i + 1], top=1)[0]
        assert caption(found[i]).startswith(f"label {label}, now class:{best.index} {best.label}, final ")
    # In float, nothing is judged again from a file; and one that withstands is still what it was.
    withstood = pgd(net, pictures(), eps=1e-6, eight_bit=False)
    assert not withstood.success.any()
    assert withstood.answers == withstood.labels


def test_steps_count_to_the_first_success_and_extra_follow(net: Network) -> None:
    x = pictures(8)
    goals = runner_up(net, x)
    plain = targeted_attack(net, x, target=goals, eps=30 / 255, steps=15, step_size=0.02, extra=0)
    more = targeted_attack(net, x, target=goals, eps=30 / 255, steps=15, step_size=0.02, extra=3)
    assert plain.success.any()
    assert len(set(plain.steps.tolist())) > 1  # not all images at once
    assert torch.equal(plain.steps, more.steps)
    for i in range(8):
        steps = int(plain.steps[i])
        assert len(plain[i].history) == steps
        assert len(more[i].history) == min(steps + 3, 15)
        if not plain.success[i]:
            assert steps == 15
        elif steps < 12:
            # The lead grows with the further steps, and no step came before it was needed.
            assert more.final[i] > plain.final[i] > 0
            assert (plain[i].history < 0).all() or steps == 0
        alone = targeted_attack(net, x[i : i + 1], target=goals[i], eps=30 / 255, steps=15, step_size=0.02, extra=3)
        assert alone.history.shape == more[i].history.shape


def test_already_the_target_takes_no_step(net: Network) -> None:
    x = pictures(2)
    found = targeted_attack(net, x, target=[f"class:{k}" for k in net(x).argmax(1).tolist()], extra=0)
    assert found.steps.tolist() == [0, 0]
    assert found.success.all()
    assert found.linf.tolist() == [0, 0]


def test_no_passes_give_the_picture_back(net: Network) -> None:
    found = targeted_attack(net, pictures(2), target="class:1", steps=0)
    assert torch.equal(levels(found.adversarial), levels(pictures(2)))
    assert found.history.shape == (0, 2)


def test_target_by_label_or_one_an_image(net: Network) -> None:
    x = pictures(2)
    by_label = targeted_attack(net, x, target="class:Great White SHARK")
    assert by_label.targets == ("class:2", "class:2")
    assert torch.equal(by_label.adversarial, targeted_attack(net, x, target="class:2").adversarial)
    mixed = targeted_attack(net, x, target=["class:2", "class:ostrich"], eps=30 / 255)
    assert mixed.targets == ("class:2", "class:3")
    assert torch.equal(mixed[0].adversarial, targeted_attack(net, x[:1], target="class:2", eps=30 / 255).adversarial)


def test_every_pass_is_told(net: Network) -> None:
    told: list[tuple[int, int]] = []
    found: Perturbation = targeted_attack(
        net,
        pictures(1),
        target="class:1",
        steps=7,
        eps=1 / 255,
        on_pass=lambda now: told.append((now.done, now.total)),
    )
    assert told == [(i + 1, 7) for i in range(len(found.history))]


def test_what_changes_nothing_is_said(net: Network) -> None:
    x = pictures(4)
    own = [f"class:{k}" for k in net(x).argmax(1).tolist()]
    done = targeted_attack(net, x, target=own)
    assert done.success.all()
    assert done[1].notes() == (f"nothing was changed: the answer was {own[1]} already",)
    other = pgd(net, x, label=[(int(k[6:]) + 1) % 5 for k in own], eps=2 / 255)
    assert other[0].notes() == (f"nothing was changed: the answer was not {other.labels[0]} already",)
    # So many pixels share a change of this length that none moves by half a level.
    lost = pgd(net, x, norm="l2", eps=0.004, stop=False, random_start=False)
    assert lost.l0.max() == 0
    assert not lost.success.any()
    assert lost[2].notes() == ("rounding to 8 bits takes the whole change back; give a larger eps, or eight_bit=False",)
    assert targeted_attack(net, x, target=runner_up(net, x), eps=30 / 255)[0].notes() == ()


def test_the_normalized_gradient_has_no_l1(net: Network) -> None:
    with pytest.raises(CallError, match="write linf or l2, or use pgd with a target"):
        targeted_attack(net, pictures(1), target="class:1", norm="l1", eps=2.0)
