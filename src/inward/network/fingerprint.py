"""Which weights a network has: a digest, and what tells that they may have changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor


def digest_of(weights: Iterable[tuple[str, Tensor]]) -> str:
    """The SHA-256 of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in weights:
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def state_of(tensor: Tensor) -> tuple[int, int, float]:
    """What changes when a weight does: hashing all of them at every call would take longer than a saliency map."""
    version = -1 if tensor.is_inference() else tensor._version
    return tensor.data_ptr(), version, float(tensor.detach().float().sum())
