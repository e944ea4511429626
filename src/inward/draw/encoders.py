"""Video files written one frame at a time: H.264 in MP4, animated GIF, animated WebP.

Pillow writes animations too, but holds every frame until the last; here each is encoded alone, and the
file around them is written by hand. So only H.264 needs PyAV.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from inward.errors import CallError, InwardError


class Encoder(Protocol):
    """Takes RGB frames of one size, each shown for a number of ticks of 1 / fps seconds."""

    def __init__(self, draft: Path, size: tuple[int, int], fps: float) -> None: ...
    def put(self, frame: Image.Image, ticks: int) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class _Clock:
    """Durations in whole units of ``1 / per_second`` seconds whose sum never drifts from the true time."""

    def __init__(self, fps: float, per_second: int) -> None:
        self._unit, self._ticks, self._told = per_second / fps, 0, 0

    def __call__(self, ticks: int) -> int:
        self._ticks += ticks
        before, self._told = self._told, round(self._ticks * self._unit)
        return self._told - before


class Mp4:
    """H.264, 4:2:0, constant frame rate, its index in front so that a browser plays it while it loads.

    Raises:
        InwardError: PyAV is not installed, or has no H.264 encoder.
    """

    def __init__(self, draft: Path, size: tuple[int, int], fps: float) -> None:
        self._av = _pyav()
        # Named a file, because FFmpeg takes a colon in a path for the end of a protocol.
        self._container = self._av.open(f"file:{draft}", "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._count = 0
        self._set_up(self._stream, size)

    def _set_up(self, stream: Any, size: tuple[int, int]) -> None:
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        context = stream.codec_context
        # One thread: the same file whatever the machine, and the cores are the ascent's. No assembler
        # routines, for the same file: of 1000 encodings with them some 20 differed by a few bytes, of as
        # many without them none. A short look ahead: it is what the encoder keeps in memory.
        options = {"crf": "18", "preset": "medium", "threads": "1", "rc-lookahead": "20"}
        context.options = options | {"x264-params": "asm=0"}
        # 1 is BT.709 in all three lists, and limited range; untold, players guess from the height.
        context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
        self._guarded(context.open)

    def put(self, frame: Image.Image, ticks: int) -> None:
        """Encodes a frame ``ticks`` times."""
        shown = self._av.VideoFrame.from_image(frame).reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        for _ in range(ticks):
            shown.pts, self._count = self._count, self._count + 1
            self._guarded(self._mux, shown)

    def finish(self) -> None:
        """Writes what the encoder still holds, and the index."""
        self._guarded(self._mux, None)
        self._guarded(self._container.close)

    def close(self) -> None:
        """Lets go of the file; after a failure it is no video."""
        self._guarded(self._container.close)

    def _mux(self, frame: Any) -> None:
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def _guarded(self, call: Any, *args: Any) -> None:
        """FFmpeg's errors are of its own kind; the rest of inward knows OSError."""
        try:
            call(*args)
        except self._av.error.FFmpegError as error:
            raise OSError(error.errno, error.strerror) from error


def _pyav() -> Any:
    other = "pip install 'inward[video]', or write a .gif or .webp"
    try:
        import av
    except ImportError as error:
        raise InwardError(f"an .mp4 is written by PyAV, which is not installed; {other}") from error
    if "libx264" not in av.codecs_available:
        raise InwardError(f"this PyAV has no encoder for H.264 (libx264); {other}")
    return av


class _Written:
    """A file that is written by hand, from its front to its end."""

    def __init__(self, draft: Path) -> None:
        self._file: IO[bytes] = draft.open("r+b")

    def finish(self) -> None:
        self._file.close()

    def close(self) -> None:
        self._file.close()


class Gif(_Written):
    """GIF89a that loops; every frame has the 256 colors that suit it, dithered where it has more.

    Raises:
        CallError: for more than 50 frames a second, which browsers slow down to 10.
    """

    def __init__(self, draft: Path, size: tuple[int, int], fps: float) -> None:
        if fps > 50:
            raise CallError(f"a .gif shows at most 50 pictures a second, not {fps:g}; give fps=50, or write an .mp4")
        super().__init__(draft)
        self._clock = _Clock(fps, 100)
        self._file.write(b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0))
        self._file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")

    def put(self, frame: Image.Image, ticks: int) -> None:
        """Appends a frame: how long it stays, its place, its own colors, its pixels."""
        flags, table, pixels = _gif_parts(_in_256(frame))
        self._file.write(b"\x21\xf9\x04\x04" + struct.pack("<H", min(self._clock(ticks), 0xFFFF)) + b"\x00\x00")
        self._file.write(b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame.size, 0x80 | flags) + table + pixels)

    def finish(self) -> None:
        self._file.write(b"\x3b")
        super().finish()


