"""The two networks that come with the package, and commands that are given no network."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from helpers import inward
from inward import CallError, Network, load, pgd
from inward.asked import model_and_things
from inward.nets.trained import load_trained, shipped, shipped_card
from inward.network.load import DEFAULT, TWINS, is_network
from tests.trained import data_folder
from tests.twins import names


@pytest.fixture(scope="module")
def nets() -> dict[str, Network]:
    return {name: load(f"inward/{name}", device="cpu") for name in TWINS}


def held_out(count: int) -> tuple[Tensor, Tensor]:
    """Validation pictures spread over Imagenette at 128 pixels, without the package's own readers."""
    with np.load(data_folder() / "imagenette" / "imagenette160.npz", allow_pickle=False) as pack:
        data, offsets, labels = pack["data"], pack["offsets"], pack["labels"]
        held = np.flatnonzero(pack["is_val"])
    chosen = held[np.linspace(0, len(held) - 1, count).astype(int)]
    images = []
    for i in chosen:
        picture = Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        # As they were measured: kept at 160 pixels, and shown at 128.
        square = picture.resize((160, 160), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        shown = np.asarray(square.resize((128, 128), Image.Resampling.BILINEAR))
        images.append(torch.from_numpy(shown.copy()).permute(2, 0, 1).float() / 255)
    return torch.stack(images), torch.from_numpy(labels[chosen].astype(np.int64))


def test_they_are_of_one_build(nets: dict[str, Network]) -> None:
    normal, robust = nets.values()
    assert list(normal.points) == list(robust.points)
    assert [p.shape for p in normal.points.values()] == [p.shape for p in robust.points.values()]
    assert normal.preprocess == robust.preprocess
    assert normal.labels == robust.labels == tuple(shipped_card("normal")["classes"])
    assert "church" in normal.labels
    assert normal.size == (128, 128)
    assert sum(shipped(name).stat().st_size for name in TWINS) < 12e6


def test_weights_say_how_they_were_made() -> None:
    for name in TWINS:
        _, told = load_trained(shipped(name))
        card = shipped_card(name)
        assert told["recipe"] == card["recipe"]
        assert told["classes"] == card["classes"]
        assert card["figures"]["accuracy"][0]["pictures"] == 3925
    assert shipped_card("normal")["recipe"]["adversarial"] == "none"
    assert shipped_card("robust")["recipe"]["eps"] == pytest.approx(4 / 255)


def test_what_was_asked_of_them() -> None:
    """Right on all 3925 validation pictures, and on 500 of them under AutoAttack at 4/255."""
    normal, robust = (
        {row["what"].partition(" ")[0]: row for row in shipped_card(n)["figures"]["accuracy"]} for n in TWINS
    )
    assert normal["clean"]["accuracy"] >= 0.86
    assert normal["AutoAttack"]["accuracy"] < 0.05
    assert robust["clean"]["accuracy"] >= 0.66
    assert robust["AutoAttack"]["accuracy"] >= 0.40
    assert all(row["AutoAttack"]["pictures"] == 500 for row in (normal, robust))


@pytest.mark.usefixtures("single_thread", "shared_data")
@pytest.mark.parametrize("name", TWINS)
def test_cards_are_true(nets: dict[str, Network], name: str) -> None:
    """400 pictures, of which as many are right as the card says, within three standard deviations; 40 under PGD-40."""
    net, (images, labels) = nets[name], held_out(400)
    assert list(net.labels or ()) == names()
    told = [row["accuracy"] for row in shipped_card(name)["figures"]["accuracy"]]
    with torch.no_grad():
        right = net(images).argmax(1) == labels
    assert abs(right.float().mean().item() - told[0]) < 3 * (0.25 / 400) ** 0.5
    some = slice(None, None, 10)
    found = pgd(net, images[some], label=labels[some], eps=4 / 255)
    left = 1 - found.success.float().mean().item()
    # Of one that is near 0, Poisson's of as few as one.
    assert abs(left - told[1]) < 3 * max(told[1] * (1 - told[1]) / 40, 1 / 40**2) ** 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("name", TWINS)
def test_cards_are_true_of_every_picture(nets: dict[str, Network], name: str) -> None:
    """All pictures as they are and the card's thousand under PGD-40: to a picture in five hundred.

    Pictures are scaled by Pillow here and by PyTorch there, which rounds some levels otherwise.
    """
    net, rows = nets[name], shipped_card(name)["figures"]["accuracy"]
    images, labels = held_out(rows[0]["pictures"])
    with torch.no_grad():
        right = torch.cat([net(some).argmax(1) for some in images.split(100)]) == labels
    assert right.double().mean().item() == pytest.approx(rows[0]["accuracy"], abs=0.002)
    assert rows[1]["what"].startswith("PGD-40 (linf, eps 4/255)")
    images, labels = held_out(rows[1]["pictures"])
    found = pgd(net, images, label=labels, eps=4 / 255)
    assert 1 - found.success.double().mean().item() == pytest.approx(rows[1]["accuracy"], abs=0.004)


def test_other_weights() -> None:
    first, second = (load("inward/robust", weights="random", device="cpu") for _ in range(2))
    x = torch.rand(2, 3, 128, 128)
    assert not torch.equal(first(x), second(x))
    again = load("inward/robust", weights=shipped("normal"), device="cpu")
    # A file of one twin fills the other.
    assert torch.equal(again(x), load("inward/normal", device="cpu")(x))
    with pytest.raises(CallError, match="inward has no network 'robst'; it has normal, robust, "):
        load("inward/robst")


@pytest.mark.parametrize(
    ("word", "is_one"),
    [
        *((word, True) for word in ("torchvision/resnet50", "timm/vit", "inward/normal", "net.pt2", "a/b.py:make")),
        *((word, True) for word in ("package.module:factory", "C:make")),
        *((word, False) for word in ("cat.jpg", "class:church", "class:3", "class@1:3", "stage3/5", "stage3/0:8")),
        *((word, False) for word in ("stage3/*", "layer1.0.relu:2", "layer1.0.relu:2/7", "stage3/5@1,2", "a: b")),
    ],
)
def test_what_is_a_network(word: str, is_one: bool) -> None:
    assert is_network(word) is is_one


def test_words_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / "weights.safetensors").touch()
    picture, folder = str(tmp_path / "cat.jpg"), str(tmp_path / "pictures")
    # Also a picture that is not there, so that its own error is told.
    assert model_and_things(picture, (), "images", "nothing") == (DEFAULT, (picture,))
    assert model_and_things(folder, (picture,), "images", "nothing") == (DEFAULT, (folder, picture))
    assert model_and_things(str(run), (picture,), "images", "nothing") == (str(run), (picture,))
    assert model_and_things("torchvision/alexnet", (picture,), "images", "nothing") == (
        "torchvision/alexnet",
        (picture,),
    )
    assert model_and_things("stage3/5", ("class:church",), "addresses", "nothing") == (
        DEFAULT,
        ("stage3/5", "class:church"),
    )
    assert model_and_things("inward/robust", ("stage3/5",), "addresses", "nothing") == ("inward/robust", ("stage3/5",))
    for first in (None, "torchvision/alexnet"):
        with pytest.raises(CallError, match=r"^nothing; name one or more pictures, or a folder of them$"):
            model_and_things(first, (), "images", "nothing")
    with pytest.raises(CallError, match=r"^'nowhere/' is no network, no picture and no folder, and nothing; name"):
        model_and_things("nowhere/", (), "images", "nothing")
    with pytest.raises(CallError, match="the network is called inward/robust"):
        model_and_things("robust", (picture,), "images", "nothing")


