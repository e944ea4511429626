"""What searches for the smallest change keep and save: alone as in a batch, whole levels, and nothing they may not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import Network
from inward.methods.attacked import attacked
from inward.methods.carlini_wagner import carlini_wagner
from inward.methods.deepfool import deepfool
from inward.methods.fast_minimum import fmn
from inward.methods.nearest import Nearest
from inward.results import Perturbation
from minimal import ATTACKS, SHARP, SIZE, P, every, linear, norm_of, whole_levels
from same import seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE, **SHARP)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return whole_levels(7)


@pytest.fixture(scope="module")
def labels(net: Network, x: Tensor) -> list[int]:
    return net(x).argmax(1).tolist()


@every
def test_alone_as_in_the_batch_and_the_fooled_are_left_alone(
    name: str, net: Network, x: Tensor, labels: list[int]
) -> None:
    given = [*labels[:6], (labels[6] + 1) % 5]
    together = ATTACKS[name](net, x, label=given)
    assert together.success.all()
    assert together.steps[6] == 0
    assert together.l0[6] == 0
    assert (together.steps[:6] > 0).all()
    for i in (0, 3, 6):
        alone = ATTACKS[name](net, x[i : i + 1], label=given[i : i + 1])
        # Batches of another size add in another order: 1e-16, over 80 passes.
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=0, atol=1e-9)
        assert alone.steps[0] == together.steps[i] == len(together[i].history)
        torch.testing.assert_close(alone.history, together[i].history, rtol=1e-6, atol=1e-9)


@every
def test_eight_bit_pictures_are_the_smallest_multiple(name: str, net: Network, x: Tensor, labels: list[int]) -> None:
    norm = norm_of(name)
    exact, saved = ATTACKS[name](net, x, eight_bit=False), ATTACKS[name](net, x)
    assert saved.success.all()
    levels = saved.adversarial * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-9)
    assert (net(saved.adversarial).argmax(1) != torch.tensor(labels)).all()
    change = exact.adversarial - x
    for i in range(7):
        for multiple in torch.linspace(1, 30, 291):
            rounded = ((x[i] + multiple * change[i]).clamp(0, 1) * 255).round() / 255
            if int(net(rounded[None]).argmax()) != labels[i]:
                break
        # Halved eight times below a success; this grid is a tenth of the change.
        length = (rounded - x[i]).flatten().norm(p=P[norm]).item()
        assert getattr(saved, norm)[i].item() <= length * 1.05


@pytest.mark.parametrize("name", ["carlini-wagner", "fmn", "fmn-linf", "fmn-l1", "fab-linf", "fab-l2", "fab-l1"])
def test_targets_are_reached(name: str, net: Network, x: Tensor, labels: list[int]) -> None:
    goals = [(k + 2) % 5 for k in labels]
    found = ATTACKS[name](net, x, target=goals, **({"constant": 1.0} if name == "carlini-wagner" else {}))
    assert found.success.sum() >= 5
    assert torch.equal(found.success, net(found.adversarial).argmax(1) == torch.tensor(goals))
    assert found.targets == tuple(f"class:{k}" for k in goals)
    untargeted = ATTACKS[name](net, x)
    norm = norm_of(name)
    assert getattr(found, norm)[found.success].median() >= getattr(untargeted, norm)[found.success].median()


def test_what_the_plain_network_does_not_take_for_fooled_is_lengthened(net: Network, x: Tensor) -> None:
    """A candidate just short of the boundary, which the loop's network is said to be fooled by."""
    asked = attacked(net, x, None, None, eight_bit_judge=False, eps=None, norm="l2")
    whole = fmn(net, x, steps=60, eight_bit=False)
    everyone = torch.arange(7)
    short = x + 0.99 * (whole.adversarial - x)
    assert not asked.judged(short, everyone)[0].any()
    nearest = Nearest(asked, "l2")
    nearest.offer(short, everyone, torch.ones(7, dtype=torch.bool))
    # What is longer, or does not fool, is not kept.
    nearest.offer(whole.adversarial, everyone, torch.ones(7, dtype=torch.bool))
    nearest.offer(x, everyone, torch.zeros(7, dtype=torch.bool))
    torch.testing.assert_close(nearest.exact, short, rtol=0, atol=0)
    moved = nearest.moved(x)
    assert moved.fooled.all()
    assert asked.judged(moved.shown, everyone)[0].all()
    lengths = (moved.shown - x).flatten(1).norm(dim=1)
    # The strides double, so that it may be passed by as much as was missing.
    assert (lengths <= 1.02 * whole.l2).all()


