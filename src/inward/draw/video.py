"""Videos of pictures that change: each with its caption below, written as they come, whole or not at all."""

from __future__ import annotations

import contextlib
import math
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from inward.draw import lettering
from inward.draw.encoders import Encoder, Gif, Mp4, WebP
from inward.draw.pictures import Array, enlarged, to_picture
from inward.errors import CallError, InwardError

_ENCODERS: dict[str, type[Encoder]] = {".mp4": Mp4, ".gif": Gif, ".webp": WebP}
# A short side below this is enlarged, unless the long side would leave what screens show.
_AT_LEAST, _SCREEN = 224, 1920
# WebP's largest side, the smallest of the three.
_LARGEST = 16383
_MARGIN = 8


class VideoWriter:
    """A video that is being written; :func:`video` opens one."""

    def __init__(self, target: Path, stage: _Stage, encoder: Encoder) -> None:
        self._target, self._stage, self._encoder = target, stage, encoder
        self._any = False

    def add(self, picture: Array | Image.Image, text: str = "", *, frames: int = 1) -> None:
        """The next picture, which is encoded now and not kept.

        Args:
            picture: (C, H, W), float, in [0, 1], any C as in ``to_picture``; or a picture of Pillow's. Of the
                size that the video was opened for.
            text: one line below the picture, shortened with an ellipsis where it is too long.
            frames: for how many frames it is shown.

        Raises:
            CallError: a picture of another size, as ``to_picture``, or fewer than one frame.
            InwardError: the system refused the write.
        """
        if frames < 1:
            raise CallError(f"a picture is shown for one frame or more, not {frames}")
        drawn = self._stage.frame(picture, text)
        with _told(self._target):
            self._encoder.put(drawn, frames)
        self._any = True

    def _finish(self) -> None:
        if not self._any:
            raise CallError(f"{self._target} has no picture; add one before the video ends")
        with _told(self._target):
            self._encoder.finish()


@contextlib.contextmanager
def video(
    path: str | os.PathLike[str],
    size: tuple[int, ...],
    *,
    fps: float = 24,
    caption: str = "",
    background: str = "white",
) -> Iterator[VideoWriter]:
    """Opens a video for writing: ``with video("a.mp4", (224, 160)) as film: film.add(picture, "pass 1")``.

    Whatever could forbid it is found on opening, before long work begins. Frames go to the encoder one by one;
    memory does not grow with their number. The file is written beside its place and renamed at the end: after an
    exception, Ctrl-C too, the place holds what it held before, for half a video looks like a whole one.

    A picture whose short side is below 224 pixels is enlarged by a whole factor without smoothing, but not beyond
    1920 pixels for its long side. The frame is padded, never rescaled, to even sides.

    Args:
        path: ends in ``.mp4`` (H.264; needs PyAV), ``.gif`` or ``.webp``; the latter two loop.
        size: (H, W) of the pictures to come, or (C, H, W), which matters where channels are drawn as tiles.
        fps: frames a second, above 0 and at most 240 (GIF: 50).
        caption: a line above that of each picture, the same for the whole video; "" for none.
        background: a color as Pillow names them, for the margin, the captions and below transparency.

    Raises:
        CallError: another suffix, a folder that does not exist, a size, rate or color that is none, or a video
            without a picture.
        InwardError: PyAV or an encoder is missing, or the system refused the write.
    """
    target = _place(path)
    kind = _kind(target, fps)
    stage = _staged(size, caption, background)
    draft = target.with_name(f".inward-{secrets.token_hex(8)}{target.suffix.lower()}.part")
    try:
        with _told(target):
            os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            encoder = kind(draft, stage.empty.size, fps)
        yield from _written(VideoWriter(target, stage, encoder), encoder)
        with _told(target):
            _settle(draft)
            os.replace(draft, target)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def _written(writer: VideoWriter, encoder: Encoder) -> Iterator[VideoWriter]:
    try:
        yield writer
        writer._finish()
    finally:
        # What went wrong before matters more than that the file cannot be closed either.
        with contextlib.suppress(OSError):
            encoder.close()


def _settle(draft: Path) -> None:
    # Renamed before its bytes are on the disk, a crash could leave an empty file at the target's name.
    with draft.open("r+b") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _told(target: Path) -> Iterator[None]:
    """What the system refuses, in a sentence."""
    try:
        yield
    except OSError as error:
        raise InwardError(f"cannot write {target}: {error.strerror}; free the place or choose another path") from error


