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
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

from inward import cli
from inward.nets.digits import digits as build_digits
from inward.network import Network
from inward.network.modes import one_thread
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
def digits_weights() -> Path:
    """Weights of ``inward/digits``, trained once for all tests that need them, on 1437 of scikit-learn's digits."""
    folder = Path(tempfile.mkdtemp(prefix="inward-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    images, labels = digits_data()
    with torch.random.fork_rng(devices=[]), one_thread():
        torch.manual_seed(0)
        module = build_digits().train()
        optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
        for _ in range(30):
            for batch in torch.randperm(1437).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
                optimizer.step()
            schedule.step()
    save_file(module.state_dict(), folder / "digits.safetensors")
    return folder / "digits.safetensors"


def digits_data() -> tuple[Tensor, Tensor]:
    """The 1797 digits in a fixed random order: (N, 1, 8, 8) on the 8-bit grid, and their classes."""
    pixels, classes = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().view(-1, 1, 8, 8) / 16
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return ((images * 255).round() / 255)[order], torch.from_numpy(classes).long()[order]


def digits() -> list[str]:
    """A trained network as the command line names it."""
    return ["inward/digits", "--weights", str(digits_weights()), "--device", "cpu"]


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
