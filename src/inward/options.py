"""The options that every command shares, and how they are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from cyclopts import Group, Parameter

from inward.errors import CallError
from inward.network.load import load
from inward.network.network import Network

_NETWORK = Group("Network", sort_key=20)
# An option of several values takes all that follows it.
_AFTER = "what is no number goes before it: pictures and addresses first, then the options"
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


def number(text: str) -> float:
    """A number or a fraction: ``4/255``. Raises ValueError."""
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"'{text}' is not a number; write 0.5 or 4/255") from error


def as_number(_: Any, tokens: Sequence[Any]) -> float:
    """:func:`number` as cyclopts calls it."""
    return number(tokens[0].value)


def as_whole(_: Any, tokens: Sequence[Any]) -> int:
    """A whole number; cyclopts alone would round 1.5 to 2."""
    try:
        return int(tokens[0].value)
    except ValueError as error:
        raise ValueError(f"'{tokens[0].value}' is not a whole number") from error


_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def as_bytes(_: Any, tokens: Sequence[Any]) -> int:
    """``4GiB``, ``500 MB``, ``2g``: a number of bytes, by powers of 1024."""
    text = "".join(token.value for token in tokens)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip(), re.IGNORECASE)
    found = int(float(match[1]) * _UNITS[match[2].lower()]) if match else 0
    if found < 1:
        raise ValueError(f"'{text}' is not an amount of memory; write 4GiB or 500MiB")
    return found


def as_numbers(_: Any, tokens: Sequence[Any]) -> tuple[float, ...]:
    """Several of them, separated by spaces or commas."""
    try:
        return tuple(number(part) for token in tokens for part in token.value.split(",") if part)
    except ValueError as error:
        raise ValueError(f"{error} ({_AFTER})") from error


def as_size(_: Any, tokens: Sequence[Any]) -> tuple[int, int]:
    """``227`` or ``224 320``: height and width."""
    try:
        parts = [int(part) for token in tokens for part in token.value.replace("x", " ").replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(
            f"a size is one or two whole numbers of pixels, --size 224 or --size 224 320 ({_AFTER})"
        ) from error
    if len(parts) not in (1, 2):
        raise ValueError(f"a size is one or two numbers, not {len(parts)}: --size 224, or --size 224 320")
    return (parts[0], parts[-1])


Numbers = Annotated[
    tuple[float, ...] | None,
    Parameter(group=_NETWORK, converter=as_numbers, consume_multiple=True, n_tokens=-1, negative=()),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Shared:
    """How the network is made."""

    weights: Annotated[str | None, Parameter(group=_NETWORK)] = None
    "A .safetensors file or a .pt state dict; 'random' for none. By default the published weights."
    mean: Numbers = None
    "By channel, in [0, 1] units: 0.485 0.456 0.406, or 123/255 117/255 104/255."
    std: Numbers = None
    "By channel, in [0, 1] units."
    size: Annotated[
        tuple[int, int] | None,
        Parameter(group=_NETWORK, converter=as_size, consume_multiple=(1, 2), n_tokens=-1, metavar="H W", negative=()),
    ] = None
    "Height and width in pixels (one number: square)."
    labels: Annotated[Path | None, Parameter(group=_NETWORK)] = None
    "A JSON list of class names, or a text file with a class a line."
    device: Annotated[str, Parameter(group=_NETWORK)] = "auto"
    "auto (CUDA or MPS where there is one), cpu, cuda, cuda:1, mps."
    dtype: Annotated[Literal["float32", "float64", "bfloat16", "float16"] | None, Parameter(group=_NETWORK)] = None
    "By default that of the weights."
    memory: Annotated[int | None, Parameter(group=_NETWORK, converter=as_bytes, metavar="AMOUNT")] = None
    "What a loop may hold at once, such as 4GiB; by default half of what is free. Changes the speed, not the result."
    seed: Annotated[int, Parameter(group=_NETWORK, converter=as_whole)] = 0
    "Of everything random."

    def network(self, model: str, *, weights: str | None = None) -> Network:
        """The network that the options describe."""
        check_seed(self.seed)
        torch.manual_seed(self.seed)
        net = load(
            model,
            weights=_absolute(self.weights) or weights,
            mean=self.mean,
            std=self.std,
            size=self.size,
            labels=self.labels and self.labels.absolute(),
            device=self.device,
            dtype=_DTYPES[self.dtype] if self.dtype else None,
        )
        # For weights that are random: rerun makes the same ones.
        net.spec["seed"] = self.seed
        return net if self.memory is None else net.within(self.memory)


def _absolute(weights: str | None) -> str | None:
    """A file by a path that holds in every folder: manifests name it."""
    return str(Path(weights).absolute()) if weights and Path(weights).is_file() else weights


def check_seed(seed: int) -> None:
    """Refuses a seed that a generator cannot take."""
    if not 0 <= seed < 2**63:
        raise CallError(f"a seed is a whole number from 0 up, not {seed}")
