"""Attention rollout: the product of the paper, from the weights that the network itself computed."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import conv_net, network
from inward import CallError, InwardWarning, Network
from inward.methods.rollout import attention_rollout
from inward.network.load import import_torchvision
from networks import DataBranch
from same import images, seeded
from tiny_transformers import Attention, TinyViT

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (12, 8)
GRID = (3, 2)
# Products of 2 by 7 tokens in float64, in another order.
EXACT = 1e-12

FUSIONS = {"mean": lambda heads: sum(heads) / len(heads), "max": lambda h: torch.stack(h).amax(0)}
FUSIONS["min"] = lambda h: torch.stack(h).amin(0)


def slow(layers: list[Tensor], fusion: str = "mean") -> Tensor:
    """The rollout (tokens, tokens) of one image from (heads, tokens, tokens) of every layer, as the paper has it."""
    count = layers[0].shape[-1]
    found = torch.eye(count, dtype=torch.float64)
    for heads in layers:
        fused = FUSIONS[fusion](list(heads.double()))
        mixed = 0.5 * fused + 0.5 * torch.eye(count, dtype=torch.float64)
        for row in range(count):
            mixed[row] = mixed[row] / mixed[row].sum()
        found = torch.stack([sum(mixed[i, j] * found[j] for j in range(count)) for i in range(count)])
    return found


def layers_of(module: nn.Module, x: Tensor) -> list[Tensor]:
    """What the attentions of a module kept of a run: (N, heads, tokens, tokens) each."""
    with torch.no_grad():
        module(x)
    return [m.weights for m in module.modules() if isinstance(m, Attention) and m.weights is not None]


def in_steps(read: str) -> Any:
    return seeded(lambda: TinyViT(read, fused=False)).double()


@functools.cache
def made(read: str, fused: bool) -> Network:
    """In float64, with the weights of :func:`in_steps`."""
    module: Any = seeded(lambda: TinyViT(read, fused=fused)).double()
    module.load_state_dict(in_steps(read).state_dict())
    return network(module, SIZE)


ROWS = {"class": [0], "patches": list(range(6)), "both": [0, 1]}


@pytest.mark.parametrize(("read", "fused"), [("class", True), ("class", False), ("patches", True), ("both", False)])
def test_is_the_product_of_the_paper(read: str, fused: bool) -> None:
    plain, x = in_steps(read), images(2, 3, *SIZE, dtype=torch.float64)
    layers = layers_of(plain, x)
    found = attention_rollout(made(read, fused), x, target="class:3")
    assert len(layers) == 2
    for i in range(2):
        rows = slow([layer[i] for layer in layers])[ROWS[read]].mean(0)
        patches = rows[plain.extra :].view(GRID)
        assert (found.values[i, 0] - patches).abs().max() <= EXACT
        assert abs(found.measured["share_of_patches"][i] - patches.sum()) <= EXACT
    assert torch.allclose(found.values.sum((1, 2, 3)), found.measured["share_of_patches"], rtol=EXACT)
    assert (found.measured["share_of_patches"] < 0.999).all() == (read != "patches")
    assert (found.kind, found.at) == ("amount", "")


@pytest.mark.parametrize("fusion", ["max", "min"])
def test_heads_are_fused_as_asked_for(fusion: Any) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    layers = layers_of(in_steps("class"), x)
    found = attention_rollout(made("class", fused=False), x, head_fusion=fusion).values
    for i in range(2):
        rows = slow([layer[i] for layer in layers], fusion)
        assert (found[i, 0] - rows[0, 1:].view(GRID)).abs().max() <= EXACT
        assert (rows - slow([layer[i] for layer in layers])).abs().max() > 1e-3


@pytest.fixture(scope="module")
def tiny() -> Network:
    return network(seeded(TinyViT), SIZE)


def test_only_the_layers_before_the_target_count(tiny: Network) -> None:
    x = images(2, 3, *SIZE)
    whole = [attention_rollout(tiny, x, target=t) for t in ("class:0", "class:4", None)]
    assert torch.equal(whole[0].values, whole[1].values)
    assert torch.equal(whole[0].values, whole[2].values)
    assert not torch.equal(whole[0].scores, whole[1].scores)
    assert "does not depend on which class or unit" in whole[0].record.notes[-1]
    # Of a token behind the first attention, the mean over all tokens of one layer.
    layer = layers_of(in_steps("class"), x.double())[0]
    first = attention_rollout(made("class", fused=False), x.double(), target="blocks.0/3").values
    expected = torch.stack([slow([heads]).mean(0)[1:].view(GRID) for heads in layer])
    assert (first[:, 0] - expected).abs().max() <= EXACT
    with pytest.raises(CallError, match=r"has no attention before blocks\.0\.norm1/3; use grad-cam"):
        attention_rollout(tiny, x, target="blocks.0.norm1/3")


def test_alone_as_in_a_batch_and_in_float32_as_in_float64(tiny: Network) -> None:
    x = images(3, 3, *SIZE)
    whole = attention_rollout(tiny, x).values
    for i in range(3):
        assert torch.equal(attention_rollout(tiny, x[i : i + 1]).values, whole[i : i + 1])
    long = attention_rollout(made("class", fused=True), x.double()).values
    assert (whole.dtype, long.dtype) == (torch.float32, torch.float64)
    assert (whole - long).abs().max() <= 1e-6
    assert (long[0] - long[1]).abs().max() > 1e-4


def test_a_head_of_zeros_is_read_all_the_same(tiny: Network) -> None:
    module: Any = seeded(TinyViT)
    expected = attention_rollout(tiny, images(2, 3, *SIZE)).values
    nn.init.zeros_(module.head.weight)
    assert torch.equal(attention_rollout(network(module, SIZE), images(2, 3, *SIZE)).values, expected)


@contextmanager
def weights_kept(module: nn.Module) -> Iterator[list[Tensor]]:
    """The weights (N, heads, tokens, tokens) of every ``nn.MultiheadAttention`` that runs, by torch's own account."""
    kept: list[Tensor] = []

    def ask(_: nn.Module, args: Any, options: dict) -> Any:
        return args, {**options, "need_weights": True, "average_attn_weights": False}

    handles = []
    for each in module.modules():
        if isinstance(each, nn.MultiheadAttention):
            handles.append(each.register_forward_pre_hook(ask, with_kwargs=True))
            handles.append(each.register_forward_hook(lambda _, args, given: kept.append(given[1])))
    yield kept
    for handle in handles:
        handle.remove()


