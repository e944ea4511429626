"""Accuracy under attack: labels from folders, the same figures in pieces and at once, and what is refused."""

from __future__ import annotations

import inspect
import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import inward
from helpers import conv_net, digits, network
from helpers import inward as command
from inward import CallError, InwardError, Network, pgd
from inward.methods.table import TABLE
from inward.results import Perturbation
from inward.studies.labeled import Labeled, labeled
from inward.studies.robustness import Judged, Robustness, evaluate, wilson

SIZE = (9, 7)
LABELS = ["tench", "goldfish", "great white shark", "ostrich", "cock"]
EPS = (1 / 255, 3 / 255, 8 / 255)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE, labels=LABELS, mean=(0.5,) * 3, std=(0.05,) * 3)


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = torch.randint(256, (*SIZE, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def pictures(net: Network, tmp_path_factory: pytest.TempPathFactory) -> list[Labeled]:
    """Twenty pictures; of every fifth the label is wrong."""
    folder = tmp_path_factory.mktemp("labeled")
    found = []
    for i in range(20):
        file = picture(folder / f"{i:02}.png", i)
        right = int(net(inward.read(file, net)).argmax())
        found.append(Labeled(file, (right + (i % 5 == 0)) % 5))
    return found


attack = partial(pgd, steps=5, random_start=False)


def test_accuracies_are_those_of_single_attacks(net: Network, pictures: list[Labeled]) -> None:
    found = evaluate(net, pictures, attack, EPS, batch=7)
    assert found.accuracy() == 16 / 20
    images = inward.read([p.file for p in pictures], net)
    labels = torch.tensor([p.label for p in pictures])
    standing = net(images).argmax(1) == labels
    for eps in EPS:
        alone = attack(net, images, label=labels, eps=eps)
        standing &= ~alone.success
        assert found.accuracy(eps) == int(standing.sum()) / 20
    accuracies = [found.accuracy(e) for e in (0, *EPS)]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[1] > accuracies[-1]
    # Judged again from the report alone.
    told = found.report()
    assert [row["accuracy"] for row in told["curve"]] == accuracies
    assert sum(row["pictures"] for row in told["classes"].values()) == 20
    for row in told["curve"]:
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["accuracy_unrounded"] <= row["accuracy"]


def test_only_those_that_withstand_are_attacked_again(net: Network, pictures: list[Labeled]) -> None:
    asked: list[tuple[float, int]] = []

    def watched(net: Network, images: Tensor, *, label: Tensor, eps: float) -> Perturbation:
        asked.append((eps, len(images)))
        return attack(net, images, label=label, eps=eps)

    found = evaluate(net, pictures, watched, EPS[::-1], batch=20)
    assert [eps for eps, _ in asked] == list(EPS)
    assert [count for _, count in asked] == [round(20 * found.accuracy(e)) for e in (0, *EPS[:-1])]


class Stop(Exception):  # noqa: N818
    """What comes between."""


def test_a_stopped_pass_goes_on(net: Network, pictures: list[Labeled], tmp_path: Path) -> None:
    whole = evaluate(net, pictures, attack, EPS, batch=20)

    def stop(done: int, _: int) -> None:
        if done >= 8:
            raise Stop

    options: dict[str, Any] = {"name": "pgd", "parameters": {"steps": 5}, "batch": 4, "folder": tmp_path / "e"}
    with pytest.raises(Stop):
        evaluate(net, pictures, attack, EPS, on_batch=stop, **options)
    assert len(json.loads((tmp_path / "e" / "pictures.json").read_text())) == 8
    assert not (tmp_path / "e" / "report.json").exists()
    told: list[int] = []
    found = evaluate(net, pictures, attack, EPS, on_batch=lambda done, _: told.append(done), **options)
    assert told == [12, 16, 20]
    assert found == whole
    assert json.loads((tmp_path / "e" / "report.json").read_text()) == whole.report()
    samples = list((tmp_path / "e" / "samples").glob("*.png"))
    assert 0 < len(samples) <= 8
    with Image.open(tmp_path / "e" / "curve.png") as drawn:
        assert drawn.width >= 560
    # What is finished is only read.
    assert evaluate(net, pictures, lambda *_, **__: pytest.fail("attacked again"), EPS, **options) == whole
    for other in ({"parameters": {"steps": 6}}, {"name": "fgsm"}):
        with pytest.raises(CallError, match=r"holds an evaluation of another (parameters|attack)"):
            evaluate(net, pictures, attack, EPS, **{**options, **other})
    with pytest.raises(CallError, match="another eps"):
        evaluate(net, pictures, attack, EPS[:1], **options)
    with pytest.raises(CallError, match="another pictures"):
        evaluate(net, pictures[:5], attack, EPS, **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(CallError, match="is no evaluation; give another folder"):
        evaluate(net, pictures, attack, EPS, **{**options, "folder": tmp_path / "full"})


def test_wilson_by_hand() -> None:
    """Of 10 trials 8: the roots of (p - 0.8)^2 = 1.96^2 p (1 - p) / 10."""
    low, high = wilson(0.8, 10)
    for p in (low, high):
        assert (p - 0.8) ** 2 == pytest.approx(1.959963984540054**2 * p * (1 - p) / 10, rel=1e-12)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0.0, 0) == (0.0, 1.0)


@given(count=st.integers(1, 5000), share=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_wilson_holds_its_share(count: int, share: float) -> None:
    low, high = wilson(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert high - low <= 1 / math.sqrt(count) * 1.96 + 1e-9


def test_both_figures_where_rounding_saves_a_picture() -> None:
    fallen = [Judged("a", 0, 0, None, 0.1), Judged("b", 1, 1, 0.2, 0.1), Judged("c", 1, 0, 0.0, 0.0)]
    found = Robustness((0.1, 0.2), tuple(fallen), 3)
    assert [found.accuracy(e) for e in (0, 0.1, 0.2)] == [2 / 3, 2 / 3, 1 / 3]
    assert [found.accuracy(e, unrounded=True) for e in (0, 0.1, 0.2)] == [2 / 3, 0, 0]
    assert found.by_class() == {0: (1, [1, 1, 1]), 1: (2, [0.5, 0.5, 0])}


# Labels


def test_labels_of_folders_by_name_number_and_order(net: Network, tmp_path: Path) -> None:
    for i, name in enumerate(("ostrich", "Great White Shark", "3")):
        picture(tmp_path / "names" / name.replace("3", "cock") / f"{i}.png", i)
        picture(tmp_path / "numbers" / str(i + 1) / "a.png", i)
    assert [p.label for p in labeled(tmp_path / "names", net)] == [2, 4, 3]
    assert [p.label for p in labeled(tmp_path / "numbers", net)] == [1, 2, 3]
    for i, name in enumerate("edcba"):
        picture(tmp_path / "order" / name / "a.png", i)
    assert [(p.file.parent.name, p.label) for p in labeled(tmp_path / "order", net)] == list(
        zip("abcde", range(5), strict=True)
    )
    for i in range(3):
        picture(tmp_path / "flat" / f"{4 - i}_n0123_thing.png", i)
    assert [p.label for p in labeled(tmp_path / "flat", net)] == [2, 3, 4]


def test_labels_that_are_none_are_refused(net: Network, tmp_path: Path) -> None:
    with pytest.raises(InwardError, match="there is no folder"):
        labeled(tmp_path / "nowhere", net)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InwardError, match="holds no pictures"):
        labeled(tmp_path / "empty", net)
    picture(tmp_path / "flat" / "cat.png", 0)
    with pytest.raises(CallError, match=r"nothing tells the class of cat.png \(1 of 1 pictures\); put the pictures"):
        labeled(tmp_path / "flat", net)
    picture(tmp_path / "high" / "7_a.png", 0)
    with pytest.raises(CallError, match="is of class 7, and the network has the classes 0 to 4"):
        labeled(tmp_path / "high", net)
    picture(tmp_path / "odd" / "zebra" / "a.png", 0)
    with pytest.raises(CallError, match="the folders are no classes of"):
        labeled(tmp_path / "odd", net)


def test_senseless_evaluations_are_refused(net: Network, pictures: list[Labeled]) -> None:
    with pytest.raises(CallError, match="nothing to evaluate"):
        evaluate(net, [], attack, EPS)
    for eps in ((), (0.1, 0.1)):
        with pytest.raises(CallError, match="several different ones"):
            evaluate(net, pictures, attack, eps)
    with pytest.raises(CallError, match="above 0"):
        evaluate(net, pictures, attack, (-0.1,))


# The command


def test_the_command(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    for i in range(12):
        place = tmp_path / "data" / str(data.target[i]) / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((data.images[i] * 15.9375).astype("uint8")).save(place)
    options = ["--attack", "pgd", "--steps", "5", "--eps", "0.02", "0.3", "--out", str(tmp_path / "e")]
    said = command("evaluate", *digits(), tmp_path / "data", *options)
    assert said.status == 0
    assert str(tmp_path / "e") in said.out
    told = json.loads((tmp_path / "e" / "report.json").read_text())
    assert told["pictures"] == told["of"] == 12
    clean, small, large = (row["accuracy"] for row in told["curve"])
    assert clean >= small > large
    assert f"{clean:.1%}" in said.out
    assert json.loads((tmp_path / "e" / "manifest.json").read_text())["attack"] == "pgd"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--attack", "pdg"], "the nearest: pgd"),
        (["--attack", "targeted-attack"], "there is no attack 'targeted-attack' to evaluate with"),
        (["--attack", "fgsm", "--steps", "3"], "fgsm has no steps; leave out --steps"),
        (["--eps", "2"], "at most 1"),
    ],
    ids=str,
)
def test_senseless_commands_are_one_sentence(tmp_path: Path, options: list[str], reason: str) -> None:
    picture(tmp_path / "data" / "3" / "a.png", 1)
    said = command("evaluate", *digits(), tmp_path / "data", *options, "--out", tmp_path / "e")
    assert said.status == 2
    assert reason in said.err
    assert said.err.count("\n") == 1


def test_every_attack_within_an_eps_can_be_evaluated_with() -> None:
    able = [r for r in TABLE if r.command == "attack" and "eps" in inspect.signature(r.function).parameters]
    assert {"fgsm", "pgd", "momentum-fgsm"} <= {row.name for row in able}
