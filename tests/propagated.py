"""What the tests of relevance propagation share: networks, and one step of the papers' sums."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import conv_net, network
from inward import Network
from same import seeded

SIZE = (9, 7)
RULES = ["epsilon", "gamma", "z-plus", "composite"]
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
WIDE = torch.float64


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=WIDE).view(1, -1, 1, 1)


def shown(x: Tensor) -> Tensor:
    return (x - column(MEAN)) / column(STD)


def gap(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    assert theirs.abs().max() > 1e-6
    return ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()


class Branches(nn.Module):
    """A bit of everything: groups, batch norms, max-pooling, a re-used ReLU, a sum of branches, cat, a mean."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=bias)
        self.second_norm = nn.BatchNorm2d(6)
        self.side = nn.Conv2d(6, 6, 1, bias=bias)
        self.fc = nn.Linear(12, 8, bias=bias)
        self.fc_norm = nn.BatchNorm1d(8)
        self.last = nn.Linear(8, 5, bias=bias)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.relu(self.norm(self.conv(x))))
        h = self.relu(self.second_norm(self.second(h)) + self.side(h))
        h = torch.cat([h, h.flip(1)], 1)
        h = F.adaptive_avg_pool2d(h, 1).flatten(1)
        return self.last(self.relu(self.fc_norm(self.fc(h))))


def lively(module: nn.Module, shift: float = 1.0) -> nn.Module:
    """Batch norms that do something, as after training; without ``shift``, none that adds anything."""
    draw = torch.Generator().manual_seed(3)
    for norm in module.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.copy_(0.1 * shift * torch.randn(norm.num_features, generator=draw))
            norm.running_var.copy_(0.5 + torch.rand(norm.num_features, generator=draw))
            norm.weight.data.copy_(0.5 + torch.rand(norm.num_features, generator=draw))
            norm.bias.data.copy_(0.1 * shift * torch.randn(norm.num_features, generator=draw))
    return module


def branches(bias: bool = True, shift: float = 1.0) -> nn.Module:
    return lively(seeded(lambda: Branches(bias)), shift).to(WIDE)


@functools.cache
def tiny(dtype: torch.dtype = WIDE) -> Network:
    return network(conv_net().to(dtype), SIZE)


def wide(module: nn.Module, size: tuple[int, int] = SIZE, **options: object) -> Network:
    return network(module.to(WIDE), size, **options)


@functools.cache
def everything() -> Network:
    """The network of :class:`Branches`."""
    return wide(branches(), mean=MEAN, std=STD)


def dense(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A linear layer as a matrix (inputs, outputs) and what it gives of zeros."""
    offset = layer(torch.zeros_like(x[:1])).flatten()
    basis = torch.eye(x[0].numel(), dtype=WIDE).view(-1, *x.shape[1:])
    return layer(basis).flatten(1) - offset, offset


def step(rule: str, layer: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, eps: float = 1e-6) -> Tensor:
    """One layer of the papers' sums, for a whole batch."""
    w, b = dense(layer, x)
    parts = x.flatten(1)[:, :, None] * w
    offset = b.expand(len(x), -1)
    z = parts.sum(1) + offset
    if rule == "gamma":
        parts = parts * (1 + 0.25 * (parts * z[:, None] > 0))
        offset = offset * (1 + 0.25 * (offset * z > 0))
    elif rule == "z-plus":
        parts, offset = parts.clamp(min=0), offset.clamp(min=0)
    elif rule == "box":
        low, high = (shown(torch.full_like(x[:1], v)).flatten()[:, None] for v in (0.0, 1.0))
        parts, offset = parts - low * w.clamp(min=0) - high * w.clamp(max=0), offset * 0
    z = parts.sum(1) + offset
    quotient = relevance.flatten(1) / torch.where(z < 0, z - eps, z + eps)
    return (parts * quotient[:, None]).sum(2).view_as(x)
