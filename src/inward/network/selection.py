"""Selections: many units in one word. ``mixed4a/*`` is all of them, ``mixed4a/0:64`` a range, end left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from inward.errors import CallError
from inward.network.address import parse
from inward.network.network import Network
from inward.types import Size

_RANGE = r"(?:(?P<all>\*)|(?P<first>\d*):(?P<end>\d*)(?::(?P<step>\d+))?)"
# A colon stands before classes alone: relu:2 is the second call of a module.
_MANY = re.compile(rf"^(?:(?P<point>.+)/|(?P<output>class(?:@\d+)?):){_RANGE}$")


def select(net: Network, words: str | Sequence[str], size: Size | None = None) -> list[str]:
    """The addresses that are meant, checked and in order; one that is named twice is there once.

    A word is an address, ``POINT/*``, ``POINT/FIRST:END`` or ``POINT/FIRST:END:STEP`` (either end
    may be left out); ``class:*`` and ``class:0:10`` select classes.

    Raises CallError for a word that names nothing, and where nothing at all is named.
    """
    found = []
    for word in [words] if isinstance(words, str) else words:
        many = _MANY.match(word)
        found += [str(net.resolve(word, size))] if many is None else _many(net, word, many, size)
    if not found:
        raise CallError("no unit is named; name at least one, for example mixed4a/97, mixed4a/0:64 or mixed4a/*")
    return list(dict.fromkeys(found))


def _many(net: Network, word: str, many: re.Match[str], size: Size | None) -> list[str]:
    name = many["point"] or many["output"]
    parsed = parse(name)
    if parsed.unit is not None or parsed.label is not None:
        raise CallError(f"'{word}' names units of a unit; write POINT/* or POINT/FIRST:END")
    point = net.resolve(name, size)
    joint = "/" if point.output is None else ":"
    if point.output is None:
        units = net.graph(size or net.size).points[point.point].units
        if units is None:
            raise CallError(f"'{point}' has no axis that is known to hold units, so '{word}' names none")
    else:
        units = net.classes(point.output, size)
    first = int(many["first"] or 0)
    end = int(many["end"]) if many["end"] else units
    step = 1 if many["step"] is None else int(many["step"])
    if max(first, end - 1) >= units:
        raise CallError(f"there is no unit {max(first, end - 1)} in {point}; it has {units}, 0 to {units - 1}")
    if step == 0:
        raise CallError(f"the step of '{word}' is 0, and with it no unit follows another; give 1 or more")
    chosen = range(first, end, step)
    if not chosen:
        raise CallError(f"'{word}' is empty; its end is left out and must be above its start, as in {point}{joint}0:64")
    return [f"{point}{joint}{unit}" for unit in chosen]
