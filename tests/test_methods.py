"""What every row of the table of methods owes its callers; and what the single methods compute."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from docstring_parser import parse as parse_docstring
from torch import Tensor, nn

import inward
from helpers import Dead, conv_net, network
from inward.errors import CallError
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.network import Network
from inward.network.graph import Graph
from inward.results import Attribution, Perturbation, Result
from same import images, seeded, untouched
from tiny_transformers import DeadViT, TinyViT

SIZE = (9, 7)
# All that a new row needs here: the arguments without which it cannot be called, or is slow.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "targeted-attack": {"target": "class:2", "steps": 6},
    # Small, so that some images withstand, and every step is taken.
    "fgsm": {"eps": 2 / 255},
    "pgd": {"eps": 2 / 255, "steps": 6},
    "momentum-fgsm": {"eps": 2 / 255, "steps": 6},
    "deepfool": {"steps": 2},
    "carlini-wagner": {"steps": 6, "searches": 2},
    "fmn": {"steps": 3},
    "ddn": {"steps": 3},
    "fab": {"steps": 3, "restarts": 2},
    "apgd": {"eps": 2 / 255, "steps": 3},
    "square": {"eps": 2 / 255, "queries": 5},
    "sparse-rs": {"pixels": 4, "queries": 6},
    "noise": {"eps": 2 / 255, "repeats": 4},
    "blur": {"steps": 4},
    # Whole levels a step, so that no rounding to 8 bits hangs on the last digit.
    "universal-pgd": {"eps": 4 / 255, "steps": 4, "step_size": 0.25, "minibatch": 1},
    "patch": {"target": "class:2", "share": 0.15, "steps": 4, "places": 2},
    "autoattack": {"eps": 2 / 255, "steps": 2, "queries": 5},
    "feature-attack": {"objective": "second/3", "eps": 2 / 255, "steps": 6},
    # Products in bfloat16 have tests of their own (test_lean.py).
    "feature-visualization": {"steps": 6, "precision": "full"},
    "class-visualization": {"steps": 6, "blur_every": 3},
    **{name: {"samples": 6} for name in ("smoothgrad", "vargrad", "squaregrad", "expected-gradients")},
    "blur-integrated-gradients": {"steps": 5, "sigma": 2.0},
    "guided-integrated-gradients": {"steps": 8},
    "occlusion": {"window": 3, "stride": 2},
    "rise": {"samples": 24, "cells": 3, "precision": "full"},
    "lime": {"samples": 24, "segments": 6, "baseline": "gray"},
    "conductance": {"at": "second", "steps": 6},
    "neuron-conductance": {"through": "second/3", "steps": 6},
    "internal-influence": {"at": "second", "steps": 6},
    "invert": {"at": "second", "steps": 6},
    "texture": {"at": "second", "steps": 6},
    "style": {
        "style": lambda net: images(1, net.preprocess.channels, 12, 10).to(net.dtype),
        "content_at": "second",
        "style_at": "second",
        "start": "noise",
        "steps": 6,
    },
    "dream": {"at": "second", "octaves": 1, "steps": 4, "jitter": 2},
}
every_method = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


pytestmark = pytest.mark.usefixtures("single_thread")


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    # What needs attention is tested on a network that has it.
    "attention-rollout": lambda: seeded(lambda: TinyViT(grid=(2, 2))),
}
ATTENTIVE = (8, 8)
# Those whose answer depends on the seed only where the baseline is noise, and those that it never does.
BY_BASELINE = {"integrated-gradients", "guided-integrated-gradients", "deeplift", "conductance", "neuron-conductance"}
BY_BASELINE |= {"internal-influence", "occlusion", "score-cam"}
# And only where the network draws random numbers (test_random_networks.py).
BY_NETWORK = {"fgsm", "momentum-fgsm"}


@functools.cache
def plain_net(channels: int, size: tuple[int, int]) -> Network:
    """Exported once for all methods."""
    return network(conv_net(channels), size)


@functools.cache
def dead_net() -> Network:
    return network(seeded(Dead), SIZE)


@functools.cache
def double(net: Network) -> Network:
    return net.to(dtype=torch.float64)


@functools.cache
def attentive(name: str) -> Network:
    return network(NETWORKS[name](), ATTENTIVE)


def network_for(row: Method) -> Network:
    return attentive(row.name) if row.name in NETWORKS else plain_net(3, SIZE)


@pytest.fixture
def net(row: Method) -> Network:
    return network_for(row)


def given(row: Method, net: Network, count: int) -> Any:
    if row.takes == "addresses":
        classes = ["class:3", "class:1", "class:0"]
        return (classes if row.name == "class-visualization" else ["second/3", "class:1", "conv/0@4,2"])[:count]
    pictures = images(count, net.preprocess.channels, *net.size).to(net.dtype)
    return (pictures * 255).round() / 255


def call(row: Method, net: Network, what: Any, **options: Any) -> Result:
    own = {name: value(net) if callable(value) else value for name, value in ARGUMENTS.get(row.name, {}).items()}
    return row.function(net, what, **{**own, **options})


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    assert a.shape == b.shape
    if a.numel() == 0:
        return 0.0
    return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-12)).item()


@pytest.mark.parametrize(
    "row", [row for row in TABLE if "target" in inspect.signature(row.function).parameters], ids=lambda row: row.name
)
def test_a_target_that_leaves_out_that_it_is_a_class_is_told_so(row: Method, net: Network) -> None:
    with pytest.raises(CallError, match=f"^'1' is a class of {net.name}; write class:1$"):
        call(row, net, given(row, net, 2), target="1")


@every_method
def test_same_answer_alone_and_in_a_batch(row: Method, net: Network) -> None:
    what = given(row, net, 3)
    together = call(row, net, what)
    assert len(together) == 3
    if row.shared:
        # What is found for all of them together hangs on all of them, and not on their order.
        turned = call(row, net, what.flip(0))
        for i in range(3):
            for name, value in turned[2 - i].arrays().items():
                assert gap(together[i].arrays()[name].float(), value.float()) < 1e-4, name
        return
    for i in range(3):
        alone, one = call(row, net, what[i : i + 1]), together[i]
        assert alone.measures().keys() == one.measures().keys()
        for name, value in alone.arrays().items():
            # A convolution may sum a batch in another order: float32 rounding, carried through 6 passes.
            assert gap(one.arrays()[name].float(), value.float()) < 1e-4, name


@every_method
def test_same_seed_same_answer(row: Method, net: Network) -> None:
    what = given(row, net, 2)
    first = call(row, net, what).arrays()
    torch.rand(5)  # the global generator has no say
    second = call(row, net, what).arrays()
    assert all(torch.equal(first[name], second[name]) for name in first)
    if "seed" in inspect.signature(row.function).parameters and row.name not in BY_NETWORK:
        noise: dict[str, Any] = {"baseline": "noise"} if row.name in BY_BASELINE else {}
        one, other = (call(row, net, what, seed=seed, **noise).arrays() for seed in (0, 1))
        assert any(not torch.equal(one[name], other[name]) for name in one)


@every_method
def test_inference_mode_around_it_changes_nothing(row: Method, net: Network) -> None:
    what = given(row, net, 2)
    expected = call(row, net, what).arrays()
    with torch.inference_mode():
        found = call(row, net, what.clone() if isinstance(what, Tensor) else what).arrays()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@every_method
# The check of types draws the items that it looks at.
@pytest.mark.usefixtures("unchecked_shapes")
def test_network_untouched(row: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    module = NETWORKS.get(row.name, conv_net)()
    for frozen in list(module.parameters())[:2]:
        frozen.requires_grad_(False)
    net = network(module, network_for(row).size)
    what = given(row, net, 2)
    state = random.getstate()
    counted = _Fails(None)
    with untouched(module):
        # Making a graph runs it too, the first time.
        call(row, net, what)
        monkeypatch.setattr(Graph, "run", counted.run)
        call(row, net, what)
        # At the first run of the network, in the middle, and at the last one.
        for at in {0, counted.runs // 2, counted.runs - 1}:
            monkeypatch.setattr(Graph, "run", _Fails(at).run)
            with pytest.raises(ZeroDivisionError):
                call(row, net, what)
    assert random.getstate() == state
    assert torch.is_tensor(what) is False or not what.requires_grad


class _Fails:
    """Runs a graph as ever, but for the run with this number."""

    real = Graph.run

    def __init__(self, at: int | None) -> None:
        self.at, self.runs = at, 0

    @property
    def run(self) -> Callable[..., Any]:
        def run(graph: Graph, *arguments: Any) -> Any:
            self.runs += 1
            if self.runs - 1 == self.at:
                raise ZeroDivisionError("in the middle of it")
            return _Fails.real(graph, *arguments)

        return run


@every_method
def test_finite_on_a_zero_gradient(row: Method) -> None:
    net = network(seeded(DeadViT), ATTENTIVE) if row.name in NETWORKS else dead_net()
    result = call(row, net, given(row, net, 2))
    for name, value in result.arrays().items():
        assert value.double().isfinite().all(), name
    for value in result[0].measures().values():
        assert not isinstance(value, float) or value == value


@every_method
@pytest.mark.parametrize(("channels", "size"), [(1, (9, 7)), (5, (7, 12)), (3, (12, 12))])
def test_pictures_of_any_shape_in_the_range(row: Method, channels: int, size: tuple[int, int]) -> None:
    if row.name in NETWORKS:
        channels, size, net = 3, ATTENTIVE, network_for(row)
    else:
        net = plain_net(channels, size)
    what = given(row, net, 2)
    found = call(row, net, what)
    assert isinstance(found, row.returns)
    for name in ("images", "adversarial"):
        if name in found.arrays():
            assert found.arrays()[name].shape == (2, channels, *size)
    if isinstance(found, Attribution):
        # A place for every pixel, or for every cell of a point.
        assert found.values.shape[0] == 2
        inside = found.at or row.name in NETWORKS
        assert inside or found.values.shape[1:] in {(channels, *size), (1, *size)}
        assert found.values.abs().max() > 0
        assert found.kind != "amount" or found.values.min() >= 0
    for name in ("images", "adversarial"):
        if name in found.arrays():
            low, high = (v.item() for v in found.arrays()[name].aminmax())
            assert 0 <= low < high <= 1
    if isinstance(found, Perturbation):
        change = (found.adversarial.double() * 255).round() - (found.images.double() * 255).round()
        # The default of targeted-attack; those that look for the smallest change have none.
        assert 0 < change.abs().max() <= 255 * found.record.parameters.get("eps", 1)


@every_method
def test_float64_agrees_with_float32(row: Method, net: Network) -> None:
    single = call(row, net, given(row, net, 2))
    what = given(row, net, 2)
    exact = call(row, double(net), what.double() if torch.is_tensor(what) else what)
    for name, value in single.arrays().items():
        # Rounding of 2^-24 a pass, enlarged where Adam divides by small gradients (2e-6 measured).
        assert gap(value.float(), exact.arrays()[name].float()) < 1e-3, name


@every_method
def test_signature_is_the_command(row: Method) -> None:
    """The commands' options come from here, so each has a type, a default where it can, and a line of help."""
    text = inspect.getdoc(row.function) or ""
    helps = {p.arg_name: p.description or "" for p in parse_docstring(text).params}
    positional, *options = inspect.signature(row.function).parameters.values()
    assert positional.name == "net"
    assert options[0].name == row.takes
    for parameter in options[1:]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter.name
        assert parameter.annotation is not inspect.Parameter.empty
        assert len(helps.get(parameter.name, "").split()) >= 2, f"{parameter.name} has no line under Args"
    # A paper: an author's family name in both places, and a place to find it.
    assert row.paper.split()[0].strip(",") in text
    assert any(mark in row.paper for mark in ("arXiv:", "doi:", " blog)"))
    assert row.question.endswith("?")


