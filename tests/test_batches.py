"""Batches whose images have objectives of their own, or are to differ from one another."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from inward.ascent import Row, ascend
from inward.columns import steps
from inward.columns.batches import Diversity, Each
from inward.columns.directions import Direction
from inward.columns.objectives import Channel, ClassScore, Energy, Margin, Objective, Unit
from inward.columns.penalties import L1, L2
from inward.errors import CallError
from inward.gradient import gradient, keys_of, trace_for
from inward.network.network import Network
from inward.network.trace import Trace
from networks import Same
from same import seeded

EXACT = 1e-12  # float64, up to some hundred additions of numbers near 1


class Net(nn.Module):
    """A map of 5 x 7, the same as tokens behind a class token, and four logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.embed = nn.Linear(3, 4)
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.tanh(2 * self.conv(x)).flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(1, keepdim=True) + 1, rows], 1)
        return self.fc(torch.tanh(self.embed(rows)).mean(1))


@pytest.fixture(scope="module")
def net() -> Network:
    return Network.of(seeded(Net).double(), size=(5, 7))


@pytest.fixture(scope="module")
def same() -> Network:
    return Network.of(Same(2).double().eval(), size=(5, 7))


def rand(*shape: int, seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return rand(6, 2, 5, 7)


def score(net: Network, images: Tensor, objective: Objective) -> Tensor:
    return objective(trace_for(net, images, keys_of(net, objective))).detach()


VECTOR = torch.tensor([0.75, -1.5, 0.5, 1], dtype=torch.float64)
SIX = (
    ClassScore(1),
    Unit("conv/2@4,6") - 0.1 * L2(),
    Direction("embed", VECTOR, (1, 5)),
    Energy("embed"),
    Channel("conv/0"),
    ClassScore(1),
)


@pytest.mark.parametrize("group", [1, 2, 3])
def test_every_group_has_the_score_and_the_gradient_of_its_own_part(net: Network, images: Tensor, group: int) -> None:
    parts = SIX[: 6 // group]
    objective = Each(parts, group)
    scores, gradients = gradient(net, images, objective)
    for i, part in enumerate(parts):
        own = slice(i * group, (i + 1) * group)
        alone, found = gradient(net, images[own], part)
        torch.testing.assert_close(scores[own], alone, rtol=0, atol=EXACT)
        torch.testing.assert_close(gradients[own], found, rtol=0, atol=EXACT)
    assert objective.group == group
    assert gradients.abs().amax((1, 2, 3)).min() > 1e-5


def test_a_part_may_name_a_class_for_each_image_of_its_group(net: Network, images: Tensor) -> None:
    objective = Each((Margin((3, 0, 2)), ClassScore((1, 1, 0))), 3)
    expected = torch.cat([score(net, images[:3], Margin((3, 0, 2))), score(net, images[3:], ClassScore((1, 1, 0)))])
    torch.testing.assert_close(score(net, images, objective), expected, rtol=0, atol=EXACT)


def test_addresses_come_once_in_order_of_the_parts() -> None:
    assert Each(SIX).addresses == ("class", "conv/2@4,6", "embed", "conv/0")
    assert Each((L1(), L2())).addresses == ()


def test_the_trace_is_split_once_and_each_part_sees_its_share(net: Network, images: Tensor, monkeypatch) -> None:
    """So the cost is that of the images, once."""
    splits, seen = [], []
    split = Trace.split

    class Seeing(Objective):
        addresses = ("class",)

        def __call__(self, trace: Trace) -> Tensor:
            seen.append(len(trace.images))
            return trace["class"][:, 0]

    monkeypatch.setattr(Trace, "split", lambda self, size=1: (splits.append(size), split(self, size))[1])
    score(net, images, Each((Seeing(), Seeing(), Seeing()), 2))
    assert (splits, seen) == ([2], [2, 2, 2])


@pytest.mark.parametrize(
    ("group", "kept"),
    [(1, [4]), (1, [5, 0, 2]), (1, [3, 3, 1]), (2, [2, 3]), (2, [4, 5, 0, 1]), (3, [3, 4, 5]), (3, [*range(6)] * 2)],
)
def test_selecting_whole_groups(net: Network, images: Tensor, group: int, kept: list[int]) -> None:
    objective = Each(SIX[: 6 // group], group)
    whole = score(net, images, objective)
    chosen = objective.select(kept)
    assert isinstance(chosen, Each)
    assert (chosen.group, len(chosen.parts)) == (group, len(kept) // group)
    torch.testing.assert_close(score(net, images[kept], chosen), whole[kept], rtol=0, atol=EXACT)


@pytest.mark.parametrize(
    ("group", "kept"), [(2, [0]), (2, [1, 2]), (2, [1, 0]), (2, [0, 1, 2]), (3, [0, 1, 3]), (2, [0, 2]), (3, [0, 1])]
)
def test_parts_of_groups_cannot_be_selected(group: int, kept: list[int]) -> None:
    with pytest.raises(CallError, match=f"not whole groups of {group} neighbors"):
        Each(SIX[: 6 // group], group).select(kept)


def test_batches_that_do_not_fit_are_refused(net: Network, images: Tensor) -> None:
    with pytest.raises(CallError, match=r"3 objectives are for 6 images \(2 each\), not for 5"):
        score(net, images[:5], Each(SIX[:3], 2))
    with pytest.raises(CallError, match=r"2 objectives are for 2 images \(1 each\), not for 6"):
        score(net, images, Each(SIX[:2]))
    with pytest.raises(CallError, match="there is none; give at least one"):
        Each(())
    with pytest.raises(CallError, match="a group is of 1 image or more, not 0"):
        Each(SIX, 0)


def test_the_algebra_of_batches(net: Network, images: Tensor) -> None:
    pairs, triples = Each(SIX[:3], 2), Each((ClassScore(0), Energy("conv")), 3)
    whole = 2 * pairs - triples + 0.5 * Diversity("embed")
    expected = (
        2 * score(net, images, pairs) - score(net, images, triples) + 0.5 * score(net, images, Diversity("embed"))
    )
    torch.testing.assert_close(score(net, images, whole), expected, rtol=0, atol=EXACT)
    assert (pairs - L2()).group == 2
    assert (pairs - triples).group == 6
    assert whole.group == 0
    assert Each(SIX[:3], 2) == pairs != Each(SIX[:3], 1)


def test_groups_may_be_diverse_among_themselves(net: Network, images: Tensor) -> None:
    objective = Each((Diversity("conv"), ClassScore(0) + Diversity("embed")), 3)
    first = score(net, images[:3], Diversity("conv"))
    second = score(net, images[3:], ClassScore(0)) + score(net, images[3:], Diversity("embed"))
    torch.testing.assert_close(score(net, images, objective), torch.cat([first, second]), rtol=0, atol=EXACT)


def slow_diversity(features: list[Tensor]) -> list[float]:
    """Of features (positions, C): products of units summed over the positions, their cosines, the mean."""
    grams = []
    for rows in features:
        units = range(rows.shape[1])
        grams.append([math.fsum(float(r[a]) * float(r[b]) for r in rows) for a in units for b in units])

    def cosine(i: int, j: int) -> float:
        dot = math.fsum(p * q for p, q in zip(grams[i], grams[j], strict=True))
        return dot / (math.hypot(*grams[i]) * math.hypot(*grams[j]))

    count = len(grams)
    return [-math.fsum(cosine(i, j) for j in range(count) if j != i) / (count - 1) for i in range(count)]


@pytest.mark.parametrize("point", ["conv", "embed", "class"])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_diversity_against_a_slow_replica(net: Network, images: Tensor, point: str, count: int) -> None:
    value = net.trace(images[:count], point)[point].detach()
    rows = {"conv": lambda v: v.flatten(1).T, "embed": lambda v: v[1:], "class": lambda v: v[None]}[point]
    expected = slow_diversity([rows(v) for v in value])
    found = score(net, images[:count], Diversity(point)).tolist()
    assert found == pytest.approx(expected, abs=EXACT)
    assert count == 2 or len({round(k, 9) for k in found}) == count


def test_diversity_by_hand(same: Network) -> None:
    """Red, cyan, and half of the places each: Gram matrices diag(1, 0), diag(0, 1) and about diag(3, 4)."""
    image = torch.zeros((3, 2, 5, 7), dtype=torch.float64)
    image[0, 0], image[1, 1] = 0.5, 1.0
    image[2, 0, :, :3], image[2, 1, :, 3:] = 1.0, 1.0
    expected = [-(0 + 0.6) / 2, -(0 + 0.8) / 2, -(0.6 + 0.8) / 2]
    assert score(same, image, Diversity("same")).tolist() == pytest.approx(expected, abs=EXACT)
    # Where a color is does not count, nor how much of it there is.
    assert score(same, torch.cat([image[2:], 0.3 * image[2:].flip(3)]), Diversity("same")).tolist() == pytest.approx(
        [-1, -1], abs=EXACT
    )


def test_one_image_is_alone_and_a_black_one_has_nothing_in_common(same: Network, net: Network, images: Tensor) -> None:
    scores, found = gradient(net, images[:1], Diversity("conv"))
    assert scores.tolist() == [0]
    assert found.abs().max() == 0
    pair = torch.cat([torch.zeros(1, 2, 5, 7, dtype=torch.float64), images[:1]])
    scores, found = gradient(same, pair, Diversity("same"))
    assert scores.tolist() == [0, 0]
    assert found.isfinite().all()


def test_diversity_of_faint_features_is_that_of_strong_ones(same: Network) -> None:
    """float32: the fourth powers of 1e-12 would be 0."""
    images = rand(3, 2, 5, 7).float()
    net = Network.of(Same(2).eval(), size=(5, 7))
    strong = score(same, images.double(), Diversity("same")).float()
    torch.testing.assert_close(score(net, images * 1e-9, Diversity("same")), strong, rtol=1e-5, atol=0)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_diversity_does_not_mind_the_order(same: Network, order: list[int], seed: int) -> None:
    images = rand(4, 2, 5, 7, seed=seed)
    found = score(same, images, Diversity("same"))
    torch.testing.assert_close(score(same, images[order], Diversity("same")), found[order], rtol=0, atol=EXACT)
    assert (found <= 0).all()
    assert (found >= -1 - EXACT).all()


@pytest.mark.parametrize(
    "objective", [Diversity("conv"), Diversity("embed"), Each(SIX[:3], 2)], ids=["map", "tokens", "each"]
)
def test_gradients_are_finite_differences(net: Network, images: Tensor, objective: Objective) -> None:
    """Of every score with every image. Central differences of 1e-6, good to 1e-9."""
    keys, run = keys_of(net, objective), images.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: objective(trace_for(net, x, keys)), run, atol=1e-7, rtol=1e-6)


def test_the_sum_over_the_batch_is_climbed_so_that_a_pair_counts_twice(same: Network) -> None:
    """Of two images each score is the same; the gradient of the sum is twice that of one."""
    images = rand(2, 2, 5, 7)
    found = gradient(same, images, Diversity("same"))[1]
    run = images.clone().requires_grad_(True)
    (one,) = torch.autograd.grad(Diversity("same")(trace_for(same, run, ["same"]))[0], run)
    torch.testing.assert_close(found, 2 * one, rtol=0, atol=EXACT)
    assert one.abs().amax((1, 2, 3)).min() > 1e-5


def test_an_ascent_makes_a_batch_diverse_and_keeps_each_at_its_own(net: Network, images: Tensor) -> None:
    parts = Each((ClassScore(0), ClassScore(1), ClassScore(0)))
    row = Row(parts + Diversity("embed"), steps.gradient(3.0), 12)
    found = ascend(net, row, images[:3])
    for objective in (parts, Diversity("embed")):
        before, after = (score(net, x, objective) for x in (images[:3], found.images))
        assert (after - before).min() > 1e-3


def test_diversity_is_of_a_whole_point() -> None:
    assert Diversity("conv") == Diversity("conv")
    assert Diversity("conv").addresses == ("conv",)
    assert Diversity("conv").group == 0
    with pytest.raises(CallError, match="Diversity is of a whole point, and 'conv/1' is a unit of one; give 'conv'"):
        Diversity("conv/1")
