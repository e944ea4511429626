"""A small residual network for pictures of 32 to 224 pixels.

He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015: basic blocks, the projection where a
stage begins. With 128 pixels it has 2.8 million parameters and makes 0.14 billion multiply-adds.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from inward.errors import CallError
from inward.nets.activations import activation, normalization, pieces_of

WIDTHS = (32, 64, 128, 256)
# From this size on the first layer and a pooling halve the picture, as in the paper.
_LARGE = 64


class Block(nn.Module):
    """Two 3x3 convolutions and what goes around them."""

    def __init__(self, given: int, width: int, stride: int, kind: str, norm: str) -> None:
        super().__init__()
        wide = width * pieces_of(kind)
        self.conv1 = nn.Conv2d(given, wide, 3, stride, 1, bias=False)
        self.norm1 = normalization(norm, wide)
        self.act1 = activation(kind)
        self.conv2 = nn.Conv2d(width, wide, 3, 1, 1, bias=False)
        self.norm2 = normalization(norm, wide)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or given != wide:
            self.shortcut = nn.Sequential(nn.Conv2d(given, wide, 1, stride, bias=False), normalization(norm, wide))
        self.act2 = activation(kind)

    def forward(self, x: Tensor) -> Tensor:
        changed = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        return self.act2(changed + self.shortcut(x))


class ResNet(nn.Module):
    """A first layer, four stages of blocks, the mean over positions, and a linear layer.

    Args:
        channels, classes: of the pictures, and of the answers.
        size: of the pictures in pixels, which decides how much the first layer reduces.
        kind: the name of the activation.
        norm: batch, group or none.
        widths, blocks: of each stage.

    Raises:
        CallError: for an unknown name, or widths and blocks that are not as many.
    """

    def __init__(
        self,
        channels: int = 3,
        classes: int = 10,
        size: int = 128,
        kind: str = "relu",
        norm: str = "batch",
        widths: Sequence[int] = WIDTHS,
        blocks: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        if not widths or len(widths) != len(blocks):
            raise CallError(f"there are {len(widths)} widths for {len(blocks)} numbers of blocks; give one a stage")
        first, large = widths[0], size >= _LARGE
        wide = first * pieces_of(kind)
        self.conv = nn.Conv2d(channels, wide, 3, 2 if large else 1, 1, bias=False)
        self.norm = normalization(norm, wide)
        self.act = activation(kind)
        self.pool: nn.Module = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        given = first
        self.stages = len(widths)
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage = []
            for i in range(count):
                stage.append(Block(given, width, 2 if number and i == 0 else 1, kind, norm))
                given = width
            self.add_module(f"stage{number + 1}", nn.Sequential(*stage))
        self.fc = nn.Linear(given, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm(self.conv(x))))
        for number in range(self.stages):
            x = getattr(self, f"stage{number + 1}")(x)
        return self.fc(x.mean((2, 3)))
