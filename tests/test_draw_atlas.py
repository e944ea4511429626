"""An atlas in a real browser: its tiles are seen, filtered and sorted, and it asks for its own files alone."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drawn import one_sentence
from inward.draw import save_page
from inward.draw.atlas import Tile, atlas_page
from inward.errors import CallError

EVIL = "<script>alert('x')</script> & \"quoted\""
# Read by hand: by unit, by falling score, by rising score; what has no score comes last.
UNITS = ["conv1/2", "conv1/10", "mixed4a/9", "mixed4a/97", "mixed4a/100"]
DOWN = ["mixed4a/9", "conv1/2", "mixed4a/100", "mixed4a/97", "conv1/10"]
UP = ["mixed4a/97", "mixed4a/100", "conv1/2", "mixed4a/9", "conv1/10"]
SCORES = {"conv1/2": "score 3.5", "mixed4a/9": "score 1.2e2", "mixed4a/97": "score -0.5", "mixed4a/100": "score 0.25"}


def saved(folder: Path, tiles: list[Tile], **options: str) -> Path:
    """The page, and the pictures of its tiles: wide ones, but for the first."""
    for i, tile in enumerate(tiles):
        for name in (tile.picture, *tile.photographs):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 64) if i == 0 else (96, 64), "teal").save(folder / name, format="PNG")
    save_page(atlas_page("Units", tiles, **options), folder / "index.html")
    return folder / "index.html"


def five(folder: Path) -> Path:
    order = ["mixed4a/97", "conv1/10", "mixed4a/100", "conv1/2", "mixed4a/9"]
    tiles = [
        Tile(f"pictures/{i}.png", unit, SCORES.get(unit, ""), (f"near/{i}: a#1.png", f"near/{i} 100%.png"), f"u{i}")
        for i, unit in enumerate(order)
    ]
    return saved(folder, tiles, about="What they look for.\n\nAnd where.")


def opened(browser: Any, file: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what it complained of, and what it asked for."""
    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(**options)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    return page, complaints, requests


def shown(page: Any) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('#tiles li')].filter(e => e.checkVisibility()).map(e => e.dataset.unit)"
    )


def test_tiles_are_seen(chromium: Any, tmp_path: Path) -> None:
    page, complaints, requests = opened(chromium, five(tmp_path), viewport={"width": 1280, "height": 900})
    assert complaints == []
    assert shown(page) == UNITS
    pictures = page.evaluate("[...document.images].map(i => [i.complete && i.naturalWidth, i.alt])")
    assert [width for width, _ in pictures] == [96] * 9 + [40] * 3 + [96] * 3
    assert pictures[0][1] == "what conv1/2 looks for"
    assert pictures[1][1] == "photograph 1 that excites conv1/2"
    # Its own files and nothing else: names with a colon, a hash and a percent sign among them.
    asked = [url for url in requests if not url.startswith("data:")]
    assert len(asked) == 16
    assert all(url.startswith(tmp_path.as_uri()) for url in asked)
    assert page.evaluate("[...document.querySelectorAll('#tiles a')].map(a => a.getAttribute('href'))") == [
        *("u3", "u1", "u4", "u0", "u2")
    ]
    assert page.text_content("#tiles li:nth-child(4) .score") == "score -0.5"
    assert page.evaluate("[...document.querySelectorAll('header p')].map(p => p.textContent)") == [
        "What they look for.",
        "And where.",
    ]
    page.close()


def test_filter(chromium: Any, tmp_path: Path) -> None:
    page, complaints, _ = opened(chromium, five(tmp_path))
    assert page.text_content("#count") == "5 units"
    page.keyboard.press("/")
    page.keyboard.type("MIXED 9")
    assert page.input_value("#filter") == "MIXED 9", "the slash that led there is not in the box"
    assert shown(page) == ["mixed4a/9", "mixed4a/97"]
    assert page.text_content("#count") == "2 of 5 units"
    page.keyboard.type("/")
    assert page.input_value("#filter") == "MIXED 9/", "within the box it is a letter"
    assert shown(page) == []
    assert page.is_visible("#none")
    page.keyboard.press("Escape")
    assert (page.input_value("#filter"), shown(page)) == ("", UNITS)
    assert not page.is_visible("#none")
    assert complaints == []
    page.close()


