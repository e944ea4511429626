"""Accuracy under attack: labels from folders, the same figures in pieces and at once, and what is refused."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
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
from helpers import conv_net, network
from inward import CallError, InwardError, Network, pgd
from inward.methods import smallest
from inward.methods.smallest import Grid
from inward.results import Perturbation
from inward.studies.accuracy import Judged, Robustness, curve, told_eps, wilson
from inward.studies.labeled import Files, Labeled, labeled
from inward.studies.robustness import eps_at, evaluate
from lettered import listened, tidy

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
def pictures(net: Network, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Twenty pictures; of every fifth the label is wrong."""
    folder = tmp_path_factory.mktemp("labeled")
    found = []
    for i in range(20):
        file = picture(folder / f"{i:02}.png", i)
        right = int(net(inward.read(file, net)).argmax())
        found.append(Labeled(file, (right + (i % 5 == 0)) % 5))
    return Files(tuple(found), net)


attack = partial(pgd, steps=5, random_start=False)


def test_accuracies_are_those_of_single_attacks(net: Network, pictures: Files) -> None:
    found = evaluate(net, pictures, attack, EPS, batch=7)
    assert found.accuracy() == 16 / 20
    images, labels = pictures.images(range(20)), torch.tensor(pictures.labels)
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
    assert sum(row["images"] for row in told["classes"].values()) == 20
    for row in told["curve"]:
        assert row["low"] <= row["accuracy"] <= row["high"]
        assert row["accuracy_unrounded"] <= row["accuracy"]


def test_only_those_that_withstand_are_attacked_again(net: Network, pictures: Files) -> None:
    asked: list[tuple[float, int]] = []

    def watched(net: Network, images: Tensor, *, label: Tensor, eps: float) -> Perturbation:
        asked.append((eps, len(images)))
        return attack(net, images, label=label, eps=eps)

    found = evaluate(net, pictures, watched, EPS[::-1], batch=20)
    assert [eps for eps, _ in asked] == list(EPS)
    assert [count for _, count in asked] == [round(20 * found.accuracy(e)) for e in (0, *EPS[:-1])]


class Stop(Exception):  # noqa: N818
    """What comes between."""


def stop_at(count: int) -> Any:
    """Stops a pass after so many batches."""
    told: list[int] = []

    def tell(done: int, _: int, eps: float) -> None:
        told.append(done)
        if len(told) == count:
            raise Stop

    return tell


@pytest.mark.parametrize("after", [2, 8, 12])
def test_a_stopped_pass_goes_on(net: Network, pictures: Files, tmp_path: Path, after: int) -> None:
    whole = evaluate(net, pictures, attack, EPS, batch=20)
    place = tmp_path / "e"
    with pytest.raises(Stop):
        evaluate(net, pictures, attack, EPS, batch=4, folder=place, on_batch=stop_at(after))
    held = json.loads((place / "images.json").read_text())
    assert len(held) == min(20, 4 * (after - 1))
    assert not (place / "report.json").exists()
    found = evaluate(net, pictures, attack, EPS, batch=4, folder=place)
    assert found == whole
    assert whole.report().items() <= json.loads((place / "report.json").read_text()).items()
    with Image.open(place / "curve.png") as drawn:
        assert drawn.width >= 560


def test_what_is_finished_is_only_read_and_never_mixed(net: Network, pictures: Files, tmp_path: Path) -> None:
    place = tmp_path / "e"
    few = Files(pictures.pictures[:6], net)
    whole = evaluate(net, few, attack, EPS[:2], folder=place)
    told: list[tuple[int, int, float]] = []
    assert evaluate(net, few, attack, EPS[:2], folder=place, on_batch=lambda *a: told.append(a)) == whole
    assert told == []
    for other, match in ((partial(pgd, steps=6, random_start=False), "parameters"), (inward.fgsm, "attack")):
        with pytest.raises(CallError, match=f"holds an evaluation of another {match}"):
            evaluate(net, few, other, EPS[:2], folder=place)
    with pytest.raises(CallError, match="another eps"):
        evaluate(net, few, attack, EPS[:1], folder=place)
    with pytest.raises(CallError, match="another eps"):
        eps_at(net, few, attack, 0.5, folder=place)
    with pytest.raises(CallError, match="another data"):
        evaluate(net, Files(pictures.pictures[:5], net), attack, EPS[:2], folder=place)
    (place / "images.json").write_text('[{"file": "of an older version"}]')
    with pytest.raises(InwardError, match="is damaged; remove it to begin anew"):
        evaluate(net, few, attack, EPS[:2], folder=place)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(CallError, match="is no evaluation; give another folder"):
        evaluate(net, few, attack, EPS[:2], folder=tmp_path / "full")


