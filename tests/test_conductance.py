"""Conductance: the paper's integral, Captum's sums at equal points, and what must add up."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import networks
from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.objectives import ClassScore
from inward.columns.penalties import L2
from inward.methods.conductance import conductance, neuron_conductance
from same import images, seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (9, 7)
# Of the largest value. Captum makes the weights of its points in float32.
SAME = 1e-6
# float64, a few thousand additions.
EXACT = 1e-11


class Curved(nn.Module):
    """Smooth throughout, so that sums over the line converge as they should; ``aside`` leads past ``layer``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.layer = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)
        self.fc, self.aside = nn.Linear(6, 5), nn.Linear(4, 5)

    def head(self, y: Tensor) -> Tensor:
        return self.fc(torch.tanh(y).mean((2, 3)) ** 2 * 20)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(2 * self.conv(x))
        score = self.head(self.layer(h))
        return score, score + self.aside(h.mean((2, 3)))


class Tokens(nn.Module):
    """Tokens with the batch on the second axis."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.rows, self.fc = nn.Conv2d(3, 8, 3, stride=2), nn.Linear(8, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        # The number of images is read off them, which is no way past a layer.
        h = self.rows(self.patches(x).view(x.shape[0], 8, -1).permute(2, 0, 1))
        return self.fc(torch.tanh(h).square().mean(0).view(x.shape[0], 6))


@pytest.fixture(scope="module")
def module() -> Any:
    return seeded(Curved).double()


@pytest.fixture(scope="module")
def curved(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def plain() -> Network:
    return network(conv_net().double(), SIZE)


def pictures(count: int = 3) -> Tensor:
    return images(count, 3, *SIZE, dtype=torch.float64)


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    return ((found - expected).abs().max() / expected.abs().max()).item()


def first(module: nn.Module) -> nn.Module:
    """The module with its first output alone, as Captum needs it."""

    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)[0]

    return First().eval()


def slow(module: Any, x: Tensor, base: Tensor, unit: int, steps: int, nodes: str) -> Tensor:
    """The paper's equation 3 by its definition: (dF/dy) (change of y), interval by interval, image by image."""
    rows = []
    for image, start in zip(x, base, strict=True):
        total = 0
        for k in range(steps):
            ends = [(start + (k + d) / steps * (image - start))[None] for d in (0, 1)]
            old, new = (module.layer(torch.tanh(2 * module.conv(end))).detach() for end in ends)
            where = {"middle": 0.5, "start": 0.0}[nodes]
            y = module.layer(torch.tanh(2 * module.conv(ends[0] + where * (ends[1] - ends[0])))).detach()
            (slope,) = torch.autograd.grad(module.head(y.requires_grad_(True))[0, unit], y)
            total = total + slope * (new - old)
        rows.append(total[0])
    return torch.stack(rows)


@pytest.mark.parametrize("nodes", ["middle", "start"])
@pytest.mark.parametrize("steps", [1, 7])
def test_is_the_papers_sum_over_the_line(curved: Network, module: Any, nodes: Any, steps: int) -> None:
    x = pictures()
    found = conductance(curved, x, at="layer", target="class:3", baseline="gray", steps=steps, nodes=nodes)
    assert gap(found.values, slow(module, x, torch.full_like(x, 0.5), 3, steps, nodes)) < EXACT
    assert (found.at, found.kind, found.targets) == ("layer", "contribution", ("class:3",) * 3)
    assert torch.equal(found.scores, curved(x)[:, 3])
    assert found.measured["points"].tolist() == [steps] * 3


@pytest.mark.parametrize("steps", [3, 20])
def test_agrees_with_captum_at_equal_points(module: Any, curved: Network, plain: Network, steps: int) -> None:
    """Captum's riemann_trapezoid places n + 1 points from 0 to 1, and takes the gradient where an interval starts."""
    captum = pytest.importorskip("captum.attr")
    x, convs = pictures(), conv_net().double()
    for net, theirs, layer in [
        (curved, first(module), module.layer),
        (curved, first(module), module.conv),
        (plain, convs, convs.second),
        (plain, convs, convs.relu),
    ]:
        name = next(n for n, m in theirs.named_modules() if m is layer).removeprefix("inner.")
        expected = captum.LayerConductance(theirs, layer).attribute(
            x, baselines=torch.full_like(x, 0.5), target=2, n_steps=steps, method="riemann_trapezoid"
        )
        found = conductance(net, x, at=name, target="class:2", baseline="gray", steps=steps, nodes="start")
        assert gap(found.values, expected.detach()) < SAME


