"""Which pixel rows, or columns, reach each place of a tensor: intervals, and how they are read and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
# The ends of an empty interval: nothing in the image, as positions inside a padding have it.
_NONE = (1 << 40, -(1 << 40))


@dataclass(frozen=True)
class Steps:
    """An affine map: position i sees the pixels from ``start + step * i`` on, ``extent`` of them."""

    start: int
    step: int
    extent: int


@dataclass(frozen=True, eq=False)
class Span:
    """Which pixel rows (or columns) reach the values of a tensor.

    The index along ``axis``, divided by ``stride``, modulo the number of intervals, says which interval;
    ``axis`` None says that there is one for all values. ``size`` is that of the image.
    """

    low: Ints
    high: Ints
    size: int
    steps: Steps | None
    axis: int | None
    stride: int = 1

    def __len__(self) -> int:
        return len(self.low)

    def moved(self, axis: int | None) -> Span:
        """The same for a tensor whose axes are in other places; without the axis, all that was along it."""
        return replace(self, axis=axis) if axis is not None else hull([self])

    def taken(self, index: Ints, steps: Steps | None = None) -> Span:
        """For new positions that read old ones: ``index`` (new, read), where what lies outside reads nothing."""
        inside = (index >= 0) & (index < len(self))
        index = np.where(inside, index, 0)
        low = np.where(inside, self.low[index], _NONE[0]).min(1)
        high = np.where(inside, self.high[index], _NONE[1]).max(1)
        return replace(self, low=low, high=high, steps=steps)

    def fills(self, shape: Sequence[int], axis: int) -> bool:
        """Whether it counts every index along ``axis`` of a tensor of this shape."""
        return self.axis == axis and self.stride == 1 and shape[axis] == len(self)


def hull(spans: Sequence[Span]) -> Span:
    """One interval for all values: everything that any of them sees."""
    low, high = min(int(s.low.min()) for s in spans), max(int(s.high.max()) for s in spans)
    return Span(np.array([low]), np.array([high]), spans[0].size, Steps(low, 0, high - low), None)


def union(spans: Sequence[Span]) -> Span:
    """What a value sees that is made of one value of each tensor, at the same place."""
    placed = [s for s in spans if len(s) > 1 or s.axis is not None]
    if len({(s.axis, s.stride, len(s)) for s in placed if len(s) > 1}) > 1:
        return hull(spans)
    main = max(placed, key=len, default=spans[0])
    low = np.stack(np.broadcast_arrays(*(s.low for s in spans))).min(0)
    high = np.stack(np.broadcast_arrays(*(s.high for s in spans))).max(0)
    return replace(main, low=low, high=high, steps=_joined(spans))


def _joined(spans: Sequence[Span]) -> Steps | None:
    known = [s.steps for s in spans if s.steps is not None]
    size = spans[0].size
    # What sees the whole image sees no more beside anything else.
    if any(s.step == 0 and s.start <= 0 and s.start + s.extent >= size for s in known):
        return Steps(0, 0, size)
    if len(known) < len(spans) or len({s.step for s in known}) > 1:
        return None
    start = min(s.start for s in known)
    return Steps(start, known[0].step, max(s.start + s.extent for s in known) - start)


def pixels(size: int, axis: int) -> Span:
    """The image itself: every row sees itself."""
    low = np.arange(size)
    return Span(low, low + 1, size, Steps(0, 1, 1), axis)


def strided(steps: Steps | None, first: int, step: int, count: int) -> Steps | None:
    """What positions see that read ``count`` old ones each, from ``first`` on, ``step`` apart."""
    if steps is None:
        return None
    return Steps(steps.start + steps.step * first, steps.step * step, steps.extent + steps.step * (count - 1))
