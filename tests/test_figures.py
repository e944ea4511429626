"""Which pictures an attribution has, what they show, and what is said below them."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import inward
from drawn import pixels
from helpers import conv_net, network
from inward import draw, figures
from inward.columns.objectives import ClassScore
from inward.draw import lettering
from inward.network import Network
from inward.results import Attribution
from lettered import Written, listened
from same import images, seeded

SIZE = (9, 7)

pytestmark = pytest.mark.usefixtures("single_thread")


class Enlarging(nn.Module):
    """A grid of twice the image's size, axes that are no grid, a grid of one place, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2.0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.mixed = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 30)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.mixed(self.conv(self.up(x)).reshape(-1, 4, 12, 21))
        return self.fc(self.pool(mixed).flatten(1))


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE, labels=["tench", "American Staffordshire terrier", "c", "d", "e"])


@pytest.fixture(scope="module")
def enlarging() -> Network:
    return network(seeded(Enlarging), SIZE)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    return listened(monkeypatch)


def result_of(net: Network, *, at: str | None = None, count: int = 1, **changes: Any) -> Attribution:
    """A saliency map, with what is changed of it."""
    made = inward.saliency(net, images(count, 3, *SIZE), target="class:1", at=at)
    method = changes.pop("method", made.record.method)
    return dataclasses.replace(made, record=dataclasses.replace(made.record, method=method), **changes)


