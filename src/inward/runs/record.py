"""Where a result came from: enough to compute it again."""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inward.network.network import Network
from inward.version import VERSION


@dataclass(frozen=True)
class Record:
    """The provenance of a result, as it stands in its manifest.

    ``network`` has ``spec`` (what :func:`inward.load` needs; empty for a module made in Python),
    ``name`` and ``weights_sha256``; ``inputs`` the SHA-256 of the images; ``notes`` what the method
    itself found worth saying; ``asked`` what a command was asked that goes on after a stop, and knows by
    it what is there already.
    """

    method: str
    parameters: Mapping[str, Any]
    network: Mapping[str, Any]
    inputs: Mapping[str, Any]
    seconds: float
    environment: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())
    asked: Mapping[str, Any] = field(default_factory=dict)


def record(
    net: Network,
    method: str,
    parameters: Mapping[str, Any],
    inputs: Mapping[str, Tensor],
    started: float,
    notes: tuple[str, ...] = (),
) -> Record:
    """The record of a method that ``started`` at a ``time.perf_counter()``."""
    return Record(
        method=method,
        parameters=dict(parameters),
        network=described_network(net),
        inputs={name: described(tensor) for name, tensor in inputs.items()},
        seconds=round(time.perf_counter() - started, 3),
        environment={
            "inward": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        notes=notes,
    )


def described_network(net: Network) -> dict[str, Any]:
    """A network as manifests name it."""
    told = {"name": net.name, "size": list(net.size), "device": str(net.device), "dtype": str(net.dtype)[6:]}
    return told | {"spec": net.spec, "weights_sha256": net.weights_hash()}


def described(tensor: Tensor) -> dict[str, Any]:
    """An input as manifests name it."""
    return {"shape": list(tensor.shape), "sha256": sha256(tensor)}


def sha256(tensor: Tensor) -> str:
    """The SHA-256 of a tensor's bytes."""
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return hashlib.sha256(plain.view(torch.uint8).numpy().tobytes()).hexdigest()
