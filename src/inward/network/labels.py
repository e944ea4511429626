"""Names of classes, and whether there are as many as classes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from weakref import WeakSet

from inward.errors import CallError, InwardWarning, numbered
from inward.network.source import Source

# Those whose user knows.
_TOLD: WeakSet[Source] = WeakSet()


def named_class(index: int, labels: Sequence[str] | None, classes: Callable[[], int]) -> str:
    """The name of a class, or its number where it has none."""
    if not labels:
        return str(index)
    # A list that does not fit is told of there; an output whose classes cannot be counted is none of a class.
    with contextlib.suppress(CallError):
        classes()
    return labels[index] if index < len(labels) else str(index)


def check_labels(source: Source, name: str, labels: Sequence[str] | None, count: int) -> None:
    """Warns, once for a network, of labels that are not as many as its classes."""
    if not labels or len(labels) == count or source in _TOLD:
        return
    _TOLD.add(source)
    warnings.warn(
        f"{name} has {numbered(count, 'class', 'classes')} and its list of labels has {numbered(len(labels), 'name')}, "
        "so that classes may be called by another's name; give labels (--labels) with one name a class, in the order "
        "of the outputs",
        InwardWarning,
        stacklevel=4,
    )
