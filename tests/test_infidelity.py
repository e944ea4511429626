"""Infidelity: 0 for what is exact, Captum's with the same changes, and maps of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, saliency
from inward.columns.objectives import Channel
from inward.methods.baselines import baselines
from inward.methods.integrated import integrated_gradients
from inward.results import Attribution
from inward.scoring.infidelity import infidelity
from inward.scoring.planes import spread
from same import images, untouched
from scored import mapped

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE)


def squares(count: int, largest: float = 0.4, seed: int = 0) -> Tensor:
    """Which pixels each change hides, (count, H, W), drawn as the docstring says."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, *SIZE, dtype=torch.bool)
    for k in range(count):
        side = int(torch.randint(1, round(largest * 7) + 1, (), generator=generator))
        top = int(torch.randint(0, 9 - side + 1, (), generator=generator))
        left = int(torch.randint(0, 7 - side + 1, (), generator=generator))
        masks[k, top : top + side, left : left + side] = True
    return masks


def captums(module: nn.Module, x: Tensor, values: Tensor, change: Any, count: int, scaled: bool) -> Tensor:
    metrics = pytest.importorskip("captum.metrics")
    return metrics.infidelity(
        module, change, x, values, target=3, n_perturb_samples=count, normalize=scaled, max_examples_per_batch=None
    )


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["sensitivity", "contribution"])
def test_hidden_squares_agree_with_captum(net: Network, kind: str, scaled: bool) -> None:
    """Captum: ``infidelity`` with our squares, local perturbations for gradients, binary ones for contributions."""
    x, count = images(3, 3, *SIZE).double(), 12
    values = saliency(net, x, target="class:3").values * (1 if kind == "sensitivity" else x)
    # All samples of an image come one after the other.
    masks = squares(count).double()[:, None].expand(-1, 3, -1, -1).repeat(3, 1, 1, 1)

    def hide(inputs: Tensor) -> tuple[Tensor, Tensor]:
        return masks * (inputs if kind == "sensitivity" else 1), inputs * (1 - masks)

    theirs = captums(conv_net().double(), x, values, hide, count, scaled)
    found = mapped(net, x, values, kind=kind, target="class:3")
    ours = infidelity(found, samples=count, scaled=scaled, seed=0)
    assert theirs.min() > 0
    # The lean graph sums in another order: float64 rounding, of squares of small differences.
    assert ((ours.values - theirs).abs() / theirs).max() < 1e-8


@pytest.mark.parametrize("scaled", [False, True])
def test_noisy_baselines_agree_with_captum(net: Network, scaled: bool) -> None:
    x, count = images(3, 3, *SIZE).double(), 12
    generator = torch.Generator().manual_seed(5)
    drawn = torch.stack([torch.randn(3, *SIZE, generator=generator, dtype=torch.float64) for _ in range(count)])

    def replace(inputs: Tensor) -> tuple[Tensor, Tensor]:
        changed = 0.5 + 0.2 * drawn.repeat(3, 1, 1, 1)
        return inputs - changed, changed

    found = saliency(net, x, target="class:3")
    theirs = captums(conv_net().double(), x, found.values, replace, count, scaled)
    ours = infidelity(found, change="noise", noise=0.2, baseline="gray", samples=count, scaled=scaled, seed=5)
    assert theirs.min() > 0
    assert ((ours.values - theirs).abs() / theirs).max() < 1e-8


def linear() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return network(nn.Sequential(nn.Flatten(), nn.Linear(2 * 63, 4)).double().eval(), SIZE, channels=2)


def exact(net: Network, x: Tensor, kind: str, baseline: str = "black") -> Attribution:
    slope = saliency(net, x, target="class:1").values
    away = x - baselines(net, x, baseline)[0][1]
    values = slope if kind == "sensitivity" else slope * away
    return mapped(net, x, values, kind=kind, target="class:1", baseline=[baseline])


