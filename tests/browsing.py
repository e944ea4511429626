"""The page in a real browser: what its tests share."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.serving import TOKEN, Client

SIZES = {"wide": (1440, 900), "narrow": (390, 844)}


class Page:
    """A page that was entered by the link; what goes wrong in it ends the test."""

    def __init__(self, chromium: Any, client: Client, size: tuple[int, int]) -> None:
        self.context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce")
        self.shown, self.client, self.size = self.context.new_page(), client, size
        self.wrong: list[str] = []
        self.shown.on("console", lambda m: self.wrong.append(m.text) if m.type == "error" else None)
        self.shown.on("pageerror", lambda e: self.wrong.append(str(e)))

    def enter(self, place: str = "") -> Any:
        self.shown.goto(f"http://127.0.0.1:{self.client.port}/?token={TOKEN}")
        self.shown.get_by_role("application", name="Architecture").wait_for()
        if place:
            self.go(place)
        return self.shown

    def go(self, place: str) -> None:
        self.shown.goto(f"http://127.0.0.1:{self.client.port}/{place}")

    def cancels_after_a_reload(self, job: str, method: str) -> None:
        """A job that runs is found again after loading the page anew, and is cancelled there."""
        self.client.until(job, "running")
        self.shown.reload()
        self.shown.get_by_role("application", name="Architecture").wait_for()
        self.shown.get_by_role("button", name="Jobs").first.click()
        self.shown.get_by_role("button", name=f"Cancel {method}").click()
        assert self.client.until(job, "cancelled", "done")["state"] == "cancelled"

    def node(self, name: str) -> Any:
        """A node of the graph."""
        return self.shown.locator(f'[data-node="{name}"]')

    def close(self) -> None:
        self.context.close()
        assert not self.wrong


def pixels(shown: Any, image: Any) -> np.ndarray:
    """Of an <img>, as the browser has decoded it."""
    url = image.evaluate(
        """async image => {
            await image.decode();
            const canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
            canvas.getContext('2d').drawImage(image, 0, 0);
            return canvas.toDataURL('image/png');
        }"""
    )
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def read_from(chromium: Any, folder: Path) -> Iterator[tuple[Any, str]]:
    """A page of the browser, and the address of a folder on the web server of Python's standard library.

    What goes wrong in the page ends the test.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as host:
        threading.Thread(target=host.serve_forever, daemon=True).start()
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        wrong: list[str] = []
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)))
        page.on("response", lambda r: wrong.append(r.url) if r.status >= 400 else None)
        yield page, f"http://127.0.0.1:{host.server_port}/"
        page.close()
        host.shutdown()
    assert not wrong
