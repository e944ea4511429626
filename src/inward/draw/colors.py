"""Numbers to colors: one map for amounts, one for signed values, both safe for color-blind readers."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inward.draw.lettering import number_label
from inward.errors import CallError

_QUANTILE = 0.995


@dataclass(frozen=True)
class Scale:
    """What the colors of a map mean: from 0 (or -limit, if signed) to limit; limit 0 is a map that is all zero."""

    signed: bool
    limit: float
    low: float
    high: float

    @property
    def clipped_below(self) -> bool:
        """Whether values below the scale are drawn in its first color."""
        return self.signed and self.low < -self.limit

    @property
    def clipped_above(self) -> bool:
        """Whether values above the scale are drawn in its last color."""
        return self.high > self.limit

    @property
    def note(self) -> str:
        """What a reader must know beyond the scale itself, or ""."""
        if self.low == self.high == 0:
            return "all zero"
        if not (self.clipped_below or self.clipped_above):
            return ""
        ends = [f"lowest {number_label(self.low)}"] if self.clipped_below else []
        ends += [f"highest {number_label(self.high)}"] if self.clipped_above else []
        return f"values beyond {'±' if self.signed else ''}{number_label(self.limit)} are clipped ({', '.join(ends)})"


def scale_of(values: NDArray[np.float64], *, signed: bool, limit: float | None) -> Scale:
    """The scale of a map: the given limit, or the 99.5th percentile of |values|.

    Raises:
        CallError: a limit that is not a positive number, or negative values in a map that is not signed.
    """
    low, high = float(values.min()), float(values.max())
    if limit is not None and not (math.isfinite(limit) and limit > 0):
        raise CallError(f"the limit of a scale is a positive number, not {limit}; leave it out to have it chosen")
    # Below zero by no more than rounding is zero.
    if not signed and low < -1e-6 * max(high, 0):
        raise CallError(f"an unsigned map has no negative values, but these reach {low:.3g}; draw it with signed=True")
    return Scale(signed, _usual_limit(values) if limit is None else float(limit), low, high)


def _usual_limit(values: NDArray[np.float64]) -> float:
    sizes = np.abs(values)
    # A map of a few spikes has a percentile of 0, and its spikes must still be seen.
    return float(np.quantile(sizes, _QUANTILE)) or float(sizes.max())


@functools.cache
def table(signed: bool) -> NDArray[np.uint8]:
    """The colors of a scale from its first to its last, (257, 3) around white if signed, else (256, 3) from black."""
    from matplotlib import colormaps

    # RdBu with an odd number of colors, so that zero has one of its own and it is exactly neutral.
    colors = colormaps["RdBu_r"].resampled(257) if signed else colormaps["inferno"]
    chosen = np.floor(np.asarray(colors(np.arange(colors.N)))[:, :3] * 255 + 0.5).astype(np.uint8)
    chosen.setflags(write=False)
    return chosen


def colored(values: NDArray[np.float64], scale: Scale) -> NDArray[np.uint8]:
    """The colors (H, W, 3) of values (H, W); values beyond the scale have its end colors."""
    share = np.clip(values / (scale.limit or 1.0), -1 if scale.signed else 0, 1)
    colors = table(scale.signed)
    middle = len(colors) // 2 if scale.signed else 0
    # Rounded before it is shifted, so that v and -v lie equally far from the middle.
    return colors[middle + np.rint(share * (len(colors) - 1 - middle)).astype(np.int64)]
