"""The edit behind DeepLift: shares that add up for every operation, whatever its spelling; and what has no rule."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import network
from inward import CallError, Network, saliency
from inward.methods.deeplift import deeplift
from inward.network.graph import Graph
from inward.network.load import import_torchvision
from inward.network.rescale import reference_of, rescale
from same import images, seeded

SIZE = (9, 7)
# Sums of some thousand shares in float64, some of them far larger than what they add up to.
EXACT = 1e-11


pytestmark = pytest.mark.usefixtures("single_thread")


def pictures(count: int = 3) -> Tensor:
    x = images(count, 3, *SIZE, dtype=torch.float64)
    # As in the baseline: neither these pixels nor what only they lead to has a difference.
    x[:, :, :4, :3] = 0
    return x


def missed(net: Network, x: Tensor, target: str, **options: Any) -> float:
    """How much of the difference of the scores the shares miss, computed anew, as a share of all that they carry."""
    found = deeplift(net, x, target=target, **options)
    black = saliency(net, torch.zeros_like(x), target=target).scores
    change = found.scores - black
    shares = found.values.flatten(1)
    assert (change.abs() > 0).all()
    return ((shares.sum(1) - change).abs() / shares.abs().sum(1)).max().item()


def elementary_layer_norm(h: Tensor) -> Tensor:
    apart = h - h.mean(-1, keepdim=True)
    return apart / (apart.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def elementary_response_norm(h: Tensor) -> Tensor:
    square = F.pad(h.pow(2).unsqueeze(1), (0, 0, 0, 0, 2, 2))
    return h / (1.5 + 0.5 * F.avg_pool3d(square, (5, 1, 1), 1).squeeze(1)) ** 0.75


def spelled_pool(h: Tensor) -> Tensor:
    return -F.pad(-h, (0, 1, 1, 1), value=9e9).unfold(2, 3, 2).unfold(3, 2, 2).flatten(4).amin(-1)


def table(h: Tensor) -> Tensor:
    return torch.linspace(-1, 1, 32, dtype=h.dtype).view(8, 4)


def heads(h: Tensor) -> list[Tensor]:
    return [t.unflatten(1, (2, 4)).flatten(3).transpose(2, 3) * s for t, s in ((h, 1), (h.cos(), 1), (h.tanh(), 2))]


def spelled_attention(h: Tensor) -> Tensor:
    q, k, v = heads(h)
    return ((q * 0.5) @ k.transpose(-2, -1)).softmax(-1) @ v


def causal_by_mask(h: Tensor) -> Tensor:
    mask = torch.full((63, 63), -torch.inf, dtype=h.dtype).triu(1)
    q, k, v = heads(h)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


# Of (N, 8, 9, 7); what stands in one row is the same function, and must be the same to the method.
BRANCHES: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "layer_norm": (lambda h: F.layer_norm(h, (7,)), elementary_layer_norm),
    "group_norm": (
        lambda h: F.group_norm(h, 2),
        lambda h: F.layer_norm(h.unflatten(1, (2, 4)), (4, 9, 7)).flatten(1, 2),
    ),
    "instance_norm": (lambda h: F.instance_norm(h), lambda h: F.group_norm(h, 8)),
    "rms_norm": (
        lambda h: F.rms_norm(h, (7,), eps=1e-3),
        lambda h: h * (h * h).mean(-1, keepdim=True).add(1e-3).rsqrt(),
    ),
    "response_norm": (lambda h: F.local_response_norm(h, 5, 0.5, 0.75, 1.5), elementary_response_norm),
    "attention": (lambda h: F.scaled_dot_product_attention(*heads(h)), spelled_attention),
    "causal": (lambda h: F.scaled_dot_product_attention(*heads(h), is_causal=True), causal_by_mask),
    "softmax": (lambda h: (3 * h).softmax(1), lambda h: (3 * h).log_softmax(1).exp()),
    "euclidean": (lambda h: F.normalize(h, dim=1), lambda h: h / h.square().sum(1, keepdim=True).sqrt()),
    "gates": (lambda h: F.glu(h, 1), lambda h: h[:, :4] * h[:, 4:].sigmoid()),
    "squeeze": (
        lambda h: h * h.mean((2, 3), keepdim=True).sigmoid(),
        lambda h: torch.einsum("nchw,nc->nchw", h, h.mean((2, 3)).sigmoid()),
    ),
    "square": (lambda h: h * h, lambda h: h**2),
    "quotient": (lambda h: h.sin() / (1 + h.exp()), lambda h: h.sin() * (1 + h.exp()).reciprocal()),
    "pool": (lambda h: F.max_pool2d(h, (3, 2), 2, (1, 0), ceil_mode=True), spelled_pool),
    "adaptive pool": (lambda h: F.adaptive_max_pool2d(h, 1), lambda h: h.amax((2, 3), keepdim=True)),
    "larger": (lambda h: torch.maximum(h, h.cos()), lambda h: torch.stack([h, h.cos()]).max(0).values),
    "smaller": (lambda h: torch.minimum(h, h.cos()), lambda h: -torch.maximum(-h, -h.cos())),
    "over a constant": (lambda h: h.clamp(min=0.1), lambda h: torch.maximum(h, torch.full_like(h, 0.1))),
    "bent": (lambda h: F.hardswish(5 * h), lambda h: 5 * h * F.relu6(5 * h + 3) / 6),
    "chosen": (
        lambda h: torch.where(torch.arange(7) > 3, h.tanh(), h.relu()),
        lambda h: torch.cat([h[..., :4].relu(), h[..., 4:].tanh()], -1),
    ),
    "detached": (lambda h: h.exp().detach(), lambda h: h.exp()),
    "sequence": (
        lambda h: h.flatten(2).permute(2, 0, 1).tanh() @ table(h),
        lambda h: table(h).T @ h.tanh().flatten(2),
    ),
}


class Branches(nn.Module):
    """Class 2 k is the k-th row of the table, class 2 k + 1 the same, spelled otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = 2 * self.conv(x)
        rows = [f(h) for pair in BRANCHES.values() for f in pair]
        # A sequence has the batch second, and features last.
        rows = [r.permute(1, 2, 0) if r.shape[0] == 63 else r for r in rows]
        return torch.stack([(r.flatten(1) * torch.arange(r[0].numel()).cos()).sum(1) for r in rows], 1)


