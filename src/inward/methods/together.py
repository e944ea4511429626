"""What is found for all images of a batch together: the passes over them, some at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import sha256

import torch
from torch import Tensor

from inward.methods.attacked import Attacked
from inward.methods.course import OnProgress
from inward.types import Scores


class Passes:
    """The numbers of the images of each pass: all of them in an order drawn anew, before one comes again.

    The order is that of numbers drawn from the images' own seeds, so that it does not hang on how they were given.
    """

    def __init__(self, asked: Attacked, steps: int, batch: int, seed: int, on_progress: OnProgress | None) -> None:
        self._total, self._batch, self._on_progress = steps, batch, on_progress
        self._seeds, count = asked.seeds(seed), len(asked.images)
        self.steps = torch.zeros(count, dtype=torch.long)
        dtype = torch.float64 if asked.images.dtype == torch.float64 else torch.float32
        self._scores = torch.full((steps, count), math.nan, dtype=dtype)

    def __iter__(self) -> Iterator[Tensor]:
        waiting: list[int] = []
        for step in range(self._total):
            if not waiting:
                keys = [torch.rand((), generator=drawn(seed, "order", step)).item() for seed in self._seeds]
                waiting = sorted(range(len(keys)), key=keys.__getitem__)
            # In the order of the images, for sums come in that order.
            yield torch.tensor(sorted(waiting[: self._batch]))
            waiting = waiting[self._batch :]
            if self._on_progress is not None:
                self._on_progress(step + 1, self._total)

    def note(self, numbers: Tensor, scores: Scores) -> None:
        """The scores that a pass began with."""
        self._scores[self.steps[numbers], numbers] = scores.cpu().to(self._scores)
        self.steps[numbers] += 1

    @property
    def history(self) -> Tensor:
        """Each image's own passes, one below the other."""
        return self._scores[: int(self.steps.max())]


def drawn(seed: int, what: str, index: int) -> torch.Generator:
    """Random numbers for one purpose, of an image's own seed."""
    digest = sha256(f"{seed} {what} {index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
