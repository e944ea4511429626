"""Activations by name: the usual ones, rectified logarithms, and maxout."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inward.errors import CallError


class RectifiedLog(nn.Module):
    """``log(1 + slope * relu(x)) / log(base)``.

    With base 10 and slope 1 it is ``log10(relu(x) + 1)``; with slope 100 it is ``log10(relu(x) + 0.01) + 2``, which is
    0 at 0 too and rises there a hundred times as steeply. Written so, it loses no digits near 0; what lies above 1 is
    a second logarithm, without the slope as a factor of x, so that nothing overflows.
    """

    def __init__(self, slope: float = 1.0, base: float = math.e) -> None:
        super().__init__()
        if not (slope > 0 and base > 1):
            raise CallError(f"a rectified log has a slope above 0 and a base above 1, not {slope:g} and {base:g}")
        self.slope, self.base = slope, base

    def forward(self, x: Tensor) -> Tensor:
        most = _largest(x.dtype)
        if self.slope <= 1:
            return torch.log1p(self.slope * F.hardtanh(x, 0.0, most)) * (1 / math.log(self.base))
        # At 1 the first of the two has the slope and the second has none yet.
        below = torch.log1p(self.slope * x.relu().clamp_max(1))
        above = torch.log1p(self.slope / (1 + self.slope) * F.hardtanh(x - 1, 0.0, most))
        return (below + above) * (1 / math.log(self.base))

    def extra_repr(self) -> str:
        return f"slope={self.slope:g}, base={self.base:g}"


def _largest(dtype: torch.dtype) -> float:
    """The largest number; of float32 the largest that bfloat16 has too, in which loops run graphs made in float32."""
    return torch.finfo(torch.bfloat16 if dtype == torch.float32 else dtype).max


class Maxout(nn.Module):
    """The largest of every ``pieces`` neighboring channels: (N, pieces * C, ...) becomes (N, C, ...).

    Goodfellow, Warde-Farley, Mirza, Courville and Bengio, "Maxout networks", 2013.
    """

    def __init__(self, pieces: int = 2) -> None:
        super().__init__()
        if pieces < 2:
            raise CallError(f"maxout chooses among 2 pieces or more, not {pieces}")
        self.pieces = pieces

    def forward(self, x: Tensor) -> Tensor:
        # With the channels last, and max, which keeps what it chose, a step of training takes half as long.
        return x.movedim(1, -1).unflatten(-1, (-1, self.pieces)).max(-1).values.movedim(-1, 1)

    def extra_repr(self) -> str:
        return f"pieces={self.pieces}"


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relog": lambda: RectifiedLog(1.0, 10.0),
    "relog-steep": lambda: RectifiedLog(100.0, 10.0),
    "log": lambda: RectifiedLog(1.0),
    "maxout": Maxout,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "softplus": nn.Softplus,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}
"""relog is ``log10(relu(x) + 1)``, relog-steep ``log10(relu(x) + 0.01) + 2``, log ``ln(1 + relu(x))``."""


def activation(name: str) -> nn.Module:
    """A new module of this name. Raises CallError where there is none."""
    if name not in ACTIVATIONS:
        raise CallError(f"there is no activation '{name}'; choose {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def pieces_of(name: str) -> int:
    """How many channels the activation makes one of."""
    module = activation(name)
    return module.pieces if isinstance(module, Maxout) else 1


def normalization(name: str, channels: int) -> nn.Module:
    """A normalization of so many channels: batch, group (of 16 channels or fewer), or none.

    Raises CallError where there is none of this name.
    """
    if name == "batch":
        return nn.BatchNorm2d(channels)
    if name == "group":
        return nn.GroupNorm(max(1, channels // 16), channels)
    if name == "none":
        return nn.Identity()
    raise CallError(f"there is no normalization '{name}'; choose batch, group or none")
