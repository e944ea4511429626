"""Bars: lengths in proportion from one zero, numbers at their ends, and no letter upon another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from drawn import one_sentence, pixels
from inward.draw import bars, lettering
from inward.errors import CallError
from lettered import Written, listened, tidy

ROW, TOP = 24, 8 + 21 + 8


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    return listened(monkeypatch)


def spans(picture: Image.Image, rows: int) -> list[tuple[str, int, int]]:
    """Of every row: the color of its bar, its first pixel and the one after its last."""
    found = []
    drawn = pixels(picture)
    for row in range(rows):
        line = drawn[TOP + row * ROW + ROW // 2]
        lead = line[:, 0] - line[:, 2]
        (where,) = np.nonzero(np.abs(lead) > 60)
        found.append(("red" if lead[where[0]] > 0 else "blue", where[0], where[-1] + 1) if len(where) else ("", 0, 0))
    return found


def test_lengths_are_in_proportion_and_begin_at_one_zero(written: list[Written]) -> None:
    picture = bars(["a/0", "a/1", "a/2", "a/3"], [4.0, -2.0, 1.0, 0.0], "title")
    (c0, zero, end), (c1, below, other), (c2, start, last), nothing = spans(picture, 4)
    assert (c0, c1, c2, nothing[0]) == ("red", "blue", "red", "")
    # A pixel on either side of zero belongs to the line there, and one at the end to rounding.
    assert abs(zero - start) <= 1
    assert abs(zero - other) <= 2
    length = end - zero
    assert length > 250
    assert other - below == pytest.approx(length / 2, abs=2)
    assert last - start == pytest.approx(length / 4, abs=2)
    numbers = {line.text: line for line in written[-8:]}
    assert numbers.keys() == {"a/0", "a/1", "a/2", "a/3", "4", "-2", "1", "0"}
    assert 0 < numbers["4"].left - end < 8, "the number stands at the end of its bar"
    assert 0 < below - numbers["-2"].right < 8
    assert 0 < numbers["1"].left - last < 8
    assert tidy(written, picture)


def test_the_colors_are_those_of_signed_maps() -> None:
    drawn = pixels(bars(["a", "b"], [1.0, -1.0], "t"))
    for row, strong in enumerate(((178, 24, 43), (33, 102, 172))):
        # ColorBrewer's RdBu, the second color from either end; ours lie between colors of a finer table.
        apart = np.abs(drawn[TOP + row * ROW + ROW // 2] - strong).max(axis=1)
        assert (apart <= 4).sum() > 200


@pytest.mark.parametrize(
    ("values", "colors"),
    [([3.0, 2.0], {"red"}), ([-3.0, -1e-9], {"blue"}), ([0.0, 0.0], {""}), ([0.0], {""}), ([-0.0], {""})],
)
def test_one_color_where_signs_do_not_differ(values: list[float], colors: set[str], written: list[Written]) -> None:
    picture = bars([f"u/{i}" for i in range(len(values))], values, "t")
    assert {color for color, _, _ in spans(picture, len(values))} == colors
    assert tidy(written, picture)
    assert "-0" not in {line.text for line in written}


def test_without_negative_numbers_bars_take_their_room_too() -> None:
    (_, alone, _), *_ = spans(bars(["a"], [1.0], "t"), 1)
    (_, among, _), *_ = spans(bars(["a", "a"], [1.0, -1.0], "t"), 2)
    assert alone < 50
    assert among > 250


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_row_for_each(count: int) -> None:
    picture = bars([f"fc/{i}" for i in range(count)], [float(count - i) for i in range(count)], "t")
    assert picture.size == (560, TOP + ROW * count + 14)
    found = spans(picture, count)
    lengths = [end - start for _, start, end in found]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] > 5


@pytest.mark.parametrize("values", [[1e308, -1e308], [1e30, 3e-12], [5e-324, -5e-324], [1e308, 1e-308, 0.0]])
def test_huge_and_tiny_numbers(values: list[float], written: list[Written]) -> None:
    picture = bars(["a/0", "a/1", "a/2"][: len(values)], values, "t")
    (color, start, end), *_ = spans(picture, 1)
    assert color == "red"
    assert end - start > 150
    assert tidy(written, picture)


def test_a_number_beside_a_huge_one_still_has_a_bar() -> None:
    drawn = pixels(bars(["a", "b"], [1e9, -1.0], "t"))
    row = drawn[TOP + ROW + ROW // 2]
    assert (row[:, 2] - row[:, 0]).max() > 60, "a pixel of blue"


def test_long_names_are_cut_in_the_middle(written: list[Written]) -> None:
    long = "encoder.layers.encoder_layer_11.self_attention.out_proj/767"
    picture = bars([long, "fc/1"], [2.0, 1.0], "t")
    shown = next(line for line in written if "…" in line.text)
    head, tail = shown.text.split("…")
    assert long.startswith(head)
    assert long.endswith(tail)
    assert len(head) - len(tail) in (0, 1)
    assert 185 < shown.right - shown.left <= 200
    assert tidy(written, picture)


def test_long_titles_have_two_lines(written: list[Written]) -> None:
    picture = bars(["a"], [1.0], "conductance of a class with a long name " * 8)
    assert written[1].text.endswith("…")
    assert picture.height == TOP + 21 + ROW + 14
    assert tidy(written, picture)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.text(max_size=90), st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=30)
)
@example([("W" * 300, -2.2250738585072014e-308), ("", 1.0), ("日本\n日本", -1.0)])
def test_no_letters_meet_whatever_is_drawn(written: list[Written], rows: list[tuple[str, float]]) -> None:
    written.clear()
    picture = bars([name for name, _ in rows], [value for _, value in rows], "t")
    assert tidy(written, picture)
    drawn = pixels(picture)
    colored = np.abs(drawn[..., 0] - drawn[..., 2]) > 60
    for line in written:
        assert not colored[int(line.top) + 4 : int(line.bottom) - 4, int(line.left) : int(line.right)].any(), line
    for name, value in rows:
        assert lettering.number_label(value + 0.0) in {line.text for line in written}, name


@pytest.mark.parametrize(
    ("names", "values"),
    [
        ([], []),
        (["a"], [1.0, 2.0]),
        (["a", "b"], [1.0]),
        (["a"], [float("nan")]),
        (["a"], [float("inf")]),
        (["a"], [[1.0]]),
        (["a"], ["b"]),
    ],
)
def test_what_are_no_bars_is_refused(names: list[str], values: list[float]) -> None:
    with pytest.raises(CallError) as error:
        bars(names, values, "t")
    assert one_sentence(error)
