"""The demo: what it claims is so, and its page stands alone in a real browser."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import demo_folder, inward
from inward import CallError, cli, load
from inward.demo import run, train
from inward.methods.predict import predict
from inward.network.modes import one_thread


@pytest.fixture(scope="module")
def folder() -> Path:
    with one_thread():
        return demo_folder()


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def opened(browser: Any, folder: Path, **options: Any) -> tuple[Any, list[str], list[str]]:
    """The page, what it complained of, and what it asked for."""
    complaints: list[str] = []
    requests: list[str] = []
    page = browser.new_page(**options)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((folder / "index.html").as_uri())
    return page, complaints, requests


def test_accuracy_is_what_the_page_says(folder: Path, html: str) -> None:
    found = re.search(r"it reads ([\d.]+)% of the other 360 rightly", html)
    assert found is not None
    from sklearn.datasets import load_digits

    # The same digits, cut off without the demo's own functions.
    pixels, classes = load_digits(return_X_y=True)
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))[1437:]
    images = ((torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16 * 255).round() / 255)[order]
    net = load("inward/digits", weights=folder / "digits.safetensors", device="cpu")
    with one_thread():
        answers = [top[0].index for top in predict(net, images, top=1)]
    right = sum(a == b for a, b in zip(answers, classes[order.numpy()].tolist(), strict=True))
    assert f"{right / 360:.1%}" == f"{found[1]}%"
    assert right / 360 > 0.95


def test_attacks_are_told_as_they_are(folder: Path, html: str) -> None:
    rows = [re.findall(r"<td[^>]*>([^<]*)", row) for row in re.findall(r"<tr>(<td.*?)</tr>", html)]
    assert [row[0] for row in rows] == ["1", "3", "5", "8"]
    assert sum(row[2] == "yes" for row in rows) >= 3
    for digit, asked, success, _, bound, largest, _ in rows:
        assert float(largest.rstrip("%")) <= float(bound.rstrip("%"))
        # The caption of its picture says what the network reads.
        read = re.search(rf'alt="a {digit}, read as (\d)"', html)
        assert read is not None
        assert (read[1] == asked) == (success == "yes")
    told = json.loads((folder / "attack" / "manifest.json").read_text())["scores"]
    assert ("yes" if told["success"] else "no", str(told["steps"])) == (rows[0][2], rows[0][3])


def test_commands_on_the_page_parse(html: str) -> None:
    import html as escaping

    commands = re.findall(r"inward \S+ .*", escaping.unescape(html.rpartition("<pre")[2].partition("</code>")[0]))
    assert len(commands) == 5
    for command in commands:
        _, _, rest, _ = cli.app.parse_known_args(shlex.split(command)[1:])
        assert rest == []


def test_results_beside_the_page(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == [
        "attack",
        "class-0",
        "digits.safetensors",
        "index.html",
        "saliency",
    ]
    with one_thread():
        said = inward("rerun", folder / "saliency", "--out", folder.parent / "again")
    assert said.status == 0, said.err
    assert "values: identical" in said.out or re.search(r"values: differs by at most \d\.\d+e-0[67]", said.out)


def test_page_stands_alone(chromium: Any, folder: Path) -> None:
    page, complaints, requests = opened(chromium, folder, viewport={"width": 1100, "height": 900})
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [(folder / "index.html").as_uri()]
    pictures = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
    assert len(pictures) == 11
    assert all(complete and width > 0 and alt for complete, width, alt in pictures)
    headings = page.eval_on_selector_all("h2", "all => all.map(h => h.textContent)")
    assert headings == [
        "The network",
        "What its units look for",
        "Why this answer",
        "Where it is fragile",
        "Do it yourself",
    ]
    for link in page.query_selector_all("nav a"):
        assert page.query_selector(link.get_attribute("href")) is not None
    page.close()


@pytest.mark.parametrize("width", [320, 390, 1100, 1920])
def test_page_fits(chromium: Any, folder: Path, width: int) -> None:
    page, _, _ = opened(chromium, folder, viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    # A caption or a picture that is cut off would not make the page wider.
    assert page.evaluate(
        "[...document.querySelectorAll('p, figcaption, h1, h2')].every(e => e.scrollWidth <= e.clientWidth + 1)"
    )
    page.close()


def test_page_in_the_dark(chromium: Any, folder: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        page, complaints, _ = opened(chromium, folder, color_scheme=scheme)
        assert complaints == []
        styles = "e => { const s = getComputedStyle(e); return [s.backgroundColor, s.color] }"
        shades[scheme] = [_brightness(color) for color in page.eval_on_selector("body", styles)]
        page.close()
    (light_back, light_ink), (dark_back, dark_ink) = shades["light"], shades["dark"]
    assert light_back - light_ink > 150
    assert dark_ink - dark_back > 150


def _brightness(color: str) -> float:
    return sum(float(v) for v in re.findall(r"[\d.]+", color)[:3]) / 3


def test_training_follows_from_the_seed() -> None:
    from rich.progress import Progress

    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(64) % 10
    state = torch.get_rng_state()
    with one_thread(), Progress(disable=True) as bar:
        first, second, other = (train(images, labels, seed, bar).state_dict() for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])


def test_page_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(CallError, match=r"index\.html is there and is not of a demo; give another --out"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "my home page"
