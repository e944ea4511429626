"""Products in half precision: near the network in float32, and alone as in a batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import inward
import networks
from inward.ascent import Row, ascend
from inward.columns import steps
from inward.columns.objectives import Channel, ClassScore, CrossEntropy, Energy, Margin, Objective, Probability, Unit
from inward.gradient import gradient
from inward.network import Network, lean
from inward.network.graph import Graph
from inward.network.load import import_torchvision
from same import images, seeded, untouched

SIZE = (64, 48)


@pytest.fixture(autouse=True)
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is right does not depend on whether this processor is fast at it."""
    monkeypatch.setattr(lean, "has_half", lambda device: True)


def halved(net: Network, size: tuple[int, int] = SIZE) -> Network:
    return lean.lean(net, size, half=True)


def graph_of(net: Network, size: tuple[int, int] = SIZE) -> Graph:
    graph = net.graph(size)
    assert isinstance(graph, Graph)
    return graph


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a.flatten(1).double(), b.flatten(1).double())


def assert_near(net: Network, x: Tensor, objective: Objective, scores: float, slopes: float) -> None:
    """The scores to a share of the largest, the gradients by their angles; both in float32."""
    size = (x.shape[2], x.shape[3])
    wanted, slope = gradient(net, x, objective)
    found, ours = gradient(halved(net, size), x, objective)
    assert found.dtype == ours.dtype == torch.float32
    assert not torch.equal(found, wanted)
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() <= scores * wanted.abs().max()
    assert cosine(ours, slope).min() >= slopes


@pytest.fixture(scope="module")
def inception(shared_data: Path) -> Network:
    return inward.load("inward/inception_v1", weights=shared_data / "weights" / "inception_v1.safetensors")


@pytest.fixture(scope="module")
def resnet() -> Network:
    module = seeded(lambda: import_torchvision().models.get_model("resnet18", weights=None))
    # Without this a random network grows smaller numbers from block to block.
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var = torch.linspace(0.2, 0.6, layer.num_features)
    return Network.of(module, size=SIZE)


@pytest.fixture(scope="module")
def photographs(shared_data: Path, inception: Network) -> Tensor:
    from inward.pictures import read

    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[3:400:97]
    return read(files, inception, (96, 112))


@pytest.mark.parametrize("address", ["mixed3a/11", "mixed4a/97", "mixed4d/3", "class:281"])
def test_inception_v1_in_half_precision_is_near(inception: Network, photographs: Tensor, address: str) -> None:
    objective = ClassScore(281) if address.startswith("class") else Channel(address)
    assert_near(inception, photographs, objective, scores=0.05, slopes=0.95)
    assert all(tensor.dtype == torch.float32 for tensor in inception._source.weights().values())


@pytest.mark.parametrize("objective", [Channel("layer2.1/5"), ClassScore(3)], ids=["channel", "class"])
def test_resnet18_in_half_precision_is_near(resnet: Network, objective: Objective) -> None:
    assert_near(resnet, images(3, 3, *SIZE), objective, scores=0.03, slopes=0.95)


def test_weights_of_products_are_halved_and_those_of_the_network_are_not() -> None:
    module = seeded(networks.ReusedReLU)
    net = Network.of(module, size=SIZE)
    with untouched(module):
        short = graph_of(halved(net))
        halved(net)(images(2, 3, *SIZE))
    assert short.half == torch.bfloat16
    held = {n.target: getattr(short.module, str(n.target)) for n in short.module.graph.nodes if n.op == "get_attr"}
    short_ones = [t.shape for t in held.values() if t.dtype == torch.bfloat16]
    assert sorted(short_ones) == sorted(p.shape for p in module.parameters())
    assert all(p.dtype == torch.float32 for p in module.parameters())
    plain = graph_of(net).module
    assert all(getattr(plain, str(n.target)).dtype == torch.float32 for n in plain.graph.nodes if n.op == "get_attr")
    assert graph_of(net).half is None


def test_only_float32_on_a_device_that_has_it_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network.of(seeded(networks.ReusedReLU), size=SIZE)
    assert graph_of(halved(net)).half == torch.bfloat16
    assert graph_of(lean.lean(net, SIZE, half=False)).half is None
    x = images(2, 3, *SIZE, dtype=torch.float64)
    wide = net.to(dtype=torch.float64)
    assert halved(wide) is lean.lean(wide, SIZE, half=False)
    assert (halved(wide)(x) - wide(x)).abs().max() <= 1e-13
    assert graph_of(halved(net.to(dtype=torch.bfloat16))).half is None
    monkeypatch.setattr(lean, "has_half", lambda device: False)
    assert graph_of(halved(net)).half is None
    assert halved(net) is lean.lean(net, SIZE, half=False)


