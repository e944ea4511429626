"""What every row of the table of methods owes its callers; and what the single methods compute."""

from __future__ import annotations

import dataclasses
import inspect
import random
from typing import Any

import pytest
import torch
from docstring_parser import parse as parse_docstring
from torch import Tensor

import inward
from helpers import Dead, conv_net, network
from inward.methods.table import TABLE, Method
from inward.network import Network
from inward.results import Perturbation, Result
from same import images, seeded, untouched

SIZE = (9, 7)
# All that a new row needs here: the arguments without which it cannot be called, or is slow.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "targeted-attack": {"target": "class:2", "passes": 6},
    # Products in bfloat16 have tests of their own (test_lean.py).
    "feature-visualization": {"steps": 6, "precision": "full"},
    "class-visualization": {"steps": 6, "blur_every": 3},
}
every_method = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)


pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


def given(row: Method, net: Network, count: int) -> Any:
    if row.takes == "addresses":
        classes = ["class:3", "class:1", "class:0"]
        return (classes if row.name == "class-visualization" else ["second/3", "class:1", "conv/0@4,2"])[:count]
    pictures = images(count, net.preprocess.channels, *net.size).to(net.dtype)
    return (pictures * 255).round() / 255


def call(row: Method, net: Network, what: Any, **options: Any) -> Result:
    return row.function(net, what, **{**ARGUMENTS.get(row.name, {}), **options})


def gap(a: Tensor, b: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    assert a.shape == b.shape
    if a.numel() == 0:
        return 0.0
    return ((a.double() - b.double()).abs().max() / b.double().abs().max().clamp_min(1e-12)).item()


@every_method
def test_same_answer_alone_and_in_a_batch(row: Method, net: Network) -> None:
    what = given(row, net, 3)
    together = call(row, net, what)
    assert len(together) == 3
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
    if "seed" in inspect.signature(row.function).parameters:
        other = call(row, net, what, seed=1).arrays()
        assert any(not torch.equal(first[name], other[name]) for name in first)


@every_method
def test_network_untouched(row: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    module = conv_net()
    module.conv.bias.requires_grad_(False)  # type: ignore[union-attr]
    net = network(module, SIZE)
    what = given(row, net, 2)
    state = random.getstate()
    with untouched(module):
        call(row, net, what)
        runs = iter(range(2))
        real = Network.run

        def fails(self: Network, *arguments: Any) -> Any:
            if next(runs, None) is None:
                raise ZeroDivisionError("in the middle of it")
            return real(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Network, "run", fails)
            if row.name != "saliency":  # one run of the network: it cannot fail at the third
                with pytest.raises(ZeroDivisionError):
                    call(row, net, what)
            next(runs, None), next(runs, None)
            with pytest.raises(ZeroDivisionError):
                call(row, net, what)
    assert random.getstate() == state
    assert torch.is_tensor(what) is False or not what.requires_grad


@every_method
def test_finite_on_a_zero_gradient(row: Method) -> None:
    net = network(seeded(Dead), SIZE)
    result = call(row, net, given(row, net, 2))
    for name, value in result.arrays().items():
        assert value.double().isfinite().all(), name
    for value in result[0].measures().values():
        assert not isinstance(value, float) or value == value


@every_method
@pytest.mark.parametrize(("channels", "size"), [(1, (9, 7)), (5, (7, 12)), (3, (12, 12))])
def test_pictures_of_any_shape_in_the_range(row: Method, channels: int, size: tuple[int, int]) -> None:
    net = network(conv_net(channels), size)
    what = given(row, net, 2)
    found = call(row, net, what)
    assert isinstance(found, row.returns)
    for name in ("images", "values", "adversarial"):
        if name in found.arrays():
            assert found.arrays()[name].shape == (2, channels, *size)
    for name in ("images", "adversarial"):
        if name in found.arrays():
            low, high = (v.item() for v in found.arrays()[name].aminmax())
            assert 0 <= low < high <= 1
    if isinstance(found, Perturbation):
        change = (found.adversarial.double() * 255).round() - (found.images.double() * 255).round()
        assert 0 < change.abs().max() <= 4


@every_method
def test_float64_agrees_with_float32(row: Method, net: Network) -> None:
    single = call(row, net, given(row, net, 2))
    what = given(row, net, 2)
    double = call(row, net.to(dtype=torch.float64), what.double() if torch.is_tensor(what) else what)
    for name, value in single.arrays().items():
        # Rounding of 2^-24 a pass, enlarged where Adam divides by small gradients (2e-6 measured).
        assert gap(value.float(), double.arrays()[name].float()) < 1e-3, name


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
    assert "arXiv:" in row.paper or "doi:" in row.paper
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
    named = set(inspect.signature(row.function).parameters) - {"net", "images", "on_pass", "batch"}
    assert set(record.parameters) == named
    assert len(record.network["weights_sha256"]) == 64
    assert record.seconds > 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.method = "another"  # type: ignore[misc]


@pytest.mark.parametrize("name", [row.name for row in TABLE if row.takes == "images"])
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
def test_no_images_are_refused(name: str, change: Any, reason: str, net: Network) -> None:
    row = next(row for row in TABLE if row.name == name)
    with pytest.raises(inward.CallError, match=reason):
        call(row, net, change(given(row, net, 2)))
