"""Which map a class-activation map is drawn on: the last one through whose places the target sees the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import ConvNet, Dead, network
from inward import CallError, InwardWarning, Network
from inward.columns.objectives import ClassScore
from inward.methods.cam import grad_cam, layer_cam
from inward.methods.places import map_for
from inward.methods.score_cam import score_cam
from inward.network.load import import_torchvision
from networks import DataBranch
from same import images, seeded
from tiny_transformers import TinyViT

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (12, 8)


class Dense(nn.Module):
    """Ends as DenseNet does: a normalization that is the output of ``features``, and a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        held = F.adaptive_avg_pool2d(F.relu(self.features(x)), 1)
        return self.fc(F.dropout(held.flatten(1), 0.5, self.training))


class Mixed(nn.Module):
    """A stem, two branches side by side, and beside them a map that nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.one, self.three = nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 3, padding=1)
        self.aside = nn.Conv2d(4, 2, 1)
        self.last = nn.Conv2d(5, 6, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        both = torch.cat([self.one(x).relu(), self.three(x).relu()], 1)
        return self.fc(self.pool(self.last(both).relu()).flatten(1)), self.aside(x)


class Forked(Mixed):
    """Its branches meet again only behind their means."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.fc(torch.cat([branch(x).relu().mean((2, 3)) for branch in (self.one, self.three)], 1))


class Asleep(nn.Module):
    """Its last map is read by a layer whose units are all off, and an earlier one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.hidden, self.fc = nn.Linear(4, 4), nn.Linear(8, 5)
        nn.init.constant_(self.hidden.bias, -1000.0)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        asleep = self.hidden(self.last(first).mean((2, 3))).relu()
        return self.fc(torch.cat([first.mean((2, 3)), asleep], 1))


class Convolutional(nn.Module):
    """Its logits are the means of maps, as SqueezeNet's are."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        self.classes = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.features(x)).flatten(1)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.layer = nn.Sequential(_Skip(), _Skip())
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer(self.stem(x)).mean((2, 3)))


