"""The sanity checks tell methods apart, exchange the weights they name, and leave the network alone."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

import inward
from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.columns.objectives import Channel
from inward.methods.guided import guided_backpropagation
from inward.nets.digits import Digits
from inward.scoring.randomizing import drawn, exchanged, layers_of
from inward.scoring.sanity import label_randomization, model_randomization
from inward.scoring.similarity import rank_correlation, similarity, structural_similarity
from same import images, seeded, untouched
from scored import mapped

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


# Similarity


@settings(max_examples=40, deadline=None)
@each(length=st.integers(2, 30), levels=st.integers(2, 40), seed=st.integers(0, 999))
def test_rank_correlation_is_that_of_scipy(length: int, levels: int, seed: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(levels, (2, length), generator=generator).double() for _ in range(2))
    first[:, 0], first[:, 1], second[:, 0], second[:, 1] = -1, 99, 99, -1
    theirs = [stats.spearmanr(a, b).statistic for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(theirs, abs=1e-12)


def test_rank_correlation_by_hand() -> None:
    up = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert rank_correlation(up, up.exp()).item() == 1
    assert rank_correlation(up, -up).item() == -1
    assert rank_correlation(up, torch.tensor([[2.0, 1.0, 4.0, 3.0]])).item() == pytest.approx(1 - 6 * 4 / (4 * 15))
    assert rank_correlation(up, torch.ones(1, 4)).isnan().all()


@pytest.mark.parametrize(("size", "window"), [((12, 9), 7), ((5, 8), 5), ((4, 6), 3)])
def test_structural_similarity_is_that_of_scikit_image(size: tuple[int, int], window: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    first, second = images(3, *size).double(), images(3, *size).double().flip(0) ** 2
    theirs = [
        metrics.structural_similarity(a.numpy(), b.numpy(), data_range=1.0, win_size=window)
        for a, b in zip(first, second, strict=True)
    ]
    assert structural_similarity(first, second).tolist() == pytest.approx(theirs, abs=1e-12)
    assert structural_similarity(first, first).tolist() == pytest.approx([1, 1, 1])
    assert structural_similarity(first[:, :2], second[:, :2]).isnan().all()
    assert structural_similarity(first, torch.zeros_like(first)).isnan().all()


def test_similarity_is_of_sums_and_of_sizes(net: Network) -> None:
    x = images(2, 3, *SIZE)
    values = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    one, turned = (mapped(net, x, v, target="class:1") for v in (values, -values))
    found = similarity(one, turned)
    assert found.signed.tolist() == pytest.approx([-1, -1], abs=1e-12)
    assert found.absolute.tolist() == pytest.approx([1, 1], abs=1e-12)
    assert found.structural.tolist() == pytest.approx([1, 1], abs=1e-12)
    # The largest of three sizes is not the size of their sum.
    other = similarity(mapped(net, x, values, kind="sensitivity", target="class:1"), one)
    assert other.signed.tolist() == pytest.approx([1, 1], abs=1e-12)
    assert other.absolute.max() < 0.9
    units = saliency(net, x, target="class:1", at="mean")
    assert similarity(units, units).signed.shape == (2,)
    assert similarity(units, units).structural.isnan().all()


# Weights


def weights_of(net: Network, size: tuple[int, int], target: str = "class") -> dict[str, list[tuple[int, ...]]]:
    module: Any = net.graph(size).module  # type: ignore[union-attr]
    layers = layers_of(net, [target], size)
    return {layer.name: [tuple(getattr(module, name).shape) for name in layer.weights] for layer in layers}


def test_layers_are_the_points_that_read_parameters(net: Network) -> None:
    found = weights_of(net, SIZE)
    assert list(found) == ["conv", "second", "fc"]
    assert sorted(found["conv"]) == [(6,), (6, 3, 3, 3)]
    assert sorted(found["fc"]) == [(5,), (5, 8)]
    assert list(weights_of(net, SIZE, "second")) == ["conv", "second"]


class Attentive(nn.Module):
    """Weights that are no module's, reshaped, read twice, inside attention, in batch and layer normalizations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.place = nn.Parameter(torch.randn(1, 12, 8))
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.twice = nn.Linear(8, 8)
        self.out = nn.Parameter(torch.randn(8, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2) + self.place
        x = x + self.mix(x, x, x, need_weights=False)[0]
        x = self.twice(self.norm(self.twice(x)).relu())
        return x.mean(1) @ self.out.t().contiguous().t()


def test_every_parameter_belongs_to_one_layer() -> None:
    module = seeded(Attentive)
    net = network(module, SIZE)
    found = weights_of(net, SIZE)
    shapes = sorted(shape for layer in found.values() for shape in layer)
    assert shapes == sorted(tuple(p.shape) for p in module.parameters())
    assert list(found)[:3] == ["stem.0", "stem.1", "add"]
    # Read twice: met first from the output.
    assert "twice" not in found
    assert sorted(found["twice:2"]) == [(8,), (8, 8)]
    assert all(net.resolve(name) for name in found)
    assert list(found.values())[-1] == [(8, 5)]


def test_random_weights_have_the_size_of_the_old() -> None:
    module: Any = seeded(lambda: nn.Sequential(nn.Conv2d(3, 64, 5), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 15, 5)))
    with torch.no_grad():
        # Their mean is no part of what random weights keep.
        module[0].weight.add_(0.1)
    net = network(module, SIZE)
    layers = layers_of(net, ["class"], SIZE)
    found = drawn(net, layers, SIZE, 0)
    graph: Any = net.graph(SIZE)
    old = {name: getattr(graph.module, name) for name in found}
    weight, bias = sorted(layers[0].weights, key=lambda name: -old[name].ndim)
    assert torch.equal(old[weight], module[0].weight)
    # 4,800 draws: their root mean square is off by 1 % (1.4 % and 0.03 are three standard deviations).
    ratio = found[weight].square().mean().sqrt() / old[weight].square().mean().sqrt()
    assert abs(ratio.item() - 1) < 0.04
    assert abs(torch.corrcoef(torch.stack([found[weight].flatten(), old[weight].flatten()]))[0, 1].item()) < 0.06
    assert torch.equal(found[bias].sort().values, old[bias].sort().values)
    assert not torch.equal(found[bias], old[bias])
    assert all(torch.equal(again, found[name]) for name, again in drawn(net, layers, SIZE, 0).items())
    assert not torch.equal(drawn(net, layers, SIZE, 1)[weight], found[weight])


