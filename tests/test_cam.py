"""Class-activation maps: equal to the papers' formulas in plain loops, and to Captum's and pytorch-grad-cam's."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import ConvNet, Dead, conv_net, network
from inward import CallError, Network
from inward.columns.objectives import Channel, ClassScore
from inward.methods.cam import grad_cam, grad_cam_plus_plus, layer_cam
from inward.methods.score_cam import score_cam
from inward.network.load import import_torchvision
from same import images, seeded
from tiny_transformers import TinyViT

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (9, 7)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
METHODS: dict[str, Any] = {
    "grad-cam": grad_cam,
    "grad-cam-plus-plus": grad_cam_plus_plus,
    "layer-cam": layer_cam,
    "score-cam": score_cam,
}
# The same sums in another order, in float64.
EXACT = 1e-12


def picture(count: int = 2, size: tuple[int, int] = SIZE) -> Tensor:
    return images(count, 3, *size, dtype=torch.float64)


@pytest.fixture(scope="module")
def module() -> ConvNet:
    made: Any = conv_net().double()
    with torch.no_grad():
        # Behind its ReLU, this channel is 0 at every place.
        made.conv.bias[2] = -1000.0
    return made


@pytest.fixture(scope="module")
def net(module: ConvNet) -> Network:
    return network(module, SIZE, mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def plain(module: ConvNet) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def pairs() -> tuple[Network, Network]:
    """One network of two channels, in float32 and in float64."""
    short = network(conv_net(channels=2), SIZE)
    return short, short.to(dtype=torch.float64)


@pytest.fixture(scope="module")
def dead() -> Network:
    module: Any = seeded(Dead)
    nn.init.constant_(module.second.bias, -1000.0)
    return network(module, SIZE)


def shown(x: Tensor) -> Tensor:
    return (x - x.new_tensor(MEAN).view(1, 3, 1, 1)) / x.new_tensor(STD).view(1, 3, 1, 1)


def parts(module: ConvNet, x: Tensor, at: str) -> tuple[Tensor, Any]:
    """The activations at a point of images as the network is shown them, and what follows from there to the logits."""
    first = module.relu(module.conv(x))
    ends: dict[str, tuple[Tensor, Any]] = {
        "relu": (first, lambda a: module.fc(module.second(a).relu().mean((2, 3)))),
        "second": (module.second(first), lambda a: module.fc(a.relu().mean((2, 3)))),
        "relu:2": (module.second(first).relu(), lambda a: module.fc(a.mean((2, 3)))),
    }
    return ends[at]


def slow(method: str, values: Tensor, slopes: Tensor) -> Tensor:
    """The map (h, w) of one image by its paper's formula, number by number; values and slopes (C, h, w)."""
    found = [[0.0] * values.shape[2] for _ in range(values.shape[1])]
    places = [(y, x) for y in range(values.shape[1]) for x in range(values.shape[2])]
    for a, g in zip(values.tolist(), slopes.tolist(), strict=True):
        total = sum(a[y][x] for y, x in places)
        weight = 0.0
        for y, x in places:
            slope = g[y][x]
            if method == "grad-cam":
                weight += slope / len(places)
            elif slope != 0:
                weight += slope**2 / (2 * slope**2 + total * slope**3) * max(slope, 0.0)
        for y, x in places:
            found[y][x] += (max(g[y][x], 0.0) if method == "layer-cam" else weight) * a[y][x]
    return torch.tensor(found, dtype=torch.float64).clamp_min(0)


def gradient_maps(module: ConvNet, x: Tensor, at: str, score: Any) -> tuple[Tensor, Tensor]:
    values, rest = parts(module, shown(x), at)
    values = values.detach().requires_grad_(True)
    return values, torch.autograd.grad(score(rest(values)).sum(), values)[0]


SCORES: dict[str, tuple[Any, str, Any]] = {
    "class": ("class:3", "score", lambda z: z[:, 3]),
    "one an image": (["class:4", "class:0"], "score", lambda z: z[range(2), [4, 0]]),
    "own answer": (None, "score", lambda z: z.amax(1)),
    "probability": ("class:1", "probability", lambda z: z.softmax(1)[:, 1]),
    "cross-entropy": ("class:1", "cross-entropy", lambda z: z.log_softmax(1)[:, 1]),
}


