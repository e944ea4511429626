"""A real server in a thread, and a client that has its link."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inward import Network
from inward.serve_command import hosts_of
from inward.server.running import server_of
from inward.server.settings import Settings

TOKEN = "a-token-that-only-the-tests-know"  # noqa: S105


@dataclass(frozen=True)
class Answer:
    """Of a request."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Asks as a browser does that has the cookie; other headers in place of its own."""

    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Any = None,
        headers: Mapping[str, str | None] = {},
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {"Cookie": f'inward-{self.port}="{TOKEN}"'} | dict(headers)
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {"Content-Type": "application/json"} | sent
        try:
            connection.request(method, path, body, {k: v for k, v in sent.items() if v is not None})
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        found = self.ask("GET", f"/api/{path}")
        assert found.status == 200, (path, found.body)
        return found.json

    def submit(self, method: str, **more: Any) -> Any:
        found = self.ask("POST", "/api/jobs", {"method": method, **more})
        assert found.status in (200, 202), found.body
        return found.json

    def until(self, job: str, *states: str, seconds: float = 120) -> Any:
        """The job, once it is in one of the states."""
        end = time.monotonic() + seconds
        while (told := self.get(f"jobs/{job}"))["state"] not in states:
            assert time.monotonic() < end, told
            time.sleep(0.02)
        return told

    def done(self, method: str, **more: Any) -> Any:
        """A job at its end, which must be good."""
        job = self.until(self.submit(method, **more)["id"], "done", "failed", "cancelled")
        assert job["state"] == "done", job
        return job


@contextmanager
def serving(nets: Sequence[Network], out: Path, **more: Any) -> Iterator[Client]:
    """A server at a free port of this machine."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        settings = replace(Settings(nets, out, TOKEN, hosts_of("127.0.0.1", port)), **more)
        server = server_of(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield Client(port)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