def test_samples_fool_the_network_read_back(net: Network, pictures: Files, tmp_path: Path) -> None:
    evaluate(net, pictures, attack, EPS, folder=tmp_path)
    samples = sorted((tmp_path / "samples").iterdir())
    assert 0 < len(samples) <= 8
    files = {one.file.stem: one for one in pictures.pictures}
    for sample in samples:
        one = files[sample.name.partition("-")[2]]
        images = inward.read([sample / "original.png", sample / "adversarial.png", one.file], net)
        original, adversarial, given = net(images).argmax(1).tolist()
        assert original == given == one.label != adversarial
        assert torch.equal(images[0], images[2])
        told = json.loads((sample / "manifest.json").read_text())
        assert told["scores"]["success"] is True
        levels = ((images[1] - images[0]) * 255).round().abs().max()
        assert 0 < levels <= round(told["parameters"]["eps"] * 255)
        assert (sample / "comparison.png").is_file()


def test_stages_of_a_sequence_are_counted(net: Network, pictures: Files) -> None:
    found = evaluate(net, pictures, partial(inward.autoattack, steps=2, classes=2, queries=5), EPS[1:])
    fell = sum(one.fell in EPS for one in found.images)
    assert 0 < sum(found.by(EPS[1]).values()) < sum(found.by(EPS[2]).values()) == fell
    assert set(found.by(EPS[2])) <= {"apgd-ce", "apgd-t", "fab-t", "square"}
    assert found.report()["curve"][-1]["by"] == found.by(EPS[2])
    assert "by" not in found.report()["curve"][0]


# At which eps


