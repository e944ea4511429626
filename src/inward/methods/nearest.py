"""What a search for the smallest change keeps: of each image the nearest candidate that fools, and as it is saved."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.methods.attacked import Attacked, Moved, P
from inward.network.trace import Trace
from inward.types import Images, Logits, Scores

# By how much of itself a change is lengthened at first where it no longer fools as it is saved. In float that is
# only since the loop's network adds in another order; in 8 bits, since values under half a level are lost.
_FLOAT, _EIGHT_BIT = 1e-4, 0.05
_DOUBLINGS, _HALVINGS = 14, 8
# Of candidates that are equally near but for rounding the first is kept, whatever the batch.
_NEARER = 1 - 1e-6


class Nearest:
    """The nearest candidate of each image that fools the network, by the norm of its change.

    Attributes:
        exact: (N, C, H, W), the candidates; where there is none, the images.
        length: (N,), the norm of their changes in [0, 1] units; infinite where there is none.
        steps: (N,), passes made for each image.
    """

    def __init__(self, asked: Attacked, norm: str, confidence: float = 0.0) -> None:
        self._asked, self._p, self._confidence = asked, P[norm], confidence
        self._passes: list[tuple[Tensor, Tensor, Tensor]] = []
        self.exact = asked.images.clone()
        self.length = torch.full((len(asked.images),), math.inf, dtype=torch.float64)
        self.steps = torch.zeros(len(asked.images), dtype=torch.long)

    def begin(self) -> Tensor:
        """Takes the images that fool the network already; gives the numbers of the others."""
        everyone = torch.arange(len(self.exact))
        self.offer(self._asked.images, everyone, self.fooled(self._asked.images, self._asked.logits, everyone))
        return (~self.reached).nonzero()[:, 0]

    def fooled(self, images: Images, logits: Logits, numbers: Tensor) -> Tensor:
        """Which of these candidates fool the network by these logits, as clearly as was asked."""
        lead = self._asked.lead.select(numbers.tolist())(Trace(self._asked.net, images, {"class": logits}))
        return self._clearly(self._asked.fooled(logits, numbers), lead)

    def offer(self, images: Images, numbers: Tensor, fooled: Tensor) -> None:
        """Keeps those candidates that ``fooled`` and are nearer than what there is."""
        lengths = self.lengths(images, numbers)
        nearer = fooled & (lengths < self.length[numbers] * _NEARER)
        kept = numbers[nearer]
        self.length[kept] = lengths[nearer]
        self.exact[kept.to(images.device)] = images.detach()[nearer.to(images.device)]

    def note(self, numbers: Tensor, scores: Scores) -> None:
        """One pass more for the images with these numbers, which it began at these scores."""
        self._passes.append((self.steps[numbers], numbers, scores.detach().cpu()))
        self.steps[numbers] += 1

    @property
    def reached(self) -> Tensor:
        """Of which images there is a candidate that fools."""
        return self.length.isfinite()

    def lengths(self, images: Images, numbers: Tensor) -> Tensor:
        """The norm of each candidate's change, in float64."""
        change = images.detach() - self._asked.images[numbers.to(images.device)]
        return torch.linalg.vector_norm(change.flatten(1), self._p, dim=1, dtype=torch.float64).cpu()

    def moved(self, last: Images) -> Moved:
        """The nearest candidate as it is saved; of images that have none ``last``, where the search ended.

        Judged on the plain network. A candidate that no longer fools as it is saved is lengthened until it does,
        and of 8-bit pictures the smallest multiple of the change that does is looked for.
        """
        exact = torch.where(self.reached.to(last.device).view(-1, 1, 1, 1), self.exact, last)
        shown = self._asked.shown(exact, torch.arange(len(exact)), None)
        saved = self.reached & (self.length == 0)
        numbers = (self.reached & ~saved).nonzero()[:, 0]
        if len(numbers):
            search = _Multiples(self, self._asked, numbers)
            search.run()
            done, where = numbers[search.found], search.found.to(last.device)
            shown[done.to(last.device)] = search.shown[where]
            saved[done] = True
        return Moved(exact, shown, saved, self.steps, self._history())

    def judged(self, shown: Images, numbers: Tensor) -> Tensor:
        """Which of these pictures fool the plain network as they stand, as clearly as was asked."""
        return self._clearly(*self._asked.judged(shown, numbers))

    def _clearly(self, fooled: Tensor, lead: Scores) -> Tensor:
        return fooled & (lead.cpu() >= self._confidence)

    def _history(self) -> Tensor:
        """The scores of each image's own passes, one below the other, (passes, N)."""
        passes = int(self.steps.max())
        history = torch.full((passes, len(self.steps)), math.nan, dtype=self.exact.dtype)
        for rows, numbers, scores in self._passes:
            history[rows, numbers] = scores.to(history)
        return history


class _Multiples:
    """The smallest multiple of each kept change that fools as it is saved.

    Attributes:
        shown: (M, C, H, W), the nearest saved picture that fools.
        found: (M,), of which there is one.
    """

    def __init__(self, kept: Nearest, asked: Attacked, numbers: Tensor) -> None:
        where = numbers.to(asked.images.device)
        self._kept, self._asked, self._numbers = kept, asked, numbers
        self._images = asked.images[where]
        self._change = kept.exact[where] - self._images
        self.shown = self._images.clone()
        self._length = torch.full((len(numbers),), math.inf, dtype=torch.float64)

    @property
    def found(self) -> Tensor:
        return self._length.isfinite()

    def run(self) -> None:
        """Outwards in growing strides until each has fooled, then back by halving."""
        low = torch.zeros(len(self._numbers), dtype=torch.float64)
        high = torch.full_like(low, math.inf)
        stride = _EIGHT_BIT if self._asked.eight_bit else _FLOAT
        for beyond in (0.0, *(stride * 2**k for k in range(_DOUBLINGS))):
            left = high.isinf().nonzero()[:, 0]
            if len(left) == 0:
                break
            multiple = torch.full((len(left),), 1 + beyond, dtype=torch.float64)
            fooled = self._try(left, multiple)
            high[left[fooled]], low[left[~fooled]] = 1 + beyond, 1 + beyond
        # The candidate itself is what the method found; only rounding gives a reason to look closer.
        for _ in range(_HALVINGS if self._asked.eight_bit else 0):
            left = high.isfinite().nonzero()[:, 0]
            if len(left) == 0:
                break
            middle = (low + high)[left] / 2
            fooled = self._try(left, middle)
            high[left[fooled]], low[left[~fooled]] = middle[fooled], middle[~fooled]

    def _try(self, which: Tensor, multiple: Tensor) -> Tensor:
        where = which.to(self._images.device)
        factor = multiple.to(self._images).view(-1, 1, 1, 1)
        # A multiple of 1 is the candidate to the last digit.
        own = self._kept.exact[self._numbers[which].to(where.device)]
        longer = torch.where(factor == 1, own, self._images[where] + factor * self._change[where])
        numbers = self._numbers[which]
        shown = self._asked.shown(longer.clamp(0, 1), numbers, None)
        fooled = self._kept.judged(shown, numbers)
        lengths = self._kept.lengths(shown, numbers)
        nearer = fooled & (lengths < self._length[which])
        self._length[which[nearer]] = lengths[nearer]
        self.shown[where[nearer.to(where.device)]] = shown[nearer.to(where.device)]
        return fooled
