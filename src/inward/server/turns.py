"""Who computes: one at a time, the most urgent first, also between two passes of a longer work."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum


class Urgency(IntEnum):
    """A request waits for an answer now; a job was asked for; background work fills a grid."""

    REQUEST = 0
    ASKED = 1
    BACKGROUND = 2


class TooManyError(Exception):
    """So many wait already that it is better to ask later."""


@dataclass(eq=False)
class Ticket:
    """Somebody who computes, or waits to."""

    urgency: Urgency
    number: int


@dataclass
class Turns:
    """One computation at a time.

    A work that takes long gives way between its passes to one that is more urgent, and goes on when that has ended:
    so works are nested, and what each changes of the process (generators, filters of warnings) is put back in order.
    At most one of every urgency has begun; that is how many hold memory.
    """

    most: int = 32
    _free: threading.Condition = field(default_factory=threading.Condition)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _waiting: list[Ticket] = field(default_factory=list)
    _paused: list[Ticket] = field(default_factory=list)
    _now: Ticket | None = None
    _closed: bool = False

    @contextmanager
    def turn(self, urgency: Urgency) -> Iterator[Ticket]:
        """Within, nobody else computes, but for whom :meth:`give_way` lets in.

        Raises TooManyError where ``most`` requests wait, or at the end.
        """
        with self._free:
            if urgency == Urgency.REQUEST and len(self._waiting) >= self.most:
                raise TooManyError
            ticket = Ticket(urgency, next(self._numbers))
            self._waiting.append(ticket)
            self._next()
            self._free.wait_for(lambda: self._now is ticket or self._closed)
            if self._now is not ticket:
                raise TooManyError
        try:
            yield ticket
        finally:
            with self._free:
                self._now = None
                self._next()

    def give_way(self, ticket: Ticket) -> None:
        """Lets those compute first who are more urgent than the holder of this ticket; back when it is its turn."""
        with self._free:
            if not any(other.urgency < ticket.urgency for other in self._waiting):
                return
            self._paused.append(ticket)
            self._now = None
            self._next()
            self._free.wait_for(lambda: self._now is ticket or self._closed)

    def close(self) -> None:
        """Nobody waits any more."""
        with self._free:
            self._closed = True
            self._free.notify_all()

    def _next(self) -> None:
        if self._now is not None:
            return
        best = min(self._waiting, key=lambda t: (t.urgency, t.number), default=None)
        if best is not None and (not self._paused or best.urgency < self._paused[-1].urgency):
            self._waiting.remove(best)
            self._now = best
        elif self._paused:
            self._now = self._paused.pop()
        self._free.notify_all()