def test_is_what_torchvisions_own_weights_give() -> None:
    make = import_torchvision().models.VisionTransformer
    module = seeded(
        lambda: make(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)
    ).double()
    x = images(2, 3, 32, 32, dtype=torch.float64)
    found = attention_rollout(network(module, (32, 32)), x).values
    with weights_kept(module) as kept, torch.no_grad():
        module(x)
    assert [tuple(k.shape) for k in kept] == [(2, 2, 17, 17)] * 2
    for i in range(2):
        expected = slow([layer[i] for layer in kept])[0, 1:].view(4, 4)
        assert (found[i, 0] - expected).abs().max() <= EXACT


class Masked(TinyViT):
    """Its attention has a bias, a scale of its own, and is causal in the second block."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(1, 2, 7, 7))

    def forward(self, x: Tensor, kept: list[Tensor] | None = None) -> Tensor:
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), self.patches(x).flatten(2).transpose(1, 2)], 1)
        for i, options in enumerate(({"attn_mask": self.bias, "scale": 2.0}, {"is_causal": True})):
            attention: Any = self.blocks[i].attn
            parts = [p.unflatten(-1, (2, -1)).transpose(1, 2) for p in attention.qkv(tokens).chunk(3, -1)]
            if kept is not None:
                ones = torch.eye(7, dtype=x.dtype).expand(*parts[0].shape[:2], 7, 7)
                kept.append(F.scaled_dot_product_attention(parts[0], parts[1], ones, **options))  # type: ignore[arg-type]
            mixed = F.scaled_dot_product_attention(parts[0], parts[1], parts[2], **options)  # type: ignore[arg-type]
            tokens = tokens + attention.out(mixed.transpose(1, 2).flatten(2))
        return self.head(tokens.mean(1))


def test_masks_scales_and_causality_are_followed() -> None:
    module: Any = seeded(Masked).double()
    x = images(2, 3, *SIZE, dtype=torch.float64)
    kept: list[Tensor] = []
    # The attention of the rows of the identity is its own weights.
    with torch.no_grad():
        module(x, kept)
    assert kept[1][:, :, 0, 1:].abs().max() == 0
    found = attention_rollout(network(module, SIZE), x).values
    for i in range(2):
        expected = slow([layer[i] for layer in kept]).mean(0)[1:].view(GRID)
        assert (found[i, 0] - expected).abs().max() <= EXACT


class Odd(TinyViT):
    """The same with something that is no attention of all tokens to all."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.kind == "channels":
            weights = tokens.softmax(-1)
            return self.head(self.blocks(tokens * weights).mean(1))
        if self.kind == "pooled":
            mixed = F.scaled_dot_product_attention(tokens.mean(1, keepdim=True), tokens, tokens)
            return self.head(mixed[:, 0])
        if self.kind == "windows":
            rows = tokens.unflatten(1, (3, 2)).flatten(0, 1)[:, None]
            mixed = F.scaled_dot_product_attention(rows, rows, rows)
            return self.head(mixed[:, 0].unflatten(0, (-1, 3)).mean((1, 2)))
        if self.kind == "fewer":
            return self.head(self.blocks(self.blocks(tokens)[:, ::2]).mean(1))
        weights = (tokens @ tokens.transpose(1, 2)).softmax(1)
        return self.head((weights @ tokens).mean(1))


REFUSED: dict[str, tuple[Any, str]] = {
    "convolutions": (conv_net, "ConvNet has no attention before class:0; use grad-cam"),
    "windows": (
        lambda: Odd("windows"),
        "attends within windows, so that no token looks at the whole image; use grad-cam",
    ),
    "a softmax of features": (lambda: Odd("channels"), "'softmax' may be an attention, of a kind that is not known"),
    "a softmax of columns": (lambda: Odd("columns"), "'softmax' may be an attention, of a kind that is not known"),
    "pooled by attention": (lambda: Odd("pooled"), "looks from 1 to 6 tokens, not from all to all"),
    "fewer tokens": (lambda: Odd("fewer"), r"among \[3, 6\] tokens, not always the same ones"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_followed_is_refused(case: str) -> None:
    make, reason = REFUSED[case]
    with pytest.raises(CallError, match=reason):
        attention_rollout(network(seeded(make), SIZE), images(2, 3, *SIZE), target="class:0")


def test_senseless_options_are_refused(tiny: Network) -> None:
    with pytest.raises(CallError, match="not fused by 'median'; write mean, max or min"):
        attention_rollout(tiny, images(2, 3, *SIZE), head_fusion="median")  # type: ignore[arg-type]
    net = network(seeded(DataBranch), SIZE)
    with pytest.warns(InwardWarning, match="cannot be exported"):
        assert not net.is_graph
    with pytest.raises(CallError, match="needs the network's graph, and there is none"):
        attention_rollout(net, images(2, 3, *SIZE))
