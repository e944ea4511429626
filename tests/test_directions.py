"""Directions against dot products by hand and slow replicas, on grids, tokens and vectors, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inward.columns.directions import Caricature, CosineDirection, Direction, caricature, difference
from inward.columns.objectives import Channel, ClassScore, Energy, Objective, Unit
from inward.columns.paths import Line
from inward.errors import CallError
from inward.gradient import gradient, keys_of, mean_gradient, trace_for
from inward.network.network import Network
from networks import Same
from same import seeded, untouched

EXACT = 1e-12  # float64, up to some hundred additions of numbers near 1


class Tokens(nn.Module):
    """A map of 5 x 7, the same as tokens behind a class token, and four logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.block = nn.TransformerEncoderLayer(3, 1, 6, batch_first=True, activation="gelu")
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.tanh(2 * self.conv(x)).flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(1, keepdim=True) + 1, rows], 1)
        return self.fc(self.block(rows)[:, 0])


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return seeded(Tokens).double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    net = Network.of(module, size=(5, 7), labels=["ant", "bee", "cat", "dog"])
    assert net.points["block"].layout.prefix == 1
    return net


@pytest.fixture(scope="module")
def same() -> Network:
    return Network.of(Same(3).double().eval(), size=(5, 7))


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return rand(3, 2, 5, 7)


# Of numbers of both signs, and not of length 1.
VECTOR = torch.tensor([0.75, -1.5, 0.5], dtype=torch.float64)
VECTORS = torch.stack([VECTOR, VECTOR.flip(0), -2 * VECTOR])
LOGIT = torch.tensor([1.0, -2, 0.5, 3], dtype=torch.float64)
TARGET = rand(3, 5, 7, seed=3) - 0.5
TARGETS = rand(3, 3, 5, 7, seed=4) - 0.5

OBJECTIVES: dict[str, Objective] = {
    "grid": Direction("conv", VECTOR),
    "place": Direction("conv", VECTOR, (4, 6)),
    "tokens": Direction("block", VECTORS),
    "logits": Direction("class", LOGIT),
    "cosine": CosineDirection("conv", VECTOR),
    "cosine of each": CosineDirection("block", VECTORS, 1.5),
    "cosine at a place": CosineDirection("block", VECTOR, 4, (0, 5)),
    "cosine of logits": CosineDirection("class", LOGIT, 1),
    "caricature": Caricature("conv", TARGET),
    "caricature of each": Caricature("block", TARGETS, 2),
    "caricature of logits": Caricature("class", LOGIT, 0.5),
    "caricature of each's logits": Caricature("class", torch.stack([LOGIT, -LOGIT, LOGIT.flip(0)])),
}


def score(net: Network, images: Tensor, objective: Objective) -> Tensor:
    return objective(trace_for(net, images, keys_of(net, objective))).detach()


def slow(features: list[Tensor], targets: list[Tensor], power: float) -> float:
    """The mean over positions, each a pair of vectors, of a·t max(0.1, cos)^power."""
    total = 0.0
    for a, t in zip(features, targets, strict=True):
        dot = math.fsum(float(x) * float(y) for x, y in zip(a, t, strict=True))
        lengths = math.hypot(*a.tolist()) * math.hypot(*t.tolist())
        total += dot * max(0.1, dot / lengths) ** power
    return total / len(features)


