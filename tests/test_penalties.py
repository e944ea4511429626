"""Penalties by hand and by slow replicas, with and without an alpha channel, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inward.columns.objectives import Channel, ClassScore, Objective
from inward.columns.penalties import L1, L2, Blur, TotalVariation, Transparency
from inward.errors import CallError
from inward.gradient import gradient, keys_of, trace_for
from inward.network.network import Network
from inward.network.trace import Trace

EXACT = 1e-12  # float64, up to some hundred additions of numbers near 1


class Mean(nn.Module):
    """Three logits: the mean of each of two channels, and 3 less the first."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 3, 1)
        with torch.no_grad():
            self.mix.weight.copy_(torch.tensor([[1.0, 0], [0, 1], [-1, 0]])[:, :, None, None])
            self.mix.bias.copy_(torch.tensor([0.0, 0, 3]))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x).mean((2, 3))


@pytest.fixture(scope="module")
def net() -> Network:
    return Network.of(Mean().double().eval(), size=(5, 7))


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def traced(net: Network, objective: Objective, images: Tensor, picture: Tensor | None = None) -> Trace:
    trace = trace_for(net, images, keys_of(net, objective))
    trace.picture = images if picture is None else picture
    return trace


def score(net: Network, objective: Objective, images: Tensor, picture: Tensor | None = None) -> Tensor:
    return objective(traced(net, objective, images, picture)).detach()


def blurred(plane: Tensor) -> Tensor:
    """The mean over those of 3 x 3 pixels that there are, the center twice."""
    height, width = plane.shape
    found = torch.zeros_like(plane)
    for y in range(height):
        for x in range(width):
            places = [(v, u) for v in range(y - 1, y + 2) for u in range(x - 1, x + 2)]
            inside = [(v, u, 2 if (v, u) == (y, x) else 1) for v, u in places if 0 <= v < height and 0 <= u < width]
            found[y, x] = sum(w * plane[v, u] for v, u, w in inside) / sum(w for _, _, w in inside)
    return found


def test_sums_over_pixels_by_hand(net: Network) -> None:
    image = torch.zeros((2, 2, 5, 7), dtype=torch.float64)
    image[0, 1, 2, 3] = 0.5  # inside: four neighbors
    image[1, 0, 0, 0] = 1.0  # in the corner: two
    image[1, 1, 4, 2] = 0.25  # at the edge: three
    assert score(net, L2(), image).tolist() == [0.25, 1.0625]
    assert score(net, TotalVariation(), image).tolist() == [4 * 0.5, 2 * 1.0 + 3 * 0.25]
    # 70 values, each 0.5 from gray but one that is gray, or one a quarter away and one a half.
    assert score(net, L1(), image).tolist() == [69 * 0.5, 69 * 0.5 + 0.25]
    assert score(net, L1(0.0), image).tolist() == [0.5, 1.25]


def test_blur_by_hand(net: Network) -> None:
    """A pixel among zeros: the center keeps 2 of 10 shares; each neighbor takes 1 of its own."""
    image = torch.zeros((2, 2, 5, 7), dtype=torch.float64)
    image[0, 1, 2, 3] = 1.0
    image[1, 0, 0, 0] = 0.5
    inside = (0.8**2 + 8 * 0.1**2) / 2
    # In the corner 2 of 5 shares; at the edge 1 of 7, twice; the diagonal neighbor 1 of 10.
    corner = 0.5**2 * ((3 / 5) ** 2 + 2 * (1 / 7) ** 2 + (1 / 10) ** 2) / 2
    assert score(net, Blur(), image).tolist() == pytest.approx([inside, corner], abs=EXACT)


def test_blur_against_a_slow_replica_and_its_gradient_is_what_the_blur_takes(net: Network) -> None:
    images = rand(3, 2, 5, 7)
    copies = torch.stack([torch.stack([blurred(plane) for plane in image]) for image in images])
    gaps = images - copies
    scores, found = gradient(net, images, Blur())
    torch.testing.assert_close(scores, gaps.square().sum((1, 2, 3)) / 2, rtol=0, atol=EXACT)
    torch.testing.assert_close(found, gaps, rtol=0, atol=EXACT)
    # A step down: x <- (1 - k) x + k blur(x).
    torch.testing.assert_close(images - 0.3 * found, 0.7 * images + 0.3 * copies, rtol=0, atol=EXACT)
    assert gaps.abs().amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (2, 3)])