def _in_256(frame: Image.Image) -> Image.Image:
    """Exactly where 256 colors are enough; else dithered, and the color of the margin is kept."""
    known = frame.getcolors(256)
    values = np.asarray(frame).astype(np.int32)
    if known is None:
        few = frame.quantize(255, Image.Quantize.FASTOCTREE).getpalette() or []
        table = np.array([*few, *values[0, 0].tolist()]).reshape(-1, 3)
        chosen = np.array(frame.quantize(palette=_palette(table), dither=Image.Dither.FLOYDSTEINBERG))
    else:
        table = np.array([color for _, color in known])
        chosen = np.zeros(values.shape[:2], np.uint8)
    return _palette(table, _corrected(chosen, values, table))


def _palette(table: NDArray[np.int64], chosen: NDArray[np.uint8] | None = None) -> Image.Image:
    picture = Image.fromarray(np.zeros((1, 1), np.uint8) if chosen is None else chosen)
    picture.putpalette(table.ravel().tolist())
    return picture


def _corrected(chosen: NDArray[np.uint8], values: NDArray[np.int32], table: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Pillow looks colors up coarsely, and takes a neighbor of a color that is in the table."""
    weights = (65536, 256, 1)
    wanted, there = values @ weights, table @ weights
    order = there.argsort()
    nearest = order[np.searchsorted(there, wanted, sorter=order).clip(max=len(there) - 1)]
    return np.where(there[nearest] == wanted, nearest, chosen).astype(np.uint8)


def _gif_parts(picture: Image.Image) -> tuple[int, bytes, bytes]:
    """The size flag of the colors, the colors, and the compressed pixels, out of a GIF of one frame."""
    buffer = io.BytesIO()
    picture.save(buffer, "GIF", interlace=False)
    data = buffer.getvalue()
    flags = data[10] & 0x07
    end = 13 + 3 * 2 ** (flags + 1)
    at = end
    while data[at] == 0x21:
        at = _after_blocks(data, at + 2)
    # Ten bytes of place and size; the last byte of all closes the file.
    return flags, data[13:end], data[at + 10 : -1]


def _after_blocks(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


class WebP(_Written):
    """Animated WebP that loops, lossy at high quality.

    Raises:
        InwardError: this Pillow has no WebP.
    """

    def __init__(self, draft: Path, size: tuple[int, int], fps: float) -> None:
        if not features.check("webp"):
            raise InwardError("this Pillow cannot write WebP; install another build of it, or write a .gif")
        super().__init__(draft)
        self._clock = _Clock(fps, 1000)
        self._file.write(b"RIFF\0\0\0\0WEBP")
        self._file.write(_chunk(b"VP8X", b"\x02\0\0\0" + _three(size[0] - 1) + _three(size[1] - 1)))
        self._file.write(_chunk(b"ANIM", b"\xff\xff\xff\xff\0\0"))

    def put(self, frame: Image.Image, ticks: int) -> None:
        """Appends a frame that covers the whole picture."""
        buffer = io.BytesIO()
        frame.save(buffer, "WEBP", quality=90, method=4)
        place = _three(0) * 2 + _three(frame.width - 1) + _three(frame.height - 1)
        duration = _three(min(self._clock(ticks), 0xFFFFFF))
        # 2: the frame replaces what was there. The first 12 bytes are the head of a file of its own.
        self._file.write(_chunk(b"ANMF", place + duration + b"\x02" + buffer.getvalue()[12:]))

    def finish(self) -> None:
        length = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", length - 8))
        super().finish()


def _three(number: int) -> bytes:
    return struct.pack("<I", number)[:3]


def _chunk(name: bytes, content: bytes) -> bytes:
    # No padding: what is written here is of even lengths, a frame's own chunks being padded already.
    return name + struct.pack("<I", len(content)) + content
