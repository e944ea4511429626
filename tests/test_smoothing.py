"""SmoothGrad, VarGrad and SquareGrad: the papers' formulas in slow loops, closed forms, Captum."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.objectives import ClassScore
from inward.methods.saliency import saliency
from inward.methods.smoothing import Moments, smoothgrad, squaregrad, vargrad
from same import images, seeded, untouched

SIZE = (9, 7)
METHODS = {"smoothgrad": smoothgrad, "vargrad": vargrad, "squaregrad": squaregrad}
# float64: sums of some tens of gradients, each through a few hundred additions.
EXACT = 1e-12

pytestmark = pytest.mark.usefixtures("single_thread")
each_method = pytest.mark.parametrize("name", METHODS)


class Normalized(nn.Module):
    """A convolution, its batch normalization, and a ReLU that is a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.Linear(6, 4)
        self.norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
        self.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]

    def tail(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(x)).square().mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.conv(x))


class Powers(nn.Module):
    """The sum of the pixels' powers; its gradient by hand."""

    def __init__(self, power: int) -> None:
        super().__init__()
        self.one, self.power = nn.Parameter(torch.ones((), dtype=torch.float64)), power

    def forward(self, x: Tensor) -> Tensor:
        return (self.one * x**self.power).flatten(1).sum(1, keepdim=True)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def normalized() -> tuple[Normalized, Network]:
    module = seeded(Normalized).double()
    return module, network(module, SIZE)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def plain() -> Network:
    """Without mean and standard deviation, as Captum takes it."""
    return network(conv_net().double(), SIZE)


@pytest.fixture(scope="module")
def dead() -> Network:
    return network(seeded(Dead), SIZE)


@pytest.fixture(scope="module")
def unused() -> Network:
    """Whose second channel does nothing."""
    module = conv_net().double()
    with torch.no_grad():
        module.conv.weight[:, 1] = 0  # type: ignore[union-attr, index]
    return network(module, SIZE)


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def noises(x: Tensor, samples: int, noise: float, seed: int) -> list[Tensor]:
    """One noise for the whole batch and every sample."""
    generator = torch.Generator().manual_seed(seed)
    return [noise * torch.randn(x.shape[1:], generator=generator, dtype=torch.float64) for _ in range(samples)]


def formula(name: str, found: Tensor) -> Tensor:
    """What the papers make of the gradients of one image, (samples, ...)."""
    mean = sum(found) / len(found)
    if name == "smoothgrad":
        return mean
    if name == "vargrad":
        return sum((g - mean) ** 2 for g in found) / len(found)
    return sum(g**2 for g in found) / len(found)


def slow(name: str, score: Any, x: Tensor, samples: int, noise: float, seed: int) -> Tensor:
    """One image and one sample at a time; ``score`` takes images and the number of their owner."""
    maps = []
    for i in range(len(x)):
        found = []
        for drawn in noises(x, samples, noise, seed):
            moved = (x[i : i + 1] + drawn).requires_grad_(True)
            found.append(torch.autograd.grad(score(moved, i).sum(), moved)[0][0])
        maps.append(formula(name, torch.stack(found)))
    return torch.stack(maps)


def shown(x: Tensor) -> Tensor:
    mean, std = torch.tensor((0.4, 0.5, 0.6)).view(1, 3, 1, 1), torch.tensor((0.2, 0.25, 0.3)).view(1, 3, 1, 1)
    return (x - mean) / std


