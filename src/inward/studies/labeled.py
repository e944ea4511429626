"""Pictures whose class is known: from the folders they lie in, or from their names; and data sets held in memory."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch

from inward.errors import CallError, InwardError
from inward.network.load import import_torchvision
from inward.network.network import Network
from inward.pictures import find, read
from inward.studies.folder import sha256_of
from inward.types import Images

_NUMBERED = re.compile(r"(\d+)(?=[_.\-])")
# As the folders of ImageNet and Imagenette are named.
_WORDNET = re.compile(r"n\d{8}")
_IMAGENET = 1000
_HOW = "put the pictures of each class into a folder of its name or number, or begin their names with it, 281_cat.jpg"


class Labeled(NamedTuple):
    """A picture and the number of its class."""

    file: Path
    label: int


class Examples(Protocol):
    """Images with the numbers of their classes, wherever they come from."""

    @property
    def labels(self) -> Sequence[int]:
        """The class of each."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """What each is called."""
        ...

    def images(self, numbers: Sequence[int]) -> Images:
        """Those with these numbers, (N, C, H, W) in [0, 1]."""
        ...

    def identity(self) -> Any:
        """What they are, as JSON has it: two studies of the same are of the same examples."""
        ...


@dataclass(frozen=True)
class Files:
    """Picture files, read when they are needed and cropped to what the network takes."""

    pictures: tuple[Labeled, ...]
    net: Network

    @property
    def labels(self) -> list[int]:
        return [one.label for one in self.pictures]

    @property
    def names(self) -> list[str]:
        return [one.file.name for one in self.pictures]

    def images(self, numbers: Sequence[int]) -> Images:
        return read([self.pictures[i].file for i in numbers], self.net)

    def identity(self) -> Any:
        return [{"sha256": sha256_of(one.file), "label": one.label} for one in self.pictures]


def labeled(place: str | Path, net: Network) -> Files:
    """The pictures of a folder with the classes that it tells, sorted by class folder and name.

    A folder of folders tells them by the names of these: numbers, names that the network knows, or the WordNet
    ids of ImageNet (``n01440764``; needs timm); where these tell nothing and there are as many folders as
    classes, by their order, as torchvision's ImageFolder does.
    A flat folder tells them by the numbers that file names begin with.

    Raises:
        InwardError: for a folder that is missing or empty.
        CallError: where the classes are not told, or are not the network's.
    """
    root = Path(place)
    if not root.is_dir():
        raise InwardError(f"there is no folder {root}; name one with labeled pictures")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    count = classes_of(net)
    if folders:
        numbers = _of_folders(folders, net, count)
        pairs = zip(folders, numbers, strict=True)
        return Files(tuple(Labeled(file, number) for folder, number in pairs for file in find([folder])), net)
    files = find([root])
    found = [(_NUMBERED.match(file.name), file) for file in files]
    unnamed = [file.name for match, file in found if match is None]
    if unnamed:
        raise CallError(f"nothing tells the class of {unnamed[0]} ({len(unnamed)} of {len(files)} pictures); {_HOW}")
    told = [Labeled(file, _checked(int(match[1]), count, file)) for match, file in found if match is not None]
    return Files(tuple(told), net)


def classes_of(net: Network) -> int:
    """How many classes a network tells apart. Raises CallError where its output is no list of classes."""
    with torch.no_grad():
        shape = tuple(net(torch.zeros(1, net.preprocess.channels, *net.size, dtype=net.dtype, device=net.device)).shape)
    if len(shape) != 2 or shape[1] < 2:
        raise CallError(f"accuracy needs an output of two classes or more, and that of {net.name} is {shape}")
    return int(shape[1])


def _of_folders(folders: Sequence[Path], net: Network, count: int) -> list[int]:
    names = [folder.name for folder in folders]
    if all(name.isdecimal() for name in names):
        return [_checked(int(folder.name), count, folder) for folder in folders]
    try:
        return [_number(net, name, count) for name in names]
    except CallError as error:
        if len(folders) == count:
            return list(range(count))
        if isinstance(error, _UninstalledError):
            raise
        raise CallError(f"the folders are no classes of {net.name} ({error}); {_HOW}") from error


class _UninstalledError(CallError):
    """What would tell the classes is not installed."""


def _number(net: Network, name: str, count: int) -> int:
    if _WORDNET.fullmatch(name) and name not in (net.labels or ()):
        return _of_wordnet(net, name, count)
    unit = net.resolve(f"class:{name}").unit
    if unit is None:
        raise CallError(f"'{name}' is not a class")
    return unit


def _of_wordnet(net: Network, name: str, count: int) -> int:
    """The class of a WordNet id: its place in ImageNet's list, or the one class that is called by a name of it."""
    try:
        import_torchvision()
        known = _made(importlib.import_module("timm.data").ImageNetInfo)
    except (CallError, ImportError) as error:
        raise _UninstalledError(
            f"'{name}' is a WordNet id, and its class is looked up with timm; pip install 'inward[timm]'"
        ) from error
    if count == _IMAGENET:
        if name not in known.label_names():
            raise CallError(f"the WordNet id '{name}' is none of ImageNet's 1000 classes")
        return known.label_names().index(name)
    try:
        names = known.label_name_to_description(name)
    except KeyError as error:
        raise CallError(f"there is no WordNet id '{name}'") from error
    found = _called(net, names)
    if len(found) != 1:
        raise CallError(f"'{name}' is {names}, which {'several classes are' if found else 'no class is'} called")
    return found[0]


@cache
def _made(info: Callable[[], Any]) -> Any:
    """A list of 22,000 WordNet ids is read once, and not for every folder."""
    return info()


def _called(net: Network, names: str) -> list[int]:
    """The classes that have just these names; where there are none, those that have one of them."""
    labels = net.labels or ()
    exact = [k for k, label in enumerate(labels) if _words(label) == _words(names)]
    return exact or [k for k, label in enumerate(labels) if _words(label) & _words(names)]


def _words(names: str) -> set[str]:
    return {" ".join(name.replace("_", " ").lower().split()) for name in names.split(",")}


def _checked(number: int, count: int, where: Path) -> int:
    if number >= count:
        raise CallError(f"{where.name} is of class {number}, and the network has the classes 0 to {count - 1}")
    return number
