"""Results: data that does not change, folders that are whole, manifests that compute the same again."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import inward
from helpers import conv_net, digits_weights, network
from inward import CallError, InwardError, draw, figures
from inward.methods.predict import predict
from inward.network import Network
from inward.network.modes import one_thread
from inward.results import Attribution, Perturbation, Result, Visualization
from inward.runs import folder as folders
from inward.runs.rerun import rerun
from same import images

SIZE = (9, 7)


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    labels = ["<script>alert(1)</script>", "b & c", 'd"e', "f", "g"]
    return network(conv_net(), SIZE, labels=labels, mean=(0.5,) * 3, std=(0.02,) * 3)


@pytest.fixture(scope="module")
def digits() -> Network:
    with one_thread():
        return inward.load("inward/digits", weights=digits_weights(), device="cpu")


def pictures(count: int, channels: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return (images(count, channels, *size) * 255).round() / 255


MAKE: dict[str, Callable[[Network, torch.Tensor], Result]] = {
    "saliency": lambda net, x: inward.saliency(net, x),
    "attack": lambda net, x: inward.targeted_attack(net, x, target="class:0", eps=20 / 255, step_size=0.05),
    "visualize": lambda net, x: inward.visualize(net, ["class:0", "class:1", "class:2"][: len(x)], steps=5, size=SIZE),
}
FILES = {
    "saliency": ["overlay.png", "map.png", "signed.png", "original.png"],
    "attack": ["comparison.png", "adversarial.png", "original.png"],
    "visualize": ["picture.png", "scores.png"],
}
every_kind = pytest.mark.parametrize("kind", MAKE)


@every_kind
def test_slices(net: Network, kind: str) -> None:
    result = MAKE[kind](net, pictures(3))
    assert len(result) == 3
    assert len(list(result)) == 3  # type: ignore[call-overload]
    last = result[-1]
    assert len(last) == 1
    assert last.measures() == result[2].measures() != result[0].measures()
    assert torch.equal(last.arrays()["images"], result.arrays()["images"][2:])
    for index in (3, -4, 100):
        with pytest.raises(IndexError):
            result[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.net = net  # type: ignore[misc]


@every_kind
def test_folder_of_a_result(net: Network, tmp_path: Path, kind: str) -> None:
    result = MAKE[kind](net, pictures(2))[1]
    folder = result.save(tmp_path / "new" / "one")
    assert folder == tmp_path / "new" / "one"
    told = json.loads((folder / "manifest.json").read_text())
    assert told["files"] == [*FILES[kind], "arrays.safetensors"]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*told["files"], "manifest.json"])
    # The scores of an attack are computed once more, from the saved pictures, which are the same.
    for name, value in result.measures().items():
        assert told["scores"][name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)
    assert told["network"]["spec"] == {}
    assert told["environment"]["torch"] == torch.__version__
    arrays = load_file(folder / "arrays.safetensors")
    assert arrays.keys() == result.arrays().keys()
    assert all(torch.equal(arrays[k], v) for k, v in result.arrays().items())
    assert (folder.stat().st_mode & 0o777) == 0o755
    if kind == "visualize":
        assert (draw.read_png(folder / "picture.png") - arrays["images"][0]).abs().max() <= 0.5 / 255 + 1e-6
    else:
        assert torch.equal(draw.read_png(folder / "original.png"), arrays["images"][0])


def test_attack_is_judged_by_its_saved_pictures(net: Network, tmp_path: Path) -> None:
    result = MAKE["attack"](net, pictures(4))
    succeeded = 0
    for i in range(4):
        folder = result[i].save(tmp_path / str(i))
        told = json.loads((folder / "manifest.json").read_text())["scores"]
        before, after = (draw.read_png(folder / name) for name in ("original.png", "adversarial.png"))
        assert told["success"] == (predict(net, after[None], top=1)[0][0].index == 0)
        assert told["linf"] == ((after - before).double() * 255).round().abs().max().item() / 255
        assert told["l2"] == pytest.approx((after - before).double().norm().item(), rel=1e-6)
        logits = net(after[None])[0]
        # The lead over the other classes: computed alone rather than in the batch.
        assert told["final"] == pytest.approx((logits[0] - logits[1:].max()).item(), rel=1e-4)
        succeeded += told["success"]
    assert succeeded > 0


def test_earlier_result_is_replaced_and_anything_else_is_not(net: Network, tmp_path: Path) -> None:
    result = MAKE["saliency"](net, pictures(2))
    place = tmp_path / "place"
    result[0].save(place)
    result[1].save(place)
    assert json.loads((place / "manifest.json").read_text())["scores"] == result[1].measures()
    (tmp_path / "empty").mkdir()
    result[0].save(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        with pytest.raises(CallError, match="is not a result of inward; give another --out"):
            result[0].save(tmp_path / name)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file", "mine", "place"]


def test_batch_is_refused(net: Network, tmp_path: Path) -> None:
    with pytest.raises(CallError, match=r"this is a batch of 2; save result\[i\]"):
        MAKE["saliency"](net, pictures(2)).save(tmp_path / "batch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
@pytest.mark.parametrize("earlier", [True, False])
def test_failure_in_the_middle_leaves_nothing(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, earlier: bool
) -> None:
    result = MAKE["saliency"](net, pictures(2))
    place = tmp_path / "place"
    if earlier:
        result[0].save(place)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(folders, "manifest_of", fails)  # the arrays and pictures are written by then
    with pytest.raises(InwardError if isinstance(error, OSError) else type(error)):
        result[1].save(place)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert place.exists() == earlier
    assert len(list(tmp_path.iterdir())) == earlier


def test_place_that_cannot_be_written(net: Network, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = MAKE["saliency"](net, pictures(1))
    for place in (tmp_path / "file" / "a", tmp_path / "file" / "a" / "b", tmp_path / ("long" * 100)):
        with pytest.raises(InwardError, match=r"cannot be written .*give another --out"):
            result.save(place)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("kind", MAKE)
def test_rerun_is_identical(digits: Network, tmp_path: Path, kind: str) -> None:
    x = pictures(1, 1, (8, 8))
    if kind == "visualize":
        result: Result = inward.visualize(digits, "conv2/3", steps=5, size=(12, 10), seed=3)
    else:
        result = MAKE[kind](digits, x)
    again = rerun(result.save(tmp_path / "one"))
    assert set(again.differences) == set(result.arrays())
    assert set(again.differences.values()) == {0.0}
    assert again.result.measures() == result.measures()
    assert dict(again.result.record.parameters) == dict(result.record.parameters)


def test_rerun_of_one_out_of_a_batch(digits: Network, tmp_path: Path) -> None:
    goals = [f"class:{k}" for k in (3, 5, 8)]
    result = inward.targeted_attack(digits, pictures(3, 1, (8, 8)), target=goals, eps=0.2, step_size=0.05)
    assert len(set(result.steps.tolist())) > 1
    for i in range(3):
        again = rerun(result[i].save(tmp_path / str(i)))
        assert again.differences["adversarial"] == 0
        # A batch is summed in another order; the objective is about 10.
        assert again.differences["history"] < 1e-4


def changed(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    told = json.loads((folder / "manifest.json").read_text())
    change(told)
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder


def test_rerun_refuses_what_is_not_the_same(digits: Network, tmp_path: Path) -> None:
    result = inward.saliency(digits, pictures(2, 1, (8, 8)))[0]
    folder = result.save(tmp_path / "one")
    weights = tmp_path / "other.safetensors"
    state = load_file(digits_weights())
    state["fc.bias"] = state["fc.bias"] + 1e-6
    save_file(state, weights)
    changed(folder, lambda told: told["network"]["spec"].update(weights=str(weights)))
    with pytest.raises(InwardError, match="weights of inward/digits are not those of the manifest"):
        rerun(folder)
    folder = result.save(tmp_path / "one")
    arrays = load_file(folder / "arrays.safetensors")
    save_file(arrays | {"images": arrays["images"].flip(3)}, folder / "arrays.safetensors")
    with pytest.raises(InwardError, match="saved images are not those of the manifest"):
        rerun(folder)
    (folder / "arrays.safetensors").write_bytes(b"nothing")
    with pytest.raises(InwardError, match="cannot be read"):
        rerun(folder)


def test_rerun_runs_no_code_unasked(net: Network, tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text(
        "from pathlib import Path\nPath(__file__).with_name('sprung').touch()\n"
        "from inward.nets.digits import digits as make\n"
    )
    torch.manual_seed(1)
    folder = inward.saliency(inward.load(f"{trap}:make", device="cpu"), pictures(1, 1, (8, 8))).save(tmp_path / "one")
    (tmp_path / "sprung").unlink()
    with pytest.raises(CallError, match=r"runs the Python code of .*give --trust"):
        rerun(folder)
    assert not (tmp_path / "sprung").exists()
    with pytest.raises(InwardError, match="weights"):  # random ones, of another seed: but the code did run
        rerun(folder, trust=True)
    assert (tmp_path / "sprung").exists()
    with pytest.raises(CallError, match="was made in Python, not by name"):
        rerun(MAKE["saliency"](net, pictures(1)).save(tmp_path / "two"), trust=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda told: told.update(format=2), "has the format 2, and this version reads 1"),
        (lambda told: told.pop("network"), "is not a manifest of inward"),
        (lambda told: told.update(parameters=[1]), "is not a manifest of inward"),
        (lambda told: told.update(method="salience"), "no method 'salience'; there are saliency"),
        (lambda told: told["parameters"].update(run="rm"), "no parameter 'run'"),
        (lambda told: told["parameters"].pop("target"), None),
        (lambda told: told["network"].pop("device"), None),
        (lambda told: told["inputs"].clear(), "saved images are not those"),
        (lambda told: told["network"]["spec"].update(dtype="load"), "the dtype of its network is of the wrong type"),
        (lambda told: told["network"].update(spec={"spec": None}), "was made in Python"),
        (lambda told: told["network"].update(spec=3), "is not a manifest of inward: its spec is no object"),
        (lambda told: told.update(method="feature-visualization", parameters={}), "names no addresses"),
        (lambda told: told["network"]["spec"].update(size="8"), "is not a manifest of inward"),
        (lambda told: told["network"]["spec"].update(mean=["a"]), "is not a manifest of inward"),
        (lambda told: told["parameters"].update(target=3), "is not a manifest of inward"),
    ],
)
def test_rerun_of_a_manifest_that_was_changed(digits: Network, tmp_path: Path, change: Any, reason: str | None) -> None:
    folder = changed(inward.saliency(digits, pictures(1, 1, (8, 8))).save(tmp_path / "one"), change)
    if reason is None:
        assert rerun(folder).differences["values"] == 0
        return
    with pytest.raises(InwardError, match=reason):
        rerun(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"format": 1}', "\xff\xfe", "[" * 100_000])
def test_rerun_of_no_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InwardError, match="is not a manifest of inward") as caught:
        rerun(tmp_path)
    assert len(str(caught.value)) < 400
    with pytest.raises(InwardError, match="there is no manifest"):
        rerun(tmp_path / "elsewhere")


@every_kind
def test_shows_itself_in_a_notebook(net: Network, kind: str) -> None:
    html = MAKE[kind](net, pictures(3))._repr_html_()
    assert html.count("<img ") == html.count("<figure") == 3
    assert html.count('src="data:image/png;base64,') == 3
    # Nothing is asked of any other place, and nothing runs.
    assert not re.search(r"https?:|<script|<link|@import|url\(|\son\w+=", html)
    assert all(alt for alt in re.findall(r'alt="([^"]*)"', html))
    for words in ("ConvNet", net.points["conv"].name if kind == "none" else "0."):
        assert words in html


def test_labels_are_escaped_and_notes_shown(net: Network) -> None:
    result = inward.targeted_attack(net, pictures(1), target="class:0", eps=0.5 / 255)
    record = dataclasses.replace(result.record, notes=("<script>note</script>",), method="<b>m</b>")
    html = dataclasses.replace(result, record=record)._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;note" in html
    assert "&lt;b&gt;m" in html
    many = inward.saliency(net, pictures(20))._repr_html_()
    assert many.count("<img ") == 16
    assert "and 4 more: <code>result[i]</code>" in many


def test_names_of_classes_stand_in_pictures(net: Network) -> None:
    result = inward.saliency(net, pictures(1), target="class:1")
    assert figures.named(result, "class:1") == "b & c (class:1)"
    assert figures.named(result, "conv/1") == "conv/1"
    assert isinstance(result, Attribution)
    kinds = (Attribution, Perturbation, Visualization)
    assert {type(MAKE[kind](net, pictures(1))) for kind in MAKE} == set(kinds)
    picture = figures.main_picture(result)
    assert min(picture.size) >= 224


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mixed4a/97", "mixed4a-97"),
        ("layer3.1.conv2/17@6,6", "layer3.1.conv2-17-6-6"),
        ("class:281", "class-281"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本", "日本"),
        ("...", "result"),
        ("a" * 300, "a" * 120),
        ("本" * 300, "本" * 40),
        ("-rf", "rf"),
        ("a\nb\0c", "a-b-c"),
    ],
)
def test_names_of_folders(text: str, name: str) -> None:
    assert folders.folder_name(text) == name