@pytest.mark.parametrize("at", ["relu", "relu:2"])
@pytest.mark.parametrize("case", SCORES)
@pytest.mark.parametrize("method", ["grad-cam", "grad-cam-plus-plus", "layer-cam"])
def test_is_the_formula_of_its_paper(module: ConvNet, net: Network, method: str, case: str, at: str) -> None:
    target, of, score = SCORES[case]
    x = picture()
    values, slopes = gradient_maps(module, x, at, score)
    expected = torch.stack([slow(method, v, s) for v, s in zip(values, slopes, strict=True)])[:, None]
    found = METHODS[method](net, x, target=target, of=of, at=at)
    assert expected.max() > 0
    assert found.values.shape == expected.shape != (2, 1, *SIZE) or at == "relu"
    assert (found.values - expected).abs().max() <= EXACT * expected.max()
    assert (found.kind, found.at, found.record.method) == ("amount", at, method)


def slow_score_cam(module: ConvNet, x: Tensor, at: str, channels: list[int], label: int) -> Tensor:
    """Algorithm 1 of the paper for one image (C, H, W), with the baseline's score taken off as it is there."""
    values = parts(module, shown(x[None]), at)[0][0].detach()
    black = torch.zeros_like(x)
    gains = []
    for k in channels:
        wide = F.interpolate(values[k][None, None], x.shape[1:], mode="bilinear", align_corners=False)[0]
        mask = (wide - wide.min()) / (wide.max() - wide.min())
        with torch.no_grad():
            gains.append((module(shown((x * mask)[None])) - module(shown(black[None])))[0, label])
    weights = torch.stack(gains).exp() / torch.stack(gains).exp().sum()
    return sum(w * values[k] for w, k in zip(weights, channels, strict=True)).clamp_min(0)  # type: ignore[union-attr]


@pytest.mark.parametrize("at", ["relu", "relu:2"])
def test_score_cam_is_the_algorithm_of_its_paper(module: ConvNet, net: Network, at: str) -> None:
    x = picture()
    found = score_cam(net, x, target=["class:2", "class:4"], at=at)
    dead = 0
    for i, label in enumerate((2, 4)):
        values = parts(module, shown(x), at)[0][i]
        alive = [k for k in range(len(values)) if values[k].max() > values[k].min()]
        expected = slow_score_cam(module, x[i], at, alive, label)
        dead += len(values) - len(alive)
        assert expected.max() > 0
        # The loop runs on folded weights, which round otherwise.
        assert (found.values[i, 0] - expected).abs().max() <= EXACT * expected.max()
        missing = len(values) - len(alive)
        said = f"{missing} of {len(values)} channels of {at} are the same at every place, and make no mask"
        assert found[i].notes() == ((said,) if missing else ())
    assert dead == (2 if at == "relu" else 0)


def test_score_cam_of_the_channels_that_vary_most(module: ConvNet, net: Network) -> None:
    x = picture()
    values = parts(module, shown(x), "relu")[0].detach()
    done: list[tuple[int, int]] = []
    found = score_cam(net, x, target="class:2", at="relu", channels=2, on_progress=lambda *a: done.append(a))
    for i in range(2):
        order = sorted(range(6), key=lambda k: -values[i, k].std().item())
        expected = slow_score_cam(module, x[i], "relu", sorted(order[:2]), 2)
        assert expected.max() > 0
        assert (found.values[i, 0] - expected).abs().max() <= EXACT * expected.max()
        assert found[i].notes()[-1] == "of the other channels, the 2 that vary most"
        assert 0.5 <= found.measured["largest_weight"][i] <= 1
    assert done[-1] == (4, 4)


def test_score_cam_hides_behind_its_baseline(net: Network) -> None:
    x = picture()
    maps = [score_cam(net, x, target="class:2", at="relu", baseline=b).values for b in ("black", "white", "mean")]
    assert not torch.allclose(maps[0], maps[1], rtol=1e-3)
    given_ = x.new_tensor(MEAN).view(3, 1, 1).expand(3, *SIZE)
    assert torch.equal(score_cam(net, x, target="class:2", at="relu", baseline=given_).values, maps[2])
    noise = [score_cam(net, x, target="class:2", at="relu", baseline="noise", seed=s).values for s in (0, 1)]
    assert not torch.equal(noise[0], noise[1])


def test_the_weights_of_grad_cam_are_finite_differences(module: ConvNet, net: Network) -> None:
    x, step = picture(), 1e-4
    values, rest = parts(module, shown(x), "second")
    with torch.no_grad():
        weights = torch.zeros(2, 8, dtype=torch.float64)
        for k in range(8):
            more, less = values.clone(), values.clone()
            more[:, k] += step
            less[:, k] -= step
            weights[:, k] = (rest(more) - rest(less))[:, 3] / (2 * step) / (5 * 4)
        expected = (weights[:, :, None, None] * values).sum(1, keepdim=True).clamp_min(0)
    found = grad_cam(net, x, target="class:3", at="second").values
    assert expected.max() > 0
    # Linear in pieces: exact, unless a place crosses 0 within a step; none does.
    assert (found - expected).abs().max() <= 1e-9 * expected.max()


