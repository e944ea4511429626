"""What several test files of the methods and the commands share."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from inward import cli
from inward.network import Network
from same import seeded


class ConvNet(nn.Module):
    """Two convolutions with a ReLU between them, the mean over the places, five classes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.relu(self.conv(x))).relu().mean((2, 3)))


class Dead(ConvNet):
    """Every unit of its first layer is off, whatever the image: no gradient comes back."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.conv.bias, -1000.0)  # type: ignore[arg-type]


def network(module: nn.Module, size: tuple[int, int], **options: object) -> Network:
    return Network.of(module, size=size, **options)  # type: ignore[arg-type]


def conv_net(channels: int = 3) -> nn.Module:
    # Larger weights than the initialization's, so that small changes of the image change the answer.
    module = seeded(lambda: ConvNet(channels))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    return module


@functools.cache
def demo_folder() -> Path:
    """The demo, run once for all tests that need its page or its network."""
    from inward.demo import run

    folder = Path(tempfile.mkdtemp(prefix="inward-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    run(folder / "demo")
    return folder / "demo"


def digits() -> list[str]:
    """The demo's network as the command line names it."""
    return ["inward/digits", "--weights", str(demo_folder() / "digits.safetensors"), "--device", "cpu"]


@dataclass(frozen=True)
class Said:
    """What a command gave back."""

    status: int
    out: str
    err: str


def inward(*arguments: object) -> Said:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    # pytest turns warnings into errors, and the command line sets filters of its own: both are undone.
    import warnings

    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(a) for a in arguments])
    return Said(status, out.getvalue(), err.getvalue())
