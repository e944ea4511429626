"""What a run leaves in its folder where it is of other data, or where something fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from inward.data import Arrays
from inward.errors import CallError, InwardError
from inward.nets.trained import build
from inward.training import Recipe, train
from test_training import SMALL, run

pytestmark = pytest.mark.usefixtures("single_thread")


def test_a_run_of_another_division_is_not_taken_for_this_one(tmp_path: Path) -> None:
    """Before there was a fingerprint every tenth of all was held out: what it trained on is held out now."""
    run(replace(SMALL, epochs=1), tmp_path / "run")
    told = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert told["trained_on"]["divided"] == "every tenth of each class held out"
    del told["trained_on"]
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(told))
    with pytest.raises(CallError, match="holds a run with other pictures or labels"):
        run(replace(SMALL, epochs=1), tmp_path / "run")


def test_a_picture_that_cannot_be_read_costs_nothing_of_what_was_learned(tmp_path: Path) -> None:
    class Failing(Arrays):
        def images(self, numbers: Any) -> Tensor:
            if len(torch.as_tensor(numbers)) == 2:
                raise InwardError("a picture cannot be read")
            return super().images(numbers)

    data = Failing("some", torch.zeros(18, 1, 8, 8, dtype=torch.uint8), torch.arange(18) % 2, ("a", "b"))
    module = build("cnn", channels=1, classes=2, size=8, activation="relu", norm="batch")
    recipe = Recipe(norm="batch", size=8, epochs=1, batch=8)
    with pytest.raises(InwardError, match="a picture cannot be read"):
        train(recipe, module, lambda x: x, data, data, folder=tmp_path / "run")
    assert torch.load(tmp_path / "run" / "state.pt", weights_only=True)["step"] == 2
    (tmp_path / "file").write_text("x")
    with pytest.raises(CallError, match="exists and is no run"):
        train(recipe, module, lambda x: x, data, data, folder=tmp_path / "file")


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inward.training.checkpoint.torch.save", full)
    with pytest.raises(InwardError, match=r"state\.pt cannot be written; make room there"):
        run(replace(SMALL, epochs=1), tmp_path / "run")
