"""Files that a network is made from: weights, class names, Python and exported programs."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from inward.errors import InwardError

_TOP_BYTES = 64 * 1024 * 1024


def source_sha256(spec: str) -> str | None:
    """The SHA-256 of the file that a network is made from, its ``.py`` or ``.pt2``; None for every other name.

    Raises InwardError where there is no such file.
    """
    path = source_file(spec)
    if path is None:
        return None
    if not path.is_file():
        form = "" if path.suffix == ".pt2" else "; give path/to/file.py:factory"
        raise InwardError(f"there is no file {path}{form}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_file(spec: str) -> Path | None:
    """The file that a network is made from, by its name; None where there is none."""
    if spec.endswith(".pt2"):
        return Path(spec)
    where = spec.rpartition(":")[0]
    return Path(where) if where.endswith(".py") else None


def absolute(path: str | Path) -> str:
    """The path from the root, so that it means the same in another folder."""
    return str(Path(path).absolute())


def read_weights(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or from a ``.pt`` file, never running a pickle's code."""
    if not path.is_file():
        raise InwardError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise InwardError(f"{path.name} is not a readable safetensors file: {short(error)}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InwardError(
            f"{path.name} holds pickled objects, which could run code, and is refused; where you trust it, convert it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=False).state_dict(), 'weights.safetensors')"
        ) from error
    except Exception as error:
        raise InwardError(f"{path.name} is not a readable state dict: {short(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InwardError(f"{path.name} holds {type(state).__name__}, not a state dict of tensors")
    return state


def read_labels(labels: str | Path | Sequence[str]) -> Sequence[str]:
    """Class names from a list or a file: a JSON list, or a line a class (the last tab-separated column)."""
    if not isinstance(labels, (str, Path)):
        return list(labels)
    path = Path(labels)
    if not path.is_file():
        raise InwardError(f"there is no labels file {path}")
    if path.stat().st_size > _TOP_BYTES:
        raise InwardError(f"{path.name} is too large for a list of class names")
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            read = json.loads(text)
            return [str(read[k]) for k in sorted(read, key=int)] if isinstance(read, dict) else [str(v) for v in read]
    except ValueError as error:
        raise InwardError(f"{path.name} is not a list of class names: {short(error)}") from error
    return [line.split("\t")[-1].strip() for line in text.splitlines() if line.strip()]


def short(error: BaseException) -> str:
    """The message of an error on one line."""
    return whole_words(str(error), 200) or type(error).__name__


def whole_words(text: str, most: int) -> str:
    """A text on one line; of one with more letters than that, the words that fit and three dots."""
    text = " ".join(text.split())
    if len(text) <= most:
        return text
    fit = text[: most - 3]
    # A first word that is too long by itself is cut.
    return f"{fit.rpartition(' ')[0] or fit[:-1]} ..."
