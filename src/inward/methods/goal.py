"""The goal of an attack inside a ball: which candidates fool the network as they would be saved, and the best one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.methods.attacked import Attacked, Moved
from inward.network.trace import Trace
from inward.types import Images, Logits, Scores


class Goal:
    """Whether each image fools the network as it would be saved, and the candidate that most clearly did.

    Given to an ascent as what is to be reached; the moves after a first success can lose it again.
    """

    def __init__(self, asked: Attacked, ball: Ball | None) -> None:
        self._asked, self._ball = asked, ball
        self.exact, self.shown = asked.images.clone(), asked.images.clone()
        self.lead = torch.full((len(asked.images),), -math.inf)

    def __call__(self, trace: Trace, numbers: Tensor) -> Tensor:
        return self.offer(trace.images, numbers, trace["class"])

    def offer(self, images: Images, numbers: Tensor, logits: Logits) -> Tensor:
        """Judges those candidates that fool the network by these logits; gives which do so as they are saved."""
        fooled = self._asked.fooled(logits, numbers)
        where = fooled.nonzero()[:, 0]
        if len(where) == 0:
            return fooled
        candidates, owners = images.detach()[where.to(images.device)], numbers[where]
        shown = self._asked.shown(candidates, owners, self._ball)
        success, lead = self._judged(
            shown, owners, (shown == candidates).flatten(1).all(1), logits[where.to(logits.device)]
        )
        better = success & (lead > self.lead[owners])
        kept, on = owners[better], better.to(images.device)
        self.lead[kept] = lead[better].to(self.lead)
        self.exact[kept.to(images.device)] = candidates[on]
        self.shown[kept.to(images.device)] = shown[on]
        return fooled.index_put((where,), success)

    def _judged(self, shown: Images, owners: Tensor, same: Tensor, logits: Logits) -> tuple[Tensor, Scores]:
        """Success and lead of what is saved; ``same``: the logits are those of just that picture, to rounding.

        They are believed where they are clear; else, and where a network draws random numbers, it runs again.
        """
        lead = self._asked.lead.select(owners.tolist())(Trace(self._asked.net, shown, {"class": logits}))
        clear = lead > logits.abs().amax(1) * math.sqrt(torch.finfo(logits.dtype).eps)
        again = (~(clear & same.to(clear.device) & (not self._asked.random))).nonzero()[:, 0].cpu()
        success, lead = torch.ones(len(owners), dtype=torch.bool), lead.cpu()
        if len(again):
            success[again], lead[again] = self._asked.judged(shown[again.to(shown.device)], owners[again])
        return success, lead

    @property
    def reached(self) -> Tensor:
        """Which images have had a success."""
        return self.lead > -math.inf

    def moved(self, last: Images, steps: Tensor, history: Tensor) -> Moved:
        """The clearest success of each image, and of those that had none their last candidate."""
        everyone = torch.arange(len(last))
        done = self.reached.to(last.device).view(-1, 1, 1, 1)
        shown = torch.where(done, self.shown, self._asked.shown(last, everyone, self._ball))
        return Moved(torch.where(done, self.exact, last), shown, self.reached, steps, history)
