"""The shapes that travel through inward, stated once.

Images are float, in [0, 1], any number of channels, any height and width.
"""

from __future__ import annotations

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Images: TypeAlias = Float[Tensor, "n c h w"]
"""A batch of images in [0, 1]."""

Pictures: TypeAlias = Float[Tensor, "n d h w"]
"""What is moved and drawn: images, or images with an alpha channel as the last."""

Scores: TypeAlias = Float[Tensor, " n"]
"""One number an image; never averaged over the batch."""

Logits: TypeAlias = Float[Tensor, "n k"]
"""Class scores before softmax."""

Size: TypeAlias = tuple[int, int]
"""Height and width in pixels."""
