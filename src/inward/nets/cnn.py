"""A small convolutional network for MNIST and its like."""

from __future__ import annotations

from torch import Tensor, nn

from inward.errors import CallError
from inward.nets.activations import activation, normalization, pieces_of


class CNN(nn.Module):
    """Two pairs of convolutions, each with a pooling, and two linear layers.

    Args:
        channels, classes: of the pictures, and of the answers.
        size: of the pictures in pixels; 8 or more.
        kind: the name of the activation.
        norm: batch, group or none.
        width: channels of the first pair; the second has twice as many.

    Raises:
        CallError: for an unknown name, or a size below 8.
    """

    def __init__(
        self,
        channels: int = 1,
        classes: int = 10,
        size: int = 28,
        kind: str = "relu",
        norm: str = "none",
        width: int = 32,
    ) -> None:
        super().__init__()
        if size < 8:
            raise CallError(f"this network takes pictures of 8 pixels or more, not {size}")
        pieces = pieces_of(kind)

        def layer(given: int, made: int, stride: int) -> nn.Sequential:
            wide = made * pieces
            return nn.Sequential(
                nn.Conv2d(given, wide, 3, stride, 1, bias=norm == "none"), normalization(norm, wide), activation(kind)
            )

        self.layer1, self.layer2 = layer(channels, width, 1), layer(width, width, 2)
        self.layer3, self.layer4 = layer(width, 2 * width, 1), layer(2 * width, 2 * width, 2)
        side = (size + 3) // 4
        self.fc1 = nn.Linear(2 * width * side * side, 128 * pieces)
        self.act = activation(kind)
        self.fc2 = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc2(self.act(self.fc1(x.flatten(1))))
