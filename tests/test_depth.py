"""How deep a signal reaches: known answers, fates, and what the command writes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from inward.cli import main
from inward.errors import CallError
from inward.nets.activations import activation
from inward.studies import depth as study
from inward.studies.depth import Passage, depth, matched_gain

pytestmark = pytest.mark.usefixtures("single_thread")


def test_orthogonal_layers_without_an_activation_keep_every_signal() -> None:
    forward, backward = study._signals(nn.Identity(), "orthogonal", (1, 7, 60), 16, 0)
    torch.testing.assert_close(forward, torch.ones(3).double(), rtol=1e-12, atol=0)
    torch.testing.assert_close(backward, torch.ones(3).double(), rtol=1e-12, atol=0)


def test_he_keeps_the_gradient_of_relu_and_xavier_halves_its_square() -> None:
    """By the papers: the expected square of the gradient stays, or is halved at every layer."""
    depths = (1, 2, 4, 8)
    for init, factor in (("he", 1.0), ("xavier", 0.5)):
        found = torch.stack([study._signals(nn.ReLU(), init, depths, 256, seed)[1].square() for seed in range(8)])
        expected = torch.tensor([factor**d for d in depths]).double()
        assert (found.mean(0) / expected - 1).abs().max() < 0.15


@pytest.mark.parametrize(("module", "gain"), [(nn.Identity(), 1.0), (nn.ReLU(), 2.0)])
def test_matched_gains_that_are_known(module: nn.Module, gain: float) -> None:
    # From 100,000 draws.
    assert matched_gain(module) == pytest.approx(gain, rel=0.02)


@pytest.mark.parametrize("name", ["relog", "log", "maxout", "gelu"])
def test_matched_gains_keep_the_mean_square(name: str) -> None:
    module = activation(name)
    pieces = 2 if name == "maxout" else 1
    normal = torch.randn(200_000, pieces, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    kept = module(normal * math.sqrt(matched_gain(module))).square().mean().item()
    assert kept == pytest.approx(1, rel=0.03)


def test_the_two_published_forms_are_one_at_the_matched_variance() -> None:
    """log10(1 + s g x) is the same for every slope s, once the gain g makes up for it."""
    one, two = depth(["relog", "relog-steep"], ["matched"], deepest=12, width=32, seeds=1)
    assert one.forward == pytest.approx(two.forward, rel=1e-9)
    assert one.backward == pytest.approx(two.backward, rel=1e-9)


@pytest.mark.parametrize(
    ("signal", "fate", "passed"),
    [
        ((1.0, 0.5, 0.01), "lives", 9),
        ((1.0, 0.0009, 1e-9), "dies", 2),
        ((1.0, 999.0, 1001.0), "explodes", 5),
        ((math.inf, math.inf, math.inf), "explodes", 0),
    ],
)
def test_fates_by_hand(signal: tuple[float, ...], fate: str, passed: int) -> None:
    found = Passage("relu", "he", (2, 5, 9), signal, (1.0, 1.0, 1.0))
    assert (found.fate_forward, found.passed_forward) == (fate, passed)
    assert (found.fate_backward, found.passed_backward) == ("lives", 9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"deepest": 0}, "deepest is 1 to 1000, not 0"),
        ({"width": 1}, "width is 2 to 4096, not 1"),
        ({"inits": ["kaiming"]}, "there is no initialization 'kaiming'; choose he, xavier, orthogonal, matched"),
        ({"activations": ["swish"]}, "there is no activation 'swish'"),
    ],
)
def test_what_makes_no_sense(given: dict, message: str) -> None:
    with pytest.raises(CallError, match=message):
        depth(**given)


def test_the_command_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--activation", "relu", "relog", "--init", "he", "--depth", "12", "--width", "64", "--seeds", "2"]
    assert main(["study", "depth", *options, "--out", str(tmp_path / "depth")]) == 0
    said = capsys.readouterr().out
    assert "| relu | he | lives beyond 12 | lives beyond 12 |" in said
    assert "| relog | he | dies between 5 and 8 |" in said
    told = json.loads((tmp_path / "depth" / "depth.json").read_text())
    assert [(p["activation"], p["fate_forward"]) for p in told["passages"]] == [("relu", "lives"), ("relog", "dies")]
    assert {p.name for p in (tmp_path / "depth").iterdir()} == {"depth.json", "depth.md", "depth-he.png"}
