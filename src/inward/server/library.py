"""The pictures that a server knows: samples, those of its folder, and those that were given to it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from inward.decoding import opened
from inward.draw.saving import write_whole
from inward.errors import CallError, InwardError
from inward.pictures import find
from inward.server.settings import Settings

_SAMPLES = {"astronaut": "astronaut", "chelsea": "cat", "coffee": "coffee", "rocket": "rocket"}
_SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "GIF": ".gif", "TIFF": ".tif", "PPM": ".ppm"}
_FOLDER = 300
"""Pictures of the folder that are listed."""
THUMBNAIL = 256
# Of EXIF: from this value on, rows are columns.
_ORIENTATION, _TURNED = 0x0112, 5


class TooLargeError(InwardError):
    """A picture over the limits."""

    status = 413


class UnkeptError(InwardError):
    """The disk does not take it."""

    status = 507


@dataclass(frozen=True)
class Picture:
    """A picture that the server knows: its id in requests, its name for people, and its file."""

    id: str
    name: str
    source: str
    file: Path
    height: int
    width: int


@dataclass
class Library:
    """All of them, by id. What was given is kept in ``out/images``, and is there after a restart."""

    settings: Settings
    _held: dict[str, Picture] = field(default_factory=dict)
    _hashes: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fill(self) -> None:
        """Looks for what there is: uploads of earlier runs, the folder, the samples."""
        for picture in (*self._samples(), *self._of_folder(), *self._uploads()):
            self._held[picture.id] = picture

    def all(self) -> list[Picture]:
        """In the order in which they came."""
        with self._lock:
            return list(self._held.values())

    def get(self, name: str) -> Picture:
        """A picture by its id. Raises CallError where there is none."""
        with self._lock:
            if name not in self._held:
                raise CallError("there is no such picture; choose one that is listed, or give it again")
            return self._held[name]

    def sha256(self, picture: Picture) -> str:
        """Of the file."""
        if picture.id not in self._hashes:
            self._hashes[picture.id] = hashlib.sha256(picture.file.read_bytes()).hexdigest()
        return self._hashes[picture.id]

    def add(self, data: bytes, name: str) -> Picture:
        """Keeps a picture that was given.

        Raises TooLargeError for too many pixels, CallError where enough are kept, InwardError for what is no picture.
        """
        digest = hashlib.sha256(data).hexdigest()[:24]
        with self._lock:
            if digest in self._held:
                return self._held[digest]
            if sum(p.source == "upload" for p in self._held.values()) >= self.settings.uploads:
                raise CallError(f"{self.settings.uploads} pictures are kept already; delete some of {self._folder}")
        suffix = self._suffix(data)
        shown = "".join(c for c in name if c.isprintable())[:120].strip() or f"picture{suffix}"
        file = self._folder / f"{digest}{suffix}"
        height, width = self._keep(data, file)
        write_whole(json.dumps({"name": shown}).encode(), file.with_suffix(".json"))
        picture = Picture(digest, shown, "upload", file, height, width)
        with self._lock:
            self._held[digest] = picture
        return picture

    def _suffix(self, data: bytes) -> str:
        """Of its format, from its first bytes."""
        try:
            with Image.open(io.BytesIO(data), formats=tuple(_SUFFIX)) as head:
                kind, pixels = str(head.format), head.width * head.height
        except Exception as error:  # decoders raise anything at all
            raise InwardError("this is not a picture that can be read; give a JPEG, PNG, WebP, GIF or TIFF") from error
        if pixels > self.settings.upload_pixels:
            most = self.settings.upload_pixels // 10**6
            raise TooLargeError(f"this picture has {pixels / 1e6:.0f} megapixels, over the {most} that are taken")
        # A JPEG with a second picture inside, as some phones write it, is an MPO.
        return _SUFFIX["JPEG" if kind == "MPO" else kind]

    def _keep(self, data: bytes, file: Path) -> tuple[int, int]:
        """Writes a picture that can be read whole, and gives its height and width; what cannot be leaves no file."""
        draft = file.with_name(f".{secrets.token_hex(8)}{file.suffix}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            picture = opened(draft, "RGB")
            draft.replace(file)
        except OSError as error:
            raise UnkeptError(f"the picture cannot be kept ({error.strerror})") from error
        except InwardError as error:
            raise InwardError("this picture cannot be read whole; save it again, or give another") from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return picture.height, picture.width

    @property
    def _folder(self) -> Path:
        return self.settings.out / "images"

    def _samples(self) -> Iterator[Picture]:
        import skimage.data

        folder = self.settings.out / "samples"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for source, name in _SAMPLES.items():
                file, picture = folder / f"{name}.png", getattr(skimage.data, source)()
                if not file.is_file():
                    held = io.BytesIO()
                    Image.fromarray(picture).save(held, "PNG")
                    write_whole(held.getvalue(), file)
                yield Picture(name, name, "sample", file, *picture.shape[:2])
        except OSError as error:
            raise InwardError(f"{folder} cannot be written ({error.strerror}); give another --out") from error

    def _of_folder(self) -> Iterator[Picture]:
        files = find([self.settings.folder])[:_FOLDER] if self.settings.folder is not None else []
        for file in files:
            if file.suffix.lower() == ".npy":
                continue
            try:
                told = file.stat()
                # A file that was replaced is another picture, whatever a browser has kept.
                words = f"{file.resolve()} {told.st_size} {told.st_mtime_ns}"
                name = hashlib.sha256(words.encode()).hexdigest()[:24]
                yield Picture(name, file.name, "folder", file.resolve(), *_head(file))
            except InwardError:
                continue

    def _uploads(self) -> Iterator[Picture]:
        for file in sorted(self._folder.glob("[0-9a-f]*.*")):
            if file.suffix in _SUFFIX.values():
                try:
                    told = json.loads(file.with_suffix(".json").read_text("utf-8"))
                    yield Picture(file.stem, str(told["name"]), "upload", file, *_head(file))
                except (OSError, ValueError, KeyError, TypeError, InwardError):
                    continue


def _head(file: Path) -> tuple[int, int]:
    """Height and width as it is seen, from its first bytes. Raises InwardError for what is no picture."""
    try:
        with Image.open(file, formats=tuple(_SUFFIX)) as picture:
            turned = picture.getexif().get(_ORIENTATION, 1) >= _TURNED
            return picture.size if turned else (picture.height, picture.width)
    except Exception as error:  # decoders raise anything at all
        raise InwardError(f"{file} is not a picture that can be read") from error


_DECODING = threading.Semaphore(2)
"""Pictures at once that are decoded whole for their thumbnails: each may take hundreds of megabytes."""


def thumbnail(picture: Picture) -> Image.Image:
    """The picture at its own shape, small."""
    with _DECODING:
        return _small(picture.file)


@lru_cache(maxsize=128)
def _small(file: Path) -> Image.Image:
    found = opened(file, "RGB")
    found.thumbnail((THUMBNAIL, THUMBNAIL))
    if found.mode != "RGB":
        # 16-bit gray.
        values = np.asarray(found, dtype=np.float64) / 257
        found = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    return found