@functools.cache
def branches() -> Network:
    net = network(seeded(Branches).double(), SIZE)
    assert net.is_graph
    return net


@pytest.mark.parametrize("name", BRANCHES)
def test_shares_add_up_whatever_the_operation(name: str) -> None:
    net, x, place = branches(), pictures(), 2 * list(BRANCHES).index(name)
    logits = net(x)
    # Both are the same function, but for rounding.
    assert (logits[:, place] - logits[:, place + 1]).abs().max() <= 1e-9
    for unit in (place, place + 1):
        assert missed(net, x, f"class:{unit}") <= EXACT
    one, other = (deeplift(net, x, target=f"class:{place + k}").values for k in range(2))
    assert (one - other).abs().max() <= 1e-9 * one.abs().max()


UNRULED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "sort": (lambda h: h.sort(3).values, r"'sort\.0', since no rule is known for sort"),
    "cumprod": (lambda h: h.cumprod(1), "'cumprod', since no rule is known for cumprod"),
    "where": (lambda h: torch.where(h > 0, h, h * h), "'where', since it decides by a condition"),
    "mask": (lambda h: h * (h > 0.1), r"'mul\S*', since it decides by a condition or an index"),
    "einsum": (lambda h: torch.einsum("nchw,nchw,nchw->nchw", h, h, h), "'einsum', since it is a product of more"),
    "norm": (lambda h: h.norm(p=3, dim=1, keepdim=True), "since its parameters are not those that its rule is for"),
    "index": (lambda h: F.max_pool2d(h, 2, return_indices=True)[1] * h.mean(), "since only the first of its results"),
}


class Unruled(nn.Module):
    """Class k is behind an operation without a rule, and behind a point of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.behind = nn.Conv2d(3, 8, 3, padding=1), nn.ModuleList(nn.Tanh() for _ in UNRULED)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        rows = [act(f(h)) for act, (f, _) in zip(self.behind, UNRULED.values(), strict=True)]
        return torch.stack([r.flatten(1).mean(1) for r in rows], 1)


@functools.cache
def without_rules() -> Network:
    return network(seeded(Unruled).double(), SIZE)


@pytest.mark.parametrize("name", UNRULED)
def test_what_has_no_rule_is_refused_by_its_address(name: str) -> None:
    net, x, place = without_rules(), pictures(), list(UNRULED).index(name)
    with pytest.raises(CallError, match=f"deeplift cannot go through .*{UNRULED[name][1]}.*; attribute to a point"):
        deeplift(net, x, target=f"behind.{place}")
    # Behind it, nothing is in the way.
    found = deeplift(net, x, target=f"class:{place}", at=f"behind.{place}")
    change = found.scores - saliency(net, x * 0, target=f"class:{place}").scores
    assert (found.values.flatten(1).sum(1) - change).abs().max() <= 1e-12


def test_what_the_baselines_give_is_constant() -> None:
    net, x = branches().edit(rescale), pictures()
    graph = net.graph(SIZE)
    assert isinstance(graph, Graph)
    names = [net.points["conv"].node, graph.outputs[0]]
    both = torch.cat([x, x.flip(0)]).requires_grad_(True)
    values = graph.run(both, [*names, *(reference_of(graph, name) for name in names)])
    # Memory for their gradients would be half of all.
    assert [v.requires_grad for v in values] == [True, True, False, False]
    for value, reference in (values[:3:2], values[1::2]):
        assert (value.flip(0) - reference).abs().max() <= 1e-12 * value.abs().max()


def test_before_it_nothing_is_in_the_way() -> None:
    assert missed(without_rules(), pictures(), "conv/1") <= EXACT


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "swin": lambda: import_torchvision().models.SwinTransformer([4, 4], 12, [2], [2], [4, 4], num_classes=9),
    "vit": lambda: import_torchvision().models.VisionTransformer(32, 8, 1, 2, 12, 24, num_classes=9),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_real_architectures(name: str) -> None:
    net = network(seeded(ARCHITECTURES[name]).double(), (32, 32))
    x = images(2, 3, 32, 32, dtype=torch.float64)
    assert missed(net, x, "class:5") <= EXACT