@pytest.mark.parametrize(("nodes", "order"), [("middle", 2), ("start", 1)])
def test_the_error_falls_with_the_steps(curved: Network, nodes: Any, order: int) -> None:
    """Doubling the steps divides the error by 2 to the order, to within a third once they are many."""
    x = pictures(2)

    def missing(steps: int) -> Tensor:
        found = conductance(curved, x, at="layer", target="class:1", steps=steps, nodes=nodes)
        difference = (curved(x) - curved(x * 0))[:, 1]
        error = (found.values.flatten(1).sum(1) - difference).abs()
        assert torch.allclose(found.measured["error"], error / difference.abs(), rtol=1e-6, atol=1e-12)
        assert found.remarks == ((), ())
        return error

    ratio = missing(20) / missing(40)
    assert (ratio - 2**order).abs().max() < 2**order / 3
    assert missing(40).max() < 0.05 * (curved(x) - curved(x * 0))[:, 1].abs().max()


def test_a_unit_has_its_whole_change_where_the_rest_is_linear(curved: Network) -> None:
    """At the logits a class's conductance is what it rises by, with a single step; all others have none."""
    x = pictures()
    found = conductance(curved, x, at="class", target="class:3", baseline="white", steps=1)
    rise = (curved(x) - curved(torch.ones_like(x)))[:, 3]
    expected = torch.zeros(3, 5, dtype=torch.float64)
    expected[:, 3] = rise
    assert (found.values - expected).abs().max() < EXACT
    assert (found.measured["error"].nan_to_num(0)).max() < EXACT


def test_ways_past_the_layer_are_remarked(curved: Network, module: Any) -> None:
    x = pictures(2)
    past = conductance(curved, x, at="layer", target="class@1:2", steps=30)
    assert past.remarks[0] == ("some ways to the target lead past layer: the error is also what they carry",)
    straight = conductance(curved, x, at="layer", target="class:2", steps=30)
    # The ways past it add a number: the layer's own share is the same, and what is missing is theirs.
    assert gap(past.values, straight.values) < EXACT
    by = [module.aside(torch.tanh(2 * module.conv(p)).mean((2, 3)))[:, 2].detach() for p in (x, x * 0)]
    difference = (curved.trace(x, "class@1")["class@1"] - curved.trace(x * 0, "class@1")["class@1"])[:, 2].detach()
    expected = (by[0] - by[1]).abs() / difference.abs()
    assert torch.allclose(past.measured["error"], expected, rtol=0, atol=0.02)
    assert expected.min() > 0.05


def test_the_batch_may_lie_on_another_axis() -> None:
    net = network(seeded(Tokens).double(), SIZE)
    x = pictures()
    assert net.points["rows"].layout.axes == ("t", "n", "c")
    found = conductance(net, x, at="rows", target="class:1", steps=40)
    assert found.values.shape == (3, 12, 6)
    rise = (net(x) - net(x * 0))[:, 1]
    assert torch.allclose(found.values.flatten(1).sum(1), rise, rtol=0.01, atol=1e-4)
    assert found.features().shape[:2] == (3, 6)
    assert found.remarks[0] == ()
    for i in range(3):
        assert (
            gap(conductance(net, x[i : i + 1], at="rows", target="class:1", steps=40).values[0], found.values[i])
            < EXACT
        )


