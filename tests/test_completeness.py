"""Integrated gradients at the default tolerance, on published networks and a transformer that is trained here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import inward
from helpers import network
from inward import Network
from inward.methods.integrated import integrated_gradients
from same import seeded
from tiny_transformers import TinyViT

pytestmark = pytest.mark.slow
TOLERANCE = 0.02
RANGE = {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255,) * 3}


def check(net: Network, images: Tensor) -> None:
    """Every map is within the tolerance, and the error that it reports is the one that it has."""
    found = integrated_gradients(net, images)
    assert found.measured["error"].max() <= TOLERANCE
    classes = net(images).argmax(1)
    ends = [net(i).double().gather(1, classes[:, None])[:, 0] for i in (images, torch.zeros_like(images))]
    difference = ends[0] - ends[1]
    missed = (difference - found.values.double().flatten(1).sum(1)) / difference.abs()
    # The scores are float32: a difference of some units between logits of some ten.
    torch.testing.assert_close(missed, found.measured["signed_error"], rtol=0, atol=2e-4)
    # Recomputed with many points: what the maps add up to is as far from the integral as they say.
    exact = integrated_gradients(net, images[:2], steps=400)
    gap = (found.values[:2] - exact.values).double().flatten(1).sum(1).abs() / difference[:2].abs()
    # On a smooth network both sides are the same number: float32 rounds them apart.
    assert (gap <= found.measured["error"][:2] + exact.measured["error"] + 2e-4).all()
    assert (exact.measured["error"] < TOLERANCE).all()


# Thousands of gradients: more than ten minutes where others work on the same cores.
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("spec", "weights", "size"),
    [
        ("inward/inception_v1", "inception_v1.safetensors", 224),
        ("torchvision/squeezenet1_1", "squeezenet1_1.safetensors", 227),
    ],
)
def test_complete_on_twenty_photographs(shared_data: Path, spec: str, weights: str, size: int) -> None:
    net = inward.load(spec, weights=shared_data / "weights" / weights, size=size, device="cpu", **RANGE)
    files = sorted((shared_data / "imagenet-sample").glob("*.jpg"))[::35][:20]
    check(net, inward.read(files, net))


def test_complete_on_a_transformer_that_reads_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None].div(16)
    images = nn.functional.interpolate(images, size=(16, 12), mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    labels = torch.from_numpy(digits.target)
    module = seeded(lambda: TinyViT(grid=(4, 3)))
    module.head = seeded(lambda: nn.Linear(8, 10))
    train(module, images[:1500], labels[:1500])
    net = network(module.eval(), (16, 12))
    accuracy = (net(images[1500:]).argmax(1) == labels[1500:]).double().mean()
    # Far above the tenth that guessing has: there is something to explain.
    assert accuracy > 0.7
    check(net, images[1500:1520])


def train(module: nn.Module, images: Tensor, labels: Tensor, epochs: int = 40) -> None:
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    module.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(images), generator=generator).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(images[batch]), labels[batch]).backward()
            optimizer.step()
