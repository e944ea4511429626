"""What a running server holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from inward.errors import CallError
from inward.server.jobs import Jobs
from inward.server.library import Library, Picture
from inward.server.looks import Look, looks
from inward.server.settings import Settings
from inward.server.store import Store
from inward.server.studying import Studies
from inward.server.turns import Turns, Urgency
from inward.server.work import Work


class MissingError(CallError):
    """There is no such thing."""

    status = 404


class Server:
    """The networks, the pictures, the results and the jobs.

    Raises InwardError where its folder cannot be written.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.library = Library(settings)
        self.library.fill()
        self.looks: Sequence[Look] = looks(settings.nets)
        self.store = Store(settings.out, settings.seed)
        self.turns = Turns()
        # Sheets of thousands of maps are drawn one after the other: each takes memory.
        self.drawing = threading.Lock()
        self.studies = Studies(settings.nets, settings.folder, settings.out)
        self.work = Work(settings.nets, self.library, self.store, self.studies)
        self.jobs = Jobs(self.work, self.turns, settings.waiting, at_once=settings.at_once, fits=self.work.fits)

    def look(self, number: int) -> Look:
        """A network by its number. Raises MissingError where there is none."""
        if number >= len(self.looks):
            raise MissingError("there is no second network; start inward serve with --compare")
        return self.looks[number]

    def picture(self, name: str) -> Picture:
        """A picture by its id. Raises MissingError where there is none."""
        try:
            return self.library.get(name)
        except CallError as error:
            raise MissingError(str(error)) from error

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Within, a request computes: others wait, and running jobs between two passes."""
        with self.turns.turn(Urgency.REQUEST):
            yield

    def close(self) -> None:
        """Stops what runs."""
        self.jobs.close()
