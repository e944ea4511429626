"""Pages."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from drawn import eight_bit, one_sentence, solid
from inward.draw import (
    Figure,
    Section,
    data_uri,
    page,
    save_page,
    to_picture,
)
from inward.errors import CallError, InwardError

NEUTRAL, REDDEST, BLUEST = (247, 247, 247), (103, 0, 31), (5, 48, 97)
BLACKEST, BRIGHTEST = (0, 0, 4), (252, 255, 164)
# Pages


class Outline(HTMLParser):
    """The tags, attributes and text of a page, and whether its tags are closed in order."""

    EMPTY = frozenset({"meta", "link", "img", "br"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1], data))

    def texts(self, tag: str) -> list[str]:
        return [text for parent, text in self.words if parent == tag]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


EVIL = "<script>alert('x')</script> & \"quoted\""


def full_page() -> str:
    tiny, large, wide = solid(8, 9), solid(300, 200), solid(900, 200)
    figures = (Figure(tiny, "a digit"), Figure(large, EVIL, alt="the second"), Figure(wide))
    table = (("name", "eps"), (EVIL, "0.5"), ("b", "1,024"))
    return page(EVIL, [Section(EVIL, f"one {EVIL}\n\ntwo\nlines\n \n\nthree", figures, table, code=f"{EVIL}\n  x = 1")])


def test_a_page_escapes_whatever_it_is_given() -> None:
    source = full_page()
    outline = Outline(source)
    assert outline.open == []
    assert "script" not in {tag for tag, _ in outline.tags}
    assert "<script" not in source
    assert outline.texts("h1") == outline.texts("h2") == outline.texts("title") == [EVIL]
    assert outline.texts("figcaption") == ["a digit", EVIL]
    assert outline.texts("code") == [f"{EVIL}\n  x = 1"]
    assert outline.texts("td") == [EVIL, "0.5", "b", "1,024"]


def test_a_page_asks_nothing_of_any_other_place() -> None:
    source = full_page()
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "data:", source)
    for forbidden in ("http", "//", "url(", "@import", "srcset", "onload"):
        assert forbidden not in without_pictures
    outline = Outline(source)
    addresses = [a[key] for _, a in outline.tags for key in ("src", "href") if key in a]
    assert len(addresses) == 4, "three pictures and an icon that is not fetched"
    assert all(str(address).startswith("data:") for address in addresses)


def test_a_page_has_real_headings_paragraphs_and_alternative_texts() -> None:
    outline = Outline(full_page())
    assert outline.texts("p") == [f"one {EVIL}", "two\nlines", "three"]
    assert [image["alt"] for image in outline.attributes("img")] == ["a digit", "the second", EVIL]
    assert [image["width"] for image in outline.attributes("img")] == ["8", "300", "900"]
    assert [figure.get("class") for figure in outline.attributes("figure")] == ["tiny", None, "wide"]
    assert [cell.get("class") for cell in outline.attributes("td")] == [None, "number"] * 2
    assert [cell["scope"] for cell in outline.attributes("th")] == ["col", "col"]
    assert outline.attributes("html") == [{"lang": "en"}]


def test_a_page_adapts_to_dark_systems_and_phones() -> None:
    source = full_page()
    assert "prefers-color-scheme: dark" in source
    assert 'name="viewport"' in source
    assert "max-width: 72rem" in source
    assert "image-rendering: pixelated" in source
    assert "tabular-nums" in source


def test_the_pictures_of_a_page_are_the_pictures_given() -> None:
    picture = to_picture(eight_bit(3))
    assert f'src="{data_uri(picture)}"' in page("t", [Section("h", figures=(Figure(picture),))])


def test_a_long_page_lists_its_sections() -> None:
    headings = ["a", "b", "c", "d & e"]
    outline = Outline(page("t", [Section(heading) for heading in headings]))
    links = [link["href"] for link in outline.attributes("a")]
    assert outline.texts("a") == headings
    assert links == [f"#{heading['id']}" for heading in outline.attributes("h2")]
    assert Outline(page("t", [Section("a")])).attributes("nav") == []


def test_a_table_with_a_missing_cell_is_refused() -> None:
    with pytest.raises(CallError) as error:
        Section("h", table=(("a", "b"), ("c",)))
    assert one_sentence(error)


def test_a_page_is_saved_whole_as_utf8(tmp_path: Path) -> None:
    save_page(page("Gürteltier → 日", []), tmp_path / "a.html")
    assert "<h1>Gürteltier → 日</h1>" in (tmp_path / "a.html").read_bytes().decode("utf-8")
    with pytest.raises(InwardError, match="make it first") as error:
        save_page("x", tmp_path / "missing" / "a.html")
    assert one_sentence(error)
    assert os.listdir(tmp_path) == ["a.html"]
