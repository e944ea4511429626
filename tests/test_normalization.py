"""Local response normalization as a convolution: PyTorch's own, its gradient, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inward.network.normalization import local_response_norm

# Sums of at most 7 squares in float64, and a logarithm.
EXACT = 1e-13

pytestmark = pytest.mark.usefixtures("single_thread")


def rand(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def both(x: Tensor, size: int, alpha: float, beta: float, k: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value and gradient of ours, and of PyTorch's."""
    found = []
    for function in (
        lambda y: local_response_norm(y, size, alpha, beta, k),
        nn.LocalResponseNorm(size, alpha, beta, k),
    ):
        shown = x.detach().clone(memory_format=torch.preserve_format).requires_grad_(True)
        value = function(shown)
        (slope,) = torch.autograd.grad((value * rand(*x.shape, seed=2).to(x.dtype)).sum(), shown)
        found += [value.detach(), slope]
    return found[0], found[1], found[2], found[3]


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(2, 7),
    channels=st.integers(1, 9),
    beta=st.sampled_from((0.75, 0.5, 0.6, 1.0, 1.3)),
    alpha=st.floats(1e-4, 2),
    k=st.floats(0.5, 3),
    last=st.booleans(),
)
def test_it_is_local_response_norm(size: int, channels: int, beta: float, alpha: float, k: float, last: bool) -> None:
    """Even windows lie one more channel to the left; windows may be wider than there are channels."""
    x = rand(2, channels, 3, 5)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    value, slope, expected, wanted = both(x, size, alpha, beta, k)
    torch.testing.assert_close(value, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slope, wanted, rtol=EXACT, atol=EXACT)


def test_by_hand() -> None:
    """Two of three channels lie in each window of 2 (itself and the one to its left); 16 ** -0.75 is 1 / 8."""
    x = torch.tensor([3.0, 1.0, 5.0], dtype=torch.float64).view(1, 3, 1, 1).expand(2, 3, 2, 3)
    found = local_response_norm(x, 2, 2.0, 0.75, 6.0)
    # 6 + (9), 6 + (9 + 1) = 16, 6 + (1 + 25).
    expected = [3 / 15**0.75, 1 / 8, 5 / 32**0.75]
    assert found[1, :, 1, 2].tolist() == pytest.approx(expected, rel=1e-14)
    assert torch.equal(found, found[:1, :, :1, :1].expand_as(found))


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (2, 0.75), (4, 0.6)])
def test_its_gradient_is_that_of_finite_differences(size: int, beta: float) -> None:
    x = rand(2, 6, 2, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda y: local_response_norm(y, size, 0.7, beta, 1.1), x)


@pytest.mark.parametrize(("size", "beta"), [(5, 0.75), (2, 0.6)])
def test_its_second_derivative_is_that_of_finite_differences(size: int, beta: float) -> None:
    x = rand(2, 5, 2, 2).requires_grad_(True)
    assert torch.autograd.gradgradcheck(lambda y: local_response_norm(y, size, 0.7, beta, 1.1), x)


def test_a_second_derivative_beside_another_term_is_whole() -> None:
    """Where the gradient that comes in is constant, a part that is left out would not be missed."""
    x = rand(2, 4, 2, 3)
    found = []
    for function in (lambda y: local_response_norm(y, 3, 0.5, 0.75, 1.0), nn.LocalResponseNorm(3, 0.5, 0.75, 1.0)):
        shown = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(function(shown).sum() + shown.pow(3).sum(), shown, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), shown)[0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3, 64])
def test_short_windows_between_zero_channels(channels: int) -> None:
    """Where all is 0 the slope is k ** -beta, and nothing is divided by 0."""
    x = torch.zeros(2, channels, 3, 2, dtype=torch.float64).requires_grad_(True)
    value = local_response_norm(x, 5, 1e-4, 0.75, 16.0)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert not value.any()
    torch.testing.assert_close(slope, torch.full_like(slope, 1 / 8), rtol=1e-14, atol=0)


def test_an_image_is_the_same_in_a_batch_and_in_any_memory() -> None:
    x = rand(5, 8, 4, 3, dtype=torch.float32)
    whole = local_response_norm(x, 5, 0.5, 0.75, 1.0)
    assert torch.equal(whole[3:4], local_response_norm(x[3:4], 5, 0.5, 0.75, 1.0))
    last = local_response_norm(x.contiguous(memory_format=torch.channels_last), 5, 0.5, 0.75, 1.0)
    assert last.is_contiguous(memory_format=torch.channels_last)
    # float32, eight channels of products added in another order.
    torch.testing.assert_close(last, whole, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_in_short_dtypes(dtype: torch.dtype, rtol: float) -> None:
    """A few roundings of 2**-24, and of 2**-8, of numbers near 1."""
    x = rand(2, 7, 3, 4)
    given = x.to(dtype).requires_grad_(True)
    value = local_response_norm(given, 5, 0.5, 0.75, 1.0)
    (slope,) = torch.autograd.grad(value.sum(), given)
    reference = given.detach().double().requires_grad_(True)
    expected = nn.LocalResponseNorm(5, 0.5, 0.75, 1.0)(reference)
    (wanted,) = torch.autograd.grad(expected.sum(), reference)
    assert value.dtype == slope.dtype == dtype
    assert (value.double() - expected).abs().max() <= rtol * expected.abs().max()
    assert (slope.double() - wanted).abs().max() <= rtol * wanted.abs().max()


def test_a_band_first_made_in_inference_mode_has_gradients_afterwards() -> None:
    x = rand(2, 11, 2, 3)
    with torch.inference_mode():
        inside = local_response_norm(x, 6, 0.5, 0.6, 1.0)
    value, slope, expected, wanted = both(x, 6, 0.5, 0.6, 1.0)
    assert torch.equal(inside, value)
    torch.testing.assert_close(value, expected, rtol=EXACT, atol=EXACT)
    torch.testing.assert_close(slope, wanted, rtol=EXACT, atol=EXACT)
