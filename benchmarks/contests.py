"""The contests. The peer is what one writes by hand with PyTorch's hooks, as the libraries do."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import attacks, attribution, style, visualization
from benchmarks.measure import Contest
from inward import Network
from inward.ascent import Row, ascend
from inward.columns.augmentations import standard
from inward.columns.objectives import Channel
from inward.columns.parameterizations import Fourier
from inward.columns.starts import Noise
from inward.columns.steps import adam
from inward.nets.inception_v1 import inception_v1
from inward.network.load import import_torchvision

SIZE = (224, 224)


def _hooked(module: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """A full forward pass with a hook on one layer."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        kept.append(output)

    handle = layer.register_forward_hook(keep)
    try:
        module(images)
    finally:
        handle.remove()
    return kept[0]


def capture() -> tuple[Callable[[], object], Callable[[], object]]:
    """Activations of an early layer of ResNet-50, 8 images."""
    torch.manual_seed(0)
    module = import_torchvision().models.resnet50(weights=None).eval()
    net = Network.of(module, size=SIZE)
    images = torch.rand(8, 3, *SIZE)

    @torch.no_grad()
    def ours() -> Tensor:
        return net.trace(images, "layer1")["layer1"]

    @torch.no_grad()
    def peer() -> Tensor:
        return _hooked(module, module.layer1, images)

    gap = (ours() - peer()).abs().max().item()
    assert gap == 0, f"the two answers differ by {gap}"
    return ours, peer


def visualization_step() -> tuple[Callable[[], object], Callable[[], object]]:
    """One step towards a channel of mixed3b: same parameterization, same augmentation, same optimizer."""
    torch.manual_seed(0)
    module = inception_v1()
    net = Network.of(module, size=SIZE)
    passes = 4
    row = Row(
        objective=Channel("mixed3b/10"),
        step=adam(0.03),
        passes=passes,
        start=Noise(),
        parameterization=Fourier(),
        augmentation=standard(SIZE),
    )
    like = torch.zeros(1, 3, *SIZE)

    def ours() -> Tensor:
        return ascend(net, row, like).images

    def peer() -> Tensor:
        generator = torch.Generator().manual_seed(0)
        parameters = row.parameterization.init(row.start(like, [0]))
        optimizer = torch.optim.Adam([p.requires_grad_(True) for p in parameters], lr=0.03)
        for _ in range(passes):
            optimizer.zero_grad()
            shown = standard(SIZE)(row.parameterization.image(parameters, like), generator)
            activation = _hooked(module, module.mixed3b, shown)
            (-activation[:, 10].mean()).backward()
            optimizer.step()
        # What PyTorch leaves behind: gradients of all parameters that were passed on the way.
        module.zero_grad()
        return row.parameterization.image(parameters, like).detach()

    # The same walk but for rounding, which grows at every step through ReLUs and Adam.
    gap = (ours() - peer()).abs().mean().item()
    assert gap < 1e-3, f"the two pictures differ by {gap} on average"
    return ours, peer


CONTESTS = (
    *visualization.CONTESTS,
    *attribution.CONTESTS,
    *attacks.CONTESTS,
    *style.CONTESTS,
    Contest(
        name="capture",
        question="Activations of layer1 of ResNet-50, 8 images of 224 x 224",
        ours="net.trace(images, 'layer1'): the graph ends there",
        peer="a full forward pass with a forward hook on layer1",
        make=capture,
    ),
    Contest(
        name="visualization-step",
        question="Four steps of feature visualization of mixed3b/10 of Inception v1 at 224 x 224",
        ours="ascend: the graph ends at mixed3b, weights are constants, LRN is a banded convolution",
        peer="the full network with a hook and loss.backward(), as published (nn.LocalResponseNorm)",
        make=visualization_step,
    ),
)
