"""Random search: candidates one after the other, kept where the scores say that they help. No gradient is asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.methods.course import Course
from inward.network.held import Held, Window
from inward.network.modes import ordinary
from inward.network.trace import Trace
from inward.types import Images, Logits

# A candidate that changes at least this share of the images is looked at in all of them.
_MOST = 0.4


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
    with ordinary(course.asked.images.device), torch.no_grad():
        for asked in range(queries):
            if len(search.numbers) == 0:
                return
            search.ask(search.start() if asked == 0 else search.candidate(share(asked - 1)))
    course.keep(search.best, search.numbers)


def stretched(query: int, queries: int, bounds: Sequence[int]) -> int:
    """How many of the bounds, given for 10000 queries, this one of ``queries`` is behind."""
    return sum(query * 10000 // queries > bound for bound in bounds)


class RandomSearch(ABC):
    """The state of one run, of the images that are in it: their best candidates, and the scores and logits of these.

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
        self._logits = asked.logits[numbers.to(self.device)]
        self.score = torch.full((len(numbers),), -math.inf, device=self.device)

    @property
    def best(self) -> Images:
        """The best candidates."""
        return self._held.images

    def _narrow(self) -> None:
        where = self.numbers.to(self.device)
        self.images, self.ball = self.course.asked.images[where], self.course.ball.select(where)
        self._own = self.objective.select(self.numbers.tolist())

    @abstractmethod
    def start(self) -> Window:
        """The first candidates."""

    @abstractmethod
    def candidate(self, share: float) -> Window:
        """The best candidates with this share of what they changed drawn anew."""

    def accept(self, which: Tensor) -> None:  # noqa: B027
        """Told of which images the last candidate is the best now."""

    def whole(self, images: Images) -> Window:
        """Other images."""
        return Window(images, (0, images.shape[2]), (0, images.shape[3]))

    def ask(self, window: Window) -> None:
        """Keeps what raises the scores; what fools the network is done."""
        changed = (window.values != window.of(self.best)).flatten(1).any(1)
        count, gone = int(changed.sum()), None
        if count:
            # To take some out of many costs more than to look at all.
            every = count >= _MOST * len(changed)
            among = torch.arange(len(changed), device=self.device) if every else changed.nonzero()[:, 0]
            logits = self._held.look(window, among)
            known = logits if every else self._logits.to(logits).index_copy(0, among, logits)
            gone = self._offered(known, changed, among)
            self._keep(known, changed, among)
        self.course.count(self.numbers, self.score)
        if gone is not None:
            self._leave(gone)

    def _offered(self, logits: Logits, changed: Tensor, among: Tensor) -> Tensor | None:
        """Which images need no more work, if any."""
        fooled = self.course.asked.fooled(logits, self.numbers) & changed.cpu()
        if not fooled.any():
            return None
        tried = fooled.nonzero()[:, 0]
        places = torch.searchsorted(among, tried.to(self.device))
        done = self.course.offer(self._held.changed(places), self.numbers[tried], logits[tried.to(self.device)])
        return fooled.index_put((tried,), done)

    def _keep(self, logits: Logits, changed: Tensor, among: Tensor) -> None:
        """What raised the scores."""
        scores = self._own(Trace(self.course.asked.net, self.best, {"class": logits}))
        kept = ((scores > self.score) & changed).nonzero()[:, 0]
        if len(kept) == 0:
            return
        self._held.keep(torch.searchsorted(among, kept))
        self.score = self.score.to(scores).index_copy(0, kept, scores[kept])
        self._logits = self._logits.to(logits).index_copy(0, kept, logits[kept])
        self.accept(kept)

    def _leave(self, gone: Tensor) -> None:
        if not gone.any():
            return
        stay = (~gone).to(self.device)
        self.numbers, self.score, self._logits = self.numbers[~gone], self.score[stay], self._logits[stay]
        self._held.select(stay)
        self._narrow()
