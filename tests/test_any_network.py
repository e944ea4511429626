"""Any network: a unit is visualized the same way, whatever the pictures and the layout; and made again identically."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import inward
from helpers import ConvNet, network
from inward.errors import InwardWarning
from inward.methods.visualize import visualize
from inward.nets.digits import digits
from inward.network import Network
from inward.network.load import import_torchvision
from inward.runs.rerun import rerun
from networks import DataBranch, Small
from same import seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")


def vision_transformer() -> nn.Module:
    models = import_torchvision().models
    return models.VisionTransformer(
        image_size=16, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=5
    )


def swin_transformer() -> nn.Module:
    models = import_torchvision().models
    return models.SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=[2, 2], num_classes=5
    )


class ChannelsLast(nn.Module):
    """Positions first and features last, all the way."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.fc = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x.permute(0, 2, 3, 1)).tanh()
        h = h + self.mix(h.roll((1, 1), (1, 2))).relu()
        return self.fc(h.mean((1, 2)))


CASES: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int], list[str]]] = {
    "vit": (
        vision_transformer,
        3,
        (16, 16),
        ["encoder.layers.encoder_layer_1/3", "encoder.layers.encoder_layer_0/5@1,2"],
    ),
    "swin": (swin_transformer, 3, (16, 24), ["features.1/3", "features.3/7@0,2", "features/4"]),
    "channels-last": (ChannelsLast, 3, (6, 9), ["embed/2", "mix/4@5,8"]),
    "gray": (lambda: ConvNet(1), 1, (9, 7), ["conv/1", "second/2"]),
    "five-channels": (lambda: ConvNet(5), 5, (7, 12), ["conv/1", "second/2@1,5"]),
    "8x8": (lambda: ConvNet(1), 1, (8, 8), ["second/2"]),
    "28x28": (lambda: ConvNet(1), 1, (28, 28), ["second/2@13,13"]),
    "wide": (Small, 3, (5, 40), ["conv/3"]),
    "one-pixel": (lambda: ConvNet(3), 3, (1, 1), ["conv/1"]),
    "resnet18": (
        lambda: import_torchvision().models.resnet18(num_classes=5),
        3,
        (48, 33),
        ["layer2/7", "layer1.0.conv1/3"],
    ),
}


def rises(net: Network, units: list[str], channels: int, **options: Any) -> None:
    names = [*units, "class:1"]
    size = net.size
    options = {"redirect": 0, "precision": "full", "augment": "none", **options}
    start, found = (visualize(net, names, steps=steps, **options) for steps in (0, 20))
    assert found.images.shape == (len(names), channels, *size)
    assert found.addresses == tuple(names)
    assert found.images.isfinite().all()
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert (found.final > start.final).all(), (start.final, found.final)
    for i, name in enumerate(names):
        with torch.no_grad():
            value = net.trace(found.images[i : i + 1], name)[name].mean()
        # float32: attention and convolutions sum a batch in another order.
        assert found.final[i].item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_a_unit_of_any_network(case: str) -> None:
    make, channels, size, units = CASES[case]
    module = seeded(make)
    net = network(module, size)
    assert net.is_graph
    with untouched(module):
        rises(net, units, channels)


def test_tokens_have_a_grid_and_more_than_one_picture() -> None:
    net = network(seeded(vision_transformer), (16, 16))
    unit = "encoder.layers.encoder_layer_1/3"
    found = visualize(net, [unit, "class:2"], steps=10, diverse=2, precision="full")
    assert found.variants.shape == (2, 1, 3, 16, 16)
    assert (found.images - found.variants[:, 0]).abs().amax((1, 2, 3)).min() > 1e-3
    # A class has no grid: pictures of it are compared at the last point before it that has one.
    assert found.variants_final.isfinite().all()


def test_a_network_without_a_graph() -> None:
    module = seeded(DataBranch)
    net = network(module, (8, 6))
    with pytest.warns(InwardWarning):
        assert not net.is_graph
    with untouched(module):
        rises(net, ["conv/2", "bright.0/1@7,5"], 3)
    found = visualize(net, ["conv/2"], steps=4, diverse=2)
    assert found.variants.shape == (1, 1, 3, 8, 6)


WAYS: dict[str, dict[str, Any]] = {
    "fourier": {},
    "pixels": {"parameterization": "pixels", "augment": "crops"},
    "cppn": {"parameterization": "cppn", "augment": "none"},
    "maco": {"parameterization": "maco", "augment": "color"},
    "spectrum": {"parameterization": "maco", "spectrum": "folder"},
    "pyramid": {"parameterization": "pyramid", "tv": 0.01},
    "diverse": {"diverse": 3, "diversity": 2.0, "snapshots": 2},
    "start": {"start": "file", "l2": 0.001},
    "transparent": {"transparent": True, "objective": "sum"},
    "settled": {"steps": 80, "settle": 0.5, "negative": True},
    "sum": {"address": "-0.5 * conv2/3 + conv3/1@1,1"},
    "small": {"size": (12, 9), "seed": 5, "redirect": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_tile_is_made_again(way: str, tmp_path: Path) -> None:
    options = {"steps": 6, **WAYS[way]}
    address = options.pop("address", "conv2/3")
    if "start" in options:
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 3).save(tmp_path / "start.png")
        options["start"] = str(tmp_path / "start.png")
    if "spectrum" in options:
        for k, picture in enumerate(np.random.default_rng(2).integers(0, 256, (3, 8, 8)).astype(np.uint8)):
            (tmp_path / "pictures").mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "pictures" / f"{k}.png")
        options["spectrum"] = str(tmp_path / "pictures")
    save_file(seeded(digits).state_dict(), tmp_path / "digits.safetensors")
    net = inward.load("inward/digits", weights=tmp_path / "digits.safetensors", device="cpu")
    alone = visualize(net, address, **options)
    again = rerun(alone.save(tmp_path / "alone"))
    assert set(again.differences) == set(alone.arrays())
    assert all(gap == 0 for gap in again.differences.values()), again.differences
    assert again.result.measures() == alone.measures()
    # Made among others it is the same but for the rounding of float32, in which a batch is another product.
    among = visualize(net, [address, "conv3/0"], **{**options, "precision": "full"})[0].save(tmp_path / "among")
    told = json.loads((among / "manifest.json").read_text())
    assert told["parameters"]["addresses"] == [address]
    assert told["parameters"]["start"] == [options.get("start", "noise")]
    assert all(gap < 1e-3 for gap in rerun(among).differences.values())
