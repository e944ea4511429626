"""One report, one HTML file: pictures and style inside it, no script, nothing asked of any other place."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from inward.draw.pictures import data_uri
from inward.draw.saving import write_whole
from inward.draw.style import STYLE
from inward.errors import CallError

# Below this short side, in pixels, a picture is shown enlarged with hard pixels.
_TINY = 96
# A picture this many pixels wide, or this many times as wide as high, has a row of its own.
_WIDE, _LONG = 720, 2.2
_NARROWEST, _PAIRED, _COLUMN = 176, 240, 352
_NAVIGATED = 4
_NUMBER = re.compile(r"[-+−]?(\d[\d,  ]*)?\.?\d+(e[-+]?\d+)?\s*(%|ms|s|x|×)?", re.IGNORECASE)


@dataclass(frozen=True)
class Figure:
    """One picture of a page.

    Args:
        picture: of any size; a short side below 96 pixels is shown enlarged with hard pixels.
        caption: text below the picture.
        alt: what the picture shows, for readers who do not see it; by default the caption, else the heading.
    """

    picture: Image.Image
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Section:
    """One section of a page: a heading, then text, figures, a table and code, each optional.

    Args:
        heading: one line.
        text: paragraphs, separated by blank lines.
        figures: shown side by side as the width of the page allows.
        table: rows of cells, all of one length, the first row being the head.
        code: shown as it stands, in a fixed-width font.

    Raises:
        CallError: rows of different lengths.
    """

    heading: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    code: str = ""

    def __post_init__(self) -> None:
        lengths = sorted({len(row) for row in self.table})
        if len(lengths) > 1:
            raise CallError(f"the rows of a table have one length, not {lengths}; fill the missing cells with ''")


def page(title: str, sections: Sequence[Section]) -> str:
    """One HTML page that stands alone: it has no script and loads nothing, so that it works offline and by mail.

    All text is escaped. The page is light or dark as the reader's system is, and has one column on a phone. From
    four sections on it begins with a list of them.

    Args:
        title: the page's first heading, and the title of its window.
        sections: in order; none gives a page of the title alone.
    """
    body = "\n".join(_section(section, number) for number, section in enumerate(sections, 1))
    return shell(title, body, above=_navigation(sections))


def shell(title: str, body: str, *, above: str = "", style: str = "") -> str:
    """A whole page around ``body``, which is HTML as is ``above``, what stands below the heading."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{_safe(title)}</title>
<style>{STYLE}{style}</style>
</head>
<body>
<header>
<h1>{_safe(title)}</h1>
{above}</header>
<main>
{body}
</main>
</body>
</html>
"""


def save_page(html: str, path: str | os.PathLike[str]) -> None:
    """Save a page as UTF-8, whole or not at all.

    Raises:
        CallError: the folder of ``path`` does not exist.
        InwardError: the system refused the write.
    """
    write_whole(html.encode("utf-8"), path)


def _safe(text: str) -> str:
    return html.escape(text, quote=True)


def _navigation(sections: Sequence[Section]) -> str:
    if len(sections) < _NAVIGATED:
        return ""
    items = "".join(f'<li><a href="#s{n}">{_safe(s.heading)}</a></li>' for n, s in enumerate(sections, 1))
    return f'<nav aria-label="Sections"><ol>{items}</ol></nav>\n'


def _section(section: Section, number: int) -> str:
    parts = [f'<h2 id="s{number}">{_safe(section.heading)}</h2>']
    parts += [f"<p>{_safe(text.strip())}</p>" for text in re.split(r"\n\s*\n", section.text) if text.strip()]
    parts += [_figures(section)] if section.figures else []
    parts += [_table(section)] if section.table else []
    parts += [f'<pre tabindex="0"><code>{_safe(section.code)}</code></pre>'] if section.code else []
    return f'<section aria-labelledby="s{number}">\n' + "\n".join(parts) + "\n</section>"


def _figures(section: Section) -> str:
    widths = [figure.picture.width for figure in section.figures if not _kind(figure.picture)]
    column = min(_COLUMN, max([_NARROWEST, *widths]))
    # Small pictures stay two in a row on a phone; larger ones carry text that would become too small.
    least = "46%" if column <= _PAIRED else "100%"
    figures = "\n".join(_figure(figure, section.heading) for figure in section.figures)
    return f'<div class="figures" style="--column:min({least}, {column}px)">\n{figures}\n</div>'


def _figure(figure: Figure, heading: str) -> str:
    picture, kind = figure.picture, _kind(figure.picture)
    alt = _safe(figure.alt or figure.caption or heading)
    size = f'width="{picture.width}" height="{picture.height}"'
    caption = f"<figcaption>{_safe(figure.caption)}</figcaption>" if figure.caption else ""
    opening = f'<figure class="{kind}">' if kind else "<figure>"
    image = f'<img src="{data_uri(picture)}" {size} alt="{alt}">'
    # On a phone a wide sheet is scrolled rather than reduced to a strip.
    shown = f'<div class="scroll" tabindex="0">{image}</div>' if kind == "wide" else image
    return f"{opening}{shown}{caption}</figure>"


def _kind(picture: Image.Image) -> str:
    if min(picture.size) < _TINY and max(picture.size) < 2 * _TINY:
        return "tiny"
    return "wide" if picture.width >= _WIDE or picture.width > _LONG * picture.height else ""


def _table(section: Section) -> str:
    head, *body = section.table
    numeric = [bool(body) and all(_NUMBER.fullmatch(row[i].strip()) for row in body) for i in range(len(head))]
    rows = "\n".join(f"<tr>{_cells(row, numeric, 'td')}</tr>" for row in body)
    return (
        f'<div class="table" role="region" tabindex="0" aria-label="{_safe(section.heading)}"><table>\n'
        f"<thead><tr>{_cells(head, numeric, 'th')}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _cells(row: Sequence[str], numeric: Sequence[bool], tag: str) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    kinds = [' class="number"' if is_number else "" for is_number in numeric]
    return "".join(f"<{tag}{scope}{kind}>{_safe(text)}</{tag}>" for text, kind in zip(row, kinds, strict=True))
