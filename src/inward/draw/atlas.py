"""An index of a folder of pictures: one HTML page, a tile a unit, that filters and sorts and loads nothing else."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from inward.draw.style import STYLE
from inward.errors import CallError

# Below this short side, in pixels, a picture is shown enlarged with hard pixels.
_TINY = 96
_NUMBER = re.compile(r"[-+−]?\d+(\.\d+)?(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Tile:
    """One unit of an atlas.

    Args:
        picture: its file, relative to the page and with "/" between folders.
        address: the unit; the heading of the tile, and what the filter looks in.
        score: shown below it.
        photographs: files of photographs, or patches of them, that are shown beside the picture.
        folder: where the tile leads, relative to the page; "" for the picture itself.
        size: (H, W) of the picture in pixels; without it the tile is square.
        value: what tiles are sorted by; without it the first number in the score.

    Raises:
        CallError: no picture, or a file that is not relative.
    """

    picture: str
    address: str
    score: str = ""
    photographs: tuple[str, ...] = ()
    folder: str = ""
    size: tuple[int, int] | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        if not self.picture:
            raise CallError(f"the tile of {self.address} has no picture; give the name of its file")
        for path in (self.picture, self.folder, *self.photographs):
            if path.startswith("/"):
                raise CallError(f"a tile names its files relative to the page, not {path}; leave out the folders above")
        if self.size is not None and min(self.size) < 1:
            raise CallError(f"a picture has 1 x 1 pixels or more, not {self.size[0]} x {self.size[1]}; or give no size")


def atlas_page(title: str, tiles: Sequence[Tile], about: str = "") -> str:
    """One HTML page of tiles: pictures stay in their files beside it and load as they are scrolled to.

    The page is light or dark as the reader's system is. It can be filtered by words of the addresses ("/" leads to
    the box, Escape empties it) and sorted by unit or score. Style and script are inside, and a Content Security
    Policy forbids all others; without script it is the same page without filter. All text is escaped.

    Args:
        title: the page's heading, and the title of its window.
        tiles: shown in the order of their units, numbers by their size: mixed4a/9 before mixed4a/97.
        about: paragraphs below the title, separated by blank lines.
    """
    style = STYLE + _LOOK + _shape(tiles)
    ordered = sorted(tiles, key=lambda tile: _natural(tile.address))
    items = "\n".join(_item(tile) for tile in ordered)
    paragraphs = "\n".join(f"<p>{_safe(text.strip())}</p>" for text in re.split(r"\n\s*\n", about) if text.strip())
    policy = f"default-src 'none'; img-src 'self' file: data:; style-src {_hash(style)}; script-src {_hash(_SCRIPT)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{_safe(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{_safe(title)}</h1>
{paragraphs}
</header>
<main>
{_tools(ordered)}
<ul id="tiles" role="list">
{items}
</ul>
</main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _safe(text: str) -> str:
    return html.escape(text, quote=True)


def _link(path: str) -> str:
    """A relative path as an address: a colon in it is no scheme, a hash no fragment."""
    return _safe(quote(path))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _natural(text: str) -> list[tuple[int, int, str]]:
    """A key by which numbers are ordered by their size."""
    parts = re.findall(r"(\d+)|(\D+)", text)
    return [(0, int(number), "") if number else (1, 0, word.lower()) for number, word in parts]


def _shape(tiles: Sequence[Tile]) -> str:
    """All pictures have boxes of the shape that most of them have, so that rows are even before they load."""
    common = Counter(tile.size or (1, 1) for tile in tiles).most_common(1)
    height, width = common[0][0] if common else (1, 1)
    beside = any(tile.photographs for tile in tiles)
    column = "21rem" if beside else "11rem"
    least = "100%" if beside else "44%"
    return f":root {{ --shape: {width} / {height}; --column: min({least}, {column}); }}\n"


def _item(tile: Tile) -> str:
    number = _number(tile)
    value = "" if number is None else f' data-score="{number!r}"'
    address, where = _safe(tile.address), _link(tile.folder or tile.picture)
    kind = ' class="tiny"' if tile.size and min(tile.size) < _TINY else ""
    size = f' width="{tile.size[1]}" height="{tile.size[0]}"' if tile.size else ""
    image = f'<img{kind} src="{_link(tile.picture)}"{size} alt="what {address} looks for" {_LAZY}>'
    score = f'<span class="score">{_safe(tile.score)}</span>' if tile.score else ""
    told = f'<span class="name">{address}</span>{score}'
    return f'<li data-unit="{address}"{value}><a href="{where}">{image}{told}</a>{_photographs(tile)}</li>'


def _number(tile: Tile) -> float | None:
    found = _NUMBER.search(tile.score)
    number = tile.value if tile.value is not None else float(found[0].replace("−", "-")) if found else None
    # A score that is no number has no place among the others.
    return number if number is not None and math.isfinite(number) else None


def _photographs(tile: Tile) -> str:
    if not tile.photographs:
        return ""
    images = "".join(
        f'<img src="{_link(path)}" alt="photograph {i} that excites {_safe(tile.address)}" {_LAZY}>'
        for i, path in enumerate(tile.photographs, 1)
    )
    return f'<div class="photographs">{images}</div>'


def _tools(tiles: Sequence[Tile]) -> str:
    if not tiles:
        return '<p id="none">There are no tiles.</p>'
    return _TOOLS.replace("EXAMPLE", _safe(tiles[0].address))


_LAZY = 'loading="lazy" decoding="async"'

_TOOLS = """<div id="tools" role="search" hidden>
<label for="filter">Filter</label>
<input id="filter" type="search" placeholder="EXAMPLE" autocomplete="off" spellcheck="false" aria-keyshortcuts="/">
<span><label for="sort">Sort by</label>
<select id="sort">
<option value="unit">unit</option>
<option value="down">highest score</option>
<option value="up">lowest score</option>
</select></span>
<output id="count" for="filter" aria-live="polite"></output>
</div>
<p id="none" hidden>No unit matches.</p>"""

_LOOK = """
body { max-width: 100rem; }
header p { color: var(--quiet); }
#tools {
  position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: center; gap: 0.5rem 0.75rem;
  margin: 1.5rem 0; padding: 0.7rem 0; background: var(--paper); border-bottom: 1px solid var(--rule);
  font-size: 0.94rem;
}
#tools[hidden] { display: none; }
#tools label, #tools ::placeholder { color: var(--quiet); opacity: 1; }
#tools label { margin-right: 0.25rem; }
#tools input, #tools select {
  min-height: 2.5rem; padding: 0.3rem 0.7rem; border: 1px solid var(--rule); border-radius: 6px;
  background: var(--panel); color: inherit; font: inherit;
}
#tools input { flex: 1 1 9rem; min-width: 0; max-width: 20rem; }
#count { margin-left: auto; color: var(--quiet); font-variant-numeric: tabular-nums; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
#tiles {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--column), 1fr));
  gap: 1.5rem 1.25rem; margin: 0; padding: 0; list-style: none;
}
/* Tiles out of sight are neither laid out nor painted; their height is remembered once it was known. */
#tiles > li {
  display: flex; gap: 0.5rem; min-width: 0; scroll-margin-top: 5rem;
  content-visibility: auto; contain-intrinsic-size: auto 14rem;
}
#tiles > li[hidden] { display: none; }
#tiles a { flex: 1 1 0; min-width: 0; border-radius: 5px; color: inherit; text-decoration: none; outline-offset: -2px; }
#tiles img { background: var(--panel); }
#tiles a img { width: 100%; aspect-ratio: var(--shape); object-fit: contain; }
#tiles a img.tiny { image-rendering: pixelated; }
.name { display: block; margin-top: 0.45rem; font-size: 0.94rem; line-height: 1.35; overflow-wrap: anywhere; }
#tiles a:hover .name { color: var(--accent); text-decoration: underline; }
.score { display: block; color: var(--quiet); font-size: 0.85rem; line-height: 1.4; }
.photographs {
  flex: 1 1 0; min-width: 0; display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.25rem; align-content: start;
}
.photographs img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 2px; }
@media print { #tools { display: none; } #tiles > li { content-visibility: visible; break-inside: avoid; } }
"""

_SCRIPT = """
"use strict";
const [tools, filter, sort, count, none, list] =
  ["tools", "filter", "sort", "count", "none", "tiles"].map(id => document.getElementById(id));
if (tools) {
  const tiles = [...list.children].map((item, at) => ({
    item, at, unit: item.dataset.unit.toLowerCase(),
    score: "score" in item.dataset ? Number(item.dataset.score) : null,
  }));
  const narrow = () => {
    const words = filter.value.toLowerCase().split(/\\s+/);
    let shown = 0;
    for (const tile of tiles) {
      const fits = words.every(word => tile.unit.includes(word));
      if (tile.item.hidden === fits) tile.item.hidden = !fits;
      shown += fits;
    }
    none.hidden = shown > 0;
    count.value = shown === tiles.length ? `${shown} units` : `${shown} of ${tiles.length} units`;
  };
  const order = () => {
    const sign = {unit: 0, down: -1, up: 1}[sort.value];
    const last = tile => sign !== 0 && tile.score === null;
    const sorted = [...tiles].sort((a, b) =>
      last(a) - last(b) || (last(a) ? 0 : sign * (a.score - b.score)) || a.at - b.at);
    list.append(...sorted.map(tile => tile.item));
  };
  filter.addEventListener("input", narrow);
  sort.addEventListener("change", order);
  document.addEventListener("keydown", event => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && event.target !== filter) {
      event.preventDefault();
      filter.focus();
    } else if (event.key === "Escape" && event.target === filter) {
      filter.value = "";
      narrow();
    }
  });
  tools.hidden = false;
  /* Browsers keep what was typed when one comes back to a page. */
  narrow();
  order();
}
"""
