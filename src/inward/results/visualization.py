"""Pictures of what units look for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from inward.results.base import Result
from inward.types import Images, Scores

# A picture with less contrast than this shows nothing: its unit never woke.
GRAY = 0.02


@dataclass(frozen=True, eq=False)
class Visualization(Result):
    """Pictures of what units look for.

    Attributes:
        images: (N, C, H, W) in [0, 1]; with an alpha channel (last) where they are transparent.
        variants: (N, D - 1, C, H, W), the further ones of D pictures of each unit.
        snapshots: (N, S, C, H, W), the pictures on the way.
        addresses: the unit of each picture.
        starts: what each began as: noise, gray, or a file.
        final: (N,), what the unit says of the final picture, without augmentation and penalties.
        variants_final: (N, D - 1), the same of the variants.
        history: (passes, N), the objective at every pass, augmented, with penalties; of a picture that
            settled, its last one.
        passes: (N,), how often each picture was moved.
        redirected: (N,), in how many passes ReLU gradients were redirected.
    """

    batched: ClassVar[tuple[str, ...]] = (
        *("images", "variants", "snapshots", "addresses", "starts"),
        *("final", "variants_final", "passes", "redirected"),
    )
    columns: ClassVar[tuple[str, ...]] = ("history",)

    images: Images
    variants: Float[Tensor, "n d c h w"]
    snapshots: Float[Tensor, "n s c h w"]
    addresses: tuple[str, ...]
    starts: tuple[str, ...]
    final: Scores
    variants_final: Float[Tensor, "n d"]
    history: Tensor
    passes: Tensor
    redirected: Tensor

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        # The others of its batch may have gone on for longer.
        return replace(one, history=one.history[: int(one.passes[0])])

    def measures(self) -> dict[str, Any]:
        """What is said of one picture."""
        others = {"variants": [v.item() for v in self.variants_final[0]]} if self.variants_final.numel() else {}
        return {
            "address": self.addresses[0],
            "final": self.final[0].item(),
            **others,
            "passes": int(self.passes[0]),
            "redirected_passes": int(self.redirected[0]),
        }

    def notes(self) -> tuple[str, ...]:
        """Says where nothing came of it."""
        if self.images[0].std().item() >= GRAY:
            return ()
        why = "the unit never woke"
        if self.record.parameters.get("negative"):
            why = "nothing lies below it; where it is the output of a ReLU, name the point before that"
        return (f"{self.addresses[0]} stayed gray: {why}",)
