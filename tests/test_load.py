"""Networks by name, from factories and from files; weights that are read and weights that are refused."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from inward.errors import CallError, InwardError, InwardWarning
from inward.network.files import whole_words
from inward.network.load import import_torchvision, load, read_labels, read_weights, source_sha256
from same import images
from test_programs import exported

FACTORY = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().mean((2, 3)))

def tiny():
    return Tiny()

tiny.size, tiny.mean, tiny.std = 16, (0.25, 0.5), (0.5, 2.0)

def number():
    return 3

def broken():
    raise OSError("the disk is on fire")
"""


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user's: as a file, and importable as `user_nets.small`."""
    package = tmp_path / "user_nets"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    yield package / "small.py"
    for name in [n for n in sys.modules if n.startswith("user_nets") or n == "inward_user_small"]:
        del sys.modules[name]


@pytest.mark.parametrize("form", ["user_nets.small:tiny", "{path}:tiny"])
def test_factory(factory: Path, form: str) -> None:
    net = load(form.format(path=factory), device="cpu", labels=["cat", "dog", "bird"])
    assert (net.size, net.preprocess.channels, net.classes()) == ((16, 16), 2, 3)
    assert (net.preprocess.mean, net.preprocess.std) == ((0.25, 0.5), (0.5, 2.0))
    x = images(3, 2, 16, 16)
    module = sys.modules["user_nets.small" if "user" in form else "inward_user_small"].Tiny()
    module.load_state_dict(net._source.weights())
    shown = (x - torch.tensor([0.25, 0.5]).view(2, 1, 1)) / torch.tensor([0.5, 2.0]).view(2, 1, 1)
    assert torch.equal(net(x), module(shown))
    assert net.resolve("class:dog").unit == 1


def test_preprocessing_by_hand(factory: Path) -> None:
    net = load(f"{factory}:tiny", device="cpu", mean=(0, 0), std=(1,), size=(12, 20), dtype=torch.float64)
    assert (net.size, net.dtype, net.preprocess.mean, net.preprocess.std) == (
        (12, 20),
        torch.float64,
        (0, 0),
        (1,),
    )
    again = net.spec
    assert (again["size"], again["mean"], again["std"], again["dtype"]) == ([12, 20], [0, 0], [1], "float64")
    # What a manifest keeps is plain data.
    assert json.loads(json.dumps(again)) == again


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"mean": (0.1, 0.2, 0.3)}, "mean has 3 values for 2 channels; give one a channel"),
        ({"std": (0.0, 1.0)}, "std has a 0 in it"),
        ({"std": (float("nan"), 1.0)}, "std must be finite numbers"),
        ({"size": (0, 16)}, "size 0 x 16 is empty"),
        ({"device": "cuda:99"}, "there is no device 'cuda:99' here; give --device cpu or auto"),
        ({"device": "abacus"}, "there is no device 'abacus' here"),
    ],
)
def test_options_that_make_no_sense(factory: Path, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CallError, match=sentence):
        load(f"{factory}:tiny", **options)


@pytest.mark.parametrize(
    ("spec", "kind", "sentence"),
    [
        ("resnet18", CallError, "'resnet18' is not a network; write torchvision/NAME, timm/NAME"),
        ("torchvision/resnet19", CallError, "no classification model 'resnet19'; the nearest: .*resnet18"),
        ("timm/vit_tinny_patch16_224", CallError, "timm has no model .*; the nearest: .*vit_tiny_patch16_224"),
        ("inward/inception_v2", CallError, "inward has no network 'inception_v2'; it has normal, robust, inception_v1"),
        ("inward/inception_v1", CallError, "comes without weights; give --weights FILE, or --weights random"),
        ("no_such_package.nets:tiny", CallError, "'no_such_package.nets' cannot be imported"),
        ("nowhere/nets.py:tiny", InwardError, "there is no file nowhere/nets.py"),
        ("user_nets.small:tinny", CallError, "user_nets.small has no function 'tinny'; the nearest: tiny"),
        ("user_nets.small:number", CallError, "returned int; it must return a torch.nn.Module"),
        ("user_nets.small:broken", InwardError, "user_nets.small:broken failed: the disk is on fire"),
        ("nowhere.pt2", InwardError, "there is no file nowhere.pt2"),
    ],
)
@pytest.mark.usefixtures("factory")
def test_unknown_networks(spec: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        load(spec)


@pytest.mark.parametrize("spec", ["inward/normal", "inward/digits", "timm/resnet18", "torchvision/resnet18"])
def test_words_that_are_no_weights(spec: str) -> None:
    """They are not taken for random ones."""
    with pytest.raises(CallError, match=r"'radnom' is n(o file of weights; give one, or random|either a file nor)"):
        load(spec, weights="radnom")


@pytest.fixture
def state(factory: Path) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return {k: torch.randn_like(v) for k, v in load(f"{factory}:tiny")._source.weights().items()}


@pytest.mark.parametrize("form", ["safetensors", "pt", "nested"])
def test_weights(factory: Path, tmp_path: Path, state: dict[str, Tensor], form: str) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if form == "nested" else state, path)
    net = load(f"{factory}:tiny", weights=path)
    assert all(torch.equal(v, state[k]) for k, v in net._source.weights().items())
    assert net.parameters == sum(v.numel() for v in state.values())
    assert net.spec["weights"] == str(path)
    assert net.weights_hash() != load(f"{factory}:tiny", weights="random").weights_hash()
    assert net.weights_hash() == load(f"{factory}:tiny", weights=path).weights_hash()


