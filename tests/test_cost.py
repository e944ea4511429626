"""Multiply-adds and parameters, by hand; what cannot be counted never costs the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inward.network import Network, cost
from same import seeded

SIZE = (4, 6)


class Around(nn.Module):
    """A convolution to 8 maps of 4 x 6, then the operation under test as the module ``m``."""

    def __init__(self, module: nn.Module, before: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.m = module
        self.before = before

    def forward(self, x: Tensor) -> Any:
        return self.m(self.before(self.conv(x)))


class Do(nn.Module):
    """A function as a module, with a weight of its own."""

    def __init__(self, function: Callable[[Any, Tensor], Any], *shape: int) -> None:
        super().__init__()
        self.function = function
        if shape:
            self.w = nn.Parameter(torch.randn(shape))

    def forward(self, y: Tensor) -> Any:
        return self.function(self, y)


def tokens(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2)


def maps(y: Tensor) -> Tensor:
    return y


def heads(y: Tensor) -> Tensor:
    return tokens(y).unflatten(2, (2, 4)).transpose(1, 2)


def masked(m: Any, t: Tensor) -> Tensor:
    mask = t.mean(2)[:, None, :] > 0
    return F.scaled_dot_product_attention(t, t, t * 2, attn_mask=mask.expand(-1, t.shape[1], -1) | True)


# The module, what is given to it, its multiply-adds by hand, its parameters.
CASES: dict[str, tuple[nn.Module, Callable[[Tensor], Tensor], int, int]] = {
    "conv": (nn.Conv2d(8, 6, 3, padding=1), maps, 6 * 24 * 8 * 9, 6 * 72 + 6),
    "grouped": (nn.Conv2d(8, 6, 3, padding=1, groups=2), maps, 6 * 24 * 4 * 9, 6 * 36 + 6),
    "dilated": (nn.Conv2d(8, 6, (2, 3), dilation=2, padding=(0, 1)), maps, 6 * (2 * 4) * 8 * 6, 6 * 48 + 6),
    "strided": (nn.Conv2d(8, 6, 3, stride=2, padding=1), maps, 6 * (2 * 3) * 8 * 9, 6 * 72 + 6),
    "transposed": (nn.ConvTranspose2d(8, 6, 3, stride=2, groups=2), maps, 8 * 24 * 3 * 9, 8 * 27 + 6),
    "conv1d": (nn.Conv1d(8, 5, 3, padding=1), lambda y: y.flatten(2), 5 * 24 * 8 * 3, 5 * 24 + 5),
    "linear on a map": (nn.Linear(6, 5), maps, 8 * 4 * 5 * 6, 35),
    "linear on tokens": (nn.Linear(8, 5), tokens, 24 * 5 * 8, 45),
    "linear": (nn.Linear(8, 5), lambda y: y.mean((2, 3)), 40, 45),
    "sdpa(y, y, y)": (Do(lambda m, t: F.scaled_dot_product_attention(t, t, t)), tokens, 2 * 24 * 24 * 8, 0),
    "sdpa(q, k, k)": (
        Do(lambda m, t: F.scaled_dot_product_attention(t[:, :5], t, t)), tokens, 2 * 5 * 24 * 8, 0,
    ),
    "sdpa by heads": (Do(lambda m, t: F.scaled_dot_product_attention(t, t, t[..., :3])), heads, 2 * 24 * 24 * 7, 0),
    "sdpa masked": (Do(masked), tokens, 2 * 24 * 24 * 8, 0),
    "matmul": (Do(lambda m, y: y @ y.transpose(2, 3)), maps, 8 * 4 * 4 * 6, 0),
    "matmul of a weight": (Do(lambda m, y: y @ m.w, 6, 5), maps, 8 * 4 * 5 * 6, 30),
    "bmm": (Do(lambda m, t: torch.bmm(t, t.transpose(1, 2))), tokens, 24 * 24 * 8, 0),
    "addmm": (Do(lambda m, y: torch.addmm(m.w[0], y.mean((2, 3)), m.w), 8, 5), maps, 40, 40),
    "baddbmm": (Do(lambda m, t: torch.baddbmm(t, t, m.w.expand(t.shape[0], 8, 8)), 8, 8), tokens, 24 * 64, 64),
    "einsum": (Do(lambda m, y: torch.einsum("nchw,dc->ndhw", y, m.w), 5, 8), maps, 5 * 8 * 24, 40),
    "einsum with dots": (Do(lambda m, y: torch.einsum("...w,dw->...d", y, m.w), 5, 6), maps, 8 * 4 * 5 * 6, 30),
    "einsum of three": (
        Do(lambda m, y: torch.einsum("nchw,dc,dh->nhw", y, m.w, m.w[:, :4]), 5, 8), maps, 5 * 8 * 24 + 5 * 24, 40,
    ),
    "einsum, element-wise": (Do(lambda m, y: torch.einsum("nchw,c->nchw", y, m.w), 8), maps, 0, 8),
    "lstm": (
        nn.LSTM(8, 5, num_layers=2, bidirectional=True, batch_first=True), tokens,
        24 * 2 * (4 * 5 * (8 + 5) + 4 * 5 * (10 + 5)), 2 * (4 * 5 * (8 + 5 + 2) + 4 * 5 * (10 + 5 + 2)),
    ),
    "gru": (nn.GRU(8, 5), lambda y: y.flatten(2).permute(2, 0, 1), 24 * 3 * 5 * 13, 3 * 5 * 15),
    "rnn": (nn.RNN(8, 5, batch_first=True, bias=False), tokens, 24 * 5 * 13, 5 * 13),
    "gru cell": (nn.GRUCell(8, 5), lambda y: y.mean((2, 3)), 3 * 5 * 13, 3 * 5 * 15),
    "bilinear": (Do(lambda m, y: F.bilinear(y.mean((2, 3)), y.amax((2, 3)), m.w), 5, 8, 8), maps, 5 * 8 * 9, 320),
    "used twice": (Do(lambda m, t: t @ m.w @ m.w, 8, 8), tokens, 2 * 24 * 64, 64),
    "element-wise": (Do(lambda m, y: (y * y).relu() + y.mean(1, True)), maps, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name: str) -> None:
    module, before, madds, parameters = CASES[name]
    net = Network.of(seeded(lambda: Around(module, before)), size=SIZE)
    assert net.is_graph
    # A module of several results has a point for each: every one says what the call cost.
    whole = [p for p in net.points.values() if p.kind == "module" and p.name.split(".")[0] == "m"]
    assert whole
    assert {(p.multiply_adds, p.parameters) for p in whole} == {(madds, parameters)}


def test_shared_weight_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)
            self.b.weight = self.a.weight

        def forward(self, t: Tensor) -> Tensor:
            return self.b(self.a(t).relu())

    net = Network.of(seeded(lambda: Around(Tied(), tokens)), size=SIZE)
    assert (net.points["m"].parameters, net.points["m"].multiply_adds) == (64 + 16, 2 * 24 * 64)
    assert net.points["m.b"].parameters == 72


def test_accounting_never_fails() -> None:
    """Whatever a rule trips over, the graph is made."""
    with mock.patch.dict(cost._RULES, {"linear": lambda node: node.args[99]}):
        net = Network.of(seeded(lambda: Around(nn.Linear(8, 5), tokens)), size=SIZE)
        assert net.is_graph
        assert net.points["m"].multiply_adds == 0
