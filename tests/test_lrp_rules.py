"""Every rule of relevance against the papers' sums, written out over the matrix of the layer, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from inward.network.relevance_rules import (
    STABILIZER,
    Epsilon,
    Gamma,
    Map,
    Rule,
    ZBox,
    ZPlus,
    proportional,
    relevant,
    stabilized,
)

pytestmark = pytest.mark.usefixtures("single_thread")

# Sums of some dozens of terms in another order: far above the rounding of float64, far below any mistake.
ROUNDING = 1e-11


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# Layer, shape of its input, of its weight, and how many biases.
LAYERS: dict[str, tuple[Map, tuple[int, ...], tuple[int, ...], int]] = {
    "linear": (F.linear, (3, 5), (4, 5), 4),
    "conv": (lambda x, w, b: F.conv2d(x, w, b, padding=1), (3, 2, 5, 4), (3, 2, 3, 3), 3),
    "strided": (lambda x, w, b: F.conv2d(x, w, b, (2, 1), (1, 0)), (3, 2, 6, 4), (3, 2, 3, 2), 3),
    "groups": (lambda x, w, b: F.conv2d(x, w, b, dilation=2, groups=2), (3, 4, 6, 5), (2, 2, 2, 2), 2),
    "transposed": (lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2), (3, 2, 3, 2), (2, 3, 2, 3), 3),
}


def matrix(layer: Map, x: Tensor, weight: Tensor) -> Tensor:
    """What each input adds to each output where it is 1, (inputs, outputs)."""
    basis = torch.eye(x[0].numel(), dtype=x.dtype).view(-1, *x.shape[1:])
    return layer(basis, weight, None).flatten(1)


def sign(z: Tensor) -> Tensor:
    return torch.where(z < 0, -1.0, 1.0).double()


def by_hand(kind: str, x: Tensor, w: Tensor, b: Tensor, relevance: Tensor) -> Tensor:
    """Bach et al. 2015 (epsilon, alpha-beta), Montavon et al. 2017 (box), 2019 (gamma), one number at a time."""
    found = torch.zeros_like(x)
    for n in range(len(x)):
        for k in range(w.shape[1]):
            parts = x[n] * w[:, k]
            z, offset, small = parts.sum() + b[k], b[k], STABILIZER
            if kind == "epsilon":
                small = 0.01
            elif kind == "gamma":
                same = (parts * z > 0).double()
                parts, offset = parts * (1 + 0.25 * same), b[k] * (1 + 0.25 * (b[k] * z > 0))
            elif kind == "z-plus":
                parts, offset = parts.clamp(min=0), b[k].clamp(min=0)
            else:
                # The box is from -1.5 for even and -2 for odd inputs to 3.
                low = torch.tensor([-1.5 if j % 2 == 0 else -2.0 for j in range(len(w))]).double()
                parts, offset = parts - low * w[:, k].clamp(min=0) - 3.0 * w[:, k].clamp(max=0), 0.0
            total = parts.sum() + offset
            found[n] += parts / (total + small * (1.0 if total >= 0 else -1.0)) * relevance[n, k]
    return found


def rules(x: Tensor) -> dict[str, Rule]:
    even = torch.arange(x[0].numel()).view(1, *x.shape[1:]) % 2 == 0
    low = torch.where(even, -1.5, -2.0).double()
    return {"epsilon": Epsilon(0.01), "gamma": Gamma(0.25), "z-plus": ZPlus(), "box": ZBox(low, low * 0 + 3.0)}


@pytest.mark.parametrize("kind", ["epsilon", "gamma", "z-plus", "box"])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("behind_relu", [False, True])
def test_is_the_sum_of_the_paper(kind: str, name: str, behind_relu: bool) -> None:
    layer, shape, weight_shape, count = LAYERS[name]
    x, weight, bias = drawn(*shape), drawn(*weight_shape, seed=1), drawn(count, seed=2)
    x = x.relu() if behind_relu else x.clamp(-1.5, 3)
    z = layer(x, weight, bias)
    relevance = drawn(*z.shape, seed=3)
    # What the bias adds at every output: an input of zeros.
    offset = layer(x[:1] * 0, weight, bias).flatten()
    found = rules(x)[kind](layer, x, weight, bias, relevance)
    expected = by_hand(kind, x.flatten(1), matrix(layer, x, weight), offset, relevance.flatten(1))
    assert found.shape == x.shape
    assert expected.abs().max() > 0.1
    assert (found.flatten(1) - expected).abs().max() <= ROUNDING * expected.abs().max()


@pytest.mark.parametrize("kind", ["epsilon", "gamma", "z-plus", "box"])
def test_works_without_a_bias(kind: str) -> None:
    layer, shape, weight_shape, _ = LAYERS["conv"]
    x, weight = drawn(*shape).clamp(-1.5, 3), drawn(*weight_shape, seed=1)
    relevance = drawn(3, 3, 5, 4, seed=3)
    none = torch.zeros(3, dtype=torch.float64)
    found = rules(x)[kind](layer, x, weight, None, relevance)
    assert (found - rules(x)[kind](layer, x, weight, none, relevance)).abs().max() <= ROUNDING * found.abs().max()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["epsilon", "gamma", "z-plus", "box"]))
def test_nothing_is_lost_without_a_bias(seed: int, kind: str) -> None:
    x, weight = drawn(2, 6, seed=seed).clamp(-1.5, 3), drawn(4, 6, seed=seed + 1)
    relevance = drawn(2, 4, seed=seed + 2)
    found = (rules(x) | {"epsilon": Epsilon(1e-12)})[kind](F.linear, x, weight, None, relevance)
    parts = x[:, None] * weight
    if kind == "box":
        box = rules(x)["box"]
        assert isinstance(box, ZBox)
        parts = parts - box.low * weight.clamp(min=0) - box.high * weight.clamp(max=0)
    # The sum that a denominator is at least as large as; gamma enlarges what has its sign.
    least = (parts.clamp(min=0) if kind == "z-plus" else parts).sum(2).abs()
    # z-plus has nowhere to put the relevance of an output that no input speaks for.
    kept = torch.where(least > 0, relevance, 0)
    # The stabilizer takes its share of each denominator, and no more is lost.
    slack = 1e-9 + (kept.abs() * STABILIZER / least.clamp(min=1e-9)).sum(1)
    assert ((found.sum(1) - kept.sum(1)).abs() <= slack).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), kind=st.sampled_from(["epsilon", "gamma", "z-plus", "box"]), factor=st.floats(-3, 3)
)
def test_is_linear_in_relevance(seed: int, kind: str, factor: float) -> None:
    x, weight, bias = drawn(2, 5, seed=seed).clamp(-1.5, 3), drawn(3, 5, seed=seed + 1), drawn(3, seed=seed + 2)
    first, second = drawn(2, 3, seed=seed + 3), drawn(2, 3, seed=seed + 4)
    rule = rules(x)[kind]
    apart = rule(F.linear, x, weight, bias, first) + factor * rule(F.linear, x, weight, bias, second)
    together = rule(F.linear, x, weight, bias, first + factor * second)
    # Quotients of up to 1 / 0.01 are added up, so that rounding is relative to the largest of them.
    assert (apart - together).abs().max() <= 1e-9 * (1 + apart.abs().max())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_speaks_for_it_alone_has_no_sign_to_lose(seed: int) -> None:
    x, weight, bias = drawn(2, 5, seed=seed), drawn(3, 5, seed=seed + 1), drawn(3, seed=seed + 2)
    relevance = drawn(2, 3, seed=seed + 3).abs()
    assert ZPlus()(F.linear, x, weight, bias, relevance).min() >= 0


def test_gamma_of_0_is_epsilon() -> None:
    x, weight, bias, relevance = drawn(3, 5), drawn(4, 5, seed=1), drawn(4, seed=2), drawn(3, 4, seed=3)
    found = Gamma(0.0)(F.linear, x, weight, bias, relevance)
    expected = Epsilon(STABILIZER)(F.linear, x, weight, bias, relevance)
    assert (found - expected).abs().max() <= ROUNDING * expected.abs().max()


def test_an_image_is_the_same_alone() -> None:
    # The second has inputs below 0, and the first has none, so that it may be spared some work.
    x = torch.cat([drawn(1, 5).abs(), drawn(1, 5, seed=1)])
    weight, bias, relevance = drawn(4, 5, seed=2), drawn(4, seed=3), drawn(2, 4, seed=4)
    for rule in rules(x).values():
        together = rule(F.linear, x, weight, bias, relevance)
        alone = torch.cat([rule(F.linear, x[i : i + 1], weight, bias, relevance[i : i + 1]) for i in range(2)])
        assert (together - alone).abs().max() <= ROUNDING * alone.abs().max()


def test_0_is_moved_up() -> None:
    z = torch.tensor([-2.0, -0.0, 0.0, 3.0]).double()
    assert stabilized(z, 0.5).tolist() == [-2.5, 0.5, 0.5, 3.5]


FUNCTIONS: dict[str, tuple[Callable[..., Tensor], list[Tensor], Callable[..., list[Tensor]]]] = {
    "sum": (torch.add, [drawn(3, 2, 4, 5), drawn(3, 2, 4, 5, seed=1)], lambda a, b, q: [a * q, b * q]),
    "stretched": (
        torch.add,
        [drawn(3, 2, 4, 5), drawn(3, 2, 1, 1, seed=1)],
        lambda a, b, q: [a * q, b * q.sum((2, 3), keepdim=True)],
    ),
    "difference": (torch.sub, [drawn(3, 2), drawn(3, 2, seed=1)], lambda a, b, q: [a * q, -b * q]),
    "mean": (lambda a: a.mean((2, 3)), [drawn(3, 2, 4, 5)], lambda a, q: [a * q[:, :, None, None] / 20]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_branches_and_means_share_in_proportion(name: str) -> None:
    function, inputs, hand = FUNCTIONS[name]
    z = function(*inputs)
    relevance = drawn(*z.shape, seed=3)
    found: Any = proportional(function, inputs, relevance, 0.01)
    expected = hand(*inputs, relevance / (z + 0.01 * sign(z)))
    for ours, wanted in zip(found, expected, strict=True):
        assert ours.shape == wanted.shape
        assert (ours - wanted).abs().max() <= ROUNDING * wanted.abs().max()


def test_the_gradient_is_the_relevance_and_the_value_stays() -> None:
    x = drawn(3, 4).requires_grad_(True)
    y = relevant(torch.tanh, lambda _, inputs, relevance: [inputs[0] * relevance], [x])
    assert torch.equal(y, torch.tanh(x))
    given = drawn(3, 4, seed=1)
    assert torch.equal(torch.autograd.grad(y, x, given)[0], x * given)
