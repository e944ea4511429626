"""Statistics of features, and textures made of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, texture
from inward.columns.penalties import L6, TotalVariation
from inward.columns.texture import Gram, SlicedWasserstein, along, gram, on_grid, orthogonal
from inward.network import Network
from inward.network.circular import circular
from inward.network.trace import Trace
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")


def slow_gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """Written out: sums of products of two features over all positions."""
    count, units, height, width = features.shape
    found = torch.zeros(count, units, units, dtype=torch.float64)
    for n in range(count):
        weights = torch.ones(height, width) if mask is None else mask[n if len(mask) > 1 else 0]
        for i in range(units):
            for j in range(units):
                total = 0.0
                for y in range(height):
                    for x in range(width):
                        total += float(weights[y, x] * features[n, i, y, x] * features[n, j, y, x])
                found[n, i, j] = total / float(weights.sum())
    return found


def test_gram_matrices_are_those_of_a_slow_replica() -> None:
    features = images(2, 3, 5, 4) - 0.5
    torch.testing.assert_close(gram(features).double(), slow_gram(features), rtol=1e-5, atol=1e-7)
    mask = images(1, 5, 4)
    torch.testing.assert_close(gram(features, mask).double(), slow_gram(features, mask), rtol=1e-5, atol=1e-7)
    # Where there is nothing there is no texture.
    assert gram(features, torch.zeros(1, 5, 4)).abs().max() == 0


def test_the_loss_is_that_of_the_paper() -> None:
    """Of Gatys, Ecker and Bethge: 1 / (4 N^2 M^2) times the squared distance of sums over M places."""
    net, x, y = network(conv_net(), (9, 7)), images(2, 3, 9, 7), images(1, 3, 9, 7).flip(3)
    made, given_features = (net.trace(z, ["second"])["second"].detach() for z in (x, y))
    units, places = made.shape[1], made.shape[2] * made.shape[3]
    sums = [places * slow_gram(f) for f in (made, given_features)]
    expected = (sums[0] - sums[1]).square().sum((1, 2)) / (4 * units**2 * places**2)
    found = Gram("second", gram(given_features))(net.trace(x, ["second"]))
    torch.testing.assert_close(-found.double(), expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_loss_has_its_slope_and_curvature(layout: torch.memory_format, masked: bool) -> None:
    """Finite differences in float64, of matrices that are not symmetric too."""
    net, x = network(conv_net(), (5, 4)).to(dtype=torch.float64), images(2, 3, 5, 4).double()
    features = net.trace(x, ["second"])["second"].detach().contiguous(memory_format=layout).requires_grad_(True)
    units = features.shape[1]
    matrices = torch.rand(2, units, units, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = images(1, *features.shape[2:]) if masked else None

    def loss(values: Tensor) -> Tensor:
        return Gram("second", matrices, mask)(Trace(net, x, {"second": values}))

    assert torch.autograd.gradcheck(loss, features)
    assert torch.autograd.gradgradcheck(loss, features)
    expected = (gram(features, mask) - matrices).square().sum((1, 2)) / (4 * units**2)
    torch.testing.assert_close(-loss(features), expected)
    slopes = [torch.autograd.grad(values.sum(), features)[0] for values in (loss(features), -expected)]
    torch.testing.assert_close(slopes[0], slopes[1])
    # In the order of the features in memory, which costs no copy.
    assert slopes[0].is_contiguous(memory_format=layout)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_statistics_do_not_know_where(seed: int) -> None:
    """Positions in another order have the same Gram matrix, and are at no distance by sorted values."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 4, 6, 5, generator=generator)
    order = torch.randperm(30, generator=generator)
    moved = features.flatten(2)[:, :, order].view_as(features)
    torch.testing.assert_close(gram(moved), gram(features), rtol=1e-4, atol=1e-5)
    directions = orthogonal(4, seed)
    torch.testing.assert_close(directions.T @ directions, torch.eye(4), rtol=0, atol=1e-5)
    torch.testing.assert_close(along(moved, directions), along(features, directions), rtol=0, atol=1e-5)