@each_method
@pytest.mark.parametrize(
    ("target", "of", "hand"),
    [
        (["class:4", "class:0", "class:4"], "score", lambda m, x, i: m(shown(x))[:, [4, 0, 4][i]]),
        ("class:3", "cross-entropy", lambda m, x, i: m(shown(x)).log_softmax(1)[:, 3]),
        ("second/5@4,1", "score", lambda m, x, i: m.second(m.relu(m.conv(shown(x))))[:, 5, 4, 1]),
    ],
)
def test_is_a_slow_loop(net: Network, name: str, target: Any, of: Any, hand: Any) -> None:
    x, module = images(3, 3, *SIZE).double(), conv_net().double()
    found = METHODS[name](net, x, target=target, of=of, samples=7, noise=0.3, seed=5)
    expected = slow(name, lambda moved, i: hand(module, moved, i), x, 7, 0.3, 5)
    assert expected.abs().max() > 0
    # Mean and standard deviation of the network are float32 numbers.
    assert (found.values - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert found.kind == ("sensitivity" if name == "smoothgrad" else "amount")
    assert name == "smoothgrad" or found.values.min() >= 0
    with torch.no_grad():
        expected_scores = torch.cat([hand(module, x[i : i + 1], i) for i in range(3)])
    assert (found.scores - expected_scores).abs().max() <= 1e-6


@each_method
@pytest.mark.parametrize("at", ["conv", "norm"])
def test_inside_it_is_of_the_activations_of_noisy_copies(normalized: Any, name: str, at: str) -> None:
    """Also in front of a batch normalization, which loops over many images otherwise fold away."""
    module, net = normalized
    x = images(2, 3, *SIZE).double()
    found = METHODS[name](net, x, target="class:2", at=at, samples=5, noise=0.2)
    head = module.tail if at == "conv" else lambda v: module.fc(torch.relu(v).square().mean((2, 3)))
    maps = []
    for image in x:
        gathered = []
        for drawn in noises(x, 5, 0.2, 0):
            inner = module.conv(image[None] + drawn)
            inner = (inner if at == "conv" else module.norm(inner)).detach().requires_grad_(True)
            gathered.append(torch.autograd.grad(head(inner)[0, 2], inner)[0][0])
        maps.append(formula(name, torch.stack(gathered)))
    expected = torch.stack(maps)
    assert found.values.shape == (2, 6, *SIZE)
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= EXACT * expected.abs().max()
    assert found.at == at


@each_method
def test_a_folded_batch_normalization_changes_nothing(normalized: Any, name: str) -> None:
    module, net = normalized
    x = images(2, 3, *SIZE).double()
    found = METHODS[name](net, x, target="class:2", samples=4, noise=0.2)
    expected = slow(name, lambda moved, _: module(moved)[:, 2], x, 4, 0.2, 0)
    assert (found.values - expected).abs().max() <= EXACT * expected.abs().max()


def test_closed_forms() -> None:
    """Of x^2: g = 2 (x + s n). Of x: g = 1, which does not vary."""
    x = images(2, 2, *SIZE).double()
    square, line = (Network.of(Powers(power).eval(), size=SIZE, channels=2) for power in (2, 1))
    drawn = torch.stack(noises(x, 6, 0.4, 1))
    options = {"target": "class:0", "samples": 6, "noise": 0.4, "seed": 1}
    mean, spread = 2 * (x + drawn.mean(0)), 4 * drawn.var(0, correction=0).expand_as(x)
    for method, expected in [(smoothgrad, mean), (vargrad, spread), (squaregrad, mean**2 + spread)]:
        assert (method(square, x, **options).values - expected).abs().max() < EXACT
    assert smoothgrad(line, x, **options).values.eq(1).all()
    assert not vargrad(line, x, **options).values.any()
    assert squaregrad(line, x, **options).values.eq(1).all()
    assert vargrad(square, x, **options).values.min() > 0.01


def test_it_estimates_the_gradient_of_the_mean_score_also_at_white_pixels() -> None:
    """Of x^3: E 3 (x + s n)^2 = 3 x^2 + 3 s^2, whatever x; noise kept in [0, 1] would give much less at 1."""
    x = torch.ones(1, 1, 20, 30, dtype=torch.float64)
    x[..., :15] = 0
    net = Network.of(Powers(3).eval(), size=(20, 30), channels=1)
    found = smoothgrad(net, x, target="class:0", samples=60, noise=0.3).values[0, 0]
    for part, value in ((found[:, :15], 0.0), (found[:, 15:], 1.0)):
        # 300 pixels of 60 samples; a sample has the standard deviation 3 sqrt(4 x^2 s^2 + 2 s^4).
        error = 3 * math.sqrt(4 * value**2 * 0.09 + 2 * 0.0081) / math.sqrt(300 * 60)
        assert abs(float(part.mean()) - 3 * (value**2 + 0.09)) < 4 * error


@each_method
def test_agrees_with_captum(monkeypatch: pytest.MonkeyPatch, plain: Network, name: str) -> None:
    """captum.attr.NoiseTunnel(Saliency), abs=False, draw_baseline off, with our noise in the place of its own."""
    captum = pytest.importorskip("captum.attr")
    module = conv_net().double()
    x = images(3, 3, *SIZE).double()
    drawn = torch.stack(noises(x, 6, 0.25, 2))
    # Captum repeats every image so many times before it turns to the next.
    monkeypatch.setattr(torch, "normal", lambda _, std: drawn.repeat(3, 1, 1, 1).view_as(std))
    theirs = captum.NoiseTunnel(captum.Saliency(module)).attribute(
        x.clone().requires_grad_(True),
        nt_type={"smoothgrad": "smoothgrad", "vargrad": "vargrad", "squaregrad": "smoothgrad_sq"}[name],
        nt_samples=6,
        stdevs=0.25,
        target=3,
        abs=False,
    )
    monkeypatch.undo()
    ours = METHODS[name](plain, x, target="class:3", samples=6, noise=0.25, seed=2).values
    assert theirs.abs().max() > 0
    assert (ours - theirs).abs().max() <= 1e-10 * theirs.abs().max()


def test_without_noise_it_is_saliency(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    plain = saliency(net, x, target="class:1")
    options = {"target": "class:1", "samples": 3, "noise": 0.0}
    assert (smoothgrad(net, x, **options).values - plain.values).abs().max() <= EXACT * plain.values.abs().max()
    assert vargrad(net, x, **options).values.max() <= EXACT * plain.values.square().max()
    assert smoothgrad(net, x, **options).measured["standard_error"].max() <= 1e-6


@settings(max_examples=15, deadline=None)
@given(first=st.floats(-3, 3), second=st.floats(-3, 3))
def test_smoothgrad_is_linear_in_the_score(net: Network, first: float, second: float) -> None:
    x = images(2, 3, *SIZE).double()
    options = {"samples": 3, "seed": 1}
    whole = smoothgrad(net, x, target=first * ClassScore(1) + second * ClassScore(3), **options).values
    parts = [smoothgrad(net, x, target=f"class:{k}", **options).values for k in (1, 3)]
    assert (whole - first * parts[0] - second * parts[1]).abs().max() < 1e-9


@each_method
def test_a_channel_that_is_not_used_has_nothing(unused: Network, name: str) -> None:
    found = METHODS[name](unused, images(2, 3, *SIZE).double(), samples=4).values
    assert not found[:, 1].any()
    assert found[:, [0, 2]].abs().max() > 0


def test_moments_are_exact_where_sums_of_squares_lose_everything() -> None:
    """Gradients of 1e9 that differ by 1: their squares have 18 digits, and float64 has 16."""
    moments = Moments(2)
    for value in (0.0, 1.0, 2.0):
        moments.add([1, 0], torch.tensor([[1e9 + value], [5 * value]], dtype=torch.float64))
    assert moments.mean.flatten().tolist() == pytest.approx([5, 1e9 + 1], rel=1e-15)
    assert moments.variance().flatten().tolist() == pytest.approx([50 / 3, 2 / 3], rel=1e-9)
    # By hand: sqrt(25 / 3) of a mean of 5.
    assert float(moments.standard_error()[0]) == pytest.approx(math.sqrt(25 / 3) / 5, rel=1e-12)


def test_the_standard_error_is_how_much_maps_of_other_seeds_differ(net: Network) -> None:
    x = images(2, 3, *SIZE).double()
    runs = [smoothgrad(net, x, target="class:1", samples=12, noise=0.3, seed=seed) for seed in range(40)]
    maps = torch.stack([run.values for run in runs])
    true = maps.std(0).flatten(1).mean(1) / maps.mean(0).abs().flatten(1).mean(1)
    said = torch.stack([run.measured["standard_error"] for run in runs]).mean(0)
    # 40 maps tell their spread to 11 %, at each of 189 numbers; a map of noise has larger absolute values.
    assert ((said / true - 1).abs() < 0.15).all()
    quarter = smoothgrad(net, x, target="class:1", samples=192, noise=0.3).measured["standard_error"]
    assert ((4 * quarter / said - 1).abs() < 0.3).all()
    assert "standard_error" not in smoothgrad(net, x, samples=1)[0].measures()


@each_method
def test_progress_chunks_and_company_change_nothing(net: Network, module: nn.Module, name: str) -> None:
    x = images(3, 3, *SIZE).double()
    seen: list[tuple[int, int]] = []
    with untouched(module):
        one_by_one = METHODS[name](net.within(1), x, samples=3, on_progress=lambda *at: seen.append(at))
    together = METHODS[name](net, x, samples=3)
    assert seen == [(done, 9) for done in range(1, 10)]
    assert (one_by_one.values - together.values).abs().max() <= EXACT * together.values.abs().max()


@each_method
def test_a_dead_network_has_maps_of_zeros(dead: Network, name: str) -> None:
    found = METHODS[name](dead, images(2, 3, *SIZE), target="class:0", samples=3)
    assert not found.values.any()
    assert found[0].notes() == ("the map is exactly 0: class:0 is dead on this image",)
    assert all(value == value for value in found[0].measures().values())


@each_method
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 0}, "not 0"),
        ({"noise": -0.1}, "0 or more, such as 0.15, not -0.1"),
        ({"noise": math.nan}, "not nan"),
        ({"noise": math.inf}, "not inf"),
        ({"at": "conv/3"}, "give at='conv'"),
        ({"target": "conv/2", "at": "fc"}, "no path"),
    ],
)
def test_senseless_options_are_refused(net: Network, name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        METHODS[name](net, images(2, 3, *SIZE).double(), **options)


def test_a_variance_of_one_is_refused(net: Network) -> None:
    with pytest.raises(CallError, match="2 samples or more, not 1"):
        vargrad(net, images(2, 3, *SIZE).double(), samples=1)
