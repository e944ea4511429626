"""The command evaluate: its figures, its checks, a stop, and what it refuses."""

from __future__ import annotations

import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import inward
from helpers import digits
from helpers import inward as command
from inward.methods.table import TABLE
from inward.studies.accuracy import told_eps
from inward.studies.robustness import _Run, described
from lettered import listened

pytestmark = pytest.mark.usefixtures("single_thread")


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
    assert told["images"] == 12
    clean, small, large = (row["accuracy"] for row in told["curve"])
    assert clean >= small > large
    assert f"{clean:.1%}" in said.out
    assert json.loads((tmp_path / "e" / "manifest.json").read_text())["attack"] == "pgd"
    checks = {one["name"]: one for one in told["self_checks"]}
    assert len(checks) == 14
    assert checks["normalization"]["measured"] == clean
    for name, one in checks.items():
        assert one["ok"] is True, name
        assert f"ok    {name}: {one['told']}\n" in said.out


def test_the_report_names_the_attack_all_its_options_and_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    np.savez(tmp_path / "d.npz", images=(data.images[:6] * 15.9375).astype("uint8"), labels=data.target[:6])
    written = listened(monkeypatch)
    options = ["--attack", "pgd", "--steps", "2", "--eps", "0.1", "--no-checks", "--out", tmp_path / "e"]
    assert command("evaluate", *digits(), tmp_path / "d.npz", *options).status == 0
    told = json.loads((tmp_path / "e" / "report.json").read_text())
    # What was given, and the defaults of pgd's signature; neither what it is given with each batch nor its watchers.
    parameters = {"norm": "linf", "loss": "cross-entropy", "steps": 2, "step_size": None, "random_start": True}
    parameters |= {"restarts": 1, "stop": True, "extra": 0, "eot": 1, "eight_bit": True, "seed": 0}
    assert (told["attack"], told["parameters"], told["network"]) == ("pgd", parameters, "inward/digits")
    manifest = json.loads((tmp_path / "e" / "manifest.json").read_text())
    assert (manifest["attack"], manifest["parameters"]) == ("pgd", parameters)
    assert "Accuracy under pgd, 6 images, inward/digits" in [line.text for line in written]
    for place in (tmp_path / "e", tmp_path / "e" / "manifest.json"):
        again = command("rerun", place)
        assert (again.status, again.out) == (1, "")
        what = "is of an evaluation, which is no single result; run the same `inward evaluate` command again\n"
        assert again.err == f"inward: {tmp_path / 'e' / 'manifest.json'} {what}"
    (tmp_path / "e" / "manifest.json").write_text('{"study": "activations"}')
    assert "is of a study, which" in command("rerun", tmp_path / "e").err


def test_an_attack_is_described_by_the_last_that_was_given() -> None:
    inner = partial(inward.fgsm, loss="dlr", stop=False, on_pass=print)
    name, told = described(partial(inner, loss="margin", eps=0.1, label=3))
    assert name == "fgsm"
    assert told == {"norm": "linf", "loss": "margin", "stop": False, "eot": 1, "eight_bit": True, "seed": 0}
    # A function among the options has no place in JSON, nor has the default that it stands in for.
    assert "loss" not in described(partial(inner, loss=len))[1]


def test_the_command_stops_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    np.savez(tmp_path / "d.npz", images=(data.images[:24] * 15.9375).astype("uint8"), labels=data.target[:24])
    options = [*digits(), tmp_path / "d.npz", "--steps", "3", "--accuracy", "0.5", "--batch", "8", "--no-checks"]
    whole = command("evaluate", *options, "--out", tmp_path / "whole")
    assert whole.status == 0
    told = json.loads((tmp_path / "whole" / "report.json").read_text())
    assert f"down to 50.0% at eps {told_eps(told['crossing']['eps'], 'linf')} (95 %: " in whole.out
    calls: list[int] = []
    plain = _Run._attacked

    def interrupted(self: Any, number: int, numbers: list[int]) -> int:
        calls.append(number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(self, number, numbers)

    monkeypatch.setattr(_Run, "_attacked", interrupted)
    stopped = command("evaluate", *options, "--out", tmp_path / "e")
    assert stopped.status == 130
    assert "the same command goes on from what" in stopped.err
    assert not (tmp_path / "e" / "report.json").exists()
    assert command("evaluate", *options, "--out", tmp_path / "e").status == 0
    assert json.loads((tmp_path / "e" / "report.json").read_text()) == told
    refused = command("evaluate", *options, "--eps", "0.1", "0.2", "--out", tmp_path / "f")
    assert "with --accuracy, --eps is the largest that is tried, and 2 were given" in refused.err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--attack", "pdg"], "the nearest: pgd"),
        (["--attack", "targeted-attack"], "there is no attack 'targeted-attack' to evaluate with"),
        (["--attack", "universal-pgd"], "universal-pgd changes all pictures together"),
        (["--attack", "fgsm", "--steps", "3"], "fgsm has no steps; leave out --steps"),
        (["--eps", "2"], "at most 1"),
    ],
    ids=str,
)
def test_senseless_commands_are_one_sentence(tmp_path: Path, options: list[str], reason: str) -> None:
    (tmp_path / "data" / "3").mkdir(parents=True)
    Image.new("L", (8, 8), 128).save(tmp_path / "data" / "3" / "a.png")
    said = command("evaluate", *digits(), tmp_path / "data", *options, "--out", tmp_path / "e")
    assert said.status == 2
    assert reason in said.err
    assert said.err.count("\n") == 1


def test_every_attack_within_an_eps_can_be_evaluated_with() -> None:
    able = [r for r in TABLE if r.command == "attack" and "eps" in inspect.signature(r.function).parameters]
    assert {"fgsm", "pgd", "momentum-fgsm"} <= {row.name for row in able}
