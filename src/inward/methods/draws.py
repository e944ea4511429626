"""The user's random state is left alone: what a random network draws inside a method follows from the seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from inward.network.modes import drawing

Q = ParamSpec("Q")
R = TypeVar("R")


def own_draws(method: Callable[Q, R]) -> Callable[Q, R]:
    """A method in which a random network draws from the seed (0 where it has none).

    The global generators are as before afterwards, whatever happens.
    """
    known = inspect.signature(method)

    @wraps(method)
    def run(*args: Q.args, **options: Q.kwargs) -> R:
        given = known.bind(*args, **options).arguments
        with drawing(given.get("seed", 0), given["net"].device):
            return method(*args, **options)

    return run
