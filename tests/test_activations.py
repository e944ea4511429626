"""What excites units: against the plain answer of all pictures at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import inward
from helpers import ConvNet, conv_net
from inward import CallError, InwardError, Network
from inward.network.load import import_torchvision
from inward.network.receptive import Box
from inward.studies.activations import activations, blocks, load
from inward.studies.patches import patch, sheet
from inward.studies.statistics import BINS, Statistics, bins, edges
from same import seeded, untouched
from studied import POINTS, SIZE, Exact, made_files, made_network, network, plain, same  # noqa: F401

pytestmark = pytest.mark.usefixtures("single_thread")


def test_everything_is_that_of_all_pictures_at_once(net: Network, files: list[Path]) -> None:
    study = activations(net, files, POINTS, k=4, batch=5)
    assert study.seen == 23
    for point in POINTS:
        values = plain(net, files, point)
        flat = values.reshape(*values.shape[:2], -1)
        prefix = f"{point}:" if point == "class" else f"{point}/"
        for unit in range(values.shape[1]):
            address = f"{prefix}{unit}"
            assert study.maximum(address) == flat[:, unit].max()
            # Means are sums divided: their order may differ.
            assert study.largest_mean(address) == pytest.approx(flat[:, unit].mean(1).max().item(), rel=1e-6)
            best = sorted(range(23), key=lambda i, u=unit, f=flat: (-f[i, u].max().item(), i))[:4]
            assert [e.file for e in study.top(address)] == [files[i] for i in best]
            for example, i in zip(study.top(address), best, strict=True):
                assert example.value == flat[i, unit].max()
                first = int(flat[i, unit].argmax())
                expected = divmod(first, values.shape[3]) if values.ndim == 4 else None
                assert example.place == expected


def test_boxes_are_what_the_unit_sees(net: Network, files: list[Path]) -> None:
    """Pixels outside the box can change, and the activation stays; inside, it does not."""
    study = activations(net, files, ["second"], k=2, batch=9)
    for unit in range(5):
        for example in study.top(f"second/{unit}"):
            image = inward.read(example.file, net)
            box = example.box
            assert (box.height, box.width) <= (5, 4)
            inside = torch.zeros_like(image, dtype=torch.bool)
            inside[:, :, box.top : box.bottom, box.left : box.right] = True
            y, x = example.place or (0, 0)
            address = f"second/{unit}@{y},{x}"
            kept, lost = torch.where(inside, image, 1 - image), torch.where(inside, 1 - image, image)
            assert net.trace(kept, address)[address].item() == example.value
            assert net.trace(lost, address)[address].item() != example.value
            assert torch.equal(patch(example.file, net, box), image[0, :, box.top : box.bottom, box.left : box.right])


@pytest.mark.parametrize("batch", [1, 7, 23, 64])
def test_the_batch_size_changes_nothing(net: Network, files: list[Path], batch: int) -> None:
    one, other = (activations(net, files, POINTS, k=3, batch=b) for b in (4, batch))
    for key, statistics in one.points.items():
        theirs = other.points[key].tensors()
        assert all(torch.equal(t, theirs[n]) for n, t in statistics.tensors().items() if n != "means")
        assert torch.allclose(statistics.means, theirs["means"], rtol=1e-6)


def test_of_equal_pictures_the_earlier_comes_first(net: Network, files: list[Path]) -> None:
    twice = [files[15], files[3], files[8], files[3]]
    for batch in (1, 2, 4):
        study = activations(net, twice, ["conv"], k=4, batch=batch)
        statistics = study.points["conv"]
        order = statistics.images.tolist()
        assert all(row.index(0) < row.index(2) and row.index(1) < row.index(3) for row in order)
        assert all(sorted(row) == [0, 1, 2, 3] for row in order)


def test_fewer_pictures_than_k(net: Network, files: list[Path]) -> None:
    study = activations(net, files[:2], ["conv"], k=5)
    assert [len(study.top(f"conv/{u}")) for u in range(4)] == [2] * 4


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, derandomize=True)
@given(st.lists(numbers, min_size=1, max_size=40))
def test_a_bin_holds_what_lies_between_its_edges(values: list[float]) -> None:
    held, limits = torch.tensor(values), edges()
    assert len(limits) == BINS + 1
    for value, index in zip(values, bins(held).tolist(), strict=True):
        low, high = limits[index].item(), limits[index + 1].item()
        if index > BINS // 2:
            assert low <= value < high
        elif index < BINS // 2:
            assert low < value <= high
        else:
            assert low < value < high


def test_the_edges_are_four_an_octave() -> None:
    limits = edges()
    assert bool((limits.diff() > 0).all())
    assert torch.equal(limits, -limits.flip(0))
    assert limits[BINS // 2 + 1 : BINS // 2 + 6].tolist() == [2**-12 * v for v in (1, 1.25, 1.5, 1.75, 2)]
    assert limits[-2].item() == 1.75 * 2**15
    counted = torch.tensor([0.0, -0.0, 1.0, -1.0, 1.24, 1.25, 1e30, -1e30, 2**-12, -(2.0**-12), 2**-13])
    middle = BINS // 2
    assert bins(counted).tolist() == [
        *(middle, middle, middle + 49, middle - 49, middle + 49, middle + 50),
        *(BINS - 1, 0, middle + 1, middle - 1, middle),
    ]


def test_histograms_count_every_activation(net: Network, files: list[Path]) -> None:
    study = activations(net, files, ["conv", "relu"], batch=6)
    for point in ("conv", "relu"):
        values = plain(net, files, point)
        for unit in range(4):
            limits, counts = study.histogram(f"{point}/{unit}")
            assert counts.sum() == 23 * SIZE[0] * SIZE[1]
            # A replica that knows nothing of bits; what lies on an edge belongs to the bin farther from 0.
            these = values[:, unit].double().flatten()
            above = torch.bucketize(these[these > 0], limits, right=True) - 1
            below = torch.bucketize(these[these <= 0], limits) - 1
            expected = torch.bincount(torch.cat([above, below]), minlength=BINS)
            assert torch.equal(counts, expected)
            assert (counts[: BINS // 2].sum() > 0) == (point == "conv")


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**31 - 1))
def test_parts_of_a_stream_add_up(k: int, step: int, seed: int) -> None:
    values = torch.randint(-3, 4, (11, 3, 7), generator=torch.Generator().manual_seed(seed)).float()
    none = Statistics.none(3, k, torch.device("cpu"))
    whole, parts = none.after(values, 0), none
    for start in range(0, 11, step):
        parts = parts.after(values[start : start + step], start)
    assert all(torch.equal(t, parts.tensors()[n]) for n, t in whole.tensors().items() if n != "means")
    assert none.counts.sum() == 0
    assert none.images.max() == -1


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_what_is_no_picture_is_refused_before_the_pass(
    net: Network, files: list[Path], tmp_path: Path, suffix: str
) -> None:
    broken = tmp_path / f"broken.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 80, 3)).astype(np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:-1500])
    calls: list[int] = []
    with pytest.raises(InwardError, match=f"broken.{suffix} is not a picture that can be read"):
        activations(net, [*files, broken], ["conv"], batch=4, on_batch=lambda done, _: calls.append(done))
    assert calls == []
    with pytest.raises(InwardError, match="there is no file"):
        activations(net, [files[0], tmp_path / "gone.png"], ["conv"])


def test_wrong_calls_say_what_is_right(net: Network, files: list[Path]) -> None:
    for points, message in {
        ("conv/1",): "'conv/1' is a unit; give conv",
        ("class:1",): "'class:1' is a unit; give class",
        ("convolution",): "has no point 'convolution'",
        (): "name at least one",
    }.items():
        with pytest.raises(CallError, match=message):
            activations(net, files, points)
    with pytest.raises(CallError, match="count pictures from 1 up, not 0 and 32"):
        activations(net, files, ["conv"], k=0)
    study = activations(net, files[:3], ["conv", "class"])
    for address, message in {
        "conv/4": "there is no unit 4 in conv; it has 4, 0 to 3",
        "con/1": "the study has no point 'con'; the nearest: conv",
        "conv": "'conv' is not a unit",
        "conv/1@2,3": "is not a unit",
        "class:dog": "is not a unit",
    }.items():
        with pytest.raises(CallError, match=message):
            study.top(address)


def test_activations_that_are_no_numbers_are_refused(files: list[Path], tmp_path: Path) -> None:
    module = Exact()
    module.second.bias.data[1] = torch.inf
    net = network(module)
    with pytest.raises(InwardError, match="an activation is not finite"):
        activations(net, files, ["second"], folder=tmp_path / "s")
    with pytest.raises(InwardError, match="has not seen a picture"):
        load(tmp_path / "s")


def test_gray_and_five_channel_networks(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for i in range(5):
        Image.fromarray(generator.integers(0, 256, SIZE).astype(np.uint8)).save(tmp_path / f"{i}.png")
        np.save(tmp_path / f"{i}.npy", generator.random((5, *SIZE)).astype(np.float32))
    for channels, suffix in ((1, "png"), (5, "npy")):
        net, found = network(Exact(channels)), sorted(tmp_path.glob(f"*.{suffix}"))
        study = activations(net, found, ["conv"], batch=2, k=2)
        values = plain(net, found, "conv").amax((2, 3))
        assert study.points["conv"].values[:, 0].tolist() == pytest.approx(values.amax(0).tolist(), rel=1e-6)
        assert sheet(study, net, "conv/1").width > 100


def test_tokens_of_a_vision_transformer(files: list[Path]) -> None:
    make = import_torchvision().models.VisionTransformer
    net = Network.of(seeded(lambda: make(16, 4, 2, 2, 16, 32, num_classes=3)), size=16)
    study = activations(net, files[:6], batch=4, k=2)
    assert list(study.points) == [
        "conv_proj", "encoder.dropout", "encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1",
        "encoder.ln", "heads.head",
    ]  # fmt: skip
    key = "encoder.layers.encoder_layer_1"
    values = plain(net, files[:6], key)
    assert values.shape == (6, 16, 4, 4)
    for unit in range(16):
        example = study.top(f"{key}/{unit}")[0]
        assert example.place is not None
        picture = files.index(example.file)
        # The products of attention are summed in another order in another batch.
        assert values[picture, unit, example.place[0], example.place[1]].item() == pytest.approx(
            example.value, rel=1e-5
        )
        assert example.value == pytest.approx(values[:, unit].max().item(), rel=1e-5)
        assert example.box == Box(0, 0, 16, 16)
    assert study.grids == {k: None if k == "heads.head" else (4, 4) for k in study.points}


def test_points_by_default_are_the_blocks() -> None:
    get = import_torchvision().models.get_model
    resnet = Network.of(seeded(lambda: get("resnet18", weights=None)), size=(64, 48))
    assert blocks(resnet) == [
        "conv1", "bn1", "relu", "maxpool",
        *(f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)), "avgpool", "fc",
    ]  # fmt: skip
    assert blocks(network(ConvNet())) == ["conv", "relu", "second", "fc"]


def test_the_network_is_left_alone(files: list[Path]) -> None:
    module = conv_net().eval()
    with untouched(module):
        activations(Network.of(module, size=SIZE), files[:4], batch=3)


@pytest.fixture(scope="module")
def inception(shared_data: Path) -> Network:
    weights = shared_data / "weights" / "inception_v1.safetensors"
    return inward.load("inward/inception_v1", weights=weights, device="cpu")


def told_channels(shared_data: Path) -> list[dict[str, Any]]:
    told = json.loads((shared_data / "lucent_inception_v1.json").read_text())
    return told if isinstance(told, list) else told["channels"]


def test_inception_on_some_photographs(inception: Network, shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:6]
    study = activations(inception, files, ["mixed3b", "mixed4a"], k=2, batch=4)
    values = plain(inception, files, "mixed4a")
    # Other batches have other sums in their convolutions.
    assert torch.allclose(study.points["mixed4a"].values[:, 0], values.amax((0, 2, 3)), rtol=1e-4, atol=1e-3)
    least = {f"{c['point']}/{c['unit']}": c["largest_on_photographs"] for c in told_channels(shared_data)}
    ours = {a: study.largest_mean(a) for a in least if a.startswith(("mixed3b", "mixed4a"))}
    assert len(ours) >= 8
    assert all(0 <= value <= least[a] * 1.001 for a, value in ours.items())


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_inception_on_all_photographs(inception: Network, shared_data: Path) -> None:
    channels = told_channels(shared_data)
    points = list(dict.fromkeys(c["point"] for c in channels))
    study = activations(inception, shared_data / "imagenet-sample", points)
    assert (study.seen, len(channels)) == (701, 48)
    for c in channels:
        found = study.largest_mean(f"{c['point']}/{c['unit']}")
        assert found == pytest.approx(c["largest_on_photographs"], rel=1e-3)
