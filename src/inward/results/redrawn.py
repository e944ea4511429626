"""Pictures that were made of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from inward.results.base import Result
from inward.types import Images


@dataclass(frozen=True, eq=False)
class Redrawn(Result):
    """Pictures made of pictures: of what a layer keeps of them, of their texture, in a style, exaggerated.

    Attributes:
        images: (N, C, H, W) in [0, 1], what they were made of.
        made: (N, S, C, h, w) in [0, 1]: S pictures of each, in the memory of the CPU.
        names: what the S pictures are called; points of the network where there are several.
        snapshots: (N, T, C, h, w), the first of the pictures on its way.
        measured: what the method says of its pictures, by name: (N, S) each.
        weights: what each part of the objective was multiplied by, by its name: (N, S); for those that the method
            weighs itself.
        history: (passes, N, S), the objective before every pass; NaN where others went on for longer.
        remarks: sentences on each image.
    """

    batched: ClassVar[tuple[str, ...]] = ("images", "made", "snapshots", "remarks")
    columns: ClassVar[tuple[str, ...]] = ("history",)

    images: Images
    made: Float[Tensor, "n s c tall wide"]
    names: tuple[str, ...]
    snapshots: Float[Tensor, "n t c tall wide"]
    measured: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    history: Tensor
    remarks: tuple[tuple[str, ...], ...]

    def __getitem__(self, index: int) -> Self:
        one, place = super().__getitem__(index), range(len(self))[index]
        measured, weights = (
            {k: v[place : place + 1] for k, v in held.items()} for held in (self.measured, self.weights)
        )
        return replace(one, measured=measured, weights=weights)

    def measures(self) -> dict[str, Any]:
        """What is said of one image; lists in the order of ``names`` where there are several pictures of it."""
        single = len(self.names) == 1
        found = {} if single else {"pictures": list(self.names)}
        found |= {name: value[0, 0].item() if single else value[0].tolist() for name, value in self.measured.items()}
        own = {name: value[0, 0].item() if single else value[0].tolist() for name, value in self.weights.items()}
        return found | ({"weights": own} if own else {})

    def notes(self) -> tuple[str, ...]:
        """What the method remarks."""
        return self.remarks[0]
