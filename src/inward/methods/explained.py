"""What every attribution begins and ends with: the score that is explained, and the result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from inward.columns.objectives import ClassScore, CrossEntropy, Objective, Probability, at, classes_of
from inward.errors import CallError, InwardError, numbered, there_are
from inward.gradient import constant, keys_of, trace_for, whole
from inward.methods.classes import classes_suggested
from inward.methods.recipe import checked_sum, is_sum, summed
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Attribution, Kind
from inward.runs.record import record
from inward.types import Images, Scores, Size

Target: TypeAlias = str | Sequence[str] | Objective | None
"""An address, or one an image (classes only); an objective; None, each image's own answer."""
Of: TypeAlias = Literal["score", "probability", "cross-entropy"]
"""Of a class: its logit, its probability, or minus its cross-entropy."""


_GIVEN = "a baseline is an image given in Python, so this cannot be computed again from its manifest"
# A difference of scores below this share of the logits' spread is none to speak of.
SMALL = 1e-3


@dataclass(frozen=True)
class Explained:
    """What is explained: checked images on the network's device, the objective, the address of each image's."""

    net: Network
    images: Images
    objective: Objective
    targets: tuple[str, ...]
    started: float
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return (self.images.shape[2], self.images.shape[3])

    def scores(self, images: Images | None = None) -> Scores:
        """The score of each image, or of other images in their places."""
        shown = self.images if images is None else images
        with torch.no_grad():
            return self.objective(trace_for(self.net, shown, keys_of(self.net, self.objective, self.size)))

    def loop(self, at: str | None = None) -> Network:
        """The network for many runs: the lean one, but where activations of a point matter.

        Where a batch normalization is folded, no path leads from the convolution before it.
        """
        return self.net if at is not None else lean(self.net, self.size, half=False)

    def spread(self) -> Tensor:
        """What differences of scores are small beside, (N,): largest minus smallest logit; inside, the score itself."""
        if self.targets[0].startswith("class"):
            with torch.no_grad():
                logits = self.net(self.images).double()
            return logits.amax(1) - logits.amin(1)
        return self.scores().double().abs()

    def completeness(self, difference: Tensor, **missing: Tensor) -> dict[str, Tensor]:
        """Errors of a map that should add up to ``difference``, (N,) each, by name, for ``measured``.

        Relative to the difference; where that is less than a thousandth of the logits' spread, they are
        absolute, under the name ``absolute_...``, and the relative one is NaN, which is left out.
        """
        size = difference.double().abs().cpu()
        small = size < SMALL * self.spread().cpu()
        found = {}
        for name, error in missing.items():
            plain = error.double().cpu()
            found[name] = torch.where(small, torch.nan, plain / size.clamp_min(1e-300))
            found[f"absolute_{name}"] = torch.where(small, plain, torch.nan)
        return found

    def attribution(
        self,
        method: str,
        parameters: Mapping[str, Any],
        values: Tensor,
        scores: Scores,
        *,
        kind: Kind,
        at: str = "",
        measured: Mapping[str, Tensor] | None = None,
        remarks: Sequence[Sequence[str]] = (),
        notes: Sequence[str] = (),
    ) -> Attribution:
        """The result. ``parameters`` are all of the method's but ``target``.

        Raises InwardError for values that are not finite.
        """
        if not values.isfinite().all():
            raise InwardError(f"the map of {self.targets[0]} is not finite; check the weights, and --dtype")
        told = {"target": list(self.targets), **parameters}
        given = parameters.get("baseline")
        names = given if isinstance(given, (list, tuple)) else [given]
        notes = (*self.notes, *notes, *((_GIVEN,) if any(n == "given" for n in names if isinstance(n, str)) else ()))
        made = record(self.net, method, told, {"images": self.images}, self.started, notes)
        said = tuple(tuple(each) for each in remarks) or ((),) * len(self.images)
        return Attribution(
            self.net,
            made,
            images=self.images,
            values=values.detach(),
            targets=self.targets,
            scores=scores.detach(),
            kind=kind,
            at=at,
            measured=dict(measured or {}),
            remarks=said,
        )