class Sliced(TinyViT):
    """Has a class token, but answers from the mean of the others, cut out by a slice."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.patches(x).flatten(2).transpose(1, 2)], 1)
        return self.head(self.blocks(tokens)[:, 1:].mean(1))


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + x)


def swin() -> nn.Module:
    made = import_torchvision().models.SwinTransformer
    return made(patch_size=[2, 2], embed_dim=8, depths=[2], num_heads=[2], window_size=[2, 2], num_classes=5)


NETS: dict[str, Any] = {
    "conv": ConvNet,
    "dense": Dense,
    "mixed": Mixed,
    "forked": Forked,
    "asleep": Asleep,
    "convolutional": Convolutional,
    "residual": Residual,
    "vit": TinyViT,
    "vit in steps": lambda: TinyViT(fused=False),
    "vit of three projections": lambda: TinyViT(joint=False),
    "vit of patches": lambda: TinyViT("patches"),
    "vit of two tokens": lambda: TinyViT("both"),
    "vit of a slice": Sliced,
    "swin": swin,
}
_made: dict[str, Network] = {}


def made(name: str) -> Network:
    if name not in _made:
        _made[name] = network(seeded(NETS[name]), SIZE)
    return _made[name]


LAST = {
    ("conv", None): "relu:2",
    ("dense", None): "relu",
    ("mixed", None): "relu:3",
    ("residual", None): "layer",
    # What is off is read all the same.
    ("asleep", None): "last",
    # Either branch alone is bypassed by the other.
    ("forked", None): "stem",
    # The maps of the classes themselves explain nothing.
    ("convolutional", None): "features",
    # Behind the last attention, only the class token is read.
    ("vit", None): "blocks.1.norm1",
    ("vit in steps", None): "blocks.1.norm1",
    ("vit of three projections", None): "blocks.1.norm1",
    ("vit of two tokens", None): "blocks.1.norm1",
    ("vit of patches", None): "norm",
    ("vit of a slice", None): "blocks",
    ("swin", None): "norm",
    # Before a target inside: both branches lie side by side, and the map before them is the last of all.
    ("mixed", "cat/3"): "stem",
    ("mixed", "three/1@2,3"): "stem",
    ("mixed", "last/2"): "cat",
    ("residual", "layer.1.conv2/0"): "layer.1.relu",
    # Of a unit behind a ReLU, what it is made from and not the unit before its ReLU.
    ("residual", "layer.0.relu/0"): "stem",
    ("vit", "blocks.0.mlp.0/3"): "blocks.0.norm2",
    ("vit", "blocks.1.norm1/3"): "blocks.0",
}


@pytest.mark.parametrize(("name", "target"), LAST, ids=str)
def test_the_last_map_is_found(name: str, target: str | None) -> None:
    x = images(2, 3, *SIZE)
    found = grad_cam(made(name), x, target=target or "class:3")
    assert found.at == LAST[name, target]
    assert found.measured["share_against"].isfinite().all()
    held = made(name).trace(x, found.at)
    assert found.values.shape == (2, 1, *held.features(found.at).shape[2:])


def places_of(net: Network, at: str | None = None) -> set[tuple[int, ...]]:
    """Where the maps of all classes, for and against, are not 0."""
    found: set[tuple[int, ...]] = set()
    for label in range(5):
        for sign in (-1.0, 1.0):
            shown = layer_cam(net, images(2, 3, *SIZE), target=sign * ClassScore(label), at=at).values
            found |= {tuple(place) for place in shown.nonzero().tolist()}
    return found


@pytest.mark.parametrize(("name", "grid"), [("vit", (3, 2)), ("vit of patches", (3, 2)), ("swin", (6, 4))], ids=str)
def test_every_place_of_the_found_map_matters_in_a_transformer(name: str, grid: tuple[int, int]) -> None:
    assert places_of(made(name)) == {(i, 0, y, x) for i in range(2) for y in range(grid[0]) for x in range(grid[1])}


def test_tokens_lie_on_the_grid_as_the_patches_do() -> None:
    class OnePatch(TinyViT):
        """Reads the class token and the patch in the second row and first column."""

        def forward(self, x: Tensor) -> Tensor:
            tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.patches(x).flatten(2).transpose(1, 2)], 1)
            tokens = self.norm(tokens)
            return self.head(tokens[:, 0] + tokens[:, 3])

    assert places_of(network(seeded(OnePatch), SIZE), at="norm") == {(0, 0, 1, 0), (1, 0, 1, 0)}


def test_channels_last_is_the_same_map() -> None:
    x = images(2, 3, *SIZE)
    for method in (grad_cam, score_cam):
        last, first = (method(made("swin"), x, target="class:3", at=at).values for at in ("norm", "permute"))
        assert last.max() > 0
        # Of another order in memory, so that sums have another order too.
        assert (last - first).abs().max() <= 1e-5 * last.max()


def test_the_choice_is_the_networks_and_not_the_images() -> None:
    for net in (network(seeded(Dead), SIZE), made("conv")):
        for x in (torch.zeros(1, 3, *SIZE), torch.ones(3, 3, *SIZE), images(2, 3, *SIZE)):
            assert grad_cam(net, x, target="class:0").at == "relu:2"


def test_a_head_of_zeros_hides_nothing() -> None:
    module: Any = seeded(TinyViT)
    nn.init.zeros_(module.head.weight)
    found = grad_cam(network(module, SIZE), images(2, 3, *SIZE), target="class:3")
    assert found.at == LAST["vit", None]
    assert not found.values.any()


REFUSED = {
    "one place": ("mixed", "class:0", "pool", "'pool' has one place"),
    "a vector": ("mixed", "class:0", "fc", "no grid is known"),
    "the answer": ("mixed", "class:0", "class", "the network's answer, in which no grid"),
    "a unit": ("mixed", "class:0", "stem/2", "'stem/2' is a unit; give at='stem'"),
    "nowhere": ("mixed", "class:0", "stm", "the nearest: stem"),
    "no path": ("mixed", "class:0", "aside", "no path from 'aside' to the target in class"),
    "beside": ("mixed", "one/2", "three", "no path from 'three' to the target in one"),
    "after": ("mixed", "one/2", "last", "'last' comes after the target in one"),
    "nothing before": ("conv", "conv/2", None, "before conv; give at='conv' for the target's own map"),
    "tokens only": ("vit", "class:0", "norm", "only a class token; name 'blocks.1.norm1'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_map_before_the_target_is_refused(case: str) -> None:
    name, target, at, reason = REFUSED[case]
    with pytest.raises(CallError, match=reason):
        grad_cam(made(name), images(2, 3, *SIZE), target=target, at=at)


def test_a_network_without_maps_is_refused() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(288, 4), nn.ReLU(), nn.Linear(4, 5))
    with pytest.raises(CallError, match="no map of more than one place lies before class; use saliency"):
        grad_cam(network(seeded(lambda: flat), SIZE), images(2, 3, *SIZE))


def test_without_a_graph_the_map_must_be_named() -> None:
    module = seeded(DataBranch)
    net = network(module, SIZE)
    with pytest.warns(InwardWarning, match="cannot be exported"):
        assert not net.is_graph
    x = images(2, 3, *SIZE)
    with pytest.raises(CallError, match="cannot be told; name one, for example at='bright'"):
        grad_cam(net, x, target="class:2")
    captum = pytest.importorskip("captum.attr")
    theirs = captum.LayerGradCam(module, module.conv).attribute(x, target=2, relu_attributions=True)
    ours = grad_cam(net, x, target="class:2", at="conv").values
    assert theirs.max() > 0
    assert (ours - theirs).abs().max() <= 1e-6 * theirs.max()


def test_the_map_of_a_published_network() -> None:
    net = network(seeded(import_torchvision().models.squeezenet1_1), (64, 96))
    found = grad_cam(net, images(2, 3, 64, 96), target="class:7")
    assert (found.at, tuple(found.values.shape)) == ("features", (2, 1, 3, 5))
    assert map_for(net, ["class"], (64, 96)) == "features"
