"""A row of the table of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from inward.results import Result


@dataclass(frozen=True)
class Method:
    """A row: the name in manifests, the command that runs it, what it takes and gives."""

    name: str
    command: str
    function: Callable[..., Result]
    takes: str
    returns: type[Result]
    question: str
    paper: str
    shared: bool = False
    """Whether the images of a batch are changed together, so that what comes of one depends on the others."""
    of_classes: bool = False
    """Whether the addresses that it takes are classes alone."""
