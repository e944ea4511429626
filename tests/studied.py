"""A network of whole numbers and pictures for it, for the tests of studies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import inward
from inward import Network
from inward.studies.activations import Activations

SIZE = (12, 16)
POINTS = ["conv", "second", "fc", "class"]


class Exact(nn.Module):
    """Whole numbers throughout, so that no sum is rounded, whatever the batch."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(4, 5, (3, 2), stride=2)
        self.fc = nn.Linear(5, 3)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randint(-2, 3, parameter.shape, generator=generator).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.relu(self.conv(x * 255))).amax((2, 3)))


def network(module: nn.Module, size: tuple[int, int] = SIZE) -> Network:
    net = Network.of(module.eval(), size=size)
    assert net.is_graph
    return net


@pytest.fixture(scope="module", name="net")
def made_network() -> Network:
    return network(Exact())


@pytest.fixture(scope="module", name="files")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """23 pictures; the eighth and the fifteenth are the same, so that there are ties."""
    folder = tmp_path_factory.mktemp("pictures")
    levels = np.random.default_rng(5).integers(0, 256, (23, *SIZE, 3)).astype(np.uint8)
    levels[15] = levels[8]
    for i, picture in enumerate(levels):
        Image.fromarray(picture).save(folder / f"{i:02d}.png")
    return sorted(folder.iterdir())


def plain(net: Network, files: list[Path], point: str) -> Tensor:
    """The activations of all pictures, (N, C, ...)."""
    with torch.no_grad():
        return net.trace(inward.read(files, net), point).features(point)


def same(first: Activations, second: Activations) -> bool:
    """To the bit."""
    assert list(first.points) == list(second.points)
    pairs = [(a.tensors(), second.points[key].tensors()) for key, a in first.points.items()]
    return first.seen == second.seen and all(torch.equal(a[n], b[n]) for a, b in pairs for n in a)