def test_sort(chromium: Any, tmp_path: Path) -> None:
    page, complaints, _ = opened(chromium, five(tmp_path))
    for value, wanted in (("down", DOWN), ("up", UP), ("unit", UNITS)):
        page.select_option("#sort", value)
        assert shown(page) == wanted
    page.fill("#filter", "mixed")
    page.select_option("#sort", "up")
    assert shown(page) == ["mixed4a/97", "mixed4a/100", "mixed4a/9"]
    assert complaints == []
    page.close()


def test_keys_reach_everything(chromium: Any, tmp_path: Path) -> None:
    page, _, _ = opened(chromium, five(tmp_path))
    seen = []
    for _ in range(7):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.getAttribute('href')"))
    assert seen == ["filter", "sort", "u3", "u1", "u4", "u0", "u2"]
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.close()


def test_without_script_the_tiles_are_there(chromium: Any, tmp_path: Path) -> None:
    page, _, _ = opened(chromium, five(tmp_path), java_script_enabled=False)
    assert page.locator("#tiles li").count() == 5
    assert page.locator("#tiles li").nth(4).is_visible()
    assert not page.is_visible("#tools"), "tools that would do nothing are not shown"
    page.close()


@pytest.mark.parametrize("width", [320, 390, 1280, 1920])
@pytest.mark.parametrize("beside", [0, 9])
def test_page_fits(chromium: Any, tmp_path: Path, width: int, beside: int) -> None:
    tiles = [
        Tile(f"{i}.png", f"layers.{i}.attention.projection/{i}", "score 1", ("0.png",) * beside, size=(64, 96))
        for i in range(12)
    ]
    page, complaints, _ = opened(chromium, saved(tmp_path, tiles), viewport={"width": width, "height": 844})
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate("[...document.querySelectorAll('#tiles a img')].map(i => [i.clientWidth, i.clientHeight])")
    # Pictures are 64 high and 96 wide, and so is the box of the one that is not; a pixel for rounding.
    assert all(abs(w / h - 1.5) < 2 / h and w > 100 for w, h in boxes)
    assert len({tuple(box) for box in boxes}) == 1
    lefts = page.evaluate(
        "[...document.querySelectorAll('#tiles li')].map(e => Math.round(e.getBoundingClientRect().left))"
    )
    across = {(320, 0): 2, (390, 0): 2, (320, 9): 1, (390, 9): 1, (1280, 9): 3, (1280, 0): 6}
    assert len(set(lefts)) == across.get((width, beside), len(set(lefts)))
    cut = "e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline'"
    assert page.evaluate(f"[...document.querySelectorAll('.name, .score, #tools')].filter({cut}).length") == 0
    page.close()


def test_page_in_the_dark(chromium: Any, tmp_path: Path) -> None:
    file = five(tmp_path)
    shades = {}
    for scheme in ("light", "dark"):
        page, complaints, _ = opened(chromium, file, color_scheme=scheme)
        assert complaints == []
        styles = "e => { const s = getComputedStyle(e); return [s.backgroundColor, s.color] }"
        shades[scheme] = [_brightness(color) for color in page.eval_on_selector("body", styles)]
        shades[f"{scheme} box"] = [_brightness(color) for color in page.eval_on_selector("#filter", styles)]
        page.close()
    for name, sign in (("light", 1), ("light box", 1), ("dark", -1), ("dark box", -1)):
        assert sign * (shades[name][0] - shades[name][1]) > 150


def _brightness(color: str) -> float:
    return sum(float(v) for v in re.findall(r"[\d.]+", color)[:3]) / 3


def test_thousands_of_tiles(chromium: Any, tmp_path: Path) -> None:
    """Only what is near the window is loaded, and filtering stays below what one notices."""
    tiles = [Tile(f"p/{i}.png", f"mixed4a/{i}", f"{i * 7 % 3001}", size=(64, 96)) for i in range(3000)]
    page, complaints, requests = opened(chromium, saved(tmp_path, tiles), viewport={"width": 1280, "height": 900})
    assert complaints == []
    assert 30 < len(requests) < 600
    before = len(requests)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    # Not wait_for_function: it evaluates a string in the page, which the policy forbids.
    end = time.monotonic() + 30
    while page.evaluate("document.querySelector('#tiles li:last-child img').naturalWidth") != 96:
        assert time.monotonic() < end, "the last picture is loaded once it is in sight"
        page.wait_for_timeout(50)
    assert before < len(requests) < 2000
    started = time.perf_counter()
    page.fill("#filter", "/299")
    assert shown(page) == ["mixed4a/299", *(f"mixed4a/{i}" for i in range(2990, 3000))]
    page.fill("#filter", "")
    page.select_option("#sort", "down")
    assert shown(page)[0] == f"mixed4a/{next(i for i in range(3000) if i * 7 % 3001 == 3000)}"
    took = time.perf_counter() - started
    # 0.4 s of one core; laid out anew for every tile it takes minutes.
    assert took < 10
    page.close()


