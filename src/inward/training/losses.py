"""Outputs and their losses: one answer out of all classes, or each class its own proposition."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.training.recipe import Recipe
from inward.types import Logits, Scores

Loss: TypeAlias = Callable[[Logits, Tensor], Scores]
"""Of logits and targets (N, classes) as probabilities, the loss of each picture (N,)."""


def loss_of(recipe: Recipe) -> Loss:
    """Cross-entropy in nats for softmax; for sigmoid the sum over the classes of squared errors."""
    return _cross_entropy if recipe.output == "softmax" else _squared_error


def targets_of(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """(N, classes): 1 at the label and 0 elsewhere, smoothed; a label of -1 is of no class, all 0."""
    one_hot = F.one_hot(labels.clamp_min(0), classes).float() * (labels >= 0)[:, None]
    known = (labels >= 0)[:, None].float()
    return one_hot * (1 - smoothing) + known * smoothing / classes


def divergence(logits: Logits, given: Logits) -> Scores:
    """KL(softmax(given) || softmax(logits)), which TRADES' attack climbs and its second term lowers."""
    return F.kl_div(logits.log_softmax(1), given.log_softmax(1), reduction="none", log_target=True).sum(1)


def _cross_entropy(logits: Logits, targets: Tensor) -> Scores:
    return -(targets * logits.log_softmax(1)).sum(1)


def _squared_error(logits: Logits, targets: Tensor) -> Scores:
    return (torch.sigmoid(logits) - targets).square().sum(1)
