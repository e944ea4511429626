"""Filming an ascent: an observer that turns its passes into videos, one a picture."""

from __future__ import annotations

import contextlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from inward.ascent import Pass
from inward.draw.lettering import number_label
from inward.draw.video import VideoWriter, video
from inward.errors import CallError
from inward.runs.folder import folder_name


class Filming:
    """Videos of an ascent: ``with Filming("{address}.mp4", names, size, passes) as film: ascend(..., on_pass=film)``.

    A video has at most about ``seconds * fps`` frames, from passes that are evenly spaced; the first and the last
    are among them, and the last stays for ``hold`` seconds. Pictures are computed for those passes only. An ascent
    that ends early is filmed to its end; one without a pass leaves no file, and so does an exception (see
    :func:`inward.draw.video.video`). The score below a picture is that before the pass, as the ascent tells it.

    Args:
        path: of the videos; its suffix names the format. Of several pictures it has ``{address}`` (as in the
            names of folders: ``mixed4a-97``) or ``{number}`` (from 0), so that every video has its own.
        addresses: one a picture, in the order of the batch; they stand in the captions.
        size: (H, W) of the pictures, or (C, H, W), which matters where channels are drawn as tiles.
        total: passes of the ascent, at most.
        fps: frames a second.
        seconds: how long a video lasts, without its end; it is shorter where there are not so many passes.
        hold: how long its last picture stays.

    Raises:
        CallError: no pictures, two of one path, or lengths that are none; on entering, as ``video``.
        InwardError: on entering and while it films, as ``video``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        addresses: Sequence[str],
        size: tuple[int, ...],
        total: int,
        *,
        fps: float = 24,
        seconds: float = 10.0,
        hold: float = 1.0,
    ) -> None:
        if not (0 < seconds < math.inf and 0 <= hold < math.inf and 0 < fps < math.inf):
            raise CallError(f"a video lasts some seconds, not {seconds:g} with {hold:g} at its end and fps={fps:g}")
        self.paths = _paths(os.fspath(path), addresses)
        self._addresses, self._size, self._fps = list(addresses), size, fps
        self._hold = max(1, round(hold * fps))
        self._passes = spaced(total, max(2, round(seconds * fps)))
        self._films: list[VideoWriter] = []
        self._last: Pass | None = None

    def __enter__(self) -> Filming:
        with contextlib.ExitStack() as stack:
            opened = zip(self.paths, self._addresses, strict=True)
            self._films = [
                stack.enter_context(video(path, self._size, fps=self._fps, caption=address)) for path, address in opened
            ]
            self._stack = stack.pop_all()
        return self

    def __call__(self, now: Pass) -> None:
        """Films a pass of the ascent, where it is one of those shown."""
        if len(now.scores) != len(self.paths):
            raise CallError(f"{len(self.paths)} pictures are filmed, and the ascent has {len(now.scores)}; name each")
        if not self._films:
            raise CallError("this film is not open; write 'with Filming(...) as film:' around the ascent")
        # The last pass is filmed on leaving: only then is it known, for an ascent may end early.
        self._last = now
        if now.done in self._passes and now.done < now.total:
            self._add(self._films, now, 1)

    def _add(self, films: Sequence[VideoWriter], now: Pass, frames: int) -> None:
        for film, image, score in zip(films, now.images(), now.scores.tolist(), strict=True):
            film.add(image, f"pass {now.done}/{now.total}  score {number_label(score)}", frames=frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        films, self._films = self._films, []
        if error is None and self._last is not None:
            with self._stack:
                self._add(films, self._last, self._hold)
        else:
            # What ends a video early leaves no file, and so does an ascent that had nothing to show.
            self._stack.__exit__(kind or _Unfilmed, error or _Unfilmed(), trace)


@dataclass
class LateFilming:
    """A film of one picture that is opened by its first pass: only then is it known how large its pictures are.

    Attributes:
        kind: mp4, gif or webp; None for no film.
        name: what stands below its pictures.
        folder: where ``video`` with the suffix of its kind is written.
        stack: closes it, also after an exception.
    """

    kind: str | None
    name: str
    folder: Path
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    film: Filming | None = None

    def __call__(self, now: Pass) -> None:
        """Films a pass."""
        if self.kind is None:
            return
        if self.film is None:
            size = tuple(now.images().shape[1:])
            made = Filming(self.folder / f"video.{self.kind}", [self.name], size, now.total)
            self.film = self.stack.enter_context(made)
        self.film(now)

    def finish(self) -> dict[str, Path]:
        """The file by its name, written to its end; nothing where no pass was made."""
        self.stack.close()
        return {} if self.film is None else {path.name: path for path in self.film.paths if path.is_file()}


class _Unfilmed(Exception):  # noqa: N818
    """No pass was made: nothing is wrong, but there is no video."""


def spaced(total: int, frames: int) -> frozenset[int]:
    """Which of the passes 1 ... ``total`` are shown in ``frames`` (2 or more): evenly spaced, with first and last."""
    if total <= frames:
        return frozenset(range(1, total + 1))
    return frozenset(1 + round(i * (total - 1) / (frames - 1)) for i in range(frames))


def _paths(pattern: str, addresses: Sequence[str]) -> tuple[Path, ...]:
    if not addresses:
        raise CallError("there is nothing to film; name the address of at least one picture")
    named = [pattern.replace("{number}", str(i)) for i in range(len(addresses))]
    paths = [Path(n.replace("{address}", folder_name(a))) for n, a in zip(named, addresses, strict=True)]
    # Some file systems ignore the case.
    counts = Counter(str(path).casefold() for path in paths)
    twice = next((path for path in paths if counts[str(path).casefold()] > 1), None)
    if twice is not None:
        raise CallError(f"several videos would be written to {twice}; put {{number}} into the path")
    return tuple(paths)
