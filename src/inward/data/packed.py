"""Packed data: ``.npz`` archives, the idx files of MNIST and its kin, and the Python batches of CIFAR-10.

Every file is untrusted: what it says of its size is checked before its values are read, and nothing in it is run.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import pickle
import pickletools
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from inward.errors import InwardError

MOST_BYTES = 4 * 2**30
# Also what NumPy's reader of headers and the archives' own raise on damaged ones.
_DAMAGED = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)
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


def names_of(path: Path) -> set[str]:
    """The names of the arrays of an archive. Raises InwardError for a file that is missing or none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
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
            # To the end, where gzip has its checksum.
            values = file.read(math.prod(shape) + 1)
        if len(values) > math.prod(shape):
            raise ValueError("it holds more than it says")
        return np.frombuffer(values, np.uint8).reshape(shape).copy()
    except _DAMAGED as error:
        raise _unreadable(path, "an idx file", error) from error


def from_cifar(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pictures (N, 3, 32, 32) and labels of a Python batch. Raises InwardError as :func:`from_npz`."""
    try:
        if path.stat().st_size > MOST_BYTES:
            _check_size(path, path.stat().st_size)
        found = _plain(path.read_bytes())
        data, labels = _rows(found[b"data"]), found[b"labels"]
        if not isinstance(labels, list) or len(labels) != len(data) or not all(type(k) is int for k in labels):
            raise ValueError("its labels are not one whole number a picture")
        return data.reshape(-1, 3, 32, 32).copy(), np.array(labels, np.int64)
    except (
        *_DAMAGED,
        pickle.UnpicklingError,
        TypeError,
        AttributeError,
        LookupError,
        MemoryError,
        OverflowError,
    ) as error:
        raise _unreadable(path, "a Python batch of CIFAR-10", error) from error


def _plain(packed: bytes) -> Any:
    """What a pickle says, without running anything that it names. Raises pickle.UnpicklingError."""
    with warnings.catch_warnings():
        # Of escapes in words of a damaged file.
        warnings.simplefilter("ignore", DeprecationWarning)
        # The unpickler makes room for as many values as the largest number that it is told to remember one by.
        for step, number, _ in pickletools.genops(packed):
            if step.name in _REMEMBERED and int(number or 0) > len(packed):
                raise pickle.UnpicklingError(f"it numbers {number} values")
        return _Plain(io.BytesIO(packed), encoding="bytes").load()


_REMEMBERED = {"PUT", "BINPUT", "LONG_BINPUT"}


class _Named:
    """What a pickle names: it keeps what it is told. NumPy's own would believe it, to the point of a crash."""

    def __init__(self, *said: Any) -> None:
        self.said, self.state = said, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(_Named):
    """An array; its state: a version, the shape, the dtype, whether in Fortran's order, the values."""


class _Dtype(_Named):
    """A dtype by its code."""


class _Encoded(_Named):
    """Bytes that are written as a word of as many letters."""

    def __new__(cls, word: str, _: str) -> Any:
        return word.encode("latin1")


class _Plain(pickle.Unpickler):
    """Reads numbers, words and lists, and keeps what is said of arrays; whatever else a file asks for is refused."""

    _KNOWN: ClassVar[dict[tuple[str, str], type[_Named]]] = {
        ("numpy", "ndarray"): _Named,
        ("numpy", "dtype"): _Dtype,
        ("_codecs", "encode"): _Encoded,
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
    }

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which is no array of numbers")
        return self._KNOWN[module_name, global_name]


def _rows(told: Any) -> NDArray[np.uint8]:
    """Rows of 3072 bytes by what a pickle says of an array. Raises ValueError where it is none."""
    if isinstance(told, _Array) and isinstance(told.state, tuple) and len(told.state) == 5:
        _, shape, dtype, by_columns, values = told.state
        is_rows = isinstance(values, bytes) and shape == (len(values) // _ROW, _ROW) and len(values) % _ROW == 0
        is_bytes = isinstance(dtype, _Dtype) and dtype.said[:1] in (("u1",), (b"u1",))
        if is_rows and is_bytes:
            return np.frombuffer(values, np.uint8).reshape(shape, order="F" if by_columns else "C")
    raise ValueError("its data are no rows of 3072 bytes")


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
