"""``inward invert``, ``texture``, ``style`` and ``dream`` as their users call them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage import data

from inward.cli import main
from inward.network.load import load
from inward.network.stages import stages
from inward.pictures import read_whole

pytestmark = pytest.mark.usefixtures("single_thread")
NET = ["inward/robust"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("chelsea", "coffee", "brick"):
        Image.fromarray(getattr(data, name)()).convert("RGB").resize((120, 80)).save(folder / f"{name}.png")
    return folder


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_the_row_from_shallow_to_deep(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["invert", *NET, str(pictures / "chelsea.png"), "--through", "all", "--steps", "3", "--size", "64"]
    assert main([*words, "--out", str(out)]) == 0
    told, folder = manifest(out / "chelsea"), out / "chelsea"
    assert told["scores"]["pictures"] == [*stages(load("inward/robust", size=64)), "class"]
    assert f"{told['scores']['ssim'][0]:.4g}" in capsys.readouterr().out
    assert {"row.png", "original.png", "arrays.safetensors"} <= {p.name for p in folder.iterdir()}
    width, height = Image.open(folder / "row.png").size
    assert width > 7 * 64
    assert height < 200
    # Once more it is there; with another option it is made anew, and the folder says so.
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert main([*words, "--out", str(out)]) == 0
    assert "(there before)" in capsys.readouterr().out
    assert (folder / "manifest.json").stat().st_mtime_ns == before
    assert main([*words, "--tv", "0.1", "--out", str(out)]) == 0
    assert "held a result of other options, and is replaced" in capsys.readouterr().err
    assert main(["rerun", str(folder)]) == 0
    assert "made: identical" in capsys.readouterr().out


def test_a_style_from_files_with_a_film(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["style", *NET, str(pictures / "coffee.png"), "--style", str(pictures / "brick.png")]
    words += [str(pictures / "chelsea.png"), "--shares", "3", "1", "--longest", "96", "--steps", "3", "--snapshots"]
    assert main([*words, "2", "--video", "gif", "--scales", "1", "--out", str(out)]) == 0
    folder = out / "coffee"
    told = manifest(folder)
    assert told["parameters"]["shares"] == [0.75, 0.25]
    assert [Path(p).name for p in told["parameters"]["style"]] == ["brick.png", "chelsea.png"]
    # What layers count for is written down, and not in the way of a line.
    assert len(told["scores"]["weights"]) == 2 * len(told["parameters"]["style_at"].split(" + "))
    said = capsys.readouterr().out
    assert "weights" not in said
    assert "style left" in said
    arrays = load_file(folder / "arrays.safetensors")
    assert arrays["made"].shape == (1, 1, 3, 64, 96)
    assert Image.open(folder / "picture.png").size == (96, 64)
    with Image.open(folder / "video.gif") as film:
        assert film.n_frames >= 3
    assert {"snapshots.png", "video.gif"} <= set(told["files"])
    assert main(["rerun", str(folder)]) == 0
    assert "made: identical" in capsys.readouterr().out


def test_dreams_and_textures_of_several_pictures(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["dream", *NET, str(pictures), "--octaves", "2", "--steps", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [Path(line.split("  ")[0]).name for line in said] == ["brick", "chelsea", "coffee"]
    for name in ("brick", "chelsea", "coffee"):
        scores = manifest(out / name)["scores"]
        assert scores["final"] > scores["before"]
        # At its own size, nothing cropped.
        assert Image.open(out / name / "picture.png").size == (120, 80)
    words = ["texture", *NET, str(pictures / "brick.png"), "--size", "64", "96", "--tile", "--steps", "3"]
    assert main([*words, "--out", str(out / "textures")]) == 0
    assert Image.open(out / "textures" / "brick" / "picture.png").size == (96, 64)
    assert manifest(out / "textures" / "brick")["scores"]["seam"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["style", "chelsea.png"], "--style"),
        (["style", "chelsea.png", "--style", "nothing.png"], "there is no file nothing.png"),
        (["invert", "chelsea.png", "--at", "stage9"], "has no point 'stage9'"),
        (["dream", "chelsea.png", "--octaves", "9"], "give fewer octaves"),
        (["texture", "chelsea.png", "--size", "70", "96", "--tile"], "give --size 80 96"),
        (["dream"], "there is nothing to dream"),
        (["dream", "chelsea.png", "--longest", "-4"], "give another --longest"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], message: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(pictures)
    status = main([words[0], *NET, *words[1:], "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert status in (1, 2)
    assert message in said
    assert said.count("\n") == 1


def test_pictures_are_read_whole(pictures: Path) -> None:
    net = load("inward/robust")
    whole = read_whole(pictures / "coffee.png", net)
    assert whole.shape == (1, 3, 80, 120)
    shown = torch.frombuffer(bytearray(Image.open(pictures / "coffee.png").tobytes()), dtype=torch.uint8)
    torch.testing.assert_close(whole[0].permute(1, 2, 0).flatten(), shown.float() / 255)
    assert read_whole(pictures / "coffee.png", net, 60).shape == (1, 3, 40, 60)
    assert read_whole(pictures / "coffee.png", net, 240).shape == (1, 3, 160, 240)
