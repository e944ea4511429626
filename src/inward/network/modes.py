"""What surrounds a run and must not change it: precision, recording of gradients, messages, patches.

Inward ignores ``torch.autocast``: a network runs in its own dtype, wherever it is called, since a
graph made or compared in another precision would answer wrongly ever after.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

LOCK = threading.RLock()
"""Held while functions of torch are exchanged, so that no two threads undo each other's."""


@contextlib.contextmanager
def exact(device: torch.device, half: torch.dtype | None = None) -> Iterator[None]:
    """Without the caller's autocast: what it runs in is the network's own dtype, or products in ``half``."""
    if half is not None:
        surrounded = torch.autocast(device.type, dtype=half, cache_enabled=False)
    elif torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type):
        surrounded = torch.autocast(device.type, enabled=False)
    else:
        surrounded = contextlib.nullcontext()
    with surrounded:
        yield


def has_half(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32."""
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def ordinary(device: torch.device) -> Iterator[None]:
    """As outside of every ``autocast``, ``no_grad`` and ``inference_mode``: how a graph is made and checked."""
    with torch.inference_mode(False), torch.enable_grad(), exact(device):
        yield


@contextlib.contextmanager
def repeatable() -> Iterator[None]:
    """Two runs of the same operations on a GPU agree but for rounding: no TF32, no algorithm that varies.

    PyTorch lets convolutions there run in TF32, whose three digits would hide a mistake, or look like one.
    """
    cudnn: Any = torch.backends.cudnn
    held = [(cudnn.conv, "fp32_precision", "ieee"), (torch.backends.cuda.matmul, "fp32_precision", "ieee")]
    held += [(cudnn, "deterministic", True), (cudnn, "benchmark", False)]
    with LOCK:
        before = [getattr(owner, name) for owner, name, _ in held]
        try:
            for owner, name, value in held:
                setattr(owner, name, value)
            yield
        finally:
            for (owner, name, _), value in zip(held, before, strict=True):
                setattr(owner, name, value)


@contextlib.contextmanager
def drawing(seed: int, device: torch.device) -> Iterator[None]:
    """What a network draws from PyTorch's global generators begins at ``seed``; afterwards they are as they were."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        # Not torch.manual_seed, which is for all devices, and those that are not forked stay changed.
        torch.default_generator.manual_seed(seed)
        for each in cuda:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


def drawn_so_far(device: torch.device) -> torch.Tensor:
    """The state of those generators: another one after every draw."""
    states = [torch.get_rng_state()]
    states += [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return torch.cat(states)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small networks are many times faster so: several threads would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def exchanged(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Within, and for this thread alone, ``owner.name`` is ``function``."""
    here = threading.get_ident()
    with LOCK:
        before = getattr(owner, name)

        def chosen(*args: Any, **options: Any) -> Any:
            return (function if threading.get_ident() == here else before)(*args, **options)

        setattr(owner, name, chosen)
        try:
            yield
        finally:
            setattr(owner, name, before)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Export's own messages (symbolic algebra, tree specs, failures) are of no use to who asked for a graph."""
    with LOCK, warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        # Those that have a level of their own do not follow their parent. The others are left alone, for a change of
        # a level makes logging forget what it knows of all loggers.
        inside = [n for n in logging.root.manager.loggerDict if n.startswith("torch.")]
        own = [logger for logger in map(logging.getLogger, inside) if logger.level != logging.NOTSET]
        levels = {logger: logger.level for logger in (logging.getLogger("torch"), *own)}
        for logger in levels:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