def positions(net: Network, images: Tensor, point: str, i: int) -> list[Tensor]:
    """The features of an image, position by position, read without layouts."""
    value = net.trace(images, point)[point].detach()[i]
    if point == "class":
        return [value]
    return list(value[1:]) if point == "block" else list(value.flatten(1).T)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_scores_against_a_slow_replica(net: Network, images: Tensor, name: str) -> None:
    objective = OBJECTIVES[name]
    found = score(net, images, objective)
    given = objective.target if isinstance(objective, Caricature) else objective.vector  # type: ignore[attr-defined]
    power = getattr(objective, "power", 0)
    place = getattr(objective, "place", None)
    for i in range(3):
        features = positions(net, images, objective.addresses[0], i)
        own = given[i] if "each" in name or name == "tokens" else given
        targets = list(own.flatten(1).T) if own.ndim == 3 else [own] * len(features)
        if place is not None:
            features, targets = [features[place[0] * 7 + place[1]]], [own]
        assert float(found[i]) == pytest.approx(slow(features, targets, power), abs=EXACT)
    assert len(set(found.tolist())) == 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_are_finite_differences(net: Network, images: Tensor, name: str) -> None:
    """Central differences of 1e-6: good to 1e-9 where no cosine crosses the floor, and none does here."""
    objective = OBJECTIVES[name]
    keys = keys_of(net, objective)
    run = images.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: objective(trace_for(net, x, keys)), run, atol=1e-7, rtol=1e-6)
    assert gradient(net, images, objective)[1].abs().amax((1, 2, 3)).min() > 1e-5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_selecting_serves_each_image_with_its_own(net: Network, images: Tensor, name: str) -> None:
    """Alone, turned around and several times: its score and its gradient are its own."""
    objective = OBJECTIVES[name]
    scores, gradients = gradient(net, images, objective)
    for kept in ([1], [2, 0], [0, 1, 2, 0, 1, 2]):
        some, found = gradient(net, images[kept], objective.select(kept))
        torch.testing.assert_close(some, scores[kept], rtol=0, atol=EXACT)
        torch.testing.assert_close(found, gradients[kept], rtol=0, atol=EXACT)
    assert objective.group == 1


def test_a_unit_vector_is_a_unit(net: Network, images: Tensor) -> None:
    second = torch.eye(4, dtype=torch.float64)[1]
    for direction, objective in [
        (Direction("conv", second[:3]), Channel("conv/1")),
        (Direction("block", second[:3]), Channel("block/1")),
        (Direction("block", second[:3], (3, 6)), Unit("block/1@3,6")),
        (Direction("class", second), ClassScore(1)),
    ]:
        expected = score(net, images, objective)
        torch.testing.assert_close(score(net, images, direction), expected, rtol=0, atol=EXACT)
        assert expected.abs().min() > 1e-3


def test_by_hand(same: Network) -> None:
    """One color throughout: (3, 4, 0) / 5 has the cosine 0.6 with red, 0 with blue and 0.8 with green."""
    image = torch.zeros((2, 3, 5, 7), dtype=torch.float64)
    image[:, 0], image[:, 1] = 0.6, 0.8
    image[1] *= 0.5
    red, green, blue = torch.eye(3, dtype=torch.float64)
    for objective, expected in [
        (Direction("same", 2 * red), 1.2),
        (CosineDirection("same", 2 * red), 1.2 * 0.6**2),
        (CosineDirection("same", 2 * green, 1, (4, 6)), 1.6 * 0.8),
        (CosineDirection("same", red, 0.5), 0.6 * math.sqrt(0.6)),
        # Against it and across: the floor, with the sign of the dot product.
        (CosineDirection("same", -red), -0.6 * 0.1**2),
        (CosineDirection("same", blue), 0),
        (Caricature("same", image[0]), 1),
        (Caricature("same", -image[0], 3), -(0.1**3)),
    ]:
        # Half the features, half the score: the cosine knows no length.
        assert score(same, image, objective).tolist() == pytest.approx([expected, expected / 2], abs=EXACT)


def test_a_power_of_none_is_the_dot_product(net: Network, images: Tensor) -> None:
    plain = score(net, images, Direction("block", VECTOR))
    assert torch.equal(score(net, images, CosineDirection("block", VECTOR, 0)), plain)
    even = VECTOR[:, None, None].expand(3, 5, 7)
    torch.testing.assert_close(score(net, images, Caricature("block", even, 0)), plain, rtol=0, atol=EXACT)
    pointed = score(net, images, CosineDirection("block", VECTOR, 1.5))
    torch.testing.assert_close(score(net, images, Caricature("block", even, 1.5)), pointed, rtol=0, atol=EXACT)
    assert (pointed - plain).abs().min() > 1e-3


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100), st.floats(0.05, 1), st.integers(0, 100))
def test_scores_grow_with_the_vector_and_with_the_features(same: Network, length: float, bright: float, seed: int):
    """The dot product grows with both lengths, the cosine with neither."""
    image, vector = rand(2, 3, 5, 7, seed=seed), rand(3, seed=seed + 1)
    for objective, longer in [
        (CosineDirection("same", vector), CosineDirection("same", length * vector)),
        (Direction("same", vector), Direction("same", length * vector)),
        (Caricature("same", image[0]), Caricature("same", length * image[0])),
    ]:
        before = score(same, image, objective)
        torch.testing.assert_close(score(same, image, longer), length * before, rtol=1e-9, atol=0)
        torch.testing.assert_close(score(same, bright * image, objective), bright * before, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-5])
