"""What the tests of the scores of maps share: an attribution with any values."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from inward import Network
from inward.methods.explained import explained
from inward.results import Attribution


def mapped(
    net: Network,
    x: Tensor,
    values: Tensor,
    *,
    kind: Any = "contribution",
    target: Any = None,
    at: str = "",
    of: Any = "score",
    **parameters: Any,
) -> Attribution:
    """An attribution with these values, as a method would have made it."""
    asked = explained(net, x, target, of)
    told = {"of": of, "at": at or None, **parameters}
    return asked.attribution("saliency", told, values, asked.scores(), kind=kind, at=at)
