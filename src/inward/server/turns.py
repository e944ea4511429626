"""Who computes: one at a time, the most urgent first, equals in turn, also between two passes of a longer work."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

import torch


class Urgency(IntEnum):
    """A request waits for an answer now; a job was asked for; background work fills a grid."""

    REQUEST = 0
    ASKED = 1
    BACKGROUND = 2


class TooManyError(Exception):
    """So many wait already that it is better to ask later."""


@dataclass(eq=False)
class Ticket:
    """Somebody who computes, or waits to; ``fits`` says whether there is memory to begin beside others."""

    urgency: Urgency
    fits: Callable[[], bool]
    number: int = 0
    begun: bool = False
    since: float = 0.0
    used: float = 0.0
    _drawn: list[torch.Tensor] | None = None
    _held: ExitStack = field(default_factory=ExitStack)

    def take(self) -> None:
        """Begins or goes on, with the process as it left it."""
        self.begun, self.since = True, time.monotonic()
        self._held.enter_context(self._surroundings())

    def leave(self) -> None:
        """Stops for now, or for good, with the process as it was found."""
        self.used += time.monotonic() - self.since
        self._held.close()

    @contextmanager
    def _surroundings(self) -> Iterator[None]:
        outside = _generators()
        if self._drawn is not None:
            _put_back(self._drawn)
        try:
            with warnings.catch_warnings():
                if self.urgency != Urgency.REQUEST:
                    # What a result says of itself is in its notes.
                    warnings.simplefilter("ignore")
                yield
        finally:
            self._drawn = _generators()
            _put_back(outside)


def _generators() -> list[torch.Tensor]:
    """The states of PyTorch's global generators."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [])]


def _put_back(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    for device, state in enumerate(states[1:]):
        torch.cuda.set_rng_state(state, device)


@dataclass
class Turns:
    """One computation at a time.

    A work that takes long gives way between its passes: to one that is more urgent at once, to its equals when it has
    had ``share`` seconds. It takes what it changes of the process (generators, filters of warnings) along, so that
    works may end in any order. Beside one that has begun, another of the same urgency begins only where it fits.
    """

    most: int = 32
    share: float = 0.5
    _free: threading.Condition = field(default_factory=threading.Condition)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _waiting: list[Ticket] = field(default_factory=list)
    _now: Ticket | None = None
    _closed: bool = False

    @contextmanager
    def turn(self, urgency: Urgency, fits: Callable[[], bool] = lambda: True) -> Iterator[Ticket]:
        """Within, nobody else computes, but for whom :meth:`give_way` lets in.

        Raises TooManyError where ``most`` wait and this is a request, or at the end.
        """
        with self._free:
            if urgency == Urgency.REQUEST and sum(not other.begun for other in self._waiting) >= self.most:
                raise TooManyError
            ticket = Ticket(urgency, fits)
            self._wait(ticket)
            if self._now is not ticket:
                raise TooManyError
        try:
            yield ticket
        finally:
            with self._free:
                self._release(ticket)
                self._next()

    def give_way(self, ticket: Ticket) -> None:
        """Lets others compute first, where it is their turn; back when it is that of the holder of this ticket."""
        with self._free:
            others = {other.urgency for other in self._able()}
            over = ticket.used + time.monotonic() - ticket.since >= self.share
            if min(others, default=ticket.urgency) < ticket.urgency or (over and ticket.urgency in others):
                self._release(ticket)
                self._wait(ticket, behind=over)

    def close(self) -> None:
        """Nobody waits any more."""
        with self._free:
            self._closed = True
            self._free.notify_all()

    def _wait(self, ticket: Ticket, *, behind: bool = True) -> None:
        """Until it is its turn, ``behind`` its equals or where it was, or the end."""
        if behind:
            ticket.number, ticket.used = next(self._numbers), 0.0
        self._waiting.append(ticket)
        self._next()
        self._free.wait_for(lambda: self._now is ticket or self._closed)
        if self._now is ticket:
            try:
                ticket.take()
            except BaseException:
                self._release(ticket)
                self._next()
                raise
        else:
            self._waiting.remove(ticket)

    def _release(self, ticket: Ticket) -> None:
        try:
            ticket.leave()
        finally:
            if self._now is ticket:
                self._now = None

    def _able(self) -> list[Ticket]:
        """Who could compute now.

        Beside an equal that has begun only the next in line begins, and where there is memory for both: nobody who
        needs less overtakes one that waits for memory, else it would wait for ever.
        """
        begun = {other.urgency for other in (*self._waiting, self._now) if other is not None and other.begun}
        able = [one for one in self._waiting if one.begun or one.urgency not in begun]
        for urgency in begun:
            fresh = [one for one in self._waiting if not one.begun and one.urgency == urgency]
            first = min(fresh, key=lambda one: one.number, default=None)
            able += [first] if first is not None and first.fits() else []
        return able

    def _next(self) -> None:
        if self._now is None:
            self._now = min(self._able(), key=lambda t: (t.urgency, t.number), default=None)
            if self._now is not None:
                self._waiting.remove(self._now)
        self._free.notify_all()
