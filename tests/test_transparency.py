"""Pictures with alpha: what covers what, the backgrounds, and the gradient to both."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inward.columns.augmentations import Compose, Jitter, Pad
from inward.columns.cppn import CPPN
from inward.columns.maco import MACO
from inward.columns.parameterizations import Fourier, Parameterization, Pixels
from inward.columns.pyramid import LaplacianPyramid
from inward.columns.transparency import Backdrop, Transparent, over
from inward.errors import CallError

SIZES = [(8, 8), (5, 7), (6, 9)]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    drawn = torch.rand((3, channels, *size), generator=rng(seed), dtype=torch.float64)
    return 0.05 + 0.9 * drawn


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("opacity", [0.5, 0.9])
@pytest.mark.parametrize("inner", [Fourier(), LaplacianPyramid(3), MACO(), CPPN(layers=1, width=4)], ids=str)
def test_the_colors_are_those_of_the_inner_and_alpha_is_last(
    inner: Parameterization, size: tuple[int, int], channels: int, opacity: float
) -> None:
    images, seeds = pictures(channels, size), [3, 1, 2]
    kind = Transparent(inner, opacity)
    parameters = kind.init(images, seeds)
    found = kind.image(parameters, images)
    assert found.shape == (3, channels + 1, *size)
    assert torch.equal(found[:, :-1], inner.image(inner.init(images, seeds), images))
    assert found[:, -1].flatten().tolist() == pytest.approx([opacity] * (3 * size[0] * size[1]), abs=1e-12)
    for i in range(3):
        alone = kind.image(kind.init(images[i : i + 1], seeds[i : i + 1]), images[i : i + 1])
        # A network of coordinates is a product of matrices, whose order of sums a batch may change.
        torch.testing.assert_close(alone, found[i : i + 1], rtol=0, atol=1e-14)
    assert all(len(p) == 3 for p in parameters)


def test_alpha_has_the_waves_of_a_fourier_picture_of_one_channel() -> None:
    """Moved by its constant wave, alpha changes everywhere, and the colors nowhere."""
    images, kind = pictures(3, (5, 6)), Transparent()
    *colors, alpha = kind.init(images)
    assert alpha.shape == (3, 1, 5, 4, 2)
    alpha[1, 0, 0, 0, 0] += 0.5
    found = kind.image([*colors, alpha], images)
    # The lowest frequency: sqrt(30) / (1 / 6) / 30.
    expected = 1 / (1 + math.exp(-0.5 * 6 / math.sqrt(30)))
    assert found[1, 3].flatten().tolist() == pytest.approx([expected] * 30, abs=1e-12)
    assert found[[0, 2], 3].flatten().tolist() == pytest.approx([0.5] * 60, abs=1e-12)
    torch.testing.assert_close(found[:, :3], images, rtol=0, atol=1e-10)


def test_a_network_is_shown_the_picture_on_gray() -> None:
    picture = pictures(4, (5, 7))
    found = Transparent().opaque(picture)
    assert found.shape == (3, 3, 5, 7)
    for n, c, y, x in [(0, 0, 0, 0), (1, 2, 3, 4), (2, 1, 4, 6)]:
        a = float(picture[n, 3, y, x])
        assert float(found[n, c, y, x]) == pytest.approx(a * float(picture[n, c, y, x]) + (1 - a) * 0.5, abs=1e-15)
    clear, full = picture.clone(), picture.clone()
    clear[:, 3], full[:, 3] = 0, 1
    assert Transparent().opaque(clear).unique().tolist() == [0.5]
    torch.testing.assert_close(Transparent().opaque(full), picture[:, :3], rtol=0, atol=1e-15)
    assert torch.equal(Fourier().opaque(picture), picture)


def test_parameters_that_are_no_pixels_are_said_to_be_none() -> None:
    assert not Transparent().pixels
    for inner in (Pixels(), Transparent()):
        with pytest.raises(CallError, match=f"{type(inner).__name__} cannot be made transparent"):
            Transparent(inner)
    for opacity in (0.0, 1.0, math.nan):
        with pytest.raises(CallError, match=f"not {opacity}"):
            Transparent(opacity=opacity)


def test_a_backdrop_is_one_for_the_batch_and_new_for_every_pass() -> None:
    picture, generator = pictures(4, (6, 9)), rng(2)
    clear = picture.clone()
    clear[:, 3] = 0
    first, second = Backdrop()(clear, generator), Backdrop()(clear, generator)
    assert first.shape == (3, 3, 6, 9)
    assert torch.equal(first[0], first[1])
    assert torch.equal(first[0], first[2])
    assert float((first - second).abs().max()) > 0.05
    assert torch.equal(first, Backdrop()(clear, rng(2)))
    assert not torch.equal(first[:, 0], first[:, 1])
    found = Backdrop()(picture, rng(2))
    alpha = picture[:, 3:]
    torch.testing.assert_close(found, alpha * picture[:, :3] + (1 - alpha) * first, rtol=0, atol=1e-15)
    for i in range(3):
        torch.testing.assert_close(Backdrop()(picture[i : i + 1], rng(2)), found[i : i + 1], rtol=0, atol=0)
    full = picture.clone()
    full[:, 3] = 1
    torch.testing.assert_close(Backdrop()(full, rng()), picture[:, :3], rtol=0, atol=1e-15)


def test_backdrops_have_the_mean_the_spread_and_the_smoothness_they_state() -> None:
    clear = torch.zeros((1, 4, 32, 48), dtype=torch.float64)
    generator = rng(3)
    smooth = torch.cat([Backdrop(std=0.1)(clear, generator) for _ in range(200)])
    white = torch.cat([Backdrop(std=0.1, decay=0)(clear, generator) for _ in range(50)])
    # Noise has its mean and spread exactly over a picture; what is clipped lies five standard deviations out.
    assert smooth.mean((1, 2, 3)).tolist() == pytest.approx([0.5] * 200, abs=1e-4)
    assert smooth.std((1, 2, 3), correction=0).tolist() == pytest.approx([0.1] * 200, rel=5e-3)
    assert float(smooth.min()) >= 0
    assert float(smooth.max()) <= 1
    # The mean of 200 backdrops at each place: gray, as far as 0.1 / sqrt(200) = 0.007 allows.
    assert float((smooth.mean(0) - 0.5).abs().max()) < 6 * 0.007
    near = [float(((b[..., 1:] - 0.5) * (b[..., :-1] - 0.5)).mean()) / 0.01 for b in (smooth, white)]
    assert near[0] > 0.6
    assert abs(near[1]) < 0.02
    loud = Backdrop(std=3.0)(clear, rng())
    assert (float(loud.min()), float(loud.max())) == (0, 1)


def test_a_sequence_shows_the_picture_on_its_background_and_moves_both() -> None:
    picture = pictures(4, (6, 9))
    found = Compose((Backdrop(), Pad(0.25), Jitter(2)))(picture, rng(4))
    generator = rng(4)
    shown = Backdrop()(picture, generator)
    expected = Compose((Pad(0.25), Jitter(2)))(shown, generator)
    assert found.shape == (3, 3, 6, 9)
    assert torch.equal(found, expected)


def test_the_gradient_passes_to_colors_and_to_alpha() -> None:
    """By finite differences, through a backdrop: d/dc = a, d/da = c - b."""
    picture = pictures(3, (4, 5)).requires_grad_(True)
    weights = torch.randn((3, 2, 4, 5), generator=rng(5), dtype=torch.float64)
    (found,) = torch.autograd.grad((Backdrop()(picture, rng(6)) * weights).sum(), picture)
    plain = picture.detach()
    for index in range(0, plain.numel(), 7):
        move = torch.zeros(plain.numel(), dtype=torch.float64)
        move[index] = 1e-5
        up, down = (Backdrop()(plain + sign * move.view(plain.shape), rng(6)) for sign in (1, -1))
        # Linear in every single number: only the rounding of 1e-16 / 1e-5 is left.
        assert float(found.flatten()[index]) == pytest.approx(float(((up - down) * weights).sum()) / 2e-5, abs=1e-9)
    images, kind = pictures(3, (6, 7)), Transparent()
    parameters = [p.requires_grad_(True) for p in kind.init(images)]
    shown = Backdrop()(kind.image(parameters, images), rng(6))
    for gradient in torch.autograd.grad(shown.square().sum(), parameters):
        assert bool((gradient.flatten(1).abs().amax(1) > 1e-3).all())


def test_what_has_no_alpha_has_no_backdrop() -> None:
    with pytest.raises(CallError, match="1 channel; use Transparent"):
        Backdrop()(pictures(1, (4, 5)), rng())
    with pytest.raises(CallError, match=r"0 or more, not -0.1"):
        Backdrop(std=-0.1)
    assert over(pictures(2, (4, 5)), torch.zeros(1, 1, 4, 5, dtype=torch.float64)).shape == (3, 1, 4, 5)
