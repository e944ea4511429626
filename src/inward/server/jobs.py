"""Long work: jobs that wait, run, can be stopped, and tell how far they are."""

from __future__ import annotations

import asyncio
import secrets
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from inward.errors import InwardError
from inward.methods.method import Method
from inward.server.turns import Ticket, TooManyError, Turns, Urgency

State: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_KEPT = 300
"""Jobs at their end that are still listed."""


class Cancelled(BaseException):
    """Stops a method from inside its loop; no ``except Exception`` holds it up."""


class TooManyJobsError(InwardError):
    """As many jobs wait as may."""

    status = 429


@dataclass(frozen=True)
class Ask:
    """What a job computes: a method on one network, of a picture or of units; options that were checked.

    ``told`` are the options as the request had them.
    """

    row: Method
    network: int
    image: str | None
    addresses: tuple[str, ...]
    options: Mapping[str, Any]
    told: Mapping[str, Any]
    video: bool = False
    background: bool = False

    @property
    def urgency(self) -> Urgency:
        """When it is its turn."""
        return Urgency.BACKGROUND if self.background else Urgency.ASKED

    def same(self, other: Ask) -> bool:
        """Whether both give the same results."""
        mine, theirs = ((a.row.name, a.network, a.image, a.addresses, a.options, a.video) for a in (self, other))
        return mine == theirs


@dataclass(eq=False)
class Job:
    """One of them, with what it has found so far: results by address, or under no name for a picture."""

    ask: Ask
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    state: State = "waiting"
    done: int = 0
    total: int | None = None
    error: str | None = None
    results: dict[str, str] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    taken: bool = False
    stopped: bool = False

    def told(self) -> dict[str, Any]:
        """As a page reads it."""
        ask = self.ask
        return {
            "id": self.id,
            "method": ask.row.name,
            "network": ask.network,
            "image": ask.image,
            "addresses": list(ask.addresses),
            "options": dict(ask.told),
            "video": ask.video,
            "background": ask.background,
            "state": self.state,
            "done": self.done,
            "total": self.total,
            "error": self.error,
            "results": dict(self.results),
            "created": self.created,
        }


class Progress:
    """What a running job calls between its passes: tells, gives way, and ends where it was stopped."""

    def __init__(self, jobs: Jobs, job: Job, ticket: Ticket) -> None:
        self._jobs, self._job, self._ticket = jobs, job, ticket

    def __call__(self, done: int, total: int) -> None:
        """Raises Cancelled for a job that was stopped."""
        if not self._job.stopped:
            self._jobs.turns.give_way(self._ticket)
        if self._job.stopped:
            raise Cancelled
        self._job.done, self._job.total = done, total
        self._jobs.tell(self._job)

    def found(self, address: str, result: str) -> None:
        """A result is there."""
        self._job.results[address] = result
        self._jobs.tell(self._job)


Work: TypeAlias = Callable[[Ask, Progress], None]


