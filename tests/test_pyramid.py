"""The Laplacian pyramid: its law, its levels, and what a step of one level does."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.pyramid import LaplacianPyramid
from inward.errors import CallError


def pictures(channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Values in [1e-3, 1 - 1e-3], where the inverse of the sigmoid is exact."""
    drawn = torch.rand((2, channels, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 1e-3 + (1 - 2e-3) * drawn


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.integers(1, 21),
    st.integers(1, 21),
    st.sampled_from([1, 3, 5]),
    st.integers(1, 7),
    st.booleans(),
    st.integers(0, 9),
)
def test_the_law_image_of_init_is_the_image(
    height: int, width: int, channels: int, levels: int, decorrelate: bool, seed: int
) -> None:
    images = pictures(channels, (height, width), seed)
    kind = LaplacianPyramid(levels, decorrelate=decorrelate)
    # What is taken away is what is added again: only the sigmoid and C round.
    torch.testing.assert_close(kind.image(kind.init(images), images), images, rtol=0, atol=1e-12)


def test_every_level_is_half_of_the_one_before() -> None:
    parameters = LaplacianPyramid(5).init(pictures(3, (13, 22)))
    assert [tuple(p.shape) for p in parameters] == [
        *((2, 3, 13, 22), (2, 3, 7, 11), (2, 3, 4, 6), (2, 3, 2, 3), (2, 3, 1, 2))
    ]
    assert all(p.is_contiguous() for p in parameters)


def test_levels_hold_what_the_coarser_ones_lack() -> None:
    """One channel of 4 x 6 by hand: means of 2 x 2, and the rest without any mean but that of the enlargement."""
    images = pictures(1, (4, 6))
    fine, coarse = LaplacianPyramid(2).init(images)
    plain = torch.logit(images)
    means = plain.view(2, 1, 2, 2, 3, 2).mean((3, 5))
    torch.testing.assert_close(coarse, means, rtol=0, atol=1e-12)
    # Bilinear: a quarter of a coarse pixel from its center, 3/4 of the one and 1/4 of the next.
    rows = torch.stack(
        [means[:, :, 0], 0.75 * means[:, :, 0] + 0.25 * means[:, :, 1], 0.25 * means[:, :, 0] + 0.75 * means[:, :, 1]]
    )
    at = (0.75 * rows[1][:, :, 0] + 0.25 * rows[1][:, :, 1])[:, 0]
    torch.testing.assert_close(fine[:, 0, 1, 1], plain[:, 0, 1, 1] - at, rtol=0, atol=1e-12)
    at = (0.25 * rows[2][:, :, 1] + 0.75 * rows[2][:, :, 2])[:, 0]
    torch.testing.assert_close(fine[:, 0, 2, 4], plain[:, 0, 2, 4] - at, rtol=0, atol=1e-12)
    torch.testing.assert_close(fine[:, 0, 0, 0], plain[:, 0, 0, 0] - rows[0][:, 0, 0], rtol=0, atol=1e-12)


def test_smooth_pictures_are_in_the_coarse_levels() -> None:
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(48.0), indexing="ij")
    slow = (0.5 + 0.3 * torch.cos(2 * math.pi * x / 48) * torch.cos(2 * math.pi * y / 32)).double()
    fast = (0.5 + 0.3 * (-1.0) ** (x + y)).double()
    images = torch.stack([slow, fast])[:, None]
    parameters = LaplacianPyramid(3).init(images)
    energy = torch.stack([p.square().mean((1, 2, 3)) for p in parameters])
    # A checkerboard has no mean over any 2 x 2 pixels. A wave of 32 pixels, from every fourth of them bilinearly, loses
    # (2 pi 4 / 32)^2 / 8 = 0.08 of its amplitude at most, and the square of that of its energy.
    assert float(energy[0, 1] / energy[:, 1].sum()) == pytest.approx(1, abs=1e-9)
    assert float(energy[2, 0] / energy[:, 0].sum()) > 0.98


@pytest.mark.parametrize("size", [(8, 12), (7, 10)])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_moved_as_a_whole_moves_the_picture_as_a_whole(size: tuple[int, int], level: int) -> None:
    """Every level is enlarged without gain: adding d to it adds d before the sigmoid."""
    images, kind = pictures(2, size), LaplacianPyramid(3)
    parameters = kind.init(images)
    parameters[level] = parameters[level].clone()
    parameters[level][1, 0] += 0.3
    change = torch.logit(kind.image(parameters, images)) - torch.logit(images)
    torch.testing.assert_close(change[1, 0], torch.full(size, 0.3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert float(change[0].abs().max()) < 1e-9
    assert float(change[1, 1].abs().max()) < 1e-9


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda: LaplacianPyramid(0), "not 0"), (lambda: LaplacianPyramid(edge=0.0), "between 0 and 0.5, not 0.0")],
)
def test_pyramids_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