def test_weights_that_do_not_fit(factory: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "weights.safetensors"
    for change, sentence in [
        ({"fc.bias": torch.zeros(7)}, r"weights in weights.safetensors do not fit .*size mismatch for fc.bias"),
        ({"extra": torch.zeros(1)}, r'do not fit .*Unexpected key\(s\) in state_dict: "extra"'),
    ]:
        safetensors.torch.save_file(state | change, path)
        with pytest.raises(CallError, match=sentence):
            load(f"{factory}:tiny", weights=path)


class Launcher:
    """Would run code where it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("launched"),))


def test_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(2), "more": Launcher()}, "evil.pt")
    torch.save(nn.Linear(2, 2), "module.pt")
    for name in ("evil.pt", "module.pt"):
        with pytest.raises(
            InwardError, match=r"pickled objects, which could run code.*convert it: safetensors.torch.save"
        ):
            read_weights(Path(name))
    assert not Path("launched").exists()


def test_unreadable_weights(factory: Path, tmp_path: Path, state: dict[str, Tensor]) -> None:
    whole, short = tmp_path / "weights.safetensors", tmp_path / "short.safetensors"
    safetensors.torch.save_file(state, whole)
    short.write_bytes(whole.read_bytes()[:-8])
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "empty.pt").touch()
    for name, sentence in [
        ("short.safetensors", "short.safetensors is not a readable safetensors file"),
        ("none.safetensors", "there is no weights file"),
        ("list.pt", "list.pt holds list, not a state dict of tensors"),
        ("empty.pt", "empty.pt is not a readable state dict"),
    ]:
        with pytest.raises(InwardError, match=sentence):
            load(f"{factory}:tiny", weights=tmp_path / name)


def test_torchvision_by_name() -> None:
    net = load("torchvision/squeezenet1_1", weights="random", device="cpu")
    assert (net.size, net.classes(), net.label(281)) == ((224, 224), 1000, "tabby")
    assert (net.preprocess.mean, net.preprocess.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(CallError, match="'IMAGENET1K_V7' is neither a file nor weights of squeezenet1_1; it has IMAGE"):
        load("torchvision/squeezenet1_1", weights="IMAGENET1K_V7")


def test_timm_by_name() -> None:
    net = load("timm/lcnet_050", weights="random", device="cpu")
    assert (net.size, net.classes(), net.label(281)) == ((224, 224), 1000, "tabby")
    assert net.preprocess.mean == (0.485, 0.456, 0.406)


@pytest.mark.parametrize("spec", ["torchvision/resnet18", "timm/resnet18"])
def test_pretrained_weights_without_a_network(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection is refused at once, and what a cache holds is not found."""
    for name in ("TORCH_HOME", "HF_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused = OSError("Network is unreachable")
    monkeypatch.setattr("socket.getaddrinfo", _raising(refused))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    with pytest.raises(
        InwardError, match=f"pretrained weights of {spec} are not on this disk and cannot be downloaded"
    ):
        load(spec)
    # The hub's own client would try six times over, for most of a minute.
    assert time.monotonic() - start < 15


def _raising(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "0\tn1\tcat\n1\tn2\tdog, hound\n\n2\tn3\tbird\n"),
        ("classes.json", '["cat", "dog, hound", "bird"]'),
        ("classes.json", '{"10": "bird", "0": "cat", "2": "dog, hound"}'),
    ],
)
def test_labels(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_labels(tmp_path / name) == ["cat", "dog, hound", "bird"]


def test_what_is_too_long_for_a_message_ends_with_a_whole_word(factory: Path, tmp_path: Path) -> None:
    assert whole_words("two  words\n", 9) == "two words"
    assert whole_words("two words", 8) == "two ..."
    # As long as it may be, with the dots.
    assert [whole_words("one two three", most) for most in (10, 11, 12)] == ["one ...", "one two ...", "one two ..."]
    assert whole_words("unbreakable", 8) == "unbr ..."
    keys = {f"layer{i}.weight": torch.zeros(1) for i in range(50)}
    own = load(f"{factory}:tiny", device="cpu")._source.weights()
    safetensors.torch.save_file({**own, **keys}, tmp_path / "other.safetensors")
    with pytest.raises(CallError, match=r'do not fit .*"layer\d+\.weight", \.\.\.$'):
        load(f"{factory}:tiny", weights=tmp_path / "other.safetensors", device="cpu")


def test_labels_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("[1, 2")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    for name in ("broken.json", "latin.txt"):
        with pytest.raises(InwardError, match=f"{name} is not a list of class names"):
            read_labels(tmp_path / name)
    with pytest.raises(InwardError, match="there is no labels file"):
        read_labels(tmp_path / "none.txt")


MEAN, STD = (123 / 255, 117 / 255, 104 / 255), (1 / 255,)


@pytest.mark.parametrize(
    ("spec", "file", "size", "parameters"),
    [
        ("torchvision/squeezenet1_1", "squeezenet1_1.safetensors", 227, 1_235_496),
        ("inward/inception_v1", "inception_v1.safetensors", 224, 6_998_552),
    ],
)
def test_real_weights(shared_data: Path, spec: str, file: str, size: int, parameters: int) -> None:
    """The published networks know a photograph of a cat: `chelsea`, from scikit-image."""
    skimage = pytest.importorskip("skimage.data")
    net = load(spec, weights=shared_data / "weights" / file, mean=MEAN, std=STD, size=size, device="cpu")
    assert net.parameters == parameters
    cat = torch.from_numpy(skimage.chelsea()).permute(2, 0, 1)[None].float() / 255
    cat = cat[:, :, :300, 75:375]
    cat = nn.functional.interpolate(cat, (size, size), mode="bilinear", antialias=True).clamp(0, 1)
    with torch.no_grad():
        logits = net(cat)[0]
    names = [net.label(i) for i in logits.topk(5).indices.tolist()]
    assert {"tabby", "tiger cat", "Egyptian cat"} & set(names), names
    assert logits.softmax(0).max() > 0.2
    # Other weights would know it no better than chance.
    assert net.weights_hash() == load(spec, weights=shared_data / "weights" / file, device="cpu").weights_hash()


def test_import_torchvision_twice() -> None:
    assert import_torchvision() is import_torchvision()
    assert "resnet18" in import_torchvision().models.list_models()


def test_softmax_factory_is_told(factory: Path) -> None:
    factory.write_text(FACTORY.replace("mean((2, 3)))", "mean((2, 3))).softmax(1)"))
    net = load(f"{factory}:tiny", device="cpu")
    with pytest.warns(InwardWarning, match=r"small.py:tiny ends in a softmax or a sigmoid"):
        net(images(1, 2, 16, 16))


def test_what_a_manifest_keeps_is_the_same_from_another_folder(
    factory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(factory.parent)
    Path("names.txt").write_text("cat\ndog\nbird\n")
    torch.save(load("small.py:tiny")._source.weights(), "weights.pt")
    spec = load("small.py:tiny", weights="weights.pt", labels="names.txt", device="cpu").spec
    assert spec["spec"] == f"{factory}:tiny"
    assert (spec["weights"], spec["labels"]) == (str(factory.parent / "weights.pt"), str(factory.parent / "names.txt"))
    assert spec["source_sha256"] == hashlib.sha256(factory.read_bytes()).hexdigest() == source_sha256(spec["spec"])
    exported(Path("net.pt2"))
    program = load("net.pt2", device="cpu").spec
    monkeypatch.chdir(tmp_path)
    assert program["spec"] == str(factory.parent / "net.pt2")
    assert program["source_sha256"] == source_sha256(program["spec"])
    assert (
        load(spec["spec"], weights=spec["weights"], labels=spec["labels"], device="cpu").resolve("class:dog").unit == 1
    )
    assert load("user_nets.small:tiny", weights="random").spec["source_sha256"] is None
    assert source_sha256("torchvision/resnet18") is None
    with pytest.raises(InwardError, match=r"there is no file nowhere\.pt2"):
        source_sha256("nowhere.pt2")
