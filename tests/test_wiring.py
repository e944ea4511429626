"""Which point reads which, compared with the code of real networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import inward
from inward.wiring import wiring


def test_branches_meet_in_the_operation_that_joins_them() -> None:
    told = wiring(inward.load("inward/inception_v1", weights="random"))
    nodes, edges = {n["id"]: n for n in told["nodes"]}, {tuple(e) for e in told["edges"]}
    joined = {a for a, b in edges if b == "mixed3a.cat"}
    assert joined == {f"mixed3a.{relu}" for relu in ("relu", "relu:3", "relu:5", "relu:6")}
    # A module that ends in an operation gives that its name: it is drawn inside, and addressed as the module.
    assert (
        nodes["mixed3a.cat"] | {"point": False, "parent": "mixed3a", "shape": [1, 256, 28, 28]} == nodes["mixed3a.cat"]
    )
    assert {b for a, b in edges if a == "mixed3a.cat"} == {
        f"mixed3b.{name}" for name in ("conv1x1", "conv3x3_reduce", "conv5x5_reduce", "pool")
    }
    assert {a for a, b in edges if b == "conv2_reduce"} == {"lrn1.local_response_norm"}
    # One operation stands for several, which nothing reads any more.
    unread = {n["id"] for n in told["nodes"] if "computed without it" in n["note"]}
    assert {"lrn1.pow", "lrn2.pow"} <= unread
    assert all(name.startswith(("lrn1.", "lrn2.")) for name in unread)
    assert not nodes["lrn1.local_response_norm"]["note"]


def test_sizes_are_no_edges_and_a_network_without_a_graph_says_so() -> None:
    class Shaped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x).mean((2, 3))
            return self.fc(y.view(x.shape[0], -1))

    told = wiring(inward.Network.of(Shaped().eval(), size=(8, 10)))
    assert told["exact"]
    starts = {b for a, b in map(tuple, told["edges"]) if a == "input"}
    assert starts == {"conv"}

    class Hidden(Shaped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) if float(x.detach().sum()) > -1 else x

    with pytest.warns(inward.InwardWarning, match="cannot be exported"):
        told = wiring(inward.Network.of(Hidden().eval(), size=(8, 10)))
    assert not told["exact"]
    assert told["reason"]
    assert told["edges"] == []
    assert [n["id"] for n in told["nodes"]] == ["input", "conv", "fc"]
