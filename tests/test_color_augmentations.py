"""Changes of color and noise: their statistics, single draws by hand, gradients; and the named sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from inward.columns.augmentations import (
    SETS,
    Augmentation,
    ColorShift,
    Compose,
    GaussianNoise,
    Jitter,
    RandomCrop,
    named,
    standard,
)
from inward.errors import CallError

SIZE = (8, 11)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(channels: int = 3, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand((3, channels, *SIZE), generator=rng(5), dtype=torch.float64)


def uniform(values: list[float], low: float, high: float) -> None:
    """The range, the mean and the spread of a uniform distribution, each to four standard deviations."""
    width, count = high - low, len(values)
    # The nearest of n draws to an end is farther from it than 10 / n of the width once in e^10.
    assert low - 1e-12 <= min(values) < low + 10 * width / count
    assert high - 10 * width / count < max(values) <= high + 1e-12
    spread = width / math.sqrt(12)
    assert np.mean(values) == pytest.approx((low + high) / 2, abs=4 * spread / math.sqrt(count))
    # The fourth moment of a uniform distribution is 1.8 times its variance squared.
    assert np.std(values) == pytest.approx(spread, rel=4 * math.sqrt(0.8 / count) / 2)


def test_the_factors_of_color_are_uniform_in_their_ranges() -> None:
    """Read off four colors: gray tells contrast and brightness, red and green the saturation."""
    probe = torch.tensor([[0.4, 0.4, 0.4], [0.6, 0.6, 0.6], [0.6, 0.4, 0.5]], dtype=torch.float64).T[None, :, None]
    shift, generator = ColorShift(0.05, 0.3, 0.2), rng()
    saturations, contrasts, brightnesses = [], [], []
    for _ in range(3000):
        found = shift(probe, generator)[0, :, 0]
        contrast = float(found[0, 1] - found[0, 0]) / 0.2
        contrasts.append(contrast)
        brightnesses.append(float(found[0, 0] + found[0, 1]) / 2 - 0.5)
        saturations.append(float(found[0, 2] - found[1, 2]) / 0.2 / contrast)
    uniform(saturations, 0.8, 1.2)
    uniform(contrasts, 0.7, 1.3)
    uniform(brightnesses, -0.05, 0.05)
    # Drawn one by one: correlations of 3000 pairs, to four standard deviations.
    table = np.corrcoef([saturations, contrasts, brightnesses])
    assert float(np.abs(table - np.eye(3)).max()) < 4 / math.sqrt(3000)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_change_of_color_by_hand(channels: int) -> None:
    images = pictures(channels)
    for seed in range(4):
        generator = rng(seed)
        s, c, b = (
            float(middle - reach + 2 * reach * torch.rand((), generator=generator, dtype=torch.float64))
            for middle, reach in ((1, 0.5), (1, 0.4), (0, 0.3))
        )
        found = ColorShift(0.3, 0.4, 0.5)(images, rng(seed))
        for n, y, x in [(0, 0, 0), (1, 3, 10), (2, 7, 5)]:
            pixel = images[n, :, y, x].tolist()
            luma = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2] if channels == 3 else None
            shifted = [0.5 + c * ((v if luma is None else luma + s * (v - luma)) - 0.5) + b for v in pixel]
            expected = [min(max(v, 0.0), 1.0) for v in shifted]
            assert found[n, :, y, x].tolist() == pytest.approx(expected, abs=1e-12)


def test_color_and_gray_draw_the_same_numbers() -> None:
    states = []
    for channels in (1, 3, 5):
        generator = rng(8)
        ColorShift()(pictures(channels), generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


def test_no_change_of_color_is_none() -> None:
    images = pictures()
    torch.testing.assert_close(ColorShift(0, 0, 0)(images, rng()), images, rtol=0, atol=1e-15)


def test_noise_is_normal_and_one_for_the_batch() -> None:
    images = torch.full((2, 3, 40, 50), 0.5, dtype=torch.float64)
    generator = rng(1)
    drawn = []
    for _ in range(5):
        found = GaussianNoise(0.05)(images, generator)
        assert torch.equal(found[0], found[1])
        drawn.append((found[0] - 0.5) / 0.05)
    noise = torch.stack(drawn)
    count = noise.numel()
    # Moments of n normal numbers have the variances 1, 2, 15 - 9 and 96 over n; four standard deviations.
    for power, (expected, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert float(noise.pow(power).mean()) == pytest.approx(expected, abs=4 * math.sqrt(variance / count))
    # Nothing in common between passes, channels and neighbors.
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 4 / math.sqrt(count * 4 / 5)
    assert abs(float((noise[:, 1:] * noise[:, :-1]).mean())) < 4 / math.sqrt(count * 2 / 3)
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 4 / math.sqrt(count * 49 / 50)
    assert torch.equal(GaussianNoise(0.0)(images, rng()), images)


def test_noise_depends_on_the_seed_and_not_on_the_dtype() -> None:
    images = pictures(low=0.3, high=0.7)
    wide, narrow = GaussianNoise(0.02)(images, rng(3)), GaussianNoise(0.02)(images.float(), rng(3))
    assert narrow.dtype == torch.float32
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=1e-6)
    assert float((wide - GaussianNoise(0.02)(images, rng(4))).abs().max()) > 0.02


CHANGES = [ColorShift(0.3, 0.5, 0.9), GaussianNoise(0.3), Compose((RandomCrop(0.3, 0.8), GaussianNoise(0.2)))]


@pytest.mark.parametrize("change", CHANGES, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_what_is_in_the_box_stays_in_it(change: Augmentation, channels: int) -> None:
    images = torch.cat([pictures(channels), pictures(channels).round()])
    reached = torch.zeros(2, dtype=torch.bool)
    for seed in range(20):
        found = change(images, rng(seed))
        assert found.shape == images.shape
        assert float(found.min()) >= 0
        assert float(found.max()) <= 1
        reached |= torch.tensor([found.min() == 0, found.max() == 1])
        for i in range(2):
            torch.testing.assert_close(change(images[i : i + 1], rng(seed)), found[i : i + 1], rtol=0, atol=1e-14)
    assert bool(reached.all())


@pytest.mark.parametrize("change", CHANGES, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_of_changes_that_clip(change: Augmentation, channels: int) -> None:
    """By finite differences: what is clipped has none, everything else its factor."""
    images = pictures(channels).requires_grad_(True)
    weights = torch.randn(images.shape, generator=rng(6), dtype=torch.float64)
    for seed in range(3):
        found = change(images, rng(seed))
        clipped = (found == 0) | (found == 1)
        (gradient,) = torch.autograd.grad((found * weights).sum(), images)
        plain = images.detach()
        for index in range(0, plain.numel(), 5):
            move = torch.zeros(plain.numel(), dtype=torch.float64)
            move[index] = 1e-7
            up, down = (change(plain + sign * move.view(plain.shape), rng(seed)) for sign in (1, -1))
            # Linear between the edges, which nothing lies nearer to than the move: 1e-16 / 1e-7 is left.
            slow = float(((up - down) * weights).sum()) / 2e-7
            assert float(gradient.flatten()[index]) == pytest.approx(slow, abs=1e-7)
        if channels == 1 and not isinstance(change, Compose):
            assert bool((gradient[clipped] == 0).all())
            assert bool((gradient[~clipped].abs() > 0).all())


def test_the_sets_that_have_names() -> None:
    size = (224, 300)
    assert named("none", size) is None
    assert named("standard", size) == standard(size)
    cropping, coloring = named("crops", size), named("color", size)
    assert isinstance(cropping, Compose)
    assert [type(p) for p in cropping.parts] == [RandomCrop, GaussianNoise]
    assert isinstance(coloring, Compose)
    assert coloring.parts == (*standard(size).parts, ColorShift())
    assert next(p for p in coloring.parts if isinstance(p, Jitter)).pixels == 8
    assert list(SETS) == ["none", "standard", "crops", "color"]
    with pytest.raises(CallError, match="no augmentations 'colour'; there are none, standard, crops, color"):
        named("colour", size)


@pytest.mark.parametrize("name", ["standard", "crops", "color"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_set_keeps_the_shape_the_box_and_the_global_generator(name: str, channels: int) -> None:
    images, state = pictures(channels), torch.get_rng_state()
    found = named(name, SIZE)
    assert found is not None
    shown = found(images, rng(3))
    assert (shown.shape, shown.dtype) == (images.shape, images.dtype)
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
    assert float((shown - images).abs().max()) > 0.05
    assert torch.equal(shown, found(images, rng(3)))
    for i in range(3):
        torch.testing.assert_close(found(images[i : i + 1], rng(3)), shown[i : i + 1], rtol=0, atol=1e-14)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ColorShift(brightness=-0.1), "not -0.1, 0.2 and 0.2"),
        (lambda: ColorShift(contrast=1.5), "not 0.1, 1.5 and 0.2"),
        (lambda: ColorShift(saturation=math.nan), "not 0.1, 0.2 and nan"),
        (lambda: GaussianNoise(-0.1), "0 or more, not -0.1"),
        (lambda: GaussianNoise(math.inf), "0 or more, not inf"),
    ],
)
def test_changes_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