def test_everything_is_escaped(chromium: Any, tmp_path: Path) -> None:
    picture = "pictures/<b>&\"'.png"
    file = saved(tmp_path, [Tile(picture, EVIL, EVIL, (picture,), "javascript:alert(1)")], about=EVIL)
    source = file.read_text(encoding="utf-8").replace("Units", EVIL)
    assert "<script>alert" not in source.replace(EVIL, "")
    page, complaints, _ = opened(chromium, file)
    assert complaints == []
    assert page.text_content("#tiles .name") == page.text_content("header p") == EVIL
    assert shown(page) == [EVIL]
    assert page.evaluate("document.images[0].naturalWidth") == 40
    assert page.evaluate("document.querySelector('#tiles a').protocol") == "file:"
    assert page.evaluate("document.scripts.length") == 1
    page.close()


def test_the_policy_forbids_what_is_not_its_own(chromium: Any, tmp_path: Path) -> None:
    """As if the escaping had failed: none of this runs, and none of it is asked for."""
    file = five(tmp_path)
    bad = '<script>window.stolen = 1</script><img src="http://127.0.0.1:9/x.png" onerror="window.stolen = 2">'
    bad += "<style>h1 { color: rgb(1, 2, 3) }</style>"
    file.write_text(file.read_text(encoding="utf-8").replace("And where.", bad), encoding="utf-8")
    page, complaints, _ = opened(chromium, file)
    assert page.evaluate("window.stolen") is None
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(1, 2, 3)"
    refused = [text for text in complaints if "Content Security Policy" in text]
    assert len(refused) >= 3
    assert shown(page) == UNITS, "its own script still runs"
    page.close()


def test_the_title_is_escaped() -> None:
    source = atlas_page(EVIL, [])
    assert source.count("<script") == 1
    assert source.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; &quot;quoted&quot;") == 2
    assert "There are no tiles." in source
    for forbidden in ("http:", "https:", "//", "url(", "@import", "eval(", "innerHTML", "unsafe", "style="):
        assert forbidden not in source


def test_an_empty_atlas_complains_of_nothing(chromium: Any, tmp_path: Path) -> None:
    page, complaints, _ = opened(chromium, saved(tmp_path, []))
    assert complaints == []
    assert page.is_visible("#none")
    page.close()


@pytest.mark.parametrize(
    ("score", "value", "sorted_by"),
    [
        ("", None, None),
        ("none", None, None),
        ("score 34.5", None, "34.5"),
        ("-1.5e-3 (±2)", None, "-0.0015"),
        ("−2", None, "-2.0"),
        ("12 of 13", 0.25, "0.25"),
        ("12", 0.0, "0.0"),
        ("nan", float("nan"), None),
        ("", float("inf"), None),
    ],
)
def test_the_number_that_tiles_are_sorted_by(score: str, value: float | None, sorted_by: str | None) -> None:
    source = atlas_page("t", [Tile("a.png", "conv1/1", score, value=value)])
    found = re.search(r'<li data-unit="conv1/1"(?: data-score="([^"]*)")?>', source)
    assert found is not None
    assert found[1] == sorted_by


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"picture": ""}, "the tile of conv1/1 has no picture"),
        ({"picture": "/a.png"}, "relative to the page, not /a.png"),
        ({"photographs": ("b.png", "//evil.example/b.png")}, "relative to the page, not //evil"),
        ({"folder": "/etc"}, "relative to the page, not /etc"),
        ({"size": (0, 8)}, "1 x 1 pixels or more, not 0 x 8"),
    ],
)
def test_a_tile_that_is_none_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(CallError, match=says) as error:
        Tile(**({"picture": "a.png", "address": "conv1/1"} | options))
    assert one_sentence(error)
