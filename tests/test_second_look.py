"""The second look of an ascent: at dead images alone, which nobody beside them notices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from inward.ascent import Row, ascend
from inward.columns import steps
from inward.columns.augmentations import GaussianNoise
from inward.columns.batches import Diverse, Each
from inward.columns.constraints import normalized
from inward.columns.goals import Plateau
from inward.columns.objectives import Channel
from inward.network import Network
from inward.network.edit import redirect_relus
from inward.network.trace import Trace

pytestmark = pytest.mark.usefixtures("single_thread")


class Dark(nn.Module):
    """relu(2 * sum of 3 x 3 - 10), and the same upside down: dead where the picture is darker than 10 / 18."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(1, 2, 3), nn.ReLU()
        torch.nn.init.constant_(self.conv.weight, 2.0)
        self.conv.weight.data[1, 0, 0] *= -1
        torch.nn.init.constant_(self.conv.bias, -10.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x)).mean((2, 3))


@pytest.fixture(scope="module")
def dark() -> Network:
    return Network.of(Dark().double().eval(), size=(5, 7))


@pytest.fixture
def runs(dark: Network, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Which network runs how many images."""
    seen: list[tuple[str, int]] = []
    plain = Network.run

    def counted(self: Network, images: Tensor, keys: list[str], *given: object) -> tuple[Tensor, ...]:
        seen.append(("redirected" if redirect_relus in self._edits else "plain", len(images)))
        return plain(self, images, keys, *given)

    monkeypatch.setattr(Network, "run", counted)
    return seen


def pictures(*levels: float) -> Tensor:
    """Nearly even pictures of these brightnesses; each has a texture of its own."""
    texture = torch.rand((11, 1, 5, 7), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return torch.stack([level + 0.04 * (texture[round(10 * level)] - 0.5) for level in levels])


def row(passes: int = 5, **fields: object) -> Row:
    options = {"redirect": 1, "objective": Channel("relu/0"), "step": steps.steepest(0.05, normalized)} | fields
    return Row(passes=passes, **options)  # type: ignore[arg-type]


def test_the_second_look_is_at_the_dead_alone(dark: Network, runs: list[tuple[str, int]]) -> None:
    ascend(dark, row(), pictures(0.7, 0.1, 0.8, 0.2, 0.65))
    first, *others, last = runs
    assert first == ("redirected", 5)
    assert others == [("plain", 5), ("redirected", 2)] * 4
    assert last == ("plain", 5)


def test_where_all_live_nobody_looks_twice(dark: Network, runs: list[tuple[str, int]]) -> None:
    ascend(dark, row(4, redirect=2), pictures(0.7, 0.8))
    assert runs == [("redirected", 2)] * 2 + [("plain", 2)] * 3
    runs.clear()
    ascend(dark, row(2, redirect=0), pictures(0.1, 0.8))
    assert runs == [("plain", 2)] * 3


def test_the_dead_wake_and_are_looked_at_no_more(dark: Network, runs: list[tuple[str, int]]) -> None:
    found = ascend(dark, row(12, step=steps.steepest(0.4, normalized)), pictures(0.5, 0.45, 0.7))
    counts = [count for name, count in runs[1:] if name == "redirected"]
    assert counts == sorted(counts, reverse=True)
    assert 0 < len(counts) < 11
    assert int(found.redirected.sum()) == sum(counts) + 3
    assert (found.final > 0).all()


@pytest.mark.parametrize("step", [steps.adam(0.02), steps.momentum(0.05, normalized)], ids=["adam", "momentum"])
@pytest.mark.parametrize("fields", [{}, {"augmentation": GaussianNoise(0.01)}], ids=["plain", "noise"])
def test_the_living_are_to_the_bit_the_same_with_a_dead_one_beside_them(
    dark: Network, step: steps.Step, fields: dict
) -> None:
    asked = row(6, step=step, **fields)
    beside = ascend(dark, asked, pictures(0.7, 0.1, 0.8))
    friends = ascend(dark, asked, pictures(0.7, 0.75, 0.8))
    alone = [ascend(dark, asked, pictures(level)) for level in (0.7, 0.1, 0.8)]
    for key in ("images", "final", "redirected"):
        assert torch.equal(getattr(beside, key)[[0, 2]], getattr(friends, key)[[0, 2]]), key
        assert torch.equal(getattr(beside, key), torch.cat([getattr(a, key) for a in alone])), key
    assert torch.equal(beside.scores[:, [0, 2]], friends.scores[:, [0, 2]])
    assert beside.redirected.tolist() == [1, 6, 1]
    assert (beside.images[1] != beside.start[1]).any()


def test_a_dead_image_is_looked_at_with_its_group(dark: Network, runs: list[tuple[str, int]]) -> None:
    """What is asked of it depends on its neighbor, which keeps its plain gradient."""
    parts = tuple(Diverse(Channel(f"relu/{unit}"), "conv", 0.5) for unit in (0, 0, 0))
    asked = row(3, objective=Each(parts, group=2))
    found = ascend(dark, asked, pictures(0.7, 0.8, 0.1, 0.7, 0.65, 0.75))
    pair = ascend(dark, row(3, objective=Each(parts[:1], group=2)), pictures(0.1, 0.7))
    assert torch.equal(found.images[2:4], pair.images)
    redirected = [count for name, count in runs if name == "redirected"]
    alone = [count for name, count in runs[len(redirected) :] if count == 2]
    assert redirected[0] == 6
    assert set(redirected[1:]) <= {2}
    assert alone


class Told(Channel):
    """A channel, and how bright the picture is, which has no gradient: so that a dead score does not settle."""

    def __call__(self, trace: Trace) -> Tensor:
        return super().__call__(trace) + trace.images.detach().mean((1, 2, 3))


def test_dead_images_beside_some_that_have_settled(dark: Network, runs: list[tuple[str, int]]) -> None:
    """Places in the batch that is left are not places in the batch that was."""
    parts = tuple(Told(f"relu/{unit}") for unit in (0, 1, 0, 1))
    levels = (0.95, 0.8, 0.3, 0.05)
    asked = row(24, objective=Each(parts), step=steps.steepest(0.08, torch.sign), plateau=Plateau(2, 0.0))
    found = ascend(dark, asked, pictures(*levels))
    # The first leaves while the last is dead, which is then looked at again in a batch of three.
    assert ("redirected", 1) in runs[runs.index(("plain", 3)) :]
    assert int(found.steps[0]) < int(found.redirected[3])
    for i, level in enumerate(levels):
        alone = ascend(dark, row(24, objective=parts[i], step=asked.step, plateau=asked.plateau), pictures(level))
        assert torch.equal(alone.images[0], found.images[i])
        assert int(alone.steps[0]) == int(found.steps[i])
        assert int(alone.redirected[0]) == int(found.redirected[i])
