"""Studies on the disk: stopped and gone on with, refused, drawn, and as a command."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from inward import CallError, InwardError, Network
from inward.network.receptive import Box
from inward.studies import activations as studied
from inward.studies.activations import activations, load
from inward.studies.pages import write_pages
from inward.studies.patches import patch, sheet
from inward.studies.statistics import Statistics
from inward.study import EXAMPLES
from inward.study import study as app
from studied import POINTS, SIZE, Exact, made_files, made_network, network, plain, same  # noqa: F401

pytestmark = pytest.mark.usefixtures("single_thread")


class Stop(Exception):  # noqa: N818
    """What comes between."""


def stopping(after: int) -> Any:
    def stop(done: int, total: int) -> None:
        if done >= after:
            raise Stop

    return stop


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress is written every six pictures."""
    monkeypatch.setattr(studied, "EVERY", 6)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("after", [3, 9, 21])
def test_a_stopped_pass_goes_on_to_the_same_bits(net: Network, files: list[Path], tmp_path: Path, after: int) -> None:
    whole = activations(net, files, POINTS, k=3, batch=3)
    with pytest.raises(Stop):
        activations(net, files, POINTS, k=3, batch=3, folder=tmp_path / "s", on_batch=stopping(after))
    assert load(tmp_path / "s").seen == after
    seen: list[int] = []
    again = activations(
        net, files, POINTS, k=3, batch=3, folder=tmp_path / "s", on_batch=lambda done, _: seen.append(done)
    )
    assert seen[0] == after + 3 or after == 21
    assert same(again, whole)
    assert same(load(tmp_path / "s"), whole)


@pytest.mark.usefixtures("often")
def test_a_killed_pass_goes_on_from_what_was_written(net: Network, files: list[Path], tmp_path: Path) -> None:
    """Without a chance to write at the end: the folder as it was in the middle."""
    kept = tmp_path / "kept"

    def copy(done: int, total: int) -> None:
        if done == 15:
            shutil.copytree(tmp_path / "s", kept)

    whole = activations(net, files, POINTS, k=3, batch=3, folder=tmp_path / "s", on_batch=copy)
    assert load(kept).seen == 12
    (kept / ".inward-0123456789abcdef.part").write_bytes(b"half")
    assert same(activations(net, files, POINTS, k=3, batch=3, folder=kept), whole)


def test_a_folder_gives_back_what_was_found(net: Network, files: list[Path], tmp_path: Path) -> None:
    study = activations(net, files, POINTS, k=3, folder=tmp_path / "s")
    read = load(tmp_path / "s")
    assert same(read, study)
    assert (read.files, read.k, read.size) == (study.files, 3, SIZE)
    for address in ("conv/2", "second/4", "fc/1", "class:2"):
        assert read.top(address) == study.top(address)
        assert read.top(address)[0].box == study.top(address)[0].box
        assert torch.equal(read.histogram(address)[1], study.histogram(address)[1])
    assert read.fields["second"].unclipped((0, 0)) == study.fields["second"].unclipped((0, 0)) == Box(-1, -1, 4, 3)
    told = json.loads((tmp_path / "s" / "manifest.json").read_text())
    assert told["network"]["weights_sha256"] == net.weights_hash()
    assert told["points"] == POINTS
    assert told["files"][4] == {"file": str(files[4]), "sha256": hashlib.sha256(files[4].read_bytes()).hexdigest()}
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["arrays.safetensors", "manifest.json"]


def test_a_finished_study_is_only_read(net: Network, files: list[Path], tmp_path: Path) -> None:
    study = activations(net, files, ["conv"], folder=tmp_path / "s")
    calls: list[int] = []
    again = activations(net, files, ["conv"], folder=tmp_path / "s", on_batch=lambda done, _: calls.append(done))
    assert calls == []
    assert same(again, study)


def test_moved_pictures_are_the_same_pictures(net: Network, files: list[Path], tmp_path: Path) -> None:
    study = activations(net, files[:5], ["conv"], folder=tmp_path / "s")
    shutil.copytree(files[0].parent, tmp_path / "moved")
    moved = sorted((tmp_path / "moved").iterdir())[:5]
    again = activations(net, moved, ["conv"], folder=tmp_path / "s")
    assert same(again, study)
    assert again.top("conv/0")[0].file.parent == tmp_path / "moved"


