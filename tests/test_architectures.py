"""Published architectures with random weights: every one is a graph, and the graph is the module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inward.network import Network
from inward.network.load import import_torchvision
from same import assert_same_answers, assert_same_points, images, seeded, untouched

# Attention multiplies matrices that lie in memory in another order than the module's: the sums are
# rounded differently. All else is the same operation on the same numbers, and equal to the bit.
ATTENTION = 2e-6


@dataclass(frozen=True)
class Case:
    """An architecture, the smallest size that it takes, and what some functional point must be."""

    name: str
    size: tuple[int, int] = (64, 48)
    rtol: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    point: str = ""
    of: tuple[str, ...] = ()
    by: Callable[..., Tensor] = torch.add

    def make(self) -> nn.Module:
        models = import_torchvision().models
        family, _, name = self.name.partition("/")
        if family == "timm":
            import timm

            return timm.create_model(name, pretrained=False, **self.options)
        return models.get_model(name, weights=None, **self.options)


def joined(*branches: Tensor) -> Tensor:
    return torch.cat(branches, 1)


def averaged(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1)


CASES = [
    Case("torchvision/alexnet", (96, 64), point="view", of=("avgpool",), by=lambda x: x.flatten(1)),
    Case("torchvision/resnet18", point="layer1.0.add", of=("layer1.0.bn2", "maxpool")),
    Case("torchvision/vgg11_bn", (48, 32), point="features.2.relu", of=("features.1",), by=torch.relu),
    Case(
        "torchvision/inception_v3",
        (96, 80),
        options={"init_weights": False},
        point="Mixed_5b.avg_pool2d",
        of=("maxpool2",),
        by=averaged,
    ),
    Case(
        "torchvision/googlenet",
        options={"init_weights": False},
        point="inception3a.cat",
        of=("inception3a.branch1", "inception3a.branch2", "inception3a.branch3", "inception3a.branch4"),
        by=joined,
    ),
    Case(
        "torchvision/densenet121",
        point="features.denseblock1.denselayer2.cat",
        of=("features.pool0", "features.denseblock1.denselayer1"),
        by=joined,
    ),
    Case(
        "torchvision/squeezenet1_1",
        point="features.3.cat",
        of=("features.3.expand1x1_activation", "features.3.expand3x3_activation"),
        by=joined,
    ),
    Case(
        "torchvision/mobilenet_v3_small",
        point="features.1.block.1.mul",
        of=("features.1.block.1.scale_activation", "features.1.block.0"),
        by=torch.mul,
    ),
    Case("torchvision/mobilenet_v2", point="features.3.add", of=("features.2", "features.3.conv")),
    Case("torchvision/mnasnet0_5", point="mean", of=("layers",), by=lambda x: x.mean((2, 3))),
    Case(
        "torchvision/efficientnet_b0",
        point="features.2.1.add",
        of=("features.2.0", "features.2.1.stochastic_depth"),
    ),
    Case(
        "torchvision/regnet_x_400mf",
        point="trunk_output.block1.block1-0.add",
        of=("trunk_output.block1.block1-0.proj", "trunk_output.block1.block1-0.f"),
    ),
    Case(
        "torchvision/shufflenet_v2_x0_5",
        point="stage2.0.cat",
        of=("stage2.0.branch1", "stage2.0.branch2"),
        by=joined,
    ),
    Case(
        "torchvision/convnext_tiny",
        point="features.1.0.add",
        of=("features.0", "features.1.0.stochastic_depth"),
    ),
    Case(
        "torchvision/vit_b_16",
        (64, 64),
        ATTENTION,
        {"image_size": 64},
        point="encoder.layers.encoder_layer_0.add",
        of=("encoder.dropout", "encoder.layers.encoder_layer_0.dropout"),
    ),
    Case("torchvision/swin_t", point="features.1.0.add", of=("features.0", "features.1.0.stochastic_depth")),
    Case(
        "timm/vit_tiny_patch16_224",
        rtol=ATTENTION,
        options={"img_size": (64, 48)},
        point="blocks.1.add",
        of=("blocks.0", "blocks.1.drop_path1"),
    ),
    Case(
        "timm/swin_tiny_patch4_window7_224",
        rtol=ATTENTION,
        options={"img_size": (64, 48)},
        point="layers.0.blocks.0.add",
        of=("patch_embed", "layers.0.blocks.0.drop_path1"),
    ),
    Case("timm/lcnet_050", point="blocks.5.0.se.mul", of=("blocks.5.0.bn1", "blocks.5.0.se.gate"), by=torch.mul),
    Case(
        "timm/edgenext_xx_small",
        rtol=ATTENTION,
        point="stages.0.blocks.1.add",
        of=("stages.0.blocks.0", "stages.0.blocks.1.drop_path"),
    ),
]


# Relatives of the others: in the slow tier.
RELATIVES = {
    *("torchvision/inception_v3", "torchvision/mobilenet_v2", "torchvision/mnasnet0_5", "torchvision/regnet_x_400mf"),
    *("torchvision/densenet121", "torchvision/efficientnet_b0", "torchvision/shufflenet_v2_x0_5"),
    *("timm/swin_tiny_patch4_window7_224", "timm/lcnet_050", "timm/edgenext_xx_small"),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=c.name, marks=[pytest.mark.slow] * (c.name in RELATIVES)) for c in CASES]
)
def test_architecture(case: Case) -> None:
    module = seeded(case.make)
    net = Network.of(module, size=case.size)
    x = images(3, 3, *case.size)
    with untouched(module):
        assert net.is_graph
        assert_same_answers(net, module, x, case.rtol)
        assert_same_points(net, module, x, case.rtol)
        trace = net.trace(x, [case.point, *case.of])
        assert trace[case.point].std() > 0
        assert torch.equal(trace[case.point], case.by(*(trace[name] for name in case.of)))
        assert all(point.layout.has_units for point in net.points.values() if point.name in case.of)
