"""What ``inward serve`` does: a page of one or two networks, on this machine."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from inward.errors import CallError, InwardError
from inward.network.load import TWINS
from inward.network.network import Network
from inward.options import Shared, as_whole
from inward.server.settings import Settings

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 8711


def serve(
    model: str | None = None,
    /,
    *,
    compare: str | None = None,
    compare_weights: str | None = None,
    images: Path | None = None,
    out: Path = Path("inward-serve"),
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(converter=as_whole)] = PORT,
    anywhere: Annotated[bool, Parameter(negative=())] = False,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
    shared: Shared = Shared(),
) -> int:
    """A page to point at: the architecture of a network, and what its modules and channels look for.

    It runs on this machine alone, prints its link and opens the browser. Results go into a folder, and what is there is
    not computed again.

    Args:
        model: as for every command; without one, the twins that come with inward, side by side.
        compare: a second network, shown beside the first.
        compare_weights: the weights of the second network.
        images: a folder of pictures to choose from.
        out: the folder of results and of pictures that are given to the page.
        host: the address to listen at.
        port: the port to listen at; 0: one that is free.
        anywhere: allow an address that others can reach. Whoever has the link can use this machine's processor then,
            and the link goes over the network unencrypted.
        browser: open the page in the browser.
        shared: how the network is made.
    """
    if host not in _LOOPBACK and not anywhere:
        raise CallError(f"others may reach {host}; add --anywhere if that is meant")
    if images is not None and not images.is_dir():
        raise CallError(f"there is no folder {images}; name one that holds pictures")
    if model is None and compare is not None:
        raise CallError(f"name the network that {compare} is compared with: inward serve MODEL --compare {compare}")
    # A port is found before networks are loaded, which takes seconds.
    listening = _listening(host, port)
    with contextlib.closing(listening):
        nets = _networks(model, compare, compare_weights, shared)
        return _run(nets, listening, host, out=out, folder=images, seed=shared.seed, browser=browser)


def _networks(model: str | None, compare: str | None, compare_weights: str | None, shared: Shared) -> list[Network]:
    if model is None:
        return [shared.network(f"inward/{name}") for name in TWINS]
    first = shared.network(model)
    if compare is None:
        return [first]
    try:
        return [first, replace(shared, weights=compare_weights).network(compare)]
    except InwardError as error:
        # What helps the second network is an option of its own.
        raise type(error)(str(error).replace("--weights", "--compare-weights")) from error


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InwardError where the port is in use, CallError where there is no such address."""
    if not 0 <= port < 2**16:
        raise CallError(f"a port is a number from 0 to {2**16 - 1}, not {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except socket.gaierror as error:
        found.close()
        raise CallError(f"there is no address {host}; give --host 127.0.0.1") from error
    except OSError as error:
        found.close()
        raise InwardError(
            f"port {port} of {host} cannot be used ({error.strerror}); give another --port, or 0 for a free one"
        ) from error
    return found


def _run(
    nets: Sequence[Network],
    listening: socket.socket,
    host: str,
    *,
    out: Path,
    folder: Path | None,
    seed: int,
    browser: bool,
) -> int:
    from inward.server.running import server_of

    port = listening.getsockname()[1]
    token = secrets.token_urlsafe(24)
    settings = Settings(nets, out.absolute(), token, hosts_of(host, port), folder=folder, seed=seed)
    server = server_of(settings)
    address = link(host, port, token)
    print(address, flush=True)
    print("inward: press Ctrl-C to stop; results are kept", file=sys.stderr)
    if browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    with _calm():
        server.run(sockets=[listening])
    return 0


def hosts_of(host: str, port: int) -> frozenset[str]:
    """The names by which a server at this address may be called."""
    names = {f"[{host}]" if ":" in host else host}
    names |= {"127.0.0.1", "localhost"} if host in _LOOPBACK else set()
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only with --anywhere
        names |= {"127.0.0.1", "localhost", socket.gethostname(), *_own_addresses()}
    return frozenset(f"{name}:{port}" for name in names) | (frozenset(names) if port == 80 else frozenset())


def _own_addresses() -> set[str]:
    with contextlib.suppress(OSError):
        return {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return set()


def link(host: str, port: int, token: str) -> str:
    """What is printed, and opened."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}/?token={token}"


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Ctrl-C ends a server; that is no failure."""
    try:
        yield
    except KeyboardInterrupt:
        print("inward: stopped; results are kept", file=sys.stderr)
