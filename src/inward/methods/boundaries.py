"""The boundaries between the answer and the next classes, as they would be if the network were linear."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor

from inward.columns.constraints import movable
from inward.columns.objectives import wide
from inward.gradient import constant, trace_for
from inward.methods.attacked import Attacked
from inward.methods.looked import Look
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.types import Images, Logits

Order: TypeAlias = Tensor
"""(N, K): of each image the class that it is led away from, and then the others by how near they are to it."""


def order_of(asked: Attacked, classes: int) -> Order:
    """The ``classes`` likeliest of each image, its label put first."""
    logits = asked.logits
    own = torch.tensor(asked.labels, device=logits.device)[:, None]
    return logits.scatter(1, own, math.inf).argsort(dim=1, descending=True, stable=True)[:, :classes]


def lead(logits: Logits, order: Order) -> Tensor:
    """By how much the largest of the other classes considered is above the label, (N,)."""
    return logits.gather(1, order[:, 1:]).amax(1) - logits.gather(1, order[:, :1])[:, 0]


def length(slope: Images, norm: str) -> Tensor:
    """The dual norm of each slope, (N,): by how much a change of length 1 raises a linear score."""
    flat = slope.flatten(1)
    return {"linf": flat.abs().sum(1), "l2": flat.norm(dim=1), "l1": flat.abs().amax(1)}[norm]


def nearest_boundary(net: Network, images: Images, order: Order, norm: str, *, whole: bool = True) -> Look:
    """Of the nearest boundary of each image, how far its class is above the label, and the slope of that.

    Where no class has a slope, the slope is 0. Each class costs a backward pass. ``whole``: also through values
    at 0 or 1 that would have to leave [0, 1].
    """
    with ordinary(net.device):
        image = constant(images).requires_grad_(True)
        logits = trace_for(net, image, ["class"])["class"]
        rises = logits.gather(1, order[:, 1:]) - logits.gather(1, order[:, :1])
        best = torch.zeros_like(wide(images))
        height = rises.detach()[:, 0].to(best)
        shortest = torch.full((len(images),), math.inf, dtype=best.dtype, device=best.device)
        for k in range(rises.shape[1] if rises.requires_grad else 0):
            last = k == rises.shape[1] - 1
            (slope,) = torch.autograd.grad(rises[:, k].sum(), image, retain_graph=not last)
            slope = wide(slope) if whole else movable(image.detach(), wide(slope))
            rise, norms = rises[:, k].detach().to(best), length(slope, norm)
            distance = torch.where(norms > 0, rise.abs() / norms, math.inf)
            nearer = distance < shortest
            shortest = torch.where(nearer, distance, shortest)
            height = torch.where(nearer, rise, height)
            best = torch.where(nearer.view(-1, 1, 1, 1), slope, best)
    return Look(height, best, logits.detach())
