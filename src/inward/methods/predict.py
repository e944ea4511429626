"""What the network answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from inward.errors import CallError, InwardError
from inward.network.network import Network
from inward.types import Images


@dataclass(frozen=True)
class Prediction:
    """A class with its label and its probability (softmax over the logits, or of each a sigmoid)."""

    index: int
    label: str
    probability: float


@torch.no_grad()
def predict(net: Network, images: Images, *, top: int = 5) -> list[list[Prediction]]:
    """The ``top`` most probable classes of each image, most probable first.

    Args:
        images: (N, C, H, W) in [0, 1].
        top: at most; a network with fewer classes gives them all.

    Raises:
        CallError: where the output is not (N, classes) logits.
        InwardError: where it is NaN.
    """
    logits = net(images)
    if logits.ndim != 2:
        raise CallError(f"the output of {net.name} has the shape {tuple(logits.shape)}; predictions need (N, classes)")
    if logits.isnan().any():
        raise InwardError(f"{net.name} answers NaN; check its weights, and --mean, --std and --dtype")
    best = net.probabilities(logits.cpu().double()).topk(min(top, logits.shape[1]), dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[Prediction(k, net.label(k), p) for k, p in zip(*row, strict=True)] for row in rows]
