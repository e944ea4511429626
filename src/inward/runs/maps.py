"""An attribution as it was saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inward.errors import InwardError
from inward.network.network import Network
from inward.results import Attribution
from inward.runs.folder import arrays_in, manifest_in
from inward.runs.record import Record


def saved_map(folder: Path, net: Network) -> Attribution:
    """The attribution in a folder, of the network that it was made with.

    Raises InwardError where the folder holds none, or it cannot be read.
    """
    told = manifest_in(folder) or {}
    arrays = arrays_in(folder)
    try:
        return _attribution(net, told, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise InwardError(f"{folder} holds no attribution of inward; give another --out") from error


def _attribution(net: Network, told: dict[str, Any], arrays: dict[str, Tensor]) -> Attribution:
    scores = dict(told["scores"])
    target, at = scores.pop("target"), scores.pop("at", "")
    # What says nothing that the record does not say.
    for name in ("score", "score_kind"):
        scores.pop(name, None)
    parts = ("method", "parameters", "network", "inputs", "seconds", "environment", "asked")
    return Attribution(
        net,
        Record(**{name: told[name] for name in parts if name in told}),
        images=arrays["images"],
        values=arrays["values"],
        targets=(target,),
        scores=arrays["scores"],
        kind=told["kind"],
        at=at,
        measured={name: _number(value) for name, value in scores.items()},
        remarks=(tuple(told["notes"]),),
    )


def _number(value: Any) -> Tensor:
    """One of what was measured; infinities are written as words."""
    told = float(value) if isinstance(value, str) else value
    return torch.tensor([told], dtype=torch.float64 if isinstance(told, float) else None)