def test_commands_without_a_network(nets: dict[str, Network], tmp_path: Path, single_thread: Any) -> None:
    import skimage.data

    cat = Path(skimage.data.__file__).parent / "chelsea.png"
    asked = ("--device", "cpu", "--out", tmp_path)
    assert inward("predict", cat, "--device", "cpu").out == inward("predict", DEFAULT, cat, "--device", "cpu").out
    for words in (
        ("explain", cat),
        ("attack", cat, "--target", "class:church"),
        ("visualize", "stage2/3", "--steps", "1"),
    ):
        said = inward(*words, *asked)
        assert said.status == 0, said.err
        assert f'"spec": "{DEFAULT}"' in next(tmp_path.glob("*/manifest.json")).read_text()
        for path in tmp_path.glob("*/manifest.json"):
            path.unlink()
    said = inward("visualize", "torchvison/resnet50", "layer3/17", *asked)
    assert said.status == 2
    assert "torchvison/resnet50" in said.err
    assert inward("explain").err.startswith("inward: there is nothing to explain; name one or more pictures")
    assert inward("show").out.startswith(f"{DEFAULT}  3 x 128 x 128  2.8M parameters")


def test_a_tree_of_some_levels() -> None:
    whole, two, one = (inward("show", *given).out for given in ((), ("--depth", "2"), ("--depth", "1")))
    assert len(whole.splitlines()) > 80
    assert [line.split()[1] for line in one.splitlines()[1:]] == [
        *("conv", "norm", "act", "pool", "stage1", "stage2", "stage3", "stage4", "mean", "fc")
    ]
    # Every point is in a line, or counted in one.
    folded = [int(line.partition("+ ")[2].split()[0]) for line in two.splitlines() if "+ " in line]
    assert len(folded) == 8
    assert len(two.splitlines()) + sum(folded) == len(whole.splitlines())
    # Neither is cut off in a pipe, and data is folded alike.
    assert "37.7M multiply-adds  + 18 points inside" in one
    assert len(json.loads(inward("show", "--depth", "1", "--json").out)) == 10
    assert inward("show", "--depth", "0").err == "inward: a tree has 1 level or more, not 0\n"


def test_a_twin_with_another_size() -> None:
    """Their mean over positions takes any size, also one that is not square."""
    net, (module, _) = load("inward/normal", size=(96, 160), device="cpu"), load_trained(shipped("normal"))
    x = torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        assert torch.allclose(net(x), module(net.preprocess(x, torch.float32)), atol=1e-4)
