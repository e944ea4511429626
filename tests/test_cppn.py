"""CPPN: the formula of its network, pictures that have no size, and what it can draw."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from helpers import conv_net, network
from inward.ascent import Row, ascend
from inward.columns import cppn
from inward.columns.cppn import CPPN
from inward.columns.objectives import Channel
from inward.columns.steps import adam
from inward.errors import CallError

pytestmark = pytest.mark.usefixtures("single_thread")


def like(height: int, width: int, channels: int = 3, count: int = 2) -> Tensor:
    return torch.zeros((count, channels, height, width), dtype=torch.float64)


def moving(kind: CPPN, images: Tensor, seed: int = 7) -> list[Tensor]:
    """Parameters in general position, so that no bias is 0 and the picture is no gray."""
    generator = torch.Generator().manual_seed(seed)
    return [
        p + 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64)
        for p in kind.init(images, range(len(images)))
    ]


def slow(parameters: list[Tensor], picture: int, y: float, x: float, short: int) -> list[float]:
    """The colors of one place, given in pixels from the center: a loop in plain numbers."""
    unit = 2 * math.sqrt(3) / short
    numbers = [x * unit, y * unit, math.hypot(x, y) * unit]
    for index in range(0, len(parameters), 2):
        weight, bias = parameters[index][picture], parameters[index + 1][picture, 0]
        sums = [
            float(bias[o]) + sum(n * float(weight[i, o]) for i, n in enumerate(numbers)) for o in range(weight.shape[1])
        ]
        if index == len(parameters) - 2:
            return [1 / (1 + math.exp(-s)) for s in sums]
        bent = [math.atan(s) for s in sums]
        numbers = [b / 0.670597 for b in bent] + [(b * b - 0.449701) / 0.396132 for b in bent]
    raise AssertionError


@pytest.mark.parametrize("size", [(5, 8), (6, 4), (1, 3)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_picture_is_the_network_at_the_centers_of_its_pixels(size: tuple[int, int], channels: int) -> None:
    height, width = size
    kind, images = CPPN(layers=2, width=3), like(height, width, channels)
    parameters = moving(kind, images)
    found = kind.image(parameters, images)
    for n in range(2):
        for i in range(height):
            for j in range(width):
                place = (i + 0.5 - height / 2, j + 0.5 - width / 2)
                # The sums of a handful of numbers of size 1.
                assert found[n, :, i, j].tolist() == pytest.approx(
                    slow(parameters, n, *place, min(height, width)), abs=1e-12
                )


def test_what_a_layer_is_given_has_mean_0_and_variance_1() -> None:
    """Of normal numbers; the integral by the midpoint rule, exact to 1e-12 for functions as smooth as these."""
    h = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    density = (-h.square() / 2).exp() / math.sqrt(2 * math.pi) * 1e-3
    bent, square = cppn._activation(h[:, None]).T
    for values in (bent, square):
        # The constants have six digits.
        assert float((values * density).sum()) == pytest.approx(0, abs=2e-6)
        assert float((values.square() * density).sum()) == pytest.approx(1, abs=5e-6)


def test_weights_have_the_variance_that_keeps_that_of_the_layers() -> None:
    parameters = CPPN(layers=3, width=24, contrast=0.2).init(like(4, 5, count=40), range(40))
    assert [tuple(p.shape[1:]) for p in parameters] == [
        *((3, 24), (1, 24), (48, 24), (1, 24), (48, 24), (1, 24), (48, 3), (1, 3))
    ]
    for index, (inputs, factor) in enumerate([(3, 1), (48, 1), (48, 1), (48, 0.2)]):
        weight = parameters[2 * index]
        # A standard deviation over n draws is good to 1 / sqrt(2 n).
        allowed = 4 / math.sqrt(2 * weight.numel())
        assert float(weight.std()) == pytest.approx(factor / math.sqrt(inputs), rel=allowed)
        assert float(parameters[2 * index + 1].abs().max()) == 0


def test_the_first_pictures_are_near_gray_and_differ() -> None:
    kind = CPPN()
    images = kind.image(kind.init(like(20, 28, count=6), range(6)), like(20, 28, count=6))
    plain = torch.logit(images)
    # About: the activations of deep random layers are correlated, so that single pictures vary.
    assert 0.05 < float(plain.square().mean().sqrt()) < 0.2
    assert float((images[0] - images[1]).abs().max()) > 0.01


@pytest.mark.parametrize("size", [(12, 16), (15, 9)])
def test_one_picture_at_every_size(size: tuple[int, int]) -> None:
    """Four times as large, and reduced by means of 4 x 4 pixels, it is the small one."""
    height, width = size
    small, large = like(height, width), like(4 * height, 4 * width)
    kind = CPPN(layers=3, width=8)
    parameters = kind.init(small, [1, 2])
    a, b = kind.image(parameters, small), kind.image(parameters, large)
    reduced = F.avg_pool2d(b, 4)
    # The mean over a pixel is not its center: h^2 / 24 times the second derivative, and a kink at the very center.
    assert float((reduced - a).abs().mean()) < 0.02 * float(a.std())
    shifted = F.avg_pool2d(b.roll(4, 3), 4)
    assert float((shifted - a)[..., 1:].abs().mean()) > 0.1 * float(a.std())


def test_an_odd_enlargement_has_the_very_same_pixels() -> None:
    """Three times as large, every second of three pixels has the center of a small one."""
    kind, small, large = CPPN(layers=3, width=8), like(7, 10), like(21, 30)
    parameters = moving(kind, small)
    found = kind.image(parameters, large)[:, :, 1::3, 1::3]
    torch.testing.assert_close(found, kind.image(parameters, small), rtol=0, atol=1e-12)


def test_what_an_ascent_found_renders_at_any_size_after_the_fact() -> None:
    """The middle pixel of every 3 x 3 of the large picture has the center of a pixel of the small one."""
    net = network(conv_net(), (9, 7)).to(dtype=torch.float64)
    row = Row(Channel("second/3"), adam(0.01), 5, parameterization=CPPN(layers=2, width=6))
    like = torch.zeros(2, 3, 9, 7, dtype=torch.float64)
    found = ascend(net, row, like, seeds=[1, 2])
    large = CPPN(layers=2, width=6).image(list(found.parameters), torch.zeros(2, 3, 27, 21, dtype=torch.float64))
    # float64: coordinates of both sizes agree to rounding.
    torch.testing.assert_close(large[:, :, 1::3, 1::3], found.images, rtol=0, atol=1e-12)
    assert large.std() > 0.01


def test_a_wider_picture_shows_the_same_middle() -> None:
    kind, square, wide = CPPN(layers=2, width=6), like(8, 8), like(8, 14)
    parameters = moving(kind, square)
    found = kind.image(parameters, wide)
    torch.testing.assert_close(found[..., 3:11], kind.image(parameters, square), rtol=0, atol=1e-12)


def test_it_can_draw_xor() -> None:
    """Two pictures, XOR and its negative, each by its own network: a linear function of x and y cannot."""
    y, x = np.indices((16, 24))
    xor = torch.from_numpy(((y < 8) ^ (x < 12)).astype(np.float32))
    target = torch.stack([xor, 1 - xor])[:, None]
    kind = CPPN(layers=3, width=8)
    parameters = [p.requires_grad_(True) for p in kind.init(torch.zeros_like(target), [0, 1])]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    errors = []
    for _ in range(250):
        error = (kind.image(parameters, target) - target).abs().mean((1, 2, 3))
        errors.append(error.detach())
        optimizer.zero_grad()
        error.sum().backward()
        optimizer.step()
    assert errors[0].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    assert float(errors[-1].max()) < 0.03


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CPPN(layers=0), "not 0 of 24"),
        (lambda: CPPN(width=0), "not 8 of 0"),
        (lambda: CPPN(contrast=0.0), "not 0.0"),
        (lambda: CPPN(contrast=math.nan), "not nan"),
    ],
)
def test_networks_that_make_no_sense_are_refused(make, message: str) -> None:
    with pytest.raises(CallError, match=message):
        make()
