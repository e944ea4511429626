"""`inward visualize`: lines as tiles finish, stops and failures in a sentence, photographs of a study."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import Said, inward
from inward.nets.digits import digits
from same import seeded

COMMAND = [sys.executable, "-m", "inward"]
# Without a buffer every line would appear at once, whatever the command does.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"} | {"OMP_NUM_THREADS": "1"}

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small network as the command line names it."""
    file = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    save_file(seeded(digits).state_dict(), file)
    return ["inward/digits", "--weights", str(file), "--device", "cpu"]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for k, picture in enumerate(np.random.default_rng(1).integers(0, 256, (7, 8, 8)).astype(np.uint8)):
        Image.fromarray(picture).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def study(network: list[str], photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "study"
    said = inward("study", "activations", *network, photographs, "--points", "conv2", "class", "--out", folder)
    assert said.status == 0, said.err
    return folder


def visualize(network: list[str], *arguments: Any, out: Path) -> Said:
    return inward("visualize", *network, *arguments, "--steps", "3", "--out", out)


def refused(said: Said, status: int, *words: str) -> None:
    """One sentence on stderr, and nothing on stdout."""
    assert (said.status, said.out) == (status, ""), said
    assert said.err.count("\n") == 1, said.err
    assert said.err.startswith("inward: ")
    assert all(word in said.err for word in words), said.err


def test_a_line_a_tile_and_the_page(network: list[str], tmp_path: Path) -> None:
    said = visualize(network, "conv2/0:3", "class:1", out=tmp_path / "out")
    assert (said.status, said.err) == (0, "")
    *lines, page = said.out.splitlines()
    assert page == str(tmp_path / "out" / "index.html")
    assert [line.split("  ")[0] for line in lines] == [
        str(tmp_path / "out" / name) for name in ("conv2-0", "conv2-1", "conv2-2", "class-1")
    ]
    told = json.loads((tmp_path / "out" / "conv2-1" / "manifest.json").read_text())["scores"]
    assert lines[1].endswith(f"  address conv2/1, final {told['final']:.4g}, passes 3, redirected_passes 3")
    again = visualize(network, "conv2/0:4", out=tmp_path / "out")
    assert [line.endswith("  (there before)") for line in again.out.splitlines()] == [True] * 3 + [False] * 2
    one = visualize(network, "conv2/1", out=tmp_path / "out")
    # The page is not what was asked for.
    assert one.out == f"{tmp_path / 'out' / 'conv2-1'}  (there before)\n"


def test_lines_appear_as_tiles_finish(network: list[str], tmp_path: Path) -> None:
    """The first is read while later tiles are not there yet."""
    out = tmp_path / "out"
    run = [*COMMAND, "visualize", *network, "conv2/0:6", "--steps", "150", "--batch", "1", "--out", str(out)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
        there = sorted(p.name for p in out.glob("conv2-*"))
        rest = running.stdout.read().splitlines()
    assert first.startswith(f"{out / 'conv2-0'}  address conv2/0")
    assert 1 <= len(there) < 6
    assert len(rest) == 6
    assert running.returncode == 0


def test_stopped_it_goes_on(network: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = [*COMMAND, "visualize", *network, "conv2/0:5", "--steps", "150", "--batch", "1", "--out", str(out)]
    running = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert running.stdout is not None
    lines = [running.stdout.readline(), running.stdout.readline()]
    running.send_signal(signal.SIGINT)
    rest, err = running.communicate(timeout=60)
    done = [*lines, *rest.splitlines()]
    assert running.returncode == 130
    assert 2 <= len(done) < 5
    assert err == f"inward: stopped; {len(done)} of 5 pictures are there, and the same command goes on\n"
    names = [f"conv2-{k}" for k in range(len(done))]
    assert sorted(p.name for p in out.iterdir()) == [*names, "index.html"]
    before = {file: file.read_bytes() for name in names for file in (out / name).iterdir()}
    started = time.time()
    again = inward("visualize", *network, "conv2/0:5", "--steps", "150", "--batch", "1", "--out", out)
    assert again.status == 0
    assert again.out.count("(there before)") == len(done)
    assert {file: file.read_bytes() for file in before} == before
    assert all(file.stat().st_mtime < started for file in before)
    assert sorted(p.name for p in out.iterdir()) == [*(f"conv2-{k}" for k in range(5)), "index.html"]


FULL = """
import resource, sys
from inward import cli
from inward.runs import folder
real = folder._write
count = []
def write(*arguments):
    count.append(1)
    if len(count) == 3:
        # From here on the disk takes no more than so many bytes a file.
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
    real(*arguments)
folder._write = write
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("most", [200, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1500))])
def test_a_full_disk(network: list[str], tmp_path: Path, most: int) -> None:
    """Nothing at all can be written, or the arrays begin and do not end, or the pictures, or the page."""
    out = tmp_path / "out"
    options = ("--steps", "3", "--batch", "2", "--out", str(out))
    run = [sys.executable, "-c", FULL, str(most), "visualize", *network, "conv2/0:5", *options]
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 1, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("inward: ")
    assert "cannot" in done.stderr
    # What failed first is told, not that the page could not be written either.
    assert "conv2-2" in done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    # What was finished is whole, and no draft is left.
    tiles = sorted(p.name for p in out.iterdir() if p.name != "index.html")
    assert tiles == ["conv2-0", "conv2-1"]
    for tile in tiles:
        told = json.loads((out / tile / "manifest.json").read_text())
        assert {p.name for p in (out / tile).iterdir()} == {*told["files"], "manifest.json"}
    again = inward("visualize", *network, "conv2/0:5", "--steps", "3", "--out", out)
    assert again.status == 0
    assert again.out.count("(there before)") == 2


NO_AV = """
import sys
sys.modules["av"] = None
from inward import cli
sys.exit(cli.main(sys.argv[1:]))
"""


def test_without_pyav(network: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = [sys.executable, "-c", NO_AV, "visualize", *network, "conv2/0:3", "--steps", "1000000", "--out", str(out)]
    # A million steps would take hours: it is said before.
    done = subprocess.run(
        [*run, "--video", "mp4"], capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    refused(said, 1, "PyAV, which is not installed; pip install 'inward[video]'")
    assert not out.exists()
    run[run.index("1000000")] = "2"
    done = subprocess.run([*run, "--video", "gif"], capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("*/video.gif"))) == 3


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("conv2/5:5",), 2, "'conv2/5:5' is empty"),
        (("conv2/40:",), 2, "conv2"),
        (("conv2/30:33",), 2, "there is no unit 32 in conv2; it has 32, 0 to 31"),
        (("conv2/0", "conv2/32"), 2, "there is no unit 32 in conv2"),
        (("nowhere/*",), 2, "has no point 'nowhere'"),
        (("conv2/0", "--size", "1"), 2, "cannot take images of 1 x 1"),
        (("conv2/0", "--start", "real"), 2, "--start real needs --study FOLDER, made by `inward study activations`"),
        (("conv2/0", "--start", "none.png"), 1, "there is no file"),
        (("conv2/0", "--method", "class-visualization"), 2, "'conv2/0' is not a class"),
        (("class:1", "--method", "class-visualization", "--diverse", "2"), 2, "class-visualization has no option"),
        (("conv2/0", "--parameterization", "pixels", "--transparent"), 2, "Pixels cannot be made transparent"),
        (("conv2/0", "--study", "nothing"), 1, "nothing"),
        (("2 * conv2/*",), 2, "conv2/*"),
    ],
    ids=str,
)
def test_refused_in_a_sentence(network: list[str], tmp_path: Path, arguments: Any, status: int, words: str) -> None:
    out = tmp_path / "out"
    refused(visualize(network, *arguments, out=out), status, words)
    assert not out.exists()


def test_a_place_that_cannot_be_written(network: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refused(visualize(network, "conv2/0:2", out=tmp_path / "file" / "below"), 1, "cannot be written", "another --out")
    refused(visualize(network, "conv2/0:2", out=tmp_path / "file"), 1, "cannot be written", "another --out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "conv2-1").write_text("a file")
    refused(visualize(network, "conv2/0:2", out=tmp_path / "out"), 2, "conv2-1 exists and is not a result of inward")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["conv2-1"]


def test_photographs_beside_each_tile(network: list[str], photographs: Path, study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = visualize(network, "conv2/0:3", "conv3/1", "class:2", "--study", study, out=out)
    assert said.status == 0, said.err
    page = (out / "index.html").read_text()
    for folder, count in (("conv2-0", 4), ("conv2-2", 4), ("class-2", 4), ("conv3-1", 0)):
        told = json.loads((out / folder / "manifest.json").read_text())
        names = [f"photograph-{k + 1}.png" for k in range(count)]
        assert [name for name in told["files"] if name.startswith("photograph")] == names
        assert all(page.count(f"{folder}/{name}") >= 1 for name in names)
        assert f"{folder}/photograph-{count + 1}.png" not in page
    # A class sees the whole picture: the first is the one of the largest logit.
    from inward import load, read

    net = load("inward/digits", weights=network[2], device="cpu")
    files = sorted(photographs.iterdir())
    with torch.no_grad():
        best = files[int(net(read(files, net))[:, 2].argmax())]
    with Image.open(out / "class-2" / "photograph-1.png") as patch, Image.open(best) as picture:
        shown = np.asarray(patch.convert("L").resize((8, 8), Image.Resampling.NEAREST))
        assert np.array_equal(shown, np.asarray(picture))
    # Tiles that were made without photographs get them.
    later = tmp_path / "later"
    assert visualize(network, "conv2/0", out=later).status == 0
    assert "there before" not in visualize(network, "conv2/0", "--study", study, out=later).out
    assert "there before" in visualize(network, "conv2/0", "--study", study, out=later).out


def test_start_from_the_photograph_that_excites_most(
    network: list[str], photographs: Path, study: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = ("--study", study, "--start", "real", "--parameterization", "pixels")
    said = inward("visualize", *network, "conv2/0:4", "class:1", *options, "--steps", "0", "--out", out)
    assert said.status == 0, said.err
    from inward import load, read

    net = load("inward/digits", weights=network[2], device="cpu")
    files = sorted(photographs.iterdir())
    with torch.no_grad():
        trace = net.trace(read(files, net), ["conv2", "class"])
    best = {f"conv2-{k}": int(trace["conv2"][:, k].flatten(1).amax(1).argmax()) for k in range(4)}
    best["class-1"] = int(trace["class"][:, 1].argmax())
    assert len(set(best.values())) > 1
    for folder, index in best.items():
        told = json.loads((out / folder / "manifest.json").read_text())
        assert told["parameters"]["start"] == [str(files[index])]
        with Image.open(out / folder / "picture.png") as picture, Image.open(files[index]) as start:
            side = (8, 8)
            assert np.array_equal(np.asarray(picture.convert("L").resize(side, Image.Resampling.NEAREST)), start)
    again = inward("visualize", *network, "conv2/0:4", "class:1", *options, "--steps", "0", "--out", out)
    assert again.out.count("(there before)") == 5
    refused(inward("visualize", *network, "conv3/0", *options, "--out", tmp_path / "no"), 2, "has no point 'conv3'")


def test_a_study_of_other_weights(network: list[str], study: Path, tmp_path: Path) -> None:
    state = seeded(digits).state_dict()
    save_file({**state, "fc.bias": state["fc.bias"] + 1}, tmp_path / "other.safetensors")
    other = ["inward/digits", "--weights", str(tmp_path / "other.safetensors"), "--device", "cpu"]
    out = tmp_path / "out"
    refused(
        visualize(other, "conv2/0", "--study", study, out=out), 2, "is of other weights than those of inward/digits"
    )
    assert not out.exists()
