"""A gallery: every map where it belongs, with its scale and its numbers, and no letter upon another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import one_sentence, pixels
from inward.draw import Cell, gallery, lettering, overlay, to_picture
from inward.errors import CallError
from lettered import Written, listened, tidy

WIDE, GUTTER, EDGE = 224, 24, 24
SEEN = torch.rand(3, 168, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    return listened(monkeypatch)


def smooth(height: int = 168, width: int = 224) -> torch.Tensor:
    """From -1 at the left to 1 at the right."""
    return torch.linspace(-1, 1, width).repeat(height, 1)


def below(heading: str, written: list[Written]) -> tuple[int, int]:
    """The left top of the map below a heading of 16 pixels."""
    line = next(line for line in written if line.text == heading)
    return int(line.left), int(line.top) + lettering.line_height(16) + 6


def cut(picture: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    return pixels(picture.crop((*corner, corner[0] + size[0], corner[1] + size[1])))


def test_the_picture_and_its_maps_stand_where_they_should(written: list[Written]) -> None:
    signed, coarse = smooth(), torch.arange(35.0).view(5, 7)
    sheet = gallery(SEEN, [Cell("lrp", signed, True), Cell("grad-cam", coarse)], "title")
    assert sheet.width == 3 * (WIDE + GUTTER) - GUTTER + 2 * EDGE
    for name, wanted in (
        ("original", to_picture(SEEN)),
        ("lrp", overlay(SEEN, signed, signed=True, scale=False)),
        ("grad-cam", overlay(SEEN, coarse, signed=False, scale=False)),
    ):
        # An image of 168 x 224 is enlarged twice by an overlay, and reduced again: each pixel is its own.
        shown = wanted.resize((224, 168), Image.Resampling.NEAREST)
        assert np.abs(cut(sheet, below(name, written), (224, 168)) - pixels(shown)).max() <= 1, name
    lefts = [below(name, written)[0] for name in ("original", "lrp", "grad-cam")]
    assert lefts == [EDGE, EDGE + 248, EDGE + 496]
    assert tidy(written, sheet)


@pytest.mark.parametrize(("maps", "across"), [(1, 2), (3, 4), (7, 4), (8, 5), (14, 5), (15, 6), (29, 6)])
def test_cells_in_a_row(maps: int, across: int, written: list[Written]) -> None:
    sheet = gallery(SEEN[:, ::4, ::4], [Cell(f"method-{i}", smooth(9, 7), True) for i in range(maps)], "t")
    assert (sheet.width - 2 * EDGE + GUTTER) / (WIDE + GUTTER) == across
    corners = [below(f"method-{i}", written) for i in range(maps)]
    assert len({x for x, _ in corners}) == min(across, maps + 1 if maps >= across else maps)
    rows = sorted({y for _, y in corners})
    assert len(set(np.diff(rows))) <= 1, "rows are equally high"
    assert len(rows) == -(-(maps + 1) // across)
    assert all(x % (WIDE + GUTTER) == EDGE for x, _ in corners)


def test_columns_may_be_chosen(written: list[Written]) -> None:
    cells = [Cell(f"m{i}", smooth(), True) for i in range(4)]
    assert gallery(SEEN, cells, "t", columns=1).width == WIDE + 2 * EDGE
    assert gallery(SEEN, cells, "t", columns=9).width == 5 * (WIDE + GUTTER) - GUTTER + 2 * EDGE


def test_every_map_has_its_own_scale(written: list[Written]) -> None:
    values = smooth()
    cells = [Cell("a", 3 * values, True), Cell("b", values.abs() * 2e-5), Cell("c", torch.zeros(9, 7), True)]
    cells.append(Cell("d", refused="this method needs an attention, and the network has none; choose another"))
    sheet = gallery(SEEN, cells, "t")
    # The 99.5th percentile of |v| on a line from -1 to 1 is a little below its end.
    assert [line.text for line in written if line.left > 500 and line.text.endswith("e-5")] == ["2e-5"]
    texts = [line.text for line in written]
    assert {"-3", "3", "0", "0 everywhere"} <= set(texts)
    ends = {line.text: line for line in written}
    left, right = int(ends["-3"].right) + 8, int(ends["3"].left) - 8
    middle = int(ends["3"].top + ends["3"].bottom) // 2
    stripe = pixels(sheet)[middle, left:right]
    assert stripe[len(stripe) // 2] == pytest.approx(0.6 * 247 + 0.4 * 127.5, abs=2), "no color at zero"
    lead = stripe[:, 0] - stripe[:, 2]
    assert lead[5] < -20
    assert lead[-6] > 20
    # Blue is exactly as far from zero as red: mirrored, the colors of RdBu swap red and blue.
    assert np.argmin(np.abs(lead)) == pytest.approx(len(stripe) / 2, abs=3)
    assert tidy(written, sheet)


@pytest.mark.parametrize(
    ("outliers", "arrows"), [([], (0, 0)), ([9.0], (0, 1)), ([-9.0], (1, 0)), ([9.0, -9.0], (1, 1))]
)
def test_a_scale_ends_in_an_arrow_where_values_go_on(
    outliers: list[float], arrows: tuple[int, int], written: list[Written]
) -> None:
    values = smooth().sign()
    for i, value in enumerate(outliers):
        values[3 * i, 5] = value
    sheet = gallery(SEEN, [Cell("a", values, True)], "t")
    ends = {line.text: line for line in written}
    left, right = int(ends["-1"].right) + 7, int(ends["1"].left) - 7
    middle = int(ends["1"].top + ends["1"].bottom) // 2
    drawn = pixels(sheet)
    corners = [drawn[middle - 4, column] for column in (left + 1, right - 2)]
    assert [int((corner > 240).all()) for corner in corners] == list(arrows)
    for column in (left + 3, right - 4):
        assert (drawn[middle, column] < 240).any(), "the point of the arrow is there"


def test_one_outlier_does_not_hide_the_rest(written: list[Written]) -> None:
    values = smooth()
    plain = gallery(SEEN, [Cell("a", values, True)], "t")
    values[80, 100] = 1e6
    spiked = gallery(SEEN, [Cell("a", values, True)], "t")
    corner = below("a", written)
    apart = np.abs(cut(plain, corner, (224, 168)) - cut(spiked, corner, (224, 168))).max(axis=2)
    assert apart[80, 100] > 20
    assert (apart <= 2).sum() >= apart.size - 1


def test_numbers_stand_in_two_columns_on_common_lines(written: list[Written]) -> None:
    cells = [
        Cell("saliency", smooth(), True, {"deletion": "0.12"}),
        Cell("integrated-gradients", smooth(), True, {"error": "0.8 %", "points": "34", "max sensitivity": "0.3"}),
        Cell("rise", refused="it took too long; give fewer --masks", numbers={"at": "layer4"}),
    ]
    sheet = gallery(SEEN, cells, "t")
    lines = {line.text: line for line in written}
    assert lines["deletion"].top == lines["error"].top == lines["at"].top
    step = lettering.line_height(13)
    assert lines["points"].top - lines["error"].top == lines["max sensitivity"].top - lines["points"].top == step
    assert lines["0.8 %"].left == lines["34"].left == lines["0.3"].left
    assert lines["0.12"].left - lines["deletion"].left == lines["0.3"].left - lines["max sensitivity"].left
    assert lines["0.3"].left > lines["max sensitivity"].right
    assert sheet.height - lines["0.3"].bottom == EDGE
    assert tidy(written, sheet)


def test_a_reason_stands_whole_in_the_place_of_the_map(written: list[Written]) -> None:
    why = "torchvision/resnet50 has no attention, which attention rollout follows; choose another method"
    sheet = gallery(SEEN, [Cell("attention-rollout", refused=why)], "t")
    assert why in " ".join(line.text for line in written)
    left, top = below("attention-rollout", written)
    inside = [line for line in written if len(line.text) > 1 and line.text in why]
    assert len(inside) > 2
    assert all(
        left < line.left and line.right < left + WIDE and line.top > top and line.bottom < top + 168 for line in inside
    )
    assert tuple(pixels(sheet)[top + 160, left + 200]) == (0xF3, 0xF3, 0xEF)


def test_a_reason_has_room_where_the_picture_has_none(written: list[Written]) -> None:
    strip, why = torch.rand(3, 6, 112), "the network has no attention; choose another method"
    gallery(strip, [Cell("a", refused=why), Cell("b", torch.rand(6, 112), numbers={"error": "1 %"})], "t")
    assert why in " ".join(line.text for line in written)
    (_, top), scale = below("a", written), next(line for line in written if line.text == "error")
    assert scale.top - top == 112 + 7 + lettering.line_height(13) + 4
    written.clear()
    gallery(strip, [Cell("b", torch.rand(6, 112), numbers={"error": "1 %"})], "t")
    (_, top), scale = below("b", written), next(line for line in written if line.text == "error")
    assert scale.top - top == 12 + 7 + lettering.line_height(13) + 4


def test_the_key_names_the_colors_that_are_there(written: list[Written]) -> None:
    def key(*cells: Cell) -> str:
        written.clear()
        gallery(SEEN, list(cells), "t", columns=6)
        return " ".join(line.text for line in written[1:3])

    refused, signed, plain = Cell("r", refused="for a reason"), Cell("s", smooth(), True), Cell("p", smooth().abs())
    assert "Red raises" in key(signed)
    assert "Bright" not in key(signed)
    assert "Bright" in key(plain)
    assert "Red" not in key(plain, refused)
    assert "scale" not in key(refused)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("size", [(8, 6), (30, 300), (300, 30), (299, 310)])
def test_any_image(channels: int, size: tuple[int, int], written: list[Written]) -> None:
    image = torch.rand(channels, *size, generator=torch.Generator().manual_seed(1))
    sheet = gallery(image, [Cell("a", smooth(*size), True, {"error": "1 %"})], "t")
    assert sheet.width == 2 * WIDE + GUTTER + 2 * EDGE
    assert tidy(written, sheet)
    factor = min(WIDE / size[1], 336 / size[0])
    shown = (round(size[1] * factor), round(size[0] * factor))
    left, top = below("original", written)
    original = cut(sheet, (left, top), shown)
    assert (cut(sheet, (left, top + shown[1]), (shown[0], 3)) == 255).all(), "it ends where its shape says"
    mean = image.double().mean((1, 2)) if channels in (1, 3) else image.double().mean()
    if channels != 4:
        assert original.mean((0, 1)) == pytest.approx(np.broadcast_to(255 * mean.numpy(), 3), abs=3)


names = st.text(max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(names, st.dictionaries(names, names, max_size=6), names), min_size=1, max_size=8), names)
def test_no_letters_meet_whatever_they_are(
    written: list[Written], given_cells: list[tuple[str, dict[str, str], str]], title: str
) -> None:
    written.clear()
    cells = [
        Cell(name, refused=why, numbers=numbers) if why else Cell(name, smooth(3, 2), True, numbers)
        for name, numbers, why in given_cells
    ]
    sheet = gallery(SEEN[:, :40, :30], cells, title)
    assert tidy(written, sheet)
    columns = [range(left, left + WIDE + 1) for left in range(EDGE, sheet.width - EDGE, WIDE + GUTTER)]
    assert len(columns) == len({column.start for column in columns})
    body = list(itertools.dropwhile(lambda line: line.text != "original", written))
    assert all(any(line.left >= c.start and line.right <= c.stop for c in columns) for line in body)


def test_what_is_no_gallery_is_refused() -> None:
    cell = Cell("a", smooth(), True)
    for cells, options in (([], {}), ([cell], {"columns": 0}), ([Cell("b", smooth(), False)], {})):
        with pytest.raises(CallError) as error:
            gallery(SEEN, cells, "t", **options)
        assert one_sentence(error)
    for values, refused in ((None, ""), (smooth(), "both")):
        with pytest.raises(CallError) as error:
            Cell("a", values, refused=refused)
        assert one_sentence(error)