def test_a_folder_of_another_study_is_refused(net: Network, files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "s"
    activations(net, files[:6], ["conv"], folder=folder)
    changed = Exact()
    changed.conv.weight.data[0, 0, 0, 0] += 1
    larger = Network.of(Exact().eval(), size=(12, 18))
    for what, call in {
        "other weights": lambda: activations(network(changed), files[:6], ["conv"], folder=folder),
        "another network": lambda: activations(larger, files[:6], ["conv"], folder=folder),
        "other points": lambda: activations(net, files[:6], ["conv", "fc"], folder=folder),
        "other pictures": lambda: activations(net, files[1:7], ["conv"], folder=folder),
        r"another k \(9\)": lambda: activations(net, files[:6], ["conv"], k=8, folder=folder),
    }.items():
        with pytest.raises(CallError, match=f"holds a study of {what}; give another folder"):
            call()
    assert load(folder).seen == 6
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(CallError, match="is not a study of activations"):
        activations(net, files, ["conv"], folder=tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_damaged_and_empty_folders_are_refused(net: Network, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InwardError, match="holds no study"):
        load(tmp_path)
    activations(net, files[:4], ["conv"], folder=tmp_path / "s")
    arrays = tmp_path / "s" / "arrays.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:200])
    with pytest.raises(InwardError, match="is damaged"):
        load(tmp_path / "s")
    arrays.unlink()
    with pytest.raises(InwardError, match="has not seen a picture yet"):
        load(tmp_path / "s")
    assert activations(net, files[:4], ["conv"], folder=tmp_path / "s").seen == 4


def test_sheets_show_the_patches_with_their_values(net: Network, files: list[Path]) -> None:
    study = activations(net, files, ["second", "fc"], k=3)
    drawn = sheet(study, net, "second/2")
    top = study.top("second/2")[0]
    shown = np.asarray(drawn)
    corner = (patch(top.file, net, top.box)[:, 0, 0] * 255).round().int().tolist()
    assert (shown.reshape(-1, 3) == corner).all(1).sum() >= 4
    with pytest.raises(CallError, match="holds no pixel"):
        patch(files[0], net, Box(0, 20, 5, 30))
    none = {key: Statistics.none(5, 3, torch.device("cpu")) for key in study.points}
    with pytest.raises(CallError, match="has not seen a picture"):
        sheet(replace(study, seen=0, points=none), net, "second/2")


def test_pages_show_every_unit(net: Network, files: list[Path], tmp_path: Path) -> None:
    study = activations(net, files, ["conv", "class"], k=3)
    told: list[tuple[int, int]] = []
    page = write_pages(study, net, tmp_path, lambda done, total: told.append((done, total)))
    assert told == [(4, 7), (7, 7)]
    index = page.read_text()
    assert "23 of 23 pictures" in index
    assert '<a href="001-conv/1.html">conv</a></td><td>4</td><td>12 x 16</td><td>3 x 3</td>' in index
    unit_page = (tmp_path / "001-conv" / "1.html").read_text()
    assert unit_page.count('<img src="') == unit_page.count("<svg ") == 4
    assert f"conv/3: largest {study.maximum('conv/3'):.4g}" in unit_page
    assert "<script" not in index + unit_page
    with Image.open(tmp_path / "001-conv" / "3.jpg") as picture:
        assert picture.size == (3 * 76 - 4, 72)
        top = study.top("conv/3")[0]
        center = np.asarray(picture)[36, 36]
    wanted = patch(top.file, net, top.box)
    if wanted.shape[1:] == (3, 3):
        # Enlarged smoothly and compressed.
        assert np.abs(center - (wanted[:, 1, 1] * 255).numpy()).max() < 40


def command(*arguments: object) -> tuple[int, list[str]]:
    """``inward study ...``, without what the interface makes of errors."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = app([str(a) for a in arguments], exit_on_error=False, print_error=False, result_action="return_value")
    return status, out.getvalue().splitlines()


FACTORY = """
from studied import Exact

def make():
    return Exact().eval()
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "factory.py").write_text(FACTORY)
    return f"{tmp_path / 'factory.py'}:make"


def test_the_command_writes_a_study_and_its_pages(model: str, net: Network, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--points", "conv", "class", "--k", 3, "--batch", 4, "--size", 12, 16, "--device", "cpu", "--out", out]
    status, said = command("activations", model, files[0].parent, *options)
    assert status == 0
    expected = activations(net, files, ["conv", "class"], k=3, batch=4)
    assert same(load(out), expected)
    unit = max(range(4), key=lambda u: expected.maximum(f"conv/{u}"))
    top = expected.top(f"conv/{unit}")[0]
    assert said[0] == f"conv  4 units, largest {top.value:.4g} in conv/{unit}: {top.file.name}"
    assert said[1].startswith("class  3 units, largest ")
    assert said[2] == str(out / "index.html")
    assert (out / "002-class" / "2.jpg").is_file()
    assert command("activations", model, files[0].parent, *options) == (0, said)
    other = [2 if option == 3 else option for option in options]
    with pytest.raises(CallError, match="holds a study of another k"):
        command("activations", model, files[0].parent, *other)
    with pytest.raises(CallError, match="there is nothing to look at"):
        command("activations", model)


def test_a_stopped_command_says_that_it_can_go_on(
    model: str, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ["--points", "conv", "--batch", 4, "--size", 12, 16, "--device", "cpu", "--out", out, "--no-pages"]
    plainly = studied.read

    def interrupted(paths: Any, net: Network) -> Tensor:
        if files[9] in paths:
            raise KeyboardInterrupt
        return plainly(paths, net)

    with monkeypatch.context() as patched:
        patched.setattr(studied, "read", interrupted)
        patched.setattr(studied, "_look_over", lambda path, net: None)
        assert command("activations", model, files[0].parent, *options) == (130, [])
    assert capsys.readouterr().err == f"inward: stopped; the same command goes on from what {out} holds\n"
    assert load(out).seen == 8
    status, said = command("activations", model, files[0].parent, *options)
    assert (status, said[-1]) == (0, str(out))
    assert load(out).seen == 23
    assert not (out / "index.html").exists()


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_parse(example: str) -> None:
    _, bound, rest, _ = app.parse_known_args(example.split()[2:])
    assert rest == []
    assert bound.args[0] == "torchvision/resnet50"
