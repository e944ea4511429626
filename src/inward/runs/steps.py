"""What a network answers on the way of an attack: the probabilities by step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inward.errors import CallError
from inward.network.modes import drawing
from inward.network.network import Network
from inward.row import Pass
from inward.runs.film import spaced
from inward.types import Images

STEPS = "steps.json"
# So many passes are looked at, and so many classes told of.
_LOOKS, _CLASSES = 60, 5
# With restarts, at most.
_MOST = 240


@dataclass
class Steps:
    """The probabilities of all classes for one image while it is attacked: pass it as ``on_pass``.

    Up to 60 passes of each start are looked at, evenly spaced, 240 in all, each with one run of the network: what an
    attack computes itself is the answer to the picture before the pass, of the network without its normalization
    layers.

    Raises CallError for a batch, and for a network that does not give one number a class.

    Args:
        net: the attacked network.
        image: (1, C, H, W) in [0, 1], as it was; it is step 0.
    """

    net: Network
    image: Images
    _passes: list[int] = field(default_factory=list)
    _found: list[Tensor] = field(default_factory=list)
    _rounds: int = 0
    _last: int = 0

    def __post_init__(self) -> None:
        self._look(0, self.image)

    def __call__(self, now: Pass) -> None:
        """Looks at a pass, where it is one of those told of."""
        # An attack that starts anew counts from 1 again.
        if now.done <= self._last:
            self._rounds += self._last
        self._last = now.done
        if now.done in spaced(now.total, _LOOKS) and len(self._passes) <= _MOST:
            self._look(self._rounds + now.done, now.images())

    def told(self, end: Images, named: Sequence[int] = ()) -> dict[str, Any]:
        """The passes, and of the classes that matter their probability after each.

        Args:
            end: (1, C, H, W), what the attack gave in the end; it stands for the last step.
            named: classes that are told of whatever their probability.

        Returns:
            ``passes``, the numbers from 0 on, and ``classes``: of each ``class``, ``label`` and ``probabilities``.
        """
        last = max(1, self._rounds + self._last)
        if self._passes[-1] == last:
            del self._passes[-1], self._found[-1]
        self._look(last, end)
        table = torch.stack(self._found)
        most = table.amax(0).topk(min(_CLASSES, table.shape[1])).indices.tolist()
        kept = list(dict.fromkeys([*named, *table[[0, -1]].argmax(1).tolist(), *most]))[:_CLASSES]
        classes = [{"class": k, "label": self.net.label(k), "probabilities": table[:, k].tolist()} for k in kept]
        return {"passes": self._passes, "classes": classes}

    def write(self, folder: Path, end: Images, named: Sequence[int] = ()) -> Path:
        """What is told, as ``steps.json`` in a folder that is there."""
        file = folder / STEPS
        file.write_text(json.dumps(self.told(end, named)), encoding="utf-8")
        return file

    @torch.no_grad()
    def _look(self, number: int, image: Images) -> None:
        if len(image) != 1:
            raise CallError(
                f"the steps of one image are told, and this is a batch of {len(image)}; attack one at a time"
            )
        # What the network draws for a look is not taken from the attack.
        with drawing(0, self.net.device):
            logits = self.net(image.to(self.net.dtype))
        if logits.ndim != 2:
            raise CallError(f"{self.net.name} gives no number a class, so there are no probabilities by step")
        self._passes.append(number)
        self._found.append(torch.nan_to_num(self.net.probabilities(logits)[0].float().cpu()))
