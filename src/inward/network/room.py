"""Room: how many images a run of the network can hold at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import Tensor

from inward.errors import InwardError
from inward.network.address import parse
from inward.network.axes import sizes
from inward.network.cost import multiply_adds
from inward.network.graph import Graph
from inward.network.network import Network, node_of
from inward.types import Size

T = TypeVar("T")
R = TypeVar("R")

# What a run keeps of an image, over the sum of all that is computed: gradients, workspaces, copies.
_KEPT = 3
# The same without gradients, where a tensor is dropped after its last use: measured below 0.3.
_PASSING = 0.5
# Half of what is free is left to others.
_SHARE = 0.5
# What is left free beside works that have begun.
_RESERVE = 2**29
# Beyond this a batch is not faster, and more is lost where a long run is stopped.
_MOST = {"cpu": 16, "cuda": 128, "mps": 32}


def images_at_once(
    net: Network, keys: Sequence[str], size: Size, *, most: int | None = None, gradients: bool = True
) -> int:
    """How many images to compute at once, as far as these points, with or without gradients; at least 1.

    By the bytes of every tensor on the way and the network's budget, by default half of the memory that is free.
    """
    top = most or _MOST.get(net.device.type, 16)
    needed = bytes_of(net, keys, size) * (_KEPT if gradients else _PASSING)
    budget = _SHARE * free_bytes(net.device) if net.memory is None else net.memory
    return max(1, min(top, int(budget / needed))) if needed else top


def in_chunks(items: Iterable[T], most: int, run: Callable[[list[T]], R], *, least: int = 1) -> Iterator[R]:
    """``run`` of ``most`` items at a time; of half as many from when memory has run out.

    Raises InwardError where ``least`` of them are too many.
    """
    waiting = iter(items)
    held: list[T] = []
    while held := held + list(itertools.islice(waiting, max(0, most - len(held)))):
        batch = held[:most]
        made: R | None = None
        try:
            made = run(batch)
        except (MemoryError, RuntimeError) as error:
            if not _ran_out(error):
                raise
        if made is None:
            # Here, where nothing holds what the failed run had made.
            if len(batch) <= least:
                raise InwardError(
                    "there is not enough memory for one image; give a smaller --size, or --dtype bfloat16"
                )
            most = max(least, len(batch) // 2)
            continue
        held = held[most:]
        yield made


def _ran_out(error: Exception) -> bool:
    """Whether memory is what was missing: torch has a type of its own for that on CUDA alone."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error) for words in ("not enough memory", "can't allocate memory", "out of memory"))


def bytes_of(net: Network, keys: Sequence[str], size: Size) -> int:
    """The bytes of all tensors that one image makes on its way to these points; 0 where that is not known."""
    graph = net.graph(size)
    if not isinstance(graph, Graph):
        return 0
    found = 0
    for node in graph.needed([node_of(graph, parse(key)) for key in keys]):
        value = node.meta.get("val")
        if node.op == "call_function" and isinstance(value, Tensor):
            found += math.prod(sizes(value, 1)) * value.element_size()
    return found


def bytes_to_begin(net: Network) -> int:
    """The memory that has to be free for a work to begin beside another: one image of its size, with gradients.

    A work takes half of what is free; what it has made stays while another one computes. 0 where that is not known.
    """
    needed = bytes_of(net, [name for name, point in net.points.items() if point.node], net.size)
    return _RESERVE + int(_KEPT / _SHARE) * needed if needed else 0


def multiply_adds_of(net: Network, keys: Sequence[str], size: Size) -> int:
    """The multiply-adds of one image on its way to these points, without gradients; 0 where that is not known."""
    graph = net.graph(size)
    if not isinstance(graph, Graph):
        return 0
    return sum(multiply_adds(node) for node in graph.needed([node_of(graph, parse(key)) for key in keys]))


def free_bytes(device: torch.device) -> int:
    """The memory that is free, also within what a container is allowed."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = psutil.virtual_memory().available
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    return min([free, *(_number(file) for file in limits if file.is_file() and _number(file))])


def _number(file: Path) -> int:
    text = file.read_text().strip()
    return int(text) if text.isdecimal() else 0
