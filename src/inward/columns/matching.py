"""Objectives that compare with what another picture left in the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
        """Of every image, (N, ...), in the order of the network's values in memory."""
        axes = trace.layout(self.point).axes
        if "n" not in axes:
            raise CallError(f"which axis of '{self.point}' is the batch is not known; choose a point beside it")
        value = wide(trace[self.point]).movedim(axes.index("n"), 0)
        if self.values.shape[1:] != value.shape[1:] or len(self.values) not in (1, len(value)):
            shapes = f"{tuple(self.values.shape)} for {tuple(value.shape)}"
            raise CallError(f"the values to match at '{self.point}' have the shape {shapes}")
        return value - self.values.to(value)


@dataclass(frozen=True, eq=False)
class Match(_OfValues):
    """Minus the mean squared difference from given activations of a point.

    Sabour, Cao, Faghri and Fleet, "Adversarial manipulation of deep representations", 2015.
    """

    def __call__(self, trace: Trace) -> Scores:
        differences = self.differences(trace)
        return -_squares(differences) / differences[0].numel()


@dataclass(frozen=True, eq=False)
class Alike(_OfValues):
    """Minus the squared distance from given activations of a point, as a share of their energy.

    ``-||f - f0||^2 / ||f0||^2``: of the same meaning at every depth. Mahendran and Vedaldi, "Understanding deep image
    representations by inverting them", 2015.
    """

    @cached_property
    def energy(self) -> Tensor:
        """Of the given activations, (1 or N,)."""
        found = _squares(wide(self.values))
        return found.clamp_min(torch.finfo(found.dtype).tiny)

    def __call__(self, trace: Trace) -> Scores:
        differences = self.differences(trace)
        return -_squares(differences) / self.energy.to(differences)


def _squares(values: Tensor) -> Scores:
    """The sum of the squares of each image, (N,)."""
    squares, axes = values.square(), list(range(1, values.ndim))
    return squares.sum(axes) if axes else squares