def test_of_several_baselines_the_mean(curved: Network) -> None:
    x = pictures(2)
    given = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    options: dict[str, Any] = {"at": "layer", "target": "class:1", "steps": 6}
    told: list[tuple[int, int]] = []
    both = conductance(curved, x, baseline=["white", given], on_progress=lambda *at: told.append(at), **options)
    each = [conductance(curved, x, baseline=b, **options) for b in ("white", given)]
    assert gap(both.values, (each[0].values + each[1].values) / 2) < EXACT
    assert both.record.parameters["baseline"] == ["white", "given"]
    assert both.measured["points"].tolist() == [12, 12]
    assert told[-1] == (24, 24)
    assert told == sorted(told)
    rise = curved(x)[:, 1] - (curved(given) + curved(torch.ones_like(x)))[:, 1] / 2
    error = (rise - both.values.flatten(1).sum(1)).abs() / rise.abs()
    assert torch.allclose(both.measured["error"], error, rtol=1e-6, atol=1e-12)


def test_the_same_alone_in_a_batch_and_whatever_the_room(curved: Network) -> None:
    x = pictures()
    answers = ["class:4", "class:0", "class:2"]
    for method, where in [(conductance, {"at": "layer"}), (neuron_conductance, {"through": "layer/4"})]:
        call: Any = method
        together = call(curved, x, target=answers, steps=5, **where)
        tight = call(curved.within(1), x, target=answers, steps=5, **where)
        assert gap(tight.values, together.values) < EXACT
        for i in range(3):
            alone = call(curved, x[i : i + 1], target=answers[i], steps=5, **where)
            assert gap(alone.values, together.values[i : i + 1]) < EXACT


@pytest.mark.parametrize("through", ["layer/2@1,2", "layer/5@3,0", "conv/1@8,6", "layer/2"])
def test_neuron_conductance_agrees_with_captum_at_equal_points(curved: Network, module: Any, through: str) -> None:
    """Captum's gausslegendre; of a channel, the sum over its places."""
    captum = pytest.importorskip("captum.attr")
    x = pictures()
    name, _, unit = through.partition("/")
    channel, _, place = unit.partition("@")
    places = [tuple(map(int, place.split(",")))] if place else [(i, j) for i in range(4) for j in range(3)]
    theirs = captum.NeuronConductance(first(module), getattr(module, name))
    expected = sum(
        theirs.attribute(
            x, (int(channel), *p), baselines=torch.ones_like(x), target=3, n_steps=9, method="gausslegendre"
        )
        for p in places
    )
    found = neuron_conductance(curved, x, through=through, target="class:3", baseline="white", steps=9)
    assert gap(found.values, expected.detach()) < SAME
    assert (found.at, found.kind) == ("", "contribution")
    assert torch.allclose(found.measured["total"], found.values.flatten(1).sum(1))


def test_what_comes_through_a_neuron_is_its_conductance(curved: Network) -> None:
    """Two quadratures of one integral: pixels through a unit, and the unit by its own movement."""
    x = pictures(2)
    layer = conductance(curved, x, at="layer", target="class:1", steps=400).values
    for unit in range(6):
        through = neuron_conductance(curved, x, through=f"layer/{unit}", target="class:1", steps=60)
        # The second order's error at 400 steps is below 1e-4 of the largest unit.
        assert (through.measured["total"] - layer[:, unit].flatten(1).sum(1)).abs().max() < 1e-3 * layer.abs().max()
    neuron = neuron_conductance(curved, x, through="layer/3@2,1", target="class:1", steps=60)
    assert (neuron.measured["total"] - layer[:, 3, 2, 1]).abs().max() < 1e-3 * layer.abs().max()
    assert neuron.measured["total"].abs().min() > 1e-3 * layer.abs().max()


def test_all_units_of_a_layer_together_are_integrated_gradients(curved: Network) -> None:
    """Everything passes the layer: its units' maps add up to (x - b) times the mean gradient."""
    from inward.columns.paths import Line
    from inward.gradient import mean_gradient

    x = pictures(2)
    maps = [neuron_conductance(curved, x, through=f"layer/{u}", target="class:1", steps=5).values for u in range(6)]
    _, mean = mean_gradient(curved, x, ClassScore(1), Line(x * 0, 5))
    assert gap(torch.stack(maps).sum(0), mean * x) < EXACT


