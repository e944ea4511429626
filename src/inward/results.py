"""Results: plain frozen data. ``runs.folder`` saves them, ``draw`` shows them.

``len(result)`` is the number of images, ``result[i]`` the result of one, with a batch of one.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from inward.columns.objectives import Objective
from inward.network.network import Network
from inward.runs.record import Record, described
from inward.types import Images, Pictures, Scores, Size

Kind: TypeAlias = Literal["sensitivity", "contribution", "amount"]
"""What the values of an attribution are."""

_SCORES = {"score": "logit", "probability": "probability", "cross-entropy": "minus the cross-entropy"}
# A picture with less contrast than this shows nothing: its unit never woke.
GRAY = 0.02


@dataclass(frozen=True, eq=False)
class Result(ABC):
    """What every result has: the network, the record, and how to take one image out of a batch."""

    # Fields that hold one entry an image, in tensors or tuples; and those whose second axis does.
    batched: ClassVar[tuple[str, ...]] = ()
    columns: ClassVar[tuple[str, ...]] = ()

    net: Network
    record: Record

    def __len__(self) -> int:
        return len(getattr(self, self.batched[0]))

    def __getitem__(self, index: int) -> Self:
        index = range(len(self))[index]
        one = {name: getattr(self, name)[index : index + 1] for name in self.batched}
        one |= {name: getattr(self, name)[:, index : index + 1] for name in self.columns}
        inputs = {name: described(one[name]) for name in self.record.inputs if name in one}
        return replace(self, **one, record=replace(self.record, inputs={**self.record.inputs, **inputs}))

    @abstractmethod
    def measures(self) -> dict[str, Any]:
        """What is said of one image: the ``scores`` of its manifest."""

    def notes(self) -> tuple[str, ...]:
        """What is worth saying of one image beside its measures."""
        return ()

    def arrays(self) -> dict[str, Tensor]:
        """The tensors of the result, by name."""
        held = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in held.items() if isinstance(value, Tensor)}

    def save(self, folder: str | Path) -> Path:
        """Writes the arrays, the pictures and ``manifest.json`` of a result of one image; gives the folder.

        Raises InwardError where the folder cannot be written; CallError for a batch (save ``result[i]``).
        """
        from inward.runs.folder import save

        return save(self, Path(folder))

    def _repr_html_(self) -> str:
        from inward.notebook import html

        return html(self)


@dataclass(frozen=True, eq=False)
class Attribution(Result):
    """A map of what mattered.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        values: never scaled. Of the pixels (N, C, H, W), or (N, 1, h, w) where channels are not told
            apart, on a grid as coarse as the method's; of a point inside, its own shape, batch first.
        targets: the address each map explains.
        scores: (N,), the objective.
        kind: what a value is. ``sensitivity``: score per unit of what it belongs to, signed;
            ``contribution``: its share of a difference of scores, signed; ``amount``: how much, from 0 up.
        at: the point whose activations the values belong to; empty for the image.
        measured: what the method says of its maps, by name: (N,) each, NaN where there is nothing to say.
        remarks: sentences on each map.
    """

    batched: ClassVar[tuple[str, ...]] = ("images", "values", "targets", "scores", "remarks")

    images: Images
    values: Float[Tensor, "n ..."]
    targets: tuple[str, ...]
    scores: Scores
    kind: Kind
    at: str
    measured: Mapping[str, Tensor]
    remarks: tuple[tuple[str, ...], ...]

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        place = range(len(self))[index]
        return replace(one, measured={k: v[place : place + 1] for k, v in self.measured.items()})

    def features(self) -> Tensor:
        """The values with features second, then the grid: (N, K, h, w), or (N, K, ...) where there is no grid."""
        if not self.at or self.values.shape[1] == 1:
            return self.values
        layout = self.net.layout_of(self.net.resolve(self.at, self.size), self.size)
        return layout.features(self.values.movedim(0, layout.axes.index("n")))

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return (self.images.shape[2], self.images.shape[3])

    @property
    def score_kind(self) -> str:
        """What the score of a class is, in a word; empty for what is no class."""
        is_class = re.fullmatch(r"class(@\d+)?:\d+", self.targets[0])
        return _SCORES.get(self.record.parameters.get("of") or "score", "") if is_class else ""

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        inside = {"at": self.at} if self.at else {}
        own = {name: value[0].item() for name, value in self.measured.items() if not value[0].isnan()}
        kind = {"score_kind": self.score_kind} if self.score_kind else {}
        return {"target": self.targets[0], "score": self.scores[0].item(), **kind, **inside, **own}

    def notes(self) -> tuple[str, ...]:
        """What the method remarks; where it says nothing of a map of zeros, that it is one."""
        dead = f"the map is exactly 0: {self.targets[0]} is dead on this image"
        return self.remarks[0] if self.remarks[0] or self.values[0].any() else (dead,)


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


@dataclass(frozen=True, eq=False)
class Visualization(Result):
    """Pictures of what units look for.

    Attributes:
        images: (N, C, H, W) in [0, 1]; with an alpha channel (last) where they are transparent.
        variants: (N, D - 1, C, H, W), the further ones of D pictures of each unit.
        snapshots: (N, S, C, H, W), the pictures on the way.
        addresses: the unit of each picture.
        starts: what each began as: noise, gray, or a file.
        final: (N,), what the unit says of the final picture, without augmentation and penalties.
        variants_final: (N, D - 1), the same of the variants.
        history: (passes, N), the objective at every pass, augmented, with penalties; of a picture that
            settled, its last one.
        passes: (N,), how often each picture was moved.
        redirected: (N,), in how many passes ReLU gradients were redirected.
    """

    batched: ClassVar[tuple[str, ...]] = (
        *("images", "variants", "snapshots", "addresses", "starts"),
        *("final", "variants_final", "passes", "redirected"),
    )
    columns: ClassVar[tuple[str, ...]] = ("history",)

    images: Images
    variants: Float[Tensor, "n d c h w"]
    snapshots: Float[Tensor, "n s c h w"]
    addresses: tuple[str, ...]
    starts: tuple[str, ...]
    final: Scores
    variants_final: Float[Tensor, "n d"]
    history: Tensor
    passes: Tensor
    redirected: Tensor

    def __getitem__(self, index: int) -> Self:
        one = super().__getitem__(index)
        # The others of its batch may have gone on for longer.
        return replace(one, history=one.history[: int(one.passes[0])])

    def measures(self) -> dict[str, Any]:
        """What is said of one picture."""
        others = {"variants": [v.item() for v in self.variants_final[0]]} if self.variants_final.numel() else {}
        return {
            "address": self.addresses[0],
            "final": self.final[0].item(),
            **others,
            "passes": int(self.passes[0]),
            "redirected_passes": int(self.redirected[0]),
        }

    def notes(self) -> tuple[str, ...]:
        """Says where nothing came of it."""
        if self.images[0].std().item() >= GRAY:
            return ()
        why = "the unit never woke"
        if self.record.parameters.get("negative"):
            why = "nothing lies below it; where it is the output of a ReLU, name the point before that"
        return (f"{self.addresses[0]} stayed gray: {why}",)


def describe(measures: Mapping[str, Any]) -> str:
    """Measures in one line, for captions and the terminal."""
    return ", ".join(f"{key} {told(value)}" for key, value in measures.items())


def told(value: Any) -> str:
    """A measure as captions have it."""
    if isinstance(value, list):
        return " ".join(told(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
