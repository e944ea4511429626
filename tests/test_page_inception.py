"""The page with a real network of ImageNet: Inception v1. Slow: pictures of its channels take their time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inward
from inward.draw import to_picture
from inward.server.app import STATIC
from inward.site import Site
from tests.browsing import Page, pixels, read_from
from tests.serving import Client, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
UNIT = "mixed3a.conv1x1/7"


@pytest.fixture(scope="module")
def net(shared_data: Path) -> inward.Network:
    weights = next((shared_data / "weights").glob("inception_v1*.safetensors"))
    return inward.load("inward/inception_v1", weights=weights)


@pytest.fixture(scope="module")
def client(net: inward.Network, tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Client]:
    with serving([net], tmp_path_factory.mktemp("page")) as client:
        yield client


def test_a_module_is_unfolded_and_a_channel_pictured(page: Page, net: inward.Network) -> None:
    shown = page.enter()
    page.node("mixed3a").dblclick()
    page.node("mixed3a.conv3x3").or_(page.node("mixed3a.conv5x5")).first.wait_for()
    # A branch of a phone's graph can lie beside the screen; a search brings it there.
    shown.get_by_role("combobox", name="Search for a point").fill("mixed3a.conv1x1")
    shown.keyboard.press("Enter")
    page.node("mixed3a.conv1x1").wait_for()
    tile = shown.locator(f'[data-address="{UNIT}"]')
    tile.scroll_into_view_if_needed()
    if not shown.get_by_label("Make pictures").is_checked():
        shown.get_by_text("Make pictures").click()
    picture = tile.locator("img")
    picture.wait_for(timeout=1_200_000)
    wanted = np.asarray(to_picture(inward.visualize(net, [UNIT]).images[0], at_least=0))
    assert np.array_equal(pixels(shown, picture), wanted)


def test_a_photograph_is_explained_and_attacked(page: Page, net: inward.Network, shared_data: Path) -> None:
    file = next((shared_data / "imagenet-sample").glob("*goldfish.jpg"))
    shown = page.enter("#/0?tab=explain")
    shown.locator('input[type="file"]').first.set_input_files(file)
    shown.get_by_text(file.name).first.wait_for()
    given = next(p["id"] for p in page.client.get("images") if p["name"] == file.name)
    image = inward.read(file, net)
    best = net.probabilities(net(image))[0].max(0)
    shown.get_by_text(f"{100 * best.values:.1f} %").first.wait_for()

    def run(tab: str, method: str) -> dict[str, Any]:
        page.go(f"#/0?tab={tab}&image={given}")
        card = shown.get_by_role("article", name=method, exact=True)
        if card.count() == 0:
            shown.get_by_role("checkbox", name=method, exact=True).or_(shown.get_by_label("Add a method")).first.click()
            if card.count() == 0:
                shown.get_by_role("option", name=method, exact=True).click()
        if method == "targeted-attack":
            card.get_by_placeholder("Search for a class").fill("class:ostrich")
            shown.keyboard.press("Escape")
        card.get_by_role("button", name="Run").click()
        card.locator("img").first.wait_for(timeout=1_200_000)
        job = next(j for j in page.client.get("jobs") if j["method"] == method and j["state"] == "done")
        return page.client.get(f"results/{job['results']['']}")

    explained = run("explain", "integrated-gradients")["manifest"]["scores"]
    alone = inward.integrated_gradients(net, image)[0].measures()
    assert explained["score"] == pytest.approx(alone["score"], rel=1e-5)
    attacked = run("attack", "targeted-attack")["manifest"]["scores"]
    assert attacked["success"] is True
    assert net.resolve(attacked["answer"]).unit == net.resolve("class:ostrich").unit
    shown.get_by_text("Probabilities by step").first.wait_for()


def test_a_job_is_found_again_and_cancelled_and_a_channel_has_its_address(wide: Page, net: inward.Network) -> None:
    shown = wide.enter()
    long = wide.client.submit("class-visualization", addresses=["class:7"], options={"steps": 5000})
    wide.cancels_after_a_reload(long["id"], "class-visualization")
    wide.go("#/0/conv2_reduce/9")
    shown.get_by_role("heading", name="conv2_reduce/9").wait_for()
    shown.get_by_text(" after 256 passes").first.wait_for(timeout=1_200_000)
    wanted = np.asarray(to_picture(inward.visualize(net, ["conv2_reduce/9"]).images[0], at_least=0))
    assert np.array_equal(pixels(shown, shown.get_by_alt_text("feature-visualization").first), wanted)
    # The class layer has names.
    wide.go("#/0/fc/281")
    shown.get_by_text(net.label(281), exact=True).first.wait_for()
    wide.go("#/0/fc/1000")
    shown.get_by_text("There is no such channel in fc; it has 1000, 0 to 999.").wait_for()


def test_a_static_atlas_of_it(chromium: Any, tmp_path: Path, net: inward.Network) -> None:
    out = tmp_path / "site"
    Site(net, ["conv2_reduce"], out, STATIC, {"steps": 2}).make(lambda *_: None)
    with read_from(chromium, out) as (page, address):
        page.goto(f"{address}#/0/conv2_reduce/63")
        page.get_by_role("heading", name="conv2_reduce/63").wait_for()
        page.get_by_role("img", name="What channel 63 of conv2_reduce looks for").wait_for()
        page.get_by_role("link", name="conv2_reduce", exact=True).first.click()
        page.get_by_text("64 channels").wait_for()
        # What was selected is brought into sight first; a search finds what is folded away.
        page.get_by_role("combobox", name="Search for a point").fill("mixed3a.conv3x3")
        page.keyboard.press("Enter")
        page.locator('[data-node="mixed3a.conv3x3"]').or_(
            page.locator('[data-node="mixed3a.conv5x5"]')
        ).first.wait_for()
