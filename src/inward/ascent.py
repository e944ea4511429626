"""Ascent: a loop over the gradient that moves the image. A method is a row of this table.

| method                | start            | passes        | objective      | parameterization | constraint / penalty | step                |
|-----------------------|------------------|---------------|----------------|------------------|----------------------|---------------------|
| saliency              | the image        | 1 (the atom)  | class score    | pixels           | none                 | none                |
| targeted attack       | the image        | 10-20, + 2-3  | target score   | pixels           | box, ball            | normalized gradient |
| FGSM, PGD             | the image, moved | 1, 20-100     | cross-entropy  | pixels           | box, ball            | steepest            |
| feature visualization | noise            | 128-512       | unit, channel  | Fourier          | augmentations        | Adam                |
| class visualization   | an empty image   | 200+          | class score    | pixels           | box, L2 penalty      | gradient            |

What does not fit a row is a function of its own, over :func:`inward.gradient.gradient`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch import Tensor

from inward.columns.augmentations import Augmentation
from inward.columns.constraints import Ball, Box, Constraint
from inward.columns.goals import Plateau
from inward.columns.objectives import Objective
from inward.columns.parameterizations import Parameterization, Pixels
from inward.columns.starts import Given, Start
from inward.columns.steps import Step
from inward.errors import CallError, InwardError, InwardWarning
from inward.gradient import constant, keys_of, trace_for
from inward.network.edit import redirect_relus, redirectable
from inward.network.hooks import HookGraph
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.trace import Trace
from inward.types import Images, Pictures, Scores, Size

Reached: TypeAlias = Callable[[Trace], Tensor]


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
        reached: tells of each image of a trace whether it has reached its goal, (N,) booleans; an
            image that has is moved ``extra`` more times and then left alone.
        extra: passes after the goal.
        plateau: when a score counts as settled; the image then leaves the batch. None: never.
        prepare: gives the network that the passes run on, for images of a size: the same function, faster
            (``inward.network.lean``). The final scores are always the network's own.
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


@dataclass(frozen=True, eq=False)
class Ascent:
    """What an ascent found.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        start: the images it began with.
        scores: (passes, N), the objective before every pass, as the network was shown it (augmented);
            of an image that has settled, its last one.
        final: (N,), the objective on the final images without augmentation.
        steps: (N,), how often each image was moved before its goal was reached, or in all.
        reached: (N,), whether the final image is at its goal (False where there was none).
        redirected: (N,), in how many of the passes that moved it the ReLU gradients were redirected.
        parameters: what was moved, as it is at the end. A parameterization without pixels (CPPN) renders
            them at any size: ``row.parameterization.image(list(found.parameters), like)``.
    """

    images: Pictures
    start: Images
    scores: Tensor
    final: Scores
    steps: Tensor
    reached: Tensor
    redirected: Tensor
    parameters: tuple[Tensor, ...]


def ascend(
    net: Network,
    row: Row,
    like: Images,
    *,
    seeds: Sequence[int] | None = None,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Ascent:
    """Moves a batch of images up their objective.

    Args:
        like: (N, C, H, W) in [0, 1]: the images themselves, or their shape where the row starts elsewhere.
        seeds: one an image (0); its start depends on it alone.
        seed: of the augmentations, which are the same for all images.
        on_pass: called with a :class:`Pass` after every pass.

    Raises:
        CallError: for images out of [0, 1], or an address that the network does not have.
        InwardError: where a gradient is not finite.
    """
    net.preprocess.check(like)
    seeds = [0] * len(like) if seeds is None else list(seeds)
    if len(seeds) != len(like):
        raise CallError(f"there are {len(seeds)} seeds for {len(like)} images; give one an image")
    with ordinary(net.device):
        like = constant(like).to(net.device)
        return _Loop(net, row, like, seeds, seed).run(on_pass)


def _redirect(net: Network) -> Network:
    return net.edit(redirect_relus)


@dataclass(frozen=True, eq=False)
class _Look:
    """What the network says of the images before a pass: ``redirected`` tells whose gradient is."""

    scores: Scores
    gradients: list[Tensor]
    reached: Tensor | None
    redirected: Tensor


class _Loop:
    """The state of one ascent."""

    def __init__(self, net: Network, row: Row, like: Images, seeds: Sequence[int], seed: int) -> None:
        self.row, self.net, self.like = row, net, like
        start = row.start(like, seeds)
        self.keys = keys_of(net, row.objective, self.size)
        with torch.no_grad():
            self.start = self._project(start) if row.parameterization.pixels else start
        self.fast = net if row.prepare is None else row.prepare(net, self.size)
        self.redirected = self.fast.derived("redirected", _redirect) if self._redirects() else None
        self.parameters = row.parameterization.init(self.start, seeds)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.optimizer = row.step(self.parameters)
        self.generator = torch.Generator().manual_seed(seed)
        count = len(like)
        self.steps = torch.zeros(count, dtype=torch.long)
        self.left = torch.full((count,), -1, dtype=torch.long)
        self.helped = torch.zeros(count, dtype=torch.long)
        self.frozen = torch.zeros(count, dtype=torch.bool)
        # Those that are still in the batch, and what is asked of them.
        self.present = torch.arange(count)
        self.scores = torch.zeros(count, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)
        self.objective = row.objective

    def _redirects(self) -> bool:
        return self.row.redirect > 0 and redirectable(self.net.graph(self.size))

    @property
    def size(self) -> tuple[int, int]:
        return self.like.shape[2], self.like.shape[3]

    def run(self, on_pass: OnPass | None) -> Ascent:
        history = []
        for index in range(self.row.passes):
            look = self._look(index)
            if look.reached is not None and self._settle(look.reached):
                break
            self._move(look)
            history.append(look.scores)
            if on_pass is not None:
                on_pass(Pass(index + 1, self.row.passes, history[-1], self._pictures))
            if self.row.plateau is not None:
                # The score of a dead unit stands still while its redirected gradient still moves the picture.
                settled = self.row.plateau.settled(torch.stack(history)) & ~look.redirected
                if self._leave(settled):
                    break
        images = self._pictures()
        final, reached = self._judge(images)
        moved = tuple(p.detach() for p in self.parameters)
        scores = torch.stack(history) if history else final.new_zeros((0, len(images)), device="cpu")
        return Ascent(images, self.start, scores, final, self.steps, reached, self.helped, moved)

    @torch.no_grad()
    def _pictures(self) -> Pictures:
        # A copy: whoever keeps it must not see it move on.
        return self.row.parameterization.image(self.parameters, self.like).detach().clone()

    @torch.no_grad()
    def _judge(self, images: Pictures) -> tuple[Scores, Tensor]:
        """The objective on the pictures as they are, and whether the goal is reached."""
        trace = trace_for(self.net, self.row.parameterization.opaque(images), self.keys, images)
        reached = self._reached(trace)
        return self.row.objective(trace), torch.zeros(len(images), dtype=torch.bool) if reached is None else reached

    @torch.no_grad()
    def _reached(self, trace: Trace) -> Tensor | None:
        return None if self.row.reached is None else self.row.reached(trace).cpu()

    def _settle(self, reached: Tensor) -> bool:
        """Freezes the images that have reached their goal and had their extra passes; True when all have."""
        self.left = torch.where(reached & (self.left < 0), self.row.extra, self.left)
        self.frozen = self.left == 0
        self.left = torch.where(self.left > 0, self.left - 1, self.left)
        return bool(self.frozen.all())

    def _leave(self, settled: Tensor) -> bool:
        """Takes the images that have settled out of the batch, by whole groups; True when none is left."""
        group = self.objective.group or len(settled)
        self.frozen |= settled.view(-1, group).all(1).repeat_interleave(group)
        staying = (~self.frozen[self.present]).nonzero()[:, 0]
        if 0 < len(staying) < len(self.present):
            self.objective = self.objective.select(staying.tolist())
            self.present = self.present[staying]
        return len(staying) == 0

    def _move(self, look: _Look) -> None:
        self.steps += ((self.left < 0) & ~self.frozen).long()
        self.helped += (look.redirected & ~self.frozen).long()
        before = [p.detach().clone() for p in self.parameters]
        for parameter, found in zip(self.parameters, look.gradients, strict=True):
            parameter.grad = -found
        self.optimizer.step()
        with torch.no_grad():
            if self.row.parameterization.pixels:
                self.parameters[0].copy_(self._project(self.parameters[0]))
            still = self.frozen.to(self.like.device)
            for parameter, old in zip(self.parameters, before, strict=True):
                parameter[still] = old[still]
                parameter.grad = None

    def _project(self, images: Images) -> Images:
        for constraint in self.row.constraints:
            images = constraint.project(images)
        return images

    def _look(self, index: int) -> _Look:
        """With the plain gradient, or the redirected one for the first passes and for images that get none."""
        if self.redirected is not None and index < self.row.redirect:
            return replace(self._look_at(self.redirected), redirected=torch.ones(len(self.like), dtype=torch.bool))
        state = self.generator.get_state()
        look = self._look_at(self.fast)
        if self.row.redirect == 0:
            return look
        dead = torch.stack([g.flatten(1).eq(0).all(1) for g in look.gradients]).all(0) & ~self.frozen.to(
            self.net.device
        )
        if self.redirected is None:
            if index == 0 and dead.any():
                self._warn_of_dead_start(dead)
            return look
        if not dead.any():
            return look
        self.generator.set_state(state)
        # By whole groups: images that depend on one another are looked at together.
        group = self.objective.group or len(dead)
        again = dead.cpu().view(-1, group).any(1).repeat_interleave(group).nonzero()[:, 0]
        pairs = zip(self._look_at(self.redirected, again).gradients, look.gradients, strict=True)
        gradients = [torch.where(dead.view(-1, *[1] * (a.ndim - 1)), b, a) for b, a in pairs]
        return replace(look, gradients=gradients, redirected=dead.cpu())

    def _warn_of_dead_start(self, dead: Tensor) -> None:
        graph = self.net.graph(self.size)
        why = (
            f"redirected ReLUs need the network's graph, and there is none ({graph.reason})"
            if isinstance(graph, HookGraph)
            else "there is no ReLU on the way whose gradient could be redirected"
        )
        warnings.warn(
            f"{int(dead.sum())} of {len(dead)} images get no gradient at their start and cannot move: {why}; "
            "try another start",
            InwardWarning,
            stacklevel=5,
        )

    def _look_at(self, net: Network, among: Tensor | None = None) -> _Look:
        """The scores and gradients of the images that are still there, or only of some of them."""
        present = self.present if among is None else among
        parameters, like, objective = self.parameters, self.like, self.objective
        if len(present) < len(like):
            where = present.to(like.device)
            parameters, like = [p[where] for p in parameters], like[where]
        if among is not None:
            objective = objective.select(torch.isin(self.present, among).nonzero()[:, 0].tolist())
        image = self.row.parameterization.image(parameters, like)
        augmentation = self.row.augmentation
        shown = self.row.parameterization.opaque(image) if augmentation is None else augmentation(image, self.generator)
        trace = trace_for(net, shown, self.keys, image)
        scores = objective(trace)
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if scores.requires_grad:
            gradients = torch.autograd.grad(scores.sum(), self.parameters, allow_unused=True)
        found = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, self.parameters, strict=True)]
        if not all(g.isfinite().all() for g in found):
            raise InwardError(f"a gradient of {self.net.name} is not finite; check its weights, or use --dtype float32")
        if among is None:
            self.scores[present] = scores.detach().to(self.scores)
        reached = self._reached(trace) if among is None else None
        return _Look(self.scores.clone(), found, reached, torch.zeros(len(self.like), dtype=torch.bool))
