"""The pointing game: hits by hand, distances by brute force, masks that do not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from helpers import Dead, conv_net, network
from inward import CallError, Network, saliency
from inward.results import Attribution
from inward.scoring.pointing import pointing_game
from same import images, seeded
from scored import mapped

SIZE = (9, 7)
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


def of(net: Network, values: Tensor, kind: str = "contribution") -> Attribution:
    return mapped(net, images(len(values), 3, *SIZE), values, kind=kind, target="class:1")


def square(rows: slice, columns: slice) -> Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[rows, columns] = True
    return mask


def peaks(*places: tuple[int, int]) -> Tensor:
    values = torch.zeros(len(places), 1, *SIZE)
    for i, (y, x) in enumerate(places):
        values[i, 0, y, x] = 2.0
    return values


def test_hits_by_hand(net: Network) -> None:
    mask = square(slice(2, 4), slice(1, 3))
    found = of(net, peaks((2, 1), (3, 4), (5, 2), (6, 6)))
    assert pointing_game(found, mask, tolerance=0).hits.tolist() == [1, 0, 0, 0]
    # (3, 4) lies 2 beside the mask, (5, 2) 2 below it, (6, 6) 3 below and 4 beside: 5 away.
    assert pointing_game(found, mask, tolerance=1.99).hits.tolist() == [1, 0, 0, 0]
    assert pointing_game(found, mask, tolerance=2).hits.tolist() == [1, 1, 1, 0]
    assert pointing_game(found, mask, tolerance=4.99).hits.tolist() == [1, 1, 1, 0]
    assert pointing_game(found, mask, tolerance=5).hits.tolist() == [1, 1, 1, 1]
    assert pointing_game(found, mask).hits.tolist() == [1, 1, 1, 1]


def test_a_mask_for_every_image(net: Network) -> None:
    masks = torch.stack([square(slice(0, 1), slice(0, 1)), square(slice(8, 9), slice(6, 7))])
    found = of(net, peaks((0, 0), (0, 0)))
    assert pointing_game(found, masks, tolerance=3).hits.tolist() == [1, 0]
    assert pointing_game(found[1], masks[1:], tolerance=3).hits.tolist() == [0]
    assert pointing_game(found[1], masks[1], tolerance=3).inside.tolist() == [0]


@settings(max_examples=40, deadline=None)
@each(radius=st.floats(0, 14), seed=st.integers(0, 999))
def test_near_is_what_brute_force_says(net: Network, radius: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(SIZE, generator=generator) > 0.9
    mask[int(torch.randint(0, 9, (), generator=generator)), 3] = True
    y, x = (int(torch.randint(0, n, (), generator=generator)) for n in SIZE)
    near = any((y - a) ** 2 + (x - b) ** 2 <= radius**2 for a, b in mask.nonzero().tolist())
    assert pointing_game(of(net, peaks((y, x))), mask, tolerance=radius).hits.tolist() == [float(near)]


def test_of_several_largest_values_the_share_that_hits(net: Network) -> None:
    mask = square(slice(0, 3), slice(0, 7))
    values = peaks((1, 1), (1, 1))
    values[0, 0, 5, 5] = values[0, 0, 6, 5] = values[0, 0, 7, 5] = 2.0
    values[1] = 1.0
    found = pointing_game(of(net, values), mask, tolerance=0)
    # A map that tells nothing apart points at the object as often as chance does: 21 of 63 pixels.
    assert found.hits.tolist() == pytest.approx([1 / 4, 21 / 63])


def test_the_share_of_what_is_positive(net: Network) -> None:
    mask = square(slice(0, 2), slice(0, 7))
    values = torch.zeros(3, 3, *SIZE)
    values[0, :, 0, 0] = torch.tensor([1.0, 2.0, 0.0])
    values[0, :, 5, 5] = torch.tensor([1.0, 1.0, -1.0])
    values[0, :, 6, 6] = -7.0
    values[1, 0, 8, 0] = 4.0
    values[2, 0, 0, 0] = -1.0
    inside = pointing_game(of(net, values), mask).inside
    assert inside[:2].tolist() == pytest.approx([3 / 4, 0])
    assert inside[2].isnan()
    # Of a sensitivity the largest size over the channels: 2 and 7 against 1.
    assert pointing_game(of(net, values, "sensitivity"), mask).inside[0].item() == pytest.approx(2 / (2 + 1 + 7))


def test_coarse_maps_are_enlarged(net: Network) -> None:
    coarse = torch.rand(2, 1, 3, 2, generator=torch.Generator().manual_seed(3))
    fine = F.interpolate(coarse.double(), SIZE, mode="bilinear", align_corners=False)
    mask = square(slice(1, 5), slice(2, 6))
    small, large = (pointing_game(of(net, v, "amount"), mask, tolerance=1) for v in (coarse, fine))
    assert torch.equal(small.hits, large.hits)
    assert small.inside.tolist() == pytest.approx(large.inside.tolist(), abs=1e-12)
    expected = (fine[:, 0] * mask).sum((1, 2)) / fine.sum((1, 2, 3))
    assert small.inside.tolist() == pytest.approx(expected.tolist(), abs=1e-12)


def test_a_dead_map_points_nowhere() -> None:
    mask = square(slice(0, 3), slice(0, 7))
    found = saliency(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="class:0")
    scored = pointing_game(found, mask, tolerance=0)
    assert scored.hits.tolist() == pytest.approx([1 / 3, 1 / 3])
    assert scored.inside.isnan().all()


@pytest.mark.parametrize(
    ("mask", "options", "reason"),
    [
        (torch.ones(7, 9, dtype=torch.bool), {}, r"the shape \(7, 9\), which does not fit; give one of \(9, 7\)"),
        (torch.ones(3, 9, 7, dtype=torch.bool), {}, r"\(3, 9, 7\), which does not fit"),
        (torch.ones(1, 1, 9, 7, dtype=torch.bool), {}, "does not fit"),
        (torch.ones(9, 7), {}, "a mask is a bool tensor, True on the object, not torch.float32"),
        (torch.zeros(9, 7, dtype=torch.bool), {}, "the mask of image 0 is empty"),
        (torch.arange(2)[:, None, None].expand(2, 9, 7) == 0, {}, "the mask of image 1 is empty"),
        (torch.ones(9, 7, dtype=torch.bool), {"tolerance": -1}, "0 pixels or more, not -1"),
        (torch.ones(9, 7, dtype=torch.bool), {"tolerance": float("nan")}, "not nan"),
    ],
    ids=["turned", "count", "channels", "float", "empty", "one-empty", "negative", "nan"],
)
def test_masks_that_do_not_fit_are_refused(net: Network, mask: Tensor, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        pointing_game(of(net, peaks((0, 0), (1, 1))), mask, **options)


def test_a_map_without_a_grid_is_refused(net: Network) -> None:
    found = saliency(net, images(2, 3, *SIZE), target="class:1", at="mean")
    with pytest.raises(CallError, match="no grid of pixels"):
        pointing_game(found, torch.ones(SIZE, dtype=torch.bool))
