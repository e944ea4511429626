"""Shapes are checked while the tests run, and the shared data is found."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"


def modules_with_shapes() -> list[str]:
    """The check wraps every function of a module, so that it is kept to those that state shapes."""
    files = [f for f in (SOURCE / "inward").rglob("*.py") if f.name != "__init__.py"]
    stated = [f for f in files if "jaxtyping" in (text := f.read_text("utf-8")) or "inward.types" in text]
    return [".".join(f.relative_to(SOURCE).with_suffix("").parts) for f in stated]


# Before anything imports inward: annotated shapes are then checked at every call.
jaxtyping.install_import_hook(modules_with_shapes(), "shapes.check")


def pytest_runtest_setup() -> None:
    """Networks of random weights are the same ones in whatever order and process the tests run."""
    torch.manual_seed(0)


def missing(reason: str) -> None:
    """Skips the test; where everything must run, what is missing is no reason to pass."""
    if os.environ.get("INWARD_CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real browser."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        missing("there is no chromium; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=["wide", "narrow"])
def page(request: pytest.FixtureRequest, chromium: Any, client: Any) -> Iterator[Any]:
    """The page of the module's server, on a laptop and on a phone."""
    yield from _page(chromium, client, request.param)


@pytest.fixture
def wide(chromium: Any, client: Any) -> Iterator[Any]:
    """The page of the module's server, on a laptop."""
    yield from _page(chromium, client, "wide")


def _page(chromium: Any, client: Any, size: str) -> Iterator[Any]:
    # Here, so that the check of shapes is in place before inward is imported.
    from tests.browsing import SIZES, Page

    found = Page(chromium, client, SIZES[size])
    yield found
    found.close()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of weights and images that lies beside the repository (INWARD_DATA elsewhere)."""
    folder = Path(os.environ.get("INWARD_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "weights").is_dir():
        missing(f"no weights under {folder}; set INWARD_DATA to the folder that holds them")
    return folder


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """What a user sees who passes a wrong shape: inward's own error, not that of the shape check."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def single_thread() -> Iterator[None]:
    """For files whose networks are small."""
    # Here, so that the check of shapes is in place before inward is imported.
    from inward.network.modes import one_thread

    with one_thread():
        yield
