"""Data sets in one piece: tensors, ``.npz`` archives, and the idx files of MNIST and its kin.

Every file is untrusted: what it says of its size is checked before its values are read, and nothing in it is run.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from inward.data.packed import from_idx, from_npz
from inward.errors import CallError, InwardError
from inward.network.network import Network
from inward.studies.labeled import Examples, classes_of, labeled
from inward.types import Images

Data: TypeAlias = str | Path | tuple[Any, Any] | Examples
"""A folder, an ``.npz`` or idx file; images and labels as tensors or arrays; or examples of any other kind."""

IMAGES, LABELS = ("images", "data", "x", "x_test"), ("labels", "y", "y_test")
_IDX, _IDX_LABELS = "images-idx3", "labels-idx1"


def examples(data: Data, net: Network) -> Examples:
    """What a study is of, from any of the places where it may be.

    Raises:
        InwardError: for a file that is missing, damaged, too large, or of another kind.
        CallError: for images that the network does not take, and labels that are none.
    """
    if isinstance(data, tuple):
        return in_memory(*data, net)
    if not isinstance(data, (str, Path)):
        return data
    path = Path(data)
    if path.suffix.lower() == ".npz":
        return in_memory(*_both(path), net, where=path.name)
    if _IDX in path.name:
        images, labels = from_idx(path, 3), from_idx(path.with_name(path.name.replace(_IDX, _IDX_LABELS)), 1)
        return in_memory(images, labels, net, where=path.name)
    if path.is_file():
        raise InwardError(f"{path} is no data set; name a folder of labeled pictures, an .npz file or {_IDX}-ubyte.gz")
    return labeled(path, net)


@dataclass(frozen=True, eq=False)
class InMemory:
    """Images in memory: ``pixels`` (N, C, H, W), whole levels as uint8 or floats in [0, 1]."""

    pixels: Tensor
    labels: tuple[int, ...]
    channels: int

    @property
    def names(self) -> list[str]:
        return [f"{i:0{len(str(len(self.labels) - 1))}}" for i in range(len(self.labels))]

    def images(self, numbers: Sequence[int]) -> Images:
        some = self.pixels[torch.tensor(numbers, device=self.pixels.device)]
        scaled = some.float() / 255 if some.dtype == torch.uint8 else some
        # Gray becomes color as it does where pictures are read.
        return scaled.expand(-1, self.channels, -1, -1)

    def identity(self) -> Any:
        told = hashlib.sha256(str((tuple(self.pixels.shape), self.pixels.dtype)).encode())
        for one in self.pixels:
            told.update(one.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return {"sha256": told.hexdigest(), "labels": list(self.labels)}


def in_memory(images: Any, labels: Any, net: Network, *, where: str = "the data") -> InMemory:
    """Images and labels that are in memory.

    Args:
        images: uint8 or floats in [0, 1]: (N, H, W), (N, C, H, W) or (N, H, W, C), as large as the network's.
        labels: (N,), the numbers of the classes.
        where: what messages call them.

    Raises:
        CallError: for another shape, kind or range, and for labels that are not the network's or not as many.
    """
    pixels = _as_tensor(images, where).detach()
    count, channels = classes_of(net), net.preprocess.channels
    pixels = _channels_first(pixels, channels, net.size, where)
    if pixels.is_floating_point():
        low, high = pixels.amin().item(), pixels.amax().item()
        if not (low >= 0 and high <= 1):
            told = "NaN" if math.isnan(low) else f"values from {low:g} to {high:g}"
            raise CallError(f"the images of {where} hold {told}; give uint8, or floats in [0, 1] before mean and std")
    elif pixels.dtype != torch.uint8:
        kind = str(pixels.dtype).removeprefix("torch.")
        raise CallError(f"the images of {where} are {kind}; give uint8, or floats in [0, 1]")
    return InMemory(pixels, _labels(_as_tensor(labels, where), len(pixels), count, where), channels)


def _as_tensor(given: Any, where: str) -> Tensor:
    try:
        return given if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(given))
    except (TypeError, ValueError) as error:
        raise CallError(f"{where} holds what is no array of numbers ({error}); give images and labels") from None


def _channels_first(pixels: Tensor, channels: int, size: tuple[int, int], where: str) -> Tensor:
    shape, able = tuple(pixels.shape), {1, channels} if channels == 3 else {channels}
    if pixels.ndim == 0 or len(pixels) == 0:
        raise CallError(f"{where} holds no images; give one or more")
    if pixels.ndim == 3 and shape[1:] == size and 1 in able:
        return pixels[:, None]
    if pixels.ndim == 4 and shape[2:] == size and shape[1] in able:
        return pixels
    if pixels.ndim == 4 and shape[1:3] == size and shape[3] in able:
        return pixels.permute(0, 3, 1, 2)
    wanted = f"(N, {channels}, {size[0]}, {size[1]}) or (N, {size[0]}, {size[1]}, {channels})"
    raise CallError(f"the images of {where} have the shape {shape} and this network takes {wanted}; try another --size")


def _labels(given: Tensor, images: int, count: int, where: str) -> tuple[int, ...]:
    if given.ndim != 1 or given.is_floating_point() or given.dtype == torch.bool:
        kind = str(given.dtype).removeprefix("torch.")
        raise CallError(
            f"the labels of {where} are {kind} of shape {tuple(given.shape)}; give one whole number an image, (N,)"
        )
    if len(given) != images:
        raise CallError(f"{where} has {len(given)} labels for {images} images; give one an image")
    numbers = tuple(int(k) for k in given.tolist())
    wrong = next((k for k in numbers if not 0 <= k < count), None)
    if wrong is not None:
        raise CallError(f"{where} has the label {wrong}, and the network has the classes 0 to {count - 1}")
    return numbers


def _both(path: Path) -> tuple[Any, Any]:
    images, labels = from_npz(path, (IMAGES, LABELS))
    return images, labels
