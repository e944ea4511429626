"""Pictures as sums of levels, each of half the size of the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from inward.columns.parameters import Parameterization
from inward.columns.squashing import check_edge, squash, unsquash
from inward.errors import CallError
from inward.types import Images, Size


@dataclass(frozen=True)
class LaplacianPyramid(Parameterization):
    """``x = sigmoid(C (l_0 + up(l_1 + up(l_2 + ...))))``: the levels l are the parameters, the finest first.

    A step of one size at every level moves every octave alike, which is the 1 / f law of natural
    images. Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983; levels are
    halved by means of areas and enlarged bilinearly, and ``image(init(x)) = x`` by construction.
    Any number of channels, any H and W: a side of n pixels has (n + 1) // 2 at the next level.

    Attributes:
        levels: how many, the picture's own size included.
        decorrelate: whether C mixes the colors of three channels.
        edge: values this close to 0 and 1 are moved inside before the inverse of the sigmoid.
    """

    levels: int = 6
    decorrelate: bool = True
    edge: float = 1e-4

    def __post_init__(self) -> None:
        check_edge(self.edge)
        if self.levels < 1:
            raise CallError(f"a pyramid has 1 level or more, not {self.levels}")

    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        rest = unsquash(images, self.edge, self.decorrelate)
        found = []
        for _ in range(self.levels - 1):
            size = (rest.shape[2], rest.shape[3])
            smaller = F.adaptive_avg_pool2d(rest, ((size[0] + 1) // 2, (size[1] + 1) // 2))
            found.append(rest - _enlarged(smaller, size))
            rest = smaller
        return [*found, rest.clone()]

    def image(self, parameters: list[Tensor], like: Images) -> Images:
        plain = parameters[-1]
        for level in reversed(parameters[:-1]):
            plain = level + _enlarged(plain, (level.shape[2], level.shape[3]))
        return squash(plain, self.decorrelate)


def _enlarged(images: Images, size: Size) -> Float[Tensor, "n c y x"]:
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
