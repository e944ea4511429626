"""Data sets: the usual files, folders and archives, and what is wrong with them."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from inward.data import Arrays, Folder, open_set
from inward.data.dataset import fingerprint
from inward.data.packed import from_cifar
from inward.data.sets import kind_of
from inward.errors import CallError, InwardError


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, zipped: bool = True) -> np.ndarray:
    images = np.arange(6 * 5 * 4, dtype=np.uint8).reshape(6, 5, 4)
    for part in ("train", "t10k"):
        for kind, values in (("images-idx3", images), ("labels-idx1", np.array([0, 9, 3, 1, 2, 5]))):
            content = idx(values)
            name = f"{part}-{kind}-ubyte" + (".gz" if zipped else "")
            (folder / name).write_bytes(gzip.compress(content) if zipped else content)
    return images


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files(tmp_path: Path, zipped: bool) -> None:
    images = write_mnist(tmp_path, zipped=zipped)
    assert kind_of(str(tmp_path)) == "mnist"
    train, held = open_set(str(tmp_path))
    assert train.shape == (1, 5, 4)
    assert torch.equal(held.images([4, 1])[:, 0], torch.from_numpy(images[[4, 1]]))
    assert train.labels.tolist() == [0, 9, 3, 1, 2, 5]
    assert train.classes == tuple("0123456789")


def test_a_file_of_mnist_that_is_missing_or_cut(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    whole = (tmp_path / "t10k-images-idx3-ubyte.gz").read_bytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InwardError, match=r"t10k-images-idx3-ubyte\.gz is not an idx file that can be read"):
        open_set(str(tmp_path))
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InwardError, match=r"has train-images.* and no t10k-images.*; give it all 4 files of the set"):
        open_set(str(tmp_path))
    (tmp_path / "train-images-idx3-ubyte.gz").unlink()
    with pytest.raises(InwardError, match=r"has train-labels.* and no train-images"):
        open_set(str(tmp_path))


def test_idx_files_are_read_to_their_checksum(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    whole = bytearray(path.read_bytes())
    whole[-6] ^= 1
    path.write_bytes(whole)
    with pytest.raises(InwardError, match="is not an idx file that can be read: CRC check failed"):
        open_set(str(tmp_path))
    path.write_bytes(gzip.compress(idx(np.array([0, 1, 2, 3, 4, 5])) + b"more"))
    with pytest.raises(InwardError, match="it holds more than it says"):
        open_set(str(tmp_path))


def test_labels_outside_the_classes(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.array([0, 1, 2, 3, 4, 10]))))
    with pytest.raises(InwardError, match="mnist has the label 10, and its classes are 0 to 9"):
        open_set(str(tmp_path))


def write_cifar(folder: Path) -> np.ndarray:
    rows = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        batch = {b"data": rows, b"labels": [3, 0, 9, 1], b"batch_label": name.encode()}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return rows


def test_python_batches_of_cifar(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path)
    assert kind_of(str(tmp_path)) == "cifar10"
    train, held = open_set(str(tmp_path))
    assert len(train.labels) == 20
    assert held.labels.tolist() == [3, 0, 9, 1]
    assert held.classes[held.labels[0]] == "cat"
    # A row is the red plane, the green and the blue one, each by rows.
    assert held.images([2])[0, 1, 3, 7] == rows[2, 1024 + 3 * 32 + 7]


def test_a_batch_is_missing(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    (tmp_path / "test_batch").unlink()
    with pytest.raises(InwardError, match="has data_batch_1 and no test_batch; give it all 6 files of the set"):
        open_set(str(tmp_path))


def test_batches_by_columns_and_labels_beyond_words(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path)
    columns = {b"data": np.asfortranarray(rows), b"labels": [3, 0, 9, 1]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(columns, protocol=2))
    assert torch.equal(open_set(str(tmp_path)).held_out.images([2]).flatten(), torch.from_numpy(rows[2]))
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": rows, b"labels": [2**70, 0, 9, 1]}, protocol=2))
    with pytest.raises(InwardError, match="test_batch is not a Python batch of CIFAR-10"):
        open_set(str(tmp_path))


def as_python_2_wrote_it(rows: np.ndarray, labels: bytes) -> bytes:
    """A batch as CIFAR-10 comes: words of bytes, NumPy by its old names."""

    def word(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    dtype = b"cnumpy\ndtype\n" + word(b"u1") + b"K\x00K\x01\x87R(K\x03" + word(b"|") + b"NNN" + 2 * b"J\xff\xff\xff\xff"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + word(b"b") + b"\x87R"
    array += b"(K\x01K" + bytes([len(rows)]) + b"M\x00\x0c\x86" + dtype + b"K\x00tb\x89"
    array += b"T" + rows.size.to_bytes(4, "little") + rows.tobytes() + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([k]) for k in labels) + b"e"
    return b"\x80\x02}(" + word(b"data") + array + word(b"labels") + numbers + b"u."


def test_batches_as_python_2_wrote_them(tmp_path: Path) -> None:
    rows = write_cifar(tmp_path)
    (tmp_path / "test_batch").write_bytes(as_python_2_wrote_it(rows[:3], bytes([3, 0, 9])))
    _, held = open_set(str(tmp_path))
    assert held.labels.tolist() == [3, 0, 9]
    assert held.images([1])[0].flatten().tolist() == rows[1].tolist()


def test_a_batch_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    """NumPy's own reading of such files ended in a crash."""
    path, draws = tmp_path / "batch", np.random.default_rng(0)
    rows = draws.integers(0, 256, (2, 3072), dtype=np.uint8)
    whole, old = pickle.dumps({b"data": rows, b"labels": [1, 2]}, protocol=2), as_python_2_wrote_it(rows, b"\x01\x02")
    refused = 0
    for packed in (whole, old):
        outside = [i for i in range(len(packed)) if not 250 < i < len(packed) - 60]
        for place in outside:
            changed = bytearray(packed)
            changed[place] = draws.integers(256)
            path.write_bytes(changed)
            try:
                images, labels = from_cifar(path)
            except InwardError:
                refused += 1
            else:
                assert images.shape[1:] == (3, 32, 32)
                assert len(images) == len(labels)
    assert refused > 100


