"""A small vision transformer with the ways of writing attention that are found in the wild."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH, HEADS, PATCH = 8, 2, 4


class Attention(nn.Module):
    """Attention that is one operation (``fused``) or three, with one projection (``joint``) or three.

    It keeps the weights of its last run, (N, heads, tokens, tokens), where it is not fused.
    """

    def __init__(self, fused: bool, joint: bool) -> None:
        super().__init__()
        self.fused = fused
        if joint:
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        else:
            self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.joint = joint
        self.out = nn.Linear(WIDTH, WIDTH)
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).chunk(3, -1) if self.joint else (self.query(x), self.key(x), self.value(x))
        query, key, value = (p.unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in parts)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
            weights = scores.softmax(-1)
            self.weights = weights
            mixed = F.dropout(weights, 0.5, self.training) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, fused: bool, joint: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = Attention(fused, joint)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 12), nn.GELU(), nn.Linear(12, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TinyViT(nn.Module):
    """Patches of 4 x 4 pixels, two blocks, five classes.

    ``read`` says what is answered from: the ``class`` token, the mean of the ``patches`` (no class
    token), or ``both``, of two class tokens.
    """

    def __init__(self, read: str = "class", fused: bool = True, joint: bool = True, grid: tuple[int, int] = (3, 2)):
        super().__init__()
        self.read = read
        self.extra = {"class": 1, "patches": 0, "both": 2}[read]
        self.patches = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.randn(1, self.extra, WIDTH))
        self.position = nn.Parameter(torch.randn(1, self.extra + grid[0] * grid[1], WIDTH))
        self.blocks = nn.Sequential(Block(fused, joint), Block(fused, joint))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), patches], 1) + self.position
        tokens = self.norm(self.blocks(tokens))
        answered = {"class": tokens[:, 0], "patches": tokens.mean(1), "both": tokens[:, :2].mean(1)}
        return self.head(answered[self.read])


class DeadViT(TinyViT):
    """The head says the same whatever comes: no gradient comes back."""

    def __init__(self) -> None:
        super().__init__(grid=(2, 2))
        self.head.weight = nn.Parameter(torch.full_like(self.head.weight, 0.5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * 1e-30)