@pytest.mark.parametrize("layer", ["conv", "relu", "second"])
def test_agrees_with_captum(module: ConvNet, plain: Network, layer: str) -> None:
    captum = pytest.importorskip("captum.attr")
    x = picture(3)
    theirs = captum.LayerGradCam(module, getattr(module, layer)).attribute(
        x.clone().requires_grad_(True), target=3, relu_attributions=True
    )
    ours = grad_cam(plain, x, target="class:3", at=layer).values
    assert theirs.max() > 0
    assert (ours - theirs).abs().max() <= EXACT * theirs.max()


def peers(kind: str, module: nn.Module, name: str, x: Tensor, label: int, reshape: Any = None) -> Tensor:
    """pytorch-grad-cam's map before it is resized and scaled, with the ReLU that it applies next."""
    import_torchvision()
    package = pytest.importorskip("pytorch_grad_cam")
    targets_of = pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    targets = [targets_of(label) for _ in x]
    # It leaves gradients behind.
    module = copy.deepcopy(module)
    layer = module.get_submodule(name)
    with getattr(package, kind)(module, [layer], reshape_transform=reshape) as cam:
        cam(x, targets)
        held = cam.activations_and_grads
        slopes = held.gradients[0].numpy() if held.gradients else None
        found = cam.get_cam_image(x, layer, targets, held.activations[0].numpy(), slopes, eigen_smooth=False)
    return torch.from_numpy(np.maximum(found, 0))[:, None]


@pytest.mark.parametrize(("method", "kind"), [("grad-cam", "GradCAM"), ("layer-cam", "LayerCAM")])
@pytest.mark.parametrize("layer", ["conv", "second"])
def test_agrees_with_pytorch_grad_cam(module: ConvNet, plain: Network, method: str, kind: str, layer: str) -> None:
    x = picture()
    theirs = peers(kind, module, layer, x, 3)
    ours = METHODS[method](plain, x, target="class:3", at=layer).values
    assert theirs.max() > 0
    assert (ours - theirs).abs().max() <= EXACT * theirs.max()


def test_grad_cam_plus_plus_agrees_with_pytorch_grad_cam() -> None:
    # Theirs adds 1e-6 to a denominator of squared gradients: with logits a million times as large it is lost.
    module: Any = conv_net().double()
    with torch.no_grad():
        module.fc.weight *= 1e6
    x = picture()
    theirs = peers("GradCAMPlusPlus", module, "relu", x, 3)
    ours = grad_cam_plus_plus(network(module, SIZE), x, target="class:3", at="relu").values
    assert theirs.max() > 0
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.max()


@pytest.mark.parametrize("normalized", [False, True], ids=["plain", "normalized"])
def test_score_cam_agrees_with_pytorch_grad_cam(normalized: bool) -> None:
    # Theirs masks the normalized image (ours: baseline mean), resizes with the corners aligned (not at
    # all, where the map has the image's size) and keeps channels without a mask (none is here).
    module: Any = conv_net().double()
    with torch.no_grad():
        # Of maps below 0, nothing would be left to compare.
        module.conv.bias += 1
    x = picture()
    net = network(module, SIZE, mean=MEAN, std=STD) if normalized else network(module, SIZE)
    largest = 0.0
    for label in range(5):
        theirs = peers("ScoreCAM", module, "conv", shown(x) if normalized else x, label)
        ours = score_cam(net, x, target=f"class:{label}", at="conv", baseline="mean").values
        # Their scores pass through float32.
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.max()
        largest = max(largest, theirs.max().item())
    assert largest > 0


@pytest.mark.parametrize(("method", "kind"), [("grad-cam", "GradCAM"), ("layer-cam", "LayerCAM")])
def test_transformers_agree_with_pytorch_grad_cam(method: str, kind: str) -> None:
    def on_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].unflatten(1, (3, 2)).permute(0, 3, 1, 2)

    module: Any = seeded(TinyViT).double()
    x = picture(2, (12, 8))
    theirs = peers(kind, module, "blocks.1.norm1", x, 3, on_grid)
    ours = METHODS[method](network(module, (12, 8)), x, target="class:3")
    assert ours.at == "blocks.1.norm1"
    assert theirs.max() > 0
    assert (ours.values - theirs).abs().max() <= EXACT * theirs.max()


