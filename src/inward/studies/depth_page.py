"""What a study of depth leaves: figures, a table, a chart for each initialization."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from inward import draw
from inward.draw.saving import write_whole
from inward.errors import InwardError
from inward.studies.depth import DEAD, EXPLODED, Passage
from inward.version import VERSION

REPORT, TABLE = "depth.json", "depth.md"
# The chart goes on a little beyond where a signal has died or exploded.
_BEYOND = 10.0


def write_depth(found: Sequence[Passage], folder: Path, *, width: int, seeds: int) -> Path:
    """Writes ``depth.json``, ``depth.md`` and a ``depth-INIT.png`` for each initialization; gives the table's path."""
    inits = list(dict.fromkeys(one.init for one in found))
    told = {"width": width, "seeds": seeds, "versions": {"inward": VERSION}, "passages": [p.report() for p in found]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InwardError(f"{folder} cannot be made ({error.strerror}); give another --out") from error
    write_whole((json.dumps(told, indent=1) + "\n").encode(), folder / REPORT)
    lines = [table(found)]
    for init in inits:
        draw.save_png(chart([one for one in found if one.init == init], init, width), folder / f"depth-{init}.png")
        lines += ["", f"![signals by depth, {init}](depth-{init}.png)"]
    write_whole(("\n".join(lines) + "\n").encode(), folder / TABLE)
    return folder / TABLE


def _told(one: Passage, way: str) -> str:
    fate, passed = getattr(one, f"fate_{way}"), getattr(one, f"passed_{way}")
    if fate == "lives":
        return f"lives beyond {passed}"
    following = next(d for d in one.depths if d > passed)
    return f"{fate} within {following}" if passed == 0 else f"{fate} between {passed} and {following}"


def read_depth(path: Path) -> list[Passage]:
    """The passages of a ``depth.json``."""
    told = json.loads(path.read_text(encoding="utf-8"))["passages"]
    lists = ("depths", "forward", "backward")
    return [Passage(one["activation"], one["init"], *(tuple(one[name]) for name in lists)) for one in told]


def table(found: Sequence[Passage]) -> str:
    """How deep the signal of each passes, in Markdown."""
    lines = ["| activation | initialization | forward | backward |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one.activation} | {one.init} | {_told(one, 'forward')} | {_told(one, 'backward')} |" for one in found
    ]
    return "\n".join(lines)


def chart(found: Sequence[Passage], init: str, width: int) -> Image.Image:
    """The signals of one initialization by depth, forward and backward."""
    ways = (("forward", "forward: what tells inputs apart"), ("backward", "backward: the gradient at the inputs"))
    shown = [draw.Panel(title, {one.activation: getattr(one, way) for one in found}) for way, title in ways]
    return draw.panels(
        shown,
        found[0].depths,
        across=f"layers ({init}, width {width})",
        up="signal by that before the layers",
        low=DEAD / _BEYOND,
        high=EXPLODED * _BEYOND,
    )
