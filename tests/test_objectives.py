"""Objectives against numbers by hand and slow replicas, and their algebra."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from inward.columns.objectives import (
    Channel,
    ChannelSum,
    ClassScore,
    CrossEntropy,
    Energy,
    Margin,
    Objective,
    Probability,
    Unit,
    Weighted,
    interpolate,
)
from inward.columns.penalties import L2
from inward.errors import CallError
from inward.gradient import gradient, keys_of, trace_for
from inward.network.network import Network

EXACT = 1e-12  # float64, one to thirty additions of numbers near 1


class Net(nn.Module):
    """A map of 5 x 7 positions, a token row without a grid, four classes and a second output."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.norm = nn.LayerNorm(35)
        self.fc = nn.Linear(105, 4)
        self.second = nn.Linear(105, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.tanh(self.conv(x))
        rows = self.norm(maps.flatten(2)).flatten(1)
        return self.fc(rows), self.second(rows)


class Sequence(nn.Module):
    """Tokens of a map in front of the batch, behind a class token: (1 + Y X, N, C)."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.embed = nn.Linear(3, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.conv(x).flatten(2).permute(2, 0, 1)
        return self.fc(torch.tanh(self.embed(torch.cat([maps.mean(0, keepdim=True), maps])))).mean(0)


class One(nn.Module):
    """One logit, the mean of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x.mean((1, 2, 3))[:, None]


@pytest.fixture(scope="module")
def module() -> Net:
    return Net().double().eval()


@pytest.fixture(scope="module")
def net(module: Net) -> Network:
    return Network.of(module, size=(5, 7), labels=["ant", "bee", "cat", "dog"])


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand((3, 2, 5, 7), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def score(net: Network, images: Tensor, objective: Objective) -> Tensor:
    return objective(net.trace(images, objective.addresses)).detach()


def logits(values: list[list[float]]) -> Network:
    """A network whose logits are these numbers for the images whose first pixel is 0, 1, ... over their count."""
    count = len(values)

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.tensor(values, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.table[(x[:, 0, 0, 0] * count).round().long()] + 0 * x.mean((1, 2, 3))[:, None]

    return Network.of(Fixed().eval(), size=(2, 3), channels=1)


def test_unit_and_channel_are_what_the_layer_gives(net: Network, module: Net, images: Tensor) -> None:
    with torch.no_grad():
        maps = module.conv(images)
    # The center of 5 x 7 is (2, 3); of an even side n the position n / 2.
    for objective, expected in [
        (Unit("conv/1"), maps[:, 1, 2, 3]),
        (Unit("conv/1@4,6"), maps[:, 1, 4, 6]),
        (Channel("conv/2"), maps[:, 2].sum((1, 2)) / 35),
        (ChannelSum("conv/2"), sum(maps[:, 2, y, x] for y in range(5) for x in range(7))),
        (Energy("conv"), (maps**2).sum((1, 2, 3)) / 105),
        (Unit("class:3"), module(images)[0][:, 3].detach()),
        (Unit("class:bee"), module(images)[0][:, 1].detach()),
        (Channel("class:bee"), module(images)[0][:, 1].detach()),
        (ChannelSum("class:bee"), module(images)[0][:, 1].detach()),
        (Energy("class"), (module(images)[0].detach() ** 2).sum(1) / 4),
        (Channel("class@1:1"), module(images)[1][:, 1].detach()),
    ]:
        torch.testing.assert_close(score(net, images, objective), expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize(("size", "center"), [((6, 8), (3, 4)), ((5, 8), (2, 4)), ((1, 1), (0, 0))])
def test_the_center_of_an_even_grid_is_the_first_behind_the_middle(
    size: tuple[int, int], center: tuple[int, int]
) -> None:
    conv = nn.Conv2d(1, 1, 1).double().eval()
    net = Network.of(nn.Sequential(conv).eval(), size=size)
    image = torch.rand((2, 1, *size), dtype=torch.float64)
    _, found = gradient(net, image, Unit("0/0"))
    assert found.nonzero().tolist() == [[0, 0, *center], [1, 0, *center]]


def test_class_score_cross_entropy_and_margin_against_slow_replicas(net: Network, module: Net, images: Tensor) -> None:
    values, classes = module(images)[0].detach(), (3, 0, 2)
    for i, y in enumerate(classes):
        z = [float(v) for v in values[i]]
        slow = {
            ClassScore: z[y],
            CrossEntropy: math.log(sum(math.exp(v) for v in z)) - z[y],
            Margin: max(v for j, v in enumerate(z) if j != y) - z[y],
            Probability: math.exp(z[y]) / sum(math.exp(v) for v in z),
        }
        for kind, expected in slow.items():
            assert float(score(net, images, kind(classes))[i]) == pytest.approx(expected, abs=EXACT)
            assert float(score(net, images, kind(y))[i]) == pytest.approx(expected, abs=EXACT)


def test_objectives_of_logits_by_hand() -> None:
    net = logits([[2.0, 2.0, 2.0, 2.0], [0.0, math.log(3), -1e30, -1e30], [1000.0, 0.0, 0.0, 999.0]])
    images = (torch.arange(3, dtype=torch.float64) / 3).view(3, 1, 1, 1).expand(3, 1, 2, 3)
    # Four equal logits: log 4. Odds of 1 to 3: log 4 away from the first class. Far logits do not overflow.
    entropy = score(net, images, CrossEntropy(0)).tolist()
    assert entropy == pytest.approx([math.log(4), math.log(4), math.log1p(math.exp(-1))], abs=EXACT)
    assert score(net, images, Margin(0)).tolist() == pytest.approx([0, math.log(3), -1], abs=EXACT)
    assert score(net, images, Margin((1, 1, 1))).tolist() == pytest.approx([0, -math.log(3), 1000], abs=EXACT)
    assert score(net, images, ClassScore((3, 1, 0))).tolist() == pytest.approx([2, math.log(3), 1000], abs=EXACT)
    even = [1 / 4, 1 / 4, 1 / (1 + math.exp(-1))]
    assert score(net, images, Probability(0)).tolist() == pytest.approx(even, abs=EXACT)
    assert score(net, images, Probability((1, 1, 3))).tolist() == pytest.approx([1 / 4, 3 / 4, 1 - even[2]], abs=EXACT)


def test_the_energy_of_tokens_is_of_all_tokens_of_each_image(images: Tensor) -> None:
    """The batch is the second axis, and the class token counts."""
    module = Sequence().double().eval()
    net = Network.of(module, size=(5, 7))
    assert net.points["embed"].layout.axes == ("t", "n", "c")
    with torch.no_grad():
        maps = module.conv(images).flatten(2).permute(2, 0, 1)
        rows = module.embed(torch.cat([maps.mean(0, keepdim=True), maps]))
    slow = [sum(float(v) ** 2 for v in rows[:, i].flatten()) / (36 * 4) for i in range(3)]
    assert score(net, images, Energy("embed")).tolist() == pytest.approx(slow, abs=EXACT)


F0, F1, F2 = ClassScore(0), Unit("conv/1@1,2"), L2()


@pytest.mark.parametrize(
    ("objective", "weights"),
    [
        (2 * F0 + 3 * F1, (2, 3, 0)),
        (3 * F1 + 2 * F0, (2, 3, 0)),
        (F0 * 2 + F1 * 3, (2, 3, 0)),
        (F0 - F1, (1, -1, 0)),
        (-F0, (-1, 0, 0)),
        (-(F0 - 2 * F1), (-1, 2, 0)),
        (2 * (F0 + 3 * (F1 - 0.5 * F2)), (2, 6, -3)),
        ((F0 + F1) - (F1 + F2), (1, 0, -1)),
        (F0 - (F1 - (F2 - F0)), (0, -1, 1)),
        (F0 + F0 + F0, (3, 0, 0)),
        (0 * F0 + F1, (0, 1, 0)),
    ],
)
def test_the_algebra_is_that_of_numbers(net: Network, images: Tensor, objective: Objective, weights: tuple) -> None:
    parts = torch.stack([score(net, images, f) for f in (F0, F1, F2)])
    expected = torch.tensor(weights, dtype=torch.float64) @ parts
    torch.testing.assert_close(score(net, images, objective), expected, rtol=0, atol=1e-11)
    assert parts.abs().min() > 1e-3


def test_the_algebra_leaves_its_parts_as_they_were(net: Network, images: Tensor) -> None:
    a, b = 2 * ClassScore(1) + L2(), Channel("conv/2")
    before = score(net, images, a), score(net, images, b)
    terms = a.terms  # type: ignore[attr-defined]
    _ = a * 2, a - b, -a, b - a, 3 * (a + b)
    assert a.terms == terms  # type: ignore[attr-defined]
    assert torch.equal(score(net, images, a), before[0])
    assert torch.equal(score(net, images, b), before[1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        b.address = "conv/0"  # type: ignore[misc]
    assert (a + b).addresses == ("class", "conv/2")
    assert (F1 + F1).addresses == ("conv/1@1,2",)
    assert hash(2 * F0 + F1) == hash(2 * F0 + F1)


@pytest.mark.parametrize(
    "objective",
    [
        ClassScore((3, 0, 2)),
        CrossEntropy((3, 0, 2)),
        Margin((3, 0, 2)),
        Probability((3, 0, 2)),
        Unit("conv/1"),
        Channel("conv/0"),
        ChannelSum("conv/0"),
        Energy("conv"),
        L2(),
    ],
    ids=lambda o: type(o).__name__,
)
def test_a_score_and_its_gradient_do_not_depend_on_the_rest_of_the_batch(
    net: Network, images: Tensor, objective: Objective
) -> None:
    scores, gradients = gradient(net, images, objective)
    for i in range(3):
        own = dataclasses.replace(objective, classes=(3, 0, 2)[i]) if hasattr(objective, "classes") else objective
        alone, found = gradient(net, images[i : i + 1], own)
        torch.testing.assert_close(alone, scores[i : i + 1], rtol=0, atol=1e-11)
        torch.testing.assert_close(found, gradients[i : i + 1], rtol=0, atol=1e-11)
    assert gradients.abs().amax((1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize(
    "objective",
    [
        ClassScore((3, 0, 2)),
        Probability((3, 0, 2)),
        Unit("conv/1"),
        Channel("conv/0"),
        ChannelSum("conv/0"),
        Energy("conv"),
        interpolate(Energy("conv"), Probability(1), 0.25) - 0.5 * ChannelSum("conv/2"),
    ],
    ids=lambda o: type(o).__name__,
)
def test_gradients_are_finite_differences(net: Network, images: Tensor, objective: Objective) -> None:
    keys = keys_of(net, objective)
    run = images.clone().requires_grad_(True)
    # Central differences of 1e-6: good to 1e-12 by the step, to 1e-10 by rounding.
    assert torch.autograd.gradcheck(lambda x: objective(trace_for(net, x, keys)), run, atol=1e-7, rtol=1e-6)
    assert gradient(net, images, objective)[1].abs().amax((1, 2, 3)).min() > 1e-4


def test_interpolation_goes_from_the_first_to_the_second(net: Network, images: Tensor) -> None:
    first, second = ClassScore(0), ChannelSum("conv/1")
    a, b = score(net, images, first), score(net, images, second)
    assert (a - b).abs().min() > 1e-3
    for share, expected in [(0, a), (1, b), (0.25, 0.75 * a + 0.25 * b)]:
        torch.testing.assert_close(score(net, images, interpolate(first, second, share)), expected, rtol=0, atol=EXACT)
    assert interpolate(first, second, 0.25) == Weighted(((0.75, first), (0.25, second)))


@pytest.mark.parametrize("share", [-0.01, 1.01, math.nan, math.inf])
def test_a_share_is_between_none_and_all(share: float) -> None:
    with pytest.raises(CallError, match="in 0 to 1, not"):
        interpolate(F0, F1, share)


def test_probabilities_add_up_and_have_no_gradient_where_the_network_is_sure() -> None:
    class Sure(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([0.0, 900.0, 1.0, -1.0], dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x.mean((1, 2, 3))[:, None]

    net = Network.of(Sure().eval(), size=(2, 3), channels=1)
    images = torch.tensor([1e-3, 1.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 1, 2, 3)
    total = torch.stack([score(net, images, Probability(k)) for k in range(4)]).sum(0)
    assert total.tolist() == pytest.approx([1, 1], abs=EXACT)
    found, slope = gradient(net, images, Probability(1))
    assert found[1] == 1
    assert slope[1].abs().max() < 1e-300 < slope[0].abs().min()


class Grouped(Objective):
    """Of so many neighbors, 0: of the whole batch."""

    def __init__(self, group: int) -> None:
        self.count = group

    @property
    def addresses(self) -> tuple[str, ...]:
        return ()

    @property
    def group(self) -> int:
        return self.count

    def __call__(self, trace):
        return trace.images.new_zeros(len(trace.images))


@pytest.mark.parametrize(("groups", "whole"), [((1, 1), 1), ((1, 3), 3), ((2, 3), 6), ((4, 2), 4), ((1, 0, 2), 0)])
def test_a_sum_keeps_the_groups_of_all_its_parts_whole(groups: tuple[int, ...], whole: int) -> None:
    assert sum(Grouped(g) for g in groups).group == whole  # type: ignore[union-attr]


def test_selecting_serves_a_batch_that_holds_every_image_several_times(net: Network, images: Tensor) -> None:
    objective = 2 * Margin((3, 0, 2)) - CrossEntropy(1) + L2()
    once = score(net, images, objective)
    thrice = score(net, torch.cat([images] * 3), objective.select([0, 1, 2] * 3))
    torch.testing.assert_close(thrice, once.repeat(3), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (ClassScore(4), "classes must be in 0 to 3, not 4"),
        (CrossEntropy(-1), "classes must be in 0 to 3, not -1"),
        (Margin((0, 1, 4)), r"0 to 3, not \(0, 1, 4\)"),
        (ClassScore((0, 1)), "2 classes for 3 images"),
        (ClassScore((0,)), "there is 1 class for 3 images"),
        (ClassScore(2, output=1), "0 to 1, not 2"),
        (Unit("conv"), "'conv' is a whole point"),
        (Unit("norm"), "'norm' is a whole point"),
        (Channel("conv"), "'conv' is a whole point"),
        (Channel("class"), "'class' is a whole point"),
        (ChannelSum("conv"), "'conv' is a whole point"),
        (Probability(4), "classes must be in 0 to 3, not 4"),
    ],
)
def test_wrong_classes_and_whole_points_are_refused(
    net: Network, images: Tensor, objective: Objective, message: str
) -> None:
    with pytest.raises(CallError, match=message):
        score(net, images, objective)


@pytest.mark.parametrize(("address", "whole"), [("conv/1", "conv"), ("conv/1@2,3", "conv"), ("class:bee", "class")])
def test_an_energy_is_of_a_whole_point(address: str, whole: str) -> None:
    with pytest.raises(
        CallError, match=f"^Energy is of a whole point, and '{address}' is a unit of one; give '{whole}'"
    ):
        Energy(address)


def test_an_energy_needs_to_know_the_batch(images: Tensor) -> None:
    class Flipped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return (self.scale * x).flip(0).flip(0).mean((2, 3)) + x.mean((2, 3))

    net = Network.of(Flipped().eval(), size=(5, 7), channels=2)
    assert "n" not in net.points["flip"].layout.axes
    with pytest.raises(CallError, match="which axis of 'flip' is the batch is not known"):
        score(net, images, Energy("flip"))


def test_a_margin_needs_two_classes() -> None:
    net = Network.of(One().eval(), size=(3, 4), channels=2)
    images = torch.full((2, 2, 3, 4), 0.25, dtype=torch.float64)
    assert score(net, images, ClassScore(0)).tolist() == [0.25, 0.25]
    with pytest.raises(CallError, match="two classes"):
        score(net, images, Margin(0))


@pytest.mark.parametrize(
    "call", [lambda f: f + 1, lambda f: 1 + f, lambda f: f - 1, lambda f: f * f, lambda f: f * "2"]
)
def test_only_objectives_are_added_and_only_numbers_multiply(call) -> None:
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
        call(ClassScore(0))


def test_weighted_of_the_same_class_is_flat() -> None:
    nested = 2 * (F0 + 3 * (F1 + F2))
    assert nested == Weighted(((2.0, F0), (6.0, F1), (6.0, F2)))
