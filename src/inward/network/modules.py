"""What a module must be to become a network, and what can be read off it before it is one."""

from __future__ import annotations

import torch
from torch import nn

from inward.errors import CallError


def unwrap(module: nn.Module) -> nn.Module:
    """The module itself, out of ``torch.compile`` and DataParallel; refuses what has no graph to look into."""
    if not isinstance(module, nn.Module):
        raise CallError(f"a network is a torch.nn.Module, not {type(module).__name__}; give the module itself")
    inner = getattr(module, "_orig_mod", None)
    if isinstance(inner, nn.Module):
        return unwrap(inner)
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrap(module.module)
    if isinstance(module, torch.jit.ScriptModule):
        raise CallError("a ScriptModule has no modules to look into; give the nn.Module that it was made from")
    if any("quantized" in type(m).__module__ for m in module.modules()):
        raise CallError("a quantized network has no gradients; give the float network that it was made from")
    training = next((n or "the network" for n, m in module.named_modules() if m.training), None)
    if training is not None:
        raise CallError(f"{type(module).__name__} is in train mode ({training}); call .eval() on it first")
    return module


def channels_of(module: nn.Module) -> int:
    """How many channels the first convolution reads; 3 where there is none."""
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            return child.in_channels
    return 3
