"""One look at images: the score, its gradient and the logits, of one forward and one backward pass."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.gradient import raw_gradient, trace_for
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.trace import Trace
from inward.types import Images, Logits, Scores


class Look(NamedTuple):
    """What one pass there and back gave, cut off from it.

    Attributes:
        scores: (N,), the objective.
        gradient: (N, C, H, W), its gradient with respect to the images, in [0, 1] units.
        logits: (N, classes), of the same forward pass.
    """

    scores: Scores
    gradient: Images
    logits: Logits


def look(net: Network, images: Images, objective: Objective) -> Look:
    """The objective at checked images (N, C, H, W), which it is one of, its gradient, and what the network answers."""
    seen = _Seen(objective)
    scores, gradient = raw_gradient(net, images, seen)
    return Look(scores, gradient, seen.logits.detach())


@torch.no_grad()
def query(net: Network, images: Images, objective: Objective) -> tuple[Scores, Logits]:
    """The objective at checked images and what the network answers; no gradient is asked for.

    The plain network will do: the lean one is made for gradients, and its rearranged pixels only cost without them.
    """
    with ordinary(net.device):
        trace = trace_for(net, images, list(dict.fromkeys((*objective.addresses, "class"))))
        return objective(trace), trace["class"]


class _Seen(Objective):
    """An objective that keeps the logits of the one trace that it is shown."""

    logits: Tensor

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._objective.addresses, "class")))

    def __call__(self, trace: Trace) -> Scores:
        self.logits = trace["class"]
        return self._objective(trace)
