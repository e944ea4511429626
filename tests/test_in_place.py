"""Programs write over what nobody asks for, and never over anything else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inward.network import Network
from inward.network.graph import Graph
from same import images, seeded

SIZE = (9, 12)


class Rectified(nn.Module):
    """ReLUs of a convolution alone, of one that is read twice, of a sum, of the image, of a view."""

    def __init__(self) -> None:
        super().__init__()
        self.alone, self.twice = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.alone(F.relu(x - 0.5)))
        second = self.twice(first)
        total = F.relu(F.relu(second) + second.sigmoid())
        return self.head(F.relu(total.transpose(2, 3)).mean((2, 3)))


def written_over(net: Network, wanted: list[str]) -> int:
    graph = net.graph(SIZE)
    assert isinstance(graph, Graph)
    nodes = [graph.points[name].node for name in wanted]
    graph.run(images(2, 3, *SIZE), nodes)
    program = graph._programs[tuple(nodes), ()]
    return sum(node.target is torch.ops.aten.relu_.default for node in program.graph.nodes)


def test_only_what_is_new_and_read_once_is_written_over() -> None:
    net = Network.of(seeded(Rectified), size=SIZE)
    # The convolution alone and the sum.
    assert written_over(net, ["head"]) == 2
    assert written_over(net, ["alone", "head"]) == 1


def test_values_and_gradients_are_the_same_to_the_last_bit() -> None:
    module = seeded(Rectified)
    net = Network.of(module, size=SIZE)
    x = images(2, 3, *SIZE)
    before = x.clone()
    shown = [x.clone().requires_grad_(True) for _ in range(2)]
    wanted, found = module(shown[0]), net(shown[1])
    assert torch.equal(found, wanted)
    slopes = [torch.autograd.grad(v.square().sum(), i)[0] for v, i in zip((wanted, found), shown, strict=True)]
    assert slopes[0].abs().max() > 0
    assert torch.equal(slopes[0], slopes[1])
    assert torch.equal(x, before)


@pytest.mark.parametrize("point", ["alone", "twice"])
def test_a_point_before_a_relu_keeps_its_negative_values(point: str) -> None:
    module = seeded(Rectified)
    net, kept = Network.of(module, size=SIZE), []
    getattr(module, point).register_forward_hook(lambda _, __, value: kept.append(value.clone()))
    x = images(2, 3, *SIZE)
    module(x)
    traced = net.trace(x, [point, "class"])[point]
    assert traced.min() < 0
    assert torch.equal(traced, kept[0])
    assert torch.equal(net.trace(x, point)[point], kept[0])


def test_a_network_that_was_cut_gives_what_lies_before_a_relu() -> None:
    """The graph that is left is not a program: its points are asked for later."""
    net = Network.of(seeded(Rectified), size=SIZE)
    x = images(2, 3, *SIZE)
    cut = net.upto("twice")
    cut(x)
    assert torch.equal(cut.trace(x, "alone")["alone"], net.trace(x, "alone")["alone"])
    assert cut.trace(x, "alone")["alone"].min() < 0