def _place(path: str | os.PathLike[str]) -> Path:
    target = Path(path)
    if not target.parent.is_dir():
        raise CallError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    if target.is_dir():
        raise CallError(f"cannot write {target}: it is a folder; give the path of a file")
    return target


def _kind(target: Path, fps: float) -> type[Encoder]:
    if target.suffix.lower() not in _ENCODERS:
        known = ", ".join(_ENCODERS)
        raise CallError(f"a video ends in one of {known}, but the path is {target}; change its suffix")
    if not 0 < fps <= 240:
        raise CallError(f"fps is a number of frames a second above 0 and at most 240, not {fps}")
    return _ENCODERS[target.suffix.lower()]


@dataclass(frozen=True)
class _Stage:
    """Where everything stands in a frame.

    Attributes:
        size: (H, W) of the pictures that are given; a picture of Pillow's must have it.
        shown: width and height of the picture in the frame.
        at_least: what its short side is enlarged to.
        empty: the frame without picture and text.
        letters, line: size of the letters, and the top of the line that changes.
        ink: the color of that line.
    """

    size: tuple[int, int]
    shown: tuple[int, int]
    at_least: int
    empty: Image.Image
    letters: int
    line: int
    ink: str

    def frame(self, picture: Array | Image.Image, text: str) -> Image.Image:
        """A whole frame, RGB."""
        frame = self.empty.copy()
        drawn = self._drawn(picture).convert("RGBA")
        frame.paste(drawn, (_MARGIN, _MARGIN), drawn)
        _write_line(frame, (self.line, self.letters), text, self.ink)
        return frame

    def _drawn(self, picture: Array | Image.Image) -> Image.Image:
        if isinstance(picture, Image.Image):
            drawn, given = enlarged(picture, self.at_least), (picture.height, picture.width)
        else:
            drawn, given = to_picture(picture, at_least=self.at_least), tuple(picture.shape)
        if given[-2:] != self.size or drawn.size != self.shown:
            raise CallError(
                f"this video was opened for pictures of {self.size[0]} x {self.size[1]} pixels (height x width), and "
                f"one is {given}; give the shape (C, H, W) of all of them as size"
            )
        return drawn


def _staged(size: tuple[int, ...], caption: str, background: str) -> _Stage:
    shape = (1, *size) if len(size) == 2 else tuple(size)
    if len(shape) != 3 or not all(isinstance(n, int) and 0 < n <= _LARGEST for n in shape):
        raise CallError(f"the size of a video is (H, W) or (C, H, W), from 1 to {_LARGEST} pixels, not {tuple(size)}")
    ink = lettering.ink_on(background)
    at_least = _enlarging(shape[1], shape[2])
    shown = to_picture(np.zeros(shape, np.float32), at_least=at_least).size
    letters = min(28, max(14, shown[0] // 24))
    lines = 2 if caption else 1
    first = _MARGIN + shown[1] + letters // 3
    frame = (_even(shown[0] + 2 * _MARGIN), _even(first + lines * lettering.line_height(letters) + _MARGIN))
    if max(frame) > _LARGEST:
        raise CallError(f"a video has sides of at most {_LARGEST} pixels, not {frame[0]} x {frame[1]}; reduce them")
    empty = Image.new("RGB", frame, background)
    line = first + (lines - 1) * lettering.line_height(letters)
    if caption:
        _write_line(empty, (first, letters), caption, ink)
        ink = _quiet(ink, background)
    return _Stage((shape[1], shape[2]), shown, at_least, empty, letters, line, ink)


def _quiet(ink: str, background: str) -> str:
    """The ink of what stands below a heading."""
    pairs = zip(ImageColor.getrgb(ink)[:3], ImageColor.getrgb(background)[:3], strict=True)
    return "#" + "".join(f"{round(0.72 * a + 0.28 * b):02x}" for a, b in pairs)


def _enlarging(height: int, width: int) -> int:
    """What to ask of the short side: 224, or less where the long side would become too long."""
    short, long = sorted((height, width))
    return short * min(math.ceil(_AT_LEAST / short), max(1, _SCREEN // long))


def _even(length: int) -> int:
    # H.264 halves the colors' resolution, and GIF and WebP look the same this way.
    return length + length % 2


def _write_line(frame: Image.Image, line: tuple[int, int], text: str, ink: str) -> None:
    top, letters = line
    room = frame.width - 2 * _MARGIN
    words = lettering.plain(text).replace("\n", " ")
    if lettering.width(words, letters) > room:
        words = "".join(lettering.wrap(words, letters, room, most=1))
    lettering.write(frame, (_MARGIN, top), words, letters, ink)