def explained(net: Network, images: Images, target: Target, of: Of = "score") -> Explained:
    """The score behind a target.

    Raises CallError for images that are not in [0, 1], an address that the network does not have, a
    probability or cross-entropy of what is no class, and an objective whose images depend on one another.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    if of not in _OF:
        raise CallError(f"nothing here is of '{of}'; write score, probability or cross-entropy")
    images = constant(images).to(net.device)
    size = (images.shape[2], images.shape[3])
    if isinstance(target, Objective):
        if of != "score" or target.group != 1:
            why = "whose images depend on one another" if of == "score" else "which has no classes"
            raise CallError(f"the target is an objective {why}; give an address, or one of images alone")
        keys_of(net, target, size)
        note = "the target is an objective made in Python, so this cannot be computed again from its manifest"
        return Explained(net, images, target, (repr(target),) * len(images), started, (note,))
    objective, targets = _of_address(net, images, target, of, size)
    return Explained(net, images, objective, targets, started)


_OF = {
    "score": ClassScore,
    "probability": Probability,
    "cross-entropy": lambda classes, output=0: -1.0 * CrossEntropy(classes, output),
}


def _of_address(
    net: Network, images: Images, target: str | Sequence[str] | None, of: Of, size: Size
) -> tuple[Objective, tuple[str, ...]]:
    if target is None:
        with torch.no_grad():
            classes = tuple(net(images).argmax(1).tolist())
        return _OF[of](classes), tuple(f"class:{k}" for k in classes)
    words = [target] * len(images) if isinstance(target, str) else list(target)
    if len(words) != len(images):
        raise CallError(
            f"{there_are(len(words), 'target')} for {numbered(len(images), 'image')}; give one, or one an image"
        )
    with classes_suggested(net, words, size):
        if len(set(words)) == 1:
            return _of_one(net, words, of, size)
        classes = classes_of(net, words, size)
    outputs = {net.resolve(word, size).output for word in words}
    if outputs != {0}:
        raise CallError("targets of one image each are classes of the first output; give one target for all images")
    return _OF[of](classes), tuple(f"class:{k}" for k in classes)


def _of_one(net: Network, words: Sequence[str], of: Of, size: Size) -> tuple[Objective, tuple[str, ...]]:
    """The same for every image."""
    one = words[0]
    objective = summed(net, one, size) if is_sum(one) else at(net, one, size)
    name = checked_sum(net, one, size) if is_sum(one) else str(net.resolve(one, size))
    if of == "score":
        return objective, (name,) * len(words)
    if not isinstance(objective, ClassScore):
        raise CallError(f"{of} is of a class, and '{one}' is none; leave out --of")
    return _OF[of](objective.classes, objective.output), (name,) * len(words)


def inside(net: Network, address: str, size: Size) -> str:
    """The whole point that activations are attributed to. Raises CallError for a unit, or no such point."""
    key = whole(net, address, size)
    if not net.layout_of(net.resolve(address, size), size).has_units:
        raise CallError(f"'{address}' has no known axis of features to attribute to; choose a point beside it")
    return key


def of_point(net: Network, key: str, value: Tensor, size: Size) -> Tensor:
    """An activation of a point or its gradient, in the network's own layout, but the batch first."""
    axes = net.layout_of(net.resolve(key, size), size).axes
    return value.movedim(axes.index("n"), 0)


def usual_of(net: Network, images: Images, target: Target, of: Of | None) -> Of:
    """What is asked where nothing is said: the probability of classes, the score of all else."""
    net.preprocess.check(images)
    if of is not None:
        return of
    if isinstance(target, Objective):
        return "score"
    size = (images.shape[2], images.shape[3])
    names = [target] if isinstance(target, str) else target or []
    with classes_suggested(net, names, size):
        inside = [is_sum(name) or net.resolve(name, size).output is None for name in names]
    return "score" if any(inside) else "probability"
