"""What Inception v1 keeps of ten photographs at each depth, and how a plain loop from the paper fares beside it.

    python -m benchmarks.inversion ../shared/data/weights/inception_v1.safetensors [POINT ...] [--save]

300 passes each; an hour on two cores. ``--save`` writes benchmarks/results/inversion.json, point by point.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from PIL import Image
from skimage import data
from torch import Tensor

import inward
from inward.draw.saving import write_whole
from inward.network.lean import lean
from inward.network.stages import stages

RESULTS = Path(__file__).with_name("results") / "inversion.json"
PHOTOGRAPHS = (
    *("astronaut", "brick", "chelsea", "coffee", "coins"),
    *("grass", "gravel", "camera", "rocket", "hubble_deep_field"),
)
STEPS, _PLAIN = 300, ("conv2", "lrn2", "mixed3b")


def photographs(size: int = 224) -> Tensor:
    """The middle of each, (10, 3, size, size) in [0, 1]."""
    found = []
    for name in PHOTOGRAPHS:
        picture = Image.fromarray(getattr(data, name)()).convert("RGB")
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
        found.append(torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(size, size, 3))
    return torch.stack(found).permute(0, 3, 1, 2).float() / 255


def plain(net: inward.Network, images: Tensor, point: str) -> Tensor:
    """Adam on pixels before a sigmoid, from noise: what the libraries do. The share of the energy that is missed."""
    size = (images.shape[2], images.shape[3])
    fast = lean(net, size, half=False)
    with torch.no_grad():
        wanted = net.run(images, [point])[0]
    energy = wanted.square().flatten(1).sum(1)
    moved = (0.01 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).requires_grad_(True)
    optimizer = torch.optim.Adam([moved], lr=0.05)
    for _ in range(STEPS):
        optimizer.zero_grad()
        found = fast.run(torch.sigmoid(moved), [point])[0]
        ((found - wanted).square().flatten(1).sum(1) / energy).sum().backward()
        optimizer.step()
    with torch.no_grad():
        found = net.run(torch.sigmoid(moved), [point])[0]
    return (found - wanted).square().flatten(1).sum(1) / energy


def measure(net: inward.Network, images: Tensor, point: str) -> dict[str, object]:
    """One line: means over the photographs."""
    kept = inward.invert(net, images, at=point, steps=STEPS)
    row = {name: kept.measured[name].mean().item() for name in ("error", "psnr", "ssim")}
    drift = (kept.made[:, 0].mean((2, 3)) - images.mean((2, 3))).abs().mean().item()
    beside = {"plain_error": plain(net, images, point).mean().item()} if point in _PLAIN else {}
    return {"point": point, **row, "worst_error": kept.measured["error"].max().item(), "drift": drift, **beside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("points", nargs="*")
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    net = inward.load("inward/inception_v1", weights=given.weights, device="auto")
    images = photographs().to(net.device)
    names = given.points or ["conv2", *stages(net), "class"]
    known = {row["point"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.is_file() else {}
    for point in names:
        known[point] = measure(net, images, point)
        print(known[point], flush=True)
        if given.save:
            write_whole((json.dumps(list(known.values()), indent=1) + "\n").encode(), RESULTS)


if __name__ == "__main__":
    main()
