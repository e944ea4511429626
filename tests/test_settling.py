"""Ascents with a plateau: images that settle leave the batch, and the others do not notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from inward.ascent import Ascent, Pass, Row, ascend
from inward.columns import steps
from inward.columns.augmentations import Compose, GaussianNoise, Jitter
from inward.columns.batches import Diverse, Each
from inward.columns.constraints import normalized
from inward.columns.goals import Plateau
from inward.columns.objectives import Channel, ClassScore, Objective
from inward.columns.parameterizations import Fourier
from inward.columns.steps import blurred_gradient
from inward.network import Network

# Pictures of some tens of pixels.
pytestmark = pytest.mark.usefixtures("single_thread")


class Total(nn.Module):
    """Its logits are the sum of the pixels, and its negative."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 2, bias=False, dtype=torch.float64)
        self.fc.weight.data = torch.stack([torch.ones(12), -torch.ones(12)]).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Net(nn.Module):
    """Convolutions alone, which are computed image by image: to the bit the same in any batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU()
        self.second = nn.Conv2d(6, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.second(self.relu(self.conv(x)))).mean((2, 3))


@pytest.fixture(scope="module")
def total() -> Network:
    return Network.of(Total().eval(), size=(3, 4), channels=1)


@pytest.fixture(scope="module")
def net() -> Network:
    with torch.random.fork_rng():
        return Network.of(Net().double().eval(), size=(8, 11))


def grays(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 3, 4).clone()


def pictures(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand((count, 3, 8, 11), generator=generator, dtype=torch.float64)


@contextmanager
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many images each run of a network holds."""
    seen: list[int] = []
    plain = Network.run

    def counted(self: Network, images: Tensor, keys: list[str], *given: object) -> tuple[Tensor, ...]:
        seen.append(len(images))
        return plain(self, images, keys, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Network, "run", counted)
        yield seen


