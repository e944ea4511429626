"""Networks that draw random numbers: averaged gradients, honest success, and draws that come from the seed alone."""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import conv_net, network
from inward import CallError, Network, autoattack, fgsm, pgd
from inward.ascent import Row, ascend
from inward.columns.augmentations import Jitter
from inward.columns.expectation import Expected
from inward.columns.objectives import Channel, ClassScore, CrossEntropy
from inward.columns.parameterizations import Fourier
from inward.columns.penalties import L2
from inward.columns.steps import adam
from inward.gradient import gradient
from inward.methods.looked import look
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.network.graph import Graph
from inward.network.modes import drawing
from same import images, seeded, untouched
from test_methods import ARGUMENTS, call, given

SIZE = (9, 7)
CPU = torch.device("cpu")
ATTACKS = [row for row in TABLE if row.command == "attack"]
pytestmark = pytest.mark.usefixtures("single_thread")


class Slopes(nn.Module):
    """Logits whose slopes have normal noise of deviation 2; drawn for each image, or once for the batch."""

    def __init__(self, once: bool, size: tuple[int, int] = (30, 20)) -> None:
        super().__init__()
        self.once = once
        self.fc = nn.Linear(3 * math.prod(size), 4)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        noise = torch.randn((1 if self.once else flat.shape[0], 4, flat.shape[1]), dtype=x.dtype)
        return self.fc(flat) + 2 * (flat[:, None] * noise).sum(2)


class Noisy(nn.Module):
    """Noise on the image, dropout that stays on, noise in a feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second(x + 0.1 * torch.randn_like(x)).relu()
        h = F.dropout(h, 0.3, training=True)
        return self.fc(10 * (h + 0.1 * torch.rand(h.shape, dtype=h.dtype)).mean((2, 3)))


class Masked(nn.Module):
    """Waves of random phase: they hardly change the answer, and their slope is 20 times that of the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * math.prod(SIZE), 2)

    def forward(self, x: Tensor) -> Tensor:
        phase = 2 * math.pi * torch.rand(x.shape, dtype=x.dtype)
        return self.fc((x + 20 / 1e5 * (1e5 * x + phase).sin()).flatten(1))


