"""Addresses: one grammar, resolved on real graphs."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import networks
from helpers import conv_net, digits
from helpers import inward as command
from inward.errors import CallError, InwardWarning
from inward.methods.predict import predict
from inward.nets.inception_v1 import inception_v1
from inward.network import Network
from inward.network.address import Address, class_index, parse
from inward.network.load import import_torchvision
from same import images, seeded


def resnet18() -> nn.Module:
    return import_torchvision().models.get_model("resnet18", weights=None)


def vit() -> nn.Module:
    models = import_torchvision().models
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=24, num_classes=10
    )


def swin() -> nn.Module:
    models = import_torchvision().models
    return models.SwinTransformer([4, 4], 12, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=10)


MAKERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int]]] = {
    "inception": (inception_v1, (64, 48)),
    "resnet": (resnet18, (96, 64)),
    "vit": (vit, (32, 32)),
    "swin": (swin, (48, 32)),
    **{name: (make, (9, 7)) for name, make in networks.GRAPHS.items()},
}


@functools.cache
def network(name: str) -> Network:
    make, size = MAKERS[name]
    labels = import_torchvision().models.get_model_weights("resnet18").DEFAULT.meta["categories"]
    return Network.of(seeded(make), size=size, labels=labels if name in {"inception", "resnet"} else None)


# Network, address, what it resolves to, and the shape of its trace for a batch of two.
TABLE = [
    ("inception", "mixed4a/97", "mixed4a/97", (2, 4, 3)),
    ("inception", "mixed4a", "mixed4a", (2, 512, 4, 3)),
    ("inception", "mixed4a.relu:3", "mixed4a.relu:3", (2, 208, 4, 3)),
    ("inception", "mixed4a.cat/5", "mixed4a/5", (2, 4, 3)),
    ("resnet", "layer3.1.conv2/17@5,3", "layer3.1.conv2/17@5,3", (2,)),
    ("resnet", "layer1.0.add", "layer1.0.add", (2, 64, 24, 16)),
    ("resnet", "layer1.0.relu:2/0", "layer1.0.relu:2/0", (2, 24, 16)),
    ("resnet", "class", "class", (2, 1000)),
    ("resnet", "class:281", "class:281", (2,)),
    ("resnet", "class:tabby", "class:281", (2,)),
    ("resnet", "class:Maillot_Tank suit", "class:639", (2,)),
    ("ReusedBlock", "seq:2.1", "seq:2.1", (2, 4, 9, 7)),
    ("ReusedBlock", "seq:2.1/3@8,6", "seq:2.1/3@8,6", (2,)),
    ("NoGradBlock", "mul:2", "mul:2", (2, 4, 9, 7)),
    ("TwoOutputs", "class@1:2", "class@1:2", (2,)),
    ("TwoOutputs", "class@0:2", "class:2", (2,)),
    ("TupleModule", "t.0/3", "t.0/3", (2, 9, 7)),
    ("NestedDict", "t.out.0", "t.out.0", (2, 4, 9, 7)),
    ("vit", "encoder.layers.encoder_layer_0/7", "encoder.layers.encoder_layer_0/7", (2, 4, 4)),
    ("vit", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_0", (2, 17, 16)),
    ("vit", "heads/3", "heads/3", (2,)),
    ("swin", "features.1.0.add/11@11,7", "features.1.0.add/11@11,7", (2,)),
    ("swin", "features.2/23", "features.2/23", (2, 6, 4)),
]


@pytest.mark.parametrize(("name", "address", "resolved", "shape"), TABLE, ids=[f"{n}-{a}" for n, a, *_ in TABLE])
def test_address(name: str, address: str, resolved: str, shape: tuple[int, ...]) -> None:
    net = network(name)
    assert str(net.resolve(address)) == resolved
    assert parse(resolved) == net.resolve(resolved)
    x = images(2, 3, *net.size)
    trace = net.trace(x, address)
    assert tuple(trace[address].shape) == shape
    # The address that it resolves to means the same.
    assert torch.equal(trace[resolved], trace[address])


KINDS = [
    ("resnet", "layer2.0.conv1", "map", (12, 8), 128),
    ("resnet", "fc", "vector", None, 1000),
    ("swin", "features.1.0.add", "map-last", (12, 8), 12),
    ("swin", "features.1.0.mlp.0", "map-last", (12, 8), 48),
    ("vit", "conv_proj", "map", (4, 4), 16),
    ("vit", "encoder.layers.encoder_layer_0.mlp.0", "tokens", (4, 4), 24),
    ("Frozen", "attention", "tokens", (9, 7), 4),
]


@pytest.mark.parametrize(("name", "point", "kind", "grid", "units"), KINDS)
def test_layout(name: str, point: str, kind: str, grid: tuple[int, int] | None, units: int) -> None:
    net = network(name)
    found = net.points[point]
    assert found.shape is not None
    assert (found.layout.kind, found.layout.grid_size(found.shape), found.units) == (kind, grid, units)
    features = net.trace(images(2, 3, *net.size), point).features(point)
    assert tuple(features.shape) == (2, units, *(grid or ()))


def test_units_and_places_are_where_the_layout_says() -> None:
    """The same neuron, read off the raw tensor of each layout by hand."""
    x = images(2, 3, 32, 32)
    tokens = network("vit").trace(x, "encoder")
    # The class token lies before the grid of 4 x 4.
    assert torch.equal(tokens["encoder/7@2,1"], tokens["encoder"][:, 1 + 2 * 4 + 1, 7])
    assert torch.equal(tokens["encoder/7"][:, 3, 3], tokens["encoder"][:, 16, 7])
    x = images(2, 3, 48, 32)
    last = network("swin").trace(x, "features.2")
    assert torch.equal(last["features.2/23@5,1"], last["features.2"][:, 5, 1, 23])
    first = network("ReusedBlock").trace(images(2, 3, 9, 7), "seq")
    assert torch.equal(first["seq/3@8,6"], first["seq"][:, 3, 8, 6])


ERRORS = [
    ("resnet", "layer3.1.conv2/256", r"no unit 256 in layer3.1.conv2; it has 256, 0 to 255"),
    ("resnet", "layer3.1.conv2/17@6,6", r"outside the grid of layer3.1.conv2, which is 6 x 4 \(Y, X from 0\)"),
    ("resnet", "layer3.1.conv2/17@5,4", r"outside the grid of layer3.1.conv2, which is 6 x 4"),
    ("resnet", "fc/3@0,0", r"'fc' has no grid, so 'fc/3@0,0' has no place; leave out @Y,X"),
    ("vit", "encoder/16", r"no unit 16 in encoder; it has 16, 0 to 15"),
    ("vit", "encoder/0@4,0", r"outside the grid of encoder, which is 4 x 4"),
    ("swin", "features.1.0.attn.matmul/3", r"no axis is known to hold units"),
    ("resnet", "layer3.1.conv3", r"no point 'layer3.1.conv3'; the nearest: layer3.1.conv[12]"),
    ("resnet", "layer9.0.add", r"no point 'layer9.0.add'; the nearest: layer[1-4].0.add"),
    ("resnet", "layer1.0.relu:3", r"no point 'layer1.0.relu:3'; the nearest: layer1.0.relu"),
    ("TupleModule", "t", r"no point 't'; the nearest: t\.[01], t\.[01]"),
    ("resnet", "class:1000", r"no class 1000; ResNet has 1000 classes, 0 to 999"),
    ("resnet", "class:taby", r"no class is called 'taby'; the nearest names: .*tabby"),
    ("resnet", "class:cardigan", r"several classes; write class:264 \(Cardigan\) or class:474 \(cardigan\)"),
    ("resnet", "class:²", r"no class is called '²'"),
    ("resnet", "class@1:2", r"has 1 outputs, counted from 0; there is no class@1:2"),
    ("vit", "class:tabby", r"no labels to look up 'tabby' in; give labels= or a number"),
]


@pytest.mark.parametrize(("name", "address", "sentence"), ERRORS, ids=[f"{n}-{a}" for n, a, _ in ERRORS])
def test_wrong_address(name: str, address: str, sentence: str) -> None:
    with pytest.raises(CallError, match=sentence):
        network(name).resolve(address)


@pytest.mark.parametrize(
    "text",
    ["", "/", "conv/", "conv/-1", "conv/1/2", "conv@1,2", "conv/1@2", "conv/1@2,", "conv/1@2,3,4", "conv/x@", "@"],
)
def test_not_an_address(text: str) -> None:
    with pytest.raises(CallError, match=r"is not an address; write POINT, POINT/UNIT, POINT/UNIT@Y,X or class:NAME"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("block1-0.f/2", Address("block1-0.f", 2)),
        ("class", Address("class", output=0)),
        ("class@2", Address("class", output=2)),
        ("class@1:tiger cat", Address("class", output=1, label="tiger cat")),
        ("classifier/3", Address("classifier", 3)),
    ],
)
def test_parse_and_write(text: str, address: Address) -> None:
    assert parse(text) == address
    assert str(address) == text


def test_names_of_classes() -> None:
    labels = ["tabby, tabby cat", "tiger cat", "crane", "crane, machine", "great_grey owl"]
    assert class_index("TABBY  cat", labels) == 0
    assert class_index("tabby", labels) == 0
    assert class_index("Great grey Owl", labels) == 4
    # The whole label is meant before one synonym of several.
    assert class_index("crane", labels) == 2
    with pytest.raises(CallError, match=r"'crane' names several classes; write class:0 \(crane\) or class:1 \(crane\)"):
        class_index("crane", ["crane", "crane"])


@pytest.mark.parametrize("ask", ["resolve", "label", "predict"])
@pytest.mark.parametrize("count", [3, 6])
def test_labels_that_are_not_as_many_as_the_classes_are_told_of_once(ask: str, count: int) -> None:
    net = Network.of(conv_net(), name="five", size=(9, 7), labels=["cat", "dog", "cow", "ant", "bee", "yak"][:count])
    # As long as no class is named, all is well.
    net(images(1, 3, 9, 7))
    asked: dict[str, Callable[[], object]] = {
        "resolve": lambda: net.resolve("class:dog").unit,
        "label": lambda: net.label(4),
        "predict": lambda: predict(net, images(2, 3, 9, 7), top=1)[0][0].label,
    }
    told = f"five has 5 classes and its list of labels has {count} names, .*; give labels"
    with pytest.warns(InwardWarning, match=told) as found:
        asked[ask]()
    assert len(found) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert net.label(4) == ("4" if count == 3 else "bee")
        assert net.within(10**9).resolve("class:dog").unit == 1


def test_labels_of_another_output_or_of_a_cut_network_are_no_matter() -> None:
    net = Network.of(conv_net(), size=(9, 7), labels=["cat", "dog", "cow", "ant", "bee"])
    # Six units at its end, and five names.
    assert net.upto("conv").classes() == 6
    assert [net.label(0), net.label(4)] == ["cat", "bee"]
    # Counting classes makes no graph of another size than the one that is there.
    other = Network.of(conv_net(), size=(9, 7), labels=["cat", "dog", "cow", "ant", "bee"])
    other(images(1, 3, 12, 10))
    assert other.label(1) == "dog"
    assert list(other._graphs) == [(12, 10)]


def test_labels_of_the_command_line(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (8, 8), 128).save(tmp_path / "a.png")
    (tmp_path / "names.txt").write_text("background\n" + "\n".join("abcdefghij"))
    said = command("predict", *digits(), tmp_path / "a.png", "--labels", tmp_path / "names.txt")
    assert said.status == 0
    assert said.err.startswith("inward: inward/digits has 10 classes and its list of labels has 11 names")
    assert said.err.count("\n") == 1
    assert command("predict", *digits(), tmp_path / "a.png").err == ""


def test_what_was_not_traced() -> None:
    net = network("resnet")
    trace = net.trace(images(1, 3, 96, 64), ["layer1.0.add/3", "class"])
    assert list(trace) == ["layer1.0.add", "class"]
    assert trace["layer1.0.add/5"].shape == (1, 24, 16)
    with pytest.raises(CallError, match=r"'layer1.1.add/3' was not traced; ask for it in net.trace"):
        trace["layer1.1.add/3"]


def test_the_grid_is_that_of_the_image() -> None:
    """At another size than the one listed, another place is on the grid."""
    net = network("resnet")
    with pytest.raises(CallError, match="outside the grid"):
        net.resolve("layer3.1.conv2/17@6,6")
    assert net.trace(images(1, 3, 112, 112), "layer3.1.conv2/17@6,6")["layer3.1.conv2/17@6,6"].shape == (1,)
    cut = net.upto(["layer1", "maxpool"])
    assert list(cut.points)[-1] == "layer1"
    with pytest.raises(CallError, match="was cut after layer1, maxpool, so it has no classes"):
        cut.resolve("class:3")
    assert torch.equal(cut(images(1, 3, 96, 64)), net.trace(images(1, 3, 96, 64), "layer1")["layer1"])
