"""What surrounds the call of a method is left alone, and changes nothing: random state, autocast, inference mode."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from inward.network.modes import drawing, ordinary

Q = ParamSpec("Q")
R = TypeVar("R")


def own_draws(method: Callable[Q, R]) -> Callable[Q, R]:
    """A method in which a random network draws from the seed (0 where it has none).

    The global generators are as before afterwards, whatever happens. It runs as outside of every ``autocast``,
    ``no_grad`` and ``inference_mode``.
    """
    known = inspect.signature(method)

    @wraps(method)
    def run(*args: Q.args, **options: Q.kwargs) -> R:
        given = known.bind(*args, **options).arguments
        device = given["net"].device
        with ordinary(device), drawing(given.get("seed", 0), device):
            return method(*args, **options)

    return run
