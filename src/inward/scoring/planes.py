"""The one number a pixel by which a map is judged: the same as its picture shows."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.results import Attribution
from inward.types import Size


def grid_of(attribution: Attribution) -> Tensor:
    """The map on its own grid (N, h, w), in float64 on the CPU.

    Of sensitivities the largest absolute value over the channels, of contributions and amounts their sum.

    Raises:
        CallError: where the point that it is at has no grid.
    """
    values = attribution.features().detach().cpu().double()
    if values.ndim != 4:
        raise CallError(f"the map at '{attribution.at}' has no grid of pixels; attribute to the image, or before it")
    return values.abs().amax(1) if attribution.kind == "sensitivity" else values.sum(1)


def planes_of(attribution: Attribution) -> Tensor:
    """:func:`grid_of` enlarged to the images, (N, H, W), bilinearly."""
    grid = grid_of(attribution)
    if grid.shape[1:] == attribution.size:
        return grid
    return F.interpolate(grid[:, None], attribution.size, mode="bilinear")[:, 0]


def spread(grid: Tensor, size: Size) -> Tensor:
    """Every value of (N, h, w) shared out over the pixels that it stands for, (N, H, W): the sums are kept.

    The shares are the weights of bilinear enlargement, made to sum to 1 for every value.
    """
    rows, columns = (_shares(old, new) for old, new in zip(grid.shape[1:], size, strict=True))
    return torch.einsum("yh,nhw,xw->nyx", rows, grid, columns)


def _shares(old: int, new: int) -> Tensor:
    """(new, old): what each of ``new`` pixels gets of each of ``old`` values; columns sum to 1."""
    unit = torch.eye(old, dtype=torch.float64)[:, None]
    # From a finer grid, whole cells are collected: bilinear weights would leave some of them out.
    weights = F.interpolate(unit, new, mode="linear") if new >= old else F.adaptive_avg_pool1d(unit, new)
    return (weights / weights.sum(2, keepdim=True))[:, 0].T
