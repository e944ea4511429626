"""The atom against closed forms and finite differences, and its mean along a path."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inward.columns.objectives import ClassScore, CrossEntropy, Objective, Unit
from inward.columns.paths import Cloud, Line, Point
from inward.columns.penalties import L2
from inward.errors import CallError
from inward.gradient import gradient, mean_gradient, raw_gradient
from inward.network.network import Network

# float64: a few hundred additions of numbers near 1, each good to 1e-16.
EXACT = 1e-10
SHAPE = (2, 3, 4)  # C, H, W: three different numbers


class Flat(nn.Module):
    """Logits W x + b of the flattened image."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(24, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Smooth(nn.Module):
    """Infinitely differentiable, so that finite differences converge."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, stride=2)
        self.aside = nn.Conv2d(3, 2, 1)
        self.fc = nn.Linear(5, 4)

    def tail(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.gelu(self.conv2(torch.tanh(x))).mean((2, 3)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.tail(self.conv1(x)), self.aside(x)


class Cube(nn.Module):
    """The sum of the cubes of the pixels: a polynomial of degree 3, whose gradient has degree 2."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return (self.one * x * x * x).flatten(1).sum(1, keepdim=True)


@pytest.fixture(scope="module")
def flat() -> Network:
    return Network.of(Flat().eval(), size=SHAPE[1:], channels=2)


@pytest.fixture(scope="module")
def module() -> Smooth:
    return Smooth().double().eval()


@pytest.fixture(scope="module")
def smooth(module: Smooth) -> Network:
    return Network.of(module, size=(7, 9))


def pictures(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    shape = (count, channels, height, width)
    drawn = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.01 + 0.98 * drawn  # room for a finite difference


def differences(function, at: Tensor, step: float = 1e-5) -> Tensor:
    """The central differences of ``function`` (N, ...) -> (N,) at one image, for every number of it.

    The error is step^2 f''' / 6 + 1e-16 / step, about 1e-11 for values near 1.
    """
    moves = step * torch.eye(at.numel(), dtype=torch.float64).view(-1, *at.shape)
    with torch.no_grad():
        return ((function(at + moves) - function(at - moves)) / (2 * step)).view(at.shape)


def test_saliency_of_a_linear_network_is_its_weights(flat: Network) -> None:
    images, weight = pictures(3, *SHAPE), flat._source.weights()["fc.weight"]
    scores, found = gradient(flat, images, ClassScore((2, 0, 1)))
    torch.testing.assert_close(found, weight[[2, 0, 1]].view(3, *SHAPE), rtol=0, atol=EXACT)
    torch.testing.assert_close(scores, flat(images)[[0, 1, 2], [2, 0, 1]], rtol=0, atol=EXACT)
    assert not images.requires_grad


@pytest.mark.parametrize("objective", [ClassScore((3, 1, 0)), CrossEntropy(2), 2 * ClassScore(1) - 0.5 * L2()])
def test_gradient_agrees_with_finite_differences_at_the_image(smooth: Network, objective: Objective) -> None:
    images = pictures(3, 3, 7, 9)
    _, found = gradient(smooth, images, objective)
    for i, image in enumerate(images):
        own = _alone(objective, i)
        slow = differences(lambda x, own=own: own(smooth.trace(x, own.addresses)), image)
        torch.testing.assert_close(found[i], slow, rtol=0, atol=1e-8)
    assert found.abs().amax() > 1e-3


def _alone(objective: Objective, i: int) -> Objective:
    classes = getattr(objective, "classes", None)
    return type(objective)(classes[i]) if isinstance(classes, tuple) else objective


def test_gradient_agrees_with_finite_differences_at_an_inner_point(smooth: Network, module: Smooth) -> None:
    images = pictures(3, 3, 7, 9)
    _, found = gradient(smooth, images, ClassScore(2), at="conv1")
    assert found.shape == (3, 6, 7, 9)
    with torch.no_grad():
        inner = module.conv1(images)
    for i in range(3):
        slow = differences(lambda x: module.tail(x)[:, 2], inner[i])
        torch.testing.assert_close(found[i], slow, rtol=0, atol=1e-8)


def test_gradient_at_the_logits_is_one_hot(smooth: Network) -> None:
    _, found = gradient(smooth, pictures(3, 3, 7, 9), ClassScore((3, 1, 0)), at="class")
    assert torch.equal(found, torch.eye(4, dtype=torch.float64)[[3, 1, 0]])


def test_float32_agrees_with_float64(smooth: Network) -> None:
    images = pictures(3, 3, 7, 9)
    _, exact = gradient(smooth, images, ClassScore(1))
    _, single = gradient(smooth.to(dtype=torch.float32), images.float(), ClassScore(1))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_gradient_works_without_autograd_and_leaves_no_trace(smooth: Network, module: Smooth) -> None:
    images = pictures(3, 3, 7, 9)
    _, expected = gradient(smooth, images, ClassScore(1))
    with torch.no_grad():
        scores, found = gradient(smooth, images, ClassScore(1))
    assert torch.equal(found, expected)
    assert not scores.requires_grad
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("aside", "there is no path"),
        ("conv1/3", "give at='conv1'"),
        ("class:1", "give at='class'"),
        ("conv3", "no point 'conv3'"),
    ],
)
def test_gradient_refuses_a_wrong_inner_point(smooth: Network, at: str, message: str) -> None:
    with pytest.raises(CallError, match=message):
        gradient(smooth, pictures(2, 3, 7, 9), ClassScore(1), at=at)


