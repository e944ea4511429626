"""Attacks say how far they are, and stop when they are told to."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers import conv_net, digits, inward, network
from inward.methods.method import Method
from inward.methods.table import TABLE
from inward.network.graph import Graph
from same import images
from test_methods import ARGUMENTS

SIZE = (9, 7)
ATTACKS = [row for row in TABLE if row.command == "attack"]
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Any:
    return network(conv_net(), SIZE)


@pytest.mark.parametrize("row", ATTACKS, ids=lambda row: row.name)
def test_every_attack_counts_up_to_its_total(row: Method, net: Any) -> None:
    told: list[tuple[int, int]] = []
    parameters = inspect.signature(row.function).parameters
    observer: dict[str, Any] = {"on_progress": lambda *now: told.append(now)}
    if "on_pass" in parameters:
        observer = {"on_pass": lambda now: told.append((now.done, now.total))}
    assert next(iter(observer)) in parameters
    row.function(net, images(2, 3, *SIZE), **ARGUMENTS.get(row.name, {}), **observer)
    done, totals = [d for d, _ in told], {t for _, t in told}
    assert len(totals) == 1
    assert done == sorted(done)
    assert done[0] >= 1
    assert done[-1] <= totals.pop()


@pytest.mark.parametrize("name", ["pgd", "apgd", "feature-attack"])
def test_stopped_it_ends_with_130_and_leaves_nothing_half_done(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.randint(256, (28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(tmp_path / "one.png")
    real, runs = Graph.run, []

    def stopped(graph: Graph, *arguments: Any) -> Any:
        runs.append(1)
        if len(runs) == 6:
            raise KeyboardInterrupt
        return real(graph, *arguments)

    call = ["attack", *digits(), tmp_path / "one.png", "--method", name, "--eps", "2/255", "--out", tmp_path / "out"]
    call += ["--objective", "conv2/3"] if name == "feature-attack" else []
    monkeypatch.setattr(Graph, "run", stopped)
    said = inward(*call)
    assert (said.status, said.out) == (130, "")
    assert said.err.strip().endswith("stopped; finished results are kept")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
