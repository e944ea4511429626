"""The static atlas: what it shows is what Python computes, and what is there is not made again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inward
from inward.cli import main
from inward.draw import to_picture
from inward.server.app import STATIC
from inward.site import PATCH, SHEET, TILE, Site, points_of, slug
from tests.conftest import missing

POINT = "stage2.0.conv1"


@pytest.fixture(scope="module")
def page() -> Path:
    if not (STATIC / "index.html").is_file():
        missing("the page is not built; make page")
    return STATIC


@pytest.fixture(scope="module")
def net() -> inward.Network:
    return inward.load("inward/robust")


def site(net: inward.Network, out: Path, page: Path, files: list[Path]) -> Site:
    return Site(net, [POINT], out, page, {"steps": 2}, files)


def read(out: Path, name: str) -> dict:
    return json.loads((out / "api" / name).read_text("utf-8"))


def test_what_is_shown_is_what_python_computes(
    net: inward.Network, page: Path, tmp_path: Path, shared_data: Path
) -> None:
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:7]
    told: list[tuple[str, int, int]] = []
    made = site(net, tmp_path / "site", page, files)
    index = made.make(lambda *now: told.append(now))
    units = net.points[POINT].units or 0
    assert units > SHEET
    assert told[-1] == (POINT, units, units)
    out = index.parent
    assert 'data-reading="true"' in index.read_text("utf-8")
    assert "__CSP_NONCE__" not in index.read_text("utf-8")
    session = read(out, "session.json")
    assert session["reading"] is True
    assert session["networks"][0]["points"] == [POINT]
    facts = read(out, f"networks/0/facts/{slug(POINT)}.json")
    assert facts["units"] == units
    assert facts["source"].startswith("inward/nets/resnet.py:")
    architecture = read(out, "networks/0/architecture.json")
    assert len(architecture["edges"]) == 76
    times = read(out, "networks/0/times.json")
    assert times.keys() <= {node["id"] for node in architecture["nodes"]}
    assert times[POINT] > 0
    found = read(out, f"networks/0/units/{slug(POINT)}.json")
    chosen = SHEET + 3
    picture = inward.visualize(net, [f"{POINT}/{chosen}"], steps=2)
    assert found["scores"][chosen] == pytest.approx(picture.final[0].item(), rel=1e-6)
    sheet = Image.open(out / f"api/networks/0/sheets/{slug(POINT)}-{SHEET}.webp").convert("RGB")
    row, column = divmod(chosen - SHEET, found["columns"])
    cell = sheet.crop((column * TILE, row * TILE, (column + 1) * TILE, (row + 1) * TILE))
    wanted = to_picture(picture.images[0]).convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)
    # WebP loses a little; a neighboring tile differs by far more.
    gap = np.abs(np.asarray(cell, float) - np.asarray(wanted, float)).mean()
    other = np.abs(np.asarray(sheet.crop((0, 0, TILE, TILE)), float) - np.asarray(wanted, float)).mean()
    assert gap < 6 < other
    study = inward.activations(net, files, [POINT], k=6)
    top = study.top(f"{POINT}/{chosen}")
    assert [e["name"] for e in found["units"][chosen]["examples"]] == [one.file.name for one in top]
    with Image.open(out / f"api/networks/0/sheets/{slug(POINT)}-{SHEET}-patches.webp") as patches:
        assert patches.size == (PATCH * found["patches"], PATCH * (units - SHEET))


def test_a_stopped_run_goes_on_and_other_things_are_left_alone(net: inward.Network, page: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"

    class StopError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StopError

    with pytest.raises(StopError):
        site(net, out, page, []).make(stop)
    first = out / f"api/networks/0/sheets/{slug(POINT)}-0.webp"
    made = first.stat().st_mtime_ns
    assert not (out / "api" / "session.json").exists()
    site(net, out, page, []).make(lambda *_: None)
    assert first.stat().st_mtime_ns == made
    again = (out / "index.html").stat().st_mtime_ns
    assert again > made
    # Other options are other pictures.
    Site(net, [POINT], out, page, {"steps": 4}).make(lambda *_: None)
    assert first.stat().st_mtime_ns > made
    with pytest.raises(inward.CallError, match="of another network"):
        site(inward.load("inward/normal"), out, page, []).make(lambda *_: None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(inward.CallError, match="is no atlas"):
        site(net, tmp_path / "mine", page, []).make(lambda *_: None)
    with pytest.raises(inward.InwardError, match="the page is not built"):
        site(net, tmp_path / "new", tmp_path / "nowhere", []).make(lambda *_: None)
    assert not (tmp_path / "new").exists()


def test_names_and_points() -> None:
    net = inward.load("inward/robust")
    assert points_of(net, ["stage1.0", "stage1.0", "conv"]) == ["stage1.0", "conv"]
    assert all(net.points[name].units for name in points_of(net, []))
    for wrong in (["stage1.0/3"], ["class"], ["stage9"]):
        with pytest.raises(inward.CallError):
            points_of(net, wrong)
    # File systems that ignore the case keep both.
    assert slug("Mixed_5b.branch1") != slug("mixed_5b.branch1")
    assert slug("features.0") == "features.0"
    assert "/" not in slug("a/b:c")


def test_the_command(page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["atlas", "inward/robust", "--out", str(tmp_path / "site"), "--layers", "conv", "--steps", "1"]
    assert main(words) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "site" / "index.html")
    assert main([*words[:4], "--layers", "fc/1"]) == 2
    assert "is of whole points" in capsys.readouterr().err
