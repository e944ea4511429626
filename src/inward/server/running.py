"""Running the application: uvicorn, bounded."""

from __future__ import annotations

import uvicorn

from inward.server.app import create_app
from inward.server.connections import prompt
from inward.server.settings import Settings

# Seconds: for a connection that is idle, and for open streams at the end.
_IDLE, _ENDING = 5, 2


def server_of(settings: Settings) -> uvicorn.Server:
    """A server that is ready to run: its networks are looked at once, so that the first page is fast."""
    app = create_app(settings)
    for look in app.state.server.looks:
        _ = look.about, look.architecture
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=_IDLE,
        timeout_graceful_shutdown=_ENDING,
        h11_max_incomplete_event_size=32 * 1024,
        ws="none",
        http=prompt(),
    )
    return uvicorn.Server(config)
