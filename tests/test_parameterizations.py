"""Parameterizations (what all keep to, the law, the formula of the spectrum) and starts (their statistics)."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inward.columns.cppn import CPPN
from inward.columns.maco import MACO
from inward.columns.parameterizations import KINDS, Fourier, Parameterization, Pixels, parameterization
from inward.columns.pyramid import LaplacianPyramid
from inward.columns.starts import Given, Gray, Noise
from inward.errors import CallError

# Every pairing of odd and even sides, H != W, batch 3.
SIZES = [(5, 7), (6, 9), (7, 4), (8, 6), (1, 3)]


def pictures(channels: int, size: tuple[int, int], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """Values in [1e-3, 1 - 1e-3], where the inverse of the sigmoid is exact."""
    drawn = torch.rand((3, channels, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (1e-3 + (1 - 2e-3) * drawn).to(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize(
    "kind", [Pixels(), Fourier(), Fourier(decay=0.0), Fourier(decay=2.0, decorrelate=False)], ids=str
)
def test_the_law_image_of_init_is_the_image(
    kind: Parameterization, channels: int, size: tuple[int, int], dtype: torch.dtype, tolerance: float
) -> None:
    images = pictures(channels, size, dtype)
    parameters = kind.init(images)
    found = kind.image(parameters, images)
    assert found.dtype == dtype
    torch.testing.assert_close(found, images, rtol=0, atol=0 if kind.pixels else tolerance)
    for i in range(3):
        alone = kind.image(kind.init(images[i : i + 1]), images[i : i + 1])
        torch.testing.assert_close(alone, found[i : i + 1], rtol=0, atol=tolerance)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 2, 3, 4]), st.floats(0, 2), st.integers(0, 99))
def test_the_law_holds_at_any_size(height: int, width: int, channels: int, decay: float, seed: int) -> None:
    images = pictures(channels, (height, width), seed=seed)
    kind = Fourier(decay=decay)
    torch.testing.assert_close(kind.image(kind.init(images), images), images, rtol=0, atol=1e-8)


def test_black_and_white_are_moved_to_the_edge() -> None:
    images = torch.tensor([0.0, 1.0, 0.5], dtype=torch.float64).view(3, 1, 1, 1).expand(3, 2, 4, 6)
    kind = Fourier(edge=1e-3)
    found = kind.image(kind.init(images), images)
    assert found[:, 0, 0, 0].tolist() == pytest.approx([1e-3, 1 - 1e-3, 0.5], abs=1e-9)


def test_pixels_are_a_copy() -> None:
    images = pictures(3, (5, 7))
    (parameter,) = Pixels().init(images)
    parameter.zero_()
    assert float(images.min()) >= 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_the_scale_of_the_spectrum_is_the_formula(size: tuple[int, int], decay: float) -> None:
    """sqrt(H W) / f^decay, f in cycles a pixel and not under one cycle an image; read off the parameters."""
    height, width = size
    images = pictures(2, size)
    (parameters,) = Fourier(decay=decay).init(images)
    assert parameters.shape == (3, 2, height, width // 2 + 1, 2)
    spectrum = torch.fft.rfft2(torch.logit(images))
    for y in range(height):
        for x in range(width // 2 + 1):
            fy, fx = min(y, height - y) / height, x / width
            f = max(math.hypot(fy, fx), 1 / max(height, width))
            scale = math.sqrt(height * width) / f**decay
            found = torch.view_as_complex(parameters)[:, :, y, x] * scale
            torch.testing.assert_close(found, spectrum[:, :, y, x], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [(5, 7), (6, 8), (6, 9)])
@pytest.mark.parametrize("at", [(0, 0), (0, 1), (2, 1), (4, 2)])
def test_one_coefficient_is_one_wave(size: tuple[int, int], at: tuple[int, int]) -> None:
    """Adding d to the coefficient (ky, kx) adds 2 s Re(d exp(2 pi i (ky y / H + kx x / W))) / (H W).

    Half of that for kx = 0, where (ky, 0) and (-ky, 0) are stored both and only one is moved: irfft takes
    the column kx = 0 as it is, of which the real part in space remains.
    """
    (height, width), (ky, kx) = size, at
    images = pictures(1, size)
    kind, move = Fourier(), complex(0.3, -0.2)
    (parameters,) = kind.init(images)
    moved = parameters.clone()
    moved[1, 0, ky, kx] += torch.tensor([move.real, move.imag], dtype=torch.float64)
    change = torch.logit(kind.image([moved], images)) - torch.logit(kind.image([parameters], images))
    f = max(math.hypot(min(ky, height - ky) / height, kx / width), 1 / max(height, width))
    size_of_wave = (1 if kx == 0 else 2) * math.sqrt(height * width) / f / (height * width)
    for y in range(height):
        for x in range(width):
            wave = size_of_wave * (move * cmath.exp(2j * math.pi * (ky * y / height + kx * x / width))).real
            assert float(change[1, 0, y, x]) == pytest.approx(wave, abs=1e-9)
    assert torch.equal(change[0], torch.zeros_like(change[0]))


def test_decorrelation_mixes_colors_by_the_published_matrix() -> None:
    """A change d of the plane c of the spectrum is a change C[:, c] d of the colors before the sigmoid."""
    matrix = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], dtype=torch.float64)
    matrix = matrix / matrix.square().sum(0).sqrt().max()
    images = pictures(3, (5, 6))
    kind = Fourier()
    (parameters,) = kind.init(images)
    for plane in range(3):
        moved = parameters.clone()
        moved[:, plane, 0, 0, 0] += 1
        change = (torch.logit(kind.image([moved], images)) - torch.logit(images))[:, :, 2, 3]
        # The lowest frequency: sqrt(30) / (1 / 6) / 30.
        expected = matrix[:, plane] * 6 / math.sqrt(30)
        torch.testing.assert_close(change, expected.expand(3, 3), rtol=0, atol=1e-8)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_passes_to_the_spectrum(channels: int) -> None:
    images = pictures(channels, (4, 5))[:1]
    kind = Fourier()
    (parameters,) = kind.init(images)
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parameters.requires_grad_(True)
    (found,) = torch.autograd.grad((kind.image([parameters], images) * weights).sum(), parameters)
    plain = parameters.detach()
    for index in range(plain.numel()):
        move = torch.zeros(plain.numel(), dtype=torch.float64)
        move[index] = 1e-5
        up, down = (kind.image([plain + sign * move.view(plain.shape)], images) for sign in (1, -1))
        slow = float(((up - down) * weights).sum()) / 2e-5
        # Central differences: 1e-10 f''' / 6 + 1e-16 / 1e-5.
        assert float(found.flatten()[index]) == pytest.approx(slow, abs=1e-8)
    assert float(found.abs().max()) > 1e-2


# Small ones of every kind, to be moved number by number.
EVERY = [Pixels(), Fourier(), MACO(), LaplacianPyramid(3), CPPN(layers=2, width=3, contrast=1.0)]


def named_by_kind(kind: Parameterization) -> str:
    return type(kind).__name__


def moved(parameters: list[Tensor], by: float, seed: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [p + by * torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in parameters]


@pytest.mark.parametrize("size", [(8, 8), (16, 24), (7, 12), (16, 9)])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", EVERY, ids=named_by_kind)
def test_a_picture_is_the_same_alone_and_in_a_batch(
    kind: Parameterization, channels: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    images, seeds = pictures(channels, size, dtype), [5, 9, 5]
    started = kind.init(images, seeds)
    assert all(len(p) == 3 and p.dtype == dtype and not p.requires_grad for p in started)
    parameters = moved(started, 0.0 if kind.pixels else 0.5)
    found = kind.image(parameters, images)
    # Numbers that do not fill a vector of the processor are rounded in another way, and which ones those are depends
    # on where a picture begins; the phases of MACO are of another number still.
    # A single map is transformed by another routine than several are, on some processors.
    single = isinstance(kind, Fourier) and channels == 1
    exact = size[0] * size[1] % 32 == 0 and not isinstance(kind, MACO) and not single
    assert (found.shape, found.dtype) == (images.shape, dtype)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    for i in range(3):
        for own, shared in zip(kind.init(images[i : i + 1], seeds[i : i + 1]), started, strict=True):
            if isinstance(kind, MACO):
                # As places on the circle: -pi is pi.
                own, shared = torch.polar(torch.ones_like(own), own), torch.polar(torch.ones_like(shared), shared)
            # Small waves are sums of large numbers: up to 1e3 times less exact than these.
            limit = 0 if exact or isinstance(kind, (CPPN, Pixels)) else 1e3 * torch.finfo(dtype).eps
            torch.testing.assert_close(own, shared[i : i + 1], rtol=limit, atol=limit)
        alone = kind.image([p[i : i + 1] for p in parameters], images[i : i + 1])
        limit = 0 if exact or kind.pixels else 32 * torch.finfo(dtype).eps
        torch.testing.assert_close(alone, found[i : i + 1], rtol=0, atol=limit)


@pytest.mark.parametrize("kind", EVERY, ids=named_by_kind)
def test_one_seed_is_one_picture_and_the_global_generator_is_left_alone(kind: Parameterization) -> None:
    gray = torch.full((3, 3, 6, 9), 0.5)
    state = torch.get_rng_state()
    first, second = kind.init(gray, [4, 5, 4]), kind.init(gray, [4, 5, 4])
    a, b = kind.image(first, gray), kind.image(second, gray)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))
    assert torch.equal(a, b)
    assert torch.equal(a[0], a[2])
    # Those that an image tells all of need no seed.
    drawn = isinstance(kind, (MACO, CPPN))
    assert torch.equal(a[0], a[1]) == (not drawn)
    if not drawn:
        torch.testing.assert_close(a, gray, rtol=0, atol=1e-6)
    none, zero = kind.init(gray), kind.init(gray, [0, 0, 0])
    assert all(torch.equal(p, q) for p, q in zip(none, zero, strict=True))


@pytest.mark.parametrize("size", [(8, 8), (5, 6)])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("kind", EVERY, ids=named_by_kind)
def test_the_gradient_passes_to_all_parameters(kind: Parameterization, channels: int, size: tuple[int, int]) -> None:
    """By finite differences in a random direction of every parameter, and to every picture of the batch."""
    images = pictures(channels, size)
    parameters = [p.requires_grad_(True) for p in moved(kind.init(images, [1, 2, 3]), 0.1)]
    weights = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = torch.autograd.grad((kind.image(parameters, images) * weights).sum(), parameters)
    plain = [p.detach() for p in parameters]
    for index, gradient in enumerate(found):
        assert bool((gradient.flatten(1).abs().amax(1) > 1e-6).all())
        (direction,) = moved([torch.zeros_like(plain[index])], 1.0, seed=index)
        ahead, behind = list(plain), list(plain)
        ahead[index], behind[index] = plain[index] + 1e-6 * direction, plain[index] - 1e-6 * direction
        slow = float(((kind.image(ahead, images) - kind.image(behind, images)) * weights).sum()) / 2e-6
        # Central differences over sums of up to 1e3 terms: 1e-12 f''' / 6 + 1e-13 / 1e-6.
        assert float((gradient * direction).sum()) == pytest.approx(slow, abs=1e-6, rel=1e-6)


def test_parameterizations_have_names() -> None:
    kinds = {name: type(parameterization(name)) for name in KINDS}
    assert kinds == {"fourier": Fourier, "pixels": Pixels, "cppn": CPPN, "maco": MACO, "pyramid": LaplacianPyramid}
    assert parameterization("fourier") == Fourier()
    with pytest.raises(CallError, match="no parameterization 'furier'; there are fourier, pixels, cppn, maco, pyramid"):
        parameterization("furier")


@pytest.mark.parametrize("kind", [Fourier(), LaplacianPyramid(2)], ids=named_by_kind)
def test_constants_made_in_inference_mode_do_not_stay(kind: Parameterization) -> None:
    # A size of its own, so that its constants are not there yet.
    images = pictures(3, (17, 19))
    with torch.inference_mode():
        kind.image(kind.init(images), images)
    parameters = [p.requires_grad_(True) for p in kind.init(images)]
    found = torch.autograd.grad(kind.image(parameters, images).sum(), parameters)
    assert all(float(g.abs().max()) > 0 for g in found)


def test_given_is_a_copy_and_grey_is_grey() -> None:
    images = pictures(2, (5, 7), torch.float32)
    start = Given()(images, [0, 1, 2])
    assert torch.equal(start, images)
    start.zero_()
    assert float(images.min()) > 0
    gray = Gray(0.25)(images, [0, 1, 2])
    assert (gray.shape, gray.dtype, gray.unique().tolist()) == (images.shape, torch.float32, [0.25])


def test_noise_depends_on_its_own_seed_alone() -> None:
    like = torch.zeros((3, 3, 11, 16), dtype=torch.float64)
    together = Noise()(like, [5, 9, 5])
    assert torch.equal(together[1:2], Noise()(like[:1], [9]))
    assert torch.equal(together[0], together[2])
    assert not torch.equal(together[0], together[1])
    state = torch.get_rng_state()
    Noise()(like, [1, 2, 3])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("decay", [0.0, 1.0, 2.0])
def test_noise_has_the_mean_spread_and_spectrum_it_states(decay: float) -> None:
    like = torch.zeros((12, 2, 64, 96), dtype=torch.float64)
    noise = Noise(std=0.02, decay=decay)(like, range(12))
    assert noise.mean((1, 2, 3)).tolist() == pytest.approx([0.5] * 12, abs=1e-12)
    assert noise.std((1, 2, 3), correction=0).tolist() == pytest.approx([0.02] * 12, rel=1e-9)
    power = torch.fft.rfft2(noise - 0.5).abs().square().mean((0, 1))
    fy, fx = torch.fft.fftfreq(64, dtype=torch.float64)[:, None], torch.fft.rfftfreq(96, dtype=torch.float64)[None]
    f = (fy.square() + fx.square()).sqrt()
    x, y = f[f > 0].log(), power[f > 0].log()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
    # Power falls as the square of the amplitude. 3,135 frequencies, whose log power has a spread of
    # 0.2 over 24 draws, and log f one of 0.5: the slope is good to 0.008.
    assert slope == pytest.approx(-2 * decay, abs=0.03)


def test_noise_of_one_pixel_is_grey_and_loud_noise_stays_in_the_box() -> None:
    assert Noise()(torch.zeros(2, 1, 1, 1), [0, 1]).tolist() == [[[[0.5]]]] * 2
    loud = Noise(std=3.0)(torch.zeros(2, 3, 8, 9), [0, 1])
    assert (float(loud.min()), float(loud.max())) == (0, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gray(1.5), r"in \[0, 1\], not 1.5"),
        (lambda: Gray(math.nan), "not nan"),
        (lambda: Noise(std=-0.1), "0 or more, not -0.1"),
        (lambda: Fourier(edge=0.0), "between 0 and 0.5, not 0.0"),
        (lambda: Fourier(edge=0.5), "between 0 and 0.5, not 0.5"),
    ],
)
def test_starts_and_edges_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
