"""Data sets from where they are published: fetched once, checked, and resumed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from inward.data.fetch import fetch
from inward.errors import InwardError

CONTENT = bytes(range(256)) * 4000


class Serving(BaseHTTPRequestHandler):
    """Gives a file from where it is asked for; the first time it breaks off in the middle."""

    asked: list[str | None]
    cut = False

    def do_GET(self) -> None:
        told = self.headers.get("Range")
        type(self).asked.append(told)
        first = int(told[6:-1]) if told else 0
        self.send_response(206 if told else 200)
        self.send_header("Content-Length", str(len(CONTENT) - first))
        self.end_headers()
        rest = CONTENT[first:]
        self.wfile.write(rest[: len(rest) // 2] if type(self).cut else rest)
        type(self).cut = False

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is served here is not asked of a proxy."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[tuple[str, type[Serving]]]:
    kind = type("Own", (Serving,), {"asked": [], "cut": False})
    made = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}/", kind
    made.shutdown()
    made.server_close()


CHECKSUM = f"md5:{md5(CONTENT).hexdigest()}"  # noqa: S324


def test_a_file_is_fetched_once(
    server: tuple[str, type[Serving]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, kind = server
    for _ in range(2):
        assert fetch(url, "set.gz", CHECKSUM, tmp_path).read_bytes() == CONTENT
    assert kind.asked == [None]
    # Pooch alone would write a line of its own between the bars.
    assert capfd.readouterr() == ("", "")


def test_a_fetch_goes_on_where_it_broke_off(server: tuple[str, type[Serving]], tmp_path: Path) -> None:
    url, kind = server
    kind.cut = True
    with pytest.raises(InwardError, match=r"set\.gz cannot be fetched from http://127"):
        fetch(url, "set.gz", CHECKSUM, tmp_path)
    told: list[tuple[str, int, int | None]] = []
    again = fetch(url, "set.gz", CHECKSUM, tmp_path, on_bytes=lambda *now: told.append(now))
    assert again.read_bytes() == CONTENT
    # Counted from what was there already.
    assert told[0][1] > len(CONTENT) // 2
    assert told[-1] == ("set.gz", len(CONTENT), len(CONTENT))
    first, second = kind.asked
    assert first is None
    # What came in whole chunks of 64 KiB is not asked for again.
    assert second == f"bytes={len(CONTENT) // 2 // 2**16 * 2**16}-"


def test_another_checksum_is_refused(server: tuple[str, type[Serving]], tmp_path: Path) -> None:
    with pytest.raises(InwardError, match="has another checksum; it is damaged or was exchanged"):
        fetch(server[0], "set.gz", "md5:" + "0" * 32, tmp_path)
    assert not (tmp_path / "set.gz").exists()
    assert fetch(server[0], "set.gz", CHECKSUM, tmp_path).read_bytes() == CONTENT


def test_offline_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InwardError, match=r"^set\.gz cannot be fetched from http://127\.0\.0\.1:9/ \(.*\); go online"):
        fetch("http://127.0.0.1:9/", "set.gz", CHECKSUM, tmp_path)