def test_images_leave_the_batch_one_by_one_by_hand(total: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve pixels, each 1/16 higher a pass and at most 1: scores of 12 in two windows of two are a plateau."""
    row = Row(ClassScore(0), steps.steepest(1 / 16, torch.sign), 9, plateau=Plateau(2, 0.0))
    seen: list[Pass] = []
    shown: list[Tensor] = []

    def look(now: Pass) -> None:
        seen.append(now)
        shown.append(now.images().clone())

    with runs(monkeypatch) as batches:
        found = ascend(total, row, grays(0.25, 14 / 16, 1.0, 12 / 16), on_pass=look)
    # 1.0: 4 passes of 12. 14/16: two below, 4 of 12. 12/16: four below. 0.25: twelve below, of which 9 are made.
    assert found.steps.tolist() == [9, 6, 4, 8]
    # The last run is the judgment of all images.
    assert batches == [4] * 4 + [3] * 2 + [2] * 2 + [1] + [4]
    expected = [[12 * min(1.0, v + p / 16) for v in (0.25, 14 / 16, 1.0, 12 / 16)] for p in range(9)]
    assert found.scores.tolist() == expected
    assert found.final.tolist() == [12 * (0.25 + 9 / 16), 12, 12, 12]
    assert [now.scores.tolist() for now in seen] == expected
    assert [(now.done, now.total) for now in seen] == [(p, 9) for p in range(1, 10)]
    assert all(picture.shape == (4, 1, 3, 4) for picture in shown)
    assert [picture[0].mean().item() for picture in shown] == [0.25 + p / 16 for p in range(1, 10)]
    assert torch.equal(shown[-1], found.images)


def test_an_ascent_ends_with_its_last_image(total: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(ClassScore(0), steps.steepest(1 / 16, torch.sign), 50, plateau=Plateau(2, 0.0))
    done: list[int] = []
    with runs(monkeypatch) as batches:
        found = ascend(total, row, grays(14 / 16, 1.0), on_pass=lambda now: done.append(now.done))
    assert found.steps.tolist() == [6, 4]
    assert found.scores.shape == (6, 2)
    assert batches == [2] * 4 + [1] * 2 + [2]
    assert done == [1, 2, 3, 4, 5, 6]
    assert not found.reached.any()


def test_scores_of_an_image_that_left_are_its_last(total: Network) -> None:
    row = Row(ClassScore((1, 0)), steps.steepest(1 / 4, torch.sign), 7, plateau=Plateau(1, 0.0))
    found = ascend(total, row, grays(0.25, 0.125))
    assert found.scores[:, 0].tolist() == [-3.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert found.scores[:, 1].tolist() == [1.5, 4.5, 7.5, 10.5, 12.0, 12.0]
    assert found.steps.tolist() == [3, 6]


ROWS: dict[str, Row] = {
    "adam": Row(Channel("second/1"), steps.adam(0.02), 40, plateau=Plateau(3, 0.05)),
    "momentum": Row(Channel("second/1"), steps.momentum(0.1, normalized), 40, plateau=Plateau(3, 0.05)),
    "blurred": Row(
        Channel("second/1"), blurred_gradient(0.01, every=3, sigma=0.5), 40, plateau=Plateau(3, 0.1), redirect=2
    ),
    "augmented": Row(
        Channel("second/1"),
        steps.adam(0.02),
        40,
        plateau=Plateau(4, 0.05),
        augmentation=Compose((Jitter(1), GaussianNoise(0.01))),
    ),
    "fourier": Row(Channel("second/1"), steps.adam(0.05), 40, plateau=Plateau(3, 0.05), parameterization=Fourier()),
}


def assert_alone(
    net: Network, row: Row, like: Tensor, found: Ascent, which: list[int], objective: Objective, atol: float = 0.0
) -> None:
    """To the bit (by default), as long as an image was there."""
    alone = ascend(net, Row(**(row.__dict__ | {"objective": objective})), like[which], seeds=[10 + i for i in which])
    for key in ("images", "start", "final", "steps", "redirected"):
        torch.testing.assert_close(getattr(alone, key), getattr(found, key)[which], rtol=0, atol=atol)
    length = len(alone.scores)
    torch.testing.assert_close(alone.scores, found.scores[:length, which], rtol=0, atol=atol)
    last = found.scores[length - 1 : length, which]
    assert torch.equal(found.scores[length:, which], last.expand(len(found.scores) - length, -1))


@pytest.mark.parametrize("name", ROWS)
def test_an_image_is_to_the_bit_what_it_is_alone(net: Network, name: str) -> None:
    row, like = ROWS[name], pictures(5)
    found = ascend(net, row, like, seeds=[10, 11, 12, 13, 14])
    taken = found.steps.tolist()
    # They leave at different passes, and then the test says something.
    assert min(taken) < max(taken)
    # A Fourier transform and a product of colors may add in another order for another batch.
    for i in range(5):
        assert_alone(net, row, like, found, [i], row.objective, atol=1e-12 if name == "fourier" else 0.0)


def test_each_image_with_its_own_objective_keeps_it(net: Network) -> None:
    """Parts and classes are told off by who is still there, not by their first places."""
    parts = tuple(Channel(f"second/{unit}") for unit in (3, 0, 1, 2))
    for objective in (Each(parts), ClassScore((3, 0, 1, 2)), Each(parts) + 0.25 * ClassScore((1, 2, 3, 0))):
        row = Row(objective, steps.adam(0.02), 40, plateau=Plateau(3, 0.05))
        found = ascend(net, row, pictures(4), seeds=[10, 11, 12, 13])
        assert len(set(found.steps.tolist())) >= 3
        for i in range(4):
            assert_alone(net, row, pictures(4), found, [i], objective.select([i]))


def test_only_whole_groups_leave(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tuple(Diverse(Channel(f"second/{unit}"), "conv", 0.5) for unit in (1, 3, 0))
    objective = Each(parts, group=2)
    row = Row(objective, steps.adam(0.02), 60, plateau=Plateau(3, 0.05))
    like = pictures(6)
    with runs(monkeypatch) as batches:
        found = ascend(net, row, like, seeds=[10, 11, 12, 13, 14, 15])
    pairs = found.steps.view(3, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert len(set(pairs[:, 0].tolist())) >= 2
    assert set(batches) <= {6, 4, 2}
    assert sum(batches) == int(found.steps.sum()) + 6
    for group in range(3):
        which = [2 * group, 2 * group + 1]
        assert_alone(net, row, like, found, which, Each(parts[group : group + 1], group=2))
    # Both have settled when a group leaves, and one of them had before.
    settled = torch.stack([Plateau(3, 0.05).settled(found.scores[: p + 1]) for p in range(len(found.scores))])
    first = [int(settled[:, i].nonzero()[0]) + 1 if settled[:, i].any() else 60 for i in range(6)]
    assert any(a != b for a, b in zip(first[::2], first[1::2], strict=True))
    assert all(int(found.steps[i]) >= first[i] or int(found.steps[i]) == 60 for i in range(6))


def test_a_batch_that_depends_on_all_of_itself_leaves_as_one(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Row(Diverse(Channel("second/1"), "conv", 0.5), steps.adam(0.02), 60, plateau=Plateau(3, 0.05))
    with runs(monkeypatch) as batches:
        found = ascend(net, row, pictures(4))
    assert len(set(found.steps.tolist())) == 1
    assert int(found.steps[0]) < 60
    assert set(batches) == {4}
