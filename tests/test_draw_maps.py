"""Maps and their scales."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from drawn import WHITE, one_sentence, pixels
from inward.draw import (
    heat_map,
    lettering,
    overlay,
)
from inward.draw.colors import scale_of
from inward.errors import CallError

NEUTRAL, REDDEST, BLUEST = (247, 247, 247), (103, 0, 31), (5, 48, 97)
BLACKEST, BRIGHTEST = (0, 0, 4), (252, 255, 164)
# Maps


def bare(values: list[list[float]], *, signed: bool, limit: float | None = None) -> np.ndarray:
    """The colors of a map, one pixel a value."""
    tensor = torch.tensor(values)
    drawn = pixels(heat_map(tensor, signed=signed, scale=False, limit=limit))
    factor = drawn.shape[0] // tensor.shape[0]
    assert np.array_equal(drawn, drawn[::factor, ::factor].repeat(factor, 0).repeat(factor, 1)), "no smoothing"
    return drawn[::factor, ::factor]


def test_a_signed_map_is_neutral_at_zero_and_reaches_both_ends() -> None:
    drawn = bare([[-2.0, 0.0, 2.0], [-5.0, -0.0, 5.0]], signed=True, limit=2.0)
    assert [[tuple(color) for color in row] for row in drawn] == [[BLUEST, NEUTRAL, REDDEST]] * 2


def test_opposite_values_lie_equally_far_from_the_neutral_color() -> None:
    steps = torch.linspace(-1, 1, 257)
    ramp = bare([steps.tolist(), steps.tolist()], signed=True, limit=1.0)[0]
    assert len(np.unique(ramp, axis=0)) == 257
    position = {tuple(color): index - 128 for index, color in enumerate(ramp)}
    for value in (0.001, 0.00391, 0.1, 0.1234567, 0.5, 0.998, 1.0, 3.0):
        up, down = bare([[value, -value], [0, 0]], signed=True, limit=1.0)[0]
        assert position[tuple(up)] == -position[tuple(down)] == round(128 * min(value, 1))
        assert (up[0] > up[2]) == (down[2] > down[0]) == (value > 0.003), "up is red, down is blue"


def test_an_unsigned_map_goes_from_black_to_the_brightest_color_and_never_darkens() -> None:
    drawn = bare([[0.0, 3.0, 7.0], [0.0, 1.5, 3.0]], signed=False, limit=3.0)
    assert [tuple(color) for color in drawn[0]] == [BLACKEST, BRIGHTEST, BRIGHTEST]
    ramp = bare([torch.linspace(0, 1, 256).tolist()] * 2, signed=False, limit=1.0)[0]
    assert (np.diff(ramp @ [0.299, 0.587, 0.114]) > -0.5).all()


def test_the_usual_limit_is_the_percentile_of_the_sizes() -> None:
    values = torch.arange(-100, 101).float().view(3, 67)
    assert scale_of(values.double().numpy(), signed=True, limit=None).limit == pytest.approx(
        np.quantile(values.abs().numpy(), 0.995)
    )
    spike = torch.zeros(40, 50)
    spike[3, 4] = 0.25
    assert tuple(pixels(heat_map(spike, signed=False, scale=False))[3 * 6, 4 * 6]) == BRIGHTEST


def test_rows_and_columns_of_a_map_keep_their_place() -> None:
    values = torch.zeros(7, 12)
    values[1, 10] = 1.0
    drawn = pixels(heat_map(values, signed=True, scale=False, limit=1.0))
    assert drawn.shape == (224, 384, 3)
    assert (drawn[32:64, 320:352] == REDDEST).all()
    assert (drawn != NEUTRAL).any(axis=2).sum() == 32 * 32


def test_a_map_that_is_all_zero_is_drawn_as_zero_and_says_so() -> None:
    zero = np.zeros((8, 9))
    assert scale_of(zero, signed=True, limit=None).note == "all zero"
    assert (pixels(heat_map(zero, signed=True, scale=False)) == NEUTRAL).all()
    assert (pixels(heat_map(zero, signed=False, scale=False)) == BLACKEST).all()
    almost = zero.copy()
    almost[0, 0] = 1e-30
    assert scale_of(almost, signed=True, limit=1.0).note == ""


def test_the_scale_says_how_far_clipped_values_reach() -> None:
    values = np.array([[-7.0, 0.5], [0.0, 3.0]])
    both = scale_of(values, signed=True, limit=2.0)
    assert both.note == "values beyond ±2 are clipped (lowest -7, highest 3)"
    assert scale_of(values, signed=True, limit=7.0).note == ""
    assert not scale_of(values, signed=True, limit=5.0).clipped_above


def test_the_scale_shows_every_color_in_order_beside_the_untouched_map() -> None:
    values = torch.linspace(-1, 1, 300 * 256).view(300, 256)
    whole, map_only = (pixels(heat_map(values, signed=True, scale=scale, limit=1.0)) for scale in (True, False))
    assert np.array_equal(whole[20:320, 10:266], map_only)
    stripe = whole[20:320, 280]
    assert tuple(stripe[0]) == REDDEST
    assert tuple(stripe[-1]) == BLUEST
    assert len(np.unique(stripe, axis=0)) == 257
    assert (whole[:, 310:] < 128).any(), "numbers stand beside it"


def test_arrows_stand_only_where_values_go_on_beyond_the_scale() -> None:
    values = torch.linspace(-1, 1, 300 * 256).view(300, 256)
    values[0, 0] = 5.0
    drawn = pixels(heat_map(values, signed=True, limit=1.0))
    assert (drawn[11:20, 284] == REDDEST).all(), "above"
    assert (drawn[320:330, 284] == WHITE).all(), "not below"


@pytest.mark.parametrize(
    ("numbers", "labels", "factor"),
    [
        ([0, 0.5, 1], ["0", "0.5", "1.0"], ""),
        ([-3.473, 0, 3.473], ["-3.47", "0", "3.47"], ""),
        ([0, 1.735e-5, 3.47e-5], ["0", "1.74", "3.47"], "1e-5"),
        ([100.001, 100.0015, 100.002], ["100.0010", "100.0015", "100.0020"], ""),
        ([0, 1e-310], ["0", "1"], "1e-310"),
        ([0], ["0"], ""),
        ([-2e6, 4e6], ["-2", "4"], "1e6"),
    ],
)
def test_labels_tell_numbers_apart_in_few_digits(numbers: list[float], labels: list[str], factor: str) -> None:
    assert lettering.number_labels(numbers) == (labels, factor)


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (torch.tensor([[0.0, float("nan")]]), {}),
        (torch.zeros(1, 4, 5), {}),
        (torch.zeros(4, 5, dtype=torch.int64), {}),
        (torch.tensor([[-0.1, 1.0]]), {"signed": False}),
        (torch.ones(4, 5), {"limit": 0.0}),
        (torch.ones(4, 5), {"limit": float("inf")}),
    ],
)
def test_maps_that_make_no_sense_are_refused(values: torch.Tensor, options: dict[str, float]) -> None:
    with pytest.raises(CallError) as error:
        heat_map(values, **{"signed": True, **options})
    assert one_sentence(error)


@pytest.mark.parametrize("channels", [1, 3, 4, 5])
def test_an_overlay_mixes_the_map_with_the_gray_picture(channels: int) -> None:
    image = torch.full((channels, 230, 250), 0.5)
    values = torch.zeros(230, 250)
    values[100:, :] = 2.0
    drawn = pixels(overlay(image, values, signed=True, opacity=0.6, scale=False, limit=2.0))
    # Half transparent middle gray on white is lighter than middle gray.
    gray = 255 * 0.75 if channels == 4 else 127.5
    assert drawn.shape == (230, 250, 3)
    assert tuple(drawn[50, 70]) == tuple(int(0.6 * level + 0.4 * gray + 0.5) for level in NEUTRAL)
    assert tuple(drawn[150, 70]) == tuple(int(0.6 * level + 0.4 * gray + 0.5) for level in REDDEST)


def test_an_overlay_of_no_opacity_is_the_luma_of_the_picture() -> None:
    image = torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1).expand(3, 224, 240)
    drawn = pixels(overlay(image, torch.ones(4, 6), signed=False, opacity=0.0, scale=False))
    assert (drawn == int(255 * (0.299 * 0.2 + 0.587 * 0.6 + 0.114 * 1.0) + 0.5)).all()


def test_a_coarse_map_is_enlarged_smoothly_to_its_own_side_of_the_picture() -> None:
    coarse = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    drawn = pixels(overlay(torch.zeros(1, 240, 300), coarse, signed=False, opacity=1.0, scale=False, limit=1.0))
    brightness = drawn.sum(axis=2)
    assert (brightness[:, :150] == sum(BLACKEST)).all()
    assert (brightness[:, 250:] == sum(BRIGHTEST)).all()
    assert len(np.unique(brightness[0, 150:250])) > 60, "it rises in many small steps"
    assert (brightness == brightness[:1]).all()


def test_an_overlay_refuses_a_map_of_something_larger() -> None:
    for values, opacity in ((torch.zeros(9, 8), 0.5), (torch.zeros(8, 9), 1.5)):
        with pytest.raises(CallError) as error:
            overlay(torch.zeros(3, 8, 9), values, signed=True, opacity=opacity)
        assert one_sentence(error)
