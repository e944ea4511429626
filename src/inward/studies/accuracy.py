"""Accuracies under attack, as figures and as a curve: what is known of each image, and of all of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from inward import draw
from inward.errors import numbered
from inward.methods.levels import LEVELS

# Of the standard normal distribution: 95 % lie within.
Z = 1.959963984540054
# Between two labels below the curve, and how wide a letter is: shares of its width.
_APART, _LETTER = 0.03, 0.034


@dataclass(frozen=True)
class Judged:
    """What a pass found of one image.

    Attributes:
        answer: the class that the network gives the image as it is.
        fell: the smallest eps of those looked at at which the saved picture fooled it; None where it withstood all.
            0 where the answer was wrong from the start.
        fell_unrounded: the same before the values were rounded to 8 bits.
        withstood: the largest eps of those looked at at which no picture was found that fools it.
        by: of a sequence of attacks the one that did at ``fell``.
    """

    name: str
    label: int
    answer: int
    fell: float | None = None
    fell_unrounded: float | None = None
    withstood: float = 0.0
    by: str = ""

    def open(self, eps: float) -> bool:
        """Whether it is not known how the image fares at an eps."""
        return self.withstood < eps and (self.fell is None or self.fell > eps)


@dataclass(frozen=True)
class Robustness:
    """What a pass found.

    Attributes:
        eps: ascending; at each it is known of every image whether it falls.
        images: what was found of each.
        norm: of eps.
    """

    eps: tuple[float, ...]
    images: tuple[Judged, ...]
    norm: str = "linf"

    def accuracy(self, eps: float = 0.0, *, unrounded: bool = False) -> float:
        """The share of the images whose answer is right and stays so, up to an eps of the list (0: as they are)."""
        fell = [one.fell_unrounded if unrounded else one.fell for one in self.images]
        return sum(f is None or f > eps for f in fell) / max(1, len(fell))

    def interval(self, eps: float = 0.0) -> tuple[float, float]:
        """Where the accuracy on all such images lies, with 95 % confidence (Wilson's interval)."""
        return wilson(self.accuracy(eps), len(self.images))

    def by(self, eps: float) -> dict[str, int]:
        """How many images each attack of a sequence fooled, up to an eps; empty for an attack that is no sequence."""
        return dict(Counter(one.by for one in self.images if one.by and one.fell is not None and one.fell <= eps))

    def by_class(self) -> dict[int, tuple[int, list[float]]]:
        """Of each class how many images there are, and the accuracies at 0 and at each eps."""
        found = {}
        for label in sorted({one.label for one in self.images}):
            own = replace(self, images=tuple(one for one in self.images if one.label == label))
            found[label] = (len(own.images), [own.accuracy(e) for e in (0.0, *self.eps)])
        return found

    def report(self) -> dict[str, Any]:
        """The figures, as ``report.json`` has them."""
        classes = {str(k): {"images": n, "accuracy": a} for k, (n, a) in self.by_class().items()}
        curve = [self._row(eps) for eps in (0.0, *self.eps)]
        return {"images": len(self.images), "norm": self.norm, "curve": curve, "classes": classes}

    def _row(self, eps: float) -> dict[str, Any]:
        low, high = self.interval(eps)
        row = {"eps": eps, "accuracy": self.accuracy(eps), "low": low, "high": high}
        row["accuracy_unrounded"] = self.accuracy(eps, unrounded=True)
        return row | ({"by": self.by(eps)} if self.by(eps) else {})


@dataclass(frozen=True)
class Crossing:
    """At which eps a given share of the answers is left.

    Attributes:
        share: of right answers.
        eps: the smallest of those tried at which no more than it are left; infinite where more are left at all.
        low, high: where that eps lies for all such images, with 95 % confidence: where Wilson's interval of the
            accuracy holds the share. ``low`` is 0 where that without attack does, ``high`` may be infinite.
        robustness: the accuracies at the eps that were tried on the way.
    """

    share: float
    eps: float
    low: float
    high: float
    robustness: Robustness

    def report(self) -> dict[str, Any]:
        """The figures, as ``report.json`` has them; of an infinite eps there is none."""
        found = {name: getattr(self, name) for name in ("share", "eps", "low", "high")}
        told = self.robustness.report()
        # An image is not attacked again where only the unrounded figure would change.
        curve = [{k: v for k, v in row.items() if k != "accuracy_unrounded"} for row in told["curve"]]
        return {"crossing": {k: v if math.isfinite(v) else None for k, v in found.items()}, **told, "curve": curve}


def wilson(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of ``count`` trials; (0, 1) of none."""
    if count == 0:
        return 0.0, 1.0
    middle = share + Z**2 / (2 * count)
    reach = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    scale = 1 + Z**2 / count
    return max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale)


def student(count: int) -> float:
    """How many standard errors from the mean of so many normal values, two or more, hold the true one in 95 %."""
    # It takes long to import, and what else is here needs none of it.
    from scipy.stats import t

    return float(t.ppf(0.975, count - 1))


def told_eps(eps: float, norm: str) -> str:
    """An eps as one writes it; in linf in levels of 8 bits, where these are whole or it is below one: 8/255."""
    levels = eps * LEVELS
    if norm == "linf" and eps and (levels < 1 or abs(levels - round(levels)) < 1e-6):
        return f"{round(levels) if levels >= 1 - 1e-6 else levels:.3g}/{LEVELS}"
    return f"{eps:.4g}"


def curve(found: Robustness, attack: str = "attack", network: str = "") -> Image.Image:
    """Accuracy by eps, in a band of its 95 % interval; the title names the attack and the network."""
    places = (0.0, *found.eps)
    across = torch.tensor(places, dtype=torch.float64) / places[-1]
    left = torch.tensor([found.accuracy(e) for e in places], dtype=torch.float64)
    low, high = torch.tensor([found.interval(e) for e in places], dtype=torch.float64).T
    last = f"{found.accuracy(places[-1]):.1%} at {told_eps(places[-1], found.norm)}"
    line = draw.Line("accuracy, and its 95 % interval", across, left, told=last, band=(low, high))
    title = ", ".join(
        [f"Accuracy under {attack}", numbered(len(found.images), "image"), *([network] if network else [])]
    )
    axis = "eps (linf), in 8-bit levels" if found.norm == "linf" else f"eps ({found.norm})"
    return draw.curves([line], title, across=axis, up="accuracy", ticks=_ticks(places, found.norm))


def _ticks(places: Sequence[float], norm: str) -> list[tuple[float, str]]:
    """The eps that have room for a label: the ends, and of the others those that are not too near one another."""
    scale = LEVELS if norm == "linf" else 1
    named = [(place / places[-1], f"{place * scale:.3g}") for place in places]
    found, last = named[:1], named[-1]
    for share, name in named[1:-1]:
        before, after = found[-1], last
        # The first and the last label lie inside of their ends, the others in the middle.
        left = share - before[0] - _LETTER * len(name + before[1]) / 2
        right = after[0] - share - _LETTER * (len(name) / 2 + len(after[1]))
        if left >= _APART and right >= _APART:
            found.append((share, name))
    return [*found, last]
