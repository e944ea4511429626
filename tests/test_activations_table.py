"""The table of activations: trained, attacked, judged, and taken up again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from inward.cli import main
from inward.studies.accuracy import wilson
from inward.studies.activations_table import COLUMNS, Kind

pytestmark = pytest.mark.usefixtures("single_thread")

LEFT = dict.fromkeys(COLUMNS, 0.5)


@pytest.mark.parametrize(
    ("change", "pictures", "masked"),
    [
        ({}, 1000, False),
        ({"pgd-40": 0.8}, 1000, True),
        ({"fgsm": 0.9}, 1000, False),
        ({"square": 0.4}, 1000, True),
        # Ten points, of which the chance of so few pictures explains fourteen.
        ({"square": 0.4}, 100, False),
        ({"transfer": 0.46}, 10**6, False),
        # Most of its attacks go by the gradient too, only better.
        ({"autoattack": 0.1}, 1000, False),
    ],
)
def test_what_counts_as_masked(change: dict[str, float], pictures: int, masked: bool) -> None:
    """PGD of 40 steps has to be outdone by what asks for no gradient: by five points, and by more than chance."""
    assert Kind("relu", "softmax", "none", (LEFT | change, LEFT | change), pictures).masked is masked


def test_intervals_are_of_pictures_and_of_seeds() -> None:
    one = Kind("relu", "softmax", "none", (LEFT,), 100)
    assert one.interval("clean") == pytest.approx(wilson(0.5, 100))
    # Of three seeds at 0.4, 0.5 and 0.6: 4.303 standard errors of 0.1 / sqrt(3), beside Wilson's.
    three = Kind("relu", "softmax", "none", tuple(LEFT | {"clean": v} for v in (0.4, 0.5, 0.6)), 100)
    reach = math.hypot(0.5 - wilson(0.5, 100)[0], 4.302653 * 0.1 / math.sqrt(3))
    assert three.interval("clean") == pytest.approx((0.5 - reach, 0.5 + reach), abs=1e-6)
    assert three.report()["accuracy"]["clean"]["low"] == pytest.approx(0.5 - reach, abs=1e-6)


def test_a_small_table_and_once_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "table"
    options = [
        "--data",
        "digits",
        "--activation",
        "relu",
        "relog-steep",
        "--output",
        "softmax",
        "--augmentation",
        "none",
    ]
    options += ["--epochs", "4", "--eps", "0.3", "--pictures", "4", "--out", str(out), "--seeds"]
    assert main(["study", "activations-table", *options, "1"]) == 0
    said = capsys.readouterr().out
    told = json.loads((out / "table.json").read_text())
    assert [(k["activation"], k["output"]) for k in told["kinds"]] == [("relu", "softmax"), ("relog-steep", "softmax")]
    for kind in told["kinds"]:
        left = {column: figure["mean"] for column, figure in kind["accuracy"].items()}
        assert set(left) == set(COLUMNS)
        # The sequence begins where the gradient attack does, and Square is a part of it.
        assert left["autoattack"] <= min(left["pgd-40"], left["square"]) + 1 / 4 + 1e-9
        assert left["clean"] >= max(left.values())
        assert f"{left['clean']:.1%}" in said
    assert {"surrogate", "relu-softmax-none-0", "relog-steep-softmax-none-0"} <= {p.name for p in out.iterdir()}
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/weights.safetensors")}
    assert main(["study", "activations-table", *options, "1"]) == 0
    assert capsys.readouterr().out == said
    # A further seed is trained, and nothing else.
    assert main(["study", "activations-table", *options, "2"]) == 0
    again = json.loads((out / "table.json").read_text())
    assert again["seeds"] == 2
    assert [kind["seeds"][0] for kind in again["kinds"]] == [kind["seeds"][0] for kind in told["kinds"]]
    assert before.items() <= {p: p.stat().st_mtime_ns for p in out.glob("*/weights.safetensors")}.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--augmentation", "strong"], "there is no augmentation 'strong'; choose none, heavy"),
        (["--eps", "0"], "eps is the largest change of any value, above 0 and at most 1, not 0; write 0.3"),
        (["--seeds", "0"], "seeds and pictures are 1 or more, not 0 and 200"),
    ],
)
def test_bad_input(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "table")
    assert main(["study", "activations-table", "--data", "digits", *options, "--out", out]) == 2
    assert message in capsys.readouterr().err
