"""An objective that brings out of a picture what a guide has."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inward.columns.objectives import wide
from inward.columns.texture import OfGrid
from inward.network.trace import Trace
from inward.types import Scores


@dataclass(frozen=True, eq=False)
class Guided(OfGrid):
    """How well every position agrees with the position of a guide that it agrees with best.

    The mean over positions p of ``max_q f_p . g_q``. Mordvintsev, Olah and Tyka, "DeepDream: a code example for
    visualizing neural networks", 2015.

    Attributes:
        guide: (K, M), the features of the guide at its M positions.
    """

    guide: Tensor

    def __call__(self, trace: Trace) -> Scores:
        flat = wide(self.features(trace)).flatten(2)
        return (self.guide.to(flat).T @ flat).amax(1).mean(1)
