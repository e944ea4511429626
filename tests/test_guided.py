"""Guided backpropagation and the deconvnet: replicas from the papers, and every way to write a ReLU."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.methods.guided import deconvnet, guided_backpropagation
from same import images, seeded, untouched

SIZE = (9, 7)
METHODS = {"guided-backpropagation": guided_backpropagation, "deconvnet": deconvnet}
CAPTUM = {"guided-backpropagation": "GuidedBackprop", "deconvnet": "Deconvolution"}
both = pytest.mark.parametrize("method", METHODS)


pytestmark = pytest.mark.usefixtures("single_thread")


class Deep(nn.Module):
    """Three convolutions; how the two ReLUs between them are written is left to the classes below."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.third, self.fc = nn.Conv2d(8, 4, 1), nn.Linear(4, 5)
        self.relus = nn.ModuleList([nn.ReLU(), nn.ReLU()])

    def rectify(self, x: Tensor, index: int) -> Tensor:
        return self.relus[index](x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.rectify(self.second(self.rectify(self.first(x), 0)), 1)
        return self.fc(self.third(h).mean((2, 3)))


class Functional(Deep):
    def rectify(self, x: Tensor, index: int) -> Tensor:
        return F.relu(x) if index else torch.relu(x)


class Reused(Deep):
    def rectify(self, x: Tensor, index: int) -> Tensor:
        return self.relus[0](x)


class InPlace(Deep):
    def rectify(self, x: Tensor, index: int) -> Tensor:
        return F.relu_(x) if index else F.relu(x, inplace=True)


@functools.cache
def written(kind: str) -> Network:
    return network(seeded(WRITTEN[kind]).double(), SIZE)


WRITTEN = {"modules": Deep, "functional": Functional, "reused": Reused, "in place": InPlace}


def replica(module: Any, x: Tensor, unit: int, gated: bool) -> Tensor:
    """Backwards by hand, layer by layer, as in the papers: at a ReLU, max(dy, 0), times (x > 0) where it is gated."""
    before = module.first(x)
    middle = module.second(before.relu())
    dy = module.fc.weight[unit].view(1, -1, 1, 1).expand(len(x), -1, *middle.shape[2:]) / middle[0, 0].numel()
    dy = F.conv_transpose2d(dy, module.third.weight)
    dy = dy.clamp(min=0) * (middle > 0 if gated else 1)
    rest = [(n + 1) % 2 for n in x.shape[2:]]
    dy = F.conv_transpose2d(dy, module.second.weight, stride=2, padding=1, output_padding=rest)
    dy = dy.clamp(min=0) * (before > 0 if gated else 1)
    return F.conv_transpose2d(dy, module.first.weight, padding=1).detach()


@both
@pytest.mark.parametrize("kind", WRITTEN)
def test_is_the_replica_from_the_paper(method: str, kind: str) -> None:
    net, x = written(kind), images(3, 3, *SIZE, dtype=torch.float64)
    expected = replica(seeded(Deep).double(), x, 3, gated=method != "deconvnet")
    found = METHODS[method](net, x, target="class:3")
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= 1e-12 * expected.abs().max()
    # The score is the network's, and neither map is the gradient.
    assert torch.equal(found.scores, net(x)[:, 3])
    plain = saliency(net, x, target="class:3").values
    assert (found.values - plain).abs().max() > 0.1 * plain.abs().max()
    assert found.kind == "sensitivity"


@both
def test_agrees_with_captum_where_the_relus_are_modules(method: str) -> None:
    captum = pytest.importorskip("captum.attr")
    module, x = seeded(Deep).double(), images(3, 3, *SIZE, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(captum, CAPTUM[method])(module).attribute(x.clone().requires_grad_(True), target=3)
    ours = METHODS[method](written("modules"), x, target="class:3").values
    assert (ours - theirs).abs().max() <= 1e-12 * theirs.abs().max()


@both
def test_captum_is_the_plain_gradient_where_they_are_functions(method: str) -> None:
    captum = pytest.importorskip("captum.attr")
    module, x = seeded(Functional).double(), images(3, 3, *SIZE, dtype=torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(captum, CAPTUM[method])(module).attribute(x.clone().requires_grad_(True), target=3)
    net = written("functional")
    plain = saliency(net, x, target="class:3").values
    assert (theirs - plain).abs().max() <= 1e-12 * plain.abs().max()
    assert (METHODS[method](net, x, target="class:3").values - theirs).abs().max() > 0.1 * plain.abs().max()


class Kin(nn.Module):
    """One activation, after which every gradient is +1 for one unit and -1 for the other."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(1, 2, 1)
        self.conv.weight.data.copy_(torch.tensor([10.0, 10.0]).view(2, 1, 1, 1))
        self.conv.bias.data.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        h = self.function(self.conv(x))
        return (h[:, :1] - 3 * h[:, 1:]).sum((2, 3))


# With what each one gives 0 for, and the upper edge from which it stays as it is.
KIN: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (F.relu, 99.0),
    "relu_": (lambda x: F.relu_(x + 0), 99.0),
    "relu6": (F.relu6, 6.0),
    "hardtanh": (lambda x: F.hardtanh(x, 0.0, 4.0), 4.0),
    "clamp": (lambda x: x.clamp(min=0), 99.0),
    "clamp_both": (lambda x: x.clamp(0, 3), 3.0),
    "clamp_min": (lambda x: x.clamp_min(0), 99.0),
    "maximum": (lambda x: torch.maximum(x, torch.zeros_like(x)), 99.0),
    "maximum_other": (lambda x: torch.maximum(torch.tensor(0.0), x), 99.0),
    "threshold": (lambda x: F.threshold(x, 0, 0), 99.0),
}


@pytest.mark.parametrize("name", KIN)
def test_kin_are_rectified_too(name: str) -> None:
    function, edge = KIN[name]
    net = Network.of(Kin(function).eval(), size=(4, 5), channels=1)
    x = images(2, 1, 4, 5)
    z = 10 * x - 2
    guided = guided_backpropagation(net, x, target="class:0").values
    # By hand: the first unit hands on 1 where it is on and below its edge, times the weight 10; the second asks
    # to fall, and hands on nothing.
    assert torch.equal(guided, torch.where((z > 0) & (z < edge), 10.0, 0.0))
    assert 0 < (guided > 0).float().mean() < 1
    assert torch.equal(deconvnet(net, x, target="class:0").values, torch.full_like(x, 10.0))


@pytest.mark.parametrize("function", [F.gelu, F.hardswish, lambda x: x.clamp(min=-1)], ids=["gelu", "swish", "clamp"])
def test_a_network_without_relus_is_refused(function: Callable[[Tensor], Tensor]) -> None:
    net = Network.of(Kin(function).eval(), size=(4, 5), channels=1)
    for name, method in METHODS.items():
        with pytest.raises(CallError, match=rf"no ReLU between the image and class:0, so {name} would be the plain"):
            method(net, images(2, 1, 4, 5), target="class:0")


class Mixed(networks.Small):
    """A ReLU behind a GELU and a sigmoid; a second one for constants alone."""

    def build(self) -> None:
        self.table = nn.Parameter(torch.linspace(-1, 1, 4).view(1, 4, 1, 1))

    def middle(self, h: Tensor) -> Tensor:
        return F.relu(F.gelu(h) - 0.05) * h.sigmoid() + self.table.relu()


def test_others_keep_their_gradient_and_are_counted() -> None:
    net = network(seeded(Mixed), SIZE)
    x = images(2, 3, *SIZE)
    found = guided_backpropagation(net, x, target="class:1")
    assert found.record.notes == ("2 activations that are no ReLU keep their own gradient",)
    assert guided_backpropagation(written("reused"), x.double()).record.notes == ()
    # Behind the point, the GELU does not count, and before the target only what leads to it does.
    assert guided_backpropagation(net, x, target="class:1", at="sub").record.notes == ()
    with pytest.raises(CallError, match="no ReLU between the image and gelu/1"):
        guided_backpropagation(net, x, target="gelu/1")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


@both
def test_refused_where_nothing_is_between(method: str, net: Network) -> None:
    x = images(2, 3, *SIZE)
    with pytest.raises(CallError, match="no ReLU between the image and conv/2"):
        METHODS[method](net, x, target="conv/2")
    with pytest.raises(CallError, match="no ReLU between relu and second/2"):
        METHODS[method](net, x, target="second/2", at="relu")
    with pytest.raises(CallError, match="there is no path"):
        METHODS[method](net, x, target="conv/2", at="second")
    with pytest.raises(CallError, match="cross-entropy is of a class"):
        METHODS[method](net, x, target="second/2", of="cross-entropy")


def test_refused_without_a_graph() -> None:
    net = Network.of(seeded(networks.DataBranch), size=SIZE)
    with pytest.warns(match="only its modules"):
        net.graph(SIZE)
    for method in METHODS.values():
        with pytest.raises(CallError, match="this needs the network's graph, and there is none"):
            method(net, images(2, 3, *SIZE), target="class:1")


@both
def test_inside(method: str) -> None:
    module, x = seeded(Functional).double(), images(3, 3, *SIZE, dtype=torch.float64)
    inner = METHODS[method](written("functional"), x, target="class:3", at="first").values
    # The last step of the replica is a plain convolution: from the point to the image, it is all that is left.
    expected = replica(module, x, 3, gated=method != "deconvnet")
    assert inner.shape == (3, 6, *SIZE)
    carried = F.conv_transpose2d(inner, module.first.weight, padding=1).detach()
    assert (carried - expected).abs().max() <= 1e-12 * expected.abs().max()


@both
def test_the_network_stays_and_is_changed_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = conv_net(), images(2, 3, *SIZE)
    net = network(module, SIZE)
    made: list[Any] = []
    real = Network.edit
    monkeypatch.setattr(Network, "edit", lambda self, *edits: made.append(edits) or real(self, *edits))
    before = saliency(net, x).values
    with untouched(module):
        first, second = (METHODS[method](net, x).values for _ in range(2))
        with pytest.raises(CallError):
            METHODS[method](net, x, target="nowhere")
    assert len(made) == 1
    assert torch.equal(first, second)
    assert torch.equal(saliency(net, x).values, before)


def test_finite_where_nothing_comes_back() -> None:
    net, x = network(seeded(Dead), SIZE), images(2, 3, *SIZE)
    assert guided_backpropagation(net, x, target="class:0").values.abs().max() == 0
    # What the input was is no matter to the deconvnet.
    assert deconvnet(net, x, target="class:0").values.abs().max() > 0


def test_agrees_with_captum_on_photographs(shared_data: Path) -> None:
    captum = pytest.importorskip("captum.attr")
    import inward
    from inward.network.load import import_torchvision

    file = shared_data / "weights" / "squeezenet1_1.safetensors"
    # 96 pixels: the same operations in a fifth of the time.
    net = inward.load("torchvision/squeezenet1_1", weights=file, size=96, device="cpu")
    x = inward.read(sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:2], net)
    module = import_torchvision().models.squeezenet1_1(weights=None).eval()
    from safetensors.torch import load_file

    module.load_state_dict(load_file(file))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (net.preprocess.mean, net.preprocess.std))
    answers = net(x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown = ((x - mean) / std).requires_grad_(True)
        theirs = captum.GuidedBackprop(module).attribute(shown, target=answers) / std
    ours = guided_backpropagation(net, x).values
    assert ours.abs().max() > 0
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()
