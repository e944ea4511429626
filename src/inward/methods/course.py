"""Several searches after one another inside one ball, each for the images that those before left standing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.errors import CallError
from inward.methods.attacked import EPS, Attacked, Moved, Norm, P
from inward.methods.goal import Goal
from inward.network.lean import lean
from inward.types import Images, Scores

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (passes done, passes at most)."""


class Course:
    """What the searches did to each image: its successes, its last candidate, its steps and scores.

    Attributes:
        net: the network that searches run on; what they found is judged on the plain one.
        stop: whether an image is left alone once it fools the network.
    """

    def __init__(
        self, asked: Attacked, ball: Ball, passes: int, *, stop: bool = True, on_progress: OnProgress | None = None
    ) -> None:
        self.asked, self.ball, self.stop = asked, ball, stop
        self.net = lean(asked.net, asked.size, half=False)
        self.goal = Goal(asked, ball)
        self._last = asked.images.clone()
        # Passes, the images in them and their scores; searches by scores alone have thousands.
        self._counted: list[tuple[Tensor, Tensor, Scores]] = []
        self._passes, self._done, self._planned, self._on_progress = passes, 0, 0, on_progress
        self._begun = self._rows = 0
        if stop:
            everyone = torch.arange(len(asked.images))
            self.goal.offer(asked.images, everyone, asked.logits)

    @property
    def left(self) -> Tensor:
        """The numbers of the images that still need work."""
        return (~self.goal.reached | (not self.stop)).nonzero()[:, 0]

    def begin(self, passes: int) -> None:
        """A search of at most so many passes begins; the one before it may have ended early."""
        self._begun = self._planned
        self._planned += passes
        self._done = self._begun

    def count(self, numbers: Tensor, scores: Scores) -> None:
        """One pass over the images with these numbers, and their scores before it."""
        self.record(torch.zeros_like(numbers), numbers, scores.detach().clone())
        self.advance(self._done - self._begun + 1)

    def advance(self, passes: int) -> None:
        """So many passes of this search are done."""
        self._done = self._begun + passes
        if self._on_progress is not None:
            self._on_progress(self._done, self._passes)

    def record(self, passes: Tensor, numbers: Tensor, scores: Scores) -> None:
        """The scores of images with these numbers in these passes; pass 0 is the one behind all recorded before."""
        self._counted.append((passes + self._rows, numbers, scores))
        self._rows += int(passes.max()) + 1

    def offer(self, images: Images, numbers: Tensor, logits: Tensor) -> Tensor:
        """Judges candidates; gives which need no more work."""
        return self.goal.offer(images, numbers, logits) & self.stop

    def keep(self, images: Images, numbers: Tensor) -> None:
        """What a search ends at where it found nothing."""
        self._last[numbers.to(self._last.device)] = images

    def moved(self) -> Moved:
        """What all searches found."""
        if self._on_progress is not None and self._done < self._passes:
            self._on_progress(self._passes, self._passes)
        return self.goal.moved(self._last, *self._told())

    def _told(self) -> tuple[Tensor, Tensor]:
        """How many passes each image was in, (N,), and its scores in each, (passes, N), NaN in those of others."""
        count, kept = len(self._last), torch.float64 if self._last.dtype == torch.float64 else torch.float32
        history = torch.full((self._rows, count), math.nan, dtype=kept)
        if not self._counted:
            return torch.zeros(count, dtype=torch.long), history
        passes, numbers, scores = (torch.cat(parts) for parts in zip(*self._counted, strict=True))
        history[passes, numbers] = scores.to(history)
        return torch.bincount(numbers, minlength=count), history


def two_norms(norm: Norm) -> Norm:
    """Raises CallError for l1."""
    if norm == "l1":
        raise CallError("this attack has no norm l1 here; write linf or l2, or use pgd")
    return norm


def radius(eps: float | None, norm: str) -> float:
    """eps, or the usual one of the norm."""
    return EPS.get(norm, 0.0) if eps is None else eps


def ball_of(asked: Attacked, eps: float, norm: Norm) -> Ball:
    """The ball around the attacked images."""
    return Ball(asked.images, eps, P[norm])


def counted(what: str, value: int) -> int:
    """Raises CallError for a number below 1."""
    if value < 1:
        raise CallError(f"{what} must be 1 or more, not {value}")
    return value
