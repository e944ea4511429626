"""A study as pages to leaf through: an index of the points, and for every unit its patches and its histogram.

The patches of a unit are one small JPEG that the page asks for when it is scrolled to; so a page opens
at once, whatever the number of units.
"""

from __future__ import annotations

import html
import io
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from inward import draw
from inward.draw.page import shell
from inward.draw.saving import write_whole
from inward.network.network import Network
from inward.pictures import read
from inward.studies.activations import Activations
from inward.studies.patches import crop
from inward.studies.statistics import BINS, Statistics

INDEX = "index.html"
# Units on a page; their patches are held in memory together (40 MB at nine of them).
_UNITS = 256
_TILE, _GAP = 72, 4
_MIDDLE = BINS // 2
_MORE = """
.units { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 1.5rem; }
.units img { width: 100%; height: auto; }
.units svg { display: block; width: 100%; height: 2.2rem; margin-top: 0.3rem; fill: var(--accent); }
"""


def write_pages(
    study: Activations, net: Network, folder: Path, on_unit: Callable[[int, int], None] | None = None
) -> Path:
    """Writes the pages of a study into ``folder``; gives the path of the first.

    Args:
        on_unit: called with (units drawn, units in all), a page at a time.

    Raises InwardError where a picture is gone or a page cannot be written.
    """
    total = sum(len(s.values) for s in study.points.values())
    rows, done = [], 0
    for number, (key, statistics) in enumerate(study.points.items(), 1):
        place = folder / _folder_name(key, number)
        place.mkdir(parents=True, exist_ok=True)
        for start in range(0, len(statistics.values), _UNITS):
            units = range(start, min(start + _UNITS, len(statistics.values)))
            _write_patches(study, net, key, units, place)
            _write(_unit_page(study, key, units), place / f"{start // _UNITS + 1}.html")
            done += len(units)
            if on_unit is not None:
                on_unit(done, total)
        rows.append(_row(study, key, statistics, place.name))
    # Last, so that an index names only pages that are there.
    return _write(_index(study, net, rows), folder / INDEX)


def _write(text: str, path: Path) -> Path:
    write_whole(text.encode("utf-8"), path)
    return path


def _folder_name(key: str, number: int) -> str:
    # Numbered: two names can differ in signs alone, or in their case.
    return f"{number:03d}-{re.sub(r'[^A-Za-z0-9_.]+', '-', key)[:80]}"


def _address(key: str, unit: int) -> str:
    return f"{key}:{unit}" if key.startswith("class") else f"{key}/{unit}"


def _write_patches(study: Activations, net: Network, key: str, units: range, place: Path) -> None:
    wanted: dict[Path, list[tuple[int, int]]] = defaultdict(list)
    examples = [study.top(_address(key, unit)) for unit in units]
    for row, found in enumerate(examples):
        for rank, example in enumerate(found):
            wanted[example.file].append((row, rank))
    width = study.k * (_TILE + _GAP) - _GAP
    sheets = [Image.new("RGB", (width, _TILE), "white") for _ in units]
    # Every picture is read once, whatever the number of units that it excites.
    for file, uses in wanted.items():
        image = read(file, net)[0]
        for row, rank in uses:
            tile = _tile(crop(image, examples[row][rank].box))
            sheets[row].paste(tile, (rank * (_TILE + _GAP) + (_TILE - tile.width) // 2, (_TILE - tile.height) // 2))
    for unit, picture in zip(units, sheets, strict=True):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=85)
        write_whole(buffer.getvalue(), place / f"{unit}.jpg")


def _tile(pixels: Tensor) -> Image.Image:
    picture = draw.to_picture(pixels).convert("RGB")
    factor = _TILE / max(picture.size)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.BICUBIC)


def _unit_page(study: Activations, key: str, units: range) -> str:
    count = len(study.points[key].values)
    pages = range(1, -(-count // _UNITS) + 1)
    links = [("all points", f"../{INDEX}"), *((f"units from {(p - 1) * _UNITS}", f"{p}.html") for p in pages)]
    figures = "\n".join(_figure(study, key, unit) for unit in units)
    return _page(f"{key}, units {units[0]} to {units[-1]}", _navigation(links) + f'<div class="units">{figures}</div>')


def _figure(study: Activations, key: str, unit: int) -> str:
    address = _address(key, unit)
    counts = study.points[key].counts[unit]
    active = counts[_MIDDLE + 1 :].sum().item() / max(1, counts.sum().item())
    told = f"{address}: largest {study.maximum(address):.4g}, above 0 at {active:.1%} of the places"
    size = f'width="{study.k * (_TILE + _GAP) - _GAP}" height="{_TILE}"'
    image = f'<img src="{unit}.jpg" {size} loading="lazy" alt="the patches that excite {html.escape(address)} most">'
    caption = f"<figcaption>{html.escape(told)}{_histogram(counts)}</figcaption>"
    return f'<figure id="u{unit}">{image}{caption}</figure>'


def _histogram(counts: Tensor) -> str:
    """Bars of the logarithm of the counts, from the first bin that holds anything to the last."""
    held = counts.nonzero()[:, 0]
    if not len(held):
        return ""
    low, high = int(held[0]), int(held[-1]) + 1
    heights = torch.log2(counts[low:high].double() + 1)
    heights = (heights / heights.max() * 100).round().int().tolist()
    bars = "".join(f"M{i} 100v{-h}h1v{h}z" for i, h in enumerate(heights) if h)
    return (
        f'<svg viewBox="0 0 {high - low} 100" preserveAspectRatio="none" role="img" '
        f'aria-label="histogram of the activations"><path d="{bars}"/></svg>'
    )


def _row(study: Activations, key: str, statistics: Statistics, folder: str) -> str:
    grid, field = study.grids[key], study.fields[key]
    largest = [f"{size} x {size2}" for size, size2 in [_largest(field.boxes)]]
    cells = [
        f'<a href="{html.escape(folder)}/1.html">{html.escape(key)}</a>',
        str(len(statistics.values)),
        "" if grid is None else f"{grid[0]} x {grid[1]}",
        largest[0],
        str(int((statistics.values[:, 0] <= 0).sum())),
        f"{statistics.values[:, 0].max().item():.4g}",
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _largest(boxes: Tensor) -> tuple[int, int]:
    sides = (boxes[..., 2:] - boxes[..., :2]).flatten(0, 1).amax(0)
    return int(sides[0]), int(sides[1])


def _index(study: Activations, net: Network, rows: list[str]) -> str:
    names = ("point", "units", "grid", "pixels seen", "units never above 0", "largest activation")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    table = f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    intro = f"<p>{study.seen} of {len(study.files)} pictures, {study.size[0]} x {study.size[1]} pixels.</p>"
    return _page(f"What excites {net.name}", intro + table)


def _navigation(links: list[tuple[str, str]]) -> str:
    items = "".join(f'<li><a href="{target}">{html.escape(text)}</a></li>' for text, target in links)
    return f'<nav aria-label="Pages"><ol>{items}</ol></nav>'


def _page(title: str, body: str) -> str:
    return shell(title, body, style=_MORE)
