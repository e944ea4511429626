"""Goals: when an ascent of an image is over before its passes are used up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.errors import CallError


@dataclass(frozen=True)
class Plateau:
    """The score has settled: its mean over the last ``window`` passes is hardly above that of the window before.

    Hardly: by less than ``tolerance`` times its size. Scores of single passes jump with the
    augmentation, so that only means are compared; no image settles in its first two windows.
    """

    window: int = 32
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CallError(f"a plateau is judged over 1 pass or more, not {self.window}")
        if not (self.tolerance >= 0 and math.isfinite(self.tolerance)):
            raise CallError(f"the tolerance of a plateau is 0 or more, not {self.tolerance:g}")

    def settled(self, scores: Tensor) -> Tensor:
        """Of the scores of every pass so far, (passes, N), which images have settled, (N,)."""
        if len(scores) < 2 * self.window:
            return torch.zeros(scores.shape[1], dtype=torch.bool)
        last, before = (scores[len(scores) - k * self.window :][: self.window].double().mean(0) for k in (1, 2))
        return last - before <= self.tolerance * last.abs()
