"""Every published architecture in float64 and in bfloat16: the graph is the module there too."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from inward.network import Network
from same import answers, images, network_outputs, seeded
from test_architectures import CASES, Case

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "dtypes.json"
# The same operations on the same numbers, but for attention, whose sums run in another order: that is
# rounding (float64), or rounding of numbers of eight bits through a dozen layers (bfloat16).
TOLERANCE = {torch.float64: 1e-12, torch.bfloat16: 0.1}


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, dict[str, dict[str, float]]]]:
    """Collects what is measured, for ``benchmarks/results``, where all of it was."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    yield found
    if len(found) == len(CASES):
        RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def gaps(net: Network, module: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """The largest difference of outputs and of gradients, relative to the largest value."""
    outputs, gradient = answers(network_outputs(net), x)
    expected, slope = answers(lambda i: module(i.to(net.dtype)), x)
    told = {}
    for what, ours, theirs in (("output", outputs[0], expected[0]), ("gradient", gradient, slope)):
        assert theirs.double().std() > 0
        told[what] = ((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()).item()
    return told


def check(case: Case, dtype: torch.dtype) -> dict[str, float]:
    module = seeded(case.make)
    net = Network.of(copy.deepcopy(module), size=case.size, dtype=dtype)
    assert net.is_graph
    assert net.dtype == dtype
    told = gaps(net, module.to(dtype), images(3, 3, *case.size))
    assert max(told.values()) <= TOLERANCE[dtype], told
    return told


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["torchvision/resnet18", "timm/vit_tiny_patch16_224"])
def test_dtypes_of_one_of_each_kind(name: str, dtype: torch.dtype) -> None:
    check(next(case for case in CASES if case.name == name), dtype)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_dtypes(case: Case, figures: dict[str, dict[str, dict[str, float]]]) -> None:
    figures[case.name] = {str(dtype)[6:]: check(case, dtype) for dtype in TOLERANCE}
