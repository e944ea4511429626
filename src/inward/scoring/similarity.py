"""How alike two maps are: rank correlation and structural similarity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.results import Attribution
from inward.scoring.planes import grid_of
from inward.types import Scores

# Of the window and the constants of structural similarity: the usual ones (Wang et al. 2004).
_WINDOW, _K1, _K2 = 7, 0.01, 0.03


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike two maps of each image are; nan where one of them is the same everywhere.

    Attributes:
        signed: (..., N), the rank correlation of the maps, summed over the channels.
        absolute: (..., N), the rank correlation of their sizes, without signs.
        structural: (..., N), the structural similarity of their sizes, each divided by its largest;
            nan for maps that are not on a grid of 3 x 3 or more.
    """

    signed: Float[Tensor, "... n"]
    absolute: Float[Tensor, "... n"]
    structural: Float[Tensor, "... n"]


def similarity(first: Attribution, second: Attribution) -> Similarity:
    """How alike two attributions of the same images are, on their own grid.

    The size of a sensitivity is its largest absolute value over the channels, that of others the
    absolute value of their sum, as in their pictures.
    """
    (one, large), (other, great) = (_maps(each) for each in (first, second))
    return Similarity(
        rank_correlation(one.flatten(1), other.flatten(1)),
        rank_correlation(large.flatten(1), great.flatten(1)),
        structural_similarity(_largest_one(large), _largest_one(great)),
    )


def stacked(parts: list[Similarity]) -> Similarity:
    """Several in one, along a new first axis."""
    names = ("signed", "absolute", "structural")
    return Similarity(*(torch.stack([getattr(part, name) for part in parts]) for name in names))


def _maps(attribution: Attribution) -> tuple[Tensor, Tensor]:
    values = attribution.features().detach().cpu().double()
    if values.ndim != 4:
        return values, values.abs()
    return values.sum(1), grid_of(attribution).abs()


def _largest_one(values: Tensor) -> Tensor:
    top = values.flatten(1).amax(1).view(-1, *[1] * (values.ndim - 1))
    return values / torch.where(top > 0, top, 1)


def rank_correlation(first: Tensor, second: Tensor) -> Scores:
    """Spearman's rank correlation of the rows of two (N, M); equal values share their mean rank."""
    a, b = (_ranks(each) for each in (first, second))
    a, b = (each - each.mean(1, keepdim=True) for each in (a, b))
    scale = (a.square().sum(1) * b.square().sum(1)).sqrt()
    return torch.where(scale > 0, (a * b).sum(1) / scale, torch.nan)


def _ranks(rows: Tensor) -> Tensor:
    found = []
    for row in rows:
        _, place, count = row.unique(return_inverse=True, return_counts=True)
        last = count.cumsum(0).double()
        found.append((last - (count - 1) / 2)[place])
    return torch.stack(found)


def structural_similarity(first: Tensor, second: Tensor) -> Scores:
    """The mean structural similarity of maps (N, h, w) in [0, 1], over windows of 7 x 7 that lie inside.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to
    structural similarity", 2004. Smaller maps have smaller windows.
    """
    if first.ndim != 3 or min(first.shape[1:]) < 3:
        return torch.full((len(first),), torch.nan, dtype=torch.float64)
    short = min(_WINDOW, *first.shape[1:])
    side = short - (short + 1) % 2

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, side, stride=1)

    a, b = mean(first), mean(second)
    # Variances of samples, as in the paper's own program.
    unbiased = side**2 / (side**2 - 1)
    va, vb = (unbiased * (mean(x * x) - m * m) for x, m in ((first, a), (second, b)))
    joint = unbiased * (mean(first * second) - a * b)
    c1, c2 = _K1**2, _K2**2
    found = (2 * a * b + c1) * (2 * joint + c2) / ((a * a + b * b + c1) * (va + vb + c2))
    flat = [each.flatten(1).amax(1) == each.flatten(1).amin(1) for each in (first, second)]
    return torch.where(flat[0] | flat[1], torch.nan, found.flatten(1).mean(1))
