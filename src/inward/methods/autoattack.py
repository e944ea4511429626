"""AutoAttack: attacks that need no tuning, one after the other, each on the images that withstood those before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from inward.methods import apgd, fab, square
from inward.methods.attacked import Attacked, Classes, Norm, attacked
from inward.methods.course import Course, OnProgress, ball_of, counted, radius, two_norms
from inward.methods.draws import own_draws
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# Of the pixels, in the first squares.
_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class Staged(Perturbation):
    """Adversarial images, and which attack of a sequence found each.

    Attributes:
        by: the attack that fooled the network with each image, a name each; ``clean`` where the image itself
            does, empty where it withstood all.
    """

    batched: ClassVar[tuple[str, ...]] = (*Perturbation.batched, "by")

    by: tuple[str, ...] = ()

    def measures(self) -> dict[str, Any]:
        """What is said of one image."""
        return super().measures() | ({"fooled_by": self.by[0]} if self.by[0] else {})


@own_draws
def autoattack(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    steps: int = 100,
    classes: int = 9,
    queries: int = 5000,
    eot: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Staged:
    """The standard sequence by which robustness is measured: only images that are still right go on.

    Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks", 2020: Auto-PGD on the cross-entropy, Auto-PGD on the targeted difference of logits ratio, the targeted
    fast adaptive boundary attack, and the Square attack, which asks for no gradient. The result's ``by`` tells
    which of them fooled each image. For random networks it is the authors' other sequence, with ``eot`` (20 there):
    Auto-PGD on the cross-entropy and on the difference of logits ratio.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2).
            By default 8/255 (linf), 0.5 (l2).
        norm: linf or l2.
        steps: steps at most of each run of the attacks by gradients.
        classes: how many of the largest other logits the targeted attacks head for. (A network of two or three
            classes has no targeted ratio: the margin is climbed instead, once.)
        queries: queries at most of the Square attack.
        eot: runs of the network over which each gradient is averaged. Above 1 it is the sequence for random networks,
            in which ``classes`` and ``queries`` have no part.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of all that is random.
        on_progress: called with (passes done, passes at most), over all attacks.

    Raises:
        CallError: for an eps outside (0, 1] (linf), the norm l1, steps, classes, queries or eot below 1, images not in
            [0, 1], classes that the network does not have, or a network of one output.
    """
    eps = radius(eps, norm)
    asked = attacked(net, images, label, None, eight_bit_judge=eight_bit, eps=eps, norm=norm, eot=eot)
    stages = _stages(asked, counted("steps", steps), counted("classes", classes), counted("queries", queries), seed)
    passes = sum(stage.passes for stage in stages)
    course = Course(asked, ball_of(asked, eps, two_norms(norm)), passes, on_progress=on_progress)
    by = ["clean" if done else "" for done in course.goal.reached.tolist()]
    for stage in stages:
        left = course.left
        stage.run(course)
        for number in left[course.goal.reached[left]].tolist():
            by[number] = stage.name
    told = {"eps": eps, "norm": norm, "steps": steps, "classes": classes, "queries": queries}
    own = {name: value for name, value in asked.parameters.items() if name != "target"}
    found = asked.result("autoattack", own | told | {"eot": eot, "seed": seed}, course.moved())
    return found.of_kind(Staged, by=tuple(by))


@dataclass(frozen=True)
class _Stage:
    """One attack of the sequence; ``passes`` at most."""

    name: str
    passes: int
    run: Callable[[Course], None]


def _stages(asked: Attacked, steps: int, classes: int, queries: int, seed: int) -> tuple[_Stage, ...]:
    if asked.eot > 1:
        ratio: apgd.AutoLoss = "dlr" if asked.logits.shape[1] > 2 else "margin"
        ce = _climbs(asked, "apgd-ce", "cross-entropy", steps, classes, seed)
        return ce, _climbs(asked, f"apgd-{ratio}", ratio, steps, classes, seed)
    targeted: apgd.AutoLoss = "targeted-dlr" if asked.logits.shape[1] > 3 else "margin"
    return (
        _climbs(asked, "apgd-ce", "cross-entropy", steps, classes, seed),
        _climbs(asked, "apgd-t" if targeted == "targeted-dlr" else "apgd-margin", targeted, steps, classes, seed),
        _fabs(asked, steps, classes),
        _Stage("square", queries, lambda course: square.search(course, queries, _SHARE, seed)),
    )


def _climbs(asked: Attacked, name: str, loss: apgd.AutoLoss, steps: int, classes: int, seed: int) -> _Stage:
    objectives = apgd.climbed(asked, loss, classes)

    def run(course: Course) -> None:
        for i, objective in enumerate(objectives):
            apgd.climb(course, objective, steps, seed + i)

    return _Stage(name, len(objectives) * steps, run)


def _fabs(asked: Attacked, steps: int, classes: int) -> _Stage:
    goals = apgd.next_classes(asked, classes).T.cpu()

    def run(course: Course) -> None:
        for each in goals:
            fab.search(course, each, steps)

    return _Stage("fab-t", len(goals) * steps, run)
