"""The words of a command: which network is asked, and about what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from inward.decoding import SUFFIXES
from inward.errors import CallError
from inward.network.load import DEFAULT, TWINS, is_network

WHAT = {
    "images": "one or more pictures, or a folder of them",
    "addresses": "one or more units, such as stage3/5, stage3/0:64 or stage3/*",
}


def model_and_things(first: str | None, others: Sequence[str], takes: str, nothing: str) -> tuple[str, tuple[str, ...]]:
    """The network and what it is asked about; where the first word is no network, the default one is asked.

    Args:
        first, others: the words.
        takes: images or addresses.
        nothing: how an error begins where there is nothing to ask about.

    Raises CallError for nothing to ask about.
    """
    if first in TWINS:
        raise CallError(f"the network is called inward/{first}; write that")
    is_thing = first is not None and (is_file(first) if takes == "images" else bool(first) and not is_network(first))
    if first is None or not (is_thing or others):
        known = first is None or is_network(first)
        told = nothing if known else f"'{first}' is no network, no picture and no folder, and {nothing}"
        raise CallError(f"{told}; name {WHAT[takes]}")
    if not is_thing:
        return first, tuple(others)
    print(f"inward: no network is named, so {DEFAULT} is asked, which knows ten classes only", file=sys.stderr)
    return DEFAULT, (first, *others)


def is_file(word: str) -> bool:
    """Whether a word names a picture or a folder of pictures, and no network; also one that is not there."""
    path = Path(word)
    return bool(word) and not is_network(word) and (path.exists() or path.suffix.lower() in SUFFIXES)