def test_sorted_values_by_hand() -> None:
    """Along one direction: the mean squared difference of values in their order, whatever their number."""

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1.0 * x

    net = Network.of(Plain().eval(), size=(2, 2), channels=1)
    x = torch.tensor([[[[0.4, 0.1], [0.2, 0.3]]]])
    (name,) = [p for p in net.points if p != ""][:1]
    wanted = torch.tensor([[[0.0, 0.1, 0.2, 0.5]]])
    one = torch.ones(1, 1)
    found = SlicedWasserstein(name, one, wanted)(net.trace(x, [name]))
    assert found.item() == pytest.approx(-(0.1**2 + 0.1**2 + 0.1**2 + 0.1**2) / 4)
    # Two values stand for a line between them: 0, 1/6, 1/3, 1/2.
    found = SlicedWasserstein(name, one, torch.tensor([[[0.0, 0.5]]]))(net.trace(x, [name]))
    line = torch.linspace(0, 0.5, 4)
    assert found.item() == pytest.approx(-(line - torch.tensor([0.1, 0.2, 0.3, 0.4])).square().mean().item())


class Colors(nn.Module):
    """One layer of 1 x 1: mixtures of the three colors, centered."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, 0.5, 0], [0, 1.0, -0.5], [0.3, 0, 1.0]]).view(3, 3, 1, 1))
            self.mix.bias.fill_(-0.6)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


def test_the_texture_of_a_layer_of_one_pixel_has_the_given_covariance() -> None:
    net, x = Network.of(Colors().eval(), size=(16, 12)), 0.3 + 0.4 * images(2, 3, 16, 12)
    found = texture(net, x, at="mix", steps=120, scales=1)
    wanted, made = (gram(net.trace(z, ["mix"])["mix"].detach()) for z in (x, found.made[:, 0]))
    torch.testing.assert_close(made, wanted, rtol=0, atol=2e-4)
    assert found.measured["loss_left"].max() < 1e-5
    # The pixels are others.
    assert (found.made[:, 0] - x).abs().mean() > 0.05


def test_penalties_by_hand() -> None:
    x = torch.tensor([[[[0.0, 0.5], [1.0, 0.5]]]])

    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1.0 * x

    trace = Network.of(Plain().eval(), size=(2, 2), channels=1).trace(x, [])
    # Down: 1 and 0; to the right: 0.5 and 0.5.
    assert TotalVariation()(trace).item() == pytest.approx(2.0)
    assert TotalVariation(2.0)(trace).item() == pytest.approx(1.5)
    with pytest.raises(CallError, match=r"the power of a total variation is 1 to 4, not 0\.5"):
        TotalVariation(0.5)
    # (2 x - 1) is -1, 0, 1, 0.
    assert L6()(trace).item() == pytest.approx(2.0)


def test_a_mask_on_a_grid_is_the_mean_of_its_pixels() -> None:
    mask = torch.zeros(1, 8, 6)
    mask[:, :4, :3] = 1
    mask[:, 4, 0] = 1
    assert on_grid(mask, (2, 2))[0].tolist() == [[1.0, 0.0], [pytest.approx(1 / 12), 0.0]]


class Strided(nn.Module):
    """Windows of every kind that closed pictures are looked at by."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 7, 2, 3)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.second = nn.Conv2d(6, 5, 3, 1, 2, dilation=2)
        self.mean = nn.AvgPool2d(2)
        self.third = nn.Conv2d(5, 4, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.mean(torch.relu(self.second(self.pool(torch.relu(self.first(x)))))))


