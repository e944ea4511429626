"""Standard sets from where they are published, into the user's cache: hash-checked, and resumed where it broke off."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inward.errors import InwardError

MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST = {
    "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/"
CIFAR10 = {"cifar-10-python.tar.gz": "md5:c58f30108f718f92721af3b95e74349a"}
CIFAR10_FOLDER = "cifar-10-batches-py"
_CHUNK, _TIMEOUT = 2**16, 30
OnBytes = Callable[[str, int, int | None], None]
"""Called with the name of a file, how many of its bytes are there, and how many there will be where that is known."""


def fetch(url: str, name: str, known_hash: str, cache: Path | None = None, *, on_bytes: OnBytes | None = None) -> Path:
    """A published file in the cache; fetched where it is not there, and checked either way.

    Args:
        url: of the folder that it is in.
        name: of the file.
        known_hash: its checksum, ``md5:...`` or ``sha256:...``.
        cache: by default ``inward`` in the user's cache folder.
        on_bytes: called with every piece that has come.

    Raises:
        InwardError: without a connection, or for a file of another checksum.
    """
    import pooch
    import requests

    place = Path(pooch.os_cache("inward")) if cache is None else cache
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _quiet(pooch.get_logger()):
            return Path(pooch.retrieve(url + name, known_hash, name, place, downloader=_resuming(place, on_bytes)))
    except requests.RequestException as error:
        raise InwardError(
            f"{name} cannot be fetched from {url} ({type(error).__name__}); go online, or give the folder that it is in"
        ) from error
    except ValueError as error:
        # Half a file that fits no checksum is of no use for a resumption.
        _part(place, name).unlink(missing_ok=True)
        raise InwardError(f"what {url}{name} gives has another checksum; it is damaged or was exchanged") from error
    except OSError as error:
        raise InwardError(f"{place} cannot be written ({error.strerror or error}); make room there") from error


def unpacked(archive: Path, folder: str) -> Path:
    """The folder of that name in an archive, unpacked beside it. Raises InwardError for an archive without it."""
    found = archive.parent / folder
    if found.is_dir():
        return found
    draft = archive.parent / f".{folder}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with tarfile.open(archive) as file:
            file.extractall(draft, filter="data")
        (draft / folder).replace(found)
    except (OSError, tarfile.TarError) as error:
        raise InwardError(f"{archive} cannot be unpacked ({error}); remove it to fetch it again") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """What is fetched is told by ``on_bytes``, and not once more between the bars."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _part(place: Path, name: str) -> Path:
    return place / f".{name}.part"


def _resuming(place: Path, on_bytes: OnBytes | None) -> Any:
    """A downloader that goes on after what an earlier one has got."""

    def download(url: str, output_file: str, _: Any) -> None:
        import requests

        name = url.rsplit("/", 1)[-1]
        part = _part(place, name)
        have = part.stat().st_size if part.is_file() else 0
        asked = {"Range": f"bytes={have}-"} if have else {}
        with requests.get(url, headers=asked, stream=True, timeout=_TIMEOUT) as answer:
            if answer.status_code != requests.codes.requested_range_not_satisfiable:
                answer.raise_for_status()
                resumed = answer.status_code == requests.codes.partial_content
                have = have if resumed else 0
                rest = answer.headers.get("Content-Length", "")
                total = have + int(rest) if rest.isdecimal() else None
                with open(part, "ab" if resumed else "wb") as file:
                    for chunk in answer.iter_content(_CHUNK):
                        have += file.write(chunk)
                        if on_bytes is not None:
                            on_bytes(name, have, total)
        shutil.move(part, output_file)

    return download
