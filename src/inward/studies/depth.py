"""How many layers a signal passes before it explodes or dies: random networks of one activation, forward and backward.

Layers are ``x <- activation(W x)`` of one width, without biases. The signal forward is what tells inputs apart: the
root mean square of their deviations from their mean, at a layer, by that of the first inputs. The signal backward is
the root mean square of the gradient at the inputs, by that of a random gradient at the layer. After Glorot and Bengio,
"Understanding the difficulty of training deep feedforward neural networks", 2010, and He et al., "Delving deep into
rectifiers", 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inward.errors import CallError
from inward.nets.activations import ACTIVATIONS, Maxout, activation

INITS = ("he", "xavier", "orthogonal", "matched")
DEPTHS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
# A signal is alive as long as it is within these of what it was.
DEAD, EXPLODED = 1e-3, 1e3
_INPUTS, _SAMPLES = 32, 100_000


@dataclass(frozen=True)
class Passage:
    """How a signal fares in networks of one activation and one initialization.

    Attributes:
        activation, init: their names.
        depths: the numbers of layers.
        forward, backward: the signal after so many layers by that before them, the median over the seeds.
        fate_forward, fate_backward: dies, explodes, or lives as deep as was looked.
        passed_forward, passed_backward: how many layers it passes before that, of the depths that were looked at.
    """

    activation: str
    init: str
    depths: tuple[int, ...]
    forward: tuple[float, ...]
    backward: tuple[float, ...]

    @property
    def fate_forward(self) -> str:
        return _fate(self.depths, self.forward)[0]

    @property
    def fate_backward(self) -> str:
        return _fate(self.depths, self.backward)[0]

    @property
    def passed_forward(self) -> int:
        return _fate(self.depths, self.forward)[1]

    @property
    def passed_backward(self) -> int:
        return _fate(self.depths, self.backward)[1]

    def report(self) -> dict[str, Any]:
        """The figures, as ``depth.json`` has them."""
        names = ("fate_forward", "passed_forward", "fate_backward", "passed_backward")
        return asdict(self) | {name: getattr(self, name) for name in names}


def depth(
    activations: Sequence[str] = tuple(ACTIVATIONS),
    inits: Sequence[str] = ("he",),
    *,
    deepest: int = 200,
    width: int = 256,
    seeds: int = 3,
    on_passage: Callable[[int, int], None] | None = None,
) -> list[Passage]:
    """The passages of every activation and initialization.

    Args:
        activations: names, see :data:`inward.nets.activations.ACTIVATIONS`.
        inits: he (variance 2 / width), xavier (1 / width), orthogonal, or matched: that variance at which the
            activation keeps the mean square of Gaussian inputs of variance 1.
        deepest: the largest number of layers, 1 to 1000.
        width: of each layer, 2 to 4096.
        seeds: random networks of each kind; the figures are medians.
        on_passage: called with (passages done, passages in all).

    Raises:
        CallError: for an unknown name, or a number out of its range.
    """
    for name, value, most in (("deepest", deepest, 1000), ("width", width, 4096), ("seeds", seeds, 1000)):
        least = 2 if name == "width" else 1
        if not least <= value <= most:
            raise CallError(f"{name} is {least} to {most}, not {value}")
    if wrong := [name for name in inits if name not in INITS]:
        raise CallError(f"there is no initialization '{wrong[0]}'; choose {', '.join(INITS)}")
    modules = {name: activation(name) for name in activations}
    depths = (*(d for d in DEPTHS if d < deepest), deepest)
    pairs, found = [(name, init) for name in modules for init in inits], []
    for done, (name, init) in enumerate(pairs):
        runs = [_signals(modules[name], init, depths, width, seed) for seed in range(seeds)]
        forward, backward = (torch.stack(parts).quantile(0.5, dim=0) for parts in zip(*runs, strict=True))
        found.append(Passage(name, init, depths, tuple(forward.tolist()), tuple(backward.tolist())))
        if on_passage is not None:
            on_passage(done + 1, len(pairs))
    return found


def _fate(depths: Sequence[int], signal: Sequence[float]) -> tuple[str, int]:
    passed = 0
    for layers, value in zip(depths, signal, strict=True):
        if not value >= DEAD:
            return ("dies" if value == value else "explodes"), passed
        if value > EXPLODED:
            return "explodes", passed
        passed = layers
    return "lives", passed


def _signals(module: nn.Module, init: str, depths: tuple[int, ...], width: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of one network, by depth; in float64, which has room for what explodes."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(_INPUTS, width, dtype=torch.float64, generator=generator)
    weights = [_weights(module, init, width, generator) for _ in range(depths[-1])]
    cotangent = torch.randn(_INPUTS, width, dtype=torch.float64, generator=generator)
    forward, backward = [], []
    for layers in depths:
        x = start.clone().requires_grad_(True)
        y = x
        for matrix in weights[:layers]:
            y = module(y @ matrix.T)
        (slope,) = torch.autograd.grad(y, x, cotangent)
        forward.append(_spread(y.detach()) / _spread(start))
        backward.append(slope.square().mean().sqrt() / cotangent.square().mean().sqrt())
    found = torch.stack([torch.stack(forward), torch.stack(backward)])
    # What is beyond the largest number has exploded.
    found = found.nan_to_num(nan=math.inf, posinf=math.inf)
    return found[0], found[1]


def _spread(x: Tensor) -> Tensor:
    return (x - x.mean(0)).square().mean().sqrt()


def _weights(module: nn.Module, init: str, width: int, generator: torch.Generator) -> Tensor:
    rows = width * (module.pieces if isinstance(module, Maxout) else 1)
    drawn = torch.randn(rows, width, dtype=torch.float64, generator=generator)
    if init == "orthogonal":
        return torch.cat([_orthogonal(part) for part in drawn.split(width)])
    variance = {"he": 2.0, "xavier": 1.0}.get(init) or matched_gain(module)
    return drawn * math.sqrt(variance / width)


def _orthogonal(drawn: Tensor) -> Tensor:
    """Uniform among the orthogonal matrices."""
    q, r = torch.linalg.qr(drawn)
    return q * r.diagonal().sign()


def matched_gain(module: nn.Module) -> float:
    """The variance of weights times width at which ``activation(W x)`` has the mean square 1 where x has.

    Solved by bisection for what Gaussian inputs of that variance give; infinite gains are cut at 10^4.
    """
    pieces = module.pieces if isinstance(module, Maxout) else 1
    normal = torch.randn(_SAMPLES, pieces, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, high = 1e-4, 1e4
    for _ in range(60):
        middle = math.sqrt(low * high)
        given = module(normal * math.sqrt(middle)).square().mean().item()
        low, high = (low, middle) if given > 1 else (middle, high)
    return math.sqrt(low * high)
