"""Room: how many images a run of the network can hold at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from torch import Tensor

from inward.network.address import parse
from inward.network.axes import sizes
from inward.network.cost import multiply_adds
from inward.network.graph import Graph
from inward.network.network import Network, node_of
from inward.types import Size

# What a run keeps of an image, over the sum of all that is computed: gradients, workspaces, copies.
_KEPT = 3
# Half of what is free is left to others.
_SHARE = 0.5
# Beyond this a batch is not faster, and more is lost where a long run is stopped.
_MOST = {"cpu": 16, "cuda": 128, "mps": 32}


def images_at_once(net: Network, keys: Sequence[str], size: Size, *, most: int | None = None) -> int:
    """How many images to compute with their gradients at once, as far as these points; at least 1.

    By the bytes of every tensor on the way and the memory that is free.
    """
    top = most or _MOST.get(net.device.type, 16)
    needed = bytes_of(net, keys, size)
    return max(1, min(top, int(_SHARE * free_bytes(net.device) / (_KEPT * needed)))) if needed else top


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
