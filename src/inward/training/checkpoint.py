"""What a run folder holds while it trains: the recipe, and the state after some step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.training.recipe import Recipe

RECIPE, STATE, TRAINED_ON = "recipe.json", "state.pt", "trained_on"


class Checkpoint:
    """A folder that a run is kept in.

    Args:
        folder: is made where there is none.
        recipe: of the run.
        trained_on: by what its pictures are told from others.

    Raises:
        CallError: where it holds a run of another recipe or of other pictures, or anything else.
        InwardError: where it cannot be made.
    """

    def __init__(self, folder: Path, recipe: Recipe, trained_on: Mapping[str, Any]) -> None:
        self._folder = folder
        told, own = read_json(folder / RECIPE), asdict(recipe)
        if told is not None:
            # Of one that was stopped before anything was kept, nothing is lost.
            taken = any(path.name != RECIPE for path in folder.iterdir())
            other = [f"{k} {told.get(k)}" for k, v in own.items() if told.get(k) != v]
            # Runs from before there was such an entry are of the same pictures, but where these are divided anew.
            known = told.get(TRAINED_ON, None if "divided" in trained_on else trained_on)
            other += ["other pictures or labels"] if known != trained_on else []
            if taken and other:
                raise CallError(f"{folder} holds a run with {other[0]}; give another --out, or remove the folder")
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CallError(f"{folder} exists and is no run; give another --out")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            told = own | {TRAINED_ON: dict(trained_on)}
            write_whole((json.dumps(told, indent=1) + "\n").encode(), folder / RECIPE)
        except OSError as error:
            raise InwardError(f"{folder} cannot be written ({error.strerror}); give another --out") from error

    def save(self, state: dict[str, Any]) -> None:
        """The whole of it or nothing: a stop in the middle leaves the one before."""
        draft = self._folder / f".{STATE}.partial"
        try:
            torch.save(state, draft)
            draft.replace(self._folder / STATE)
        except (OSError, RuntimeError) as error:
            draft.unlink(missing_ok=True)
            raise InwardError(
                f"{self._folder / STATE} cannot be written; make room there, and the same command goes on from what "
                "was written last"
            ) from error

    def restore(self, into: Callable[[dict[str, Any]], None]) -> None:
        """Hands over what was saved last, if anything was.

        Raises InwardError where it cannot be read, or is not of this run.
        """
        path = self._folder / STATE
        if not path.is_file():
            return
        try:
            into(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:
            raise InwardError(f"{path} is damaged, or of another run; remove it to begin anew") from error


def read_json(path: Path) -> dict[str, Any] | None:
    """What a file of a run folder holds; None where there is none. Raises InwardError where it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InwardError(f"{path} is damaged; remove it, or give another --out") from error
    return found if isinstance(found, dict) else None