@pytest.mark.parametrize("kind", ["sensitivity", "contribution"])
@pytest.mark.parametrize("baseline", ["black", "white", "blur", "noise"])
def test_what_is_exact_of_a_linear_network_has_none(kind: str, baseline: str) -> None:
    net, x = linear(), images(3, 2, *SIZE).double()
    found = exact(net, x, kind, baseline)
    # The baseline of the map is the one that pixels are exchanged for.
    assert infidelity(found).values.max() < 1e-24
    assert infidelity(found).relative.max() < 1e-12
    other = "gray" if kind == "contribution" else baseline
    # A gradient is exact for every baseline, a contribution for its own alone.
    assert (infidelity(found, baseline=other).relative.min() > 0.01) == (kind == "contribution")
    assert infidelity(found, scaled=True).scale.tolist() == pytest.approx([1] * 3, abs=1e-9)


def test_noise_around_the_image_and_around_a_baseline() -> None:
    net, x = linear(), images(2, 2, *SIZE).double()
    found = exact(net, x, "sensitivity")
    for baseline in ("black", x, x[0]):
        assert infidelity(found, change="noise", baseline=baseline).values.max() < 1e-24
    wrong = mapped(net, x, found.values.flip(3), kind="sensitivity", target="class:1")
    assert infidelity(wrong, change="noise", baseline=x, noise=0.01).relative.min() > 0.5
    quiet = infidelity(wrong, change="noise", baseline=x, noise=0.0)
    assert quiet.values.max() < 1e-24
    assert quiet.relative.isnan().all()


def test_nothing_said_is_all_that_is_done(net: Network) -> None:
    x = images(3, 3, *SIZE).double()
    nothing = mapped(net, x, torch.zeros_like(x), target="class:1")
    assert infidelity(nothing).relative.tolist() == [1, 1, 1]
    scaled = infidelity(nothing, scaled=True)
    assert scaled.scale.tolist() == [0, 0, 0]
    assert scaled.values.isfinite().all()


def test_the_best_scale_is_the_best() -> None:
    net, x = linear(), images(3, 2, *SIZE).double()
    found = saliency(net, x, target="class:2")
    noisy = mapped(net, x, found.values + 0.1, kind="sensitivity", target="class:2")
    best = infidelity(noisy, scaled=True)
    for factor in (0.99, 1.01):
        scale = factor * best.scale.view(-1, 1, 1, 1)
        moved = mapped(net, x, noisy.values * scale, kind="sensitivity", target="class:2")
        assert (infidelity(moved).values > best.values).all()
    at = mapped(net, x, noisy.values * best.scale.view(-1, 1, 1, 1), kind="sensitivity", target="class:2")
    assert infidelity(at).values.tolist() == pytest.approx(best.values.tolist(), rel=1e-9)


def test_amounts_have_no_unit() -> None:
    net, x = network(conv_net(), SIZE), images(2, 3, *SIZE)
    amount = saliency(net, x, target="class:1").values.abs().sum(1, keepdim=True)
    one, seven = (mapped(net, x, f * amount, kind="amount", target="class:1") for f in (1, 7))
    assert infidelity(seven).values.tolist() == pytest.approx(infidelity(one).values.tolist(), rel=1e-5)
    assert infidelity(seven, scaled=False).values.min() > infidelity(seven).values.max()
    signed = mapped(net, x, amount, kind="contribution", target="class:1")
    assert infidelity(signed).scale.tolist() == [1, 1]