def values_of(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and bool((pixels(first) == pixels(second)).all())


def test_a_sensitivity_is_shown_by_its_size_and_by_its_sign(net: Network) -> None:
    values = values_of(1, 3, *SIZE)
    result = result_of(net, values=values, kind="sensitivity")
    found = figures.figures(result)
    assert list(found) == ["overlay.png", "map.png", "signed.png", "original.png"]
    title = "saliency of American Staffordshire terrier (class:1)"
    size, below = values[0].abs().amax(0), figures.caption(result)
    wanted = draw.heat_map(size, signed=False, title=f"{title}: largest |value| over the channels", caption=below)
    assert same(found["map.png"], wanted)
    wanted = draw.heat_map(values[0].sum(0), signed=True, title=f"{title}: sum over the channels", caption=below)
    assert same(found["signed.png"], wanted)
    wanted = draw.overlay(result.images[0], size, signed=False, title=title, caption=below)
    assert same(found["overlay.png"], wanted)
    assert same(found["original.png"], draw.to_picture(result.images[0]))


@pytest.mark.parametrize(("kind", "signed"), [("contribution", True), ("amount", False)])
def test_contributions_diverge_around_zero_and_amounts_do_not(net: Network, kind: Any, signed: bool) -> None:
    values = values_of(1, 3, *SIZE) if signed else values_of(1, 3, *SIZE).abs()
    result = result_of(net, values=values, kind=kind)
    found = figures.figures(result)
    assert list(found) == ["overlay.png", "map.png", "original.png"]
    title = "saliency of American Staffordshire terrier (class:1): sum over the channels"
    wanted = draw.heat_map(values[0].sum(0), signed=signed, title=title, caption=figures.caption(result))
    assert same(found["map.png"], wanted)


def test_one_channel_needs_no_sum_and_a_coarse_grid_keeps_its_cells(net: Network) -> None:
    values = values_of(1, 1, 3, 2).abs()
    plane, signed, told = figures.plane_of(result_of(net, values=values, kind="amount"))
    assert (signed, told) == (False, "")
    assert torch.equal(plane, values[0, 0])
    _, _, told = figures.plane_of(result_of(net, values=-values, kind="sensitivity"))
    assert told == ": |value|"
    found = figures.figures(result_of(net, values=values, kind="amount"))
    # The map shows 3 x 2 cells of one color each; over the image they are smooth.
    title_rows = 10 + 2 * 19 + 10
    cells = pixels(found["map.png"])[title_rows : title_rows + 330, 10 : 10 + 224]
    assert len({tuple(color) for color in cells[::8, ::8].reshape(-1, 3)}) <= 7
    smooth = pixels(found["overlay.png"])[title_rows : title_rows + 270, 10 : 10 + 224]
    assert len({tuple(color) for color in smooth[::8, ::8].reshape(-1, 3)}) > 40


@pytest.mark.parametrize("at", ["mixed", "pool", "fc"])
def test_points_without_a_grid_have_bars_of_their_strongest_units(
    enlarging: Network, at: str, written: list[Written]
) -> None:
    shape = {"mixed": (1, 4, 12, 21), "pool": (1, 4, 1, 1), "fc": (1, 30)}[at]
    values = values_of(*shape)
    found = figures.figures(result_of(enlarging, at=at, values=values, kind="contribution"))
    assert list(found) == ["units.png", "original.png"]
    sums = values.flatten(2).sum(2)[0] if values.ndim > 2 else values[0]
    order = sums.abs().argsort(descending=True)[:20].tolist()
    names = [line.text for line in written if line.text.startswith(f"{at}/")]
    assert names == [f"{at}/{k}" for k in order]
    result = result_of(enlarging, at=at)
    told = [line.text for line in written if not line.text.startswith(f"{at}/")]
    assert told[-1] == figures.caption(result)
    assert [lettering.number_label(sums[k].item()) for k in order] == told[1:-1]
    assert told[0] == f"saliency of class:1, at {at}" + (": strongest units, 20 of 30" if at == "fc" else "")


def test_units_at_zero_have_no_bars(enlarging: Network, written: list[Written]) -> None:
    values = torch.zeros(2, 30)
    values[0, 17] = -2.5
    result = result_of(enlarging, at="fc", count=2, values=values)
    figures.figures(result[0])
    assert [line.text for line in written if line.text.startswith("fc/")] == ["fc/17"]
    written.clear()
    figures.figures(result[1])
    assert [line.text for line in written[1:-1]] == ["fc/0", "0"]


def test_a_grid_finer_than_the_image_does_not_lie_over_it(enlarging: Network) -> None:
    result = result_of(enlarging, at="conv")
    assert result.features().shape[2:] == (18, 14)
    assert list(figures.figures(result)) == ["map.png", "signed.png", "original.png"]
    assert figures.cell(result).refused == "the grid of conv is finer than the image"
    assert figures.main_picture(result).height > 224


@pytest.mark.parametrize(
    ("at", "told", "target"),
    [
        ("", "", "American Staffordshire terrier (class:1)"),
        ("", ": sum over the channels", "American Staffordshire terrier"),
        ("layer4", "", "American Staffordshire terrier (class:1), at layer4"),
        ("layer4", ": largest |value| over the units", "class:1, at layer4"),
        ("encoder.layers.encoder_layer_11.mlp.0", ": sum over the units", "class:1"),
    ],
)
def test_titles_fit(net: Network, at: str, told: str, target: str, written: list[Written]) -> None:
    """The longest name of a method and of a class of ImageNet, over pictures of 224 pixels."""
    result = result_of(net, method="guided-integrated-gradients")
    title = figures.titled(dataclasses.replace(result, at=at), told)
    assert title == f"guided-integrated-gradients of {target}{told}"
    draw.heat_map(torch.rand(224, 224), signed=False, title=title)
    lines = [line.text for line in written if line.top < 40 and line.left < 200]
    assert " ".join(lines[-2:]) == title


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (0.0083, "0.83 %"),
        (0.008, "0.8 %"),
        (-0.0031, "-0.31 %"),
        (0.0996, "10 %"),
        (0.1249, "12 %"),
        (12.3, "1230 %"),
        (2e-5, "0.002 %"),
        (3e-9, "< 0.001 %"),
        (-3e-9, "< 0.001 %"),
        (float("inf"), "inf %"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert figures.percent(share) == text


def test_captions_carry_what_was_measured(net: Network) -> None:
    nan = float("nan")
    measured = {
        "error": torch.tensor([0.008, nan], dtype=torch.float64),
        "signed_error": torch.tensor([-0.0031, nan], dtype=torch.float64),
        "absolute_error": torch.tensor([nan, 0.008], dtype=torch.float64),
        "standard_error": torch.tensor([0.5, 0.25]),
        "points": torch.tensor([34, 68]),
    }
    result = result_of(net, count=2, measured=measured, scores=torch.tensor([19.7, -0.5]))
    told = "target class:1, score 19.7 (logit), error 0.8 %, signed error -0.31 %, standard error 0.5, points 34"
    assert figures.caption(result[0]) == told
    told = "target class:1, score -0.5 (logit), absolute error 0.008, standard error 0.25, points 68"
    assert figures.caption(result[1]) == told


def test_what_a_score_is_is_told(net: Network) -> None:
    x = images(1, 3, *SIZE)
    probability = net(x).softmax(1)[0, 1].item()
    found = inward.rise(net, x, target="class:1", samples=4)[0]
    assert figures.caption(found).startswith(f"target class:1, score {probability:.4g} (probability)")
    assert found.measures()["score_kind"] == "probability"
    # A method that has no choice explains the logit.
    logit = inward.deeplift(net, x, target="class:1")[0]
    assert figures.caption(logit).startswith(f"target class:1, score {net(x)[0, 1].item():.4g} (logit)")
    surprise = -net(x).log_softmax(1)[0, 1].item()
    found = inward.saliency(net, x, target="class:1", of="cross-entropy")[0]
    assert figures.caption(found) == f"target class:1, score {-surprise:.4g} (minus the cross-entropy)"
    for target in ("second/3", "class:1 + class:2", ClassScore(1)):
        assert "score_kind" not in inward.saliency(net, x, target=target)[0].measures()


@pytest.mark.parametrize("at", [None, "second", "fc"])
def test_every_picture_of_a_map_carries_what_was_measured(net: Network, at: str | None, written: list[Written]) -> None:
    measured = {
        "error": torch.tensor([0.0187], dtype=torch.float64),
        "signed_error": torch.tensor([-0.0031], dtype=torch.float64),
        "points": torch.tensor([65]),
    }
    pictures = figures.figures(result_of(net, at=at, measured=measured, scores=torch.tensor([19.7])))
    del pictures["original.png"]
    words = " ".join(line.text for line in written)
    assert words.count("error 1.9 %, signed error -0.31 %, points 65") == len(pictures) == (3 if at != "fc" else 1)
    for line in written:
        assert 0 <= line.left < line.right


def test_a_cell_of_the_gallery(net: Network) -> None:
    values = values_of(2, 3, *SIZE)
    measured = {"error": torch.tensor([0.008, 0.1]), "deletion": torch.tensor([0.123456, 0.2])}
    cell = figures.cell(result_of(net, count=2, values=values, kind="contribution", measured=measured)[1])
    assert isinstance(cell.values, Tensor)
    assert torch.equal(cell.values, values[1].sum(0))
    assert (cell.name, cell.signed, cell.refused) == ("saliency", True, "")
    assert cell.numbers == {"error": "10 %", "deletion": "0.2"}
    inside = figures.cell(result_of(net, at="second", measured={"deletion": torch.tensor([0.123456])}))
    assert inside.numbers == {"at": "second", "deletion": "0.123"}
    assert not inside.signed


def test_a_cell_without_a_grid_names_the_strongest(enlarging: Network) -> None:
    values = torch.zeros(2, 30)
    values[0, [4, 17, 5, 9]] = torch.tensor([1.0, -3.0, 2.0, 0.5])
    result = result_of(enlarging, at="fc", count=2, values=values)
    assert figures.cell(result[0]).refused == "fc has no grid to draw; the strongest are fc/17, fc/5, fc/4"
    assert figures.cell(result[1]).refused == "fc has no grid to draw; all values are 0"


def test_one_outlier_does_not_hide_the_rest(net: Network) -> None:
    """At the size of photographs: of 224 x 200 values 224 lie beyond the scale."""
    result = result_of(net)
    shown = torch.rand(1, 3, 224, 200, generator=torch.Generator().manual_seed(0))
    values = torch.linspace(-1, 1, 200).expand(1, 1, 224, 200).clone()
    plain = figures.figures(dataclasses.replace(result, images=shown, values=values, kind="contribution"))
    spiked = values.clone()
    spiked[0, 0, 100, 50] = 1e9
    found = figures.figures(dataclasses.replace(result, images=shown, values=spiked, kind="contribution"))
    # Below the title of two lines the two are the same but for the spike, enlarged twice, and what is said of it.
    part = slice(10 + 2 * 19 + 10, 10 + 2 * 19 + 10 + 400), slice(10, 410)
    apart = abs(pixels(plain["map.png"])[part] - pixels(found["map.png"])[part]).max(axis=2)
    assert apart.max() > 100
    assert (apart > 4).sum() <= 4


def test_only_bare_pictures_are_enlarged(net: Network, enlarging: Network) -> None:
    bars = result_of(enlarging, at="fc", values=torch.eye(30)[:1])
    assert (
        figures.main_picture(bars).size
        == figures.figures(bars)["units.png"].size
        == (560, 75 + lettering.line_height(14))
    )
    pictures = inward.visualize(net, ["class:0"], steps=2, size=SIZE)
    assert figures.main_picture(pictures).size == (7 * 32, 9 * 32)


def test_a_notebook_shows_the_numbers_and_a_line_for_each_remark(net: Network) -> None:
    measured = {"error": torch.tensor([0.031, 0.001]), "points": torch.tensor([512, 34])}
    remarks = (("the error is above the tolerance", "<b>another</b> & one"), ())
    html = result_of(net, count=2, measured=measured, remarks=remarks)._repr_html_()
    first, second = re.findall(r"<figcaption[^>]*>(.*?)</figcaption>", html)
    lines = re.findall(r"<div>(.*?)</div>", first)
    assert lines[0].endswith("error 3.1 %, points 512")
    assert lines[1:] == ["the error is above the tolerance", "&lt;b&gt;another&lt;/b&gt; &amp; one"]
    assert second.count("<div>") == 1
    assert "error 0.1 %, points 34" in second
    assert re.findall(r'alt="([^"]*)"', html)[0].endswith("; the error is above the tolerance; " + lines[2])
    assert html.count("data:image/png;base64,") == 2
