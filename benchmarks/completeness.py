"""``python -m benchmarks.completeness [--save]``: what integrated gradients cost and miss, by tolerance.

Twenty photographs, Inception v1 and SqueezeNet. ``distance`` is how far the maps of some of them are
from those of 300 fixed points, as a share of these (Euclidean); fixed steps stand beside.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

import torch

import inward
from benchmarks.shared import DATA, photographs
from benchmarks.visualization import CAFFE
from inward import Network
from inward.errors import Unconverged
from inward.methods.integrated import integrated_gradients

RESULTS = Path(__file__).parent / "results" / "completeness.json"
TOLERANCES = (0.1, 0.05, 0.02, 0.01)
STEPS = (20, 50, 100)
COUNT, COMPARED, REFERENCE = 20, 4, 300
RANGE: dict[str, Any] = {**CAFFE}


def networks() -> dict[str, Network]:
    """Both networks with their published weights."""
    weights = DATA / "weights"
    return {
        "Inception v1": inward.load(
            "inward/inception_v1", weights=weights / "inception_v1.safetensors", size=224, device="cpu", **RANGE
        ),
        "SqueezeNet": inward.load(
            "torchvision/squeezenet1_1", weights=weights / "squeezenet1_1.safetensors", size=227, device="cpu", **RANGE
        ),
    }


def measure(name: str, net: Network) -> list[dict[str, Any]]:
    """A row for every tolerance and number of steps."""
    images = photographs(net, COUNT)
    exact = integrated_gradients(net, images[:COMPARED], steps=REFERENCE).values.double()
    found = []
    asked: list[dict[str, Any]] = [{"tolerance": t} for t in TOLERANCES]
    asked += [{"steps": s} for s in STEPS]
    for options in asked:
        result = integrated_gradients(net, images, **options)
        measured = {key: value.double() for key, value in result.measured.items()}
        gap = (result.values[:COMPARED].double() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        row = {
            "network": name,
            **options,
            "points": measured["points"].mean().item(),
            "points_most": measured["points"].max().item(),
            "error": measured["error"].mean().item(),
            "error_most": measured["error"].max().item(),
            "signed": measured["signed_error"].abs().mean().item(),
            "signed_most": measured["signed_error"].abs().max().item(),
            "distance": gap.mean().item(),
        }
        found.append({key: round(value, 5) if isinstance(value, float) else value for key, value in row.items()})
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measures both networks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.completeness", description=__doc__)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Unconverged)
        rows = [row for name, net in networks().items() for row in measure(name, net)]
    if options.save:
        RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
