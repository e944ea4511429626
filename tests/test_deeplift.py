"""DeepLift: a replica from the paper, Captum where that is right, and what is asked of it."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.columns.objectives import Energy, Probability
from inward.methods.deeplift import deeplift
from same import images, seeded, untouched

SIZE = (9, 7)
# Sums of some thousand shares in float64, some of them far larger than what they add up to.
EXACT = 1e-11


pytestmark = pytest.mark.usefixtures("single_thread")


def pictures(count: int = 3) -> Tensor:
    x = images(count, 3, *SIZE, dtype=torch.float64)
    # As in the baseline: neither these pixels nor what only they lead to has a difference.
    x[:, :, :4, :3] = 0
    return x


def missed(net: Network, x: Tensor, target: str, **options: Any) -> float:
    """How much of the difference of the scores the shares miss, computed anew, as a share of all that they carry."""
    found = deeplift(net, x, target=target, **options)
    black = saliency(net, torch.zeros_like(x), target=target).scores
    change = found.scores - black
    shares = found.values.flatten(1)
    assert (change.abs() > 0).all()
    return ((shares.sum(1) - change).abs() / shares.abs().sum(1)).max().item()


class Written(nn.Module):
    """ReLUs as functions and one that is used three times, with a connection past them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.fc = nn.ReLU(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        h = self.relu(self.relu(self.second(h)) - 0.02 + h)
        return self.fc(self.relu(h - 0.1).mean((2, 3)))


def multiplier(x: Tensor, x0: Tensor) -> Tensor:
    """Of a ReLU, by the paper: the quotient of the differences, or the gradient where there is none."""
    step = x - x0
    return torch.where(step == 0, (x > 0).to(x.dtype), (x.relu() - x0.relu()) / torch.where(step == 0, 1.0, step))


def replica(module: Any, x: Tensor, x0: Tensor, unit: int) -> Tensor:
    """The multipliers of :class:`Written`, backwards by hand."""

    def forward(x: Tensor) -> tuple[Tensor, ...]:
        a = module.first(x)
        b = module.second(a.relu())
        c = b.relu() - 0.02 + a.relu()
        return a, b, c, c.relu() - 0.1

    (a, b, c, d), (a0, b0, c0, d0) = forward(x), forward(x0)
    m = module.fc.weight[unit].view(1, -1, 1, 1).expand_as(d) / d[0, 0].numel()
    m = m * multiplier(d, d0) * multiplier(c, c0)
    through = F.conv_transpose2d(m * multiplier(b, b0), module.second.weight, padding=1)
    m = F.conv_transpose2d((m + through) * multiplier(a, a0), module.first.weight, padding=1)
    return ((x - x0) * m).detach()


@functools.cache
def written() -> Network:
    return network(seeded(Written).double(), SIZE)


@pytest.mark.parametrize("baseline", ["black", "noise", "blur"])
def test_is_the_replica_from_the_paper(baseline: str) -> None:
    from inward.methods.baselines import baselines

    net, x = written(), pictures()
    ((_, x0),) = baselines(net, x, baseline)
    found = deeplift(net, x, target="class:3", baseline=baseline)
    expected = replica(seeded(Written).double(), x, x0, 3)
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= 1e-12 * expected.abs().max()
    change = net(x)[:, 3] - net(x0)[:, 3]
    assert (found.values.flatten(1).sum(1) - change).abs().max() <= 1e-12
    assert torch.equal(found.scores, net(x)[:, 3])
    assert found.kind == "contribution"
    # What is the gradient times the difference is something else.
    slope = saliency(net, x, target="class:3").values * (x - x0)
    assert (slope - found.values).abs().max() > 0.01 * found.values.abs().max()


def test_captum_is_something_else_where_relus_are_functions() -> None:
    """captum#1104: what is no module, it takes for linear; no error, and sums that are wrong by 100 %."""
    captum = pytest.importorskip("captum.attr")

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(F.relu(self.conv(x)).mean((2, 3)))

    module, x = seeded(Functional).double(), pictures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.DeepLift(module).attribute(x, baselines=torch.zeros_like(x), target=2).detach()
    net = network(seeded(Functional).double(), SIZE)
    change = (net(x) - net(x * 0))[:, 2]
    assert ((theirs.flatten(1).sum(1) - change).abs() / change.abs()).max() > 0.1
    assert missed(net, x, "class:2") <= EXACT


class Modules(nn.Module):
    """Every activation that Captum knows, as a module of its own, with a linear map before the next."""

    def __init__(self, window: int = 2, adjacent: bool = False) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.second, self.pool = nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(window, 2)
        self.third, self.tanh = nn.Identity() if adjacent else nn.Conv2d(8, 8, 1), nn.Tanh()
        self.mean, self.fourth, self.sigmoid = nn.AvgPool2d(2, 1), nn.Conv2d(8, 8, 1), nn.Sigmoid()
        self.rest = nn.Sequential(
            *(nn.Conv2d(8, 8, 1), nn.ELU(), nn.Conv2d(8, 6, 1), nn.Softplus(), nn.Conv2d(6, 6, 1), nn.LeakyReLU(0.1))
        )
        self.fc = nn.Linear(6, 5)
        for parameter in self.parameters():
            parameter.data.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tanh(self.third(self.pool(self.second(self.relu(self.first(x))))))
        return self.fc(self.rest(self.sigmoid(self.fourth(self.mean(h)))).mean((2, 3)))


def peers(x: Tensor, x0: Tensor, layer: str = "", **options: Any) -> tuple[Network, Tensor, Tensor]:
    """The network, and what Captum says of it and of its error."""
    captum = pytest.importorskip("captum.attr")
    module = seeded(lambda: Modules(**options)).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = captum.LayerDeepLift(module, getattr(module, layer)) if layer else captum.DeepLift(module)
        values, delta = made.attribute(x, baselines=x0, target=3, return_convergence_delta=True)
    return modules(**options), values.detach(), delta.detach()


@functools.cache
def modules(**options: Any) -> Network:
    return network(seeded(lambda: Modules(**options)).double(), SIZE)


def test_agrees_with_captum() -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    for baseline in (torch.zeros_like(x), x.flip(0, 2)):
        net, theirs, delta = peers(x, baseline)
        ours = deeplift(net, x, target="class:3", baseline=baseline).values
        assert delta.abs().max() <= 1e-12
        assert theirs.abs().max() > 0
        assert (ours - theirs).abs().max() <= 1e-11 * theirs.abs().max()


def test_agrees_with_captum_inside() -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    net, theirs, _ = peers(x, torch.zeros_like(x), "third")
    found = deeplift(net, x, target="class:3", at="third")
    assert (found.values - theirs).abs().max() <= 1e-11 * theirs.abs().max()
    assert found.at == "third"
    assert found.record.notes == ()
    told = torch.cat(list(found.measured.values()))
    assert (told.isnan().sum(), told.nan_to_num().max() <= 1e-11) == (3, True)


@pytest.mark.parametrize("options", [{"window": 3}, {"adjacent": True}], ids=["overlapping", "adjacent"])
def test_captum_loses_a_part(options: dict[str, Any]) -> None:
    """Of an input that is the largest of several windows, and of modules with nothing between them."""
    x = images(3, 3, *SIZE, dtype=torch.float64)
    net, _, delta = peers(x, torch.zeros_like(x), **options)
    change = (net(x) - net(x * 0))[:, 3]
    assert (delta.abs() / change.abs()).max() > 0.01
    assert missed(net, x, "class:3") <= EXACT


@pytest.mark.parametrize("of", ["energy", "probability", "several"])
def test_a_score_that_is_not_linear_adds_up_too(of: str) -> None:
    net, x = written(), pictures()
    target = {"energy": "second", "probability": Probability(2), "several": 2.0 * Energy("first") - Probability(1)}[of]
    found = deeplift(net, x, target=target)
    score = {"energy": Energy("second")}.get(of, target)
    change = score(net.trace(x, ["first", "second", "class"])) - score(net.trace(x * 0, ["first", "second", "class"]))
    # 8 points of Gauss-Legendre: exact for an energy, next to it for a softmax of small logits.
    assert (found.values.flatten(1).sum(1) - change).abs().max() <= 1e-12 * change.abs().max()


def test_alone_as_in_a_batch_and_in_float32() -> None:
    net, x = modules(window=3), pictures()
    together = deeplift(net, x, target="class:3")
    for i in range(3):
        alone = deeplift(net, x[i : i + 1], target="class:3")
        assert (alone.values[0] - together.values[i]).abs().max() <= 1e-12 * together.values[i].abs().max()
        assert alone.measures().keys() == together[i].measures().keys()
    found = deeplift(net.to(dtype=torch.float32), x.float(), target="class:3")
    assert found.values.dtype == torch.float32
    # Rounding of 6e-8, enlarged where differences are divided by small ones.
    assert (found.values - together.values).abs().max() <= 1e-4 * together.values.abs().max()


def test_several_baselines_are_averaged() -> None:
    net, x = written(), pictures()
    named = ["black", "white", "noise"]
    single = [deeplift(net, x, target="class:1", baseline=name).values for name in named]
    found = deeplift(net, x, target="class:1", baseline=named)
    assert torch.allclose(found.values, torch.stack(single).mean(0), rtol=1e-12, atol=1e-15)
    assert found.record.parameters["baseline"] == named
    other = deeplift(net, x, target="class:1", baseline=named, seed=1).values
    assert (other - found.values).abs().max() > 0.01 * found.values.abs().max()


def test_in_runs_of_one_picture_as_where_memory_is_short() -> None:
    net, x, targets = written(), pictures(), ["class:1", "class:4", "class:0"]
    together = deeplift(net, x, target=targets, baseline=["white", "blur"])
    little = deeplift(net.within(1), x, target=targets, baseline=["white", "blur"])
    assert (little.values - together.values).abs().max() <= 1e-12 * together.values.abs().max()
    one = deeplift(net, x[1:2], target="class:4", baseline=["white", "blur"])
    assert (little.values[1:2] - one.values).abs().max() <= 1e-12 * one.values.abs().max()


def test_what_passes_a_point_by_is_said() -> None:
    net, x = written(), pictures()
    past = deeplift(net, x, target="class:1", at="second")
    assert past.record.notes == ("the score also depends on the image past second, so that the shares need not add up",)
    assert past.measured["error"].nan_to_num(1).max() > 0.01
    every = deeplift(net, x, target="class:1", at="first")
    assert every.record.notes == ()
    assert every.values.shape == (3, 6, *SIZE)
    # A channel of the point itself: each neuron its own share.
    own = deeplift(net, x, target="first/2", at="first").values
    moved = (net.trace(x, "first")["first"] - net.trace(x * 0, "first")["first"])[:, 2] / 63
    assert torch.allclose(own[:, 2], moved, rtol=1e-12)
    assert not own[:, 3].any()


def test_wrong_calls() -> None:
    net, x = written(), pictures()
    with pytest.raises(CallError, match="there is no path"):
        deeplift(net, x, target="first/1", at="second")
    with pytest.raises(CallError, match="there is no baseline 'blak'"):
        deeplift(net, x, baseline="blak")
    with pytest.raises(CallError, match="the baseline has the shape"):
        deeplift(net, x, baseline=torch.zeros(3, 7, 9))
    with pytest.raises(CallError, match="give at='first'"):
        deeplift(net, x, target="class:1", at="first/2")
    plain = network(seeded(networks.DataBranch), SIZE)
    with pytest.warns(match="only its modules"):
        plain.graph(SIZE)
    with pytest.raises(CallError, match="this needs the network's graph, and there is none"):
        deeplift(plain, x.float(), target="class:1")


def test_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = conv_net(), images(2, 3, *SIZE)
    net = network(module, SIZE)
    before = net(x), saliency(net, x).values
    with untouched(module):
        deeplift(net, x, at="conv")

        def fails(*_: Any) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr("inward.methods.deeplift.Trace", fails)
            with pytest.raises(ZeroDivisionError):
                deeplift(net, x)
    after = net(x), saliency(net, x).values
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_dead_network_and_a_baseline_that_is_the_image() -> None:
    x = images(2, 3, *SIZE)
    dead = deeplift(network(seeded(Dead), SIZE), x, target="class:0")
    assert dead.values.abs().max() == 0
    assert dead[0].notes() == ("the map is exactly 0: class:0 is dead on this image",)
    same = deeplift(written(), pictures(), target="class:0", baseline=pictures())
    assert same.values.abs().max() == 0
    assert same[0].measures()["absolute_error"] == 0
    assert "error" not in same[0].measures()


def test_completeness_on_photographs(shared_data: Path) -> None:
    import inward

    file = shared_data / "weights" / "inception_v1.safetensors"
    # 96 pixels: a fifth of the time of 224.
    net = inward.load("inward/inception_v1", weights=file, size=96, device="cpu")
    x = inward.read(sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:2], net)
    assert deeplift(net, x).measured["error"].max() <= 1e-5
