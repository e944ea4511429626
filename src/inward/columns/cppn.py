"""Pictures drawn by a small network of coordinates: they have no pixels, and every resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.columns.parameters import Parameterization, seeds_of
from inward.errors import CallError
from inward.types import Images

# Mean of atan(h)^2, and standard deviations of atan(h) and atan(h)^2, for h of mean 0 and variance 1 (normal).
_MEAN, _SPREAD, _SPREAD_SQUARE = 0.449701, 0.670597, 0.396132
# Coordinates uniform in [-1.73, 1.73] have a variance of 1, as what the later layers are given.
_REACH = 3**0.5


@dataclass(frozen=True)
class CPPN(Parameterization):
    """A compositional pattern-producing network: the color of a place is a function of its coordinates.

    The inputs are x, y and the distance from the center, in units in which the short side goes from
    -1.73 to 1.73, taken at the centers of pixels: parameters show the same picture at every size of
    one aspect ratio, and the same middle square at another. After each hidden layer stand atan and
    its square, both standardized; after the last, a sigmoid.

    Stanley, "Compositional pattern producing networks", 2007; Mordvintsev, Pezzotti, Schubert and
    Olah, "Differentiable image parameterizations", 2018. An image tells nothing but the number of
    channels: every picture has a network of its own, drawn from its seed.

    Attributes:
        layers: hidden layers.
        width: units of each, so that the next is given twice as many numbers.
        contrast: the standard deviation of the first picture before its sigmoid, about.
    """

    layers: int = 8
    width: int = 24
    contrast: float = 0.1

    def __post_init__(self) -> None:
        if self.layers < 1 or self.width < 1:
            raise CallError(f"a network has 1 layer of 1 unit or more, not {self.layers} of {self.width}")
        if not 0 < self.contrast < float("inf"):
            raise CallError(f"a contrast is above 0, not {self.contrast}; the first picture needs a gradient")

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        """Weights (N, inputs, outputs) and biases (N, 1, outputs), in turns, from the first layer to the last."""
        drawn = [self._draw(images.shape[1], seed) for seed in seeds_of(images, seeds)]
        return [torch.stack(parts).to(images) for parts in zip(*drawn, strict=True)]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        places = _coordinates(like.shape[2], like.shape[3], like)
        # One by one: what a picture is does not depend on the batch to the last bit, and the memory of one is used
        # for the next, which is three times as fast as a batched product.
        alone = [_colors(own, places) for own in zip(*(p.unbind() for p in parameters), strict=True)]
        return torch.sigmoid(torch.stack(alone)).view(len(alone), -1, *like.shape[2:])

    def _draw(self, channels: int, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        sizes = [3, *[2 * self.width] * self.layers]
        found: list[Tensor] = []
        for index, inputs in enumerate(sizes):
            last = index == self.layers
            outputs = channels if last else self.width
            weight = torch.randn(inputs, outputs, generator=generator, dtype=torch.float64) / inputs**0.5
            found += [weight * self.contrast if last else weight, torch.zeros(1, outputs, dtype=torch.float64)]
        return found


def _coordinates(height: int, width: int, like: Images) -> Tensor:
    """x, y and the distance from the center at every pixel's center: (H W, 3)."""
    unit = 2 * _REACH / min(height, width)
    y = (torch.arange(height, dtype=like.dtype, device=like.device) + 0.5 - height / 2) * unit
    x = (torch.arange(width, dtype=like.dtype, device=like.device) + 0.5 - width / 2) * unit
    down, right = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([right, down, (right.square() + down.square()).sqrt()], -1).view(-1, 3)


def _colors(parameters: Sequence[Tensor], places: Tensor) -> Tensor:
    """One picture before the sigmoid, (C, H W), of its weights and biases in turns."""
    value = places
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        value = _activation(torch.addmm(bias, value, weight))
    return torch.addmm(parameters[-1].T, parameters[-2].T, value.T)


def _activation(value: Tensor) -> Tensor:
    bent = torch.atan(value)
    # Products, which take a third of the time of quotients.
    return torch.cat([bent * (1 / _SPREAD), (bent.square() - _MEAN) * (1 / _SPREAD_SQUARE)], -1)