def test_gradient_of_pixels_has_no_path_from_inside(smooth: Network) -> None:
    with pytest.raises(CallError, match="does not depend on 'conv1'"):
        gradient(smooth, pictures(2, 3, 7, 9), L2(), at="conv1")


def test_gradient_of_a_place_is_checked_at_the_size_of_the_images(smooth: Network) -> None:
    """The network is listed at 7 x 9; a picture of 11 x 15 has more places."""
    images = pictures(2, 3, 11, 15)
    _, found = gradient(smooth, images, Unit("conv1/0@10,14"))
    # A convolution of 3 x 3 with padding 1: the corner sees 2 x 2 pixels.
    assert found[:, :, 9:, 13:].ne(0).all()
    assert int(found.ne(0).sum()) == 2 * 3 * 2 * 2
    with pytest.raises(CallError, match="outside the grid"):
        gradient(smooth, pictures(2, 3, 7, 9), Unit("conv1/0@10,14"))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_path_integral_on_a_linear_network_is_the_difference(flat: Network, steps: int) -> None:
    images, baseline = pictures(3, *SHAPE), pictures(3, *SHAPE, seed=1)
    _, mean = mean_gradient(flat, images, ClassScore(1), Line(baseline, steps))
    total = (mean * (images - baseline)).flatten(1).sum(1)
    torch.testing.assert_close(total, (flat(images) - flat(baseline))[:, 1], rtol=0, atol=EXACT)


@pytest.mark.parametrize(("steps", "exact"), [(1, False), (2, True), (7, True)])
def test_gauss_legendre_is_exact_to_degree_2n_minus_1(steps: int, exact: bool) -> None:
    """The gradient of a cubic is quadratic along the line: one point (degree 1) misses it, two (3) do not."""
    net = Network.of(Cube().eval(), size=(3, 4), channels=2)
    images, baseline = pictures(3, *SHAPE), pictures(1, *SHAPE, seed=1)
    _, mean = mean_gradient(net, images, ClassScore(0), Line(baseline, steps))
    total = (mean * (images - baseline)).flatten(1).sum(1)
    expected = (images**3 - baseline**3).flatten(1).sum(1)
    # By hand: the midpoint misses a cubic's rise by (x - b)^3 / 4 a pixel.
    missed = ((images - baseline) ** 3 / 4).flatten(1).sum(1)
    torch.testing.assert_close(total, expected if exact else expected - missed, rtol=0, atol=EXACT)
    assert missed.abs().min() > 1e-3


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
@pytest.mark.parametrize("path", ["line", "cloud", "point"])
def test_mean_gradient_is_a_slow_loop_whatever_the_chunk(smooth: Network, chunk: int, path: str) -> None:
    images = pictures(3, 3, 7, 9)
    chosen = {"line": Line(torch.zeros_like(images), 5), "cloud": Cloud(0.1, 5, seed=4), "point": Point()}[path]
    objective = CrossEntropy((3, 1, 0)) + 2 * ClassScore(1)
    score, mean = torch.zeros(3, dtype=torch.float64), torch.zeros_like(images)
    for weight, points in chosen(images):
        for i in range(3):
            own = CrossEntropy((3, 1, 0)[i]) + 2 * ClassScore(1)
            scores, found = raw_gradient(smooth, points[i : i + 1], own)
            score[i] += weight * scores[0]
            mean[i] += weight * found[0]
    seen = []
    found = mean_gradient(smooth, images, objective, chosen, chunk=chunk, on_point=lambda *at: seen.append(at))
    torch.testing.assert_close(found[0], score, rtol=0, atol=EXACT)
    torch.testing.assert_close(found[1], mean, rtol=0, atol=EXACT)
    points = 3 * len(chosen)
    assert seen == [(done, points) for done in [*range(chunk, points, chunk), points]]


