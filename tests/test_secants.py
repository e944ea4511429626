"""Multipliers carry a difference exactly: ``M (x - x0) = f(x) - f(x0)``, for every rule and any two inputs."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from inward.network import secants
from inward.network.secants import Pair

SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "exp": torch.exp,
    "softplus": F.softplus,
    "square": torch.square,
}
BENT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "abs": torch.abs,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "floor": torch.floor,
}
number = st.floats(-20, 20, allow_subnormal=False)
# Far apart, next to one another, and the same.
apart = st.one_of(number, *(st.floats(-d, d, allow_subnormal=False) for d in (1e-6, 1e-15)), st.just(0.0))


@pytest.mark.parametrize("name", SMOOTH | BENT)
@given(rows=st.lists(st.tuples(number, apart), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_function_of_each_number_is_carried(name: str, rows: list[tuple[float, float]]) -> None:
    function = (SMOOTH | BENT)[name]
    x0 = torch.tensor([a for a, _ in rows], dtype=torch.float64)
    x = x0 + torch.tensor([d for _, d in rows], dtype=torch.float64)
    m = secants.quotient(function, x, x0)
    y, y0 = function(x), function(x0)
    assert m.isfinite().all()
    # Some units in the last place of what is carried; below 1e-300, no digits are left.
    assert ((m * (x - x0) - (y - y0)).abs() <= 16 * 2.3e-16 * torch.maximum(y.abs(), y0.abs()) + 1e-300).all()


# Not GELU, whose values near -3 PyTorch gives with 40 units in the last place.
@pytest.mark.parametrize("name", sorted(SMOOTH.keys() - {"gelu"}))
@pytest.mark.parametrize("step", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
def test_a_small_difference_is_not_divided_by_its_rounding(name: str, step: float) -> None:
    function = SMOOTH[name]
    x0 = torch.linspace(-3, 3, 400)
    x = x0 + step
    # The true quotient, of the same two float32 numbers: in float64 its own rounding is below 1e-8.
    a, b = x.double(), x0.double()
    true = torch.where(a == b, 0.0, (function(a) - function(b)) / (a - b))
    moved = a != b
    found = secants.quotient(function, x, x0)
    naive = (function(x) - function(x0)) / torch.where(moved, x - x0, 1)
    gap, naive_gap = (((m - true).abs() / true.abs().max())[moved].max() for m in (found, naive))
    # eps |y| / dx at dx = (24 * 4 eps)^(1/3), where slope and quotient begin to differ: 5e-5 of a value of 1.
    assert gap <= 1e-4
    if step <= 1e-6 and name != "square":
        assert naive_gap > 100 * gap


def test_a_bend_is_seen_however_small_the_difference() -> None:
    x = torch.tensor([1e-12, 3e-30, 2.0], dtype=torch.float64)
    x0 = torch.tensor([-3e-12, -1e-30, -6.0], dtype=torch.float64)
    assert torch.allclose(secants.quotient(torch.relu, x, x0), torch.tensor([0.25, 0.75, 0.25]).double(), rtol=1e-12)
    # Between two flat ends, nothing of the slope inside is seen by either of them.
    wide = secants.quotient(lambda t: F.hardtanh(t, 0.0, 2.0), torch.tensor([20.0]), torch.tensor([-5.0]))
    assert wide.item() == pytest.approx(2 / 25, rel=1e-6)


def test_what_stays_gets_the_gradient_and_no_infinity() -> None:
    same = torch.tensor([-1.0, 0.0, 2.0])
    assert torch.equal(secants.quotient(torch.relu, same, same), torch.tensor([0.0, 0.0, 1.0]))
    assert torch.equal(secants.quotient(torch.sqrt, torch.zeros(2), torch.zeros(2)), torch.zeros(2))
    assert secants.quotient(torch.exp, torch.tensor([-torch.inf]), torch.tensor([-torch.inf])).item() == 0
    assert secants.quotient(torch.sign, torch.tensor([3.0]), torch.tensor([-1.0])).item() == 0.5


def carried(run: Callable[..., Tensor], *pairs: tuple[Tensor, Tensor]) -> float:
    """How much of ``sum(w (y - y0))`` the multipliers miss, as a share of all that is carried."""
    values = [x.clone().requires_grad_(True) for x, _ in pairs]
    y = run(*(Pair(v, x0) for v, (_, x0) in zip(values, pairs, strict=True)))
    y0 = run(*(Pair(x0, x0) for _, x0 in pairs))
    weights = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view(y.shape)
    found = torch.autograd.grad((y * weights).sum(), values)
    shares = [(m * (x - x0)).flatten() for m, (x, x0) in zip(found, pairs, strict=True)]
    expected = ((y - y0).detach() * weights).sum()
    assert expected != 0
    return ((torch.cat(shares).sum() - expected).abs() / torch.cat(shares).abs().sum()).item()


def drawn(*shape: int, scale: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    both = scale * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    # Some numbers stay as they are.
    both[1].flatten()[::5] = both[0].flatten()[::5]
    return both[0], both[1]


RULES: dict[str, tuple[Callable[..., Tensor], tuple[tuple[int, ...], ...]]] = {
    "product": (lambda a, b: secants.product(torch.mul, a, b), ((2, 3, 4), (2, 3, 4))),
    "broadcast product": (lambda a, b: secants.product(torch.mul, a, b), ((2, 3, 4), (2, 3, 1))),
    "matrix product": (lambda a, b: secants.product(torch.matmul, a, b), ((2, 3, 4), (2, 4, 5))),
    "quotient": (lambda a, b: secants.divided(a, b.linear(lambda t: t.square() * 0 + t + 9)), ((2, 5), (2, 5))),
    "largest of an axis": (lambda a: secants.largest_along(a, [1]), ((2, 5, 3),)),
    "largest of two axes": (lambda a: secants.largest_along(a, [-1, 1], keepdim=True), ((2, 5, 3, 4),)),
    "softmax": (lambda a: secants.softmax(a, 1).value, ((3, 6, 2),)),
    "log softmax": (lambda a: secants.log_softmax(a, -1).value, ((3, 6, 2),)),
    "standardized": (lambda a: secants.standardized(a, [1, 2], 1e-5), ((2, 3, 4),)),
    "root mean square": (lambda a: secants.standardized(a, [-1], 1e-5, centered=False), ((2, 3, 4),)),
    "attention": (lambda q, k, v: secants.attention(q, k, v, 0.5, None), ((2, 3, 4), (2, 6, 4), (2, 6, 5))),
    "response normalization": (lambda a: secants.local_response_norm(a, 4, 0.7, 0.75, 1.5), ((2, 7, 3, 2),)),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("scale", [1e-9, 0.1, 3.0, 100.0])
def test_a_rule_carries_the_whole_difference(name: str, scale: float) -> None:
    run, shapes = RULES[name]
    for seed in range(3):
        pairs = [drawn(*shape, scale=scale, seed=seed + 7 * i) for i, shape in enumerate(shapes)]
        # Of differences of 1e-9, values of 1 keep 7 digits.
        assert carried(run, *pairs) <= (1e-6 if scale < 1e-6 else 1e-12)


@given(rows=st.lists(st.tuples(st.floats(-800, 800), st.floats(-800, 800)), min_size=2, max_size=6))
@settings(max_examples=100, deadline=None)
def test_softmax_of_anything(rows: list[tuple[float, float]]) -> None:
    x, x0 = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    value = x.clone().requires_grad_(True)
    for unit in range(len(rows)):
        (m,) = torch.autograd.grad(secants.softmax(Pair(value, x0), 0).value[unit], value)
        assert m.isfinite().all()
        change = (x.softmax(0) - x0.softmax(0))[unit]
        # Shares of up to 800 times a multiplier of up to 1, of which the rest is canceled.
        assert abs((m * (x - x0)).sum() - change) <= 1e-11


def test_softmax_by_hand() -> None:
    """Of ``y = softmax(x)``: ``M = diag(L) - L L^T / sum L``, with logarithmic means L."""
    x, x0 = torch.tensor([[0.3, -1.2, 2.0], [1.0, 1.0, -0.5]]), torch.tensor([[1.1, 0.4, -0.7], [1.0, 0.2, 0.9]])
    x, x0 = x.double(), x0.double()
    value = x.clone().requires_grad_(True)
    made = secants.softmax(Pair(value, x0), 1).value
    for row in range(2):
        y, y0 = x[row].softmax(0).tolist(), x0[row].softmax(0).tolist()
        means = [a if a == b else (a - b) / (math.log(a) - math.log(b)) for a, b in zip(y, y0, strict=True)]
        for i in range(3):
            (m,) = torch.autograd.grad(made[row, i], value, retain_graph=True)
            hand = [means[i] * ((i == j) - means[j] / sum(means)) for j in range(3)]
            assert (m[row] - torch.tensor(hand, dtype=torch.float64)).abs().max() <= 1e-14
            assert not m[1 - row].any()


def test_a_product_shares_evenly() -> None:
    a, b = torch.tensor([3.0], requires_grad=True), torch.tensor([5.0], requires_grad=True)
    made = secants.product(torch.mul, Pair(a, torch.tensor([1.0])), Pair(b, torch.tensor([-2.0])))
    m, n = torch.autograd.grad(made, (a, b))
    # 3 * 5 - 1 * -2 = 17 = (3 - 1) (5 - 2) / 2 + (5 + 2) (3 + 1) / 2
    assert (made.item(), m.item(), n.item()) == (15.0, 1.5, 2.0)


def test_overlapping_windows_all_count() -> None:
    x = torch.tensor([[[0.0, 0, 9, 0, 0, 0, 1, 0]]], requires_grad=True)
    x0 = torch.tensor([[[0.0, 0, 1, 0, 0, 4, 0, 0]]])
    find = lambda t: F.max_pool1d(t, 4, 2, return_indices=True)[1]  # noqa: E731
    y = secants.largest(Pair(x, x0), find, 1)
    assert y.tolist() == [[[9, 9, 1]]]
    (m,) = torch.autograd.grad((y * torch.tensor([1.0, 10, 100])).sum(), x)
    # From 1, 4, 4 to 9, 9, 1: the third input rises two windows, by 8 and by 5, itself by 8; the sixth, which was
    # the largest of the last window, falls by 4, and the window by 3. Those that stay get the gradient, which is
    # nothing where they are not the largest.
    assert m[0, 0].tolist() == [0, 0, (8 + 50) / 8, 0, 0, 75, 0, 0]
    same = x.detach().clone().requires_grad_(True)
    (plain,) = torch.autograd.grad(secants.largest(Pair(same, x.detach()), find, 1).sum(), same)
    assert plain[0, 0].tolist() == [0, 0, 2, 0, 0, 0, 1, 0]


def test_a_constant_that_is_larger() -> None:
    x = torch.tensor([[2.0], [-1.0]], requires_grad=True)
    x0, table = torch.tensor([[0.5], [1.0]]), torch.tensor([1.0, 2.0, -1.0])
    y = secants.elementwise(lambda t: (t * table).exp(), x, x0)
    assert y.shape == (2, 3)
    (m,) = torch.autograd.grad(y.sum(), x)
    change = ((x * table).exp() - (x0 * table).exp()).sum(1, keepdim=True)
    assert torch.allclose(m * (x.detach() - x0), change, rtol=1e-5)