@settings(max_examples=60, deadline=None)
@each(
    grid=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 99),
)
def test_spreading_keeps_every_sum(grid: tuple[int, int], size: tuple[int, int], seed: int) -> None:
    values = torch.randn(2, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = spread(values, size)
    assert found.shape == (2, *size)
    assert (found.sum((1, 2)) - values.sum((1, 2))).abs().max() < 1e-12
    assert spread(values.abs(), size).min() >= 0
    if grid == size:
        assert (found - values).abs().max() < 1e-15


def test_spreading_by_hand() -> None:
    """Of two values over four pixels bilinear enlargement takes 1, 3/4, 1/4, 0: halves of that sum to 1."""
    found = spread(torch.tensor([[[4.0, 8.0]]], dtype=torch.float64), (1, 4))
    assert found[0, 0].tolist() == pytest.approx([2, 1.5 + 1, 0.5 + 3, 4], abs=1e-12)


def test_coarse_contributions_are_shared_out(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    inside = integrated_gradients(net, x, target="class:1", at="second", steps=8)
    plane = spread(inside.values.sum(1), SIZE)[:, None]
    fine = mapped(net, x, plane, target="class:1")
    assert infidelity(inside).values.tolist() == pytest.approx(infidelity(fine).values.tolist(), rel=1e-9)


def test_several_baselines_take_turns(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    found = saliency(net, x, target="class:1")
    both = infidelity(found, samples=2, baseline=["black", "white"])
    masks = squares(2).double()
    expected = torch.zeros(2, dtype=torch.float64)
    for mask, color in zip(masks, (0.0, 1.0), strict=True):
        changed = x * (1 - mask) + color * mask
        said = (found.values * (x - changed)).flatten(1).sum(1)
        expected += (said - (net(x) - net(changed))[:, 1]).square() / 2
    assert both.values.tolist() == pytest.approx(expected.tolist(), rel=1e-9)


def test_alone_in_a_batch_and_whatever_the_memory(net: Network) -> None:
    x = images(3, 3, *SIZE).double()
    found = saliency(net, x)
    for change in ("squares", "noise"):
        together = infidelity(found, change=change, samples=9, baseline="noise")
        little = infidelity(saliency(net.within(1), x), change=change, samples=9, baseline="noise")
        assert torch.allclose(together.values, little.values, rtol=1e-9, atol=0)
        for i in range(3):
            alone = infidelity(found[i], change=change, samples=9, baseline="noise")
            assert alone.values.item() == pytest.approx(together.values[i].item(), rel=1e-9)
        other = infidelity(found, change=change, samples=9, baseline="noise", seed=1)
        assert not torch.equal(other.values, together.values)


def test_tells_its_progress_and_leaves_the_network_alone() -> None:
    module = conv_net()
    found = saliency(network(module, SIZE), images(2, 3, *SIZE))
    told: list[tuple[int, int]] = []
    with untouched(module):
        infidelity(found, samples=6, on_progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (14, 14)


def test_it_is_the_score_of_the_map_that_is_predicted() -> None:
    """A map of the probability says what a change does to the probability, not to the logit."""
    net, x = network(conv_net().double(), SIZE), images(2, 3, *SIZE).double()
    found = saliency(net, x, target="class:1", of="probability")
    masks = squares(4).double()
    expected = torch.zeros(2, dtype=torch.float64)
    for mask in masks:
        changed = x * (1 - mask)
        said = (found.values * (x - changed)).flatten(1).sum(1)
        expected += (said - (net(x).softmax(1) - net(changed).softmax(1))[:, 1]).square() / 4
    assert infidelity(found, samples=4).values.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    unit = saliency(net, x, target=Channel("second/2"))
    named = saliency(net, x, target="second/2")
    assert torch.equal(infidelity(unit, target=Channel("second/2")).values, infidelity(named).values)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 0}, "1 change or more, not 0"),
        ({"largest": 0.0}, "above 0, at most 1, not 0"),
        ({"largest": 1.5}, "not 1.5"),
        ({"noise": -0.1}, "0 or more, not -0.1"),
        ({"noise": float("nan")}, "not nan"),
        ({"change": "circles"}, "no change here is 'circles'"),
        ({"baseline": torch.zeros(2, 9, 7)}, "the baseline has the shape"),
    ],
    ids=str,
)
def test_senseless_changes_are_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    found = saliency(net, images(2, 3, *SIZE).double())
    with pytest.raises(CallError, match=reason):
        infidelity(found, **options)


def test_what_a_map_says_nothing_of_is_refused(net: Network, tmp_path: Path) -> None:
    x = images(2, 3, *SIZE).double()
    with pytest.raises(CallError, match="a value for every channel"):
        infidelity(saliency(net, x, target="class:1", at="second"))
    with pytest.raises(CallError, match="noise is a change that a map of contributions says nothing of"):
        infidelity(mapped(net, x, x, target="class:1"), change="noise")
    with pytest.raises(CallError, match="says nothing of"):
        infidelity(mapped(net, x, x[:, :1], kind="sensitivity", target="class:1"), change="noise")
    with pytest.raises(CallError, match="relative to an image made in Python; say what pixels are exchanged for"):
        infidelity(integrated_gradients(net, x, target="class:1", baseline=torch.full_like(x, 0.3), steps=2))
    for word in (str(tmp_path), "segments"):
        with pytest.raises(CallError, match=f"relative to '{word}', which is no single picture"):
            infidelity(mapped(net, x, x, target="class:1", baseline=["black", word]))
