"""Connections: a request has to come whole and at once, and whoever keeps one waiting makes room for others."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0
"""Seconds until the head of a request is there."""
WAITING = 128
"""Connections at once whose request is not there yet; beyond it the oldest is closed."""


class Prompt(H11Protocol):
    """A connection of uvicorn, which by itself waits forever for the head of a request, and beyond a number refuses."""

    waiting: ClassVar[dict[Prompt, asyncio.TimerHandle]]

    def connection_made(self, transport: Any) -> None:
        """Begins to wait."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._come()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Ends to wait where a request has begun to be answered."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._come()

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        if not self.transport.is_closing():
            self._wait()
        super().on_response_complete()

    def _wait(self) -> None:
        self._come()
        self.waiting[self] = self.loop.call_later(HEAD, self.transport.abort)
        if len(self.waiting) > WAITING:
            next(iter(self.waiting)).transport.abort()

    def _come(self) -> None:
        timer = self.waiting.pop(self, None)
        if timer is not None:
            timer.cancel()


def prompt() -> type[Prompt]:
    """Connections of one server: those of another live in another thread."""
    return type("Prompt", (Prompt,), {"waiting": {}})