def test_exchanged_weights_are_what_the_graph_computes_with() -> None:
    module = conv_net()
    net, x = network(module, SIZE), images(2, 3, *SIZE)
    layers = layers_of(net, ["class"], SIZE)
    new = drawn(net, layers, SIZE, 0)
    reference: Any = conv_net()
    with torch.no_grad():
        for layer, child in zip(layers, (reference.conv, reference.second, reference.fc), strict=True):
            for name in layer.weights:
                (child.weight if new[name].ndim > 1 else child.bias).copy_(new[name])
    before = net(x)
    with untouched(module):
        random = net.edit(exchanged(new))
        assert (random(x) - reference(x)).abs().max() < 1e-6
        assert (random(x) - before).abs().max() > 0.1
    assert torch.equal(net(x), before)


# Model randomization


def test_one_layer_after_the_other_from_the_output(net: Network) -> None:
    x = images(3, 3, *SIZE)
    found = saliency(net, x, target="class:2")
    cascade, alone = model_randomization(found), model_randomization(found, cascade=False)
    assert cascade.layers == alone.layers == ("fc", "second", "conv")
    assert cascade.similarity.signed.shape == (3, 3)
    new = drawn(net, layers_of(net, ["class"], SIZE)[::-1], SIZE, 0)
    layers = {layer.name: layer for layer in layers_of(net, ["class"], SIZE)}
    for k, name in enumerate(cascade.layers):
        for result, chosen in ((cascade, cascade.layers[: k + 1]), (alone, (name,))):
            weights = {w: new[w] for layer in chosen for w in layers[layer].weights}
            again = saliency(net.edit(exchanged(weights)), x, target="class:2")
            assert torch.equal(similarity(again, found).signed, result.similarity.signed[k])
            assert torch.equal(similarity(again, found).structural, result.similarity.structural[k])
    assert torch.equal(cascade.similarity.signed[0], alone.similarity.signed[0])
    assert not torch.equal(cascade.similarity.signed[1:], alone.similarity.signed[1:])
    # The target stays, though a random network answers otherwise.
    assert saliency(net.edit(exchanged(new)), x).targets != found.targets