def test_features_near_nothing_have_a_finite_gradient(dtype: torch.dtype, scale: float) -> None:
    """Where everything is dead the dot product alone still points the way: v times the floor's power."""
    net = Network.of(Same(3).to(dtype).eval(), size=(5, 7))
    image = torch.full((2, 3, 5, 7), scale, dtype=dtype)
    image[:, 2] = 0
    vector = torch.tensor([1.0, 1.0, 0.0])
    scores, found = gradient(net, image, CosineDirection("same", vector, 2))
    assert scores.isfinite().all()
    assert found.isfinite().all()
    floor = 0.1**2 / 35
    expected = floor if image[0, 0, 0, 0].item() < 1e-20 else 1 / 35
    # float16 keeps three digits, and sums of the gradient's parts lose one more.
    assert found[:, 0].flatten().tolist() == pytest.approx([expected] * 70, rel=1e-2)


def test_the_vector_is_a_constant_copy(net: Network, images: Tensor) -> None:
    mine = VECTOR.clone().requires_grad_(True)
    objective = CosineDirection("conv", mine)
    before = score(net, images, objective)
    with torch.no_grad():
        mine.mul_(5)
    assert torch.equal(score(net, images, objective), before)
    gradient(net, images, objective)
    assert mine.grad is None
    assert not objective.vector.requires_grad
    assert objective != CosineDirection("conv", mine)


def test_what_was_made_in_inference_mode_can_be_climbed(net: Network, images: Tensor) -> None:
    plain = gradient(net, images, Caricature("conv", score_of(net, images)))[1]
    with torch.inference_mode():
        made = [Direction("conv", VECTOR * 1), caricature(net, images[:1] * 1, "conv")]
        direction = difference(net, images[:1] * 1, images[1:] * 1, "conv")
    assert not direction.is_inference()
    assert gradient(net, images, made[0])[1].abs().max() > 0
    assert torch.equal(gradient(net, images, made[1])[1], plain)


def score_of(net: Network, images: Tensor) -> Tensor:
    return net.trace(images, "conv")["conv"][0].detach()


def test_the_algebra_is_that_of_numbers(net: Network, images: Tensor) -> None:
    parts = [OBJECTIVES["cosine of each"], OBJECTIVES["caricature"], Energy("conv")]
    whole = 2 * (parts[0] - 0.5 * parts[1]) + parts[2]
    a, b, c = (score(net, images, part) for part in parts)
    torch.testing.assert_close(score(net, images, whole), 2 * a - b + c, rtol=0, atol=1e-11)
    assert whole.addresses == ("block", "conv")
    some = [2, 1]
    torch.testing.assert_close(score(net, images[some], whole.select(some)), (2 * a - b + c)[some], rtol=0, atol=1e-11)


def test_a_mean_gradient_takes_each_image_s_own_target(net: Network, images: Tensor) -> None:
    objective = OBJECTIVES["caricature of each"]
    path = Line(torch.zeros_like(images), 4)
    together = mean_gradient(net, images, objective, path, chunk=12)[1]
    torch.testing.assert_close(mean_gradient(net, images, objective, path, chunk=1)[1], together, rtol=0, atol=EXACT)


