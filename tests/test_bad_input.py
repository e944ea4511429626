"""Everything that is not as it should be: one sentence on stderr, the right exit status, nothing half-written."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import Said, inward
from inward.nets.digits import digits

RANDOM = ("inward/digits", "--weights", "random")
FIVE = "import torch\ndef five():\n    return torch.nn.Sequential(torch.nn.Conv2d(5, 4, 3), torch.nn.Flatten(2))\n"


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4).save(tmp_path / "good.png")
    return tmp_path / "good.png"


def refused(said: Said, status: int, *words: str) -> str:
    """One sentence on stderr that names what was given; nothing on stdout."""
    assert said.status == status, said
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("inward: ")
    assert "Traceback" not in said.err
    assert len(said.err) < 500
    for word in words:
        assert word in said.err, said.err
    return said.err


def not_a_picture(path: Path) -> None:
    path.write_text("these are words, whatever the name says\n")


def truncated_jpeg(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:-900])


def truncated_png(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:5000])


def bomb(path: Path) -> None:
    """20,000 x 20,000 pixels in 50 kB: one bit each, all of them 0."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(2501)) for _ in range(20_000)) + packer.flush()
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def half_a_bomb(path: Path) -> None:
    """Over our limit, and under the one at which Pillow itself refuses."""
    Image.new("1", (12_000, 9_000)).save(path, "PNG")


def floats(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(path, "TIFF")


def deep(path: Path) -> None:
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(path, "TIFF")


def postscript(path: Path) -> None:
    """Pillow would give it to Ghostscript."""
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "words": (not_a_picture, "is not a picture that can be read"),
    "empty": (Path.touch, "is empty (0 bytes)"),
    "jpeg": (truncated_jpeg, "truncated"),
    "png": (truncated_png, "is not a picture that can be read"),
    "bomb": (bomb, "100 megapixels; scale it down"),
    "half-bomb": (half_a_bomb, "12000 x 9000 pixels, over the limit of 100 megapixels"),
    "floats": (floats, "floating-point values"),
    "deep": (deep, "values from 70000 to 70000"),
    "postscript": (postscript, "is not a picture that can be read"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("command", ["explain", "predict"])
def test_bad_picture(tmp_path: Path, kind: str, command: str) -> None:
    make, reason = BAD[kind]
    file = tmp_path / "bad one.png"
    make(file)
    out = ("--out", tmp_path / "out") if command == "explain" else ()
    error = refused(inward(command, *RANDOM, file, *out), 1, reason)
    assert str(file) in error
    assert not (tmp_path / "out").exists()


def test_a_bad_picture_after_good_ones_leaves_no_half_result(tmp_path: Path, good: Path) -> None:
    (tmp_path / "later.png").touch()
    refused(inward("explain", *RANDOM, good, tmp_path / "later.png", "--out", tmp_path / "out"), 1, "later.png")
    assert not (tmp_path / "out").exists()


def test_missing_file_and_empty_folder(tmp_path: Path) -> None:
    refused(inward("explain", *RANDOM, tmp_path / "none.png"), 1, "there is no file", "none.png")
    refused(inward("explain", *RANDOM, tmp_path), 1, "holds no pictures")
    refused(inward("explain", *RANDOM), 2, "there is nothing to explain; name one or more pictures")
    refused(inward("visualize", *RANDOM), 2, "there is nothing to visualize; name one or more units")
    refused(inward("predict", *RANDOM), 2, "there is nothing to predict")


@pytest.mark.parametrize(
    ("array", "status", "reason"),
    [
        (np.full((5, 8, 8), 2.0, np.float32), 2, "values from 2 to 2"),
        (np.full((5, 8, 8), np.nan, np.float32), 2, "holds NaN"),
        (np.zeros((3, 8, 8), np.float32), 2, "this network takes floats of shape (5, 8, 8)"),
        (np.zeros((5, 8, 8), np.int64), 2, "int64"),
        (np.array([{"run": "code"}], dtype=object), 1, "is not a .npy file of numbers"),
    ],
    ids=["range", "nan", "channels", "int", "pickle"],
)
def test_arrays_for_five_channels(tmp_path: Path, array: np.ndarray, status: int, reason: str) -> None:
    (tmp_path / "five.py").write_text(FIVE)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    spec = (f"{tmp_path / 'five.py'}:five", "--size", "8", "--device", "cpu")
    refused(inward("explain", *spec, tmp_path / "x.npy", "--target", "1/0"), status, reason)


def test_picture_for_five_channels(tmp_path: Path, good: Path) -> None:
    (tmp_path / "five.py").write_text(FIVE)
    spec = (f"{tmp_path / 'five.py'}:five", "--size", "8", "--device", "cpu")
    refused(inward("explain", *spec, good, "--target", "0/1"), 2, "takes 5 channels", "give a .npy file")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("conv9/1", "has no point 'conv9'; the nearest: conv"),
        ("conv1/16", "there is no unit 16 in conv1; it has 16, 0 to 15"),
        ("conv1/1@8,0", "8"),
        ("class:10", "there is no class 10; inward/digits has 10 classes, 0 to 9"),
        ("class:ten", "no class is called 'ten'"),
        ("class", "name one, for example class:281"),
        ("conv1/-1", "is not an address"),
        ("@", "is not an address"),
        ("", "is not an address"),
        ("conv1/" + "9" * 200, "it has 16, 0 to 15"),
        ("très/loin", "has no point 'très/loin'"),
        ("conv1\n/0", "has no point"),
    ],
    ids=str,
)
def test_unknown_address(tmp_path: Path, good: Path, address: str, reason: str) -> None:
    refused(inward("visualize", *RANDOM, address, "--out", tmp_path / "out"), 2, reason)
    refused(inward("explain", *RANDOM, good, "--target", address, "--out", tmp_path / "out"), 2, reason)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("spec", "status", "reason"),
    [
        ("digits", 2, "'digits' is not a network; write torchvision/NAME"),
        ("inward/digit", 2, "inward has no network 'digit'; it has"),
        ("inward/digits", 2, "comes without weights; give --weights FILE"),
        ("torchvision/resnet51", 2, "the nearest: resnet5"),
        ("nowhere.to.be:found", 2, "the module 'nowhere.to.be' cannot be imported"),
        ("nothing.py:make", 1, "there is no file nothing.py"),
        ("nothing.pt2", 1, "there is no file nothing.pt2"),
        ("math:sqrt", 1, "math:sqrt failed"),
        ("math:sqroot", 2, "the nearest: sqrt"),
        ("", 2, "'' is not a network"),
    ],
)
def test_unknown_network(good: Path, spec: str, status: int, reason: str) -> None:
    refused(inward("explain", spec, good), status, reason)


