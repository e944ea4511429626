"""Dead units: an ascent that starts where a ReLU lets no gradient through."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from inward.ascent import Row, ascend
from inward.columns import steps
from inward.columns.augmentations import Augmentation, Jitter
from inward.columns.constraints import normalized
from inward.columns.goals import Plateau
from inward.columns.objectives import Channel
from inward.errors import InwardWarning
from inward.network.network import Network
from inward.network.trace import Trace


class Dead(nn.Module):
    """relu(2 * sum of 3 x 3 - 10): dead where the picture is darker than 10 / 18."""

    def __init__(self, smooth: bool = False, branch: bool = False) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 2, 3), nn.Tanh() if smooth else nn.ReLU()
        self.branch = branch
        self.conv.weight.data.fill_(2.0)
        self.conv.bias.data.fill_(-10.0)

    def forward(self, x: Tensor) -> Tensor:
        if self.branch and bool(x.sum() < 0):
            x = -x
        return self.relu(self.conv(x)).mean((2, 3))


def dead_row(redirect: int, passes: int = 8, **fields: object) -> Row:
    return Row(Channel("relu/0"), steps.steepest(0.15, normalized), passes, redirect=redirect, **fields)  # type: ignore[arg-type]


def grey_pictures(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 5, 7).clone()


@pytest.fixture(scope="module")
def dead() -> Network:
    return Network.of(Dead().double().eval(), size=(5, 7))


def test_a_dead_unit_wakes_and_rises_where_gradients_are_redirected(dead: Network) -> None:
    images = grey_pictures(0.4, 0.45)
    asleep = ascend(dead, dead_row(0), images)
    assert torch.equal(asleep.images, images)
    assert asleep.final.tolist() == [0, 0]
    for redirect in (1, 3):
        awake = ascend(dead, dead_row(redirect), images)
        assert (awake.final > 1).all()
        silent = (awake.scores == 0).sum(0)
        # Redirected at the first passes, and then as long as an image gives no gradient at all.
        assert torch.equal(awake.redirected, silent.clamp_min(redirect))
        assert 1 < int(silent[1]) < int(silent[0]) < 8


@pytest.mark.parametrize("fields", [{}, {"augmentation": Jitter(1)}], ids=["plain", "jitter"])
def test_an_image_that_is_alive_does_not_see_a_dead_one(dead: Network, fields: dict) -> None:
    row = dead_row(1, **fields)
    beside = ascend(dead, row, grey_pictures(0.7, 0.1))
    friends = ascend(dead, row, grey_pictures(0.7, 0.8))
    assert torch.equal(beside.images[0], friends.images[0])
    assert torch.equal(beside.scores[:, 0], friends.scores[:, 0])
    assert friends.redirected.tolist() == [1, 1]
    assert int(beside.redirected[1]) == int((beside.scores[:, 1] == 0).sum()) > 4
    assert float(beside.final[0]) > float(beside.scores[0, 0])


def test_redirected_passes_of_an_image_at_its_goal_are_not_counted(dead: Network) -> None:
    """So that the count is the same alone, where the loop ends, and beside an image that goes on."""

    def bright(trace: Trace, _: Tensor) -> Tensor:
        return trace.images.mean((1, 2, 3)) >= 0.39

    row = dead_row(2, passes=4, reached=bright)
    together = ascend(dead, row, grey_pictures(0.4, 0.1))
    alone = ascend(dead, row, grey_pictures(0.4))
    assert together.redirected.tolist() == [0, 4]
    assert alone.redirected.tolist() == [0]
    assert torch.equal(together.images[0], grey_pictures(0.4)[0])


def test_a_network_without_relu_has_nothing_to_redirect() -> None:
    net = Network.of(Dead(smooth=True).double().eval(), size=(5, 7))
    found, plain = (ascend(net, dead_row(r), grey_pictures(0.5, 0.6)) for r in (3, 0))
    assert torch.equal(found.images, plain.images)
    assert found.redirected.tolist() == [0, 0]
    assert (found.final > found.scores[0]).all()


def test_a_dead_start_without_a_graph_is_told() -> None:
    """A module that branches on its input cannot be exported: its ReLUs cannot be redirected."""
    net = Network.of(Dead(branch=True).double().eval(), size=(5, 7))
    with pytest.warns(InwardWarning, match="cannot be exported"):
        assert not net.is_graph
    with pytest.warns(InwardWarning, match="1 of 2 images get no gradient at their start"):
        found = ascend(net, dead_row(2), grey_pictures(0.3, 0.7))
    assert torch.equal(found.images[0], grey_pictures(0.3)[0])
    assert float(found.final[1]) > float(found.scores[0, 1])


def test_a_second_look_at_a_dead_image_sees_the_same_augmentation(dead: Network) -> None:
    """Else an image's pictures would depend on whether another of the batch is dead."""
    drawn = []

    def record(images: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.rand((), generator=generator).item())
        return images

    shown: Augmentation = record
    ascend(dead, dead_row(1, passes=3, augmentation=shown), grey_pictures(0.7, 0.0))
    # One look in the first pass, which is redirected for all; two in each of the others.
    first, *others = drawn
    assert len(others) == 4
    assert others[0::2] == others[1::2]
    assert len({first, *others}) == 3


def test_a_dead_image_does_not_settle_while_redirected_gradients_move_it(dead: Network) -> None:
    """Its score stands at 0 for more passes than a plateau takes."""
    row = dead_row(1, plateau=Plateau(window=1, tolerance=0.01))
    found = ascend(dead, row, grey_pictures(0.4, 0.45))
    assert int((found.scores[:, 0] == 0).sum()) > 2
    assert (found.final > 1).all()


def test_pictures_that_an_observer_keeps_do_not_move_on(dead: Network) -> None:
    kept: list[Tensor] = []
    found = ascend(dead, dead_row(0, passes=3), grey_pictures(0.7), on_pass=lambda now: kept.append(now.images()))
    assert torch.equal(kept[-1], found.images)
    assert not torch.equal(kept[0], kept[1])
