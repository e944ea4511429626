"""``inward explain --method all``: no tile without a map, and a run that was stopped goes on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import inward as package
from helpers import Said, conv_net, inward, network
from inward import commands, figures
from inward.errors import InwardError
from inward.methods.table import by_name
from inward.runs.maps import saved_map
from lettered import listened
from same import images

pytestmark = pytest.mark.usefixtures("single_thread")

NETWORK = ("inward/digits", "--weights", "random", "--device", "cpu")
FEW = ("saliency", "smoothgrad", "deeplift")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A sheet of three methods."""
    monkeypatch.setattr(commands, "_rows", lambda *_: [by_name(name) for name in FEW])
    return FEW


@pytest.fixture
def digit(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "digit.png")
    return tmp_path / "digit.png"


def sheet(picture: Path, *options: object) -> Said:
    return inward("explain", *NETWORK, picture, "--method", "all", "--out", picture.parent / "out", *options)


def made(said: Said) -> list[str]:
    """The methods that were computed."""
    assert said.status == 0, said.err
    *maps, last = said.out.splitlines()
    assert last.endswith("methods.png")
    return [Path(line.split("  ")[0]).name for line in maps if not line.endswith("  (there before)")]


def test_every_tile_has_a_map_and_what_is_left_out_is_named(digit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = listened(monkeypatch)
    without = ["attention-rollout", "neuron-conductance"]
    names = ["grad-cam", "conductance", "internal-influence"]
    monkeypatch.setattr(commands, "_rows", lambda *_: [by_name(name) for name in (*names, *without)])
    said = sheet(digit, "--steps", "2")
    assert made(said) == names
    assert "note: left out: neuron-conductance (needs --through)" in said.err
    out = digit.parent / "out" / "digit"
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "methods.png"])
    told = [line.text for line in written]
    start = next(k for k, text in enumerate(told) if text.startswith("digit: why does inward/digits say"))
    last = " ".join(told[start:])
    assert "Left out: attention-rollout (" in last
    assert "neuron-conductance (needs --through)." in last
    for name in ("conductance", "internal-influence"):
        at = json.loads((out / name / "manifest.json").read_text())["scores"]["at"]
        assert at == json.loads((out / "grad-cam" / "manifest.json").read_text())["scores"]["at"]


def test_a_finished_map_is_not_made_again(digit: Path, few: tuple[str, ...]) -> None:
    assert made(sheet(digit, "--samples", "4")) == list(few)
    out = digit.parent / "out" / "digit"
    drawn = (out / "methods.png").read_bytes()
    (out / "methods.png").unlink()
    assert made(sheet(digit, "--samples", "4")) == []
    assert (out / "methods.png").read_bytes() == drawn
    # Damage, and whatever the map depends on.
    (out / "saliency" / "arrays.safetensors").write_bytes(b"half")
    assert made(sheet(digit, "--samples", "4")) == ["saliency"]
    (out / "deeplift" / "overlay.png").unlink()
    assert made(sheet(digit, "--samples", "4")) == ["deeplift"]
    said = sheet(digit, "--samples", "5")
    assert made(said) == ["smoothgrad"]
    assert f"{out / 'smoothgrad'} held a result of other options, and is replaced" in said.err
    assert made(sheet(digit, "--samples", "5", "--seed", "1")) == list(few)  # also the seed of the network
    Image.fromarray(np.asarray(Image.open(digit)).T.copy()).save(digit)
    assert made(sheet(digit, "--samples", "5", "--seed", "1")) == list(few)


def test_scores_masks_and_pictures_as_baselines_are_asked_for_too(digit: Path, few: tuple[str, ...]) -> None:
    mask, other = digit.parent / "mask.png", digit.parent / "other.png"
    Image.new("L", (8, 8), 0).save(other)
    for color in ((0, 0, 4, 4), (4, 4, 8, 8)):
        white = Image.new("L", (8, 8), 0)
        white.paste(255, color)
        white.save(mask)
        assert made(sheet(digit, "--samples", "2", "--mask", mask)) == list(few)
        assert made(sheet(digit, "--samples", "2", "--mask", mask)) == []
    assert made(sheet(digit, "--samples", "2", "--score")) == list(few)
    assert made(sheet(digit, "--samples", "2", "--score")) == []
    asked = ("--samples", "2", "--score", "--baseline", other)
    assert made(sheet(digit, *asked)) == ["deeplift"]
    assert made(sheet(digit, *asked)) == []
    Image.new("L", (8, 8), 200).save(other)
    assert made(sheet(digit, *asked)) == ["deeplift"]


def test_a_stop_is_told_and_the_same_command_goes_on(
    digit: Path, few: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    rows = [by_name(name) for name in few]
    stopped = [rows[0], dataclasses.replace(rows[1], function=_like(rows[1].function, stop)), rows[2]]
    monkeypatch.setattr(commands, "_rows", lambda *_: stopped)
    said = sheet(digit, "--samples", "3")
    assert said.status == 130
    assert said.err.endswith("inward: stopped; 1 map is there, and the same command goes on\n")
    assert not list(digit.parent.glob("out/digit/.*"))
    monkeypatch.setattr(commands, "_rows", lambda *_: rows)
    assert made(sheet(digit, "--samples", "3")) == list(few[1:])


def _like(function: Any, other: Any) -> Any:
    """``other``, with the signature and help of ``function``."""
    other.__signature__ = __import__("inspect").signature(function)
    other.__doc__, other.__annotations__, other.__wrapped__ = function.__doc__, function.__annotations__, function
    return other


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--target", "class:99"), "there is no class 99"),
        (("--target", "conv9/0"), "no point 'conv9'"),
        (("--at", "nothing"), "no point 'nothing'"),
    ],
)
def test_what_no_method_can_do_is_refused(
    digit: Path, few: tuple[str, ...], options: tuple[str, ...], reason: str
) -> None:
    said = sheet(digit, *options)
    assert said.status == 2
    assert reason in said.err.splitlines()[-1]
    assert not (digit.parent / "out").exists()


def test_a_saved_map_is_the_map(tmp_path: Path) -> None:
    net = network(conv_net(), (9, 7))
    nan = float("nan")
    measured = {
        "error": torch.tensor([nan, 0.018711]),
        "infinite": torch.tensor([0.0, float("inf")], dtype=torch.float64),
        "points": torch.tensor([3, 65]),
        "pointing": torch.tensor([False, True]),
    }
    result = package.internal_influence(net, images(2, 3, 9, 7), at="second", steps=2)
    result = dataclasses.replace(result, measured=measured, remarks=((), ("a remark",)))
    for one in (result[0], result[1]):
        again = saved_map(one.save(tmp_path / "map"), net)
        assert (again.measures(), again.notes()) == (one.measures(), one.notes())
        assert torch.equal(again.values, one.values)
        assert (again.kind, again.at, again.targets) == (one.kind, one.at, one.targets)
        assert torch.equal(torch.as_tensor(figures.cell(again).values), torch.as_tensor(figures.cell(one).values))
    told = json.loads((tmp_path / "map" / "manifest.json").read_text())
    assert told["kind"] == "sensitivity"
    del told["kind"]
    (tmp_path / "map" / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(InwardError, match="holds no attribution of inward"):
        saved_map(tmp_path / "map", net)
    with pytest.raises(InwardError, match="cannot be read"):
        saved_map(tmp_path / "none", net)
