"""Data sets in ``.npz`` archives: what they may hold, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from inward.data import open_set
from inward.errors import InwardError


def test_archives(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(12) % 4)
    train, held = open_set(str(tmp_path / "set.npz"))
    assert train.shape == (3, 6, 5)
    assert train.classes == ("0", "1", "2", "3")
    assert torch.equal(held.images([0])[0], torch.from_numpy(images[8]).permute(2, 0, 1))
    # As MedMNIST has its labels: one in a row, and names of its own.
    own = {"train_images": images, "train_labels": (np.arange(12) % 3)[:, None]}
    np.savez(tmp_path / "two.npz", **own, test_images=images[:2], test_labels=np.array([[2], [0]]))
    train, held = open_set(str(tmp_path / "two.npz"))
    assert held.classes == train.classes == ("0", "1", "2")
    assert held.labels.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("labels", "classes", "numbers"),
    [
        (np.array(["cat", "ape", "cat", "ape"]), ("ape", "cat"), [1, 0, 1, 0]),
        (np.array([b"cat", b"ape", b"cat", b"ape"]), ("ape", "cat"), [1, 0, 1, 0]),
        (np.array([1, 0, 1, 0], np.uint16), ("0", "1"), [1, 0, 1, 0]),
        (np.array([1, 0, 1, 0], ">i8"), ("0", "1"), [1, 0, 1, 0]),
        (np.array([True, False, True, False]), ("0", "1"), [1, 0, 1, 0]),
    ],
)
def test_labels_of_any_kind(tmp_path: Path, labels: np.ndarray, classes: tuple[str, ...], numbers: list[int]) -> None:
    images = np.zeros((4, 6, 5), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    for part in open_set(str(tmp_path / "set.npz")):
        assert part.classes == classes
        assert part.labels.tolist() == numbers


X, Y = np.zeros((4, 6, 5), np.uint8), np.array([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X.astype(float), "labels": Y}, r"holds float64 \(4, 6, 5\), and no uint8 pictures"),
        ({"images": X, "labels": Y * 255}, "labels from 0 to 255 and none of the class 1; number the classes from 0"),
        ({"images": X, "labels": Y + 1}, "labels from 1 to 2 and none of the class 0"),
        ({"images": X, "labels": Y - 1}, "labels from -1 to 0 and none of the class 0"),
        ({"images": X, "labels": Y.astype(np.uint64) * 2**63}, "none of the class 1; number the classes"),
        ({"images": X, "labels": Y / 2}, r"labels float64 \(4,\); it needs one whole number or one name a picture"),
        ({"images": X, "labels": np.eye(4, dtype=int)}, r"labels int64 \(4, 4\); it needs one"),
        ({"images": X, "labels": Y[:2]}, "has 2 labels for 4 pictures"),
        ({"x": X, "y": Y, "x_test": X}, "set.npz has x_test and no labels of it; add y_test"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y + 1}, "held-out part of .* has the class 2, and what is trained on"),
        ({"x": X, "y": Y, "x_test": X[..., None].repeat(3, 3), "y_test": Y}, "are 3 x 6 x 5 and the others 1 x 6 x 5"),
        ({"x": X, "y": Y, "x_test": X[:, 1:], "y_test": Y}, "are 1 x 5 x 5 and the others 1 x 6 x 5; give both one"),
    ],
)
def test_archives_that_will_not_do(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InwardError, match=message):
        open_set(str(tmp_path / "set.npz"))


def test_a_damaged_held_out_part_is_not_passed_over(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez_compressed(tmp_path / "set.npz", x=images, y=np.arange(40) % 2, x_test=images, y_test=np.arange(40) % 2)
    with zipfile.ZipFile(tmp_path / "set.npz") as archive:
        place = archive.getinfo("x_test.npy").header_offset + 1000
    whole = bytearray((tmp_path / "set.npz").read_bytes())
    whole[place] ^= 255
    (tmp_path / "set.npz").write_bytes(whole)
    with pytest.raises(InwardError, match=r"set\.npz is not an \.npz file of numbers that can be read"):
        open_set(str(tmp_path / "set.npz"))


def test_damaged_headers_are_one_sentence(tmp_path: Path) -> None:
    """Every byte of the headers changed, and the file cut anywhere: read, or refused."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    whole = (tmp_path / "set.npz").read_bytes()
    refused = 0
    for _ in range(400):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            changed[place] = rng.integers(256)
        (tmp_path / "set.npz").write_bytes(changed if rng.random() < 0.8 else changed[: rng.integers(len(whole))])
        try:
            open_set(str(tmp_path / "set.npz"))
        except InwardError:
            refused += 1
    assert refused > 200
    np.savez(tmp_path / "empty.npz", images=np.zeros((4, 0, 8), np.uint8), labels=np.array([0, 1, 0, 1]))
    with pytest.raises(InwardError, match="holds pictures without pixels"):
        open_set(str(tmp_path / "empty.npz"))