class Jobs:
    """All jobs of a server.

    ``at_once`` of those that were asked for compute in turn where ``fits`` says of each that there is memory for it
    beside the others, and one of the background.
    """

    def __init__(self, work: Work, turns: Turns, most: int, *, at_once: int, fits: Callable[[Ask], bool]) -> None:
        self.turns = turns
        self._work, self._most, self._fits = work, most, fits
        self._jobs: dict[str, Job] = {}
        self._change = threading.Condition()
        self._listeners: set[Listener] = set()
        self._closed = False
        urgencies = [Urgency.ASKED] * at_once + [Urgency.BACKGROUND]
        self._threads = [threading.Thread(target=self._run, args=(u,), daemon=True) for u in urgencies]
        for thread in self._threads:
            thread.start()

    def submit(self, ask: Ask, known: Mapping[str, str]) -> Job:
        """A job that computes what is asked, or one that does so already; ``known`` are results that are there.

        Raises TooManyJobsError where enough wait.
        """
        with self._change:
            wanted = len(known) >= max(1, len(ask.addresses))
            same = [job for job in self._jobs.values() if job.state not in ENDED and job.ask.same(ask)]
            if same and not wanted:
                return same[0]
            if not wanted and sum(job.state == "waiting" for job in self._jobs.values()) >= self._most:
                raise TooManyJobsError(f"{self._most} jobs are waiting; wait for some of them, or cancel some")
            job = Job(ask, results=dict(known), state="done" if wanted else "waiting")
            self._jobs[job.id] = job
            self._forget()
            self._change.notify_all()
        self.tell(job)
        return job

    def all(self) -> list[Job]:
        """The newest first."""
        with self._change:
            return list(reversed(self._jobs.values()))

    def get(self, name: str) -> Job | None:
        """A job by its id."""
        with self._change:
            return self._jobs.get(name)

    def cancel(self, job: Job) -> None:
        """Stops a job: at once where it waits, else after the pass that it is in."""
        with self._change:
            job.stopped = True
            if job.state == "waiting":
                job.state = "cancelled"
        self.tell(job)

    def close(self) -> None:
        """Stops everything, and waits a moment for it."""
        with self._change:
            self._closed = True
            for job in self._jobs.values():
                job.stopped = True
            self._change.notify_all()
            listeners = list(self._listeners)
        self.turns.close()
        for listener in listeners:
            listener.end()
        for thread in self._threads:
            thread.join(timeout=10)

    def tell(self, job: Job) -> None:
        """Passes the state of a job on to whoever listens."""
        with self._change:
            for listener in self._listeners:
                listener.put(job)

    def listen(self) -> Listener:
        """A listener to all jobs, that hears first of those which are not at their end; close it."""
        listener = Listener(self, asyncio.get_running_loop())
        with self._change:
            if self._closed:
                listener.end()
            self._listeners.add(listener)
            for job in self._jobs.values():
                if job.state not in ENDED:
                    listener.put(job)
        return listener

    def leave(self, listener: Listener) -> None:
        """Nothing more is told to it."""
        with self._change:
            self._listeners.discard(listener)

    def _forget(self) -> None:
        ended = [job.id for job in self._jobs.values() if job.state in ENDED]
        for name in ended[: max(0, len(ended) - _KEPT)]:
            del self._jobs[name]

    def _next(self, urgency: Urgency) -> Job | None:
        with self._change:
            while not self._closed:
                for job in self._jobs.values():
                    if job.state == "waiting" and not job.taken and job.ask.urgency == urgency:
                        job.taken = True
                        return job
                self._change.wait()
        return None

    def _run(self, urgency: Urgency) -> None:
        while (job := self._next(urgency)) is not None:
            state, error = self._end(job, urgency)
            with self._change:
                job.state, job.error = state, error
                if state == "done":
                    job.total = job.done = max(1, job.total or 1)
            self.tell(job)

    def _begins(self, job: Job) -> bool:
        """Whether it may begin beside others; of one that was stopped only its end is left."""
        try:
            return job.stopped or self._fits(job.ask)
        except Exception:  # what cannot be told waits until it is alone
            return False

    def _begin(self, job: Job) -> None:
        """It computes from now on. Raises Cancelled for a job that was stopped while it waited."""
        with self._change:
            if job.stopped:
                raise Cancelled
            job.state = "running"
        self.tell(job)

    def _end(self, job: Job, urgency: Urgency) -> tuple[State, str | None]:
        """Does the work of a job, and says how it ended."""
        try:
            with self.turns.turn(urgency, lambda: self._begins(job)) as ticket:
                self._begin(job)
                self._work(job.ask, Progress(self, job, ticket))
        except (Cancelled, TooManyError):
            return "cancelled", None
        except InwardError as error:
            return "failed", " ".join(str(error).split())
        except MemoryError:
            return "failed", "there is not enough memory; ask for a smaller picture, or for fewer at once"
        except Exception as error:  # a network can raise anything at all
            traceback.print_exc(file=sys.stderr)
            told = " ".join(str(error).split())[:200]
            return "failed", f"{job.ask.row.name} failed: {type(error).__name__}{': ' if told else ''}{told}"
        return "done", None


class Listener:
    """The jobs that changed since a client last took them: the newest state of each, however slow it is."""

    def __init__(self, jobs: Jobs, loop: asyncio.AbstractEventLoop) -> None:
        self._jobs, self._loop = jobs, loop
        self._changed: dict[str, Job] = {}
        self._ended = False
        self._wake = asyncio.Event()

    def put(self, job: Job) -> None:
        """From any thread, which holds the lock of the jobs."""
        self._changed[job.id] = job
        self._notify()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    async def changes(self, pause: float) -> AsyncIterator[list[dict[str, Any]]]:
        """What changed, at most once a ``pause`` in seconds; an empty list from time to time where nothing did."""
        try:
            while not self._ended:
                try:
                    await asyncio.wait_for(self._wake.wait(), timeout=15)
                except TimeoutError:
                    yield []
                    continue
                self._wake.clear()
                yield self._take()
                await asyncio.sleep(pause)
        finally:
            self._jobs.leave(self)

    def _take(self) -> list[dict[str, Any]]:
        with self._jobs._change:
            taken, self._changed = self._changed, {}
            return [job.told() for job in taken.values()]
