"""What a server refuses: other sites, other names, no token, too much, too slow, paths; and that it goes on after."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image

import inward
from inward.cli import main
from inward.serve_command import hosts_of, link
from inward.server import connections
from inward.server.connections import WAITING
from tests.serving import TOKEN, Client, serving

_ALL = "0.0.0.0"  # noqa: S104 - what has to be refused


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with serving([inward.load("inward/robust")], tmp_path_factory.mktemp("serve"), slow=1.0) as client:
        yield client


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    held = io.BytesIO()
    picture = Image.effect_noise((width, height), 90) if noise else Image.new("L", (width, height))
    picture.save(held, "PNG")
    return held.getvalue()


def test_the_link_gives_the_token_to_the_browser_and_not_to_the_address_bar(client: Client) -> None:
    entered = client.ask("GET", "/?token=" + TOKEN, headers={"Cookie": None})
    assert (entered.status, entered.headers["location"]) == (303, "/")
    cookie = entered.headers["set-cookie"]
    assert cookie.startswith(f"inward-{client.port}=")
    assert "HttpOnly" in cookie
    # Strict would not be sent to where a link on another page leads.
    assert "samesite=lax" in cookie.lower()
    assert client.ask("GET", "/?token=another", headers={"Cookie": None}).status == 401


@pytest.mark.parametrize("path", ["/", "/api/session", "/api/openapi.json", "/api/jobs", "/assets/x.js", "/nothing"])
def test_without_the_token_there_is_nothing(client: Client, path: str) -> None:
    for cookie in (None, "", f"inward-{client.port}=wrong", "inward-1=" + TOKEN, "\xff=;;=\x01"):
        found = client.ask("GET", path, headers={"Cookie": cookie})
        assert found.status == 401
        assert found.json == {"error": "this page needs the link that inward serve printed"}


def test_other_names_and_other_sites_are_refused(client: Client) -> None:
    for host in ("evil.example", f"evil.example:{client.port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert client.ask("GET", "/api/session", headers={"Host": host}).status == 421, host
    assert client.ask("GET", "/api/session", headers={"Host": f"localhost:{client.port}"}).status == 200
    own = f"http://127.0.0.1:{client.port}"
    others = ("http://evil.example", f"http://localhost:{client.port}", "null", f"{own}.evil.example")
    for origin in (*others, "http://[", "", own.replace("http:", "https:")):
        for method, path in (("GET", "/api/session"), ("POST", "/api/jobs"), ("GET", "/?token=" + TOKEN)):
            assert client.ask(method, path, headers={"Origin": origin}).status in (401, 403), origin
    assert client.ask("GET", "/api/session", headers={"Origin": own}).status == 200
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert client.ask("GET", "/api/session", headers={"Sec-Fetch-Site": site}).status == status


def test_every_answer_says_what_a_page_may_load(client: Client) -> None:
    for path in ("/api/session", "/", "/api/nothing", "/api/images/cat/picture.png"):
        headers = client.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "*" not in policy
    first, second = (client.ask("GET", "/").headers["content-security-policy"] for _ in range(2))
    assert first != second


def test_too_much_is_refused_and_what_is_no_picture(client: Client) -> None:
    big = os.urandom(30_000_000)
    assert client.ask("POST", "/api/images", big).json == {"error": "this is more than 25 MiB; send less"}
    # Also where it does not say how long it is.
    chunked = {"Transfer-Encoding": "chunked"}
    body = b"".join(b"100000\r\n" + big[:0x100000] + b"\r\n" for _ in range(27)) + b"0\r\n\r\n"
    assert client.ask("POST", "/api/images", body, chunked).status == 413
    assert client.ask("POST", "/api/jobs", {"method": "x" * 70_000}).status == 413
    for data, told in (
        (b"", "not a picture that can be read"),
        (b"GIF89a", "not a picture that can be read"),
        (Path("/etc/passwd").read_bytes(), "not a picture that can be read"),
        (png(300, 200, noise=True)[:-4000], "cannot be read whole"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture that can be read"),
    ):
        found = client.ask("POST", "/api/images", data)
        assert found.status == 422
        assert told in found.json["error"]
    # Few bytes, many pixels.
    bomb = client.ask("POST", "/api/images", png(9000, 9000))
    assert (bomb.status, bomb.json["error"]) == (413, "this picture has 81 megapixels, over the 50 that are taken")


def test_pictures_as_cameras_write_them(client: Client) -> None:
    """JPEGs with a second picture inside; 16-bit gray, as PNG and as PGM; their thumbnails are as bright."""
    held = io.BytesIO()
    first = Image.new("RGB", (40, 30), (200, 100, 50))
    first.save(held, "MPO", save_all=True, append_images=[first])
    deep = np.full((20, 30), 60000, dtype=np.uint16)
    gray = io.BytesIO()
    Image.fromarray(deep).save(gray, "PNG")
    pgm = b"P5\n30 20\n65535\n" + deep.astype(">u2").tobytes()
    for data, color in ((held.getvalue(), (200, 100, 50)), (gray.getvalue(), 60000 / 257), (pgm, 60000 / 257)):
        given = client.ask("POST", "/api/images", data)
        assert given.status == 201, given.body
        shown = client.ask("GET", f"/api/images/{given.json['id']}/picture.png")
        assert shown.status == 200, shown.body
        mean = np.asarray(Image.open(io.BytesIO(shown.body)).convert("RGB"), dtype=float).mean((0, 1))
        np.testing.assert_allclose(mean, np.broadcast_to(color, 3), atol=3)


def test_a_thread_of_pixels_is_not_enlarged(client: Client) -> None:
    """One pixel wide and 60,000 tall, it would be 224 wide and 13 million tall."""
    given = client.ask("POST", "/api/images", png(1, 60_000))
    began = time.monotonic()
    assert client.ask("GET", f"/api/images/{given.json['id']}/picture.png?network=0").status == 200
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(client.get(f"networks/0/answers?image={given.json['id']}")["top"]) > 0
    # Kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert time.monotonic() - began < 20


def test_no_path_reaches_the_disk(client: Client) -> None:
    job = client.done("saliency", image="cat", options={"target": "class:1"})
    name = job["results"][""]
    for path in (
        *(
            f"/api/results/{name}/files/{file}"
            for file in ("../../images", "..%2F..%2Fsamples%2Fcat.png", "%2Fetc%2Fpasswd")
        ),
        *(f"/api/results/{each}" for each in ("..", "..%2Fsamples", "%2e%2e%2fsamples", name[:-1], name.upper())),
        *(f"/api/images/{each}/picture.png" for each in ("..%2Fcat", "%2Fetc%2Fpasswd", "nobody")),
        *("/../pyproject.toml", "/%2e%2e/app.py", "/..%2fapp.py", "/assets/..%2f..%2fapp.py"),
    ):
        found = client.ask("GET", path)
        assert found.status in (404, 422), path
        assert set(found.json) == {"error"}
    assert client.ask("GET", f"/api/results/{name}/files/manifest.json").status == 200


def connected(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=30)


def head(client: Client, path: str, length: int) -> bytes:
    return (
        f'POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nCookie: inward-{client.port}="{TOKEN}"\r\n'
        f"Content-Type: image/png\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_a_browser_that_dies_or_dawdles_in_the_middle_of_an_upload_holds_nothing(client: Client) -> None:
    before = client.get("images")
    with connected(client) as killed:
        killed.sendall(head(client, "/api/images", 100_000) + b"half")
        killed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with connected(client) as slow:
        slow.sendall(head(client, "/api/images", 100_000) + b"half")
        # In its second it is not answered, and others are.
        assert client.get("session")["networks"]
        answer = slow.recv(65536)
    assert b" 408 " in answer.partition(b"\r\n")[0]
    assert client.get("images") == before


@pytest.mark.parametrize("sent", [b"", b"GET /api/session HTTP/1.1\r\nHost: "])
def test_many_idle_connections_hold_nothing(client: Client, sent: bytes) -> None:
    """More than wait at once: the oldest makes room, and whoever asks is answered."""
    idle = [connected(client) for _ in range(WAITING + 100)]
    try:
        for each in idle:
            with contextlib.suppress(OSError):
                each.sendall(sent)
        assert client.get("session")["networks"]
        idle[0].settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert idle[0].recv(1) == b""
    finally:
        for each in idle:
            each.close()
    assert client.get("session")["networks"]


def test_a_request_that_does_not_come_is_closed(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    monkeypatch.setattr(connections, "HEAD", 0.5)
    for sent in (b"", b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "):
        with connected(client) as slow:
            slow.sendall(sent)
            slow.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert slow.recv(1) == b""


def test_a_long_answer_outlives_what_a_request_may_take(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    """A stream of events is no connection that is waited for."""
    monkeypatch.setattr(connections, "HEAD", 0.3)
    with connected(client) as open_stream:
        cookie = f'Cookie: inward-{client.port}="{TOKEN}"'
        asked = f"GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n{cookie}\r\n\r\n"
        open_stream.sendall(asked.encode())
        assert b" 200 " in open_stream.recv(4096)
        time.sleep(1)
        client.done("saliency", image="cat", options={"target": "class:3"})
        open_stream.settimeout(10)
        assert b"saliency" in open_stream.recv(1 << 16)


def test_what_is_no_http_is_refused(client: Client) -> None:
    with connected(client) as odd:
        odd.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600) + b"\r\n\r\n")
        assert b"400" in odd.recv(4096).partition(b"\r\n")[0]
    with connected(client) as long:
        long.sendall(b"GET /" + b"a" * 70_000)
        assert b"400" in long.recv(4096).partition(b"\r\n")[0]
    assert client.get("session")["networks"]


def test_a_full_disk_is_told(client: Client, tmp_path: Path) -> None:
    """``/dev/full`` is no folder; a file where the folder should be refuses writing as well."""
    net = inward.load("inward/robust")
    with serving([net], tmp_path / "out") as client:
        (tmp_path / "out" / "results").write_text("in the way")
        job = client.submit("saliency", image="cat", options={"target": "class:1"})
        told = client.until(job["id"], "failed", "done")
        assert told["state"] == "failed"
        assert "cannot be written" in told["error"]
        (tmp_path / "out" / "images").write_text("in the way")
        given = client.ask("POST", "/api/images", png(30, 20))
        assert given.status == 507
        assert "cannot be kept" in given.json["error"]
    (tmp_path / "file").write_text("")
    with pytest.raises(inward.InwardError, match="give another --out"), serving([net], tmp_path / "file"):
        pass


def test_names_of_a_server() -> None:
    assert hosts_of("127.0.0.1", 80) >= {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}
    assert hosts_of("::1", 9) == {"[::1]:9", "127.0.0.1:9", "localhost:9"}
    assert hosts_of("10.0.0.7", 9) == {"10.0.0.7:9"}
    assert "127.0.0.1:9" in hosts_of(_ALL, 9)
    assert link(_ALL, 9, "t") == "http://127.0.0.1:9/?token=t"
    assert link("::1", 9, "t") == "http://[::1]:9/?token=t"


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--host", _ALL], 2, "others may reach 0.0.0.0; add --anywhere if that is meant"),
        (["--port", "70000"], 2, "a port is a number from 0 to 65535, not 70000"),
        (["--images", "nowhere"], 2, "there is no folder nowhere"),
        (["--compare", "inward/robust"], 2, "name the network that inward/robust is compared with"),
        (["inward/normal", "--compare", "inward/inception_v1"], 2, "give --compare-weights FILE"),
        (["--host", "no.such.host.invalid", "--anywhere"], 2, "there is no address no.such.host.invalid"),
    ],
)
def test_a_wrong_call_is_one_sentence(
    words: list[str], status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--no-browser", *words]) == status
    told = capsys.readouterr().err
    assert sentence in told
    assert len(told.splitlines()) == 1


def test_a_port_in_use_is_told(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--no-browser", "--port", str(client.port)]) == 1
    told = capsys.readouterr().err
    assert f"port {client.port} of 127.0.0.1 cannot be used" in told
    assert "give another --port" in told


def test_the_command_prints_a_link_that_works_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "inward", "serve", "inward/robust", "--no-browser", "--port", "0", "--out", "out"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        try:
            assert address.hostname == "127.0.0.1"
            client = Client(address.port or 0)
            entered = client.ask("GET", f"/?{address.query}", headers={"Cookie": None})
            cookie = entered.headers["set-cookie"].partition(";")[0]
            assert parse_qs(address.query)["token"][0] in cookie
            told = client.ask("GET", "/api/session", headers={"Cookie": cookie}).json
            assert [net["name"] for net in told["networks"]] == ["inward/robust"]
            assert client.ask("GET", "/api/session").status == 401
        finally:
            process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, told = process.communicate(timeout=60)
        assert time.monotonic() - started < 30
    assert process.returncode == 0
    assert "Traceback" not in told
