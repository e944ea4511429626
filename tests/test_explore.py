"""The page in a cell: a server in this process, which browsers may show inside of another page."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

import inward
from inward.explore import Explorer


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    net = inward.Network.of(module.eval(), size=(24, 32))
    found = inward.explore(net, out=tmp_path_factory.mktemp("explore"), height=500)
    yield found
    found.close()
    assert not found._thread.is_alive()


def status(address: str, **headers: str) -> int:
    try:
        return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_the_cell_shows_the_page_without_a_cookie(explorer: Explorer) -> None:
    shown = explorer._repr_html_()
    assert 'height="500"' in shown
    source = re.search(r'src="([^"]+)"', shown)
    assert source is not None
    assert source[1] == explorer.link
    with urllib.request.urlopen(explorer.link, timeout=30) as page:
        assert "frame-ancestors" not in page.headers["content-security-policy"]
    assert status(f"{explorer.link}api/session") == 200
    # As a browser asks that shows it inside of the page of a notebook.
    assert status(explorer.link, **{"Sec-Fetch-Site": "cross-site", "Referer": "http://localhost:8888/"}) == 200


def test_a_proxy_of_another_host_and_origin_brings_the_page_as_well(explorer: Explorer) -> None:
    """As Colab's does, and the forwarded ports of an editor."""
    away = {"Host": "abc-80-colab.example", "Origin": "https://abc-80-colab.example", "Sec-Fetch-Site": "same-origin"}
    ask = json.dumps({"method": "saliency", "image": "cat", "options": {"target": "class:1"}}).encode()
    for body, wanted in ((None, 200), (ask, 202)):
        headers = away | {"Content-Type": "application/json"}
        address = f"{explorer.link}api/{'jobs' if body else 'session'}"
        with urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=30) as found:
            assert found.status == wanted
    base = "{0.scheme}://{0.netloc}".format(urlsplit(explorer.link))
    assert status(f"{base}/api/session", **away) == 421


def test_without_the_link_there_is_nothing(explorer: Explorer) -> None:
    base = "{0.scheme}://{0.netloc}".format(urlsplit(explorer.link))
    assert status(f"{base}/api/session") == 401
    assert status(f"{base}/t/{'x' * 32}/api/session") == 401
    assert status(f"{base}/t/") == 401
    assert status(explorer.link.rstrip("/")[:-1] + "/api/session") == 401
    assert status(f"{base}/api/session", Origin="http://evil.example") == 403
    assert status(f"{explorer.link}../../api/session") == 404


def test_a_wrong_call_is_one_sentence(tmp_path: Path) -> None:
    net = inward.Network.of(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()).eval(), size=8)
    with pytest.raises(inward.CallError, match="1 pixel high or more"):
        inward.explore(net, height=0)
    with pytest.raises(inward.CallError, match="no folder"):
        inward.explore(net, images=tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(inward.InwardError, match="cannot be written"):
        inward.explore(net, out=tmp_path / "file")


def test_the_network_is_left_as_it_was(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    explorer = inward.explore(inward.Network.of(module, size=(8, 10)), out=tmp_path)
    assert status(f"{explorer.link}api/networks/0/answers?image=cat") == 200
    explorer.close()
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(explorer.link, timeout=5)
