"""Maps of what mattered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, TypeAlias

from jaxtyping import Float
from torch import Tensor

from inward.results.base import Result
from inward.types import Images, Scores, Size

Kind: TypeAlias = Literal["sensitivity", "contribution", "amount"]
"""What the values of an attribution are."""

_SCORES = {"score": "logit", "probability": "probability", "cross-entropy": "minus the cross-entropy"}


@dataclass(frozen=True, eq=False)
class Attribution(Result):
    """A map of what mattered.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        values: never scaled. Of the pixels (N, C, H, W), or (N, 1, h, w) where channels are not told
            apart, on a grid as coarse as the method's; of a point inside, its own shape, batch first.
        targets: the address each map explains.
        scores: (N,), the objective.
        kind: what a value is. ``sensitivity``: score per unit of what it belongs to, signed;
            ``contribution``: its share of a difference of scores, signed; ``amount``: how much, from 0 up.
        at: the point whose activations the values belong to; empty for the image.
        measured: what the method says of its maps, by name: (N,) each, NaN where there is nothing to say.
        remarks: sentences on each map.
    """

    batched: ClassVar[tuple[str, ...]] = ("images", "values", "targets", "scores", "remarks")

    images: Images
    values: Float[Tensor, "n ..."]
    targets: tuple[str, ...]
    scores: Scores
    kind: Kind
    at: str
    measured: Mapping[str, Tensor]
    remarks: tuple[tuple[str, ...], ...]

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        place = range(len(self))[index]
        return replace(one, measured={k: v[place : place + 1] for k, v in self.measured.items()})

    def features(self) -> Tensor:
        """The values with features second, then the grid: (N, K, h, w), or (N, K, ...) where there is no grid."""
        if not self.at or self.values.shape[1] == 1:
            return self.values
        layout = self.net.layout_of(self.net.resolve(self.at, self.size), self.size)
        return layout.features(self.values.movedim(0, layout.axes.index("n")))

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return (self.images.shape[2], self.images.shape[3])

    @property
    def score_kind(self) -> str:
        """What the score of a class is, in a word; empty for what is no class."""
        is_class = re.fullmatch(r"class(@\d+)?:\d+", self.targets[0])
        return _SCORES.get(self.record.parameters.get("of") or "score", "") if is_class else ""

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        inside = {"at": self.at} if self.at else {}
        own = {name: value[0].item() for name, value in self.measured.items() if not value[0].isnan()}
        kind = {"score_kind": self.score_kind} if self.score_kind else {}
        return {"target": self.targets[0], "score": self.scores[0].item(), **kind, **inside, **own}

    def notes(self) -> tuple[str, ...]:
        """What the method remarks; where it says nothing of a map of zeros, that it is one."""
        dead = f"the map is exactly 0: {self.targets[0]} is dead on this image"
        return self.remarks[0] if self.remarks[0] or self.values[0].any() else (dead,)