def test_the_weights_of_a_float64_network_are_not_shortened() -> None:
    """Asked for by name it is still in float64, to the bit: nothing of it is a product in half precision."""
    wide = Network.of(seeded(networks.ReusedReLU).double(), size=SIZE)
    x = images(2, 3, *SIZE, dtype=torch.float64)
    assert torch.equal(wide.halved(torch.bfloat16)(x), wide(x))


@pytest.mark.parametrize(
    "objective",
    [
        Unit("conv/1"),
        Channel("conv/1"),
        Energy("second"),
        ClassScore(1),
        Probability(1),
        CrossEntropy(2),
        Margin(0),
        ClassScore(1) - 0.5 * Channel("second/2"),
    ],
    ids=lambda o: type(o).__name__,
)
def test_objectives_are_computed_in_float32(objective: Objective) -> None:
    """A mean over 3,072 places in bfloat16 would be off by more than a hundredth of it."""
    net = Network.of(seeded(networks.ReusedReLU), size=SIZE)
    x = images(3, 3, *SIZE)
    scores, slope = gradient(halved(net), x, objective)
    assert scores.dtype == slope.dtype == torch.float32
    # A score that was rounded to bfloat16 on its way has no more than 8 bits.
    assert not torch.equal(scores, scores.bfloat16().float()) or isinstance(objective, (Unit, ClassScore))
    wanted, _ = gradient(net, x, objective)
    torch.testing.assert_close(scores, wanted, rtol=0.02, atol=0.005)


class Doubled(torch.autograd.Function):
    """A user's own function, with a view that needs its numbers in the usual order."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (2 * x.view(x.shape[0], -1)).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return 2 * grads[0]


class Own(nn.Module):
    """Dtypes by hand, and views that need a copy where channels are last."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 8 * 6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.function(self.conv(x))
        return self.fc(nn.functional.adaptive_avg_pool2d(h, (8, 6)).view(h.shape[0], -1))


@pytest.mark.parametrize(
    "function",
    [
        lambda h: h.float().softmax(1),
        lambda h: h.double().tanh().float(),
        lambda h: torch.einsum("nchw,nkhw->nckw", h, h) / 64,
        lambda h: torch.cat([h[:, :2], h[:, 2:].sigmoid()], 1) + h.mean(1, keepdim=True),
        lambda h: nn.functional.local_response_norm(h * 4, 3, alpha=0.5, k=1.0),
        lambda h: nn.functional.group_norm(h, 2) + nn.functional.layer_norm(h, h.shape[3:]),
        lambda h: nn.functional.interpolate(h, scale_factor=2, mode="bilinear"),
        networks.Sign.apply,
        Doubled.apply,
    ],
    ids=["float", "double", "einsum", "cat", "normalized", "norms", "resized", "own", "own view"],
)
def test_networks_that_mind_dtypes_run(function: Callable[[Tensor], Tensor]) -> None:
    net = Network.of(seeded(lambda: Own(function)), size=SIZE)
    assert net.is_graph
    x = images(2, 3, *SIZE)
    for short in (halved(net), net.halved(torch.bfloat16)):
        wanted, slope = gradient(net, x, ClassScore(1))
        found, ours = gradient(short, x, ClassScore(1))
        assert (found - wanted).abs().max() <= 0.03 * net(x).abs().max()
        assert cosine(ours, slope).min() > 0.9


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_transformers_run_in_half_precision(kind: str) -> None:
    models = import_torchvision().models

    def make() -> nn.Module:
        if kind == "torchvision":
            return models.VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=7)
        import timm

        options = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 7}
        return timm.create_model("vit_tiny_patch16_224", pretrained=False, **options)

    net = Network.of(seeded(make), size=32)
    block = "encoder.layers.encoder_layer_1" if kind == "torchvision" else "blocks.1"
    for objective in (ClassScore(2), Channel(f"{block}/5")):
        # A score of a random head is a small difference of larger numbers.
        assert_near(net, images(3, 3, 32, 32), objective, scores=0.1, slopes=0.95)


def test_a_chain_of_the_loop_is_the_same_alone_and_in_a_batch(inception: Network) -> None:
    """To the bit for the passes of one thread, where products of an image do not depend on the batch."""
    x = 0.4 + 0.2 * images(5, 3, 80, 64)
    row = Row(Channel("mixed4a/97"), steps.adam(0.02), 4, redirect=1, prepare=lambda n, size: halved(n, size))
    from inward.network.modes import one_thread

    with one_thread():
        together = ascend(inception, row, x)
        for i in (0, 3):
            alone = ascend(inception, row, x[i : i + 1])
            assert torch.equal(alone.scores[:, 0], together.scores[:, i])
            assert torch.equal(alone.images[0], together.images[i])
    assert (together.images - together.start).abs().mean() > 0.02
    assert (together.final > together.scores[0]).all()
    # The last scores are the network's own, in float32.
    torch.testing.assert_close(together.final, Channel("mixed4a/97")(inception.trace(together.images, "mixed4a/97")))
