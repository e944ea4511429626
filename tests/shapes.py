"""The check of shape annotations while the tests run, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks the arguments of ``function`` that are annotated with a shape, and what it returns.

    All other types are pyright's business: protocols, and names imported for pyright alone, cannot
    be checked while running. jaxtyping calls this with a function made for the purpose, whose
    annotations are evaluated, so that the real signature stays what it is.
    """
    function.__annotations__ = {k: hint for k, hint in function.__annotations__.items() if _holds_shape(hint)}
    return beartype.beartype(function) if function.__annotations__ else function


def _holds_shape(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_holds_shape(part) for part in getattr(hint, "__args__", ()))