def test_weights_that_do_not_fit(tmp_path: Path, good: Path) -> None:
    state = digits().state_dict()
    others = tmp_path / "others.safetensors"
    save_file({**state, "fc.weight": torch.zeros(11, 64)}, others)
    refused(inward("explain", "inward/digits", "--weights", others, good), 2, "do not fit inward/digits", "fc.weight")
    save_file({k: v for k, v in state.items() if k != "fc.bias"}, others)
    refused(inward("explain", "inward/digits", "--weights", others, good), 2, "do not fit", "fc.bias")
    others.write_bytes(b"not safetensors")
    refused(inward("explain", "inward/digits", "--weights", others, good), 1, "not a readable safetensors file")
    missing = tmp_path / "missing.safetensors"
    refused(inward("explain", "inward/digits", "--weights", missing, good), 1, "there is no weights file")
    pickled = tmp_path / "whole.pt"
    torch.save(digits(), pickled)
    refused(inward("explain", "inward/digits", "--weights", pickled, good), 1, "pickled objects", "is refused")


def test_output_that_cannot_be_written(tmp_path: Path, good: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    below = tmp_path / "file" / "below"
    refused(inward("explain", *RANDOM, good, "--out", below), 1, "cannot be written", "give another --out")
    refused(inward("demo", "--out", below), 1, "cannot be written", "give another --out")
    mine = tmp_path / "out" / "good"
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    refused(inward("explain", *RANDOM, good, "--out", tmp_path / "out"), 2, "is not a result of inward")
    assert [p.name for p in (tmp_path / "out").rglob("*")] == ["good", "notes.txt"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--size", "0"), "0 x 0 is empty"),
        (("--size", "-3"), "empty"),
        (("--size", "8", "8", "8"), "at most 2 elements. Got 3"),
        (("--size", "large"), "a size is one or two whole numbers"),
        (("--size", "8", "cat.png"), "pictures and addresses first, then the options"),
        (
            ("--mean", "0.5", "cat.png"),
            "'cat.png' is not a number; write 0.5 or 4/255 (what is no number goes before it",
        ),
        (("--size", "1"), "cannot take images of 1 x 1; it takes 8 x 8"),
        (("--mean", "0.5", "0.5"), "mean has 2 values for 1 channels; give one a channel"),
        (("--std", "0"), "std has a 0 in it"),
        (("--std", "nan"), "std must be finite"),
        (("--mean", "a/b"), "'a/b' is not a number; write 0.5 or 4/255"),
        (("--mean", "1/0"), "'1/0' is not a number"),
        (("--device", "gpu"), "there is no device 'gpu' here"),
        (("--device", "cuda:99"), "there is no device 'cuda:99' here"),
        (("--dtype", "int8"), "int8"),
        (("--method", "salience"), "there is no method 'salience' here; the nearest: saliency"),
        (("--of", "loss"), "loss"),
        (("--eps", "4/255"), "--eps"),
        (("--nonsense",), "--nonsense"),
        (("--seed", "x"), "x"),
        (("--seed", "-1"), "a seed is a whole number from 0 up, not -1"),
    ],
    ids=str,
)
def test_senseless_options(tmp_path: Path, good: Path, options: tuple[str, ...], reason: str) -> None:
    error = refused(inward("explain", *RANDOM, good, "--out", tmp_path / "out", *options), 2)
    assert any(words in error for words in reason.split("|")), error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--lr", "-1"), "lr must be a number above 0, not -1"),
        (("--lr", "nan"), "lr must be a number above 0, not nan"),
        (("--steps", "-1"), "0 passes or more, not -1"),
        (("--steps", "1.5"), "1.5"),
        (("--redirect", "-1"), "from 0 up"),
        (("--parameterization", "cpn"), "cpn"),
        (("--parameterization", "cppn", "--start", "gray"), "use --start noise"),
        (("--diverse", "0"), "1 picture of a unit or more, not 0"),
        (("--snapshots", "300"), "0 to 255 snapshots on a way of 256 steps, not 300"),
        (("--batch", "0"), "1 unit or more, not 0"),
        (("--settle", "-1"), "settle is a number from 0 up, not -1"),
        (("--video", "avi"), "avi"),
    ],
    ids=str,
)
def test_senseless_visualization(tmp_path: Path, options: tuple[str, ...], reason: str) -> None:
    refused(inward("visualize", *RANDOM, "conv1/0", "--out", tmp_path / "out", *options), 2, reason)
    assert not (tmp_path / "out").exists()