@pytest.mark.parametrize(
    "content", [b"\x80\x02]r\xff\xff\xff\x7f.", b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"."]
)
def test_a_small_file_takes_little_memory(tmp_path: Path, content: bytes) -> None:
    """It says that it will number two thousand million values, or that a terabyte follows."""
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(InwardError, match="batch is not a Python batch of CIFAR-10"):
        from_cifar(tmp_path / "batch")


class Attack:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


def test_nothing_in_a_batch_is_run(tmp_path: Path) -> None:
    write_cifar(tmp_path)
    mark = tmp_path / "was-run"
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Attack(mark), b"labels": []}, protocol=2))
    with pytest.raises(InwardError, match="test_batch is not a Python batch of CIFAR-10 that can be read: it asks for"):
        open_set(str(tmp_path))
    assert not mark.exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00.", b"garbage", pickle.dumps([1, 2])])
def test_damaged_batches(tmp_path: Path, content: bytes) -> None:
    write_cifar(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(content)
    with pytest.raises(InwardError, match="data_batch_3 is not a Python batch of CIFAR-10"):
        open_set(str(tmp_path))


def picture(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def test_folders_of_classes(tmp_path: Path) -> None:
    for part in ("train", "val"):
        picture(tmp_path / part / "cat" / "b.png", (0, 10, 0))
        picture(tmp_path / part / "cat" / "a.png", (0, 0, 9), (40, 20))
        picture(tmp_path / part / "ape" / "c.png", (8, 0, 0), (16, 24))
    train, held = open_set(str(tmp_path), size=16)
    assert train.classes == held.classes == ("ape", "cat")
    assert train.labels.tolist() == [0, 1, 1]
    assert train.shape == (3, 16, 16)
    # In the order of classes and names, also when they are asked for again.
    for _ in range(2):
        assert train.images([2, 0, 1])[:, :, 5, 5].tolist() == [[0, 10, 0], [8, 0, 0], [0, 0, 9]]


def test_the_middle_of_a_picture_is_taken(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.png")
    assert Folder(tmp_path, 10).images([0]).float().mean() == 200


def test_of_one_folder_every_tenth_of_each_class_is_held_out(tmp_path: Path) -> None:
    for name, count in (("a", 25), ("b", 3), ("c", 10)):
        for i in range(count):
            picture(tmp_path / "set" / name / f"{i:02}.png", (i, i, i))
    train, held = open_set(str(tmp_path / "set"), size=8)
    assert held.images(range(4))[:, 0, 0, 0].tolist() == [9, 19, 2, 9]
    assert held.labels.tolist() == [0, 0, 1, 2]
    assert train.labels.bincount().tolist() == [23, 2, 9]
    assert train.images([9])[0, 0, 0, 0] == 10
    # The same where it is all in train.
    (tmp_path / "outer").mkdir()
    (tmp_path / "set").rename(tmp_path / "outer" / "train")
    assert open_set(str(tmp_path / "outer"), size=8).held_out.labels.tolist() == [0, 0, 1, 2]
    for i in range(2):
        (tmp_path / "outer" / "train" / "b" / f"{i:02}.png").unlink()
    with pytest.raises(InwardError, match="the class b of outer has 1 picture; one is trained on and one held out"):
        open_set(str(tmp_path / "outer"), size=8)


@pytest.mark.parametrize("labels", [np.arange(100) % 10, np.arange(100) // 10, np.arange(100) % 2])
def test_no_class_is_lost_by_the_order_of_labels(tmp_path: Path, labels: np.ndarray) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((100, 8, 8), np.uint8), labels=labels)
    train, held = open_set(str(tmp_path / "set.npz"))
    count = len(np.unique(labels))
    assert held.labels.bincount().tolist() == [10 // count] * count
    assert train.labels.bincount().tolist() == [90 // count] * count


def test_what_is_held_out_has_other_names_too(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        for name in ("a", "b"):
            picture(tmp_path / part / name / "x.png", (1, 2, 3))
    assert open_set(str(tmp_path), size=8).held_out.labels.tolist() == [0, 1]
    (tmp_path / "valid" / "b" / "x.png").unlink()
    (tmp_path / "valid" / "b").rmdir()
    with pytest.raises(InwardError, match="valid has no folder of the class b, which is trained on; give it one"):
        open_set(str(tmp_path), size=8)


def test_pictures_are_decoded_as_they_are_seen(tmp_path: Path) -> None:
    """As `read` does: turned upright, transparency on white, 16 bits as the levels that they are."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    pixels = np.zeros((12, 12, 3), np.uint8)
    pixels[:6] = 200
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "one" / "a.png", exif=turned)
    clear = np.zeros((12, 12, 4), np.uint8)
    clear[:, :6, 3] = 255
    Image.fromarray(clear).save(tmp_path / "one" / "b.png")
    deep = np.full((12, 12), 100 * 257, np.uint16)
    Image.fromarray(deep).save(tmp_path / "two" / "c.png")
    upright, clear, deep = Folder(tmp_path, 12).images([0, 1, 2])
    assert upright[0, 3].tolist() == [0] * 6 + [200] * 6
    assert clear[1, 3].tolist() == [0] * 6 + [255] * 6
    assert deep.unique().tolist() == [100]


def test_a_folder_of_pictures_is_one_class(tmp_path: Path) -> None:
    for i in range(12):
        picture(tmp_path / "flat" / f"{i:02}.png", (i, i, i))
    train, held = open_set(str(tmp_path / "flat"), size=8)
    assert train.classes == held.classes == ("flat",)
    assert train.labels.tolist() == [0] * 11
    assert held.images([0]).unique().tolist() == [9]


def test_folders_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"there is no data set .*nothing.*; name mnist, cifar10, digits, a folder"):
        open_set(str(tmp_path / "nothing"))
    with pytest.raises(InwardError, match="has no class folders"):
        open_set(str(tmp_path))
    picture(tmp_path / "full" / "a.png", (1, 2, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InwardError, match=r"the class empty of .* has no pictures; remove its folder or fill it"):
        open_set(str(tmp_path))
    (tmp_path / "empty" / "b.png").write_bytes(b"no picture")
    with pytest.raises(InwardError, match=r"b\.png is not a picture that can be read; replace it"):
        Folder(tmp_path, 8).images([0])


def test_a_set_is_told_from_another_of_its_name() -> None:
    def known(pixels: torch.Tensor, labels: list[int], classes: tuple[str, ...] = ("a", "b")) -> dict[str, object]:
        data = Arrays("some", pixels, torch.tensor(labels), classes)
        return fingerprint(data, Arrays("some", pixels[:1], torch.tensor(labels[:1]), classes))

    pixels = torch.zeros(3, 1, 4, 5, dtype=torch.uint8)
    first = known(pixels, [0, 1, 0])
    assert first == known(pixels.clone(), [0, 1, 0])
    assert (first["pictures"], first["classes"]) == (3, 2)
    others = [known(pixels + 1, [0, 1, 0]), known(pixels, [0, 1, 1]), known(pixels, [0, 1, 0], ("a", "c"))]
    others += [known(pixels.view(3, 1, 5, 4), [0, 1, 0])]
    assert len({one["sha256"] for one in (first, *others)}) == 5


def test_digits_come_with_scikit_learn() -> None:
    train, held = open_set("digits")
    assert (len(train.labels), len(held.labels)) == (1621, 176)
    # 16 levels of ink, as whole levels of 255.
    assert set(train.images(range(50)).unique().tolist()) <= {round(k * 255 / 16) for k in range(17)}


@pytest.mark.parametrize(
    ("labels", "message"), [([0, 1], "2 labels for 3 pictures"), ([0, 1, 2], "label 2"), ([0, -1, 1], "label -1")]
)
def test_arrays_are_checked(labels: list[int], message: str) -> None:
    with pytest.raises(InwardError, match=message):
        Arrays("some", torch.zeros(3, 1, 4, 5, dtype=torch.uint8), torch.tensor(labels), ("a", "b"))