def test_blur_of_pictures_smaller_than_its_window(net: Network, shape: tuple[int, int]) -> None:
    images = rand(2, 2, *shape)
    expected = [sum(float((p - blurred(p)).square().sum()) for p in image) / 2 for image in images]
    assert score(net, Blur(), images).tolist() == pytest.approx(expected, abs=EXACT)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(-2, 2), st.integers(0, 1000))
def test_what_is_even_is_neither_varied_nor_blurred(height: int, width: int, value: float, seed: int) -> None:
    """Nor does it matter which gray a picture lies on."""

    class Given:
        images = picture = torch.full((2, 3, height, width), value, dtype=torch.float64)

    class Moved:
        images = picture = rand(2, 3, height, width, seed=seed)

    moved = [p(Moved()) for p in (Blur(), TotalVariation())]  # type: ignore[arg-type]
    for penalty, before in zip((Blur(), TotalVariation()), moved, strict=True):
        assert penalty(Given()).abs().max() < EXACT  # type: ignore[arg-type]
        Moved.images = Moved.picture = rand(2, 3, height, width, seed=seed) + value
        torch.testing.assert_close(penalty(Moved()), before, rtol=0, atol=1e-10)  # type: ignore[arg-type]
    assert L1(value)(Given()).abs().max() == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [L1(), L1(0.2), L2(), TotalVariation()], ids=str)
def test_gradients_are_finite_differences(net: Network, penalty: Objective) -> None:
    """Central differences of 1e-6, of numbers near 50: good to 1e-8. No two pixels are so near to one another."""
    images = rand(3, 2, 5, 7).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: penalty(trace_for(net, x, [])), images, atol=1e-7, rtol=1e-6)
    assert gradient(net, images.detach(), penalty)[1].abs().amax((1, 2, 3)).min() > 0.1


def test_penalties_of_half_precision_images_do_not_overflow() -> None:
    """The square norm of 90,000 pixels of 1 is above 65,504, the largest float16."""

    class White:
        images = picture = torch.ones((2, 1, 300, 300), dtype=torch.float16)

    assert L2()(White()).tolist() == [90000, 90000]  # type: ignore[arg-type]
    assert L1(0)(White()).tolist() == [90000, 90000]  # type: ignore[arg-type]
    White.images[:, :, ::2] = 0
    assert TotalVariation()(White()).tolist() == [299 * 300] * 2  # type: ignore[arg-type]
    # Rows of 0 and 1 in turn: 6 of 10 shares are the other rows' (4 of 7 at the sides), twice 3 of 7 at the ends.
    blur = Blur()(White())  # type: ignore[arg-type]
    assert blur.dtype == torch.float32
    inner = 298 * (298 * 0.6**2 + 2 * (4 / 7) ** 2)
    ends = 2 * (298 * (3 / 7) ** 2 + 2 * (2 / 5) ** 2)
    assert blur.tolist() == pytest.approx([(inner + ends) / 2] * 2, rel=1e-5)


def test_the_picture_is_judged_and_not_what_an_augmentation_made_of_it(net: Network) -> None:
    picture = rand(2, 2, 5, 7)
    for penalty in (L1(), L2(), TotalVariation(), Blur()):
        found = score(net, penalty, torch.full((2, 2, 5, 7), 0.25, dtype=torch.float64), picture)
        assert torch.equal(found, score(net, penalty, picture))
        assert found.min() > 1


def test_alpha_is_no_color_but_has_edges(net: Network) -> None:
    shown, picture = rand(3, 2, 5, 7), rand(3, 3, 5, 7, seed=2)
    colors, alpha = picture[:, :2], picture[:, 2:]
    for penalty in (L1(), L2()):
        assert torch.equal(score(net, penalty, shown, picture), score(net, penalty, colors))
    for penalty in (TotalVariation(), Blur()):
        both = score(net, penalty, colors) + score(net, penalty, alpha)
        torch.testing.assert_close(score(net, penalty, shown, picture), both, rtol=0, atol=EXACT)


