"""The pictures of the next step are decoded while this one is learned from."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from torch import Tensor

from inward.data.dataset import Dataset


class Ahead:
    """The pictures of every step in turn, those of the next one always on their way.

    Args:
        data: the pictures.
        numbers: of those of a step; an empty tensor after the last.
    """

    def __init__(self, data: Dataset, numbers: Callable[[int], Tensor]) -> None:
        self._data, self._numbers = data, numbers
        self._thread = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Tensor]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def images(self, step: int) -> Tensor:
        """Those of a step, uint8. Raises what reading them raised."""
        known, asked = self._next or (-1, None)
        found = asked.result() if asked is not None and known == step else self._data.images(self._numbers(step))
        following = self._numbers(step + 1)
        if len(following):
            self._next = (step + 1, self._thread.submit(self._data.images, following))
        return found
