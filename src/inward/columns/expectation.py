"""Expectation: objectives of networks that answer at random, averaged over their answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from inward.columns.objectives import OfPart
from inward.errors import CallError
from inward.network.trace import Trace
from inward.types import Scores


@dataclass(frozen=True)
class Expected(OfPart):
    """The mean of an objective over ``runs`` runs of a network that draws random numbers, and that of its gradients.

    Expectation over transformation: Athalye, Engstrom, Ilyas and Kwok, "Synthesizing robust adversarial examples",
    2017; against random networks Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security",
    2018. The gradient of one run points anywhere where the noise is strong; the variance of the mean is that of one,
    divided by ``runs``.

    Each run is one of its own, of the same images: some networks draw once for the whole batch, in which copies of an
    image would all meet the same numbers. It is differentiated before the next begins, so that memory does not
    grow with ``runs``; the score has therefore a path to the images, and none to points inside.

    Raises CallError for fewer runs than 1.
    """

    runs: int = 1

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise CallError(f"a mean is over 1 run of the network or more, not {self.runs}")

    def __call__(self, trace: Trace) -> Scores:
        inputs, total = _inputs(trace), 0.0
        slopes = [torch.zeros_like(given) for given in inputs]
        for run in self._traces(trace):
            score = self.part(run)
            total = total + score.detach() / self.runs
            for slope, found in zip(slopes, _slopes(score, run, kept=run is trace), strict=True):
                slope += found / self.runs
        # Nothing is added to the mean but its slope.
        lines = [
            ((given - given.detach()) * slope).flatten(1).sum(1) for given, slope in zip(inputs, slopes, strict=True)
        ]
        return cast("Tensor", sum(lines, total))

    def _traces(self, trace: Trace) -> Iterator[Trace]:
        """The run that there is and further ones; only new ones where the images depend on a picture."""
        whole = trace.picture is trace.images
        if whole:
            yield trace
        for _ in range(self.runs - whole):
            yield trace.again()


def _inputs(trace: Trace) -> list[Tensor]:
    """What a score can depend on but for the network."""
    return [trace.images] if trace.picture is trace.images else [trace.images, trace.picture]


def _slopes(score: Scores, run: Trace, *, kept: bool) -> Sequence[Tensor]:
    """The gradients of a score with respect to its inputs; ``kept``: others may differentiate this run too."""
    inputs = _inputs(run)
    if not (score.requires_grad and inputs[0].requires_grad):
        return [torch.zeros_like(given) for given in inputs]
    return torch.autograd.grad(score.sum(), inputs, allow_unused=True, materialize_grads=True, retain_graph=kept)