def test_what_lies_behind_the_target_has_no_say(net: Network) -> None:
    found = saliency(net, images(2, 3, *SIZE), target="second/5")
    assert model_randomization(found).layers == ("second", "conv")


@pytest.mark.parametrize(("stages", "layers"), [(1, ("conv",)), (2, ("fc", "conv")), (9, ("fc", "second", "conv"))])
def test_stages_are_spread_over_the_layers(net: Network, stages: int, layers: tuple[str, ...]) -> None:
    found = saliency(net, images(2, 3, *SIZE), target="class:2")
    told: list[tuple[int, int]] = []
    some = model_randomization(found, stages=stages, on_progress=lambda done, of: told.append((done, of)))
    assert some.layers == layers
    assert told[-1] == (len(layers), len(layers))
    # The layers between are random too.
    assert torch.equal(some.similarity.signed[-1], model_randomization(found).similarity.signed[-1])


def test_alone_in_a_batch_and_by_seed(net: Network) -> None:
    found = saliency(net, images(3, 3, *SIZE))
    together = model_randomization(found).similarity
    for i in range(3):
        alone = model_randomization(found[i]).similarity
        # Ranks of values that are equal but for rounding may be exchanged: a 63rd of a rank each.
        assert (alone.signed[:, 0] - together.signed[:, i]).abs().max() < 1e-3
    assert torch.equal(model_randomization(found).similarity.absolute, together.absolute)
    assert not torch.equal(model_randomization(found, seed=1).similarity.absolute, together.absolute)


def test_the_network_is_left_alone_also_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    module = conv_net()
    net = network(module, SIZE)
    x = images(2, 3, *SIZE)
    found = saliency(net, x, target="class:1")
    with untouched(module):
        model_randomization(found)
        runs, real = iter(range(2)), Network.run

        def fails(self: Network, *arguments: Any) -> Any:
            if next(runs, None) is None:
                raise ZeroDivisionError("in the middle of it")
            return real(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Network, "run", fails)
            with pytest.raises(ZeroDivisionError):
                model_randomization(found)
    assert torch.equal(saliency(net, x, target="class:1").values, found.values)


def test_a_dead_network_is_like_nothing() -> None:
    found = saliency(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="class:0")
    assert model_randomization(found).similarity.signed.isnan().all()


def test_what_was_made_in_python_is_given_again(net: Network) -> None:
    x = images(2, 3, *SIZE)
    made, by_name = saliency(net, x, target=Channel("second/5")), saliency(net, x, target="second/5")
    with pytest.raises(CallError, match="give it as target="):
        model_randomization(made)
    again = model_randomization(made, given={"target": Channel("second/5")})
    assert torch.equal(again.similarity.signed, model_randomization(by_name).similarity.signed)


