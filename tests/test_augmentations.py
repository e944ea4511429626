"""Augmentations by their statistics, their direction, and the one resampling of a sequence."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from inward.columns.augmentations import (
    Augmentation,
    Compose,
    Jitter,
    Pad,
    RandomCrop,
    Rotate,
    Scale,
    _Affine,
    resample,
    standard,
)
from inward.errors import CallError

# Bilinear weights of 0 and 1 are off by the rounding of a coordinate of about 10 pixels.
WHOLE = 1e-12
SIZE = (8, 11)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(height: int = SIZE[0], width: int = SIZE[1], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand((3, 2, height, width), generator=rng(5), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Fixed(_Affine):
    """A map that is given."""

    values: Tensor = field(default_factory=lambda: torch.eye(3, dtype=torch.float64))

    def matrix(self, generator: torch.Generator, size: tuple[int, int]) -> Tensor:
        return self.values


def shift(x: float, y: float) -> Fixed:
    """Takes every pixel from x to the right and y below."""
    return Fixed(torch.tensor([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=torch.float64))


def turn(degrees: float) -> Fixed:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return Fixed(torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64))


@pytest.mark.parametrize("pixels", [1, 3])
def test_jitter_is_uniform_over_whole_pixels_both_ways(pixels: int) -> None:
    side, draws, generator = 2 * pixels + 1, 4000, rng()
    counts = np.zeros((side, side))
    for _ in range(draws):
        matrix = Jitter(pixels).matrix(generator, SIZE)
        x, y = matrix[0, 2].item(), matrix[1, 2].item()
        assert (x, y) == (round(x), round(y))
        counts[round(y) + pixels, round(x) + pixels] += 1
        assert torch.equal(matrix[:, :2], torch.eye(3, dtype=torch.float64)[:, :2])
    expected = draws / side**2
    chi_square, freedom = float(((counts - expected) ** 2 / expected).sum()), side**2 - 1
    # Mean k and variance 2k: four standard deviations.
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom)
    assert counts.min() > 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, WHOLE), (torch.float32, 1e-5)])
def test_a_shift_by_whole_pixels_does_not_blur_and_mirrors_the_border(dtype: torch.dtype, tolerance: float) -> None:
    images = pictures(dtype=dtype)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (4, 4), (4, 4)), mode="symmetric")
    for x, y in [(0, 0), (3, 0), (0, -4), (-2, 1), (4, 4)]:
        found = shift(x, y)(images, rng())
        expected = padded[:, :, 4 + y : 12 + y, 4 + x : 15 + x]
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance)


def test_jitter_is_one_of_the_shifts() -> None:
    images, generator = pictures(), rng(1)
    shifts = {(x, y): shift(x, y)(images, rng()) for x in range(-2, 3) for y in range(-2, 3)}
    for _ in range(30):
        found = Jitter(2)(images, generator)
        assert min(float((found - s).abs().max()) for s in shifts.values()) < WHOLE


def test_scale_is_uniform_in_its_range() -> None:
    generator = rng()
    factors = []
    for _ in range(3000):
        matrix = Scale(0.8, 1.3).matrix(generator, SIZE)
        assert matrix[0, 0] == matrix[1, 1]
        factors.append(1 / matrix[0, 0].item())
    assert 0.8 <= min(factors) < 0.802
    assert 1.298 < max(factors) <= 1.3
    # Standard deviation of the mean: 0.5 / sqrt(12 * 3000) = 0.0026.
    assert np.mean(factors) == pytest.approx(1.05, abs=0.01)
    assert np.std(factors) == pytest.approx(0.5 / math.sqrt(12), rel=0.03)


@pytest.mark.parametrize(("factor", "side"), [(2.0, 8), (1.0, 4), (0.5, 2)])
def test_a_factor_above_one_enlarges_about_the_center(factor: float, side: int) -> None:
    """A centered square of 4 x 4 in 16 x 20 becomes one of 4 * factor; its area is the sum of the picture."""
    image = torch.zeros((2, 1, 16, 20), dtype=torch.float64)
    image[:, :, 6:10, 8:12] = 1
    found = Compose((Pad(0), Scale(factor, factor)))(image, rng())
    rows, columns = found[0, 0].sum(1), found[0, 0].sum(0)
    # Shares at the border are split between pixels, so that the size is kept to half a pixel a side.
    assert math.sqrt(float(found[0].sum())) == pytest.approx(side, rel=0.02)
    assert torch.allclose(rows, rows.flip(0))
    assert torch.allclose(columns, columns.flip(0))
    assert found[0, 0, 7:9, 9:11].min() == pytest.approx(1)


def test_rotate_is_uniform_in_its_range() -> None:
    generator = rng()
    angles = []
    for _ in range(3000):
        matrix = Rotate(12).matrix(generator, SIZE)
        torch.testing.assert_close(matrix @ matrix.T, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-15)
        angles.append(math.degrees(math.atan2(matrix[1, 0], matrix[0, 0])))
    assert -12 <= min(angles) < -11.9
    assert 11.9 < max(angles) <= 12
    # Standard deviation of the mean: 24 / sqrt(12 * 3000) = 0.13 degrees.
    assert np.mean(angles) == pytest.approx(0, abs=0.5)
    assert np.std(angles) == pytest.approx(24 / math.sqrt(12), rel=0.03)


def test_rotate_draws_an_angle_and_turns_by_it() -> None:
    for seed in range(5):
        share = torch.rand((), generator=rng(seed), dtype=torch.float64).item()
        expected = turn(-12 + 24 * share).values
        torch.testing.assert_close(Rotate(12).matrix(rng(seed), SIZE), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("times", [1, 2, 3, -1])
def test_a_quarter_turn_is_rot90(times: int) -> None:
    """Positive angles turn counterclockwise, as torch.rot90 does."""
    square = pictures(7, 7)
    found = turn(90 * times)(square, rng())
    torch.testing.assert_close(found, square.rot90(times, (2, 3)), rtol=0, atol=WHOLE)


def test_a_turn_of_a_wide_picture_keeps_its_proportions() -> None:
    """Lengths are pixels both ways: the middle square of a picture of 6 x 10 is turned, not stretched."""
    wide = pictures(6, 10)
    found = turn(90)(wide, rng())
    torch.testing.assert_close(found[..., 2:8], wide[..., 2:8].rot90(1, (2, 3)), rtol=0, atol=WHOLE)


def test_pad_fills_what_comes_from_outside() -> None:
    images = pictures()
    found = Compose((Pad(0.25), shift(3, -2)))(images, rng())
    assert torch.allclose(found[:, :, :2], torch.tensor(0.25, dtype=torch.float64), rtol=0, atol=WHOLE)
    assert torch.allclose(found[:, :, :, -3:], torch.tensor(0.25, dtype=torch.float64), rtol=0, atol=WHOLE)
    torch.testing.assert_close(found[:, :, 2:, :-3], images[:, :, :-2, 3:], rtol=0, atol=WHOLE)
    torch.testing.assert_close(Pad(0.25)(images, rng()), images, rtol=0, atol=WHOLE)
    assert torch.equal(Compose((Pad(0.25), shift(3, 0), Pad(0.25), shift(0, -2)))(images, rng()), found)
    with pytest.raises(CallError, match=r"paddings of 0.1 and 0.9"):
        Compose((Pad(0.9), Jitter(1), Pad(0.1)))(images, rng())


def test_a_sequence_is_applied_in_its_order() -> None:
    """A shift and then a quarter turn, both without loss, against one after the other."""
    square = pictures(8, 8)
    first, then = shift(2, 0), turn(90)
    slow = torch.full_like(square, 0.5)
    slow[..., :6] = square[..., 2:]
    found = Compose((Pad(0.5), first, then))(square, rng())
    torch.testing.assert_close(found, slow.rot90(1, (2, 3)), rtol=0, atol=WHOLE)
    other = Compose((Pad(0.5), then, first))(square, rng())
    assert float((found - other).abs().max()) > 0.1


def test_a_sequence_resamples_once_by_the_product_of_its_maps() -> None:
    images = pictures()
    parts = (Jitter(3), Scale(0.8, 1.2), Rotate(30), Jitter(2))
    generator = rng(3)
    jitter, scale, rotate, last = (part.matrix(generator, SIZE) for part in parts)
    expected = resample(images, jitter @ scale @ rotate @ last, None)
    assert torch.equal(Compose(parts)(images, rng(3)), expected)
    # By hand, one pixel: where it comes from, in pixels from the center, and its four neighbors there.
    y, x = 4, 6
    place = torch.tensor([x + 0.5 - 11 / 2, y + 0.5 - 8 / 2, 1], dtype=torch.float64)
    for matrix in (last, rotate, scale, jitter):
        place = matrix @ place
    column, row = float(place[0]) + 11 / 2 - 0.5, float(place[1]) + 8 / 2 - 0.5
    left, top = math.floor(column), math.floor(row)
    assert 0 <= left < 10
    assert 0 <= top < 7
    right, down = column - left, row - top
    corner = images[:, :, top : top + 2, left : left + 2]
    weights = torch.tensor([[(1 - down) * (1 - right), (1 - down) * right], [down * (1 - right), down * right]])
    torch.testing.assert_close(expected[:, :, y, x], (corner * weights).sum((2, 3)), rtol=0, atol=1e-6)


def test_a_part_that_is_no_map_stands_between_two_resamplings() -> None:
    def square(images: Tensor, generator: torch.Generator) -> Tensor:
        return images * images

    images = pictures()
    found = Compose((shift(1, 0), square, shift(-1, 2)))(images, rng())
    expected = shift(-1, 2)(shift(1, 0)(images, rng()).square(), rng())
    torch.testing.assert_close(found, expected, rtol=0, atol=WHOLE)
    assert torch.equal(Compose()(images, rng()), images)


def test_crops_have_uniform_sides_and_uniform_places_inside() -> None:
    generator, (height, width), draws = rng(), (8, 11), 4000
    sides, places, corners = [], [], []
    for _ in range(draws):
        matrix = RandomCrop(0.3, 0.8).matrix(generator, (height, width))
        side = matrix[0, 0].item()
        torch.testing.assert_close(matrix, torch.tensor([[side, 0, matrix[0, 2]], [0, side, matrix[1, 2]], [0, 0, 1]]))
        # The corners of the result, taken to the picture.
        corner = torch.tensor([[-width / 2, width / 2], [-height / 2, height / 2], [1, 1]], dtype=torch.float64)
        corners.append((matrix @ corner)[:2] + torch.tensor([[width / 2], [height / 2]]))
        sides.append(side)
        places.append(
            [(matrix[0, 2] / (width / 2 * (1 - side))).item(), (matrix[1, 2] / (height / 2 * (1 - side))).item()]
        )
    inside = torch.stack(corners)
    assert float(inside.min()) > -1e-12
    assert float(inside[:, 0].max()) < width + 1e-12
    assert float(inside[:, 1].max()) < height + 1e-12
    assert 0.3 <= min(sides) < 0.302
    assert 0.798 < max(sides) <= 0.8
    # Standard deviation of the mean: 0.5 / sqrt(12 * 4000) = 0.0023; that of the spread is half as large.
    assert np.mean(sides) == pytest.approx(0.55, abs=0.01)
    assert np.std(sides) == pytest.approx(0.5 / math.sqrt(12), abs=0.005)
    # Places as a share of the room there is, in [-1, 1] both ways: 16 equal cells, mean k and variance 2k.
    counts, _, _ = np.histogram2d(*np.array(places).T, bins=4, range=[[-1, 1], [-1, 1]])
    assert counts.sum() == draws
    chi_square = float(((counts - draws / 16) ** 2 / (draws / 16)).sum())
    assert chi_square < 15 + 4 * math.sqrt(30)
    # And not tied to the side: a correlation of 4000 pairs, to four standard deviations.
    assert np.abs(np.corrcoef(sides, np.abs(places).sum(1))[0, 1]) < 4 / math.sqrt(draws)


def test_a_crop_of_everything_is_the_picture() -> None:
    images = pictures()
    torch.testing.assert_close(RandomCrop(1, 1)(images, rng()), images, rtol=0, atol=WHOLE)


def test_a_crop_shows_the_plane_of_its_place() -> None:
    """Of a picture that rises evenly, bilinear enlargement is exact: the crop rises by its side as much."""
    y, x = (v.double() for v in torch.meshgrid(torch.arange(8), torch.arange(11), indexing="ij"))
    plane = torch.stack([0.05 * x + 0.02 * y, 0.9 - 0.06 * y]).expand(3, 2, 8, 11)
    for seed in range(6):
        matrix = RandomCrop(0.4, 0.7).matrix(rng(seed), SIZE)
        side, left, top = matrix[0, 0].item(), matrix[0, 2].item(), matrix[1, 2].item()
        found = RandomCrop(0.4, 0.7)(plane, rng(seed))
        across = side * (x - 5) + 5 + left
        down = side * (y - 3.5) + 3.5 + top
        # Where the place lies between the centers of pixels: beyond them the border is mirrored.
        whole = (across >= 0) & (across <= 10) & (down >= 0) & (down <= 7)
        assert int(whole.sum()) > 60
        expected = torch.stack([0.05 * across + 0.02 * down, 0.9 - 0.06 * down])
        for n in range(3):
            torch.testing.assert_close(found[n][:, whole], expected[:, whole], rtol=0, atol=WHOLE)


def test_a_crop_composes_with_other_maps_in_one_resampling() -> None:
    images, generator = pictures(), rng(3)
    parts = (RandomCrop(0.5, 0.9), Rotate(30), Jitter(2))
    crop, turned, moved = (part.matrix(generator, SIZE) for part in parts)
    assert torch.equal(Compose(parts)(images, rng(3)), resample(images, crop @ turned @ moved, None))


AUGMENTATIONS = [Jitter(2), Scale(0.8, 1.2), Rotate(20), RandomCrop(0.3, 0.8), Pad(0.3), standard((8, 11))]


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_one_draw_serves_the_batch_and_a_seed_gives_it_again(augmentation: Augmentation) -> None:
    images = pictures()
    found = augmentation(images, rng(2))
    assert (found.shape, found.dtype) == (images.shape, images.dtype)
    assert torch.equal(found, augmentation(images, rng(2)))
    for i in range(3):
        torch.testing.assert_close(augmentation(images[i : i + 1], rng(2)), found[i : i + 1], rtol=0, atol=1e-14)
    if not isinstance(augmentation, Pad):
        assert float((found - augmentation(images, rng(3))).abs().max()) > 1e-3


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: type(a).__name__)
def test_the_gradient_is_the_transpose_of_the_map(augmentation: Augmentation) -> None:
    """f is affine in the image, so that f(u) - f(0) = J u without error, and <v, J u> = <J' v, u>."""
    images, v = pictures().requires_grad_(True), torch.randn((3, 2, 8, 11), generator=rng(6), dtype=torch.float64)
    (transposed,) = torch.autograd.grad((augmentation(images, rng(2)) * v).sum(), images)
    for seed in range(5):
        u = torch.randn(v.shape, generator=rng(seed + 10), dtype=torch.float64)
        moved = augmentation(u, rng(2)) - augmentation(torch.zeros_like(u), rng(2))
        assert float((v * moved).sum()) == pytest.approx(float((transposed * u).sum()), rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(
    ("size", "shifts"), [((224, 224), (8, 4)), ((448, 600), (16, 8)), ((112, 224), (4, 2)), ((8, 11), (1, 1))]
)
def test_the_standard_set_is_in_proportion(size: tuple[int, int], shifts: tuple[int, int]) -> None:
    found = standard(size)
    assert tuple(p.pixels for p in found.parts if isinstance(p, Jitter)) == shifts
    assert found.parts == (Pad(0.5), Jitter(shifts[0]), Scale(0.9, 1.1), Rotate(10), Jitter(shifts[1]))


def test_augmentations_leave_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    standard((8, 11))(pictures(), rng())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(0.0, 1.0), "from 0.0 to 1.0"),
        (lambda: Scale(1.2, 0.8), "from 1.2 to 0.8"),
        (lambda: Scale(0.5, math.inf), "from 0.5 to inf"),
        (lambda: Jitter(-1), "0 pixels or more, not -1"),
        (lambda: Rotate(math.nan), "not nan"),
        (lambda: RandomCrop(0.0, 0.5), "from 0.0 to 0.5"),
        (lambda: RandomCrop(0.8, 0.5), "from 0.8 to 0.5"),
        (lambda: RandomCrop(0.5, 1.1), "from 0.5 to 1.1"),
    ],
)
def test_augmentations_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
