"""Selections: many units in one word, and what is told of a word that names none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from inward.errors import CallError
from inward.network import Network
from inward.network.selection import select
from same import seeded


class Kinds(nn.Module):
    """A grid of 4 units, a module called twice, 35 tokens of 6 units, a vector of 3 and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.embed, self.head, self.aux = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.relu(self.relu(self.conv(x)) - 0.1)
        tokens = self.embed(h.flatten(2).transpose(1, 2))
        # Places and units exchange numbers: what lies behind has no axis of units.
        mixed = torch.tanh(tokens.reshape(x.shape[0], 15, 14)).mean((1, 2))[:, None]
        return self.head(tokens.mean(1)) + mixed, self.aux(h.mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Network:
    return Network.of(seeded(Kinds), size=(5, 7), labels=["cat", "dog", "fish"])


def units(point: str, *which: int) -> list[str]:
    return [f"{point}{unit}" for unit in which]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("conv", ["conv"]),
        ("conv/2", ["conv/2"]),
        ("conv/2@4,6", ["conv/2@4,6"]),
        ("conv/*", units("conv/", 0, 1, 2, 3)),
        ("conv/1:3", units("conv/", 1, 2)),
        ("conv/:2", units("conv/", 0, 1)),
        ("conv/2:", units("conv/", 2, 3)),
        ("conv/:", units("conv/", 0, 1, 2, 3)),
        ("conv/0:4:2", units("conv/", 0, 2)),
        ("conv/1:4:2", units("conv/", 1, 3)),
        ("conv/::3", units("conv/", 0, 3)),
        ("conv/1::9", units("conv/", 1)),
        ("conv/:3:2", units("conv/", 0, 2)),
        ("relu:2/*", units("relu:2/", 0, 1, 2, 3)),
        ("relu:2/1:4:2", units("relu:2/", 1, 3)),
        ("embed/3:", units("embed/", 3, 4, 5)),
        ("head/*", units("head/", 0, 1, 2)),
        ("class:*", units("class:", 0, 1, 2)),
        ("class:0:3", units("class:", 0, 1, 2)),
        ("class:1:", units("class:", 1, 2)),
        ("class:0:3:2", units("class:", 0, 2)),
        ("class:dog", ["class:1"]),
        ("class@1:*", units("class@1:", 0, 1)),
        ("class@1:1:2", ["class@1:1"]),
        (["conv/3", "conv/2:", "class:cat", "class:0:2"], [*units("conv/", 3, 2), "class:0", "class:1"]),
    ],
    ids=str,
)
def test_what_a_word_names(net: Network, words: str | list[str], expected: list[str]) -> None:
    assert select(net, words) == expected
    assert [str(net.resolve(address)) for address in expected] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no unit is named; name at least one"),
        ("", "is not an address"),
        ("conv/2:2", "'conv/2:2' is empty; its end is left out .* as in conv/0:64"),
        ("conv/3:1", "is empty"),
        ("class:1:1", "is empty; .* as in class:0:64"),
        ("conv/0:5", "no unit 4 in conv; it has 4, 0 to 3"),
        ("conv/4:", "no unit 4 in conv; it has 4, 0 to 3"),
        ("conv/9:3", "no unit 9 in conv"),
        ("class:0:9", "no unit 8 in class; it has 3, 0 to 2"),
        ("class@1:0:3", "no unit 2 in class@1; it has 2"),
        ("class@2:*", "2 outputs, counted from 0"),
        ("conv/0:4:0", "the step of 'conv/0:4:0' is 0"),
        ("class:::0", "the step of 'class:::0' is 0"),
        ("conv/1/0:2", "names units of a unit; write POINT"),
        ("class:1/*", "names units of a unit"),
        ("class:cat/0:2", "names units of a unit"),
        ("conf/*", "no point 'conf'.*nearest: conv"),
        ("relu:2:3", "no point 'relu:2:3'"),
        ("conv:*", r"no point 'conv:\*'"),
        ("conv/0:-1", "no point 'conv/0:-1'"),
        ("conv/7", "no unit 7 in conv"),
    ],
    ids=str,
)
def test_words_that_name_nothing(net: Network, words: str | list[str], message: str) -> None:
    with pytest.raises(CallError, match=message):
        select(net, words)


def test_a_point_without_units_names_none(net: Network) -> None:
    without = [p.name for p in net.points.values() if p.node and p.units is None]
    assert without
    for point in without:
        with pytest.raises(CallError, match=f"'{point}' has no axis that is known to hold units"):
            select(net, f"{point}/*")
        assert select(net, point) == [point]


def test_units_are_counted_at_the_size_of_the_images() -> None:
    """Flattened places are units, and more of them in a larger image."""

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.flat = nn.Conv2d(1, 1, 1), nn.Flatten()

        def forward(self, x: Tensor) -> Tensor:
            return self.flat(self.conv(x))

    net = Network.of(seeded(Flat), size=(2, 3))
    assert select(net, "class:*") == units("class:", *range(6))
    assert select(net, "class:*", (3, 4)) == units("class:", *range(12))
    assert select(net, "class:6::3", (3, 4)) == units("class:", 6, 9)
    with pytest.raises(CallError, match="no unit 6 in class"):
        select(net, "class:6:")
