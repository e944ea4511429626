"""Contests of feature visualization with Lucent: the same network, channels, size, steps and transforms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.measure import Contest
from benchmarks.peers import render
from benchmarks.shared import inception_weights
from inward import Network, visualize
from inward.nets.inception_v1 import inception_v1
from inward.network.load import import_torchvision
from inward.network.room import multiply_adds_of

SIZE = 224
STEPS = 32
CAFFE = {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255, 1 / 255, 1 / 255)}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
Range = dict[str, Any]
Sides = tuple[Callable[[], object], Callable[[], object]]


def inception() -> nn.Module:
    module = inception_v1()
    module.load_state_dict(inception_weights())
    return module.eval()


def resnet() -> nn.Module:
    torch.manual_seed(0)
    return import_torchvision().models.resnet50(weights=None).eval()


def contest(make: Callable[[], nn.Module], range_: Range, point: str, ours: int, peers: int) -> Sides:
    """``ours`` and ``peers`` pictures of channels of one point."""
    module = make()
    net = Network.of(module, size=SIZE, **range_)
    units = list(range(ours))
    names = [f"{point}/{unit}" for unit in units]
    return (
        lambda: visualize(net, names, steps=STEPS, redirect=0),
        lambda: render(module, point, units[:peers], steps=STEPS, size=SIZE, **range_),
    )


def work(make: Callable[[], nn.Module], point: str) -> int:
    """Forward, and backward to the image: twice the multiply-adds on the way to the point, at every step."""
    net = Network.of(make(), size=SIZE)
    return 2 * STEPS * multiply_adds_of(net, [point], (SIZE, SIZE))


def _row(name: str, network: str, make: Callable[[], nn.Module], point: str, ours: int, peers: int) -> Contest:
    range_ = IMAGENET if make is resnet else CAFFE
    how = "one picture at a time" if peers == 1 else f"a batch of {peers}, the objective summed over it"
    return Contest(
        name=name,
        question=f"{ours} channel{'s' if ours > 1 else ''} of {point} of {network} at {SIZE} x {SIZE}, by picture",
        ours="inward.visualize: truncated graph, weights as constants, products in bfloat16, batches",
        peer=f"torch-lucent 0.1.8, {how}, the module as published",
        make=partial(contest, make, range_, point, ours, peers),
        work=partial(work, make, point),
        ours_pictures=ours,
        peer_pictures=peers,
    )


CONTESTS = (
    _row("visualize-one-early", "Inception v1", inception, "mixed3b", 1, 1),
    _row("visualize-one-late", "Inception v1", inception, "mixed4e", 1, 1),
    _row("visualize-many-early", "Inception v1", inception, "mixed3b", 32, 1),
    _row("visualize-many-late", "Inception v1", inception, "mixed4e", 32, 1),
    _row("visualize-many-early-peer-batch", "Inception v1", inception, "mixed3b", 32, 8),
    _row("visualize-many-late-peer-batch", "Inception v1", inception, "mixed4e", 32, 8),
    _row("visualize-one-resnet50", "ResNet-50 (random weights)", resnet, "layer3", 1, 1),
    _row("visualize-many-resnet50", "ResNet-50 (random weights)", resnet, "layer3", 32, 1),
)