def test_of_a_candidate_too_far_the_smallest_multiple_is_saved(net: Network, x: Tensor) -> None:
    asked = attacked(net, x, None, None, eight_bit_judge=True, eps=None, norm="l2")
    near, saved = fmn(net, x, steps=30, eight_bit=False), fmn(net, x, steps=30)
    far = (x + 4 * (near.adversarial - x)).clamp(0, 1)
    everyone = torch.arange(7)
    fooled, _ = asked.judged(far, everyone)
    assert fooled.sum() >= 4
    nearest = Nearest(asked, "l2")
    nearest.offer(far, everyone, fooled)
    lengths = (nearest.moved(x).shown - x).flatten(1).norm(dim=1)
    # Halvings from another place end at another picture of whole levels, and never at four times the length.
    assert (lengths[fooled] <= 1.3 * saved.l2[fooled]).all()


def test_confidence_is_that_of_the_picture_as_saved(net: Network, x: Tensor) -> None:
    plain = carlini_wagner(net, x, steps=30, searches=4, constant=0.1)
    sure = carlini_wagner(net, x, steps=30, searches=4, constant=0.1, confidence=0.4)
    assert plain.success.all()
    assert plain.final.min() < 0.4
    assert (sure.final >= 0.4).all()
    assert (sure.l2 > plain.l2).all()


def test_images_that_are_done_leave_the_batch(net: Network, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Network.run

    def watched(self: Network, shown: Tensor, *rest: Any, **options: Any) -> Any:
        if shown.requires_grad:
            sizes.append(len(shown))
        return run(self, shown, *rest, **options)

    monkeypatch.setattr(Network, "run", watched)
    found = deepfool(net, x)
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == int(found.steps.sum()) < 7 * len(sizes)
    sizes.clear()
    found = carlini_wagner(net, x, steps=40, searches=3, constant=0.1)
    assert sum(sizes) == int(found.steps.sum()) < 7 * len(sizes)


@every
def test_without_a_gradient_nothing_moves(name: str, x: Tensor) -> None:
    net = network(seeded(Dead).double(), SIZE)
    found = ATTACKS[name](net, x)
    assert not found.success.any()
    assert not found.unrounded.any()
    assert found.adversarial.isfinite().all()
    assert found.linf.max() < 1e-5


@every
@pytest.mark.parametrize("channels", [1, 5])
def test_any_channels_in_float32_and_two_classes(name: str, channels: int) -> None:
    _, net, shown = linear(channels, 2)
    net, shown = net.to(dtype=torch.float32), shown.float()
    found = ATTACKS[name](net, shown, **({"constant": 1.0} if name == "carlini-wagner" else {}))
    assert found.success.all()
    assert found.adversarial.dtype == torch.float32
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1


@every
def test_the_network_is_untouched(name: str, module: nn.Module, x: Tensor) -> None:
    for parameter in module.parameters():
        parameter.grad = None
    state = torch.get_rng_state()
    with untouched(module):
        ATTACKS[name](Network.of(module, size=SIZE), x)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("attack", "total"), [(deepfool, 50), (fmn, 9), (carlini_wagner, 27)])
def test_progress_is_told(attack: Callable[..., Perturbation], total: int, net: Network, x: Tensor) -> None:
    told: list[tuple[int, int]] = []
    options: dict[str, Any] = {} if attack is deepfool else {"steps": 9}
    if attack is carlini_wagner:
        options |= {"searches": 3, "abort_early": False}
    found = attack(net, x, on_progress=lambda done, all_: told.append((done, all_)), **options)
    assert told == [(i + 1, total) for i in range(int(found.steps.max()))]


@every
def test_without_steps_it_is_the_image(name: str, net: Network, x: Tensor) -> None:
    found = ATTACKS[name](net, x, steps=0)
    assert not found.success.any()
    assert found.l0.tolist() == [0] * 7
    assert found.history.shape == (0, 7)


@pytest.mark.parametrize("name", ["deepfool", "carlini-wagner", "fmn", "fab-linf"])
def test_half_precision_does_not_lose_the_attack(name: str) -> None:
    """Black and white values too, whose place behind a tanh is far away, and rounding that is 4e-3 of a value."""
    single = network(conv_net(), SIZE, **SHARP)
    x = whole_levels(7).float()
    x[:, 0, 0], x[:, 1, 0] = 0, 1
    kept = ATTACKS[name](single, x)
    found = ATTACKS[name](single.to(dtype=torch.bfloat16), x.bfloat16(), label=single(x).argmax(1))
    assert found.success.sum() >= 6
    norm = norm_of(name)
    assert getattr(found, norm).median() < 1.5 * getattr(kept, norm).median()
