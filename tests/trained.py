"""Small networks for MNIST and CIFAR-10, trained normally and against PGD, and their weights.

``python -m tests.trained [NAME...]`` trains anew and writes tests/weights: seconds to a quarter of an hour each.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from inward import Network, pgd
from inward.nets.resnet import ResNet

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "tests" / "weights"
FIGURES = WEIGHTS / "figures.json"

Data: TypeAlias = tuple[Tensor, Tensor]
"""Images (N, C, H, W), uint8, and their labels."""
Part: TypeAlias = Literal["train", "test"]


def data_folder() -> Path:
    """The shared data beside the repository (INWARD_DATA elsewhere), as the tests find it."""
    return Path(os.environ.get("INWARD_DATA", ROOT.parent / "shared" / "data"))


def mnist(part: Part) -> Data:
    """All of that part of MNIST."""
    files = data_folder() / "mnist"
    name = {"train": "train", "test": "t10k"}[part]
    images, labels = (
        np.frombuffer(gzip.decompress((files / f"{name}-{kind}.gz").read_bytes()), np.uint8)
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )
    return torch.tensor(images[16:]).view(-1, 1, 28, 28), torch.tensor(labels[8:]).long()


def cifar10(part: Part) -> Data:
    """All of that part of CIFAR-10."""
    files = sorted((data_folder() / "cifar10").glob(f"{part}*.[jw]*"))
    grids = [np.asarray(Image.open(f).convert("RGB")).reshape(100, 32, 100, 32, 3) for f in files]
    images = np.concatenate([g.transpose(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32) for g in grids])
    return torch.tensor(images), torch.arange(len(images)) % 10


def mnist_network() -> nn.Module:
    """That of Wong, Rice and Kolter, "Fast is better than free", 2020: 166,406 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 7 * 7, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def cifar_network() -> nn.Module:
    """Four convolutions and a linear layer; takes [0, 1]. 165,674 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128 * 4 * 4, 10),
    )


def cifar_resnet() -> nn.Module:
    """A residual network of six blocks; takes [0, 1]. 175,258 parameters, 27 million multiply-adds."""
    return ResNet(size=32, widths=(16, 32, 64), blocks=(2, 2, 2))


@dataclass(frozen=True)
class Training:
    """How a network is trained: Adam on one cycle of learning rates, and the mean of its late weights.

    Attributes:
        rate: the largest learning rate.
        eps, steps, step_size: of the PGD whose images it is trained on, the step as a share of eps; 0: on the images.
        warm: over what share of the training eps grows from 0.
        mirrored: images are mirrored and shifted by up to 3 pixels at random.
    """

    build: Callable[[], nn.Module]
    data: Callable[[Part], Data]
    epochs: int
    rate: float
    eps: float = 0.0
    steps: int = 0
    step_size: float = 0.0
    warm: float = 0.3
    mirrored: bool = False
    batch: int = 128
    decay: float = 0.998


TRAININGS: dict[str, Training] = {
    "mnist_normal": Training(mnist_network, mnist, epochs=3, rate=3e-3),
    "mnist_robust": Training(mnist_network, mnist, epochs=24, rate=2e-3, eps=0.3, steps=7, step_size=0.25),
    "cifar_normal": Training(cifar_network, cifar10, epochs=12, rate=3e-3, mirrored=True),
    "cifar_resnet": Training(cifar_resnet, cifar10, epochs=8, rate=5e-3, mirrored=True),
    "cifar_robust": Training(
        cifar_network, cifar10, epochs=14, rate=3e-3, eps=8 / 255, steps=2, step_size=0.625, mirrored=True
    ),
}

EPS = {name: 0.3 if name.startswith("mnist") else 8 / 255 for name in TRAININGS}


def trained(name: str) -> nn.Module:
    """A network with the weights that are kept (in half precision, used in single)."""
    module = TRAININGS[name].build()
    module.load_state_dict({key: value.float() for key, value in load_file(WEIGHTS / f"{name}.safetensors").items()})
    return module.eval()


def train(training: Training, seed: int = 0, on_epoch: Callable[[int, nn.Module], None] | None = None) -> nn.Module:
    """A network trained from random weights; each rounded to half precision, as it is kept."""
    torch.manual_seed(seed)
    module = training.build()
    images, labels = training.data("train")
    batches = -(-len(images) // training.batch)
    optimizer = torch.optim.Adam(module.parameters(), training.rate)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, training.rate, total_steps=training.epochs * batches, pct_start=0.25, cycle_momentum=False
    )
    mean = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(training.decay))
    for epoch in range(training.epochs):
        for i, rows in enumerate(torch.randperm(len(images)).split(training.batch)):
            share = (epoch + i / batches) / training.epochs
            x, y = _shown(images[rows], training.mirrored), labels[rows]
            if training.eps:
                x = adversary(module, x, y, training, min(share / training.warm, 1) * training.eps)
            optimizer.zero_grad()
            F.cross_entropy(module(x), y).backward()
            optimizer.step()
            cycle.step()
            mean.update_parameters(module)
        if on_epoch is not None:
            on_epoch(epoch, mean.module)
    return mean.module.half().float().eval()


def _shown(images: Tensor, mirrored: bool) -> Tensor:
    """Images in [0, 1], mirrored and shifted where that is asked."""
    images = images.float() / 255
    if not mirrored:
        return images
    images = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, images.flip(3), images)
    top, left = torch.randint(7, (2,)).tolist()
    return F.pad(images, (3, 3, 3, 3))[:, :, top : top + images.shape[2], left : left + images.shape[3]]


def adversary(module: nn.Module, images: Tensor, labels: Tensor, training: Training, eps: float) -> Tensor:
    """PGD from a random place in the L_inf ball."""
    low, high = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
    now = low + torch.rand_like(images) * (high - low)
    for _ in range(training.steps):
        now.requires_grad_(True)
        (slope,) = torch.autograd.grad(F.cross_entropy(module(now), labels), now)
        now = (now.detach() + training.step_size * eps * slope.sign()).clamp(low, high)
    return now.detach()


def shown(name: str, count: int) -> tuple[Tensor, Tensor]:
    """The first test images that a network is for, in [0, 1], and their labels."""
    images, labels = TRAININGS[name].data("test")
    return images[:count].float() / 255, labels[:count]


def network(module: nn.Module, images: Tensor) -> Network:
    """A module as inward sees it."""
    height, width = images.shape[2:]
    return Network.of(module, size=(height, width), channels=images.shape[1])


def correct(module: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> int:
    """How many images in [0, 1] are taken for what they are."""
    with torch.no_grad():
        return int((module(images).argmax(1) == labels).sum())


def withstood(module: nn.Module, images: Tensor, labels: Tensor, eps: float) -> int:
    """How many are still right after PGD of 40 steps, judged in 8 bits."""
    return int((~pgd(network(module, images), images, label=labels, eps=eps).success).sum())


def told(name: str, module: nn.Module) -> dict[str, Any]:
    """How a network was made, and what it does on 10,000 test images, and under PGD-40 on the first 1000."""
    images, labels = shown(name, 10_000)
    training = TRAININGS[name]
    own = {f.name: getattr(training, f.name) for f in fields(training) if f.name not in ("build", "data", "eps")}
    return {
        "training": own,
        "right_of_10000": correct(module, images, labels),
        "eps": round(EPS[name], 6),
        "withstand_pgd40_of_1000": withstood(module, images[:1000], labels[:1000], EPS[name]),
    }


def main() -> None:
    """Trains, and keeps weights and figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.trained", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(TRAININGS)}")
    for name in parser.parse_args().names or TRAININGS:
        module = train(
            TRAININGS[name], on_epoch=lambda epoch, _, name=name: print(f"{name}: epoch {epoch}", flush=True)
        )
        keep(name, module)


def keep(name: str, module: nn.Module) -> None:
    """Writes weights and figures."""
    WEIGHTS.mkdir(exist_ok=True)
    half = {key: value.half().contiguous() for key, value in module.state_dict().items()}
    save_file(half, WEIGHTS / f"{name}.safetensors")
    figures = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.is_file() else {}
    figures[name] = told(name, module)
    ordered = {other: figures[other] for other in TRAININGS if other in figures}
    FIGURES.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