@pytest.fixture(scope="module", autouse=True)
def few_parts() -> Iterator[None]:
    """Sixteen parts of the first level in place of 64, for the sake of time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smallest, "_FINE_LEVEL", 2)
        yield


@pytest.fixture(scope="module")
def everywhere(net: Network, pictures: Files) -> Robustness:
    """The accuracies at every eps that a search may try."""
    return evaluate(net, pictures, attack, Grid.of("linf", 8 / 255, eight_bit=True).points)


@pytest.mark.parametrize("accuracy", [0.2, 0.5, 0.79])
def test_the_eps_of_an_accuracy_is_that_of_the_whole_curve(
    net: Network, pictures: Files, everywhere: Robustness, accuracy: float
) -> None:
    asked: list[tuple[float, int]] = []

    def watched(net: Network, images: Tensor, *, label: Tensor, eps: float) -> Perturbation:
        asked.append((eps, len(images)))
        return attack(net, images, label=label, eps=eps)

    found = eps_at(net, pictures, watched, accuracy, most=8 / 255)

    def first(share: float) -> float:
        return next((e for e in (0.0, *everywhere.eps) if everywhere.accuracy(e) <= share), math.inf)

    reach = 1.959963984540054 * math.sqrt(accuracy * (1 - accuracy) / 20)
    assert (found.eps, found.low, found.high) == (first(accuracy), first(accuracy + reach), first(accuracy - reach))
    for eps in found.robustness.eps:
        assert found.robustness.accuracy(eps) == everywhere.accuracy(eps)
    # Wilson's intervals hold the accuracy from ``low`` on, and do no more from ``high`` on.
    inside = [e for e in everywhere.eps if everywhere.interval(e)[0] < accuracy < everywhere.interval(e)[1]]
    assert all(found.low <= e < found.high for e in inside)
    # At each eps, in the order of the search, only those of which the others do not tell how they fare.
    fell = [math.inf if one.fell is None else one.fell for one in everywhere.images]
    before: list[float] = []
    for eps in dict.fromkeys(eps for eps, _ in asked):
        low, high = max((e for e in before if e < eps), default=0.0), min((e for e in before if e > eps), default=9.9)
        unknown = sum(low < f <= high or (f == math.inf and high == 9.9) for f in fell)
        assert sum(count for e, count in asked if e == eps) <= unknown <= 16
        before.append(eps)
    told = found.report()
    assert told["crossing"]["eps"] == found.eps
    assert told["crossing"]["high"] == (found.high if math.isfinite(found.high) else None)


def test_a_stopped_search_goes_on(net: Network, pictures: Files, tmp_path: Path) -> None:
    whole = eps_at(net, pictures, attack, 0.5, most=8 / 255)
    for after in (7, 14, 10**6):
        try:
            found = eps_at(
                net, pictures, attack, 0.5, most=8 / 255, batch=4, folder=tmp_path / "e", on_batch=stop_at(after)
            )
        except Stop:
            assert not (tmp_path / "e" / "report.json").exists()
            continue
        assert found == whole
        assert whole.report().items() <= json.loads((tmp_path / "e" / "report.json").read_text()).items()
    # Another accuracy begins with what is known: at these eps there is nothing left to do.
    told: list[float] = []
    other = eps_at(
        net, pictures, attack, 0.4, most=8 / 255, folder=tmp_path / "e", on_batch=lambda *a: told.append(a[2])
    )
    assert not set(told) & set(whole.robustness.eps)
    assert other.eps == eps_at(net, pictures, attack, 0.4, most=8 / 255).eps


def test_an_accuracy_that_no_eps_leaves(net: Network, pictures: Files) -> None:
    found = eps_at(net, pictures, attack, 0.05, most=1 / 255)
    assert math.isinf(found.eps)
    assert found.report()["crossing"]["eps"] is None
    for accuracy in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(CallError, match="accuracy is a share of right answers between 0 and 1"):
            eps_at(net, pictures, attack, accuracy)
    with pytest.raises(CallError, match=r"the accuracy without attack is 80.0% already; ask for less"):
        eps_at(net, pictures, attack, 0.8)


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
    found = Robustness((0.1, 0.2), tuple(fallen))
    assert [found.accuracy(e) for e in (0, 0.1, 0.2)] == [2 / 3, 2 / 3, 1 / 3]
    assert [found.accuracy(e, unrounded=True) for e in (0, 0.1, 0.2)] == [2 / 3, 0, 0]
    assert found.by_class() == {0: (1, [1, 1, 1]), 1: (2, [0.5, 0.5, 0])}


# Labels


def test_labels_of_folders_by_name_number_and_order(net: Network, tmp_path: Path) -> None:
    for i, name in enumerate(("ostrich", "Great White Shark", "3")):
        picture(tmp_path / "names" / name.replace("3", "cock") / f"{i}.png", i)
        picture(tmp_path / "numbers" / str(i + 1) / "a.png", i)
    assert labeled(tmp_path / "names", net).labels == [2, 4, 3]
    assert labeled(tmp_path / "numbers", net).labels == [1, 2, 3]
    for i, name in enumerate("edcba"):
        picture(tmp_path / "order" / name / "a.png", i)
    assert [(p.file.parent.name, p.label) for p in labeled(tmp_path / "order", net).pictures] == list(
        zip("abcde", range(5), strict=True)
    )
    for i in range(3):
        picture(tmp_path / "flat" / f"{4 - i}_n0123_thing.png", i)
    assert labeled(tmp_path / "flat", net).labels == [2, 3, 4]


def test_labels_of_folders_by_wordnet_id(net: Network, tmp_path: Path) -> None:
    # Their places in ImageNet's list, which a network of its 1000 classes answers with.
    for i, name in enumerate(("n01440764", "n03888257", "n01484850")):
        picture(tmp_path / "val" / name / "a.png", i)
    imagenet = network(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 9 * 7, 1000)).eval(), SIZE, channels=3
    )
    assert labeled(tmp_path / "val", imagenet).labels == [0, 2, 701]
    with pytest.raises(CallError, match=r"\('n03888257' is parachute, chute, which no class is called\); put"):
        labeled(tmp_path / "val", net)
    (tmp_path / "val" / "n03888257").rename(tmp_path / "val" / "n01518878")
    assert labeled(tmp_path / "val", net).labels == [0, 2, 3]
    (tmp_path / "val" / "n01518878").rename(tmp_path / "val" / "n99999999")
    with pytest.raises(CallError, match="there is no WordNet id 'n99999999'"):
        labeled(tmp_path / "val", net)
    with pytest.raises(CallError, match="the WordNet id 'n99999999' is none of ImageNet's 1000 classes"):
        labeled(tmp_path / "val", imagenet)


def test_a_wordnet_id_that_is_itself_a_label_is_that_class(tmp_path: Path) -> None:
    for i, name in enumerate(("n01440764", "n01518878")):
        picture(tmp_path / name / "a.png", i)
    ids = ["n01443537", "n01518878", "n01440764", "a", "b"]
    assert labeled(tmp_path, network(conv_net(), SIZE, labels=ids)).labels == [2, 1]
    # A name of the id that two classes have is no answer.
    twice = network(conv_net(), SIZE, labels=["tench", "ostrich, bird", "struthio camelus", "a", "b"])
    with pytest.raises(CallError, match="'n01518878' is ostrich, Struthio camelus, which several classes are called"):
        labeled(tmp_path, twice)


def test_wordnet_ids_without_timm(net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.data", None)
    for i in range(4):
        picture(tmp_path / f"n0144076{i}" / "a.png", i)
    with pytest.raises(CallError, match=r"^'n01440760' is a WordNet id, .* with timm; pip install 'inward\[timm\]'$"):
        labeled(tmp_path, net)
    # As many folders as classes need no list.
    picture(tmp_path / "n01440764" / "a.png", 4)
    assert labeled(tmp_path, net).labels == [0, 1, 2, 3, 4]


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


def test_senseless_evaluations_are_refused(net: Network, pictures: Files) -> None:
    with pytest.raises(CallError, match="nothing to evaluate"):
        evaluate(net, Files((), net), attack, EPS)
    for eps in ((), (0.1, 0.1)):
        with pytest.raises(CallError, match="several different ones"):
            evaluate(net, pictures, attack, eps)
    with pytest.raises(CallError, match="above 0"):
        evaluate(net, pictures, attack, -0.1)
    with pytest.raises(CallError, match="at most 1"):
        evaluate(net, pictures, attack, (0.1, 2.0))
    with pytest.raises(CallError, match="a batch is of 1 image or more"):
        evaluate(net, pictures, attack, EPS, batch=-1)
    one = network(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(189, 1)).eval(), SIZE)
    with pytest.raises(CallError, match="accuracy needs an output of two classes or more"):
        evaluate(one, (torch.zeros(2, 3, *SIZE), [0, 0]), attack, EPS)


def test_an_eps_is_written_as_one_writes_it() -> None:
    told = [(8 / 255, "linf"), (0.4 / 255, "linf"), (0.3, "linf"), (8 / 255, "l2"), (0.0, "linf"), (1.0, "linf")]
    assert [told_eps(*one) for one in told] == ["8/255", "0.4/255", "0.3", "0.03137", "0", "255/255"]


def test_labels_of_the_curve_do_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    written = listened(monkeypatch)
    images = tuple(Judged(f"{i}", 0, 0, k / 255) for i, k in enumerate((1, 2, 3, 4, 30)))
    picture = curve(Robustness((1 / 255, 2 / 255, 3 / 255, 4 / 255, 32 / 255), images))
    texts = [line.text for line in written]
    assert [t for t in texts if t in ("1", "2", "3", "4", "32")] == ["3", "32"]
    assert "eps (linf), in 8-bit levels" in texts
    assert "0.0% at 32/255" in texts
    assert tidy(written, picture)
