"""An atlas: tiles whole or not at all, made once, the page of them, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import inward
from filmed import frames_of
from inward.ascent import Pass
from inward.atlas import PAGE, Atlas, Made
from inward.errors import CallError
from inward.methods.table import by_name
from inward.methods.visualize import visualize
from inward.nets.digits import digits
from inward.network import Network
from same import seeded

UNITS = ["conv2/1", "conv3/0", "conv2/10", "class:3"]
FOLDERS = ["class-3", "conv2-1", "conv2-10", "conv3-0"]
STEPS = {"steps": 3}

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "digits.safetensors"
    save_file(seeded(digits).state_dict(), file)
    return file


@pytest.fixture(scope="module")
def net(weights: Path) -> Network:
    return inward.load("inward/digits", weights=weights, device="cpu")


def made(
    net: Network, out: Path, units: Sequence[str] = UNITS, method: str = "feature-visualization", **options: Any
) -> list[str]:
    """Makes an atlas, and gives the units that were not there before."""
    told: list[Made] = []
    extra = {name: options.pop(name) for name in ("video", "study", "starts") if name in options}
    atlas = Atlas(net, by_name(method), out, {**STEPS, **options}, **extra)
    names = atlas.names(list(units))
    atlas.make(names, told.append)
    assert sorted(one.address for one in told) == sorted(names)
    assert all((one.folder / "manifest.json").is_file() for one in told)
    return [one.address for one in told if one.result is not None]


def contents(out: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of every file of every tile."""
    files = [file for file in out.glob("*/*") if file.is_file()]
    return {str(file.relative_to(out)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def hidden(out: Path) -> list[Path]:
    return [file for file in out.rglob("*") if file.name.startswith(".") or file.suffix in (".part", ".partial")]


def listed(out: Path) -> list[str]:
    """The pictures on the page, in its order."""
    return [part.split('"')[0] for part in (out / PAGE).read_text().split('src="')[1:]]


def test_tiles_and_their_page(net: Network, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert sorted(made(net, out)) == sorted(UNITS)
    assert sorted(p.name for p in out.iterdir()) == [*FOLDERS, PAGE]
    assert hidden(tmp_path) == []
    # Numbers by their size: 10 behind 1.
    assert listed(out) == [f"{name}/picture.png" for name in FOLDERS]
    page = (out / PAGE).read_text()
    alone = visualize(net, "conv2/1", **STEPS)
    for unit in UNITS:
        told = json.loads((out / unit.replace("/", "-").replace(":", "-") / "manifest.json").read_text())
        assert told["scores"]["address"] == unit
        assert told["parameters"]["addresses"] == [unit]
        assert page.count(f"{told['scores']['final']:.4g}") >= 1
        assert page.count(f">{unit}<") == 1
    told = json.loads((out / "conv2-1" / "manifest.json").read_text())
    # float32, a batch of two and of one.
    assert told["scores"]["final"] == pytest.approx(alone.final[0].item(), rel=1e-3)


def test_one_tile_needs_no_page(net: Network, tmp_path: Path) -> None:
    made(net, tmp_path / "out", ["conv2/1"])
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["conv2-1"]
    made(net, tmp_path / "out", ["conv2/2"])
    assert listed(tmp_path / "out") == ["conv2-1/picture.png", "conv2-2/picture.png"]


def test_what_is_there_is_not_made_again(net: Network, tmp_path: Path) -> None:
    made(net, tmp_path, ["conv2/1", "class:3"])
    before = contents(tmp_path)
    assert sorted(made(net, tmp_path)) == ["conv2/10", "conv3/0"]
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)
    assert made(net, tmp_path) == []
    assert contents(tmp_path) == after
    # The batch and the device have no say; every option that is given as it is by default has none.
    assert made(net, tmp_path, batch=3, seed=0, l1=0, size=(8, 8), precision="auto") == []


@pytest.mark.parametrize("how", [InterruptedError, KeyboardInterrupt])
def test_stopped_in_the_middle(net: Network, tmp_path: Path, how: type[BaseException]) -> None:
    units = [f"conv2/{k}" for k in range(6)]
    atlas = Atlas(net, by_name("feature-visualization"), tmp_path, {**STEPS, "batch": 2})
    seen: list[str] = []

    def stop(one: Made) -> None:
        seen.append(one.address)
        if len(seen) == 3:
            raise how

    with pytest.raises(how):
        atlas.make(units, stop)
    # The third tile is there: it was told of.
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conv2-0", "conv2-1", "conv2-2", PAGE]
    assert listed(tmp_path) == [f"conv2-{k}/picture.png" for k in range(3)]
    before = contents(tmp_path)
    assert made(net, tmp_path, units) == ["conv2/3", "conv2/4", "conv2/5"]
    assert {name: contents(tmp_path)[name] for name in before} == before
    assert hidden(tmp_path) == []
    assert len(listed(tmp_path)) == 6


def test_stopped_while_a_tile_is_replaced(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(net, tmp_path, ["conv2/1"])
    before = contents(tmp_path)
    rename, count = Path.rename, []

    def stops(self: Path, target: Path) -> Path:
        count.append(self)
        if len(count) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stops)
        with pytest.raises(KeyboardInterrupt):
            made(net, tmp_path, ["conv2/1"], seed=1)
    assert contents(tmp_path) == before
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("video", [None, "gif"])
def test_stopped_within_a_batch(net: Network, tmp_path: Path, video: str | None) -> None:
    units = [f"conv2/{k}" for k in range(4)]
    out = tmp_path / "new" / "out"
    atlas = Atlas(net, by_name("feature-visualization"), out, {**STEPS, "batch": 2}, video=video)
    told: list[Made] = []

    def stop(at: int) -> Any:
        def watch(now: Pass) -> None:
            assert now.total == 6
            if now.done == at:
                raise KeyboardInterrupt

        return watch

    with pytest.raises(KeyboardInterrupt):
        atlas.make(units, told.append, stop(2))
    assert told == []
    # Nothing came of it, and nothing is left of it.
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt):
        atlas.make(units, told.append, stop(5))
    assert [one.address for one in told] == units[:2]
    assert sorted(p.name for p in out.iterdir()) == ["conv2-0", "conv2-1", PAGE]
    assert hidden(tmp_path) == []
    assert made(net, out, units, batch=2, video=video) == units[2:]


@pytest.mark.parametrize(
    "options",
    [
        *({"steps": 4}, {"seed": 1}, {"lr": 0.02}, {"negative": True}, {"diverse": 2}, {"snapshots": 1}),
        *({"size": (9, 12)}, {"start": "gray"}, {"augment": "none"}, {"parameterization": "maco"}, {"tv": 0.1}),
        {"precision": "full"},
    ],
    ids=str,
)
def test_another_option_makes_it_again(net: Network, tmp_path: Path, options: dict[str, Any]) -> None:
    unit = ["conv2/1"]
    made(net, tmp_path, unit)
    before = contents(tmp_path)
    planned = json.loads(before["conv2-1/manifest.json"][0])["parameters"]
    if planned["precision"] == options.get("precision"):
        # Without bfloat16 this is no other option, and so no other tile.
        assert made(net, tmp_path, unit, **options) == []
        return
    assert made(net, tmp_path, unit, **options) == unit
    assert contents(tmp_path)["conv2-1/arrays.safetensors"] != before["conv2-1/arrays.safetensors"]
    assert made(net, tmp_path, unit, **options) == []
    assert hidden(tmp_path) == []


def test_other_weights_make_it_again(net: Network, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made(net, out, ["conv2/1"])
    assert made(inward.load("inward/digits", weights=weights, device="cpu"), out, ["conv2/1"]) == []
    state = seeded(digits).state_dict()
    state["fc.bias"] = state["fc.bias"] + 1e-6
    save_file(state, tmp_path / "other.safetensors")
    other = inward.load("inward/digits", weights=tmp_path / "other.safetensors", device="cpu")
    assert made(other, out, ["conv2/1"]) == ["conv2/1"]


def no_json(file: Path) -> None:
    file.write_text(file.read_text()[:100])


def no_bytes(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("picture.png", Path.unlink),
        ("arrays.safetensors", Path.unlink),
        ("scores.png", Path.unlink),
        ("manifest.json", Path.unlink),
        ("manifest.json", no_json),
        ("manifest.json", no_bytes),
    ],
)
def test_a_damaged_tile_is_made_again(net: Network, tmp_path: Path, name: str, damage: Any) -> None:
    made(net, tmp_path, ["conv2/1", "conv2/2"])
    before = contents(tmp_path)
    damage(tmp_path / "conv2-1" / name)
    assert made(net, tmp_path, ["conv2/1", "conv2/2"]) == ["conv2/1"]
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert {n: v for n, v in after.items() if "conv2-2" in n} == {n: v for n, v in before.items() if "conv2-2" in n}
    assert listed(tmp_path) == ["conv2-1/picture.png", "conv2-2/picture.png"]
    assert hidden(tmp_path) == []


def test_a_manifest_of_other_kinds_does_not_stop_the_page(net: Network, tmp_path: Path) -> None:
    made(net, tmp_path, ["conv2/1", "conv2/2"])
    for told in ({"scores": 3}, {"scores": {"address": "x", "final": "high"}, "parameters": [3]}):
        (tmp_path / "odd").mkdir(exist_ok=True)
        whole = {"format": 1, "method": "feature-visualization", "files": [], **told}
        (tmp_path / "odd" / "manifest.json").write_text(json.dumps(whole))
        assert made(net, tmp_path, ["conv2/3"], seed=len(told)) == ["conv2/3"]
        assert "conv2-3/picture.png" in listed(tmp_path)


def test_what_is_not_ours_is_refused_before_any_work(net: Network, tmp_path: Path) -> None:
    passes: list[Pass] = []
    atlas = Atlas(net, by_name("feature-visualization"), tmp_path, STEPS)

    def refused(words: str) -> None:
        with pytest.raises(CallError, match=words):
            atlas.make(["conv2/0", "conv2/1"], pytest.fail, passes.append)
        assert passes == []

    (tmp_path / "conv2-1").mkdir()
    (tmp_path / "conv2-1" / "thesis.txt").write_text("years of work")
    refused("conv2-1 exists and is not a result of inward; give another --out")
    # What an app calls so: a manifest and pictures, and no arrays.
    (tmp_path / "conv2-1" / "thesis.txt").rename(tmp_path / "conv2-1" / "icon.png")
    (tmp_path / "conv2-1" / "manifest.json").write_text("{}")
    refused("is not a result of inward")
    (tmp_path / "conv2-1" / "icon.png").unlink()
    (tmp_path / "conv2-1" / "manifest.json").unlink()
    (tmp_path / PAGE).write_text("<html>my page</html>")
    refused("index.html exists and is not the page of an atlas; give another --out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conv2-1", PAGE]
    (tmp_path / PAGE).unlink()
    assert made(net, tmp_path, ["conv2/0", "conv2/1"]) == ["conv2/0", "conv2/1"]


def test_two_methods_in_one_folder(net: Network, tmp_path: Path) -> None:
    made(net, tmp_path, ["class:1", "class:2"])
    assert made(net, tmp_path, ["class:1", "class:2"], "class-visualization") == ["class:1", "class:2"]
    names = [f"class-{k}{suffix}" for k in (1, 2) for suffix in ("", "-class-visualization")]
    assert sorted(p.name for p in tmp_path.iterdir()) == [*names, PAGE]
    assert listed(tmp_path) == [f"class-{k}-class-visualization/picture.png" for k in (1, 2)]
    assert made(net, tmp_path, ["class:1", "class:2"]) == []
    assert listed(tmp_path) == [f"class-{k}/picture.png" for k in (1, 2)]


def test_units_that_are_nearly_called_the_same(net: Network, tmp_path: Path) -> None:
    units = ["conv2/1 + conv2/2", "conv2/1 - conv2/2", "0.5 * conv2/1", "-0.5 * conv2/1"]
    for unit in units:
        assert made(net, tmp_path, [unit]) == [unit]
    assert made(net, tmp_path, units) == []
    folders = {p.name for p in tmp_path.iterdir() if p.is_dir()}
    assert folders == {"conv2-1-conv2-2", "conv2-1-minus-conv2-2", "0.5-conv2-1", "minus-0.5-conv2-1"}


@pytest.mark.parametrize("suffix", ["mp4", "gif", "webp"])
def test_a_video_in_every_tile(net: Network, tmp_path: Path, suffix: str) -> None:
    made(net, tmp_path, ["conv2/1"])
    assert made(net, tmp_path, ["conv2/1", "conv3/2"], diverse=2, video=suffix) == ["conv2/1", "conv3/2"]
    for folder in ("conv2-1", "conv3-2"):
        told = json.loads((tmp_path / folder / "manifest.json").read_text())
        for name in (f"video.{suffix}", f"video-2.{suffix}"):
            assert name in told["files"]
            # Three passes, and the last one stays.
            assert len(frames_of(tmp_path / folder / name)) >= 3
    assert made(net, tmp_path, ["conv2/1", "conv3/2"], diverse=2, video=suffix) == []
    # Without a video it is there, too; and a video that is gone is made again.
    assert made(net, tmp_path, ["conv2/1"], diverse=2) == []
    (tmp_path / "conv2-1" / f"video-2.{suffix}").unlink()
    assert made(net, tmp_path, ["conv2/1", "conv3/2"], diverse=2, video=suffix) == ["conv2/1"]
    assert hidden(tmp_path) == []


def test_no_steps_no_video(net: Network, tmp_path: Path) -> None:
    for expected in (["conv2/1"], []):
        assert made(net, tmp_path, ["conv2/1"], steps=0, video="gif") == expected
    assert not (tmp_path / "conv2-1" / "video.gif").exists()
    with pytest.raises(CallError, match="there are no videos as avi; write mp4, gif, webp"):
        Atlas(net, by_name("feature-visualization"), tmp_path, {}, video="avi")


def test_runs_of_the_network_grow_with_the_units(net: Network, tmp_path: Path, monkeypatch: Any) -> None:
    """Images through the network, each counted; four steps, and the final score."""
    counts = []
    real = Network.run
    images: list[int] = []
    for units in (4, 8, 16):
        images.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Network, "run", lambda net, x, *rest: (images.append(len(x)), real(net, x, *rest))[1])
            made(net, tmp_path / str(units), [f"conv2/0:{units}"], batch=4, steps=4, redirect=0)
        counts.append(sum(images))
    assert counts == [5 * 4, 5 * 8, 5 * 16]


MEMORY = """
import resource, sys
from pathlib import Path
import inward, torch
from inward.atlas import Atlas
from inward.methods.table import by_name
torch.set_num_threads(1)
net = inward.load("inward/digits", weights=sys.argv[1], device="cpu")
peaks = []
for first, end in ((0, 4), (4, 32)):
    options = {"steps": 2, "batch": 2, "size": (160, 160)}
    atlas = Atlas(net, by_name("feature-visualization"), Path(sys.argv[2]), options)
    atlas.make(atlas.names([f"conv2/{first}:{end}"]), lambda made: None)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
print(*peaks)
"""


def test_memory_does_not_grow_with_the_units(weights: Path, tmp_path: Path) -> None:
    """Living tensors, in a process of its own: 28 more units of 160 x 160 need no more than the first 4 did."""
    run = [sys.executable, "-c", MEMORY, str(weights), str(tmp_path / "out")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    first, last = map(float, done.stdout.split())
    # One result kept with its trace would be 30 MB; the allocator of Pillow and torch keeps some.
    assert last - first < 60, (first, last)
