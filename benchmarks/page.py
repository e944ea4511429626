"""``python -m benchmarks.page [--weights FILE] [--save]``: how fast the page answers, in a real browser.

A server of its own for each network, as ``inward serve`` starts it, and headless Chromium. Times are absolute: run it
on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

RESULTS = Path(__file__).parent / "results" / "page.json"
_POINT, _UNITS, _ROUNDS = "mixed3a", range(12), 7
_GRAPHS = tuple(f"torchvision/{name}" for name in ("densenet201", "swin_t", "resnet50", "vit_b_16"))
# Milliseconds in which the main thread did nothing else, from the browser's own list.
_WATCH = """() => {
    window.tasks = [];
    new PerformanceObserver(list => tasks.push(...list.getEntries().map(entry => entry.duration)))
        .observe({ type: 'longtask', buffered: false });
}"""
_CLICK = """([point, unit]) => new Promise(resolve => {
    const link = document.querySelector(`[data-address="${point}/${unit}"] a`);
    const begun = performance.now();
    link.click();
    const look = () => {
        const heading = [...document.querySelectorAll('h3')].find(each => each.textContent === 'What it looks for');
        const picture = heading?.closest('section').querySelector('img');
        const here = document.querySelector('h2')?.textContent === `${point}/${unit}`;
        // Two frames on, what is loaded has been painted.
        if (here && picture?.complete && picture.naturalWidth > 0)
            requestAnimationFrame(() => requestAnimationFrame(() => resolve(performance.now() - begun)));
        else requestAnimationFrame(look);
    };
    look();
})"""


@contextmanager
def _serving(out: Path, *words: str) -> Iterator[str]:
    """The address of ``inward serve`` with these words."""
    command = [sys.executable, "-m", "inward", "serve", *words, "--no-browser", "--port", "0", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("http"):
                raise SystemExit(f"{' '.join(command)} did not start")
            yield line.strip()
        finally:
            process.terminate()


def _page(browser: Any) -> Any:
    return browser.new_context(viewport={"width": 1440, "height": 900}).new_page()


def first_paint(browser: Any, address: str) -> float:
    """Seconds from the link to a page on which the graph is drawn; with nothing in the browser's cache."""
    page = _page(browser)
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator("[data-node]").first.wait_for()
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    took = time.perf_counter() - begun
    page.context.close()
    return took


def cached_clicks(browser: Any, address: str) -> list[float]:
    """Milliseconds from a click on a channel, whose picture was made before the server started, to the picture."""
    page, took = _page(browser), []
    page.goto(address)
    page.locator("[data-node]").first.wait_for()
    base = address.partition("?")[0]
    for unit in _UNITS:
        page.goto(f"{base}#/0/{_POINT}")
        page.locator(f'[data-address="{_POINT}/{unit}"]').wait_for()
        page.wait_for_timeout(400)
        took.append(page.evaluate(_CLICK, [_POINT, unit]))
    page.context.close()
    # The first also loads the code of that part of the page.
    return took[1:]


def prepare(browser: Any, address: str) -> None:
    """Lets the server make the pictures that are clicked on later."""
    page = _page(browser)
    page.goto(address)
    ask = """([addresses]) => fetch('api/jobs', {
        method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ method: 'feature-visualization', network: 0, addresses }),
    }).then(answer => answer.json())"""
    job = page.evaluate(ask, [[f"{_POINT}/{unit}" for unit in _UNITS]])
    read = "id => fetch(`api/jobs/${id}`).then(answer => answer.json())"
    while page.evaluate(read, job["id"])["state"] not in ("done", "failed"):
        time.sleep(1)
    page.context.close()


def stalls(browser: Any, address: str) -> dict[str, Any]:
    """The longest task of the main thread while a graph is unfolded, moved, zoomed and folded, and how many nodes."""
    page = _page(browser)
    page.goto(address)
    page.locator("[data-node]").first.wait_for()
    page.wait_for_timeout(1500)
    architecture = page.evaluate("() => fetch('api/networks/0/architecture').then(answer => answer.json())")
    page.evaluate(_WATCH)
    found: dict[str, Any] = {"nodes": len(architecture["nodes"])}

    def longest(name: str, settle: int = 500) -> None:
        page.wait_for_timeout(settle)
        found[f"{name}_ms"] = round(max(page.evaluate("() => tasks.splice(0)"), default=0))

    page.get_by_role("button", name="Unfold everything").click()
    longest("unfold_all", 6000)
    graph = page.get_by_role("application", name="Architecture").bounding_box()
    middle = (graph["x"] + graph["width"] / 2, graph["y"] + graph["height"] / 2)
    for _ in range(4):
        page.mouse.move(*middle)
        page.mouse.down()
        for step in range(20):
            page.mouse.move(middle[0], middle[1] - 18 * step)
        page.mouse.up()
    longest("pan")
    for delta in (-400, -400, 600, 600, 600):
        page.mouse.wheel(0, delta)
        page.wait_for_timeout(60)
    longest("zoom")
    page.get_by_role("button", name="Fold as at first").click()
    longest("fold", 2500)
    page.context.close()
    return found


def main() -> None:
    """Measures, prints, and saves where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--weights", default="random", help="of Inception v1")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or parser.error("there is no chromium")
    told: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        inception = ("inward/inception_v1", "--weights", options.weights)
        with _serving(Path(folder) / "inception", *inception) as address:
            paints = [first_paint(browser, address) for _ in range(_ROUNDS)]
            prepare(browser, address)
        with _serving(Path(folder) / "inception", *inception) as address:
            clicks = cached_clicks(browser, address)
        told["first_paint_s"] = _spread(paints)
        told["cached_channel_ms"] = _spread(clicks)
        for name in _GRAPHS:
            with _serving(Path(folder) / re.sub(r"\W", "-", name), name, "--weights", "random") as address:
                told[name] = stalls(browser, address)
        browser.close()
    print(json.dumps(told, indent=2))
    if options.save:
        RESULTS.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


if __name__ == "__main__":
    main()