def test_an_objective_and_units_are_targets(module: ConvNet, net: Network) -> None:
    x = picture()
    neuron = grad_cam(net, x, target="second/5@4,1")
    values = module.relu(module.conv(shown(x))).detach().requires_grad_(True)
    slopes = torch.autograd.grad(module.second(values)[:, 5, 4, 1].sum(), values)[0]
    expected = torch.stack([slow("grad-cam", v, s) for v, s in zip(values, slopes, strict=True)])[:, None]
    assert neuron.at == "relu"
    assert expected.max() > 0
    assert (neuron.values - expected).abs().max() <= EXACT * expected.max()
    twice = grad_cam(net, x, target=2.0 * ClassScore(3))
    assert torch.allclose(twice.values, 2 * grad_cam(net, x, target="class:3").values, rtol=EXACT)
    assert twice.values.max() > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_target_may_be_of_the_map_itself(net: Network, method: str) -> None:
    x = picture()
    held = net.trace(x, "second")["second"]
    found = METHODS[method](net, x, target="second/5", at="second").values
    if method in ("grad-cam", "layer-cam"):
        # The gradient of a mean over 20 places is 1 / 20 at each.
        assert torch.allclose(found[:, 0], (held[:, 5] / 20).relu(), rtol=EXACT)
    assert found.shape == (2, 1, 5, 4)
    assert found.max() > 0


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), chunk=st.integers(1, 3), method=st.sampled_from(sorted(METHODS)))
def test_alone_as_in_a_batch(net: Network, seed: int, chunk: int, method: str) -> None:
    x = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    whole = METHODS[method](net.within(10**9), x, target=["class:1", "class:4", "class:0"])
    for i, target in enumerate(("class:1", "class:4", "class:0")):
        alone = METHODS[method](net.within(chunk), x[i : i + 1], target=target)
        # Batches of other sizes may add in another order.
        assert (alone.values - whole.values[i : i + 1]).abs().max() <= EXACT * whole.values.abs().max().clamp_min(1e-30)
        assert alone.at == whole.at == "relu:2"


@pytest.mark.parametrize("method", METHODS)
def test_float32_is_near_float64_and_any_channels_will_do(pairs: tuple[Network, Network], method: str) -> None:
    x = images(2, 2, *SIZE)
    short, long = (METHODS[method](net, x.to(net.dtype), target="class:3") for net in pairs)
    assert (short.values.dtype, long.values.dtype) == (torch.float32, torch.float64)
    assert long.values.max() > 0
    assert (short.values - long.values).abs().max() <= 1e-5 * long.values.max()


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_network_has_a_map_of_zeros(dead: Network, method: str) -> None:
    found = METHODS[method](dead, images(2, 3, *SIZE), target="class:0")
    assert found.at == "relu:2"
    assert found.values.abs().sum() + found.measured["share_against"].abs().sum() == 0
    if method == "score-cam":
        assert found[0].notes()[-1].startswith("8 of 8 channels of relu:2 are the same at every place")


def test_what_the_relu_takes_away_is_told(net: Network) -> None:
    x = picture()
    held = net.trace(x, "second")["second"]
    against = grad_cam(net, x, target=-1.0 * ClassScore(3))
    plain = grad_cam(net, x, target=ClassScore(3))
    assert torch.allclose(plain.measured["share_against"] + against.measured["share_against"], held.new_ones(2))
    # A channel that is never negative, asked to be less.
    gone = grad_cam(net, x, target=-1.0 * Channel("relu/0"), at="relu")
    assert net.trace(x, "relu/0")["relu/0"].flatten(1).amax(1).gt(0).all()
    assert not gone.values.any()
    assert torch.equal(gone.measured["share_against"], held.new_ones(2))
    assert "leaves nothing" in gone[1].notes()[-1]


def test_grad_cam_plus_plus_says_where_its_weights_are_not_made_for_the_map(net: Network) -> None:
    x = picture()
    said = "second has channels whose sum is below 0"
    assert any(said in each for each in grad_cam_plus_plus(net, x, target="class:3", at="second")[1].notes())
    assert grad_cam_plus_plus(net, x, target="class:3", at="relu")[1].notes() == ()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channels": 0}, "1 channel or more, not 0"),
        ({"baseline": "blakc"}, "no baseline 'blakc'"),
        ({"at": "secnod"}, "the nearest: second"),
    ],
    ids=str,
)
def test_senseless_options_are_refused(net: Network, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        score_cam(net, picture(), **options)


def test_a_stopped_run_leaves_everything_alone(module: ConvNet, net: Network) -> None:
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    before, state = net.weights_hash(), torch.random.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        score_cam(net, picture(), on_progress=stop)
    grad_cam(net, picture())
    assert net.weights_hash() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
