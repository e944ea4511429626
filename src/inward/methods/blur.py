"""Blur: the weakest that changes the answer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from inward.columns.paths import diffused
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, Moved, attacked
from inward.methods.course import OnProgress, counted
from inward.methods.draws import own_draws
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# A blur is known to this share of the step between two that were tried: 2^-6.
_HALVINGS = 6


@dataclass(frozen=True, eq=False)
class Blurred(Perturbation):
    """Blurred images.

    Attributes:
        sigma: (N,), the standard deviation of each blur in pixels; where none fooled, the strongest.
    """

    batched: ClassVar[tuple[str, ...]] = (*Perturbation.batched, "sigma")

    sigma: Tensor

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        return super().measures() | {"sigma": self.sigma[0].item()}


@own_draws
def blur(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    sigma: float | None = None,
    steps: int = 20,
    eight_bit: bool = True,
    on_progress: OnProgress | None = None,
) -> Blurred:
    """The weakest Gaussian blur that changes the answer: a change that no one searched for.

    Dodge and Karam, "Understanding how image quality affects deep neural networks", 2016. Blurs grow until one
    fools, evenly in log(1 + sigma); between that one and the one before, the weakest is found by halving. (An
    answer may come back and go again; the first place where it goes is the one that is looked at.)

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        sigma: the strongest blur, a standard deviation in pixels; by default half of the longer side, which leaves
            little but the mean color.
        steps: how many blurs are tried before the halving.
        eight_bit: judge the 8-bit picture, as a file holds it.
        on_progress: called after every blur with (blurs done, blurs in all).

    Raises:
        CallError: for steps below 1, a sigma that is not above 0, images not in [0, 1], classes that the network does
            not have, a target equal to the label, or a network of one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm="l2")
    counted("steps", steps)
    sigma = max(asked.size) / 2 if sigma is None else sigma
    if not 0 < sigma < math.inf:
        raise CallError(f"sigma is the strongest blur in pixels and must be above 0, not {sigma:g}; write 10")
    search = _Search(asked, steps + _HALVINGS, on_progress)
    for depth in np.linspace(0, math.log1p(sigma), steps + 1)[1:]:
        left = search.high.isinf().nonzero()[:, 0]
        search.ask(left, torch.full((len(left),), math.expm1(depth), dtype=torch.float64))
    for _ in range(_HALVINGS):
        left = (search.high.isfinite() & (search.high > 0)).nonzero()[:, 0]
        search.ask(left, (search.low + search.high)[left] / 2)
    told = {"sigma": sigma, "steps": steps}
    found = asked.result("blur", asked.parameters | told, search.moved())
    return found.of_kind(Blurred, sigma=torch.where(search.high.isfinite(), search.high, search.low))


class _Search:
    """Of each image the strongest blur below the weakest that fools, that one, and the pictures of it.

    Attributes:
        low, high: (N,), standard deviations; ``high`` is infinite until a blur has fooled.
    """

    def __init__(self, asked: Attacked, total: int, on_progress: OnProgress | None) -> None:
        self._asked, self._total, self._on_progress, self._done = asked, total, on_progress, 0
        self._exact, self._shown = asked.images.clone(), asked.images.clone()
        self._rows: list[Tensor] = []
        already = asked.fooled(asked.logits, torch.arange(len(asked.images)))
        self.low = torch.zeros(len(asked.images), dtype=torch.float64)
        self.high = torch.where(already, 0.0, math.inf).double()

    def ask(self, numbers: Tensor, sigmas: Tensor) -> None:
        """Blurs the images with these numbers, each by its own sigma."""
        self._done += 1
        if len(numbers):
            where = numbers.to(self._exact.device)
            pairs = zip(self._asked.images[where].split(1), sigmas.tolist(), strict=True)
            exact = torch.cat([diffused(image, sigma).clamp(0, 1) for image, sigma in pairs])
            shown = self._asked.shown(exact, numbers, None)
            fooled, lead = self._asked.judged(shown, numbers)
            # The last that fools is the weakest; where none does, the strongest is told.
            kept = fooled | self.high[numbers].isinf()
            self._exact[numbers[kept].to(where.device)] = exact[kept.to(where.device)]
            self._shown[numbers[kept].to(where.device)] = shown[kept.to(where.device)]
            self.high[numbers[fooled]], self.low[numbers[~fooled]] = sigmas[fooled], sigmas[~fooled]
            row = torch.full((len(self.low),), math.nan, dtype=torch.float64)
            row[numbers] = lead.double()
            self._rows.append(row)
        if self._on_progress is not None:
            self._on_progress(self._done, self._total)

    def moved(self) -> Moved:
        """The pictures and scores of all."""
        history = torch.stack(self._rows) if self._rows else torch.zeros((0, len(self.low)), dtype=torch.float64)
        dtype = torch.float64 if self._exact.dtype == torch.float64 else torch.float32
        steps = (~history.isnan()).sum(0)
        return Moved(self._exact, self._shown, self.high.isfinite(), steps, history.to(dtype))
