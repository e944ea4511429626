"""A row of the table of ascents (:mod:`inward.ascent`), and what an observer of one is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from torch import Tensor

from inward.columns.augmentations import Augmentation
from inward.columns.constraints import Ball, Box, Constraint
from inward.columns.goals import Plateau
from inward.columns.objectives import Objective
from inward.columns.parameterizations import Parameterization, Pixels
from inward.columns.starts import Given, Start
from inward.columns.steps import Step
from inward.errors import CallError
from inward.network.network import Network
from inward.network.trace import Trace
from inward.types import Pictures, Scores, Size

Reached: TypeAlias = Callable[[Trace, Tensor], Tensor]


@dataclass(frozen=True)
class Pass:
    """What an observer of an ascent is told after every pass.

    Attributes:
        done, total: passes done, and at most.
        scores: (N,), the objective before this pass (of an image that has settled: before its last).
        images: gives the pictures as they are now, (N, C, H, W) in [0, 1].
    """

    done: int
    total: int
    scores: Scores
    images: Callable[[], Pictures]


OnPass: TypeAlias = Callable[[Pass], None]


@dataclass(frozen=True)
class Row:
    """One row of the table: everything that tells one ascent from another.

    Attributes:
        objective: what is maximized.
        step: how the parameters move.
        passes: how often at most.
        start: the first image.
        parameterization: what is moved.
        augmentation: what the picture must survive at every pass.
        constraints: where the image must stay; projected onto in this order.
        reached: tells of each image of a trace whether it has reached its goal, booleans; it is told too which
            images of the whole batch these are (their numbers). An image at its goal is moved ``extra`` more
            times and then leaves the batch.
        extra: passes after the goal.
        plateau: when a score counts as settled; the image then leaves the batch. None: never.
        prepare: gives the network that the passes run on, for images of a size: the same function, faster
            (``inward.network.lean``). The final scores are the network's own, but for images that left at their goal.
        best: whether the pictures are those of the best score that was seen, not the last; where a gradient is not
            finite the ascent then ends with them. For objectives that do not change from pass to pass.
        redirect: at least this many passes with redirected ReLU gradients, so that a dead unit wakes
            (and further ones whenever an image gets no gradient at all).
    """

    objective: Objective
    step: Step
    passes: int
    start: Start = field(default_factory=Given)
    parameterization: Parameterization = field(default_factory=Pixels)
    augmentation: Augmentation | None = None
    constraints: tuple[Constraint, ...] = (Box(),)
    reached: Reached | None = None
    extra: int = 0
    plateau: Plateau | None = None
    prepare: Callable[[Network, Size], Network] | None = None
    best: bool = False
    redirect: int = 0

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise CallError(f"an ascent takes 0 passes or more, not {self.passes}")
        if self.extra < 0 or self.redirect < 0:
            raise CallError(f"extra and redirect count passes from 0 up, not {self.extra} and {self.redirect}")
        if self.extra and self.reached is None:
            raise CallError(f"extra={self.extra} passes follow a goal, and there is none; give reached")
        if self.plateau is not None and self.reached is not None:
            raise CallError("an ascent ends at a goal or at a plateau, not both; leave out one")
        if self.best and (self.augmentation is not None or self.reached is not None):
            raise CallError(
                "the best of scores that are drawn anew at every pass is chance; leave out the augmentation"
            )
        if not self.parameterization.pixels:
            self._check_unconstrained()
        if self.reached is not None and self.augmentation is not None:
            raise CallError("whether a goal is reached is judged on the picture itself; leave out the augmentation")

    def _check_unconstrained(self) -> None:
        """Parameters that are not pixels keep the image in [0, 1] by themselves, and in nothing narrower."""
        kind = type(self.parameterization).__name__
        for constraint in self.constraints:
            if isinstance(constraint, Ball):
                raise CallError(f"a ball around an image cannot be kept while its {kind} parameters move; use Pixels()")
            if constraint != Box():
                raise CallError(f"{constraint} cannot be kept while {kind} parameters move; use Pixels()")