class Coin(nn.Module):
    """Answers 0 or 1 by chance, whatever the image is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * torch.randn(x.shape[0], 2) + 0 * x.flatten(1)[:, :2]


@functools.cache
def noisy_module() -> nn.Module:
    return seeded(Noisy)


@functools.cache
def noisy() -> Network:
    return network(noisy_module(), SIZE)


@functools.cache
def slopes(once: bool) -> Network:
    return network(seeded(lambda: Slopes(once)).double(), (30, 20), channels=3)


@functools.cache
def plain() -> Network:
    return network(conv_net().double(), SIZE)


@pytest.mark.parametrize("once", [False, True], ids=["each image", "the whole batch"])
@pytest.mark.parametrize("runs", [1, 4, 16])
def test_the_variance_of_the_mean_gradient_falls_as_one_over_the_runs(runs: int, once: bool) -> None:
    net, x = slopes(once), images(3, 3, 30, 20, dtype=torch.float64)
    weights = net._source.weights()["fc.weight"]
    with drawing(3, CPU):
        _, found = gradient(net, x, Expected(ClassScore(1), runs))
    noise = found[:1].flatten(1) - weights[1]
    # Of 1800 normal numbers the variance is known to 3.3 %, and their mean to 2.4 % of the deviation; 4.5 times that.
    assert noise.square().mean().item() == pytest.approx(4 / runs, rel=0.15)
    assert abs(noise.mean().item()) < 0.11 * 2 / math.sqrt(runs)


def test_it_is_the_mean_of_single_runs_of_the_same_draws() -> None:
    net, x, objective = (
        noisy().to(dtype=torch.float64),
        images(3, 3, *SIZE, dtype=torch.float64),
        CrossEntropy((0, 1, 2)),
    )
    with drawing(5, CPU):
        singles = [gradient(net, x, objective) for _ in range(3)]
    with drawing(5, CPU):
        score, slope = gradient(net, x, Expected(objective, 3))
    # Sums in another order.
    torch.testing.assert_close(score, torch.stack([s for s, _ in singles]).mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(slope, torch.stack([g for _, g in singles]).mean(0), rtol=0, atol=1e-12)
    assert (singles[0][1] - singles[1][1]).abs().max() > 0.1 * slope.abs().max()


def test_each_run_is_one_run_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Graph.run, []

    def run(graph: Graph, *arguments: Any) -> Any:
        count.append(1)
        return real(graph, *arguments)

    # Making and checking the graph takes runs of its own.
    assert noisy().is_graph
    monkeypatch.setattr(Graph, "run", run)
    look(noisy(), images(3, 3, *SIZE), Expected(CrossEntropy((0, 1, 2)), 6))
    assert len(count) == 6


def test_of_a_network_that_draws_nothing_it_is_the_objective_in_sums_and_in_selections() -> None:
    net, x = plain(), images(3, 3, *SIZE, dtype=torch.float64)
    other = 0.5 * Channel("second/3")
    wanted = gradient(net, x, CrossEntropy((0, 1, 2)) - other)
    found = gradient(net, x, Expected(CrossEntropy((0, 1, 2)), 4) - other)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    last = gradient(net, x[1:], Expected(CrossEntropy((0, 1, 2)), 4).select([1, 2]))
    torch.testing.assert_close(last, gradient(net, x[1:], CrossEntropy((1, 2))), rtol=0, atol=1e-12)


def test_an_ascent_of_parameters_with_augmentations_and_penalties_climbs_it_too() -> None:
    """The picture and what the network is shown of it are two things then."""
    net, objective = plain(), Channel("second/3") - 0.1 * L2()
    pictures = []
    for each in (objective, Expected(objective, 2)):
        row = Row(each, adam(0.05), 4, parameterization=Fourier(), augmentation=Jitter(2))
        pictures.append(ascend(net, row, images(2, 3, *SIZE, dtype=torch.float64)).images)
    assert pictures[0].std() > 0.01
    torch.testing.assert_close(pictures[1], pictures[0], rtol=0, atol=1e-9)


def test_what_it_does_not_give_is_refused() -> None:
    with pytest.raises(CallError, match=r"does not depend on .second.: there is no path from it"):
        gradient(plain(), images(2, 3, *SIZE, dtype=torch.float64), Expected(ClassScore(1), 2), at="second")
    with pytest.raises(CallError, match="over 1 run of the network or more, not 0"):
        Expected(ClassScore(1), 0)
    for attack in (fgsm, pgd, autoattack):
        with pytest.raises(CallError, match="eot is a number of runs of the network and must be 1 or more, not 0"):
            attack(noisy(), images(2, 3, *SIZE), eot=0)


def test_averaged_gradients_fool_what_single_ones_do_not() -> None:
    net = network(seeded(Masked).double(), SIZE)
    x = 0.3 + 0.4 * images(40, 3, *SIZE, dtype=torch.float64)
    weights = net._source.weights()["fc.weight"]
    slope, lead = weights[0] - weights[1], net(x)[:, 0] - net(x)[:, 1]
    # Each right by 0.3 of what the best change within eps takes away.
    missing = 0.3 * 0.02 * slope.abs().sum() - lead
    x = x + (missing / slope.square().sum()).view(-1, 1, 1, 1) * slope.view(1, 3, *SIZE)
    options: dict[str, Any] = {"label": [0] * 40, "eps": 0.02, "steps": 8, "eight_bit": False}
    single, averaged = (pgd(net, x, eot=eot, **options).success.double().mean() for eot in (1, 40))
    assert single < 0.2
    assert averaged > 0.8


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row.name)
def test_every_draw_comes_from_the_seed_and_the_user_s_generator_stays(
    row: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, net, x = noisy_module(), noisy(), images(3, 3, *SIZE)
    attack: Callable[..., Any] = functools.partial(row.function, net, x, **ARGUMENTS.get(row.name, {}))
    with untouched(module):
        first = attack().arrays()
    torch.rand(7)
    second = attack().arrays()
    # Scores of passes that were not made are NaN.
    assert all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)
    if "seed" in inspect.signature(row.function).parameters:
        third = attack(seed=1).arrays()
        assert any(not torch.equal(first[name], third[name]) for name in first)
    runs, real = [], Graph.run

    def fails(graph: Graph, *arguments: Any) -> Any:
        runs.append(1)
        if len(runs) == 3:
            raise ZeroDivisionError("in the middle of it")
        return real(graph, *arguments)

    monkeypatch.setattr(Graph, "run", fails)
    with untouched(module), pytest.raises(ZeroDivisionError):
        attack()


# There is no attention in this network, and two methods refuse what is random.
OTHERS = [row for row in TABLE if row.command != "attack" and row.name not in ("attention-rollout", "deeplift", "lrp")]


@pytest.mark.filterwarnings("ignore::inward.InwardWarning")
@pytest.mark.parametrize("row", OTHERS, ids=lambda row: row.name)
def test_maps_and_pictures_leave_the_user_s_generator_too(row: Method) -> None:
    module, net = noisy_module(), noisy()
    with untouched(module):
        first = call(row, net, given(row, net, 2)).arrays()
    torch.rand(7)
    second = call(row, net, given(row, net, 2)).arrays()
    assert all(torch.equal(first[name].nan_to_num(), second[name].nan_to_num()) for name in first)


def test_success_is_that_of_a_further_run_and_a_saved_picture_is_judged_by_the_same(tmp_path: Path) -> None:
    """A network of pure chance errs in half of its runs; that an attack saw it err does not make it more."""
    net = network(Coin().eval(), (2, 3), channels=3)
    x = (images(300, 3, 2, 3) * 255).round() / 255
    found = pgd(net, x, label=[0] * 300, steps=12)
    # In each pass it must err twice, as it is and as it would be saved: 3 % have not by now.
    assert (found.steps < 12).double().mean() > 0.9
    share = found.success.double().mean().item()
    # 4 deviations of 300 throws.
    assert abs(share - 0.5) < 0.12
    assert torch.equal(found.success, found.final > 0)
    assert torch.equal(found.unrounded, found.success)
    assert "draws random numbers" in found.record.notes[0]
    with untouched(nn.Module()):
        for i in range(6):
            folder = found[i].save(tmp_path / str(i))
            assert json.loads((folder / "manifest.json").read_text())["scores"]["success"] == bool(found.success[i])


def test_candidates_count_by_the_mean_of_the_runs() -> None:
    """Fooled by chance in half of all runs, but by the mean of 101 only where the mean says so."""

    class Mostly(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            right = x.flatten(1).sum(1) * 0 + 1
            return torch.stack([right, 2 * torch.randn(x.shape[0])], 1)

    net = network(Mostly().eval(), (2, 3), channels=3)
    x = images(20, 3, 2, 3)
    # One run errs with a probability of 31 %, the mean of 101 runs with one of 2e-7.
    lucky, mean = (pgd(net, x, label=[0] * 20, steps=8, eot=eot) for eot in (1, 101))
    assert (lucky.steps < 8).double().mean() > 0.3
    assert (mean.steps == 8).all()


def test_eot_finds_the_same_where_nothing_is_random_and_says_so() -> None:
    net, x = plain(), images(3, 3, *SIZE, dtype=torch.float64)
    once, often = (pgd(net, x, eps=0.02, steps=5, stop=False, eight_bit=False, eot=eot) for eot in (1, 3))
    torch.testing.assert_close(often.adversarial, once.adversarial, rtol=0, atol=1e-12)
    assert once.record.notes == ()
    assert "the same answer in all 3 runs, so that eot=1" in often.record.notes[0]


def test_autoattack_with_eot_is_the_authors_sequence_for_random_networks() -> None:
    told: list[tuple[int, int]] = []
    x = images(6, 3, *SIZE)
    found = autoattack(noisy(), x, eps=0.3, steps=5, eot=3, on_progress=lambda *now: told.append(now))
    assert {total for _, total in told} == {10}
    assert set(found.by) <= {"clean", "apgd-ce", "apgd-dlr", ""}
    assert {"apgd-ce", "apgd-dlr"} & set(found.by)


def test_a_module_that_no_graph_can_hold_is_attacked_too() -> None:
    class Column(nn.Module):
        """Looks at one column, by chance."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(10 * self.conv(x)[..., int(torch.randint(0, 6, ()))].mean(2))

    module = seeded(Column)
    net = network(module, SIZE)
    with pytest.warns(UserWarning, match="cannot be exported as a graph"):
        assert not net.is_graph
    with untouched(module):
        found = pgd(net, images(12, 3, *SIZE), eps=0.5, steps=10, eot=4)
    assert "draws random numbers" in found.record.notes[0]
    # One in two, over many seeds; fewer than two of twelve with a probability of 0.3 %.
    assert found.success.sum() >= 2
