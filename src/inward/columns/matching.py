"""Objectives that compare with what another picture left in the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inward.columns.objectives import Objective, OfPoint, wide
from inward.errors import CallError
from inward.network.trace import Trace
from inward.types import Scores


@dataclass(frozen=True, eq=False)
class _OfValues(OfPoint):
    """Something of the difference of a point from given activations.

    Attributes:
        values: (1, ...) for all images, or (N, ...), one an image; the images first, the other axes as
            ``net.trace`` gives them.

    Raises CallError where it is not known which axis of the point is the batch, or the shapes differ.
    """

    point: str
    values: Tensor

    def select(self, images: Sequence[int]) -> Objective:
        return self if len(self.values) == 1 else replace(self, values=self.values[torch.as_tensor(images)])

    def differences(self, trace: Trace) -> Tensor:
        """Of every image, (N, D), flattened."""
        axes = trace.layout(self.point).axes
        if "n" not in axes:
            raise CallError(f"which axis of '{self.point}' is the batch is not known; choose a point beside it")
        value = wide(trace[self.point]).movedim(axes.index("n"), 0)
        if self.values.shape[1:] != value.shape[1:] or len(self.values) not in (1, len(value)):
            shapes = f"{tuple(self.values.shape)} for {tuple(value.shape)}"
            raise CallError(f"the values to match at '{self.point}' have the shape {shapes}")
        return (value - self.values.to(value)).flatten(1)


@dataclass(frozen=True, eq=False)
class Match(_OfValues):
    """Minus the mean squared difference from given activations of a point.

    Sabour, Cao, Faghri and Fleet, "Adversarial manipulation of deep representations", 2015.
    """

    def __call__(self, trace: Trace) -> Scores:
        return -self.differences(trace).square().mean(1)


@dataclass(frozen=True, eq=False)
class Alike(_OfValues):
    """Minus the squared distance from given activations of a point, as a share of their energy.

    ``-||f - f0||^2 / ||f0||^2``: of the same meaning at every depth. Mahendran and Vedaldi, "Understanding deep image
    representations by inverting them", 2015.
    """

    def __call__(self, trace: Trace) -> Scores:
        differences = self.differences(trace)
        energy = self.values.to(differences).square().flatten(1).sum(1)
        return -differences.square().sum(1) / energy.clamp_min(torch.finfo(energy.dtype).tiny)
