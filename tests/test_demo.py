"""The demo: what it claims is so, and its page stands alone in a real browser."""

from __future__ import annotations

import html as escaping
import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import inward.demo as demo
from helpers import inward
from inward import CallError, cli, load
from inward.methods.predict import predict
from inward.nets.trained import shipped_card
from inward.network.modes import one_thread
from inward.terminal import progress_bar

HEADINGS = [
    "Two networks of one build",
    "What they answer",
    "What their units look for",
    "What a class is to them",
    "Why this answer",
    "Where they are fragile",
    "With more room",
    "Do it yourself",
]


def made(out: Path, *files: Path) -> Path:
    with one_thread(), progress_bar() as bar:
        return demo.run(out, files, bar=bar).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with its photographs, of few steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "_STEPS", 4)
        patch.setattr(demo, "_UNITS", 2)
        patch.setattr(demo, "PHOTOGRAPHS", ("chelsea", "rocket"))
        return made(tmp_path_factory.mktemp("demo") / "demo")


@pytest.fixture(scope="module")
def html(folder: Path) -> str:
    return escaping.unescape((folder / "index.html").read_text(encoding="utf-8"))


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


def rows(html: str, number: int) -> list[list[str]]:
    """The body of a table of the page."""
    body = re.findall(r"<tbody>(.*?)</tbody>", html, re.S)[number]
    return [re.findall(r"<td[^>]*>([^<]*)", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]


def test_accuracies_are_those_of_the_cards(html: str) -> None:
    cards = [shipped_card(name)["figures"]["accuracy"] for name in ("normal", "robust")]
    told = [[a["what"], f"{a['accuracy']:.1%}", f"{b['accuracy']:.1%}"] for a, b in zip(*cards, strict=True)]
    assert rows(html, 0) == told
    assert [what.partition(" ")[0] for what, _, _ in told] == ["clean", "PGD-40", "AutoAttack"]


def test_smallest_changes_are_told_as_they_are(folder: Path, html: str) -> None:
    """The eps in the table fools the network, and a tenth of it does not, by the same attack from Python."""
    from inward import pgd, read

    found = rows(html, 1)
    assert [row[0] for row in found] == ["cat", "rocket"]
    files = [folder / "photographs" / f"{row[0]}.png" for row in found]
    for column, name in ((1, "normal"), (2, "robust")):
        net = load(f"inward/{name}", device="cpu")
        with one_thread():
            for file, row in zip(files, found, strict=True):
                eps = float(row[column].partition(" of 255")[0]) / 255
                image = read(file, net)
                # The table has two digits.
                assert bool(pgd(net, image, eps=eps * 1.06, loss="margin", eight_bit=False).success[0])
                assert not bool(pgd(net, image, eps=eps / 10, loss="margin", eight_bit=False).success[0])


def test_pictures_are_of_the_attack_that_the_page_tells(folder: Path) -> None:
    for name in ("normal", "robust"):
        told = json.loads((folder / f"{name}-attack" / "manifest.json").read_text())["parameters"]
        assert (told["steps"], told["loss"], told["stop"]) == (40, "margin", False)
        assert told["eps"] == pytest.approx(4 / 255)


def test_answers_are_the_networks(folder: Path, html: str) -> None:
    told = json.loads((folder / "robust-attack" / "manifest.json").read_text())
    net = load("inward/robust", device="cpu")
    from inward import read

    with one_thread():
        first = predict(net, read(folder / "robust-attack" / "original.png", net), top=1)[0][0]
    assert told["scores"]["answer_before" if "answer_before" in told["scores"] else "label"] == f"class:{first.index}"


def test_commands_on_the_page_parse(html: str) -> None:
    commands = re.findall(r"inward \S+ .*", html.rpartition("<pre")[2].partition("</code>")[0])
    assert len(commands) == 6
    for command in commands:
        _, _, rest, _ = cli.app.parse_known_args(shlex.split(command)[1:])
        assert rest == []


def test_results_beside_the_page(folder: Path) -> None:
    kinds = ("saliency", "integrated-gradients", "attack")
    twins = [f"{name}-{kind}" for name in ("normal", "robust") for kind in kinds]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        ["index.html", "photographs", "robust-class-0", "robust-stage4-0", *twins]
    )
    with one_thread():
        said = inward("rerun", folder / "robust-saliency", "--out", folder.parent / "again")
    assert said.status == 0, said.err
    assert "values: identical" in said.out or re.search(r"values: differs by at most \d\.\d+e-0[6-9]", said.out)


def test_page_stands_alone(chromium: Any, folder: Path) -> None:
    page, complaints, requests = opened(chromium, folder, viewport={"width": 1100, "height": 900})
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [(folder / "index.html").as_uri()]
    pictures = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.alt])")
    # Answers, four stages, two sheets of classes, two pictures with their reasons and attacks, and two turned.
    assert len(pictures) == 1 + 4 + 2 + 2 + 2 + 2
    assert all(complete and width > 0 and alt for complete, width, alt in pictures)
    assert page.eval_on_selector_all("h2", "all => all.map(h => h.textContent)") == HEADINGS
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


def test_page_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("my home page")
    with pytest.raises(CallError, match=r"index\.html is there and is not of a demo; give another --out"):
        made(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    assert (tmp_path / "index.html").read_text() == "my home page"


def test_more_pictures_than_there_is_room_for(tmp_path: Path) -> None:
    Image.new("RGB", (160, 130)).save(tmp_path / "one.png")
    with pytest.raises(CallError, match="room for 8 pictures, not 9"):
        made(tmp_path / "out", *[tmp_path / "one.png"] * 9)
    assert not (tmp_path / "out").exists()


def test_random_state_is_left_alone(folder: Path) -> None:
    """The twins come without drawing, so that what is random after a load is as it was before."""
    state = torch.get_rng_state()
    load("inward/normal", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