@pytest.mark.parametrize("shift", [(8, 0), (-16, 24), (8, 8)])
def test_closed_networks_move_with_the_picture(shift: tuple[int, int]) -> None:
    net = Network.of(seeded(Strided), size=(48, 64))
    closed, x = net.edit(circular), images(2, 3, 48, 64)
    found = closed(x)
    # A grid of the picture's size by the strides.
    assert found.shape == (2, 4, 6, 8)
    moved = closed(x.roll(shift, (2, 3)))
    torch.testing.assert_close(moved, found.roll([s // 8 for s in shift], (2, 3)), rtol=1e-4, atol=1e-5)
    # As it was, it knows where the edges are.
    inside = net(x.roll(shift, (2, 3))) - net(x).roll([s // 8 for s in shift], (2, 3))
    assert inside.abs().max() > 1e-2
    with pytest.raises(CallError, match="11 positions are no multiple of 2; give a size that is"):
        closed(images(1, 3, 44, 64))


def test_a_network_that_pads_by_itself_is_not_closed() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(nn.functional.pad(x, (1, 1, 1, 1)))

    net = Network.of(seeded(Padded), size=(8, 8)).edit(circular)
    with pytest.raises(CallError, match="pads pictures by an operation of its own"):
        net(images(1, 3, 8, 8))


@pytest.mark.parametrize("loss", ["gram", "wasserstein"])
def test_textures_without_seams(loss: Any) -> None:
    net = Network.of(seeded(Strided), size=(32, 32))
    x = images(1, 3, 32, 32)
    x = nn.functional.interpolate(x[:, :, ::4, ::4], (32, 32), mode="bilinear")
    options: dict[str, Any] = {"at": "first + second", "steps": 40, "loss": loss, "size": (32, 64)}
    closed = texture(net, x, tile=True, **options)
    assert closed.made.shape == (1, 1, 3, 32, 64)
    assert closed.measured["loss_left"].item() < 0.1
    assert closed.measured["seam"].item() < 1.6
    assert "seam" not in texture(net, x, **options).measured


def test_a_row_from_the_first_stage_to_all() -> None:
    net, x = network(conv_net(), (9, 7)), images(2, 3, 9, 7)
    found = texture(net, x, at="conv + 0.5 * second", through="all", steps=8)
    assert found.names == ("conv", "up to second")
    assert found.made.shape == (2, 2, 3, 9, 7)
    # What a picture was made without has no weight; the others count alike at the start, but for what was asked.
    assert found.weights["second"][:, 0].tolist() == [0.0, 0.0]
    assert (found.weights["second"][:, 1] > 0).all()
    single = texture(net, x[1:], at="conv + 0.5 * second", steps=8)
    torch.testing.assert_close(single.made[0, 0], found.made[1, 1], rtol=0, atol=1e-5)


def test_weights_make_all_points_count_alike_at_the_start() -> None:
    net, x = network(conv_net(), (9, 7)), images(1, 3, 9, 7)
    found = texture(net, x, at="conv + second", steps=1, scales=1, step="adam")
    # The objective before the first pass is minus the mean of losses that are each 1.
    assert found.history[0].item() == pytest.approx(-1.0, rel=1e-4)
    assert math.isfinite(found.measured["loss_left"].item())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "class"}, "'class' has no grid of positions, and so no texture"),
        ({"at": "second/3"}, "'second/3' is a unit; give at='second'"),
        ({"at": "conv - second"}, "the weight of 'second' is above 0, not -1"),
        ({"at": "conv + conv"}, "'conv' is named twice"),
        ({"steps": 0}, "steps"),
        ({"scales": -1}, "scales are 1 or more, or 0 for as many as there are, not -1"),
        ({"loss": "histogram"}, "there is no loss 'histogram'; write gram or wasserstein"),
        ({"step": "sgd"}, "there is no step 'sgd'; write lbfgs or adam"),
        ({"parameterization": "cppn"}, "write pixels or fourier"),
        ({"tv": -1.0}, "tv is a number from 0 up, not -1"),
        ({"lr": 0.0}, "lr is a number above 0, not 0"),
        ({"snapshots": 9}, "there are 0 to 3 snapshots"),
        ({"through": "some"}, "through is one or all, not 'some'"),
        ({"at": "conv + second", "through": "all", "snapshots": 1}, "through=all makes several"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    net, x = network(conv_net(), (9, 7)), images(1, 3, 9, 7)
    with pytest.raises(CallError, match=message):
        texture(net, x, **{"at": "second", "steps": 4, **options})
