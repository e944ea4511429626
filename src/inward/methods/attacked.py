"""What every attack begins and ends with: whom it moves away from which answer, and the judged result."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.columns.expectation import Expected
from inward.columns.objectives import DLR, CrossEntropy, Margin, Objective, TargetedDLR, classes_of
from inward.errors import CallError, numbered, there_are
from inward.gradient import constant
from inward.methods.classes import classes_suggested
from inward.methods.levels import LEVELS, eight_bit, lengths, rounded
from inward.network.modes import drawing, drawn_so_far
from inward.network.network import Network
from inward.network.trace import Trace
from inward.results import Perturbation
from inward.runs.record import record
from inward.types import Images, Logits, Scores, Size

Classes: TypeAlias = str | int | Sequence[str] | Sequence[int] | Tensor | None
"""class:281 or class:tabby, or their numbers; one, or one an image."""
Norm: TypeAlias = Literal["linf", "l2", "l1"]
Loss: TypeAlias = Literal["cross-entropy", "margin", "dlr"]
"""What is climbed: the cross-entropy; how far another class leads; the same divided by the spread of the logits."""

P: dict[str, float] = {"linf": math.inf, "l2": 2, "l1": 1}
EPS: dict[str, float] = {"linf": 8 / 255, "l2": 0.5, "l1": 12.0}
"""The usual eps of each norm, those of RobustBench for pictures of 32 x 32 pixels."""
# So that the last run draws other numbers than the random starts did.
_JUDGED = 0x5EED << 40


class Verdict(NamedTuple):
    """Whether each image is taken for what the attack wants, by how much it leads, and the number of its class."""

    success: Tensor
    lead: Scores
    answers: Tensor


@dataclass(frozen=True)
class Attacked:
    """What is attacked: checked images on the network's device and the classes.

    Attributes:
        labels: the class of each image, which an attack leads away from.
        targets: the class it leads to; None: to any other.
        logits: what the network says of the images.
        eight_bit: whether success is that of the 8-bit picture. The images are whole 8-bit levels then.
        eot: over how many runs of the network gradients and the logits of candidates are averaged.
        random: whether the network draws random numbers.
    """

    net: Network
    images: Images
    logits: Tensor
    labels: tuple[int, ...]
    targets: tuple[int, ...] | None
    eight_bit: bool
    started: float
    notes: tuple[str, ...] = ()
    eot: int = 1
    random: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the method's parameters those that are known here, for its record."""
        target = None if self.targets is None else named(self.targets)
        return {"label": named(self.labels), "target": target, "eight_bit": self.eight_bit}

    @property
    def size(self) -> Size:
        """Height and width of the images."""
        return (self.images.shape[2], self.images.shape[3])

    def seeds(self, seed: int) -> list[int]:
        """A seed for every image, by what is in it: each has its own noise, and the same alone and in a batch."""
        levels = eight_bit(self.images).mul(LEVELS).round().to(torch.uint8).cpu().numpy()
        return [seed ^ int.from_bytes(sha256(one.tobytes()).digest()[:7], "big") for one in levels]

    def objective(self, loss: Loss) -> Objective:
        """What an attack climbs. Raises CallError for a loss that there is none of."""
        if loss == "cross-entropy":
            found = CrossEntropy(self.labels) if self.targets is None else -1.0 * CrossEntropy(self.targets)
        elif loss == "margin":
            found = self.lead
        elif loss == "dlr":
            self.check_classes(loss, 3 if self.targets is None else 4)
            found = DLR(self.labels) if self.targets is None else TargetedDLR(self.labels, targets=self.targets)
        else:
            raise CallError(f"there is no loss '{loss}'; write cross-entropy, margin or dlr")
        return self.averaged(found)

    def check_classes(self, loss: str, least: int) -> None:
        """Raises CallError for a loss that compares more logits than there are."""
        if (count := self.logits.shape[1]) < least:
            raise CallError(f"{loss} compares {least} logits, and this network has {count}; use loss='margin'")

    def averaged(self, objective: Objective) -> Objective:
        """The objective over ``eot`` runs of the network."""
        return objective if self.eot == 1 else Expected(objective, self.eot)

    @cached_property
    def lead(self) -> Objective:
        """Above 0 where the attack has succeeded: how far the target, or any other class, is ahead."""
        return Margin(self.labels) if self.targets is None else -1.0 * Margin(self.targets)

    def fooled(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """Of the images with these numbers, which the logits take for what the attack wants."""
        answers, (labels, targets) = logits.argmax(1).cpu(), self._numbers
        return answers != labels[numbers] if targets is None else answers == targets[numbers]

    @cached_property
    def _numbers(self) -> tuple[Tensor, Tensor | None]:
        """The labels and the targets; loops ask for them at every pass."""
        return torch.tensor(self.labels), None if self.targets is None else torch.tensor(self.targets)

    @torch.no_grad()
    def judged(self, images: Images, numbers: Tensor) -> tuple[Tensor, Scores]:
        """Success and lead of candidates for the images with these numbers, as they stand."""
        success, lead, _ = self._seen(images, numbers)
        return success, lead

    @torch.no_grad()
    def _seen(self, images: Images, numbers: Tensor) -> Verdict:
        return self._verdict(images, numbers, torch.stack(_answers(self.net, images, self.eot)).mean(0))

    def _verdict(self, images: Images, numbers: Tensor, logits: Logits) -> Verdict:
        lead = self.lead.select(numbers.tolist())(Trace(self.net, images, {"class": logits}))
        return Verdict(self.fooled(logits, numbers), lead.cpu(), logits.argmax(1).cpu())

    @torch.no_grad()
    def _judged_where_changed(self, images: Images, numbers: Tensor) -> Verdict:
        """The same; what the network says of the images themselves is known."""
        where = numbers.to(images.device)
        logits, changed = self.logits[where], (images != self.images[where]).flatten(1).any(1)
        if changed.any():
            logits[changed] = torch.stack(_answers(self.net, images[changed], self.eot)).mean(0)
        return self._verdict(images, numbers, logits)

    def judged_at_last(self, images: Images, numbers: Tensor, seed: int) -> Verdict:
        """The same for the result, with answers. A random network runs once, for each image alone, from its own seed.

        So what an attack was lucky with on its way does not count, and a saved picture is judged by the same draw.
        """
        if not self.random:
            return self._judged_where_changed(images, numbers)
        once, seeds, found = replace(self, eot=1), self.seeds(seed), []
        for image, number in zip(images, numbers, strict=True):
            with drawing(seeds[number] ^ _JUDGED, self.net.device):
                found.append(once._seen(image[None], number[None]))
        return Verdict(*(torch.cat(each) for each in zip(*found, strict=True)))

    def shown(self, images: Images, numbers: Tensor, ball: Ball | None) -> Images:
        """Candidates as they are saved: inside the ball to the last digit, in whole levels where that is asked."""
        where = numbers.to(images.device)
        if ball is not None:
            own = ball.select(where)
            return rounded(images, own) if self.eight_bit else own.inside(images)
        return eight_bit(images) if self.eight_bit else images

    def result(
        self,
        method: str,
        parameters: Mapping[str, Any],
        moved: Moved,
        *,
        notes: Sequence[str] = (),
    ) -> Perturbation:
        """The result, judged anew. ``parameters`` are all of the method's."""
        everyone = torch.arange(len(self.images))
        seed = parameters.get("seed", 0)
        success, final, answers = self.judged_at_last(moved.shown, everyone, seed)
        # That a random network was fooled once says nothing of this run.
        unrounded = success.clone() if self.random else success | moved.fooled
        if self.eight_bit and (unsure := (~unrounded).nonzero()[:, 0]).numel():
            exact = moved.exact[unsure.to(self.images.device)]
            unrounded[unsure] = self.judged_at_last(exact, unsure, seed).success
        made = record(self.net, method, dict(parameters), {"images": self.images}, self.started, (*self.notes, *notes))
        return Perturbation(
            self.net,
            made,
            images=self.images,
            adversarial=moved.shown,
            labels=tuple(named(self.labels)),
            targets=("",) * len(self.labels) if self.targets is None else tuple(named(self.targets)),
            answers=tuple(named(answers.tolist())),
            success=success,
            unrounded=unrounded,
            steps=moved.steps,
            **distances(self.images, moved.shown, whole=self.eight_bit),
            final=final,
            history=moved.history,
        )


@dataclass(frozen=True, eq=False)
class Moved:
    """What a search found: the images as it left them, and as they are saved; the moves and scores on the way.

    ``fooled``: of which images it is known that they fool the network as the search left them.
    """

    exact: Images
    shown: Images
    fooled: Tensor
    steps: Tensor
    history: Tensor


def framed(
    net: Network, images: Images, *, eight_bit_judge: bool, eps: float | None, norm: str
) -> tuple[Images, bool, tuple[str, ...]]:
    """The checked images on the network's device, whether 8-bit pictures are judged, and what is to be said of that.

    Raises CallError for images that are not in [0, 1], a norm or an eps that makes no sense.
    """
    net.preprocess.check(images)
    if norm not in P:
        raise CallError(f"there is no norm '{norm}'; write linf, l2 or l1")
    if eps is not None:
        check_eps(eps, norm)
    images = constant(images).to(net.device)
    if eight_bit_judge and eps is not None and norm == "linf" and eps * LEVELS < 1 - 1e-9:
        told = f"eps {eps:.3g} is under one 8-bit level (1/255), which no 8-bit picture can hold: judged in float"
        return images, False, (told,)
    return (eight_bit(images) if eight_bit_judge else images), eight_bit_judge, ()


def attacked(
    net: Network,
    images: Images,
    label: Classes,
    target: Classes,
    *,
    eight_bit_judge: bool,
    eps: float | None,
    norm: str,
    eot: int = 1,
) -> Attacked:
    """The frame of an attack within an eps of a norm (``eps`` None: the smallest change is looked for).

    Without labels, each image's is the network's answer, by the mean logits of ``eot`` runs.

    Raises CallError for images that are not in [0, 1], classes that the network does not have or as many as
    there are images, a target that is the label, a network of one output, a norm, an eps or an eot that makes
    no sense.
    """
    started = time.perf_counter()
    images, eight_bit_judge, notes = framed(net, images, eight_bit_judge=eight_bit_judge, eps=eps, norm=norm)
    size = (images.shape[2], images.shape[3])
    if eot < 1:
        raise CallError(f"eot is a number of runs of the network and must be 1 or more, not {eot}")
    logits, random, told = _first_answers(net, images, eot)
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise CallError(f"an attack needs two classes or more, and the output has the shape {tuple(logits.shape)}")
    given = _numbers(net, label, len(images), size, logits.shape[1], "label")
    labels = tuple(logits.argmax(1).tolist()) if given is None else given
    targets = _numbers(net, target, len(images), size, logits.shape[1], "target")
    if given is not None and targets is not None:
        for own, goal in zip(labels, targets, strict=True):
            if own == goal:
                raise CallError(f"the target class:{goal} is the label itself; name another class")
    notes = (*notes, *told)
    return Attacked(net, images, logits, labels, targets, eight_bit_judge, started, notes, eot, random)


@torch.no_grad()
def _answers(net: Network, images: Images, runs: int) -> list[Logits]:
    return [net.run(images, ["class"])[0] for _ in range(runs)]


def _first_answers(net: Network, images: Images, runs: int) -> tuple[Tensor, bool, tuple[str, ...]]:
    """The mean logits, whether the network draws random numbers, and what is worth saying of that."""
    # The graph is made first: that draws numbers too.
    net.graph((images.shape[2], images.shape[3]))
    before = drawn_so_far(net.device)
    found = _answers(net, images, runs)
    equal = all(torch.equal(each, found[0]) for each in found)
    random = not equal or not torch.equal(before, drawn_so_far(net.device))
    told: tuple[str, ...] = ()
    if random:
        told = (f"{net.name} draws random numbers: success and final are those of one further run of it",)
    elif runs > 1:
        told = (f"{net.name} gave the same answer in all {runs} runs, so that eot=1 would find the same, sooner",)
    return torch.stack(found).mean(0), random, told


def check_eps(eps: float, norm: str) -> None:
    """Raises CallError for an eps that makes no sense."""
    if norm == "linf" and not 0 < eps <= 1:
        raise CallError(f"eps must be above 0 and at most 1, the whole range, not {eps:g}; write 4/255 for 4 levels")
    if not (eps > 0 and math.isfinite(eps)):
        raise CallError(f"eps is the length of the whole change and must be a number above 0, not {eps:g}; write 0.5")


def _numbers(net: Network, given: Classes, count: int, size: Size, classes: int, what: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return _of_names(net, [given], size) * count
    if isinstance(given, int):
        given = [given] * count
    listed = given.tolist() if isinstance(given, Tensor) else list(given)
    listed = listed if isinstance(listed, list) else [listed] * count
    if len(listed) != count:
        raise CallError(f"{there_are(len(listed), what)} for {numbered(count, 'image')}; give one, or one an image")
    names = [one for one in listed if isinstance(one, str)]
    if len(names) == len(listed):
        return _of_names(net, names, size)
    numbers = [one for one in listed if isinstance(one, int) and not isinstance(one, bool) and 0 <= one < classes]
    if len(numbers) < len(listed):
        wrong = next(one for one in listed if one not in numbers)
        raise CallError(f"a {what} is class:NAME or a number in 0 to {classes - 1}, not {wrong!r}")
    return tuple(numbers)


def _of_names(net: Network, names: Sequence[str], size: Size) -> tuple[int, ...]:
    with classes_suggested(net, names, size):
        return classes_of(net, names, size)


def named(classes: Sequence[int]) -> list[str]:
    """The addresses of classes."""
    return [f"class:{k}" for k in classes]


def distances(images: Images, changed: Images, *, whole: bool) -> dict[str, Tensor]:
    """linf, l2, l1 and l0 of each change, in float64; ``whole``: of 8-bit pictures, so that they are exact.

    l0 counts pixels: places where any channel differs.
    """
    before, after = images.cpu().double(), changed.cpu().double()
    change = ((after * LEVELS).round() - (before * LEVELS).round()) / LEVELS if whole else after - before
    flat = change.flatten(1)
    return {
        "linf": flat.abs().amax(1),
        "l2": lengths(change).flatten(),
        "l1": flat.abs().sum(1),
        "l0": (change != 0).any(1).flatten(1).sum(1).double(),
    }


def judged_again(result: Perturbation, images: Images, adversarial: Images) -> dict[str, Any]:
    """Success, lead, answers and distances of a result, as saved pictures show them."""
    size = (images.shape[2], images.shape[3])
    net, aimed = result.net, bool(result.targets[0])
    labels = classes_of(net, result.labels, size)
    targets = classes_of(net, result.targets, size) if aimed else None
    # As for a random network; another answers the same.
    asked = Attacked(net, images, images.new_empty(0), labels, targets, True, 0.0, random=True)
    seed = result.record.parameters.get("seed", 0)
    success, final, answers = asked.judged_at_last(adversarial, torch.arange(len(images)), seed)
    told = {"success": success, "final": final, "answers": tuple(named(answers.tolist()))}
    return told | distances(images, adversarial, whole=True)
