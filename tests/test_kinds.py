"""What an address means as an objective, and what else may be asked of it."""

from __future__ import annotations

import typing

import pytest
import torch
from torch import Tensor, nn

from inward.columns.objectives import (
    Channel,
    ChannelSum,
    ClassScore,
    Energy,
    Kind,
    Objective,
    Probability,
    Unit,
    at,
    classes_of,
)
from inward.errors import CallError
from inward.network.network import Network


class Net(nn.Module):
    """A map of 5 x 7 positions, four classes and a second output."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)
        self.fc = nn.Linear(3, 4)
        self.second = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        means = torch.tanh(self.conv(x)).mean((2, 3))
        return self.fc(means), self.second(means)


@pytest.fixture(scope="module")
def net() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network.of(Net().double().eval(), size=(5, 7), labels=["ant, emmet", "bee", "cat", "dog"])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("class:2", ClassScore(2)),
        ("class:emmet", ClassScore(0)),
        ("class@1:1", ClassScore(1, output=1)),
        ("conv/2", Channel("conv/2")),
        ("conv/2@4,6", Unit("conv/2@4,6")),
        ("conv", Energy("conv")),
    ],
)
def test_at_is_what_an_address_means(net: Network, address: str, expected: Objective) -> None:
    assert at(net, address) == expected
    images = torch.rand((2, 2, 5, 7), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = [objective(net.trace(images, objective.addresses)) for objective in (at(net, address), expected)]
    assert torch.equal(*scores)
    assert scores[0][0] != scores[0][1]


KINDS: dict[str, dict[str, Objective]] = {
    "class:bee": {"score": ClassScore(1), "probability": Probability(1)},
    "class@1:1": {"score": ClassScore(1, output=1), "probability": Probability(1, output=1)},
    "conv/2@4,6": {"neuron": Unit("conv/2@4,6")},
    "conv/2": {"channel": Channel("conv/2"), "sum": ChannelSum("conv/2"), "neuron": Unit("conv/2")},
    "conv": {"energy": Energy("conv")},
}


@pytest.mark.parametrize("kind", [k for k in typing.get_args(Kind) if k != "auto"])
@pytest.mark.parametrize("address", KINDS)
def test_at_gives_a_kind_or_names_those_that_fit(net: Network, address: str, kind: Kind) -> None:
    if kind in KINDS[address]:
        assert at(net, address, kind=kind) == KINDS[address][kind]
        return
    named = " or ".join(KINDS[address]) + (", or name a unit, conv/0" if address == "conv" else "")
    with pytest.raises(CallError, match=f"^there is no '{kind}' of '{address}'; write {named}$"):
        at(net, address, kind=kind)


@pytest.mark.parametrize("kind", ["auto", "energy", "score"])
def test_all_classes_at_once_are_no_objective(net: Network, kind: Kind) -> None:
    with pytest.raises(CallError, match="'class' is all classes; name one"):
        at(net, "class", kind=kind)


def test_a_kind_that_there_is_not_is_refused(net: Network) -> None:
    with pytest.raises(CallError, match="there is no 'mean' of 'conv/2'; write channel or sum or neuron"):
        at(net, "conv/2", kind="mean")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("class", "name one, for example class:281"),
        ("class:4", "4 classes, 0 to 3"),
        ("class:eel", "eel"),
        ("class@2:0", "2 outputs"),
        ("conv/3", "it has 3, 0 to 2"),
        ("conv/1@5,0", "5 x 7"),
        ("covn/1", "nearest: .*conv"),
    ],
)
def test_at_refuses_what_is_not_there(net: Network, address: str, message: str) -> None:
    with pytest.raises(CallError, match=message):
        at(net, address)


def test_classes_of_addresses(net: Network) -> None:
    assert classes_of(net, ["class:dog", "class:1", "class:ant"]) == (3, 1, 0)
    for wrong in ("conv/1", "class"):
        with pytest.raises(CallError, match="is not a class"):
            classes_of(net, [wrong])
