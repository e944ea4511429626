"""Where the shared weights lie, for the contests that need real ones."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from inward import Network, read

DATA = Path(os.environ.get("INWARD_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"


def inception_weights() -> dict[str, Tensor]:
    """The published weights of Inception v1."""
    return load_file(DATA / "weights" / "inception_v1.safetensors")


def photographs(net: Network, count: int) -> Tensor:
    """Photographs of as many classes, spread over all, as the network sees them."""
    files = sorted((DATA / "imagenet-sample").glob("*.jpg"))
    return read(files[:: len(files) // count][:count], net)
