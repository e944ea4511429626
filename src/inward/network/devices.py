"""Where a network computes."""

from __future__ import annotations

import torch

from inward.errors import CallError


def pick_device(device: str | torch.device) -> torch.device:
    """``auto`` is CUDA or MPS where there is one, else the CPU. Raises CallError for a device that is not there."""
    if str(device) != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise CallError(f"there is no device '{device}' here; give --device cpu or auto") from error
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps", 0) if torch.backends.mps.is_available() else torch.device("cpu")