def test_a_difference_is_of_mean_features_and_of_length_one(net: Network, module: nn.Module) -> None:
    first, second = rand(3, 2, 5, 7, seed=8), rand(2, 2, 6, 4, seed=9)
    with torch.no_grad():
        conv = module.conv  # type: ignore[attr-defined]
        gap = conv(first).mean((0, 2, 3)) - conv(second).mean((0, 2, 3))
    with untouched(module):
        found = difference(net, first, second, "conv")
    torch.testing.assert_close(found, gap / gap.square().sum().sqrt(), rtol=0, atol=1e-11)
    torch.testing.assert_close(difference(net, second, first, "conv"), -found, rtol=0, atol=EXACT)
    # It leads from the second to the first: along it the first score higher, by the length of the gap.
    ahead = [score(net, x, Direction("conv", found)).mean() for x in (first, second)]
    torch.testing.assert_close(ahead[0] - ahead[1], gap.norm(), rtol=0, atol=1e-11)


def test_a_difference_by_hand(same: Network) -> None:
    gray = torch.full((1, 3, 5, 7), 0.5, dtype=torch.float64)
    other = gray.clone()
    other[:, 0] += 0.3
    other[:, 2] -= 0.4
    for point in ("same", "class"):
        assert difference(same, other, gray, point).tolist() == pytest.approx([0.6, 0, -0.8], abs=EXACT)
    with pytest.raises(CallError, match="same mean features at 'same'; give two that differ"):
        difference(same, gray, gray, "same")
    with pytest.raises(CallError, match="'same/1' is a unit; leave out the unit"):
        difference(same, other, gray, "same/1")


@pytest.mark.parametrize("point", ["conv", "block", "class"])
def test_a_caricature_is_of_the_image_s_features(net: Network, module: nn.Module, images: Tensor, point: str) -> None:
    with untouched(module):
        one, each = caricature(net, images[:1], point, 2), caricature(net, images, point)
    shape = (4,) if point == "class" else (3, 5, 7)
    assert (one.target.shape, one.power) == (shape, 2)
    assert (each.target.shape, each.power) == ((3, *shape), 1)
    # Of itself the cosine is 1, so that the score is the mean square length.
    length = net.trace(images, point).features(point).detach().square().sum(1)
    length = length.view(3, -1).mean(1)
    torch.testing.assert_close(score(net, images, each), length, rtol=0, atol=1e-11)
    torch.testing.assert_close(score(net, images, one)[:1], length[:1], rtol=0, atol=1e-11)
    assert (score(net, images, one) - length).abs()[1:].min() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Direction("conv/1", VECTOR), "Direction is of a whole point, and 'conv/1' is a unit"),
        (lambda: Caricature("class:bee", LOGIT), "'class:bee' is a unit of one; give 'class'"),
        (lambda: Direction("conv", 0 * VECTOR), "finite numbers that are not all 0"),
        (lambda: Caricature("conv", TARGET * math.nan), "finite numbers that are not all 0"),
        (lambda: Direction("conv", TARGET), r"\(C,\) or \(N, C\), not \(3, 5, 7\)"),
        (lambda: Caricature("conv", TARGETS[None]), r"or \(N, C, Y, X\), not \(1, 3, 3, 5, 7\)"),
        (lambda: CosineDirection("conv", VECTOR, -1), "from 0 up, not -1"),
        (lambda: Caricature("conv", TARGET, math.nan), "from 0 up, not nan"),
    ],
)
def test_what_makes_no_direction_is_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Direction("conv", LOGIT), r"vector is of the shape \(4,\) and the features of 'conv' are of \(3,\)"),
        (Direction("conv", VECTORS[:2]), "2 vectors for 3 images"),
        (Direction("conv", VECTOR, (5, 0)), "5 x 7"),
        (Direction("block", VECTOR, (0, 7)), "5 x 7"),
        (CosineDirection("block", VECTOR, 2, (-1, 0)), "5 x 7"),
        (Direction("class", LOGIT, (0, 0)), "'class' has no grid"),
        (Caricature("conv", TARGET.transpose(1, 2)), r"\(3, 7, 5\) and the features of 'conv' are of \(3, 5, 7\)"),
        (Caricature("conv", VECTOR), r"target is of the shape \(3,\)"),
        (Caricature("conv", TARGETS[:2]), "2 targets for 3 images"),
    ],
)
def test_what_does_not_fit_the_point_is_refused(
    net: Network, images: Tensor, objective: Objective, message: str
) -> None:
    with pytest.raises(CallError, match=message):
        score(net, images, objective)
