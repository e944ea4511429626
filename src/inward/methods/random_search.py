"""Random search: candidates one after the other, kept where the scores say that they help. No gradient is asked for.

Where candidates do not hang on those before them, several of each image are looked at in one batch: of what they
find, what comes first in each image counts, and that image's next ones are looked at again. So every image ends
as if it had been asked one candidate at a time; images are then at different queries.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.methods.course import Course
from inward.network.held import Changes, Held
from inward.network.trace import Trace
from inward.types import Images, Logits, Size

# What a look takes beside its multiply-adds, as so many of them: on the CPU, and elsewhere.
_LOOK, _LOOK_ELSEWHERE = 5e7, 1e10
_MOST_AHEAD = 16
# How much the last look tells of how often candidates are kept, beside those before it.
_FRESH = 0.1


class Candidates(NamedTuple):
    """What is to be looked at, in the order of the images and, in each, of the queries.

    Attributes:
        changes: only those that differ from what is best.
        queries: which query each of the changes is, (M,).
        behind: the query behind the last candidate of each image, (N,), differ or not.
    """

    changes: Changes
    queries: Tensor
    behind: Tensor


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
    with torch.no_grad():
        search.ask(search.whole(search.start()))
        for own, alike in itertools.groupby(range(1, queries), lambda query: share(query - 1)):
            if len(search.numbers) == 0:
                break
            search.go(list(alike), own)
    search.end(queries)


def stretched(query: int, queries: int, bounds: Sequence[int]) -> int:
    """How many of the bounds, given for 10000 queries, this one of ``queries`` is behind."""
    return sum(query * 10000 // queries > bound for bound in bounds)


class RandomSearch(ABC):
    """The state of one run, of the images that are in it: their best candidates and scores, and their next queries.

    All images see the same random numbers, so that none depends on the others.
    """

    def __init__(self, course: Course, numbers: Tensor, generator: torch.Generator) -> None:
        self.course, self.numbers, self.generator = course, numbers, generator
        self.device = course.asked.images.device
        # The lead is that of the paper for any other class; towards a target it is the cross-entropy.
        asked = course.asked
        self.objective: Objective = asked.objective("margin" if asked.targets is None else "cross-entropy")
        self._narrow()
        self._held = Held(course.net, "class", self.images)
        self.score = torch.full((len(numbers),), -math.inf, device=self.device)
        self.next = torch.zeros(len(numbers), dtype=torch.long)
        # How often a query of an image ends in something: it is kept, or fools the network.
        self._share = 0.5
        # Of images, the query at which they had a new score, and the score; the last one told is where they ended.
        self._rises: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def best(self) -> Images:
        """The best candidates."""
        return self._held.images

    def _narrow(self) -> None:
        where = self.numbers.to(self.device)
        self.images, self.ball = self.course.asked.images[where], self.course.ball.select(where)

    @abstractmethod
    def start(self) -> Images:
        """The first candidates."""

    @abstractmethod
    def candidates(self, share: float, last: int) -> Candidates:
        """The next candidates, with this share of what they changed drawn anew, none behind the query ``last``."""

    def draw(self, queries: list[int], share: float) -> None:  # noqa: B027
        """Draws for so many queries what does not hang on what is best."""

    def accept(self, which: Tensor) -> None:  # noqa: B027
        """Told of which images the last candidate is the best now."""

    def whole(self, images: Images) -> Candidates:
        """Other images as the next candidates, of all at the same query."""
        everyone = (images != self.best).flatten(1).any(1).nonzero()[:, 0]
        changes = Changes.whole(images if len(everyone) == len(images) else images[everyone], everyone)
        return Candidates(changes, self.next[everyone.cpu()], self.next + 1)

    def ahead(self, extent: Size) -> int:
        """How many candidates of each image are best looked at at once.

        What comes behind one that is kept was looked at for nothing; but a look of few takes nearly as long as of many.
        """
        look = _LOOK if self.device.type == "cpu" else _LOOK_ELSEWHERE
        cost = len(self.numbers) * self._held.cost(extent)
        if cost == 0:
            return 1
        return max(range(1, _MOST_AHEAD + 1), key=lambda n: (1 - (1 - self._share) ** n) / (look + n * cost))

    def go(self, queries: list[int], share: float) -> None:
        """All queries of one share."""
        self.draw(queries, share)
        while len(self.numbers) and int(self.next.min()) <= queries[-1]:
            self.ask(self.candidates(share, queries[-1]))

    def ask(self, candidates: Candidates) -> None:
        """Keeps what first raises the score of each image; what fools the network is done."""
        changes, queries, behind = candidates
        first, before = len(self._rises) == 0, self.next
        self.next, ended, gone = behind, 0, None
        if len(changes.owners):
            logits = self._held.look(changes)
            ended, gone = self._decide(changes.owners, queries, logits)
        if first:
            self._rises.append((self.numbers, torch.zeros_like(self.numbers), self.score))
        self._share += _FRESH * (ended / int((self.next - before).sum()) - self._share)
        self.course.advance(int(self.next.min()))
        if gone is not None and gone.any():
            self._leave(gone)

    def _decide(self, owners: Tensor, queries: Tensor, logits: Logits) -> tuple[int, Tensor | None]:
        """What becomes of changes by their logits; of how many images, and which need no more work, if any."""
        places = owners.cpu()
        numbers = self.numbers[places]
        scores = self.objective.select(numbers.tolist())(Trace(self.course.asked.net, self.best, {"class": logits}))
        risen = (scores > self.score[owners]).cpu()
        fooled = self.course.asked.fooled(logits, numbers)
        told = (risen | fooled).nonzero()[:, 0]
        if len(told) == 0:
            return 0, None
        fresh = torch.ones(len(told), dtype=torch.bool)
        fresh[1:] = places[told[1:]] != places[told[:-1]]
        told = told[fresh]
        self.next[places[told]] = queries[told] + 1
        tried = told[fooled[told]]
        gone = self._offered(tried, places[tried], logits)
        self._keep(told[risen[told]], owners, queries, scores)
        return len(told), gone

    def _offered(self, tried: Tensor, places: Tensor, logits: Logits) -> Tensor | None:
        if len(tried) == 0:
            return None
        on = tried.to(self.device)
        done = self.course.offer(self._held.changed(on), self.numbers[places], logits[on])
        return torch.zeros(len(self.numbers), dtype=torch.bool).index_put((places,), done)

    def _keep(self, kept: Tensor, owners: Tensor, queries: Tensor, scores: Tensor) -> None:
        """What raised the scores."""
        if len(kept) == 0:
            return
        on = kept.to(self.device)
        self._held.keep(on)
        which = owners[on]
        self.score = self.score.to(scores).index_copy(0, which, scores[on])
        self._rises.append((self.numbers[which.cpu()], queries[kept], scores[on]))
        self.accept(which)

    def _leave(self, gone: Tensor) -> None:
        stay = (~gone).to(self.device)
        self._tell_end(gone, self.next[gone])
        self.numbers, self.score, self.next = self.numbers[~gone], self.score[stay], self.next[~gone]
        self._held.select(stay)
        self._narrow()

    def _tell_end(self, which: Tensor, query: Tensor) -> None:
        numbers = self.numbers[which]
        self._rises.append((numbers, query, torch.full((len(numbers),), math.nan, device=self.device)))

    def end(self, queries: int) -> None:
        """Tells the course what was found: of every image its score behind each query that it was in."""
        self._tell_end(torch.ones(len(self.numbers), dtype=torch.bool), torch.full_like(self.numbers, queries))
        self.course.keep(self.best, self.numbers)
        numbers, at, scores = (torch.cat(parts) for parts in zip(*self._rises, strict=True))
        order = (numbers * (queries + 1) + at).argsort(stable=True)
        numbers, at, scores = numbers[order], at[order], scores[order.to(self.device)]
        # Each score holds until the next one of that image; behind its last entry there is none.
        lasts = torch.where(scores.isnan().cpu(), 0, at.roll(-1) - at)
        before = (lasts.cumsum(0) - lasts).repeat_interleave(lasts)
        passes = at.repeat_interleave(lasts) + torch.arange(len(before)) - before
        self.course.record(passes, numbers.repeat_interleave(lasts), scores.repeat_interleave(lasts.to(self.device)))
