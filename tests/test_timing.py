"""What operations take: by a clock that is known, and of real networks."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import inward
from helpers import conv_net, network
from inward.architecture import points_table
from inward.errors import CallError
from inward.network import timing
from inward.network.timing import seconds
from inward.wiring import timed, wiring
from same import untouched

SIZE = (9, 7)


class Nested(nn.Module):
    """Three operations in a block that is called twice, one of which gives two results; one behind it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            largest, _ = (self.conv(x) + x).max(2, keepdim=True)
            return largest + x

    def __init__(self) -> None:
        super().__init__()
        self.block = self.Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(x)).mean((2, 3))


def test_a_module_takes_what_is_inside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each look at the clock is a second after the last, so that every operation takes one.
    ticks = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    net = network(Nested().eval(), SIZE)
    taken = seconds(net, repeats=2)
    nodes = {name: took for name, took in taken.items() if name.startswith(":")}
    assert set(nodes.values()) == {1.0}
    assert taken["block.conv"] == taken["block.add"] == taken["block.max.0"] == taken["mean"] == 1
    # conv, add, max, one of its two results, add.
    assert taken["block"] == taken["block:2"] == 5
    assert taken["block"] + taken["block:2"] + taken["mean"] == len(nodes)
    assert net.points.keys() <= taken.keys()


def test_nothing_is_changed_and_a_table_tells() -> None:
    module = nn.Sequential(nn.Conv2d(3, 64, 7, padding=3), nn.Conv2d(64, 1, 1), nn.Flatten(), nn.LazyLinear(4)).eval()
    module(torch.rand(1, 3, 48, 40))
    net = network(module, (48, 40))
    with untouched(module):
        taken = seconds(net)
    assert min(taken.values()) > 0
    rows = {row["name"]: row for row in points_table(net, seconds=taken)}
    assert rows["0"]["seconds"] == taken["0"]
    assert "seconds" not in points_table(net)[0]


def test_every_node_of_a_drawn_network_has_its_time() -> None:
    net = inward.load("inward/inception_v1", weights="random", size=(64, 96))
    told = wiring(net)
    taken = timed(net, told, seconds(net, repeats=1))
    calculated = {n["id"] for n in told["nodes"] if n["kind"] != "input" and n["note"] != "never called"}
    assert set(taken) == calculated
    leaves = {n["id"] for n in told["nodes"]} - {n["parent"] for n in told["nodes"]}
    inside = [taken[name] for name in leaves if name.startswith("mixed4c.")]
    assert sum(inside) == pytest.approx(taken["mixed4c"], rel=1e-9)
    assert taken["mixed4c.cat"] > 0


def test_what_cannot_be_timed_is_refused() -> None:
    with pytest.raises(CallError, match="repeats must be 1 or more, not 0"):
        seconds(network(conv_net(), SIZE), repeats=0)

    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.mean((2, 3))
            return self.fc(y) if float(y.detach().sum()) > -1 else y

    with pytest.warns(inward.InwardWarning, match="cannot be exported"):
        assert seconds(network(Hidden().eval(), SIZE)) == {}
