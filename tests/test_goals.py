"""Plateaus: which scores have settled, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.ascent import Row
from inward.columns import steps
from inward.columns.goals import Plateau
from inward.columns.objectives import ClassScore
from inward.errors import CallError


def columns(*images: list[float]) -> Tensor:
    return torch.tensor(images, dtype=torch.float64).T


@pytest.mark.parametrize(
    ("window", "tolerance", "scores", "expected"),
    [
        # No more than one pass in each of two windows.
        (1, 0.0, [3.0], False),
        (1, 0.0, [3.0, 3.0], True),
        (1, 0.0, [3.0, 3.0001], False),
        (1, 0.0, [3.0, 2.0], True),
        # From (1 + 3) / 2 = 2 to (4 + 4) / 2 = 4, then to 4 from (3 + 4) / 2.
        (2, 0.4, [1.0, 3.0, 4.0, 4.0], False),
        (2, 0.5, [1.0, 3.0, 4.0, 4.0], True),
        (2, 0.1, [1.0, 3.0, 4.0, 4.0, 4.0], False),
        (2, 0.125, [1.0, 3.0, 4.0, 4.0, 4.0], True),
        # What came before the last two windows is forgotten.
        (2, 0.0, [9.0, 9.0, 1.0, 1.0, 2.0, 2.0], False),
        (2, 0.0, [0.0, 0.0, 2.0, 2.0, 1.0, 3.0], True),
        # Three passes are not two windows of two.
        (2, 1.0, [4.0, 4.0, 4.0], False),
        # Of size 10, whatever the sign: rises of 1 and of 1.1.
        (1, 0.1, [-11.0, -10.0], True),
        (1, 0.1, [-11.125, -10.0], False),
        (1, 0.1, [9.0, 10.0], True),
        (1, 0.1, [8.875, 10.0], False),
        # At 0 a rise is of no size that could be compared.
        (1, 0.5, [0.0, 0.0], True),
        (1, 0.5, [-1.0, 0.0], False),
        # Single passes jump, and their means do not.
        (4, 0.01, [1.0, 9.0, 2.0, 8.0, 9.0, 1.0, 8.0, 2.0], True),
        (4, 0.01, [1.0, 9.0, 2.0, 8.0, 9.0, 2.0, 8.0, 2.0], False),
    ],
)
def test_settled_by_hand(window: int, tolerance: float, scores: list[float], expected: bool) -> None:
    # Beside an image whose score is eight times the last at every pass, and one whose score is always the same.
    beside = [8.0**i for i in range(len(scores))], [5.0] * len(scores)
    found = Plateau(window, tolerance).settled(columns(scores, *beside))
    assert found.tolist() == [expected, len(scores) >= 2 * window and tolerance >= 1, len(scores) >= 2 * window]
    assert Plateau(window, tolerance).settled(columns(scores).float()).tolist() == [expected]


@settings(max_examples=50, deadline=None)
@given(
    scores=st.lists(st.integers(-40, 40), min_size=1, max_size=14),
    window=st.integers(1, 5),
    tolerance=st.sampled_from((0.0, 0.125, 0.5)),
    scale=st.sampled_from((0.25, 4.0, 1024.0)),
)
def test_settled_is_the_sentence_in_the_docstring(
    scores: list[int], window: int, tolerance: float, scale: float
) -> None:
    """Scores and factors are small dyadic numbers; of windows of 3 and 5 the equal means are left out."""
    expected = False
    if len(scores) >= 2 * window:
        last, before = sum(scores[-window:]), sum(scores[-2 * window : -window])
        if window in (3, 5) and last - before == tolerance * abs(last):
            return
        expected = last - before <= tolerance * abs(last)
    given_scores = columns([float(s) for s in scores], [float(s) * scale for s in scores])
    # The scale of a score does not matter.
    assert Plateau(window, tolerance).settled(given_scores).tolist() == [expected, expected]


def test_no_image_is_none() -> None:
    assert Plateau().settled(torch.zeros(64, 0)).shape == (0,)
    assert (Plateau().window, Plateau().tolerance) == (32, 0.01)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 0}, "over 1 pass or more, not 0"),
        ({"window": -3}, "over 1 pass or more, not -3"),
        ({"tolerance": -0.5}, "0 or more, not -0.5"),
        ({"tolerance": math.nan}, "0 or more, not nan"),
        ({"tolerance": math.inf}, "0 or more, not inf"),
    ],
)
def test_plateaus_that_make_no_sense_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(CallError, match=message):
        Plateau(**fields)


def test_a_goal_and_a_plateau_are_refused() -> None:
    with pytest.raises(CallError, match="at a goal or at a plateau, not both; leave out one"):
        Row(
            ClassScore(0),
            steps.adam(0.1),
            4,
            plateau=Plateau(),
            reached=lambda trace, _: trace.images.amax((1, 2, 3)) > 1,
        )
