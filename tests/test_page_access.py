"""What a screen reader and a keyboard find: axe, and a walk by keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import inward
from tests.browsing import SIZES, Page
from tests.conftest import ROOT, missing
from tests.serving import Client, serving

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
VIEWS = ["", "#/0/conv", "#/0/stage1.0/3?image=cat", "#/0?image=cat&tab=explain", "#/0?image=cat&tab=attack"]
VIEWS += ["#/0?image=cat&tab=style", "#/0/no-such-point"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if not AXE.is_file():
        missing("axe is not installed; make page")
    nets = [inward.load(f"inward/{name}") for name in ("normal", "robust")]
    with serving(nets, tmp_path_factory.mktemp("page")) as client:
        client.done("targeted-attack", image="cat", options={"target": "class:church", "steps": 5})
        client.done("feature-visualization", addresses=["stage1.0/3"], options={})
        yield client


def problems(shown: Any) -> list[str]:
    """What axe calls serious or critical, with the first place of each."""
    shown.evaluate(AXE.read_text(encoding="utf-8"))
    found = shown.evaluate("() => axe.run(document)")
    assert len(found["passes"]) > 10
    bad = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {rule['nodes'][0]['html'][:160]}" for rule in bad]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_serious_problem(chromium: Any, client: Client, size: str, scheme: str) -> None:
    page = Page(chromium, client, SIZES[size])
    page.shown.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    shown, found = page.enter(), {}
    for view in VIEWS:
        page.go(view)
        # Long enough for what a view reads; what is still to come then, axe looks at as it is.
        shown.wait_for_timeout(700)
        found[view] = problems(shown)
    assert found == {view: [] for view in VIEWS}
    page.go("#/0/conv")
    shown.get_by_role("button", name="Jobs").first.click()
    shown.get_by_role("dialog", name="Jobs").wait_for()
    assert problems(shown) == []
    page.close()


def test_axe_would_find_one(chromium: Any, client: Client) -> None:
    page = Page(chromium, client, SIZES["wide"])
    shown = page.enter()
    shown.evaluate("document.querySelector('header').append(document.createElement('button'))")
    assert any("button-name" in problem for problem in problems(shown))
    page.close()


def test_keys_alone_lead_from_the_graph_to_a_channel(chromium: Any, client: Client, tmp_path: Path) -> None:
    page = Page(chromium, client, SIZES["wide"])
    shown = page.enter()
    graph = shown.get_by_role("application", name="Architecture")
    page.node("conv").wait_for()
    graph.focus()
    shown.keyboard.press("ArrowDown")
    shown.keyboard.press("ArrowDown")
    shown.keyboard.press("Enter")
    shown.get_by_role("heading", name="conv", exact=True).wait_for()
    assert shown.url.split("#")[1].startswith("/0/conv")
    page.close()
