"""Targets that leave out ``class:``: what was meant is said."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from inward.errors import CallError
from inward.network.network import Network
from inward.types import Size


@contextlib.contextmanager
def classes_suggested(net: Network, words: Iterable[str], size: Size) -> Iterator[None]:
    """Where targets are refused and one is the name or the number of a class, the error says how that is written."""
    try:
        yield
    except CallError as error:
        for word in words:
            if _is_class(net, word, size):
                raise CallError(f"'{word}' is a class of {net.name}; write class:{word}") from error
        raise


def _is_class(net: Network, word: str, size: Size) -> bool:
    try:
        return not word.startswith("class") and net.resolve(f"class:{word}", size).unit is not None
    except CallError:
        return False
