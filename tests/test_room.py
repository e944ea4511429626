"""Room: bytes and multiply-adds of a run, by hand, and how many images fit."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from torch import Tensor, nn

import networks
from inward.network import Network, room
from same import seeded

SIZE = (6, 10)


class Two(nn.Module):
    """Maps of 4 x 6 x 10 and 2 x 4 x 8, then three logits; a branch that logits do not need."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 2, 3)
        self.fc = nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.second(self.first(x))).mean((2, 3)))


# Numbers an image: 240 after first; 64 after second; 64 after the ReLU; 2 means; 3 logits.
FIRST, SECOND, RELU, LOGITS = 240, 304, 368, 373


@pytest.fixture(scope="module")
def net() -> Network:
    return Network.of(seeded(Two), size=SIZE)


def relu_of(net: Network) -> str:
    return next(name for name in net.points if "relu" in name)


def test_bytes_by_hand(net: Network) -> None:
    assert room.bytes_of(net, ["first"], SIZE) == 4 * FIRST
    assert room.bytes_of(net, ["second"], SIZE) == 4 * SECOND
    assert room.bytes_of(net, [relu_of(net)], SIZE) == 4 * RELU
    assert room.bytes_of(net, ["class"], SIZE) == 4 * LOGITS
    # What two points share is computed once.
    assert room.bytes_of(net, ["second", "first", "class"], SIZE) == 4 * LOGITS
    assert room.bytes_of(net.to(dtype=torch.float64), ["class"], SIZE) == 8 * LOGITS
    # Twice the height: twice the first map, and 10 of its 12 rows in the others.
    assert room.bytes_of(net, ["second"], (12, 10)) == 4 * (480 + 2 * 10 * 8)


def test_multiply_adds_by_hand(net: Network) -> None:
    """27 for each of 240 numbers, 36 for each of 64, 2 for each of 3."""
    assert room.multiply_adds_of(net, ["first"], SIZE) == 240 * 27
    assert room.multiply_adds_of(net, ["second"], SIZE) == 240 * 27 + 64 * 36
    assert room.multiply_adds_of(net, ["class", "first"], SIZE) == 240 * 27 + 64 * 36 + 6
    assert room.multiply_adds_of(net, ["first"], (12, 10)) == 480 * 27


def test_as_many_images_as_half_of_the_memory_holds_thrice(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"bytes": 0}
    monkeypatch.setattr(room, "free_bytes", lambda device: free["bytes"])
    an_image = 4 * LOGITS * 3 * 2
    found = []
    for images in (0.0, 0.5, 1.0, 1.99, 2.0, 7.5, 16.0, 1000.0):
        free["bytes"] = int(images * an_image)
        found.append(room.images_at_once(net, ["class"], SIZE))
    assert found == [1, 1, 1, 1, 2, 7, 16, 16]
    assert room.images_at_once(net, ["class"], SIZE, most=40) == 40
    assert room.images_at_once(net, ["class"], SIZE, most=3) == 3
    free["bytes"] = 10 * an_image
    assert room.images_at_once(net, ["class"], SIZE) == 10
    # A point nearer to the image needs less.
    assert room.images_at_once(net, ["first"], SIZE) == 15
    assert room.images_at_once(net.to(dtype=torch.float64), ["class"], SIZE) == 5


def test_a_network_without_a_graph_has_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Network.of(seeded(networks.DataBranch), size=(9, 7))
    monkeypatch.setattr(room, "free_bytes", lambda device: 1)
    with pytest.warns(match="only its modules"):
        assert room.bytes_of(net, ["conv"], (9, 7)) == 0
    assert room.multiply_adds_of(net, ["conv"], (9, 7)) == 0
    assert room.images_at_once(net, ["conv"], (9, 7)) == 16
    assert room.images_at_once(net, ["conv"], (9, 7), most=5) == 5


def test_free_memory_is_also_what_a_container_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 10**9

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(room, "Path", lambda name: limit if name.endswith("memory.max") else tmp_path / "none")
    cpu = torch.device("cpu")
    assert room.free_bytes(cpu) == 10**9
    for text, expected in (("max\n", 10**9), ("5000\n", 5000), ("0", 10**9), (str(10**12), 10**9)):
        limit.write_text(text)
        assert room.free_bytes(cpu) == expected
