"""Statistics of features that leave out where they are: what is left of a picture is its texture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.columns.objectives import OfPoint, wide
from inward.errors import CallError
from inward.network.trace import Trace
from inward.types import Scores, Size


def gram(features: Float[Tensor, "n k ..."], mask: Float[Tensor, "m h w"] | None = None) -> Float[Tensor, "n k k"]:
    """``G_ij = mean over positions of f_i f_j``, of (N, K, ...); with a mask (N or 1, H, W) the weighted mean."""
    flat, share = _weighed(features, mask)
    return share * (flat @ flat.mT)


def _weighed(features: Float[Tensor, "n k ..."], mask: Tensor | None) -> tuple[Float[Tensor, "n k m"], float]:
    """The features F and a number c, so that their Gram matrix is ``c F F^T``."""
    flat = wide(features).flatten(2)
    if mask is None:
        return flat, 1 / flat.shape[2]
    weights = mask.to(flat).flatten(1)[:, None]
    total = weights.sum(2, keepdim=True)
    return flat * (weights / torch.where(total > 0, total, 1)).sqrt(), 1.0


class _Apart(torch.autograd.Function):
    """``||c F F^T - A||^2`` of (N, K, M), (N,): one product of matrices in each direction, the gradient in F's order in
    memory; PyTorch takes three, in another, and goes ten times over each matrix."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor, matrices: Tensor, share: float) -> Tensor:
        apart = torch.baddbmm(matrices, flat, flat.mT, beta=-1, alpha=share)
        ctx.save_for_backward(flat, matrices, apart)
        ctx.share = share
        return torch.linalg.vector_norm(apart, dim=(1, 2)).square()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        flat, matrices, apart = ctx.saved_tensors
        if torch.is_grad_enabled():
            # What was kept knows nothing of F.
            apart = torch.baddbmm(matrices, flat, flat.mT, beta=-1, alpha=ctx.share)
        both = (apart + apart.mT) * (2 * ctx.share * grads[0])[:, None, None]
        found = (flat.mT @ both).mT if flat.stride(1) == 1 else both @ flat
        return found, None, None


def on_grid(mask: Float[Tensor, "m h w"], grid: Size) -> Float[Tensor, "m y x"]:
    """A mask as coarse as a grid of positions: the mean of its pixels over each."""
    return F.adaptive_avg_pool2d(mask[:, None], grid)[:, 0]


@dataclass(frozen=True, eq=False)
class OfGrid(OfPoint):
    """Something of the features of a point over all of its positions."""

    point: str

    def features(self, trace: Trace) -> Float[Tensor, "n k ..."]:
        """(N, K, ...). Raises CallError where the point has no units."""
        layout = trace.layout(self.point)
        if not layout.has_units or "n" not in layout.axes:
            raise CallError(f"which axis of '{self.point}' holds its units is not known; choose a point beside it")
        return trace.features(self.point)


@dataclass(frozen=True, eq=False)
class Gram(OfGrid):
    """Minus the squared distance of the Gram matrix of a point from given ones.

    ``-1 / (4 K^2) sum_ij (G_ij - A_ij)^2`` with ``G = F F^T / M``: for pictures of one size the layer's loss of Gatys,
    Ecker and Bethge, "Texture synthesis using convolutional neural networks", 2015, whose matrices are sums over the M
    positions and whose factor is 1 / (4 K^2 M^2); by means pictures of different sizes can be compared.

    Attributes:
        matrices: (1, K, K) for all images, or (N, K, K).
        mask: (1 or N, h, w), how much each position counts; None: all alike.
    """

    matrices: Tensor
    mask: Tensor | None = None

    def select(self, images: Sequence[int]) -> Gram:
        rows = torch.as_tensor(images)
        own = {name: value if value is None or len(value) == 1 else value[rows] for name, value in self._held()}
        return replace(self, **own)

    def _held(self) -> list[tuple[str, Tensor | None]]:
        return [("matrices", self.matrices), ("mask", self.mask)]

    @property
    def energy(self) -> Tensor:
        """The loss of features that are 0 everywhere, (1 or N,)."""
        return self.matrices.square().flatten(1).sum(1) / (4 * self.matrices.shape[1] ** 2)

    def __call__(self, trace: Trace) -> Scores:
        features = self.features(trace)
        if features.shape[1] != self.matrices.shape[1] or len(self.matrices) not in (1, len(features)):
            shapes = f"{tuple(self.matrices.shape)} for {features.shape[1]} units of {len(features)} images"
            raise CallError(f"the matrices to match at '{self.point}' have the shape {shapes}")
        flat, share = _weighed(features, self.mask)
        found: Tensor = _Apart.apply(flat, self.matrices.to(flat), share)
        return -found / (4 * features.shape[1] ** 2)


@dataclass(frozen=True, eq=False)
class SlicedWasserstein(OfGrid):
    """Minus the mean squared distance of the sorted values of a point along directions from given ones.

    Heitz, Vanhoey, Chambon and Belcour, "A sliced Wasserstein loss for neural texture synthesis", 2021: unlike a Gram
    matrix it holds the whole distribution along every direction. The directions are fixed, as many as units and
    orthogonal to one another, where they are drawn anew in the paper: so that the loss is the same at every pass.

    Attributes:
        directions: (K, D).
        values: (1 or N, D, M), ascending; other numbers of positions are interpolated to.
    """

    directions: Tensor
    values: Tensor

    def select(self, images: Sequence[int]) -> SlicedWasserstein:
        return self if len(self.values) == 1 else replace(self, values=self.values[torch.as_tensor(images)])

    @property
    def energy(self) -> Tensor:
        """The loss of features that are 0 everywhere, (1 or N,)."""
        return self.values.square().flatten(1).mean(1)

    def __call__(self, trace: Trace) -> Scores:
        found = along(self.features(trace), self.directions)
        given = self.values.to(found)
        if given.shape[2] != found.shape[2]:
            given = F.interpolate(given, found.shape[2], mode="linear", align_corners=True)
        return -(found - given).square().flatten(1).mean(1)


def along(features: Float[Tensor, "n k ..."], directions: Float[Tensor, "k d"]) -> Float[Tensor, "n d m"]:
    """The values of features along directions, each in ascending order."""
    flat = wide(features).flatten(2)
    return (directions.to(flat).T @ flat).sort(2).values


def orthogonal(units: int, seed: int) -> Float[Tensor, "k k"]:
    """As many directions as units, orthogonal and drawn uniformly."""
    drawn = torch.randn(units, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    q, r = torch.linalg.qr(drawn)
    return (q * r.diagonal().sign()).float()