def test_labels_that_are_none(tmp_path: Path, good: Path) -> None:
    missing, broken, binary = tmp_path / "no.txt", tmp_path / "broken.json", tmp_path / "binary.txt"
    broken.write_text("{")
    binary.write_bytes(b"\xff\xfe\x00\x01")
    refused(inward("predict", *RANDOM, good, "--labels", missing), 1, "there is no labels file")
    refused(inward("predict", *RANDOM, good, "--labels", broken), 1, "broken.json is not a list of class names")
    refused(inward("predict", *RANDOM, good, "--labels", binary), 1, "binary.txt is not a list of class names")


NAN = """import torch
def nan():
    made = torch.nn.Sequential(torch.nn.Flatten(1), torch.nn.Linear(64, 3))
    torch.nn.init.constant_(made[1].weight, float("nan"))
    return made
nan.channels = 1
"""


def test_network_that_answers_nan(tmp_path: Path, good: Path) -> None:
    (tmp_path / "nan.py").write_text(NAN)
    spec = f"{tmp_path / 'nan.py'}:nan"
    refused(inward("predict", spec, good, "--size", "8"), 1, "answers NaN; check its weights")
    out = tmp_path / "out"
    refused(inward("explain", spec, good, "--size", "8", "--target", "class:1", "--out", out), 1, "is not finite")
    assert not out.exists()


def test_nothing_of_torch_is_said(tmp_path: Path) -> None:
    """Not even by its loggers, which hold the stderr of the process: so in one of its own."""
    (tmp_path / "flat.py").write_text(NAN)
    command = [sys.executable, "-m", "inward", "show", f"{tmp_path / 'flat.py'}:nan"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = Said(done.returncode, done.stdout, done.stderr)
    refused(said, 2, "cannot take images of 224 x 224; it takes 8 x 8")