def test_targets_inside_and_objectives(curved: Network) -> None:
    x = pictures(2)
    inside = conductance(curved, x, at="conv", target="layer/2@1,1", steps=30)
    rise = [curved.trace(p, "layer/2@1,1")["layer/2@1,1"].detach() for p in (x, x * 0)]
    assert torch.allclose(inside.values.flatten(1).sum(1), rise[0] - rise[1], rtol=0.01)
    assert inside.remarks == ((), ())
    both = conductance(curved, x, at="layer", target=2 * ClassScore(1) - ClassScore(3), steps=6).values
    parts = [conductance(curved, x, at="layer", target=f"class:{c}", steps=6).values for c in (1, 3)]
    assert gap(both, 2 * parts[0] - parts[1]) < EXACT


def test_a_score_that_does_not_change_has_an_absolute_error() -> None:
    net = network(seeded(Dead), SIZE)
    x = images(2, 3, *SIZE)
    for found in (conductance(net, x, at="second", steps=3), neuron_conductance(net, x, through="second/1", steps=3)):
        assert found.values.abs().max() == 0
        assert "exactly 0" in found[0].notes()[0]
    measures = conductance(net, x, at="second", steps=3)[1].measures()
    assert measures["absolute_error"] == 0
    assert "error" not in measures


REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (conductance, {"at": "layer/3"}, "'layer/3' is a unit; give at='layer'"),
    (conductance, {"at": "layr"}, "the nearest: layer"),
    (conductance, {"at": "layer", "target": "conv/1"}, "does not depend on 'layer': there is no path"),
    (conductance, {"at": "layer", "target": L2()}, "does not depend on 'layer': there is no path"),
    (conductance, {"at": "layer", "steps": 0}, "a line has 1 step or more, not 0"),
    (conductance, {"at": "layer", "nodes": "trapezoid"}, "no nodes at 'trapezoid'; write middle or start"),
    (conductance, {"at": "layer", "baseline": "red"}, "there is no baseline 'red'"),
    (conductance, {"at": "layer", "baseline": torch.zeros(3, 4, 4)}, "the baseline has the shape"),
    (conductance, {"at": "layer", "target": "layer/1", "of": "probability"}, "probability is of a class"),
    (neuron_conductance, {"through": "layer"}, "'layer' is a whole point; name a unit of it, for example layer/0"),
    (neuron_conductance, {"through": "layer/6"}, "no unit 6 in layer; it has 6, 0 to 5"),
    (neuron_conductance, {"through": "layer/1@4,0"}, "outside the grid"),
    (neuron_conductance, {"through": "layer/1", "target": "conv/1"}, "does not depend on 'layer': there is no path"),
    (neuron_conductance, {"through": "layer/1", "steps": 0}, "a line has 1 step or more, not 0"),
]


@pytest.mark.parametrize(("method", "options", "reason"), REFUSED, ids=lambda v: getattr(v, "__name__", str(v)[:40]))
def test_senseless_calls_are_refused(curved: Network, method: Any, options: dict[str, Any], reason: str) -> None:
    module = curved._source.module  # type: ignore[attr-defined]
    with untouched(module), pytest.raises(CallError, match=reason):
        method(curved, pictures(2), **options)


def test_without_a_graph_the_modules_have_conductances() -> None:
    module = seeded(networks.DataBranch)
    net = Network.of(module, size=SIZE)
    x = images(2, 3, *SIZE)
    with pytest.warns(match="only its modules"):
        assert not net.is_graph
    found = conductance(net, x, at="conv", target="class:1", steps=60)
    rise = (net(x) - net(x * 0))[:, 1]
    # 60 steps over a few kinks of one ReLU.
    assert torch.allclose(found.values.flatten(1).sum(1), rise.detach(), rtol=0.02, atol=1e-3)
    assert "without a graph it is not known" in found.remarks[1][0]


@pytest.mark.parametrize("method", [conductance, neuron_conductance])
def test_the_record_names_every_option(curved: Network, method: Any) -> None:
    where = {"at": "layer"} if method is conductance else {"through": "layer/1"}
    found = method(curved, pictures(1), steps=2, **where)
    named = set(inspect.signature(method).parameters) - {"net", "images", "on_progress"}
    assert set(found.record.parameters) == named
    assert found.record.parameters["baseline"] == ["black"]
