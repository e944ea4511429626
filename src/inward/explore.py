"""The page in a cell of a notebook, from a server in the same process."""

from __future__ import annotations

import atexit
import html
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inward.errors import CallError, InwardError
from inward.network.network import Network

if TYPE_CHECKING:
    import uvicorn

# Seconds that a server may take to start, and to end.
_STARTING, _ENDING = 60, 10


@dataclass(frozen=True, eq=False)
class Explorer:
    """A page that runs; shown as the value of a cell.

    Attributes:
        link: opens it in a browser of this machine. Whoever has the link can use the page.
        height: of the cell, in pixels.
    """

    link: str
    height: int
    _server: uvicorn.Server
    _thread: threading.Thread

    def close(self) -> None:
        """Ends the server; the page in the cell no longer answers."""
        self._server.should_exit = True
        self._thread.join(_ENDING)
        atexit.unregister(self.close)

    def _repr_html_(self) -> str:
        if "google.colab" in sys.modules:  # pragma: no cover - only there
            return self._in_colab()
        source = html.escape(self.link, quote=True)
        return (
            f'<iframe src="{source}" title="inward" width="100%" height="{self.height}" '
            'style="border:1px solid #8884;border-radius:8px" allow="fullscreen"></iframe>'
        )

    def _in_colab(self) -> str:  # pragma: no cover - only there
        from urllib.parse import urlsplit

        from google.colab import output  # type: ignore[import-not-found]

        parts = urlsplit(self.link)
        output.serve_kernel_port_as_iframe(parts.port, path=parts.path, height=str(self.height))
        return ""


def explore(
    net: Network,
    compare: Network | None = None,
    *,
    images: str | Path | None = None,
    out: str | Path = "inward-serve",
    height: int = 760,
    seed: int = 0,
) -> Explorer:
    """The page of a network in a cell of a notebook: ``inward serve`` from this process.

    Works in Jupyter, VS Code and Colab. It listens at this machine alone, at a free port.

    Args:
        net: the network; whatever was made in Python too.
        compare: a second one, shown beside it.
        images: a folder of pictures to choose from.
        out: the folder of results and of pictures that are given to the page.
        height: of the cell, in pixels.
        seed: of every method.

    Raises:
        CallError: for a height of no pixel, and a folder that there is not.
        InwardError: where ``out`` cannot be written, or the server does not start.
    """
    if height < 1:
        raise CallError(f"a cell is 1 pixel high or more, not {height}")
    folder = None if images is None else Path(images)
    if folder is not None and not folder.is_dir():
        raise CallError(f"there is no folder {folder}; name one that holds pictures")
    from secrets import token_urlsafe

    from inward.server.running import server_of
    from inward.server.settings import Settings

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port, token = listening.getsockname()[1], token_urlsafe(24)
    hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
    nets = [net] if compare is None else [net, compare]
    try:
        settings = Settings(nets, Path(out).absolute(), token, hosts, folder=folder, seed=seed, framed=True)
        server = server_of(settings)
    except BaseException:
        listening.close()
        raise
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + _STARTING
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise InwardError("the server of the page did not start; what it printed says why")
        time.sleep(0.01)
    explorer = Explorer(f"http://127.0.0.1:{port}/t/{token}/", height, server, thread)
    atexit.register(explorer.close)
    return explorer
