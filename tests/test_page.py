"""The page in a real browser, against a real server: what a person does with it, and what it then shows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import inward
from inward.draw import to_picture
from inward.server.app import STATIC
from inward.site import Site
from tests.browsing import SIZES, Page, pixels, read_from
from tests.conftest import missing
from tests.serving import Client, serving

UNIT = "stage1.0/3"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if not (STATIC / "index.html").is_file():
        missing("the page is not built; make page")
    nets = [inward.load(f"inward/{name}") for name in ("normal", "robust")]
    with serving(nets, tmp_path_factory.mktemp("page")) as client:
        yield client


def test_from_the_architecture_to_what_a_channel_looks_for(page: Page) -> None:
    shown = page.enter()
    # By its name, as a person would who knows it.
    shown.keyboard.press("/")
    shown.get_by_role("combobox", name="Search for a point").fill("stage1.0")
    shown.keyboard.press("Enter")
    panel = shown.get_by_label("Selected point").filter(has_text="32 × 32 × 32").last
    panel.get_by_text("32 channels").first.wait_for()
    column = panel.get_by_role("region", name="inward/normal")
    tile = column.locator(f'[data-address="{UNIT}"]')
    tile.scroll_into_view_if_needed()
    picture = tile.locator("img")
    picture.wait_for(timeout=120_000)
    net = inward.load("inward/normal")
    wanted = np.asarray(to_picture(inward.visualize(net, [UNIT]).images[0], at_least=0))
    assert np.array_equal(pixels(shown, picture), wanted)
    tile.locator("a").click()
    shown.wait_for_url("**#/0/stage1.0/3*")
    shown.get_by_role("heading", name=UNIT).wait_for()
    large = shown.get_by_role("region", name="inward/normal").locator("figure img, img").first
    assert np.array_equal(pixels(shown, large), wanted)


def test_a_channel_is_opened_by_its_address_and_the_next_by_a_key(page: Page) -> None:
    shown = page.enter("#/1/stage1.0/3?image=coffee")
    shown.get_by_role("heading", name=UNIT).wait_for()
    answers = page.client.get("networks/1/ablation?image=coffee&address=stage1.0/3")
    column = shown.get_by_role("region", name="inward/robust")
    for when in ("before", "after"):
        first = answers[when][0]
        column.get_by_text(f"{100 * first['probability']:.1f} %").first.wait_for()
    shown.keyboard.press("]")
    shown.wait_for_url("**#/1/stage1.0/4?image=coffee")
    shown.get_by_role("heading", name="stage1.0/4").wait_for()


def test_a_photograph_is_given_explained_and_attacked(wide: Page, tmp_path: Path) -> None:
    shade = np.linspace(0, 255, 150 * 200).reshape(150, 200).astype(np.uint8)
    file = tmp_path / "my photograph.jpg"
    Image.fromarray(np.stack([shade, 255 - shade, shade // 2], 2)).save(file)
    shown = wide.enter("#/0?tab=explain")
    shown.locator('input[type="file"]').first.set_input_files(file)
    shown.get_by_text("my photograph.jpg").first.wait_for()
    (given,) = (p for p in wide.client.get("images") if p["name"] == "my photograph.jpg")
    shown.wait_for_url(f"**image={given['id']}*")

    def run(method: str, tab: str) -> dict[str, Any]:
        shown.goto(f"http://127.0.0.1:{wide.client.port}/#/0?tab={tab}&image={given['id']}")
        card = shown.get_by_role("article", name=method, exact=True)
        if method == "integrated-gradients":
            shown.get_by_role("checkbox", name=method, exact=True).click()
        card.wait_for()
        if method == "targeted-attack":
            card.get_by_placeholder("Search for a class").fill("class:church")
            shown.keyboard.press("Escape")
        card.get_by_role("button", name="Run").click()
        column = card.get_by_role("region", name=f"{method} of inward/normal")
        column.locator("img").first.wait_for(timeout=120_000)
        job = next(j for j in wide.client.get("jobs") if j["method"] == method and j["network"] == 0)
        return {"job": job, "column": column, "result": wide.client.get(f"results/{job['results']['']}")}

    found = run("integrated-gradients", "explain")
    assert found["job"]["image"] == given["id"]
    attack = run("targeted-attack", "attack")
    assert attack["job"]["options"]["target"] == "class:church"
    net = inward.load("inward/normal")
    alone = inward.targeted_attack(net, inward.read(file, net), target="class:church")
    scores = attack["result"]["manifest"]["scores"]
    assert scores["target"] == "class:4"
    assert scores["final"] == pytest.approx(alone[0].measures()["final"], rel=1e-6)
    assert attack["column"].locator("img").count() >= 3
    attack["column"].get_by_text("Reproduce").first.click()
    attack["column"].get_by_text("inward.targeted_attack(").first.wait_for()
    steps = wide.client.ask("GET", f"/api/results/{attack['result']['id']}/files/steps.json").json
    church = next(row for row in steps["classes"] if row["label"] == "church")["probabilities"]
    attack["column"].get_by_text("Probabilities by step").wait_for()
    attack["column"].get_by_text(f"{100 * church[0]:.1f} % to {100 * church[-1]:.1f} %").wait_for()
    # What the attack did to the channels of a layer is an order of them now.
    wide.go(f"#/0/stage2.1?image={given['id']}")
    column = shown.get_by_role("region", name="inward/normal")
    column.get_by_text("Sensitivity", exact=True).click()
    column.get_by_text("How much targeted-attack changed each channel").wait_for()
    changes = wide.client.get(f"networks/0/sensitivity?result={attack['result']['id']}&point=stage2.1")["changes"]
    most = max(range(len(changes)), key=changes.__getitem__)
    assert column.locator("[data-address]").first.get_attribute("data-address") == f"stage2.1/{most}"


def test_the_next_channel_is_the_next_of_the_order_that_was_chosen(wide: Page) -> None:
    shown = wide.enter("#/0/stage2.1?image=coffee")
    column = shown.get_by_role("region", name="inward/normal")
    column.get_by_text("Activation", exact=True).click()
    maxima = wide.client.get("networks/0/activations?image=coffee&point=stage2.1")["maxima"]
    first, second = sorted(range(len(maxima)), key=lambda unit: -maxima[unit])[:2]
    shown.goto(f"http://127.0.0.1:{wide.client.port}/#/0/stage2.1/{first}?image=coffee")
    shown.get_by_text(f"; 1 of {len(maxima)} by activation").wait_for()
    shown.keyboard.press("]")
    shown.wait_for_url(f"**#/0/stage2.1/{second}?image=coffee")


def test_several_methods_run_at_once_for_one_target_and_are_compared(wide: Page) -> None:
    shown = wide.enter("#/0?tab=explain&image=coffee")
    shown.get_by_role("checkbox", name="occlusion", exact=True).click()
    shown.get_by_role("combobox", name="Target of all").fill("class:4")
    shown.keyboard.press("Escape")
    shown.get_by_role("button", name="Run all 2").click()
    pictures = []
    for method in ("saliency", "occlusion"):
        column = shown.get_by_role("region", name=f"{method} of inward/normal")
        column.locator("img").first.wait_for(timeout=120_000)
        measures = column.get_by_label(f"Measures of {method}")
        assert measures.get_by_text("church (class:4)").count() == 1
        pictures.append(column.locator("img").first.bounding_box())
    assert {j["options"]["target"] for j in wide.client.get("jobs") if j["image"] == "coffee"} == {"class:4"}
    # What they found begins at one height, though their forms do not end at one.
    assert pictures[0]["y"] == pytest.approx(pictures[1]["y"], abs=1)
    assert pictures[0]["x"] < pictures[1]["x"]


def test_a_class_is_chosen_in_the_form_and_what_is_no_number_is_said(wide: Page) -> None:
    shown = wide.enter("#/0/stage2.1/5?tab=visualize")
    shown.get_by_role("checkbox", name="class-visualization", exact=True).click()
    card = shown.get_by_role("article", name="class-visualization", exact=True)
    card.get_by_text("Choose a class.").wait_for()
    # A class that is selected in the network is taken.
    wide.go("#/0/fc/3?tab=visualize")
    card.get_by_role("link", name="class:3").wait_for()
    card.get_by_role("combobox", name="Class").fill("unicorn")
    card.get_by_text("There is no class of this name; choose one of the list.").wait_for()
    card.get_by_role("combobox", name="Class").fill("class:4")
    shown.keyboard.press("Escape")
    steps = card.get_by_role("textbox", name="Steps")
    steps.fill("many")
    card.get_by_role("button", name="Run").click()
    card.get_by_text("Write a number.").wait_for()
    steps.fill("1e9")
    card.get_by_text("At most 5000.").wait_for()
    assert steps.input_value() == "1e9"
    steps.fill("2e0")
    card.get_by_role("button", name="Run").click()
    card.get_by_role("region", name="class-visualization of inward/normal").locator("img").first.wait_for(
        timeout=120_000
    )
    job = next(j for j in wide.client.get("jobs") if j["method"] == "class-visualization" and j["state"] == "done")
    assert (job["addresses"], job["options"]) == (["class:4"], {"steps": 2})


def test_the_size_of_a_change_has_a_slider_in_every_norm(wide: Page) -> None:
    shown = wide.enter("#/0?tab=attack&image=rocket")
    shown.get_by_role("checkbox", name="fgsm", exact=True).click()
    card = shown.get_by_role("article", name="fgsm", exact=True)
    card.get_by_role("slider", name="Eps in 255ths").focus()
    shown.keyboard.press("ArrowLeft")
    card.get_by_text("Eps: 7/255").wait_for()
    card.get_by_role("combobox", name="Norm").click()
    shown.get_by_role("option", name="l2").click()
    slider = card.get_by_role("slider", name="Eps in l2")
    # What was chosen in another norm means nothing here.
    assert slider.get_attribute("aria-valuenow") == "0.5"
    slider.focus()
    shown.keyboard.press("ArrowRight")
    card.get_by_role("button", name="Run").click()
    card.get_by_role("region", name="fgsm of inward/normal").locator("img").first.wait_for(timeout=120_000)
    job = next(j for j in wide.client.get("jobs") if j["method"] == "fgsm" and j["network"] == 0)
    assert job["options"] == {"norm": "l2", "eps": 0.55}


def test_addresses_as_in_python_lead_there_and_what_is_not_there_is_said(wide: Page) -> None:
    shown = wide.enter("#/0/class:4")
    shown.wait_for_url("**#/0/fc/4")
    shown.get_by_role("heading", name="fc/4").wait_for()
    shown.get_by_text("church").first.wait_for()
    wide.go("#/0/image")
    shown.wait_for_url("**#/0/input")
    wide.go("#/7/conv?image=nowhere")
    told = shown.get_by_role("alert")
    told.get_by_text("There is no network 7 here; this is inward/normal. There is no picture nowhere here;").wait_for()
    missed = wide.client.ask("GET", "/nosuch", headers={"Accept": "text/html"})
    assert (missed.status, missed.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b"There is no page at this address" in missed.body
    assert wide.client.ask("GET", "/nosuch").json["error"] == "there is no such page"


def test_a_module_is_unfolded_and_nodes_are_colored_by_their_time(page: Page) -> None:
    shown = page.enter()
    assert page.node("stage1.0.conv1").count() == 0
    page.node("stage1.0").dblclick()
    page.node("stage1.0.conv1").wait_for()
    shown.get_by_role("combobox", name="Color by").click()
    shown.get_by_role("option", name="Measured time").click()
    taken = page.client.get("networks/0/times")
    legend = shown.get_by_label("Legend")
    if page.size == SIZES["narrow"]:
        legend.get_by_text("Measured time").click()
    legend.get_by_text(" ms").first.wait_for()
    page.node("stage1.0.conv1").click()
    told = f"{1000 * taken['stage1.0.conv1']:#.2g}".removesuffix(".")
    shown.get_by_label("Selected point").get_by_text(f"{told} ms").first.wait_for()


def test_the_folder_is_looked_through_for_a_point(chromium: Any, tmp_path: Path, shared_data: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for file in sorted((shared_data / "imagenet-sample").glob("*.jpg"))[:6]:
        (folder / file.name).write_bytes(file.read_bytes())
    with serving([inward.load("inward/robust")], tmp_path / "out", folder=folder) as client:
        page = Page(chromium, client, SIZES["wide"])
        shown = page.enter(f"#/0/{UNIT}?image=cat")
        shown.get_by_role("button", name="Look through it").click()
        shown.get_by_role("img", name="Histogram of its activations").wait_for(timeout=120_000)
        told = client.get(f"networks/0/unit?address={UNIT}")["examples"]
        assert len(told) == 6
        patch = shown.get_by_alt_text(f"The part of {told[0]['name']} that excites it")
        seen = pixels(shown, patch.first)
        assert seen.std() > 0
        # Next time, and for the other channels of the point, it is there at once.
        shown.keyboard.press("]")
        shown.get_by_role("heading", name="stage1.0/4").wait_for()
        shown.get_by_role("img", name="Histogram of its activations").wait_for()
        page.close()


def test_a_file_that_is_no_picture_is_told(wide: Page, tmp_path: Path) -> None:
    file = tmp_path / "thesis.jpg"
    file.write_bytes(b"no picture at all")
    shown = wide.enter("#/0?tab=explain")
    shown.locator('input[type="file"]').first.set_input_files(file)
    shown.get_by_text("this is not a picture that can be read").first.wait_for()
    # The browser itself tells of the status 422 on its console.
    wide.wrong = [text for text in wide.wrong if "422" not in text]


def test_a_job_is_found_again_after_loading_the_page_anew_and_cancelled(wide: Page) -> None:
    wide.enter()
    # Of a method that no grid of channels asks for, so that there is one to cancel.
    long = wide.client.submit("class-visualization", addresses=["class:7"], options={"steps": 5000})
    wide.cancels_after_a_reload(long["id"], "class-visualization")


def test_the_scrollbar_of_the_list_of_jobs_lies_over_no_button(wide: Page) -> None:
    ask = {"method": "class-visualization", "options": {"steps": 5000}}
    for unit in range(10):
        job = wide.client.submit(**ask, addresses=[f"class:{unit}"])
        if unit < 9:
            wide.client.ask("DELETE", f"/api/jobs/{job['id']}")
    shown = wide.enter()
    shown.get_by_role("button", name="Jobs").first.click()
    button = shown.get_by_role("button", name="Cancel class-visualization")
    shown.get_by_label("Jobs", exact=True).last.hover()
    shown.locator('[data-mantine-scrollbar][data-state="visible"]').wait_for()
    places = button.evaluate(
        """button => {
            const { left, right, top, height } = button.getBoundingClientRect();
            return [left + 1, (left + right) / 2, right - 1].map(x =>
                button.contains(document.elementFromPoint(x, top + height / 2)));
        }"""
    )
    assert places == [True, True, True]
    button.click()
    assert wide.client.until(job["id"], "cancelled", "done")["state"] == "cancelled"


def test_without_the_link_and_without_a_server(chromium: Any, client: Client, tmp_path: Path) -> None:
    page = chromium.new_page()
    answer = page.goto(f"http://127.0.0.1:{client.port}/")
    assert answer.status == 401
    assert "needs the link that inward serve printed" in page.content()
    page.close()
    with serving([inward.load("inward/robust")], tmp_path) as other:
        found = Page(chromium, other, SIZES["wide"])
        shown = found.enter()
    shown.get_by_text("The server does not answer").wait_for(timeout=30_000)
    found.wrong.clear()
    found.close()


def test_without_a_stream_of_events_the_page_asks_from_time_to_time(wide: Page) -> None:
    wide.shown.route("**/api/events", lambda route: route.abort())
    shown = wide.enter("#/1/conv/9?image=cat")
    shown.get_by_text(" after 256 passes").first.wait_for(timeout=120_000)
    # The browser itself tells of the stream on the console.
    wide.wrong.clear()


def test_a_part_that_cannot_be_loaded_says_so_and_the_rest_stays(wide: Page) -> None:
    wide.shown.route("**/assets/PointPanel*.js", lambda route: route.abort())
    shown = wide.enter("#/0/conv")
    shown.get_by_text("A part of this page could not be loaded").wait_for()
    page_again = shown.get_by_role("button", name="Load the page again")
    assert shown.get_by_role("application", name="Architecture").is_visible()
    shown.unroute("**/assets/PointPanel*.js")
    page_again.click()
    shown.get_by_role("heading", name="conv", exact=True).wait_for()
    # The browser itself tells of the file, and React of the error, on the console.
    wide.wrong.clear()


def test_a_static_atlas_is_read_without_a_server_of_ours(chromium: Any, tmp_path: Path, client: Client) -> None:
    """Any web host will do: here that of Python's standard library."""
    out = tmp_path / "site"
    net = inward.load("inward/robust")
    Site(net, ["conv"], out, STATIC, {"steps": 2}).make(lambda *_: None)
    with read_from(chromium, out) as (page, address):
        page.goto(f"{address}#/0/conv/5")
        page.get_by_role("heading", name="conv/5").wait_for()
        score = inward.visualize(net, ["conv/5"], steps=2).final[0].item()
        page.get_by_text(f"Score {score:.3g}"[:9]).first.wait_for()
        page.keyboard.press("]")
        page.wait_for_url("**#/0/conv/6")
        page.get_by_role("link", name="conv", exact=True).first.click()
        page.get_by_text("32 channels").wait_for()
        # What computes is not there, and what has no pictures says so.
        assert page.get_by_text("Make pictures").count() == 0
        assert page.get_by_role("button", name="Run").count() == 0
        page.goto(f"{address}#/0/stage1.0.conv1")
        page.get_by_text("no pictures of this layer").wait_for()