class Branching(nn.Module):
    """Python decides by values, so that this has no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv_net()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else self.body(x) * 2


def test_what_cannot_be_checked_is_refused(net: Network) -> None:
    x = images(2, 3, *SIZE)
    with pytest.raises(CallError, match="1 layer or more, not 0"):
        model_randomization(saliency(net, x), stages=0)
    with pytest.warns(inward.InwardWarning, match="cannot be exported"):
        hooked = saliency(network(Branching().eval(), SIZE, channels=3), x, target="class:1")
    with pytest.raises(CallError, match="has no graph"):
        model_randomization(hooked)
    bare = network(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval(), SIZE, channels=3)
    with pytest.raises(CallError, match="no parameters lie on the way"):
        model_randomization(saliency(bare, x, target="class:1"))


# A trained network


@functools.cache
def pictures() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16, torch.from_numpy(labels)


@functools.cache
def trained(permuted: bool) -> Network:
    """The small network for digits, on their own labels or on permuted ones, learned by heart."""
    count, passes, rate = (60, 100, 6e-3) if permuted else (600, 16, 4e-3)
    x, y = (part[:count] for part in pictures())
    y = y[torch.randperm(count, generator=torch.Generator().manual_seed(1))] if permuted else y
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Digits()
        optimizer = torch.optim.Adam(module.parameters(), lr=rate)
        for _ in range(passes):
            for batch in torch.randperm(count).split(30):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
                optimizer.step()
    with torch.no_grad():
        right = (module.eval()(x).argmax(1) == y).double().mean().item()
    assert right > 0.95
    return network(module, (8, 8))


def test_a_gradient_changes_with_the_weights_and_guided_backpropagation_does_not() -> None:
    """The finding of the paper, on a network trained here: 20 digits that it was not trained on."""
    x = pictures()[0][600:620]
    net = trained(False)
    plain = model_randomization(saliency(net, x)).similarity
    kept = model_randomization(guided_backpropagation(net, x)).similarity
    assert abs(plain.signed[-1].mean().item()) < 0.2
    assert kept.absolute[0].mean() > plain.absolute[0].mean() + 0.1
    assert kept.structural[0].mean() > plain.structural[0].mean()


def test_labels_that_were_permuted_give_other_gradients() -> None:
    x = pictures()[0][:20]
    found = saliency(trained(False), x)
    other = label_randomization(found, trained(True))
    assert other.signed.shape == (20,)
    assert abs(other.signed.mean().item()) < 0.3
    assert label_randomization(found, trained(False)).signed.tolist() == pytest.approx([1] * 20, abs=1e-12)
    by_hand = saliency(trained(True), x, target=list(found.targets))
    assert torch.equal(similarity(by_hand, found).signed, other.signed)


def test_a_network_of_another_build_is_refused(net: Network) -> None:
    found = saliency(net, images(2, 3, *SIZE), target="class:1")
    wide = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(140, 5)))
    with pytest.raises(CallError, match=r"is not of the build of ConvNet \(it has no point conv\)"):
        label_randomization(found, network(wide, SIZE))
    with pytest.raises(CallError, match="it takes 1 channels, not 3"):
        label_randomization(found, network(conv_net(1), SIZE))

    class Longer(type(conv_net())):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sigmoid()

    with pytest.warns(Warning, match="sigmoid"), pytest.raises(CallError, match="besides"):
        label_randomization(found, network(seeded(Longer), SIZE))
    few: Any = conv_net()
    few.fc = nn.Linear(8, 4).eval()
    with pytest.raises(CallError, match=r"its fc has the shape \(1, 4\), not \(1, 5\)"):
        label_randomization(found, network(few, SIZE))


@pytest.mark.slow
def test_on_a_real_network_and_photographs(shared_data: Path) -> None:
    """Gradients of Inception v1 forget; guided backpropagation goes on showing the edges of the photograph."""
    weights = shared_data / "weights" / "inception_v1.safetensors"
    net = inward.load("inward/inception_v1", weights=weights, device="cpu")
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[200:202]
    x = inward.read(files, net)
    plain = model_randomization(saliency(net, x), stages=6)
    kept = model_randomization(guided_backpropagation(net, x), stages=6)
    assert plain.layers[0] == "fc"
    assert plain.layers[-1] == "conv1"
    # Measured: below 0.09 from the second stage on, and above 0.9 down to the last but one.
    assert plain.similarity.signed[1:].abs().max() < 0.2
    assert kept.similarity.signed[:-1].min() > 0.8
    assert kept.similarity.absolute[:-1].min() > plain.similarity.absolute[:-1].max()
