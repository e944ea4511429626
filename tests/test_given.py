"""Activations that are given: the network from there on is the module with that output replaced."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import networks
from inward.columns.objectives import ClassScore, Unit
from inward.errors import CallError
from inward.gradient import gradient, raw_gradient
from inward.network import Network
from inward.network.layout import op_name
from inward.network.load import import_torchvision
from same import images, seeded, tensors

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (9, 7)
# A graph runs the module's own operations; two orders of a sum in float64.
EXACT = 1e-12


class Branches(nn.Module):
    """Two ways that part behind ``first`` and meet, one block called twice, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())
        self.fc, self.aside = nn.Linear(7, 5), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.first(x))
        right = self.right(h) * x.mean((1, 2, 3)).view(-1, 1, 1, 1)
        joined = torch.cat([self.block(self.block(self.left(h))), right], 1)
        return self.fc(joined.mean((2, 3)) ** 2), self.aside(h)


class Tokens(nn.Module):
    """A sequence with the batch on its second axis, as torch's own attention has it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 3, stride=3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, activation="gelu")
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).permute(2, 0, 1)
        return self.fc(self.layer(h).mean(0))


def double(make: Callable[[], nn.Module]) -> nn.Module:
    return seeded(make).double()


@functools.cache
def of_branches() -> Network:
    return Network.of(double(Branches), size=SIZE)


@functools.cache
def of_tokens() -> Network:
    return Network.of(double(Tokens), size=SIZE)


BRANCHING: dict[str, Callable[[], Network]] = {"Branches": of_branches, "Tokens": of_tokens}


@pytest.fixture(scope="module")
def branches() -> Network:
    return of_branches()


def replaced(module: nn.Module, call: str, value: Tensor, x: Tensor) -> list[Tensor]:
    """What the module gives where a forward hook puts ``value`` in the place of one call's output.

    ``block:2.0`` is the first child of ``block`` in its second call.
    """
    name, number = call.replace(":2", ""), 2 if ":2" in call else 1
    calls: Counter[str] = Counter()

    def put(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        calls[name] += 1
        return value if calls[name] == number else output

    handle = module.get_submodule(name).register_forward_hook(put)
    try:
        return tensors(module(x))
    finally:
        handle.remove()


def ends(net: Network) -> list[str]:
    count = len(net.graph(net.size).outputs)
    return ["class", *(f"class@{i}" for i in range(1, count))]


def values(net: Network, x: Tensor, keys: list[str], **options: Any) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return net.run(x, keys, **options)


@pytest.mark.parametrize("name", [*BRANCHING, "ReusedReLU", "InPlace", "CustomBoth"])
def test_a_points_own_activation_changes_nothing(name: str) -> None:
    net = BRANCHING[name]() if name in BRANCHING else Network.of(seeded(networks.GRAPHS[name]), size=SIZE)
    x = images(3, net.preprocess.channels, *SIZE).to(net.dtype)
    plain = values(net, x, ends(net))
    given = 0
    for key, point in net.points.items():
        if point.node:
            found = values(net, x, ends(net), given=dict(zip([key], values(net, x, [key]), strict=True)))
            assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True)), key
            given += 1
    assert given >= 3


@pytest.mark.parametrize("key", ["first", "left", "right", "block", "block:2", "block.0", "block:2.0", "block:2.1"])
def test_anothers_activation_is_a_hook_that_replaces_it(branches: Network, key: str) -> None:
    module, (x, other) = double(Branches), images(6, 3, *SIZE, dtype=torch.float64).split(3)
    (value,) = values(branches, other, [key])
    found = values(branches, x, ends(branches), given={key: value})
    expected = replaced(module, key, value, x)
    assert all((a - b).abs().max() <= EXACT for a, b in zip(found, expected, strict=True))
    assert (found[0] - module(x)[0]).abs().max() > 1e-4


def test_the_batch_may_lie_on_another_axis() -> None:
    module, net = double(Tokens), of_tokens()
    assert net.points["layer"].layout.axes == ("t", "n", "c")
    x, other = images(5, 3, *SIZE, dtype=torch.float64)[:3], images(6, 3, *SIZE, dtype=torch.float64)[3:]
    (value,) = values(net, other, ["layer"])
    assert value.shape == (6, 3, 8)
    (found,) = values(net, x, ["class"], given={"layer": value})
    assert (found - replaced(module, "layer", value, x)[0]).abs().max() <= EXACT
    assert (found - module(other)).abs().max() <= EXACT


def test_several_are_given_and_none_is_computed(branches: Network) -> None:
    """With both of the ways given that lead on, the image only matters where it is read itself."""
    module, x = double(Branches), images(6, 3, *SIZE, dtype=torch.float64)
    two = dict(zip(["block:2", "right"], values(branches, x[3:], ["block:2", "right"]), strict=True))
    (found,) = values(branches, x[:3], ["class"], given=two)
    joined = torch.cat([two["block:2"], two["right"] * x[:3].mean((1, 2, 3)).view(-1, 1, 1, 1)], 1)
    assert (found - module.fc(joined.mean((2, 3)) ** 2)).abs().max() <= EXACT  # type: ignore[operator]
    order = values(branches, x[:3], ["class"], given=dict(reversed(two.items())))
    assert torch.equal(order[0], found)


def test_what_lies_before_is_not_computed(branches: Network) -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    (value,) = values(branches, x, ["first"])
    (found,) = values(branches, torch.full_like(x, torch.nan), ["class@1"], given={"first": value})
    assert torch.equal(found, values(branches, x, ["class@1"])[0])
    graph: Any = branches.graph(SIZE)
    nodes = {key: graph.points[key].node for key in ("block", "block:2")}
    program = graph._cut((nodes["block:2"],), (nodes["block"],))
    # The second call of the block, and nothing of what leads to the first.
    assert [op_name(n) for n in program.graph.nodes if n.op == "call_function"] == ["conv2d", "tanh"]


def test_ends_that_do_not_need_it_stay_as_they_are(branches: Network) -> None:
    x = images(6, 3, *SIZE, dtype=torch.float64)
    given = {"left": values(branches, x[3:], ["left"])[0]}
    found = values(branches, x[:3], ["first", "class@1", "left"], given=given)
    plain = values(branches, x[:3], ["first", "class@1"])
    assert torch.equal(found[0], plain[0])
    assert torch.equal(found[1], plain[1])
    assert torch.equal(found[2], given["left"])


def test_a_program_keeps_no_values(branches: Network) -> None:
    x = images(6, 3, *SIZE, dtype=torch.float64)
    own = [values(branches, part, ["left"])[0] for part in x.split(3)]
    first, second = (values(branches, x[:3], ["class"], given={"left": value})[0] for value in own)
    assert torch.equal(first, values(branches, x[:3], ["class"])[0])
    assert (first - second).abs().max() > 1e-4
    programs = len(branches.graph(SIZE)._programs)  # type: ignore[union-attr]
    values(branches, x[3:], ["class"], given={"left": own[0]})
    assert len(branches.graph(SIZE)._programs) == programs  # type: ignore[union-attr]


@pytest.mark.parametrize("key", ["first", "left", "block", "block:2", "right"])
def test_the_gradient_with_respect_to_it_is_that_of_finite_differences(branches: Network, key: str) -> None:
    """The gradient at another image's activations, number by number; the error is h^2 f''' / 6, below 1e-9."""
    module, x = double(Branches), images(6, 3, *SIZE, dtype=torch.float64)
    (value,) = values(branches, x[3:], [key])
    scores, found = raw_gradient(branches, x[:3], ClassScore((3, 0, 2)), key, value)
    expected = torch.stack([replaced(module, key, value, x[:3])[0][i, c] for i, c in enumerate((3, 0, 2))])
    assert (scores - expected).abs().max() <= EXACT
    assert found.shape == value.shape
    assert found.abs().max() > 1e-4
    step = 1e-4
    for place in [(0, 1, 4, 2), (1, 0, 8, 6), (2, 2, 0, 3), (2, 1, 5, 0)]:
        move = torch.zeros_like(value)
        move[place] = step
        ends = [replaced(module, key, value + sign * move, x[:3])[0] for sign in (1, -1)]
        # The whole batch: an image's activations must not move another's score.
        slopes = torch.stack([(ends[0] - ends[1])[i, c] for i, c in enumerate((3, 0, 2))]) / (2 * step)
        assert abs(slopes[place[0]].item() - found[place].item()) < 1e-9
        assert slopes.abs().sum() == slopes[place[0]].abs()


def test_given_its_own_it_is_the_gradient_at_the_point(branches: Network) -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    (value,) = values(branches, x, ["left"])
    plain, given = gradient(branches, x, ClassScore(1), "left"), raw_gradient(branches, x, ClassScore(1), "left", value)
    assert torch.equal(plain[0], given[0])
    assert torch.equal(plain[1], given[1])
    assert not value.requires_grad


def test_the_gradient_is_refused_where_the_score_lies_before(branches: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    (value,) = values(branches, x, ["left"])
    with pytest.raises(CallError, match="does not depend on 'left': there is no path"):
        raw_gradient(branches, x, Unit("first/1@2,2"), "left", value)
    with pytest.raises(CallError, match="'left/1' is a unit; give at='left'"):
        raw_gradient(branches, x, ClassScore(1), "left/1", value)


def test_a_score_inside_the_given_point_is_itself(branches: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    value = torch.rand(2, 4, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores, found = raw_gradient(branches, x, Unit("left/1@2,5"), "left", value)
    assert torch.equal(scores, value[:, 1, 2, 5])
    assert found.sum() == 2
    assert found[:, 1, 2, 5].tolist() == [1, 1]


def test_without_a_graph_it_is_refused_in_one_sentence() -> None:
    net = Network.of(seeded(networks.DataBranch), size=SIZE)
    x = images(2, 3, *SIZE)
    with pytest.warns(match="only its modules"):
        (value,) = values(net, x, ["conv"])
    with pytest.raises(CallError, match=r"^to start from activations needs the network's graph, .*there is none: "):
        values(net, x, ["class"], given={"conv": value})
    with pytest.raises(CallError, match="needs the network's graph"):
        raw_gradient(net, x, ClassScore(1), "conv", value)


def real(name: str, data: Path) -> tuple[Network, nn.Module, str]:
    if name == "inception":
        import inward

        weights = data / "weights" / "inception_v1.safetensors"
        net = inward.load("inward/inception_v1", weights=weights, size=(64, 80), device="cpu")
        return net, net._source.module, "mixed4a"  # type: ignore[attr-defined]
    if name == "resnet":
        module = seeded(lambda: import_torchvision().models.resnet18(weights=None))
        return Network.of(module, size=(64, 80)), module, "layer2.0"
    timm = pytest.importorskip("timm")
    module = seeded(lambda: timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=(64, 80), depth=3))
    return Network.of(module, size=(64, 80)), module, "blocks.1"


@pytest.mark.parametrize("name", ["inception", "resnet", "vit"])
def test_published_networks(name: str, shared_data: Path) -> None:
    net, module, key = real(name, shared_data)
    x = images(4, 3, 64, 80)
    (value,) = values(net, x[2:], [key])
    plain, found = values(net, x[2:], ["class"])[0], values(net, x[:2], ["class"], given={key: value})[0]
    # Nothing leads past these points: the image behind them is of no account.
    assert torch.equal(plain, found)
    with torch.no_grad():
        expected = replaced(module, key, value, net.shown(x[:2]))[0]
    # Attention sums in another order than the module's (test_architectures.py).
    assert (found - expected).abs().max() <= 2e-6 * expected.abs().max()
    assert (found - values(net, x[:2], ["class"])[0]).abs().max() > 1e-3 * found.abs().max()
