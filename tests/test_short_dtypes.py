"""Networks in a dtype in which PyTorch lacks one of their operations: a graph all the same, and a checked one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import inward
import networks
from inward.columns.objectives import ClassScore, Energy
from inward.gradient import gradient
from inward.network import Network, source
from inward.network.edit import rewrite_local_response_norm
from same import images, seeded, untouched

SIZE = (9, 7)


def takes(module: nn.Module, dtype: torch.dtype) -> bool:
    return source._takes(module.to(dtype), images(1, 5, *SIZE).to(dtype))


def test_pytorch_has_no_such_normalization_in_bfloat16() -> None:
    """Else the tests below would pass without what they are for."""
    assert takes(seeded(networks.Normalized), torch.float32)
    assert not takes(seeded(networks.Normalized), torch.bfloat16)


@pytest.mark.slow
def test_inception_v1_in_bfloat16_is_a_graph(shared_data: Path) -> None:
    net = inward.load("inward/inception_v1", weights=shared_data / "weights" / "inception_v1.safetensors")
    short = net.to(dtype=torch.bfloat16)
    size = (112, 96)
    x = images(2, 3, *size)
    assert short.graph(size).count("local_response_norm") == 2
    assert (net.dtype, short.dtype) == (torch.float32, torch.bfloat16)
    for objective in (ClassScore(3), Energy("mixed4a")):
        wanted, slope = gradient(net, x, objective)
        found, ours = gradient(short, x, objective)
        # Eight bits through 22 layers.
        assert (found.float() - wanted).abs().max() <= 0.1 * wanted.abs().max()
        assert torch.cosine_similarity(ours.float().flatten(1), slope.flatten(1)).min() > 0.9
    assert short.is_graph


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_normalized_network_in_a_short_dtype(dtype: torch.dtype) -> None:
    module = seeded(networks.Normalized)
    with untouched(module):
        net = Network.of(module, size=SIZE, dtype=dtype)
        x = images(3, 5, *SIZE)
        assert net.is_graph
        expected = module(x)
        assert (net(x).float() - expected).abs().max() <= 0.02 * expected.abs().max()


class NoGradient(networks.Normalized):
    """torch.export loses the block without gradient here: the outputs are right and the gradient is not."""

    def build(self) -> None:
        super().build()
        self.block = networks.NoGradInAutocast()

    def middle(self, h: Tensor) -> Tensor:
        return self.block.middle(super().middle(h)[:, :4])


class Steep(networks.Normalized):
    """A normalization that is most of the answer, so that a wrong one is seen."""

    def middle(self, h: Tensor) -> Tensor:
        return self.lrn(h * 30)


def test_a_wrong_gradient_is_found_where_the_module_does_not_run() -> None:
    module = seeded(NoGradient)
    net = Network.of(module, size=SIZE, dtype=torch.bfloat16)
    with pytest.warns(match="the gradient of the graph differs"), pytest.raises(inward.InwardError):
        net.graph(SIZE)


def test_a_wrong_output_is_found_where_the_module_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: torch.fx.GraphModule) -> None:
        rewrite_local_response_norm(module)
        for node in module.graph.nodes:
            if getattr(node.target, "__name__", "") == "local_response_norm":
                node.args = (node.args[0], node.args[1], 0.01, *node.args[3:])

    Network.of(seeded(Steep), size=SIZE, dtype=torch.bfloat16).graph(SIZE)
    monkeypatch.setattr(source, "rewrite_local_response_norm", wrong)
    net = Network.of(seeded(Steep), size=SIZE, dtype=torch.bfloat16)
    with pytest.warns(match="the output of the graph differs"), pytest.raises(inward.InwardError):
        net.graph(SIZE)


def test_a_network_that_mixes_dtypes_is_told_so() -> None:
    class Mixed(networks.Small):
        def build(self) -> None:
            self.second = nn.Conv2d(4, 4, 1).to(torch.bfloat16)

        def middle(self, h: Tensor) -> Tensor:
            return self.second(h)

    with pytest.raises(inward.CallError, match="mixes dtypes"):
        Network.of(seeded(Mixed), size=SIZE).graph(SIZE)
