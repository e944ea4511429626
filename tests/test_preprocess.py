"""What a network wants done to an image."""

from __future__ import annotations

import pytest
import torch

from inward.errors import CallError
from inward.network.preprocess import Preprocess

MEAN, STD = (123 / 255, 117 / 255, 104 / 255), (1 / 255,)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"order": "BGR"}, "order is rgb or bgr, not 'BGR'"),
        ({"order": "rbg"}, "order is rgb or bgr, not 'rbg'"),
        ({"std": (0.5, 0.0, 0.5)}, "std has a 0 in it"),
        ({"std": (0.5, -0.2, 0.5)}, "std has a -0.2 in it; every channel is divided by a positive number"),
        ({"mean": (123, 117, 104)}, r"mean must be in \[0, 1\].*divide 8-bit values by 255"),
        ({"mean": (-0.5,)}, r"mean must be in \[0, 1\]"),
        ({"size": (200_000, 200_000)}, "size 200000 x 200000 is more than 100 megapixels; give a smaller one"),
        ({"size": (0, 4)}, "size 0 x 4 is empty"),
    ],
)
def test_refused(options: dict, sentence: str) -> None:
    with pytest.raises(CallError, match=sentence):
        Preprocess(**options)


def test_bgr_is_reversed() -> None:
    x = torch.rand(1, 3, 2, 2)
    shown = Preprocess(order="bgr", mean=MEAN)(x, torch.float32)
    assert torch.equal(shown[:, 0], x[:, 2] - torch.tensor(MEAN[2]))


@pytest.mark.parametrize(("dtype", "levels"), [(torch.bfloat16, 0.26), (torch.float16, 0.04)])
def test_a_short_dtype_rounds_once(dtype: torch.dtype, levels: float) -> None:
    """In the scale of Inception v1 a level of 8 bits is 1: half a unit in the last place of values to 132."""
    x = torch.arange(256).view(1, 1, 16, 16).expand(1, 3, 16, 16) / 255
    preprocess = Preprocess(mean=MEAN, std=STD)
    exact, short = preprocess(x, torch.float64), preprocess(x, dtype)
    assert short.dtype == dtype
    small = exact.abs() < 64
    assert (short.double() - exact).abs()[small].max() <= levels
    # No further off than the dtype's own rounding of the exact value.
    assert (short.double() - exact.to(dtype).double()).abs().max() <= torch.finfo(dtype).eps * 128
    assert (short.double() - exact).abs().max() <= torch.finfo(dtype).eps * 64 * 1.01


def test_double_stays_double() -> None:
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    shown = Preprocess(mean=MEAN, std=STD)(x, torch.float64)
    assert torch.equal(shown, (x - torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)) / (1 / 255))
