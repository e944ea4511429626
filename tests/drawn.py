"""What the tests of drawing share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

WHITE = (255, 255, 255)


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB")).astype(int)


def eight_bit(channels: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randint(0, 256, (channels, 19, 31), generator=generator).float() / 255


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> bool:
    text = str(error.value)
    return "\n" not in text and ". " not in text and len(text.split()) > 5


def solid(width: int, height: int, color: str = "teal") -> Image.Image:
    return Image.new("RGB", (width, height), color)
