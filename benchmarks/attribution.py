"""Contests of attribution with Captum: the same network, photographs, windows and masks; integrals of equal error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from captum import attr
from torch import Tensor, nn

from benchmarks.measure import Contest
from benchmarks.shared import photographs
from benchmarks.visualization import CAFFE, IMAGENET, Range, Sides, inception, resnet
from inward import Network
from inward.methods.integrated import integrated_gradients
from inward.methods.occlusion import occlusion
from inward.methods.rise import rise
from inward.results import Attribution

SIZE = 224
COUNT = 8
WINDOW, STRIDE = 32, 16
MASKS = 256
# Images that Captum runs at once, where it is told to: the fastest of 8, 16, 32 and 64 here.
CHUNK = 16
# Fixed points are tried up to here.
MOST_STEPS = 256


class Shown(nn.Module):
    """A module that takes images in [0, 1], as a network of ours does."""

    def __init__(self, module: nn.Module, range_: Range) -> None:
        super().__init__()
        self.module = module
        self.mean = torch.tensor(range_["mean"]).view(1, 3, 1, 1)
        self.std = torch.tensor(range_["std"]).view(1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.module((x - self.mean) / self.std)


def _both(make: Callable[[], nn.Module], range_: Range, count: int) -> tuple[Network, nn.Module, Tensor, Tensor]:
    module = make()
    net = Network.of(module, size=SIZE, **range_)
    images = photographs(net, count)
    with torch.no_grad():
        return net, Shown(module, range_), images, net(images).argmax(1)


def steps_for(net: Network, images: Tensor, targets: list[str], error: float) -> int:
    """The fewest fixed points, to an eighth, with and above which the mean error of completeness is as small.

    From many to few, because the error goes up and down: what one number of points reaches by luck, nobody
    can ask for. ``MOST_STEPS`` where these are not enough. Found with ours, because it is faster: at equal
    points both give the same map (tests/test_integrated.py).
    """

    def as_exact(steps: int) -> bool:
        found = _error(integrated_gradients(net, images, target=targets, steps=steps))
        print(f"  {steps} points: {found:.2%}")
        return found <= error

    steps = MOST_STEPS
    if not as_exact(steps):
        return steps
    while steps > 8 and as_exact(steps // 2):
        steps //= 2
    for eighths in (7, 6, 5):
        if not as_exact(steps * eighths // 8):
            return steps * (eighths + 1) // 8
    return steps * 5 // 8


def _error(found: Attribution) -> float:
    """The mean error of completeness, as a share of the difference of the scores."""
    return found.measured["signed_error"].abs().nanmean().item()


def _captum(module: nn.Module, images: Tensor, classes: Tensor, steps: int) -> Tensor:
    method = attr.IntegratedGradients(module)
    return method.attribute(
        images, target=classes, n_steps=steps, method="gausslegendre", internal_batch_size=max(CHUNK, len(images))
    )


def integrals(make: Callable[[], nn.Module], range_: Range) -> Sides:
    """Ours at its default tolerance; Captum with the points that make its error as small."""
    net, module, images, classes = _both(make, range_, COUNT)
    targets = [f"class:{k}" for k in classes.tolist()]
    found = integrated_gradients(net, images, target=targets)
    error = _error(found)
    steps = steps_for(net, images, targets, error)
    print(
        f"ours: {found.measured['points'].double().mean():.0f} points, mean error {error:.3%}; Captum: {steps} points"
    )
    return (
        lambda: integrated_gradients(net, images, target=targets),
        lambda: _captum(module, images, classes, steps),
    )


def windows(make: Callable[[], nn.Module], range_: Range, together: int) -> Sides:
    """One photograph, every window."""
    net, module, images, classes = _both(make, range_, 1)
    method = attr.Occlusion(module)

    def ours() -> Tensor:
        return occlusion(
            net, images, target=f"class:{int(classes)}", window=WINDOW, stride=STRIDE, baseline="gray"
        ).values

    def peer() -> Tensor:
        return method.attribute(
            images,
            target=classes,
            sliding_window_shapes=(3, WINDOW, WINDOW),
            strides=(3, STRIDE, STRIDE),
            baselines=0.5,
            perturbations_per_eval=together,
        )

    gap = (ours() - peer()[:, :1]).abs().max() / peer().abs().max()
    assert gap < 1e-3, f"the two maps differ by {gap}"
    return ours, peer


def masks(make: Callable[[], nn.Module], range_: Range) -> Sides:
    """One photograph, ``MASKS`` masks; the peer is the authors' loop: masks made before, batches of 100."""
    net, module, images, classes = _both(make, range_, 1)
    drawn = torch.rand(MASKS, 1, SIZE, SIZE)

    @torch.no_grad()
    def peer() -> Tensor:
        total = torch.zeros(SIZE, SIZE)
        for batch in drawn.split(100):
            probability = module(images * batch).softmax(1)[:, int(classes)]
            total += torch.einsum("m,mhw->hw", probability, batch[:, 0])
        return total / MASKS / 0.5

    return lambda: rise(net, images, target=f"class:{int(classes)}", samples=MASKS), peer


def _row(name: str, question: str, ours: str, peer: str, make: Callable[[], Sides]) -> Contest:
    return Contest(name=name, question=question, ours=ours, peer=peer, make=make)


def _rows(short: str, network: str, make: Callable[[], nn.Module], range_: Range) -> tuple[Contest, ...]:
    return (
        _row(
            f"integrated-gradients-{short}",
            f"Integrated gradients of {COUNT} photographs, {network}, at equal error of completeness",
            "inward.integrated_gradients at its default tolerance",
            f"captum 0.9 IntegratedGradients, gausslegendre, internal_batch_size={CHUNK}",
            partial(integrals, make, range_),
        ),
        _row(
            f"occlusion-{short}",
            f"Occlusion of one photograph, windows of {WINDOW} every {STRIDE} pixels, {network}",
            "inward.occlusion",
            "captum 0.9 Occlusion as it comes, one window at a time",
            partial(windows, make, range_, 1),
        ),
        _row(
            f"occlusion-{short}-peer-batch",
            f"Occlusion of one photograph, windows of {WINDOW} every {STRIDE} pixels, {network}",
            "inward.occlusion",
            "captum 0.9 Occlusion, perturbations_per_eval=16",
            partial(windows, make, range_, 16),
        ),
        _row(
            f"rise-{short}",
            f"RISE of one photograph, {MASKS} masks, {network}",
            "inward.rise",
            "the authors' loop: the module as published, 100 masks at a time",
            partial(masks, make, range_),
        ),
    )


CONTESTS = (
    *_rows("inception", "Inception v1", inception, CAFFE),
    *_rows("resnet50", "ResNet-50 (random weights)", resnet, IMAGENET),
)
