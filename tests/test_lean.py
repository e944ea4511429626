"""Lean networks: the same numbers at every point, by fewer and faster operations."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from inward.network import Network
from inward.network import lean as edits
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.lean import lean
from inward.network.load import import_torchvision
from same import images, seeded, untouched

SIZE = (21, 17)
# Folding and rearranging change the order of sums: float64 rounding of tens of layers.
EXACT = 1e-12

pytestmark = pytest.mark.usefixtures("single_thread")


class Chain(nn.Module):
    """Layers one after another; running statistics and scales are none that leave a value as it is."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
                nn.init.uniform_(layer.running_mean, -0.5, 0.5)
                nn.init.uniform_(layer.running_var, 0.2, 2.0)  # type: ignore[arg-type]
            if isinstance(layer, nn.BatchNorm2d) and layer.affine:
                nn.init.uniform_(layer.weight, -1.5, 1.5)
                nn.init.normal_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).mean((2, 3))


def conv(*geometry: int, **options: object) -> nn.Module:
    return nn.Conv2d(*geometry, **options)  # type: ignore[arg-type]


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "bias": (lambda: Chain(conv(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 4, 1), nn.BatchNorm2d(4)), 2),
    "no bias": (lambda: Chain(conv(3, 6, 3, bias=False), nn.BatchNorm2d(6, eps=0.1)), 1),
    "strided": (lambda: Chain(conv(3, 6, 7, stride=2, padding=3), nn.BatchNorm2d(6)), 1),
    "grouped": (lambda: Chain(conv(3, 6, 3, groups=3, stride=2), nn.BatchNorm2d(6), nn.ReLU()), 1),
    "dilated": (lambda: Chain(conv(3, 4, 3, stride=2, dilation=2, padding=(1, 2)), nn.BatchNorm2d(4)), 1),
    "same": (lambda: Chain(conv(3, 4, 4, padding="same", bias=False), nn.BatchNorm2d(4)), 1),
    "mirrored": (lambda: Chain(conv(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4)), 1),
    "transposed": (lambda: Chain(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)), 0),
    "behind a ReLU": (lambda: Chain(conv(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), 0),
    "first": (lambda: Chain(nn.BatchNorm2d(3), conv(3, 4, 3)), 0),
    "no scale": (lambda: Chain(conv(3, 4, 3), nn.BatchNorm2d(4, affine=False)), 0),
    "no statistics": (lambda: Chain(conv(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), 0),
    "twice": (lambda: Chain(conv(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), 1),
}


def made(make: Callable[[], nn.Module]) -> nn.Module:
    return seeded(make).double()


def graph_of(net: Network, size: tuple[int, int] = SIZE) -> Graph:
    graph = net.graph(size)
    assert isinstance(graph, Graph)
    return graph


def count(net: Network, name: str, size: tuple[int, int] = SIZE) -> int:
    """How many operations run a function of this name; their results, which are taken from a tuple, do not count."""
    nodes = graph_of(net, size).module.graph.nodes
    return sum(n.op == "call_function" and n.target is not operator.getitem and op_name(n) == name for n in nodes)


def names(net: Network) -> list[str]:
    return [p.name for p in net.points.values() if p.node and p.shape is not None]


def assert_same(net: Network, faster: Network, x: Tensor, rtol: float = EXACT) -> None:
    """Every point; of large networks of some, alone too, and the gradient of a fixed combination of each."""
    assert names(net) == names(faster)
    shown = [x.detach().clone().requires_grad_(True) for _ in range(2)]
    traces = [n.trace(i, names(net)) for n, i in zip((net, faster), shown, strict=True)]
    for name in names(net):
        wanted, value = (
            torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in (tr[name] for tr in traces)
        )
        assert value.shape == wanted.shape, name
        assert value.dtype == wanted.dtype, name
        assert (value - wanted).abs().max() <= rtol * wanted.abs().max(), name
        if names(net).index(name) % (1 + len(names(net)) // 16):
            continue
        alone = faster.trace(x, name)[name]
        assert (alone - traces[0][name]).abs().max() <= rtol * wanted.abs().max(), name
        weight = torch.cos(torch.arange(wanted.numel()).view(wanted.shape) + 1.0).to(wanted)
        slope, found = (
            torch.autograd.grad((v * weight).sum(), i, retain_graph=True)[0]
            for v, i in zip((wanted, value), shown, strict=True)
        )
        assert slope.abs().max() > 0, name
        assert (found - slope).abs().max() <= rtol * slope.abs().max(), name


@pytest.mark.parametrize("name", NETS)
def test_folded_batch_norms_are_exact_at_every_point(name: str) -> None:
    make, folded = NETS[name]
    module = made(make)
    net = Network.of(module, size=SIZE, mean=(0.4, 0.5, 0.45), std=(0.2, 0.3, 0.25))
    x = images(3, 3, *SIZE, dtype=torch.float64)
    with untouched(module):
        faster = net.edit(edits.fold_batch_norms)
        assert count(faster, "folded_convolution") == folded
        assert count(net, "folded_convolution") == 0
        assert_same(net, faster, x)
        assert_same(net, lean(net, SIZE, half=False), x)


def test_a_folded_convolution_by_hand() -> None:
    """(2 x + 1 - 3) / sqrt(3.99 + 0.01) * 5 - 7 = 5 x - 12."""
    module = Chain(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.01)).double().eval()
    first, norm = module.layers
    values = {"weight": 5.0, "bias": -7.0, "running_mean": 3.0, "running_var": 3.99}
    with torch.no_grad():
        first.weight.fill_(2.0)
        first.bias.fill_(1.0)
        for key, value in values.items():
            getattr(norm, key).fill_(value)
    net = Network.of(module, size=(2, 3)).edit(edits.fold_batch_norms)
    x = images(2, 1, 2, 3, dtype=torch.float64)
    trace = net.trace(x, ["layers.0", "layers.1"])
    torch.testing.assert_close(trace["layers.1"], 5 * x - 12, rtol=0, atol=1e-12)
    torch.testing.assert_close(trace["layers.0"], 2 * x + 1, rtol=0, atol=1e-12)


def test_the_convolution_before_a_folded_norm_is_there_only_for_who_asks() -> None:
    net = Network.of(made(NETS["bias"][0]), size=SIZE)
    faster = net.edit(edits.fold_batch_norms)
    graph = graph_of(faster)
    computed = [n.name for n in graph.needed([graph.outputs[0]])]
    plain = graph_of(net).needed([graph_of(net).outputs[0]])
    assert not any(name.startswith("conv2d") for name in computed)
    assert sum(n.name.startswith("conv2d") for n in plain) == 2


class Shared(nn.Module):
    """A convolution that two norms and the output itself read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        nn.init.uniform_(self.one.running_mean, -1, 1)  # type: ignore[arg-type]
        nn.init.uniform_(self.two.running_var, 0.5, 2)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return (self.one(h).relu() + 2 * self.two(h) + h.tanh()).mean((2, 3))


class Called(nn.Module):
    """The weights of a convolution are computed, and its training form of normalization knows no constants."""

    def __init__(self, training: bool) -> None:
        super().__init__()
        self.conv, self.training_form = nn.Conv2d(3, 4, 3, stride=2), training
        self.register_buffer("average", torch.linspace(-1, 1, 4))
        self.register_buffer("variance", torch.linspace(0.5, 2, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.conv2d(x, torch.tanh(self.conv.weight), self.conv.bias, 2) if not self.training_form else self.conv(x)
        scale = (self.variance, self.average) if self.training_form else (None, None)
        args = (None, None) if self.training_form else (self.average, self.variance)
        return F.batch_norm(h, *args, *scale, training=self.training_form).square().mean((2, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "folded"),
    [(Shared, 2), (lambda: Called(True), 0), (lambda: Called(False), 0)],
    ids=["shared", "training", "computed weight"],
)
def test_a_convolution_with_several_readers_and_norms_of_another_kind(make: Callable, folded: int) -> None:
    net = Network.of(made(make), size=SIZE)
    faster = net.edit(edits.fold_batch_norms)
    assert count(faster, "folded_convolution") == folded
    x = images(2, 3, *SIZE, dtype=torch.float64)
    assert_same(net, lean(net, SIZE, half=False), x)


def test_resnet18_is_the_same_network_folded() -> None:
    module = seeded(lambda: import_torchvision().models.get_model("resnet18", weights=None))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.linspace(-0.3, 0.3, layer.num_features)
            layer.running_var = torch.linspace(0.5, 2.0, layer.num_features)
    module.double()
    net = Network.of(module, size=(64, 48))
    with untouched(module):
        faster = lean(net, (64, 48), half=False)
        found = [count(faster, f"{kind}convolution", (64, 48)) for kind in ("folded_", "folded_strided_")]
        assert found == [19, 1]
        assert count(faster, "batch_norm", (64, 48)) == 0
        assert_same(net, faster, images(2, 3, 64, 48, dtype=torch.float64))


def test_the_images_are_handed_over_with_their_channels_last() -> None:
    net = Network.of(made(NETS["no scale"][0]), size=SIZE)
    arranged = net.edit(edits.arrange_channels_last)
    x = images(2, 3, *SIZE, dtype=torch.float64)
    assert net.trace(x, "layers.0")["layers.0"].is_contiguous()
    value = arranged.trace(x, "layers.0")["layers.0"]
    assert value.is_contiguous(memory_format=torch.channels_last)
    assert not value.is_contiguous()
    assert_same(net, arranged, x)


def test_the_weights_of_convolutions_lie_as_the_images_do() -> None:
    """Those of the module, and of a graph whose images lie otherwise, stay as they are."""
    module = made(NETS["no scale"][0])
    net = Network.of(module, size=SIZE)
    x = images(2, 3, *SIZE, dtype=torch.float64)
    with untouched(module):
        arranged = net.edit(edits.arrange_channels_last, edits.convolve_channels_last)
        assert laid_out(arranged)
        assert not laid_out(net.edit(edits.convolve_channels_last))
        assert not laid_out(net)
        assert_same(net, arranged, x)


def laid_out(net: Network) -> bool:
    """Whether every convolution's weights lie channels last."""
    graph = net.graph(SIZE)
    assert isinstance(graph, Graph)
    weights = [getattr(graph.module, str(n.args[1].target)) for n in graph.module.graph.nodes if op_name(n) == "conv2d"]
    return bool(weights) and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@pytest.mark.parametrize("name", sorted(networks.GRAPHS))
def test_every_trap_of_export_is_the_same_network_lean(name: str) -> None:
    """In-place changes, custom backward passes, blocks without gradient: none of them is disturbed."""
    module = seeded(networks.GRAPHS[name])
    net = Network.of(module, size=(9, 7))
    x = images(3, getattr(module, "channels", 3), 9, 7)
    with untouched(module):
        faster = lean(net, (9, 7), half=False)
        shown = [x.clone().requires_grad_(True) for _ in range(2)]
        outputs = [n(i) for n, i in zip((net, faster), shown, strict=True)]
        slopes = [torch.autograd.grad(o.square().sum(), i)[0] for o, i in zip(outputs, shown, strict=True)]
    # float32, and channels last lets a convolution add in another order.
    for wanted, found in (outputs, slopes):
        assert (found - wanted).abs().max() <= 2e-5 * wanted.abs().max()


class Viewed(nn.Module):
    """Flattens its map, which a map with its channels last in memory does not allow without a copy."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 9 * 7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x).relu()))


class Rows(torch.autograd.Function):
    """A user's own function, with a view in it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1) * 2

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 3 * grad.view(grad.shape[0], 4, 9, 7)


def spectrum(h: Tensor) -> Tensor:
    pairs = torch.stack([h, 1 - h], -1).transpose(2, 3).contiguous().transpose(2, 3)
    return torch.view_as_complex(pairs).abs().flatten(1)


VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "flatten": (lambda h: h.flatten(1), True),
    "view": (lambda h: h.view(h.shape[0], -1), True),
    "halves": (lambda h: h.view(h.shape[0], 2, 2, -1).transpose(1, 2).reshape(h.shape[0], -1), True),
    "strided": (lambda h: h.contiguous().as_strided((h.shape[0], 252), (252, 1)), False),
    "complex": (spectrum, False),
    "own": (Rows.apply, False),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", VIEWS)
def test_channels_last_disturb_no_view(name: str) -> None:
    """A function that is not known, or asks where numbers lie, has them as they always were."""
    function, arranged = VIEWS[name]
    module = made(lambda: Viewed(function))
    net = Network.of(module, size=(9, 7))
    assert net.is_graph
    faster = lean(net, (9, 7), half=False)
    assert count(faster, "channels_last", (9, 7)) == arranged
    assert_same(net, faster, images(2, 3, 9, 7, dtype=torch.float64))


def test_a_network_without_a_graph_stays_itself() -> None:
    net = Network.of(seeded(networks.DataBranch), size=(9, 7))
    with pytest.warns(match="only its modules"):
        assert lean(net, (9, 7), half=False) is net
    assert lean(net, (9, 7), half=True) is net


def test_a_derived_network_is_kept_until_a_weight_changes_in_place() -> None:
    module = made(NETS["bias"][0])
    net = Network.of(module, size=SIZE)
    x = images(2, 3, *SIZE, dtype=torch.float64)
    first = lean(net, SIZE, half=False)
    before = first(x)
    assert lean(net, SIZE, half=False) is first
    assert lean(net, (25, 19), half=False) is first
    with torch.no_grad():
        module.layers[0].weight[:, 2].mul_(-3)
    second = lean(net, SIZE, half=False)
    assert second is not first
    assert (second(x) - before).abs().max() > 1e-3
    torch.testing.assert_close(second(x), net(x), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        module.layers[1].running_var.mul_(2)
    third = lean(net, SIZE, half=False)
    assert third is not second
    torch.testing.assert_close(third(x), net(x), rtol=1e-12, atol=1e-12)
    assert lean(net, SIZE, half=False) is third


def test_what_is_derived_is_made_once_a_key() -> None:
    net = Network.of(made(NETS["first"][0]), size=SIZE)
    calls: list[str] = []

    def make(name: str) -> Callable[[Network], Network]:
        return lambda given: calls.append(name) or given.edit()  # type: ignore[func-returns-value]

    one = net.derived("one", make("one"))
    assert net.derived("two", make("two")) is not one
    assert net.derived("one", make("again")) is one
    assert calls == ["one", "two"]


class Normalized(nn.Module):
    """Its own normalization, as wrapped networks have it, and noise that is drawn from a weight at every run."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.std = nn.Buffer(torch.tensor([0.3, 0.5, 0.4])), nn.Buffer(torch.tensor([0.2, 0.3, 0.4]))
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        kept = F.dropout(self.mean, 0.5, training=True).sum() * 0
        return self.conv((x - self.mean.view(-1, 1, 1)) / self.std.view(1, -1, 1, 1).square() + kept).mean((2, 3))


def test_what_hangs_on_weights_alone_is_computed_once_and_what_is_drawn_is_not() -> None:
    net = Network.of(made(Normalized), size=SIZE)
    folded = net.edit(edits.fold_constants)
    reading = [
        [n.args[1].op for n in graph_of(one).module.graph.nodes if op_name(n) in ("sub", "div")]
        for one in (net, folded)
    ]
    assert reading == [["call_function"] * 2, ["get_attr"] * 2]
    assert count(folded, "dropout") == count(net, "dropout") == 1
    assert_same(net, lean(net, SIZE, half=False), images(2, 3, *SIZE, dtype=torch.float64))


class Flat(nn.Module):
    """A map, flattened, and a linear layer of it."""

    def __init__(self, units: int, keep: int = 1) -> None:
        super().__init__()
        self.conv, self.keep = nn.Conv2d(3, 4, 3, stride=2), keep
        self.head = nn.LazyLinear(units)

    def forward(self, x: Tensor) -> Tensor:
        found = self.head(F.relu(self.conv(x)).flatten(self.keep))
        return found if self.keep == 1 else found.mean(1)


@pytest.mark.parametrize(("units", "keep", "changed"), [(5, 1, 1), (5, 2, 0), (16_000, 1, 0)])
def test_a_linear_layer_reads_a_flattened_map_as_it_lies(units: int, keep: int, changed: int) -> None:
    module = Flat(units, keep)
    module(torch.zeros(1, 3, *SIZE))
    net = Network.of(made(lambda: module), size=SIZE)
    faster = lean(net, SIZE, half=False)
    assert count(faster, "linear_of_map") == changed
    assert_same(net, faster, images(2, 3, *SIZE, dtype=torch.float64))