def test_rows_are_told_apart() -> None:
    assert len({row.name for row in TABLE}) == len(TABLE)
    assert inward.TABLE is TABLE
    with pytest.raises(inward.CallError, match="saliency"):
        inward.methods.table.by_name("salience")


@every_method
def test_record_tells_how_to_do_it_again(row: Method, net: Network) -> None:
    record = call(row, net, given(row, net, 1)).record
    assert record.method == row.name
    named = set(inspect.signature(row.function).parameters) - {"net", "images", "on_pass", "on_progress", "batch"}
    assert set(record.parameters) == named
    assert len(record.network["weights_sha256"]) == 64
    assert record.seconds > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.method = "another"  # type: ignore[misc]


@pytest.mark.parametrize("row", [row for row in TABLE if row.takes == "images"], ids=lambda row: row.name)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x * 255, r"must be in \[0, 1\], and this one goes from"),
        (lambda x: x - 0.5, r"must be in \[0, 1\]"),
        (lambda x: torch.where(x > 0.5, torch.nan, x), "NaN"),
        (lambda x: x[:, :1], "takes 3 channels, and the image has 1"),
        (lambda x: (x * 255).byte(), "float tensor"),
        (lambda x: x[0], r"\(N, C, H, W\)"),
        (lambda x: x[:0], "empty"),
    ],
    ids=["0-255", "negative", "nan", "channels", "uint8", "no-batch", "empty"],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_no_images_are_refused(row: Method, change: Any, reason: str, net: Network) -> None:
    with pytest.raises(inward.CallError, match=reason):
        call(row, net, change(given(row, net, 2)))
