"""What `inward train` reaches on MNIST with nothing but its own defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers import inward
from tests.trained import data_folder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_data")]


def trained(out: Path, *options: str) -> dict[str, Any]:
    """Its card, of all 60,000 pictures and 10,000 held out."""
    said = inward("train", "--data", data_folder() / "mnist", *options, "--out", out)
    assert said.status == 0, said.err
    card = json.loads((out / "card.json").read_text("utf-8"))
    print(
        f"{card['name']}: {card['seconds']:.0f} s, {[(r['what'], r['accuracy']) for r in card['figures']['accuracy']]}"
    )
    return card


@pytest.mark.timeout(3600)
def test_as_usual(tmp_path: Path) -> None:
    clean, attacked = trained(tmp_path / "normal")["figures"]["accuracy"]
    assert clean["pictures"] == 10_000
    assert clean["accuracy"] >= 0.99
    assert attacked["accuracy"] < 0.01


@pytest.mark.timeout(3 * 3600)
def test_against_an_adversary(tmp_path: Path) -> None:
    card = trained(tmp_path / "robust", "--adversarial", "pgd")
    clean, attacked = card["figures"]["accuracy"]
    assert card["recipe"]["eps"] == 0.3
    assert clean["accuracy"] >= 0.95
    assert attacked["accuracy"] >= 0.85
