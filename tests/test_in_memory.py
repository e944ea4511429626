"""Data sets in one piece: every layout is the same images, and what is none is refused before it is read."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

import inward
from helpers import conv_net, network
from inward import CallError, InwardError, Network
from inward.data.packed import MOST_BYTES
from inward.studies.in_memory import examples, in_memory
from inward.studies.labeled import Files

SIZE = (9, 7)
LABELS = [0, 4, 2]


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)


def same(net: Network, data: Any, expected: Tensor) -> None:
    found = examples(data, net)
    assert list(found.labels) == LABELS
    assert len(set(found.names)) == 3
    # In another order, and less than all: as a pass asks for them.
    assert torch.equal(found.images([2, 0]).float(), expected[[2, 0]])


def test_every_layout_is_the_same_images(net: Network, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    for i, one in enumerate(pixels):
        (tmp_path / "folder").mkdir(exist_ok=True)
        Image.fromarray(one).save(tmp_path / "folder" / f"{LABELS[i]}_{i}.png")
    order = sorted(range(3), key=lambda i: LABELS[i])
    read = inward.read([tmp_path / "folder" / f"{LABELS[i]}_{i}.png" for i in range(3)], net)
    files = examples(tmp_path / "folder", net)
    assert isinstance(files, Files)
    assert torch.equal(files.images(range(3)), read[order])
    first = pixels.transpose(0, 3, 1, 2)
    floats = first.astype(np.float32) / 255
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array(LABELS))
    np.savez_compressed(tmp_path / "b.npz", x_test=first, y_test=np.array(LABELS, dtype=np.uint8), x_train=pixels)
    np.savez(tmp_path / "c.npz", data=floats, y=np.array(LABELS, dtype=np.int32))
    tensors = torch.from_numpy(floats).double()
    for data in (*(tmp_path / f"{k}.npz" for k in "abc"), (pixels, LABELS), (tensors, torch.tensor(LABELS))):
        same(net, data, read)


def test_gray_is_every_channel_and_idx_files_are_read(net: Network, tmp_path: Path) -> None:
    gray = np.random.default_rng(1).integers(0, 256, (3, *SIZE), dtype=np.uint8)
    expected = torch.from_numpy(gray)[:, None].float().expand(-1, 3, -1, -1) / 255
    same(net, (gray, LABELS), expected)
    same(net, (gray[..., None], LABELS), expected)
    Image.fromarray(gray[1]).save(tmp_path / "4_gray.png")
    assert torch.equal(inward.read(tmp_path / "4_gray.png", net)[0], expected[1])
    head = struct.pack(">4I", 0x803, 3, *SIZE)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + gray.tobytes()))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 0x801, 3) + bytes(LABELS)))
    same(net, tmp_path / "t10k-images-idx3-ubyte.gz", expected)
    one = network(conv_net(1), SIZE)
    same(one, tmp_path / "t10k-images-idx3-ubyte.gz", expected[:, :1])
    with pytest.raises(CallError, match=r"have the shape \(3, 9, 7, 3\) and this network takes \(N, 1, 9, 7\)"):
        in_memory(np.zeros((3, *SIZE, 3), np.uint8), LABELS, one)


def test_the_real_mnist(shared_data: Path) -> None:
    place = shared_data / "mnist"
    (file,) = (p for p in place.iterdir() if p.name.startswith("t10k-images"))
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval()
    found = examples(file, Network.of(module, size=(28, 28), channels=1))
    assert len(found.labels) == 10000
    assert list(found.labels[:5]) == [7, 2, 1, 0, 4]
    assert found.images([0]).shape == (1, 1, 28, 28)


def test_identity_tells_data_apart(net: Network, pixels: NDArray[np.uint8]) -> None:
    told = in_memory(pixels, LABELS, net).identity()
    assert told == in_memory(pixels.copy(), torch.tensor(LABELS), net).identity()
    other = pixels.copy()
    other[2, 8, 6, 2] ^= 1
    assert told["sha256"] != in_memory(other, LABELS, net).identity()["sha256"]
    assert told != in_memory(pixels, [0, 4, 3], net).identity()


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((0, 9, 7, 3), np.uint8), [], "holds no images"),
        (np.zeros((3, 9, 8, 3), np.uint8), LABELS, r"have the shape \(3, 9, 8, 3\).*try another --size"),
        (np.zeros((3, 9, 7, 3), np.int64), LABELS, "are int64; give uint8, or floats"),
        (np.full((3, 3, 9, 7), 1.5), LABELS, "hold values from 1.5 to 1.5; give uint8"),
        (np.full((3, 3, 9, 7), np.nan), LABELS, "hold NaN"),
        (np.zeros((3, 9, 7, 3), np.uint8), [0, 1], "has 2 labels for 3 images"),
        (np.zeros((3, 9, 7, 3), np.uint8), [0, 1, 5], "has the label 5, and the network has the classes 0 to 4"),
        (np.zeros((3, 9, 7, 3), np.uint8), [0, 1, -1], "has the label -1"),
        (np.zeros((3, 9, 7, 3), np.uint8), [0.0, 1.0, 2.0], "are float64 of shape"),
        (np.zeros((3, 9, 7, 3), np.uint8), np.eye(3, dtype=int), r"of shape \(3, 3\); give one whole number an image"),
        (np.array(["a"]), [0], "what is no array of numbers"),
    ],
    ids=range(11),
)
def test_data_that_is_none_is_refused(net: Network, images: Any, labels: Any, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        in_memory(images, labels, net)


def archive(path: Path, **arrays: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, data in arrays.items():
            file.writestr(f"{name}.npy", data)
    return path


def header(shape: tuple[int, ...], dtype: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": dtype})
    return file.getvalue()


def test_files_that_are_none_are_refused(net: Network, tmp_path: Path) -> None:
    np.savez(tmp_path / "named.npz", pictures=np.zeros(3), labels=np.zeros(3))
    with pytest.raises(InwardError, match="holds labels, pictures; name its arrays images and labels"):
        examples(tmp_path / "named.npz", net)
    # 10^15 bytes are declared, and none of them asked for.
    bomb = archive(tmp_path / "bomb.npz", images=header((10**9, 10**6)), labels=header((3,)) + bytes(3))
    with pytest.raises(InwardError, match="over the limit of 4 GiB"):
        examples(bomb, net)
    short = archive(tmp_path / "short.npz", images=header((3, 9, 7, 3)), labels=header((3,)) + bytes(3))
    with pytest.raises(InwardError, match=r"is not an \.npz file of numbers that can be read"):
        examples(short, net)
    np.savez(tmp_path / "objects.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, int))
    with pytest.raises(InwardError, match="holds Python objects"):
        examples(tmp_path / "objects.npz", net)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InwardError, match=r"is not an \.npz file of numbers"):
        examples(tmp_path / "text.npz", net)
    with pytest.raises(InwardError, match="there is no file"):
        examples(tmp_path / "nowhere.npz", net)
    idx = tmp_path / "a-images-idx3-ubyte"
    idx.write_bytes(struct.pack(">4I", 0x803, 2**20, 2**12, 2**12))
    with pytest.raises(InwardError, match="over the limit"):
        examples(idx, net)
    idx.write_bytes(struct.pack(">4I", 0x803, 3, *SIZE) + bytes(5))
    with pytest.raises(InwardError, match="is not an idx file that can be read"):
        examples(idx, net)
    idx.write_bytes(b"\x00\x00\x08\x01" + bytes(100))
    with pytest.raises(InwardError, match="it begins with 2049"):
        examples(idx, net)
    (tmp_path / "list.csv").write_text("a,b")
    with pytest.raises(InwardError, match=r"list\.csv is no data set; name a folder of labeled pictures"):
        examples(tmp_path / "list.csv", net)
    assert MOST_BYTES == 4 * 1024**3
