"""Strided convolutions with a gradient over blocks of pixels, against ``torch.conv2d``."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inward.network import Network
from inward.network.graph import Graph
from inward.network.lean import gradients_over_blocks
from same import images, seeded

# The same products, added in another order: float64, up to 11 x 11 x 8 of them.
EXACT = 1e-12

pytestmark = pytest.mark.usefixtures("single_thread")


class Strided(nn.Module):
    """One convolution; its map is the output."""

    def __init__(self, *geometry: int, **options: object) -> None:
        super().__init__()
        self.conv = nn.Conv2d(*geometry, **options)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def strided(module: nn.Module, size: tuple[int, int]) -> tuple[Network, int]:
    net = Network.of(module, size=size).edit(gradients_over_blocks)
    graph = net.graph(size)
    assert isinstance(graph, Graph)
    return net, graph.count("strided_convolution")


def assert_same(net: Network, module: nn.Module, x: Tensor) -> None:
    shown = [x.clone().requires_grad_(True) for _ in range(2)]
    wanted, found = module(shown[0]), net(shown[1])
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= EXACT * wanted.abs().max()
    weight = torch.cos(torch.arange(wanted.numel()).view(wanted.shape) + 1.0).double()
    slope, ours = (torch.autograd.grad((v * weight).sum(), i)[0] for v, i in zip((wanted, found), shown, strict=True))
    assert slope.abs().max() > 0
    assert (ours - slope).abs().max() <= EXACT * slope.abs().max()


@settings(max_examples=15, deadline=None)
@given(
    kernel=st.sampled_from((3, 4, 5, 7, 11)),
    stride=st.sampled_from((2, 3, 4)),
    channels=st.integers(1, 8),
    bias=st.booleans(),
    data=st.data(),
)
def test_the_gradient_over_blocks_is_exact(
    kernel: int, stride: int, channels: int, bias: bool, data: st.DataObject
) -> None:
    assume(kernel > stride)
    padding = tuple(data.draw(st.integers(0, kernel // 2), label="padding") for _ in range(2))
    height, width = (data.draw(st.integers(kernel, 25), label="side") for _ in range(2))
    module = seeded(lambda: Strided(channels, 3, kernel, stride=stride, padding=padding, bias=bias)).double()
    net, changed = strided(module, (height, width))
    assert changed == 1
    assert_same(net, module, images(2, channels, height, width, dtype=torch.float64))


@pytest.mark.parametrize(
    ("geometry", "options"),
    [
        ((9, 4, 3), {"stride": 2}),
        ((3, 4, 3), {"stride": 1}),
        ((3, 4, 3), {"stride": (2, 1)}),
        ((3, 4, 2), {"stride": 2}),
        ((3, 4, 2), {"stride": 3}),
        ((3, 4, (3, 5)), {"stride": 2}),
        ((4, 4, 3), {"stride": 2, "groups": 2}),
        ((3, 4, 3), {"stride": 2, "dilation": 2}),
    ],
    ids=["nine channels", "no stride", "unequal", "apart", "gaps", "oblong", "grouped", "dilated"],
)
def test_others_are_left_alone(geometry: tuple, options: dict) -> None:
    module = seeded(lambda: Strided(*geometry, **options)).double()
    net, changed = strided(module, (13, 16))
    assert changed == 0
    x = images(2, geometry[0], 13, 16, dtype=torch.float64)
    assert torch.equal(net(x), module(x))


def test_a_border_that_no_window_reaches_has_no_gradient() -> None:
    """A kernel of 3 with a stride of 2 over 6 x 8 pixels: the last row and column are seen by none."""
    module = seeded(lambda: Strided(2, 3, 3, stride=2)).double()
    net, _ = strided(module, (6, 8))
    x = images(2, 2, 6, 8, dtype=torch.float64).requires_grad_(True)
    (slope,) = torch.autograd.grad(net(x).sum(), x)
    assert not slope[:, :, -1].any()
    assert not slope[:, :, :, -1].any()
    assert slope[:, :, :-1, :-1].abs().min() > 0


def test_the_weights_are_read_from_the_module_and_not_changed() -> None:
    module = seeded(lambda: Strided(3, 4, 7, stride=2, padding=3)).double()
    kept = module.conv.weight.detach().clone()  # type: ignore[union-attr]
    strided(module, (16, 13))
    assert torch.equal(module.conv.weight, kept)  # type: ignore[arg-type]
    # A point is called as before, and has the shape that it had.
    net, _ = strided(module, (16, 13))
    assert net.points["conv"].shape == (1, 4, 8, 7)
    assert net.points["conv"].units == 4


@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_can_be_differentiated_again(channels: int) -> None:
    """Of a square of the result: the second derivative along a direction, beside that of the module."""
    module = seeded(lambda: Strided(channels, 4, 4, stride=2, padding=1)).double()
    net, _ = strided(module, (9, 12))
    along = images(2, channels, 9, 12, dtype=torch.float64).flip(0, 3)
    found = []
    for f in (module, net):
        x = images(2, channels, 9, 12, dtype=torch.float64).requires_grad_(True)
        (slope,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad((slope * along).sum(), x)[0])
    assert found[0].abs().max() > 0
    assert (found[1] - found[0]).abs().max() <= EXACT * found[0].abs().max()
