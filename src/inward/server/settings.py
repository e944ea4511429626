"""What a server is made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inward.network.network import Network

MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """What a server shows, where its results go, and its bounds.

    Attributes:
        nets: one network, or two to compare.
        out: the folder of results and of pictures that were given.
        folder: pictures that are shown beside units; None for none.
        seed: of every method.
        token: what a browser has to bring; it is in the link that is printed.
        hosts: names and addresses, with ports, by which the server may be called.
        upload_bytes: of a picture.
        upload_pixels: of a picture.
        uploads: pictures that are kept, at most.
        waiting: jobs that wait, at most.
        at_once: jobs that compute in turn, at most; fewer where there is no memory for them.
        slow: seconds in which a request has to be there whole.
        framed: whether the page is shown inside of another, a notebook's, in which browsers keep no cookies: the token
            is a part of every address then.
    """

    nets: Sequence[Network]
    out: Path
    token: str
    hosts: frozenset[str]
    folder: Path | None = None
    seed: int = 0
    upload_bytes: int = 25 * MIB
    upload_pixels: int = 50_000_000
    uploads: int = 500
    waiting: int = 200
    at_once: int = 8
    slow: float = 60.0
    framed: bool = False
