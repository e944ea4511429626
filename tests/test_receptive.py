"""Receptive fields: no box is too small, and those of convolutional networks are exact.

What a neuron sees is measured: all weights are positive, the picture is black but for one row or one
column, and a neuron that answers sees it. The numbers are float64, so that none vanishes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from inward import CallError, Network
from inward.nets.inception_v1 import inception_v1
from inward.network.edit import redirect_relus
from inward.network.load import import_torchvision
from inward.network.receptive import Box, Steps, receptive_field, receptive_fields
from networks import DataBranch
from same import seeded

pytestmark = pytest.mark.usefixtures("single_thread")


def positive(module: nn.Module) -> nn.Module:
    """With weights whose sums over the inputs are about 1, and no bias: no value is lost or explodes."""
    for path, parameter in module.named_parameters():
        with torch.no_grad():
            if path.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim > 1:
                parameter.copy_(parameter.abs() + 0.01)
                parameter.div_(parameter.flatten(1).sum(1).mean())
    return module.double().eval()


def network(make: Callable[[], nn.Module], size: tuple[int, int]) -> Network:
    net = Network.of(positive(seeded(make)), size=size)
    assert net.is_graph
    return net


def seen(net: Network, point: str) -> tuple[Tensor, Tensor]:
    """Which rows of the picture each row of the grid answers to, and which columns: (H, height), (W, width)."""
    height, width = net.size
    lit = torch.zeros(height + width, net.preprocess.channels, height, width, dtype=torch.float64)
    for row in range(height):
        lit[row, :, row] = 1
    for column in range(width):
        lit[height + column, :, :, column] = 1
    with torch.no_grad():
        answer = torch.cat([net.trace(part, point).features(point) for part in lit.split(64)])
    answer = answer.reshape(*answer.shape[:2], *(answer.shape[2:] if answer.ndim == 4 else (1, 1))).amax(1)
    return answer[:height].amax(2).T > 0, answer[height:].amax(1).T > 0


def ends(reads: Tensor) -> list[list[int]]:
    """First and one after the last of what is read."""
    found = [row.nonzero()[:, 0].tolist() for row in reads]
    return [[row[0], row[-1] + 1] if row else [0, 0] for row in found]


def assert_exact(net: Network, point: str) -> None:
    field = receptive_fields(net, [point])[point]
    for intervals, reads in zip((field.rows, field.columns), seen(net, point), strict=True):
        assert intervals.tolist() == ends(reads)


def assert_contains(net: Network, point: str) -> None:
    field = receptive_fields(net, [point])[point]
    for intervals, reads in zip((field.rows, field.columns), seen(net, point), strict=True):
        for (low, high), (first, last) in zip(intervals.tolist(), ends(reads), strict=True):
            assert low <= first <= last <= high or first == last


def model(name: str) -> Callable[[], nn.Module]:
    models = import_torchvision().models
    if name == "small swin":
        return lambda: models.SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4])
    return lambda: models.get_model(name, weights=None)


# Extent, step and start by hand: extents grow by (kernel - 1) steps, starts go back by padding steps.
KNOWN = {
    "conv1": (7, 2, -3),
    "pool": (11, 4, -3),
    "conv2": (19, 4, -7),
    "mixed3a": (59, 8, -23),
    "mixed4a": (171, 16, -71),
}


def test_inception_v1_has_the_published_fields() -> None:
    net = network(inception_v1, (96, 64))
    fields = receptive_fields(net, list(KNOWN))
    for point, (extent, step, start) in KNOWN.items():
        assert fields[point].steps == (Steps(start, step, extent),) * 2, point
        assert_exact(net, point)
    assert receptive_field(net, "conv1/3@5,7") == Box(7, 11, 14, 18)
    assert receptive_field(net, "conv1/3@0,31") == Box(0, 59, 4, 64)
    assert receptive_field(net, "conv1/3@0,31", clip=False) == Box(-3, 59, 4, 66)
    assert receptive_field(net, "mixed3a/0@2,1") == Box(0, 0, 52, 44)
    # The pools round up: the last row of the third looks where there is no row.
    assert fields["pool"].rows[-1].tolist() == [89, 96]
    assert receptive_field(net, "class:7") == receptive_field(net, "mixed4a") == Box(0, 0, 96, 64)


@pytest.mark.parametrize(
    ("name", "size", "points"),
    [
        ("squeezenet1_1", (99, 70), ["features.0", "features.2", "features.6", "features.12"]),
        pytest.param("alexnet", (96, 64), ["features.2", "features.12", "avgpool", "view"], marks=pytest.mark.slow),
        pytest.param("shufflenet_v2_x0_5", (64, 96), ["maxpool", "stage2.0", "stage3"], marks=pytest.mark.slow),
    ],
)
def test_convolutional_networks_are_exact(name: str, size: tuple[int, int], points: list[str]) -> None:
    net = network(model(name), size)
    for point in points:
        assert_exact(net, point)


@functools.cache
def resnet18() -> Network:
    return network(model("resnet18"), (64, 48))


def test_resnet18_is_exact() -> None:
    for point in ("maxpool", "layer1.0.conv1", "layer2", "layer3.0.downsample", "layer4", "fc"):
        assert_exact(resnet18(), point)


def test_strides_of_resnet18() -> None:
    fields = receptive_fields(resnet18(), ["layer1", "layer2", "layer3", "layer4"])
    found = [field.steps[0] for field in fields.values()]
    assert found == [Steps(-21, 4, 43), Steps(-49, 8, 99), Steps(-105, 16, 211), Steps(-217, 32, 435)]


@pytest.mark.parametrize(
    ("name", "size", "exact", "whole"),
    [
        pytest.param("mobilenet_v3_small", (64, 96), "features.0", "features.1", marks=pytest.mark.slow),
        ("convnext_tiny", (64, 96), "features.1.0.block.0", "features.7"),
        ("small swin", (64, 96), "features.0", "features.1.0"),
    ],
)
def test_what_mixes_all_places_sees_the_whole_picture(name: str, size: tuple[int, int], exact: str, whole: str) -> None:
    """Squeeze and excitation, a field larger than the picture, shifted windows."""
    net = Network.of(seeded(model(name)), size=size)
    field = receptive_fields(net, [whole])[whole]
    height, width = field.boxes.shape[:2]
    assert (height, width) != (width, height)
    assert field.boxes.flatten(0, 1).tolist() == [[0, 0, *size]] * (height * width)
    first = receptive_fields(net, [exact])[exact]
    assert first.box((3, 5)).height < size[0]
    assert_gradient_inside(net, exact, (3, 5))


def test_tokens_of_a_vision_transformer_see_everything_after_attention() -> None:
    make = import_torchvision().models.VisionTransformer
    net = network(lambda: make(48, 8, 1, 2, 16, 32), (48, 48))
    assert receptive_field(net, "conv_proj/3@2,4") == Box(16, 32, 24, 40)
    assert receptive_field(net, "encoder/3@2,4") == Box(0, 0, 48, 48)
    assert receptive_field(net, "heads/1") == Box(0, 0, 48, 48)


def assert_gradient_inside(net: Network, point: str, place: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *net.size, generator=torch.Generator().manual_seed(3)).to(net.dtype).requires_grad_(True)
    value = net.trace(x, point).features(point)[:, :, place[0], place[1]].sum()
    (gradient,) = torch.autograd.grad(value, x)
    box = receptive_field(net, f"{point}/0@{place[0]},{place[1]}")
    inside = gradient[:, :, box.top : box.bottom, box.left : box.right]
    assert inside.count_nonzero() > 0
    assert inside.count_nonzero() == gradient.count_nonzero()


class Chain(nn.Module):
    """Operations one after another, each a function."""

    def __init__(self, steps: list[Callable[[Tensor], Tensor]], features: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, features, 1)
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        for step in self.steps:
            y = step(y)
        return y * 1.5


def filtered(y: Tensor, kernel: tuple[int, int], **options: Any) -> Tensor:
    weight = torch.ones(y.shape[1], 1, *kernel, dtype=y.dtype)
    function = F.conv_transpose2d if "output_padding" in options else F.conv2d
    return function(y, weight, groups=y.shape[1], **options)


def tokens(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2)


STEPS: dict[str, Callable[[Tensor], Tensor]] = {
    "convolution": lambda y: filtered(y, (3, 5), stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
    "same": lambda y: filtered(y, (4, 3), padding="same"),
    "more padding than kernel": lambda y: filtered(y, (1, 1), padding=(2, 1)),
    "stride over rows": lambda y: filtered(y, (1, 2), stride=(3, 4)),
    "transposed": lambda y: filtered(y, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
    "max pool rounded up": lambda y: F.max_pool2d(y, (3, 2), (2, 3), (1, 0), ceil_mode=True),
    "max pool dilated": lambda y: F.max_pool2d(y, 2, 1, 0, (2, 3)),
    "max pool with indices": lambda y: F.max_pool2d(y, 3, 2, return_indices=True)[0],
    "average pool": lambda y: F.avg_pool2d(y, 3, 2, 1, ceil_mode=True),
    "adaptive pool": lambda y: F.adaptive_avg_pool2d(y, (3, 4)),
    "adaptive max pool": lambda y: F.adaptive_max_pool2d(y, (4, 3)),
    "nearest": lambda y: F.interpolate(y, scale_factor=1.5, mode="nearest"),
    "bilinear": lambda y: F.interpolate(y, (13, 17), mode="bilinear", align_corners=False),
    "zeros around": lambda y: F.pad(y, (1, 2, 0, 3)),
    "zeros between features": lambda y: F.pad(y, (0, 0, 0, 0, 1, 1)),
    "cropped": lambda y: F.pad(y, (-1, -2, -3, 0)),
    "mirrored": lambda y: F.pad(y, (2, 1, 3, 0), mode="reflect"),
    "edges repeated": lambda y: F.pad(y, (2, 1, 3, 0), mode="replicate"),
    "every second": lambda y: y[:, :, 1:-1:2, ::3],
    "one row": lambda y: y + y[:, :, 2:3],
    "one selected row": lambda y: y + y[:, :, 3].unsqueeze(2),
    "row means beside": lambda y: torch.cat([y, y.mean(3, keepdim=True).expand_as(y)], 1),
    "row means removed": lambda y: y + y.mean(2).unsqueeze(2),
    "features last": lambda y: F.layer_norm(y.permute(0, 2, 3, 1), (2,)).permute(0, 3, 1, 2) + y,
    "linear features": lambda y: F.linear(y.transpose(1, 3), torch.ones(2, 2, dtype=y.dtype)).transpose(1, 3),
    "tokens and back": lambda y: (tokens(y) @ torch.ones(2, 2, dtype=y.dtype)).transpose(1, 2).reshape(y.shape),
    "halves of features": lambda y: torch.cat(y.split(1, 1)[::-1], 1) + y.chunk(2, 1)[0],
    "branches of other fields": lambda y: filtered(y, (3, 3), padding=1) + filtered(y, (1, 5), padding=(0, 2)),
    "activations": lambda y: F.gelu(F.hardswish(F.prelu(y, torch.ones(2, dtype=y.dtype)))),
    "global mean": lambda y: y + y.mean((2, 3), keepdim=True),
}
# Their boxes may be larger than what is seen: these see the whole picture, whatever they do.
CAREFUL: dict[str, Callable[[Tensor], Tensor]] = {
    "rolled": lambda y: y.roll((1, 2), (2, 3)),
    "flipped": lambda y: y.flip(2),
    "attention": lambda y: (tokens(y) @ y.flatten(2) @ tokens(y)).transpose(1, 2).reshape(y.shape),
    "rows and columns exchanged": lambda y: y.reshape(y.shape[0], 2, y.shape[3], y.shape[2]).transpose(2, 3),
    "sorted": lambda y: y.sort(2).values,
    "softmax of columns": lambda y: y * y.softmax(3),
    "added up": lambda y: y.cumsum(3),
    "side by side": lambda y: torch.cat([y, y], 3),
    "shuffled pixels": lambda y: F.pixel_shuffle(torch.cat([y, y], 1), 2),
    "written into": lambda y: torch.slice_scatter(y, y[:, :, :2] * 2, 2, 1, 3),
    "gathered": lambda y: y.gather(2, y.argsort(2)),
}


def before_and_behind(step: Callable[[Tensor], Tensor]) -> list[Callable[[Tensor], Tensor]]:
    """Between convolutions, so that intervals come in and go on."""
    return [
        lambda y: F.relu(filtered(y, (3, 2), stride=(1, 2), padding=(1, 0))),
        step,
        lambda y: filtered(y, (2, 3), padding=1),
    ]


@pytest.mark.parametrize("name", STEPS)
def test_each_operation_is_exact(name: str) -> None:
    net = network(lambda: Chain(before_and_behind(STEPS[name])), (18, 30))
    assert_exact(net, last(net))


@pytest.mark.parametrize("name", CAREFUL)
def test_operations_that_are_not_followed_see_everything(name: str) -> None:
    net = network(lambda: Chain(before_and_behind(CAREFUL[name])), (18, 30))
    assert_contains(net, last(net))


def last(net: Network) -> str:
    """The point of the output."""
    return next(p.name for p in net.points.values() if p.node == net.graph(net.size).outputs[0])


windows = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2), st.booleans(), st.booleans()
)


def one_window(y: Tensor, window: tuple[int, int, int, int, bool, bool]) -> Tensor:
    kernel, stride, padding, dilation, pool, turned = window
    padding = min(padding, kernel // 2) if pool else padding
    sides = (kernel, 1) if turned else (1, kernel)
    strides = (stride, 2) if turned else (1, stride)
    if min(y.shape[2:]) < 8:
        return y
    if pool:
        around = (padding, 0) if turned else (0, padding)
        return F.max_pool2d(y, sides, strides, around, dilation, ceil_mode=True)
    return filtered(y, sides, stride=strides, padding=padding, dilation=dilation)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(windows, min_size=2, max_size=4))
def test_chains_of_windows_are_exact(chain: list[tuple[int, int, int, int, bool, bool]]) -> None:
    net = network(lambda: Chain([lambda y, w=w: one_window(y, w) for w in chain]), (25, 34))
    assert_exact(net, last(net))
    field = receptive_fields(net, [last(net)])[last(net)]
    for intervals, steps, size in zip((field.rows, field.columns), field.steps, net.size, strict=True):
        assert steps is not None
        # The affine map, cut to the picture, holds the box (strides that skip pixels can make it larger).
        for i, (low, high) in enumerate(intervals.tolist()):
            start = steps.start + steps.step * i
            assert low == high or max(start, 0) <= low < high <= min(start + steps.extent, size)


def test_affine_maps_are_the_boxes_inside_the_picture() -> None:
    net = resnet18()
    field = receptive_fields(net, ["layer1"])["layer1"]
    boxes = field.boxes
    assert boxes.shape == (16, 12, 4)
    inner = [field.unclipped((y, x)) for y in range(16) for x in range(12)]
    assert [[b.top, b.left, b.bottom, b.right] for b in (i.within(net.size) for i in inner)] == boxes.view(
        -1, 4
    ).tolist()
    assert {(b.height, b.width) for b in inner} == {(43, 43)}
    tops = [field.unclipped((y, 0)).top for y in range(16)]
    assert {b - a for a, b in pairwise(tops)} == {4}
    assert field.unclipped() == Box(-21, -21, -21 + 15 * 4 + 43, -21 + 11 * 4 + 43)


def test_interpolation_has_no_affine_map() -> None:
    net = network(lambda: Chain([STEPS["bilinear"]]), (10, 12))
    field = receptive_fields(net, [last(net)])[last(net)]
    assert field.steps == (None, None)
    assert field.unclipped((3, 4)) == field.box((3, 4)) != field.box()


def test_another_size_has_fields_of_its_own() -> None:
    net = resnet18()
    assert receptive_field(net, "layer4", (64, 128)) == Box(0, 0, 64, 128)
    assert receptive_field(net, "layer1/0@9,31", (64, 128)) == Box(15, 103, 58, 128)


def test_an_edited_network_has_the_same_fields() -> None:
    net = network(inception_v1, (96, 64))
    field, edited = (receptive_fields(n, ["mixed3b"])["mixed3b"] for n in (net, net.edit(redirect_relus)))
    assert torch.equal(field.boxes, edited.boxes)
    assert field.steps == edited.steps
    assert field.box((5, 3)).height < 96


@pytest.mark.filterwarnings("ignore")
def test_without_a_graph_every_unit_sees_the_whole_picture() -> None:
    net = Network.of(seeded(DataBranch), size=(12, 20))
    assert not net.is_graph
    assert receptive_field(net, "conv/1@3,4") == Box(0, 0, 12, 20)


def test_a_value_that_sees_only_padding_has_an_empty_box() -> None:
    net = network(lambda: Chain([STEPS["more padding than kernel"]]), (8, 9))
    box = receptive_field(net, f"{last(net)}/0@0,5")
    assert box.height == 0
    assert receptive_field(net, f"{last(net)}/0@2,5") == Box(0, 4, 1, 5)


def test_unknown_points_are_refused() -> None:
    net = network(lambda: Chain([]), (8, 9))
    with pytest.raises(CallError, match="has no point 'nowhere'"):
        receptive_field(net, "nowhere/3")
    with pytest.raises(CallError, match="lies outside the grid"):
        receptive_field(net, "conv/1@8,0")