def test_the_more_is_opaque_the_less_it_is_worth(net: Network) -> None:
    shown = torch.full((3, 2, 5, 7), 0.5, dtype=torch.float64)
    picture = torch.zeros((3, 3, 5, 7), dtype=torch.float64)
    picture[1, 2] = 1
    picture[2, 2, :, :3] = 0.5  # 15 of 35 pixels, half opaque
    # The first logit is the mean of the first channel, 0.5; the third 3 less that.
    left = [1, 0, 1 - 7.5 / 35]
    assert score(net, Transparency(ClassScore(0)), shown, picture).tolist() == pytest.approx([0.5 * k for k in left])
    several = score(net, Transparency(ClassScore((2, 2, 0))), shown, picture).tolist()
    assert several == pytest.approx([2.5, 0, 0.5 * left[2]], abs=EXACT)


def test_transparency_is_climbed_through_its_part_and_through_alpha(net: Network) -> None:
    objective = Transparency(ClassScore((0, 1, 2)) + 2 * Channel("mix/1"))

    def run(picture: Tensor) -> Tensor:
        shown = picture[:, :2] * picture[:, 2:] + 0.25 * (1 - picture[:, 2:])
        return objective(traced(net, objective, shown, picture))

    picture = rand(3, 3, 5, 7).requires_grad_(True)
    assert objective.addresses == ("class", "mix/1")
    assert torch.autograd.gradcheck(run, picture, atol=1e-7, rtol=1e-6)
    (found,) = torch.autograd.grad(run(picture).sum(), picture)
    assert found[:, 1:].abs().amax((2, 3)).min() > 1e-4


@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_needs_an_alpha_channel(net: Network, channels: int) -> None:
    picture = rand(2, channels, 5, 7)
    with pytest.raises(CallError, match=f"has {channels} channels and the network takes 2, so there is no alpha"):
        score(net, Transparency(ClassScore(0)), picture[:, :2], picture)


def test_transparency_selects_and_groups_as_its_part_does(net: Network) -> None:
    shown, picture = rand(3, 2, 5, 7), rand(3, 3, 5, 7, seed=2)
    objective = Transparency(ClassScore((2, 0, 1)))
    whole, kept = score(net, objective, shown, picture), [2, 0]
    assert torch.equal(score(net, objective.select(kept), shown[kept], picture[kept]), whole[kept])
    assert objective.group == 1


@pytest.mark.parametrize("penalty", [L1(), L2(), TotalVariation(), Blur()], ids=str)
def test_no_image_matters_to_another(net: Network, penalty: Objective) -> None:
    images = rand(3, 2, 5, 7)
    scores, gradients = gradient(net, images, penalty)
    for i in range(3):
        alone, found = gradient(net, images[i : i + 1], penalty)
        torch.testing.assert_close(alone, scores[i : i + 1], rtol=0, atol=EXACT)
        torch.testing.assert_close(found, gradients[i : i + 1], rtol=0, atol=EXACT)
    assert len(set(scores.tolist())) == 3


def test_penalties_are_subtracted(net: Network) -> None:
    images = rand(2, 2, 5, 7)
    objective = ClassScore(1) - 0.5 * L1() - 2 * (Blur() + TotalVariation())
    parts = [score(net, f, images) for f in (ClassScore(1), L1(), Blur(), TotalVariation())]
    expected = parts[0] - 0.5 * parts[1] - 2 * (parts[2] + parts[3])
    torch.testing.assert_close(score(net, objective, images), expected, rtol=0, atol=1e-11)
    assert objective.addresses == ("class",)
    assert objective.group == 1
    assert L1() == L1(0.5) != L1(0.4)


@pytest.mark.parametrize("constant", [math.nan, math.inf])
def test_a_constant_is_a_number(constant: float) -> None:
    with pytest.raises(CallError, match=r"not (nan|inf)$"):
        L1(constant)