@pytest.mark.parametrize("path", ["line", "cloud"])
def test_mean_gradient_is_the_same_alone_and_in_a_batch(smooth: Network, path: str) -> None:
    images = pictures(3, 3, 7, 9)
    chosen = Line(torch.full_like(images[:1], 0.5), 4) if path == "line" else Cloud(0.2, 4)
    _, together = mean_gradient(smooth, images, ClassScore((3, 1, 0)), chosen)
    for i, c in enumerate((3, 1, 0)):
        _, alone = mean_gradient(smooth, images[i : i + 1], ClassScore(c), chosen)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=EXACT)


def test_a_line_takes_its_nodes_from_the_interior_and_a_cloud_its_spread_from_std() -> None:
    images = torch.full((2, 3, 16, 20), 0.5, dtype=torch.float64)
    weights, points = zip(*Line(torch.zeros_like(images), 6)(images), strict=True)
    assert sum(weights) == pytest.approx(1, abs=1e-12)
    assert 0 < float(points[0].max()) < 0.02
    cloud = [p for _, p in Cloud(0.05, 40, seed=1)(images)]
    noise = np.stack([p.numpy() for p in cloud]) - 0.5
    # 40 * 960 numbers: the standard error of the spread is 0.05 / sqrt(2 * 38400) = 0.00018.
    assert noise.std() == pytest.approx(0.05, abs=0.001)
    assert np.array_equal(noise[:, 0], noise[:, 1])
    assert not np.array_equal(noise[0], noise[1])
    # Not kept inside of [0, 1]: half of the numbers would be moved.
    wide = torch.stack([p for _, p in Cloud(1.0, 3)(images)])
    assert float(((wide < 0) | (wide > 1)).double().mean()) == pytest.approx(0.617, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, x: mean_gradient(net, x, ClassScore(0), Point(), chunk=-1), "1 image or more, not -1"),
        (lambda net, x: mean_gradient(net, x, ClassScore(0), Cloud(0.1, samples=0)), "1 image or more, not 0"),
        (lambda net, x: mean_gradient(net, x, ClassScore(0), Cloud(-0.1)), "0 or more, not -0.1"),
        (lambda net, x: mean_gradient(net, x, ClassScore(0), Line(x, steps=0)), "1 point or more, not 0"),
        (lambda net, x: mean_gradient(net, x, ClassScore(0), Line(x[:2])), "the baseline has the shape"),
        (lambda net, x: mean_gradient(net, x[:1], ClassScore(0), Line(x)), "the baseline has the shape"),
        (lambda net, x: mean_gradient(net, x + 1, ClassScore(0), Point()), "goes from"),
        (lambda net, x: gradient(net, x - 1, ClassScore(0)), "goes from"),
        (lambda net, x: gradient(net, x, ClassScore((0, 1))), "2 classes for 3 images"),
    ],
)
def test_wrong_calls_are_refused(flat: Network, call, message: str) -> None:
    with pytest.raises(CallError, match=message):
        call(flat, pictures(3, *SHAPE))
