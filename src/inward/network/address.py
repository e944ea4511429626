"""Addresses: one grammar in Python, on the command line, in URLs and in manifests.

``POINT``, ``POINT/UNIT`` or ``POINT/UNIT@Y,X``; and ``class:281``, ``class:tabby``, ``class@1:281``
for an output of the network (``class`` alone: all of its logits).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from inward.errors import CallError

_PLACE = re.compile(r"^(?P<point>[^@]+?)(?:/(?P<unit>\d+))?(?:@(?P<y>\d+),(?P<x>\d+))?$")
_CLASS = re.compile(r"^class(?:@(?P<output>\d+))?(?::(?P<label>.+))?$", re.DOTALL)


@dataclass(frozen=True)
class Address:
    """A parsed address. ``output`` is set for ``class`` addresses only; ``label`` until it is looked up."""

    point: str
    unit: int | None = None
    place: tuple[int, int] | None = None
    output: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.output is not None:
            name = self.label if self.unit is None else str(self.unit)
            head = "class" if self.output == 0 else f"class@{self.output}"
            return head if name is None else f"{head}:{name}"
        unit = "" if self.unit is None else f"/{self.unit}"
        place = "" if self.place is None else f"@{self.place[0]},{self.place[1]}"
        return f"{self.point}{unit}{place}"


@lru_cache(maxsize=4096)
def parse(text: str) -> Address:
    """Reads an address. Raises CallError naming the grammar."""
    as_class = _CLASS.match(text)
    if as_class:
        output, label = int(as_class["output"] or 0), as_class["label"]
        if label is not None and label.strip().isdecimal():
            return Address("class", unit=int(label), output=output)
        return Address("class", output=output, label=label)
    match = _PLACE.match(text)
    if match is None or (match["y"] is not None and match["unit"] is None) or re.search(r"/-?\d*$", match["point"]):
        raise CallError(
            f"'{text}' is not an address; write POINT, POINT/UNIT, POINT/UNIT@Y,X or class:NAME, "
            "for example mixed4a/97, layer3.1.conv2/17@6,6 or class:281"
        )
    place = None if match["y"] is None else (int(match["y"]), int(match["x"]))
    return Address(match["point"], None if match["unit"] is None else int(match["unit"]), place)


def nearest(name: str, names: Iterable[str]) -> str:
    """A remedy: the names most like the one asked for."""
    known = list(names)
    inside = [n for n in known if n.startswith((name + ".", name + ":"))]
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
    found = list(dict.fromkeys([*close, *inside]))[:5] or known[:5]
    return ", ".join(found)


def class_index(label: str, labels: Sequence[str] | None) -> int:
    """The index of a class by its name or one of its comma-separated synonyms, whatever the case.

    Raises CallError where the name is unknown or stands for several classes.
    """
    if not labels:
        raise CallError(f"this network has no labels to look up '{label}' in; give labels= or a number, class:281")
    wanted = _plain(label)
    exact = [i for i, names in enumerate(labels) if wanted == _plain(names)]
    found = exact or [i for i, names in enumerate(labels) if wanted in [_plain(n) for n in names.split(",")]]
    if len(found) == 1:
        return found[0]
    if found:
        choices = " or ".join(f"class:{i} ({labels[i]})" for i in found)
        raise CallError(f"'{label}' names several classes; write {choices}")
    names = [_plain(n) for line in labels for n in line.split(",")]
    raise CallError(f"no class is called '{label}'; the nearest names: {nearest(wanted, names)}")


def _plain(label: str) -> str:
    return " ".join(label.replace("_", " ").lower().split())
