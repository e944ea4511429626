"""Packed data: ``.npz`` archives, the idx files of MNIST and its kin, and the Python batches of CIFAR-10.

Every file is untrusted: what it says of its size is checked before its values are read, and nothing in it is run.
"""

from __future__ import annotations

import gzip
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inward.errors import InwardError

MOST_BYTES = 4 * 2**30
_DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError)
_ROW = 3 * 32 * 32


def from_npz(path: Path, wanted: Sequence[Sequence[str]]) -> list[NDArray[Any]]:
    """Arrays of an archive, each the first there is of some names; their sizes are known before they are read.

    Raises:
        InwardError: for a file that is missing, damaged, too large, of Python objects, or without such arrays.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            named = [next((k for k in names if k in arrays), None) for names in wanted]
            if None in named:
                held_names = ", ".join(sorted(arrays)[:8]) or "nothing"
                raise InwardError(f"{path} holds {held_names}; name its arrays images and labels (or data, x; y)")
            _check_size(path, sum(_declared(archive, arrays[str(name)]) for name in named))
        with np.load(path, allow_pickle=False) as found:
            return [found[str(name)] for name in named]
    except _DAMAGED as error:
        raise _unreadable(path, "an .npz file of numbers", error) from error


def from_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """The bytes of an idx file, gzipped or not. Raises InwardError as :func:`from_npz`."""
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            kind, *shape = struct.unpack(f">{1 + axes}I", file.read(4 * (1 + axes)))
            if kind != 0x800 + axes:
                raise ValueError(f"it begins with {kind}, and idx files of bytes with {0x800 + axes}")
            _check_size(path, math.prod(shape))
            values = file.read(math.prod(shape))
        return np.frombuffer(values, np.uint8).reshape(shape).copy()
    except _DAMAGED as error:
        raise _unreadable(path, "an idx file", error) from error


def from_cifar(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 3, 32, 32) and labels of a Python batch. Raises InwardError as :func:`from_npz`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            _check_size(path, path.stat().st_size)
        found = _Plain(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        data, labels = found[b"data"], found[b"labels"]
        if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_ROW,):
            raise ValueError("its data are no rows of 3072 bytes")
        if not isinstance(labels, list) or len(labels) != len(data) or not all(type(k) is int for k in labels):
            raise ValueError("its labels are not one whole number a picture")
        return data.reshape(-1, 3, 32, 32).copy(), np.array(labels, np.int64)
    except (*_DAMAGED, pickle.UnpicklingError, TypeError, AttributeError, IndexError, MemoryError) as error:
        raise _unreadable(path, "a Python batch of CIFAR-10", error) from error


class _Plain(pickle.Unpickler):
    """Reads numbers, words, lists and arrays of numbers; whatever else a file asks for is refused."""

    _ARRAYS = frozenset({("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")})
    _MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) in self._ARRAYS:
            return super().find_class(module_name, global_name)
        if module_name in self._MODULES and global_name == "_reconstruct":
            return super().find_class("numpy._core.multiarray", global_name)
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is no array of numbers")


def _declared(archive: zipfile.ZipFile, name: str) -> int:
    """The bytes of an array as its header has them."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = reader(file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects")
    return math.prod(shape) * dtype.itemsize


def _check_size(path: Path, count: int) -> None:
    if count > MOST_BYTES:
        raise InwardError(
            f"{path} holds {count / 2**30:.1f} GiB, over the limit of {MOST_BYTES >> 30} GiB; give a part of it, or a "
            "folder of pictures"
        )


def _unreadable(path: Path, kind: str, error: Exception) -> InwardError:
    if isinstance(error, FileNotFoundError):
        return InwardError(f"there is no file {path}")
    return InwardError(f"{path} is not {kind} that can be read: {' '.join(str(error).split())[:160]}")
