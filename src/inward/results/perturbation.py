"""Images that were changed a little: adversarial ones, and such as drive something inside."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, TypeVar

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.results.base import Result
from inward.types import Images, Pictures, Scores

K = TypeVar("K", bound="Perturbation")


@dataclass(frozen=True, eq=False)
class Perturbation(Result):
    """Adversarial images.

    Attributes:
        images: the originals, (N, C, H, W) in [0, 1].
        adversarial: (N, C, H, W); on the grid of 8-bit values, as a PNG holds them, unless asked otherwise.
        labels: the class each is led away from, an address each.
        targets: the class asked for, an address each; empty where any other class will do.
        answers: the class that the network answers for ``adversarial``, an address each.
        success: (N,), of ``adversarial``.
        unrounded: (N,), success before the values were rounded to 8 bits.
        steps: (N,), passes until the goal was first reached (all passes where it was not).
        linf, l2, l1: (N,), norms of the change, in [0, 1] units; l0: how many pixels differ.
        final: (N,), how far the logit of the target (of any other class) is above all others (the label's).
        history: (passes, N), the objective.
    """

    batched: ClassVar[tuple[str, ...]] = (
        *("images", "adversarial", "labels", "targets", "answers", "success", "unrounded"),
        *("steps", "linf", "l2", "l1", "l0", "final"),
    )
    columns: ClassVar[tuple[str, ...]] = ("history",)

    images: Images
    adversarial: Images
    labels: tuple[str, ...]
    targets: tuple[str, ...]
    answers: tuple[str, ...]
    success: Tensor
    unrounded: Tensor
    steps: Tensor
    linf: Tensor
    l2: Tensor
    l1: Tensor
    l0: Tensor
    final: Scores
    history: Tensor

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        # The others of its batch may have gone on for longer, or begun when it had reached its goal already.
        moved = int(one.steps[0]) + int(self.record.parameters.get("extra", 0))
        history = one.history[:moved]
        return replace(one, history=history[~history[:, 0].isnan()])

    def of_kind(self, kind: type[K], **own: Any) -> K:
        """The same as a kind of result that has further fields."""
        return kind(**{f.name: getattr(self, f.name) for f in fields(self)}, **own)

    def notes(self) -> tuple[str, ...]:
        """Where nothing was changed, why."""
        if self.l0[0] > 0:
            return ()
        if self.success[0]:
            return (f"nothing was changed: the answer was {self.targets[0] or 'not ' + self.labels[0]} already",)
        if self.record.parameters["eight_bit"] and self.steps[0] > 0:
            return ("rounding to 8 bits takes the whole change back; give a larger eps, or eight_bit=False",)
        return ()

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        success, unrounded = bool(self.success[0]), bool(self.unrounded[0])
        return {
            **({"target": self.targets[0]} if self.targets[0] else {"label": self.labels[0]}),
            "answer": self.answers[0],
            "final": self.final[0].item(),
            "success": success,
            # Both figures, where rounding makes a difference.
            **({} if success == unrounded else {"success_unrounded": unrounded}),
            "steps": int(self.steps[0]),
            **{norm: getattr(self, norm)[0].item() for norm in ("linf", "l2", "l1")},
            "l0": int(self.l0[0]),
        }


@dataclass(frozen=True, eq=False)
class Driven(Result):
    """Images that were changed a little, so that something inside the network became what was asked.

    Attributes:
        images: the originals, (N, C, H, W) in [0, 1].
        adversarial: (N, C, H, W); on the grid of 8-bit values, as a PNG holds them, unless asked otherwise.
        guide: (N, C, H, W), the pictures whose features were to be met; (N, 0, H, W) where there were none.
        objective: what was driven up.
        before, final: (N,), the objective of ``images`` and of ``adversarial``; with a guide minus the mean square of
            the differences of the features.
        answers_before, answers: the class that the network answers for each; empty where it has no classes.
        linf, l2, l1: (N,), norms of the change, in [0, 1] units; l0: how many pixels differ.
        history: (passes, N), the objective.
    """

    batched: ClassVar[tuple[str, ...]] = (
        *("images", "adversarial", "guide", "before", "final", "answers_before", "answers"),
        *("linf", "l2", "l1", "l0"),
    )
    columns: ClassVar[tuple[str, ...]] = ("history",)

    images: Images
    adversarial: Images
    guide: Pictures
    objective: Objective
    before: Scores
    final: Scores
    answers_before: tuple[str, ...]
    answers: tuple[str, ...]
    linf: Tensor
    l2: Tensor
    l1: Tensor
    l0: Tensor
    history: Tensor

    def __getitem__(self, index: int) -> Self:
        place = range(len(self))[index]
        return replace(super().__getitem__(index), objective=self.objective.select([place]))

    @property
    def distance_left(self) -> Tensor:
        """With a guide: the Euclidean distance of the features, as a share of what it was, (N,); 0 of 0 is 1."""
        share = (self.final.double() / self.before.double()).sqrt()
        return torch.where(self.before == 0, 1.0, share)

    def notes(self) -> tuple[str, ...]:
        """Where nothing was changed, that no change was better."""
        if self.l0[0] > 0:
            return ()
        return ("nothing was changed: no picture that was tried does better; give more steps or a larger eps",)

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        told = self.record.parameters
        guided = self.guide.shape[1] > 0
        answers = {"answer_before": self.answers_before[0], "answer": self.answers[0]} if self.answers[0] else {}
        return {
            **({"at": told["at"]} if guided else {"objective": told["objective"]}),
            "before": self.before[0].item(),
            "final": self.final[0].item(),
            **({"distance_left": self.distance_left[0].item()} if guided else {}),
            **answers,
            **{norm: getattr(self, norm)[0].item() for norm in ("linf", "l2", "l1")},
            "l0": int(self.l0[0]),
        }


@dataclass(frozen=True, eq=False)
class Universal(Perturbation):
    """Images that were all changed in the same way.

    Attributes:
        change: (1, C, H, W), what was added to each; values then stay in [0, 1].
        rate: the share of all images of the batch that fool the network.
    """

    change: Tensor
    rate: float

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        return super().measures() | {"rate": self.rate}


@dataclass(frozen=True, eq=False)
class Patched(Perturbation):
    """Images with the same patch, each at a place that it was not made for.

    Attributes:
        patch: (1, C, S, S) in [0, 1].
        hits: (N,), at which share of random places in the image the patch succeeds.
    """

    batched: ClassVar[tuple[str, ...]] = (*Perturbation.batched, "hits")

    patch: Tensor
    hits: Tensor

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        return super().measures() | {"hits": self.hits[0].item()}
