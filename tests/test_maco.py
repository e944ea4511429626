"""MACO: the magnitude is held whatever the phases; spectra of pictures by a slow transform."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from inward.columns.maco import MACO
from inward.columns.spectrum import natural, spectrum_of, standardized
from inward.columns.starts import Gray, Noise
from inward.errors import CallError

# Every pairing of odd and even sides, and those in which frequencies are their own mirror images.
SIZES = [(5, 7), (6, 9), (7, 4), (8, 6), (8, 8), (1, 3), (4, 1), (2, 2)]
# Square root of the covariance of the colors of natural images, its longest column made one.
RAW = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
COLOR = RAW / RAW.square().sum(0).sqrt().max()


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(channels: int, size: tuple[int, int], seed: int = 0, count: int = 3) -> Tensor:
    drawn = torch.rand((count, channels, *size), generator=rng(seed), dtype=torch.float64)
    return 0.05 + 0.9 * drawn


def before_squashing(images: Tensor, decorrelate: bool = True) -> Tensor:
    plain = torch.logit(images)
    if decorrelate and images.shape[1] == 3:
        plain = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(COLOR), plain)
    return plain


def some_spectrum(channels: int, size: tuple[int, int], seed: int = 1) -> Tensor:
    """Any magnitudes with the symmetry of a real picture, of contrasts that the sigmoid does not round."""
    white = torch.randn((channels, *size), generator=rng(seed), dtype=torch.float64)
    return torch.fft.rfft2(white).abs()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("decorrelate", [True, False])
def test_the_magnitude_is_the_spectrum_whatever_the_phases(
    size: tuple[int, int], channels: int, decorrelate: bool
) -> None:
    spectrum = some_spectrum(channels, size)
    kind, like = MACO(spectrum, decorrelate=decorrelate), torch.zeros((3, channels, *size), dtype=torch.float64)
    phases = 20 * torch.randn((3, *spectrum.shape), generator=rng(2), dtype=torch.float64)
    images = kind.image([phases], like)
    assert float(images.min()) > 0
    assert float(images.max()) < 1
    found = torch.fft.rfft2(before_squashing(images, decorrelate)).abs()
    # The logit of values that are 1e-3 from 0 or 1 loses three digits, and the transform adds 64 of them.
    torch.testing.assert_close(found, spectrum.expand_as(found), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(5, 6), (4, 7)])
def test_a_phase_is_that_of_its_wave(size: tuple[int, int]) -> None:
    """The picture by the sum over all frequencies, written out: f and -f have opposite phases."""
    height, width = size
    spectrum, like = some_spectrum(1, size), torch.zeros((2, 1, *size), dtype=torch.float64)
    phases = torch.randn((2, *spectrum.shape), generator=rng(3), dtype=torch.float64)
    found = torch.logit(MACO(spectrum).image([phases], like))
    for n in range(2):
        total = [[0j] * width for _ in range(height)]
        for ky in range(height):
            for kx in range(width):
                my, mx = -ky % height, -kx % width
                if (my, mx) == (ky, kx):
                    phase = 0.0 if math.cos(phases[n, 0, ky, kx]) >= 0 else math.pi
                    radius = float(spectrum[0, ky, kx])
                elif kx < mx or (kx == mx and ky < my):
                    phase, radius = float(phases[n, 0, ky, kx]), float(spectrum[0, ky, kx])
                else:
                    phase, radius = -float(phases[n, 0, my, mx]), float(spectrum[0, my, mx])
                for y in range(height):
                    for x in range(width):
                        angle = 2 * math.pi * (ky * y / height + kx * x / width) + phase
                        total[y][x] += radius * cmath.exp(1j * angle) / (height * width)
        for y in range(height):
            for x in range(width):
                assert abs(total[y][x].imag) < 1e-12
                assert float(found[n, 0, y, x]) == pytest.approx(total[y][x].real, abs=1e-11)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_an_image_keeps_its_phase(size: tuple[int, int], channels: int) -> None:
    images = pictures(channels, size)
    spectrum = some_spectrum(channels, size)
    kind = MACO(spectrum)
    found = torch.fft.rfft2(before_squashing(kind.image(kind.init(images), images)))
    expected = torch.fft.rfft2(before_squashing(images))
    unit = expected / expected.abs()
    torch.testing.assert_close(found, unit * spectrum, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("size", SIZES)
def test_an_image_that_has_the_spectrum_is_kept(size: tuple[int, int]) -> None:
    (image,) = pictures(3, size, count=1)
    spectrum = torch.fft.rfft2(before_squashing(image[None]))[0].abs()
    kind = MACO(spectrum)
    found = kind.image(kind.init(image[None]), image[None])
    torch.testing.assert_close(found, image[None], rtol=0, atol=1e-8)


@pytest.mark.parametrize("value", [0.5, 0.3])
def test_phases_that_an_image_does_not_tell_are_drawn_from_its_seed(value: float) -> None:
    """Gray tells the sign of its mean, and of all other waves nothing."""
    like = torch.zeros((3, 2, 9, 12), dtype=torch.float32)
    gray = Gray(value)(like, [])
    (phases,) = MACO().init(gray, [4, 5, 4])
    assert torch.equal(phases[0], phases[2])
    rest = phases.flatten(2)[:, :, 1:]
    # Uniform in [-pi, pi]: two sets of 2 x 62 phases, mean 0 with a standard deviation of 1.81 / sqrt(124).
    for i in (0, 1):
        assert abs(float(rest[i].mean())) < 4 * 1.81 / math.sqrt(rest[i].numel())
        assert float(rest[i].std()) == pytest.approx(math.pi / math.sqrt(3), rel=0.25)
    assert float((rest[0] - rest[1]).abs().max()) > 1
    if value == 0.3:
        assert phases[:, :, 0, 0].abs().tolist() == [[pytest.approx(math.pi)] * 2] * 3


def test_noise_tells_all_of_its_phases() -> None:
    """In float32, with the noise that pictures start from, nothing is left to the seed."""
    images = Noise()(torch.zeros(2, 3, 64, 96), [0, 1])
    a, b = MACO().init(images, [0, 1])[0], MACO().init(images, [2, 3])[0]
    assert float((a != b).double().mean()) < 0.001


@pytest.mark.parametrize("size", [(8, 6), (5, 7)])
def test_every_phase_but_those_of_the_mirror_has_a_gradient(size: tuple[int, int]) -> None:
    """By finite differences: what is not read (the second of a pair of mirrored waves, and signs) gets none."""
    height, width = size
    spectrum, like = some_spectrum(1, size), torch.zeros((2, 1, *size), dtype=torch.float64)
    phases = torch.randn((2, *spectrum.shape), generator=rng(3), dtype=torch.float64).requires_grad_(True)
    weights = torch.randn(like.shape, generator=rng(4), dtype=torch.float64)
    kind = MACO(spectrum)
    (found,) = torch.autograd.grad((kind.image([phases], like) * weights).sum(), phases)
    plain = phases.detach()
    for index in range(plain.numel()):
        move = torch.zeros(plain.numel(), dtype=torch.float64)
        move[index] = 1e-5
        up, down = (kind.image([plain + sign * move.view(plain.shape)], like) for sign in (1, -1))
        difference = float(((up - down) * weights).sum()) / 2e-5
        # Central differences: 1e-10 f''' / 6 + 1e-16 / 1e-5.
        assert float(found.flatten()[index]) == pytest.approx(difference, abs=1e-8)
    mirrors = [0] if width % 2 else [0, width // 2]
    free = torch.ones(height, width // 2 + 1, dtype=torch.bool)
    for column in mirrors:
        free[:, column] = False
        free[1 : (height - 1) // 2 + 1, column] = True
    # As many as a picture has pixels, but for the signs, and one phase for two numbers.
    signs = len(mirrors) * (1 if height % 2 else 2)
    assert int(free.sum()) * 2 + signs == height * width
    assert torch.equal(found[0, 0] != 0, free)
    assert torch.equal(found[1, 0] != 0, free)


@pytest.mark.parametrize("size", [(8, 6), (5, 7), (64, 48)])
def test_the_default_is_the_law_of_natural_images(size: tuple[int, int]) -> None:
    height, width = size
    (magnitude,) = natural(size)
    assert float(magnitude[0, 0]) == 0
    at = [(0, 1), (1, 0), (2, 2), (height - 1, 1)]
    lengths = [math.hypot(min(y, height - y) / height, x / width) for y, x in at]
    lengths = [max(f, 1 / max(height, width)) for f in lengths]
    products = [float(magnitude[y, x]) * f for (y, x), f in zip(at, lengths, strict=True)]
    assert products == pytest.approx([products[0]] * 4, rel=1e-12)
    for channels in (1, 3, 4):
        like = torch.zeros((2, channels, *size), dtype=torch.float64)
        kind = MACO()
        plain = before_squashing(kind.image(kind.init(like + 0.5, [0, 1]), like))
        assert plain.mean((2, 3)).abs().max() < 1e-9
        torch.testing.assert_close(
            plain.std((2, 3), correction=0), torch.ones(2, channels, dtype=torch.float64), rtol=1e-7, atol=0
        )


@pytest.mark.parametrize("size", [(5, 6), (4, 7)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_spectrum_of_pictures_is_the_mean_magnitude(size: tuple[int, int], channels: int) -> None:
    """Every coefficient by its sum, the constant one left out, and a standard deviation of 1."""
    height, width = size
    images = pictures(channels, size, count=3)
    plain = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(COLOR), images) if channels == 3 else images
    expected = torch.zeros((channels, height, width // 2 + 1), dtype=torch.float64)
    y, x = torch.arange(height, dtype=torch.float64)[:, None], torch.arange(width, dtype=torch.float64)
    power = 0.0
    for ky in range(height):
        for kx in range(width):
            if (ky, kx) == (0, 0):
                continue
            angle = 2 * math.pi * (ky * y / height + kx * x / width)
            length = torch.hypot((plain * angle.cos()).sum((2, 3)), (plain * angle.sin()).sum((2, 3))).mean(0)
            power += float(length.square().sum())
            if kx <= width // 2:
                expected[:, ky, kx] = length
    expected /= math.sqrt(power / channels) / (height * width)
    found = spectrum_of(images, size)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    # A picture that holds it has a standard deviation of 1 over all of its channels, and none of its means.
    kind = MACO(found)
    made = before_squashing(kind.image(kind.init(images), images))
    assert made.flatten(1).square().mean(1).tolist() == pytest.approx([1.0] * 3, rel=1e-7)
    assert float(made.mean((2, 3)).abs().max()) < 1e-7


def test_pictures_come_in_batches_of_any_size_and_are_read_once() -> None:
    images = pictures(3, (6, 8), count=5)
    read = []

    def batches() -> Iterator[Tensor]:
        for part in images.split([2, 1, 2]):
            read.append(len(part))
            yield part

    torch.testing.assert_close(spectrum_of(batches(), (6, 8)), spectrum_of(images, (6, 8)), rtol=1e-12, atol=0)
    assert read == [2, 1, 2]
    torch.testing.assert_close(spectrum_of(images.float(), (6, 8)), spectrum_of(images, (6, 8)), rtol=1e-5, atol=1e-5)
    plain = spectrum_of(images, (6, 8), decorrelate=False)
    assert float((plain - spectrum_of(images, (6, 8))).abs().max()) > 1


def test_larger_pictures_are_reduced_first() -> None:
    """Doubled pixels, reduced by two, weigh their neighbors too: 1/8, 3/8, 3/8, 1/8 over each side."""
    images = pictures(2, (10, 14), count=2)
    mean = torch.nn.functional.pad(images, (1, 1, 1, 1)).unfold(2, 4, 2).unfold(3, 4, 2)
    weights = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64) / 8
    expected = torch.einsum("ncyxab,a,b->ncyx", mean, weights, weights)
    found = torch.nn.functional.interpolate(images, (5, 7), mode="bilinear", antialias=True)
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(spectrum_of(images, (5, 7)), spectrum_of(found, (5, 7)), rtol=1e-12, atol=0)


def test_photographs_fall_about_as_one_over_f(shared_data: Path) -> None:
    """Of 20 photographs: log magnitude of the bright-dark channel against log f, slope -1 to -1.5 (Field, 1987).

    The two channels of color fall faster; these are the mean over 20 scenes, of which each has its own slope.
    """
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[::35][:20]
    assert len(files) == 20

    def batches() -> Iterator[Tensor]:
        for file in files:
            with Image.open(file) as picture:
                values = np.asarray(picture.convert("RGB").resize((128, 96)), dtype=np.float32) / 255
            yield torch.from_numpy(values).permute(2, 0, 1)[None]

    found = spectrum_of(batches(), (96, 128))
    fy, fx = torch.fft.fftfreq(96, dtype=torch.float64)[:, None], torch.fft.rfftfreq(128, dtype=torch.float64)[None]
    f = (fy.square() + fx.square()).sqrt()
    inside = (f > 0.02) & (f < 0.2)
    x, y = f[inside].log(), found[0][inside].log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    assert -1.5 < slope < -1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_of_inference_mode_do_not_stay(dtype: torch.dtype) -> None:
    like = torch.zeros((1, 3, 11, 13), dtype=dtype)
    with torch.inference_mode():
        kind = MACO()
        kind.image(kind.init(like + 0.5), like)
    assert not kind.magnitude(like).is_inference()
    parameters = [p.requires_grad_(True) for p in kind.init(like + 0.5)]
    (found,) = torch.autograd.grad(kind.image(parameters, like).square().sum(), parameters)
    assert float(found.abs().max()) > 0


def test_a_picture_of_one_pixel_is_gray() -> None:
    like = torch.zeros((2, 3, 1, 1), dtype=torch.float64)
    assert MACO().image(MACO().init(like + 0.5), like).unique().tolist() == [0.5]
    assert float(standardized(torch.ones(1, 1, 1), (1, 1))) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectrum_of([], (4, 4)), "no pictures"),
        (lambda: spectrum_of(torch.zeros(0, 3, 4, 4), (4, 4)), "no pictures"),
        (lambda: spectrum_of([torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)], (4, 4)), "of 3 and of 1 channels"),
        (lambda: MACO(-torch.ones(1, 4, 3)), "make it with spectrum_of"),
        (lambda: MACO(torch.full((1, 4, 3), math.nan)), "make it with spectrum_of"),
        (lambda: MACO(edge=0.5), "not 0.5"),
        (
            lambda: MACO(torch.ones(3, 4, 3)).image([torch.zeros(1, 3, 6, 4)], torch.zeros(1, 3, 6, 6)),
            r"spectrum_of\(images, \(6, 6\)\)",
        ),
        (lambda: MACO().init(torch.zeros(2, 1, 4, 4), [1]), "there is 1 seed for 2 images"),
    ],
)
def test_spectra_that_do_not_fit_are_refused(call, message: str) -> None:
    with pytest.raises(CallError, match=message):
        call()
