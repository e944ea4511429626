"""Random search: candidates one after the other, kept where the scores say that they help. No gradient is asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.methods.course import Course
from inward.methods.looked import query
from inward.types import Images


def run(
    course: Course,
    kind: type[RandomSearch] | Callable[[Course, Tensor, torch.Generator], RandomSearch],
    queries: int,
    seed: int,
    share: Callable[[int], float],
) -> None:
    """One search of so many queries, for the images that need it; ``share``: how much each after the first changes."""
    course.begin(queries)
    if len(numbers := course.left) == 0:
        return
    search = kind(course, numbers, torch.Generator().manual_seed(seed))
    for asked in range(queries):
        if len(search.numbers) == 0:
            return
        search.ask(search.start() if asked == 0 else search.candidate(share(asked - 1)))
    course.keep(search.best, search.numbers)


def stretched(query: int, queries: int, bounds: Sequence[int]) -> int:
    """How many of the bounds, given for 10000 queries, this one of ``queries`` is behind."""
    return sum(query * 10000 // queries > bound for bound in bounds)


class RandomSearch(ABC):
    """The state of one run, of the images that are in it: their best candidates and the scores of these.

    All images see the same random numbers, so that none depends on the others.
    """

    def __init__(self, course: Course, numbers: Tensor, generator: torch.Generator) -> None:
        self.course, self.numbers, self.generator = course, numbers, generator
        self.device = course.asked.images.device
        # The lead is that of the paper for any other class; towards a target it is the cross-entropy.
        asked = course.asked
        self.objective: Objective = asked.objective("margin" if asked.targets is None else "cross-entropy")
        self._narrow()
        self.best = self.images
        self.score = torch.full((len(numbers),), -math.inf, device=self.device)

    def _narrow(self) -> None:
        where = self.numbers.to(self.device)
        self.images, self.ball = self.course.asked.images[where], self.course.ball.select(where)

    @abstractmethod
    def start(self) -> Images:
        """The first candidates."""

    @abstractmethod
    def candidate(self, share: float) -> Images:
        """The best candidates with this share of what they changed drawn anew."""

    def accept(self, which: Tensor, candidates: Tensor) -> None:
        """Makes candidates of these of the images their best."""
        self.best = self.best.index_put((which,), candidates)

    @torch.no_grad()
    def ask(self, images: Images) -> None:
        """Keeps what raises the scores; what fools the network is done."""
        among = (images != self.best).flatten(1).any(1).nonzero()[:, 0]
        numbers, asked = self.numbers[among.cpu()], images[among]
        gone = torch.zeros(len(self.numbers), dtype=torch.bool)
        if len(numbers):
            scores, logits = query(self.course.asked.net, asked, self.objective.select(numbers.tolist()))
            better = scores > self.score[among]
            self.score = self.score.to(scores).index_put((among[better],), scores[better])
            self.accept(among[better], asked[better])
            gone[among.cpu()] = self.course.offer(asked, numbers, logits)
        self.course.count(self.numbers, self.score)
        self._leave(gone)

    def _leave(self, gone: Tensor) -> None:
        if not gone.any():
            return
        stay = (~gone).to(self.device)
        self.numbers, self.best, self.score = self.numbers[~gone], self.best[stay], self.score[stay]
        self._narrow()
