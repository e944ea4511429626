"""Whole files or none: a reader never meets half a picture."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from inward.errors import CallError, InwardError


def write_whole(data: bytes, path: str | os.PathLike[str]) -> None:
    """Write ``data`` to ``path`` so that ``path`` holds either what it held before or all of ``data``.

    Raises:
        CallError: the folder of ``path`` does not exist, or ``path`` is a folder.
        InwardError: the system refused the write (no space, no permission); nothing is left behind.
    """
    target = Path(path)
    _check_place(target)
    # In the same folder, because a replacement is atomic only within one file system.
    draft = target.with_name(f".inward-{secrets.token_hex(8)}.part")
    try:
        _write_new(data, draft)
        os.replace(draft, target)
    except OSError as error:
        raise InwardError(f"cannot write {target}: {error.strerror}; free the place or choose another path") from error
    finally:
        _discard(draft)


def _check_place(target: Path) -> None:
    if not target.parent.is_dir():
        raise CallError(f"cannot write {target}: there is no folder {target.parent}; make it first")
    if target.is_dir():
        raise CallError(f"cannot write {target}: it is a folder; give the path of a file")


def _discard(draft: Path) -> None:
    # A draft that cannot be removed must not hide the error that left it behind.
    try:
        draft.unlink(missing_ok=True)
    except OSError:
        return


def _write_new(data: bytes, draft: Path) -> None:
    # Not tempfile: its files are private to the user, and a report is often served by another one.
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
