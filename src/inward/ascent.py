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

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inward.errors import CallError, InwardError, InwardWarning
from inward.gradient import constant, keys_of, trace_for
from inward.network.edit import redirect_relus, redirectable
from inward.network.hooks import HookGraph
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.trace import Trace
from inward.row import OnPass, Pass, Row
from inward.types import Images, Pictures, Scores


@dataclass(frozen=True, eq=False)
class Ascent:
    """What an ascent found.

    Attributes:
        images: (N, C, H, W) in [0, 1].
        start: the images it began with.
        scores: (passes, N), the objective before every pass, as the network was shown it (augmented);
            of an image that has settled, its last one.
        final: (N,), the objective on the final images without augmentation; of images that left at their goal, by
            the pass that saw them there.
        steps: (N,), how often each image was moved before its goal was reached, or in all.
        reached: (N,), whether the final image is at its goal (False where there was none).
        redirected: (N,), in how many of the passes that moved it the ReLU gradients were redirected.
        parameters: what was moved, as it is at the end. A parameterization without pixels (CPPN) renders
            them at any size: ``row.parameterization.image(list(found.parameters), like)``.
        broken: (N,), whose gradient was not finite, so that their ascent ended there, with the best before it.
    """

    images: Pictures
    start: Images
    scores: Tensor
    final: Scores
    steps: Tensor
    reached: Tensor
    redirected: Tensor
    parameters: tuple[Tensor, ...]
    broken: Tensor


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
        InwardError: where a gradient is not finite; of a row that keeps the best, only at the first pass.
    """
    net.preprocess.check(like)
    seeds = [0] * len(like) if seeds is None else list(seeds)
    if len(seeds) != len(like):
        raise CallError(f"there are {len(seeds)} seeds for {len(like)} images; give one an image")
    with ordinary(net.device):
        like = constant(like).to(net.device)
        return _Loop(net, row, like, seeds, seed).run(on_pass)


def _is_finite(values: Tensor) -> bool:
    """A sum tells it sooner; it may be infinite where no value is."""
    return math.isfinite(values.sum().item()) or bool(values.isfinite().all())


def _of_each(gradients: Sequence[Tensor]) -> Tensor:
    """Whether all that moves an image is finite, (N,)."""
    return torch.stack([g.isfinite().flatten(1).all(1) for g in gradients]).all(0).cpu()


def _redirect(net: Network) -> Network:
    return net.edit(redirect_relus)


@dataclass(frozen=True, eq=False)
class _Look:
    """What the network says of the images in the batch: ``redirected`` tells whose gradient is."""

    gradients: list[Tensor]
    reached: Tensor | None
    redirected: Tensor

    def of(self, images: Tensor) -> _Look:
        """Of only some of them."""
        if len(images) == len(self.redirected):
            return self
        return replace(
            self,
            gradients=[g[images.to(g.device)] for g in self.gradients],
            redirected=self.redirected[images],
        )


class _Loop:
    """The state of one ascent."""

    def __init__(self, net: Network, row: Row, like: Images, seeds: Sequence[int], seed: int) -> None:
        self.row, self.net, self.like = row, net, like
        self.objective, self.constraints = row.objective, row.constraints
        start = row.start(like, seeds)
        self.keys = keys_of(net, row.objective, self.size)
        with torch.no_grad():
            self.start = self._project(start) if row.parameterization.pixels else start
        self.fast = net if row.prepare is None else row.prepare(net, self.size)
        self.redirected = self.fast.derived("redirected", _redirect) if self._redirects() else None
        # The parameters of all images, as far as they have left the batch; those that are in it are moved.
        self.whole = [p.detach() for p in row.parameterization.init(self.start, seeds)]
        self.parameters = [p.clone().requires_grad_(True) for p in self.whole]
        self.optimizer = row.step(self.parameters)
        self.generator = torch.Generator().manual_seed(seed)
        count = len(like)
        self.steps, self.helped = (torch.zeros(count, dtype=torch.long) for _ in range(2))
        self.scores = torch.zeros(count, dtype=torch.float64 if like.dtype == torch.float64 else torch.float32)
        self.arrived, self.broken = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
        # The best score of each, and what it is of.
        self.top = torch.full_like(self.scores, -torch.inf)
        self.kept = [p.clone() for p in self.whole] if row.best else []
        # The images that are in the batch (also as they were given), and which stand still; how often each was moved,
        # and with help, and how many passes it has left after its goal (-1: it is not there).
        self.present, self.still = torch.arange(count), torch.zeros(count, dtype=torch.bool)
        self.now = like
        self.taken, self.aided = self.steps.clone(), self.helped.clone()
        self.left = torch.full((count,), -1, dtype=torch.long)
        self.waits, self.among = False, self.present

    def _redirects(self) -> bool:
        return self.row.redirect > 0 and redirectable(self.net.graph(self.size))

    @property
    def size(self) -> tuple[int, int]:
        return self.like.shape[2], self.like.shape[3]

    def run(self, on_pass: OnPass | None) -> Ascent:
        history: list[Tensor] = []
        for index in range(self.row.passes):
            look = self._look(index)
            self._remember()
            if self.broken[self.present].any():
                if self._leave(self._by_groups(self.broken[self.present])):
                    break
                look = look.of(self.among)
            if look.reached is not None:
                if self._leave(self._settled(look.reached)):
                    break
                look = look.of(self.among)
            self._move(look)
            history.append(self.scores.clone())
            if on_pass is not None:
                on_pass(Pass(index + 1, self.row.passes, history[-1], self._pictures))
            if self.row.plateau is not None:
                # The score of a dead unit stands still while its redirected gradient still moves the picture.
                settled = self.row.plateau.settled(torch.stack(history))[self.present] & ~look.redirected
                if self._leave(self._by_groups(settled)):
                    break
        images = self._pictures()
        final, reached = self._judge(images)
        if self.row.best and self._go_back(final):
            images = self._pictures()
            final, reached = self._judge(images)
        scores = torch.stack(history) if history else final.new_zeros((0, len(images)), device="cpu")
        return Ascent(
            images, self.start, scores, final, self.steps, reached, self.helped, tuple(self.whole), self.broken
        )

    @torch.no_grad()
    def _keep(self, which: Tensor) -> None:
        """Puts what is known of these in the batch to what is known of all."""
        numbers = self.present[which]
        self.steps[numbers], self.helped[numbers] = self.taken[which], self.aided[which]
        where, own = numbers.to(self.net.device), which.to(self.net.device)
        for whole, parameter in zip(self.whole, self.parameters, strict=True):
            whole[where] = parameter.detach()[own]

    @torch.no_grad()
    def _pictures(self) -> Pictures:
        """The pictures of all. A copy: whoever keeps it must not see it move on."""
        self._keep(torch.arange(len(self.present)))
        return self.row.parameterization.image(self.whole, self.like).detach().clone()

    @torch.no_grad()
    def _remember(self) -> None:
        """The best parameters so far, of the images in the batch."""
        if not self.row.best:
            return
        scores = self.scores[self.present]
        better = scores > self.top[self.present]
        self.top[self.present[better]] = scores[better]
        where, own = self.present[better].to(self.net.device), better.nonzero()[:, 0].to(self.net.device)
        for kept, parameter in zip(self.kept, self.parameters, strict=True):
            kept[where] = parameter.detach()[own]

    @torch.no_grad()
    def _go_back(self, final: Scores) -> bool:
        """To the best parameters, where the last are worse."""
        worse = ~(final.cpu() >= self.top) & self.top.isfinite()
        # All parameters are in their places: none of them moves any more.
        self.present = self.present[:0]
        where = worse.nonzero()[:, 0].to(self.net.device)
        for whole, kept in zip(self.whole, self.kept, strict=True):
            whole[where] = kept[where]
        return bool(worse.any())

    @torch.no_grad()
    def _judge(self, images: Pictures) -> tuple[Scores, Tensor]:
        """The objective on the pictures as they are, and whether the goal is reached.

        What is known of images that left at their goal is of these very pictures.
        """
        if self.row.reached is None:
            return self.row.objective(self._seen(images)), self.arrived
        final, reached, rest = self.scores.clone(), self.arrived.clone(), (~self.arrived).nonzero()[:, 0]
        if len(rest):
            trace = self._seen(images[rest.to(images.device)])
            final[rest] = self.row.objective.select(rest.tolist())(trace).to(final)
            reached[rest] = self.row.reached(trace, rest).cpu()
        return final, reached

    def _seen(self, images: Pictures) -> Trace:
        """What the network itself makes of pictures."""
        return trace_for(self.net, self.row.parameterization.opaque(images), self.keys, images)

    def _settled(self, reached: Tensor) -> Tensor:
        """Which of those in the batch have reached their goal and had their extra passes."""
        if self.row.extra == 0:
            return reached
        left = torch.where(reached & (self.left < 0), self.row.extra, self.left)
        self.left = torch.where(left > 0, left - 1, left)
        return left == 0

    def _leave(self, settled: Tensor) -> bool:
        """Takes the images that have settled out of the batch, by whole groups; True when none is left."""
        if not settled.any():
            return False
        self.still |= settled
        gone = self._by_groups(self.still)
        self.among = (~gone).nonzero()[:, 0]
        self.waits = True
        if len(self.among) == len(gone):
            return False
        self._keep(gone.nonzero()[:, 0])
        numbers = self.present[gone]
        self.arrived[numbers] = ~self.broken[numbers] if self.row.reached is not None else False
        if len(self.among):
            self.objective = self.objective.select(self.among.tolist())
            self._narrow(self.among.to(self.net.device))
        self.waits = bool(self.still.any())
        return len(self.among) == 0

    def _by_groups(self, settled: Tensor) -> Tensor:
        """Those whose whole group has settled."""
        group = self.objective.group or len(settled)
        return settled.view(-1, group).all(1).repeat_interleave(group)

    def _narrow(self, where: Tensor) -> None:
        """Only those that stay, with what the optimizer knows of each."""
        self.present, self.still, self.left = self.present[self.among], self.still[self.among], self.left[self.among]
        self.taken, self.aided = self.taken[self.among], self.aided[self.among]
        self.now = self.now[where]
        self.constraints = tuple(constraint.select(where) for constraint in self.constraints)
        states, count = [self.optimizer.state.pop(p, {}) for p in self.parameters], len(self.parameters[0])
        self.parameters = [p.detach()[where].requires_grad_(True) for p in self.parameters]
        (group,) = self.optimizer.param_groups
        group["params"] = self.parameters
        for parameter, state in zip(self.parameters, states, strict=True):
            own = {k: v[where] if isinstance(v, Tensor) and v.shape[:1] == (count,) else v for k, v in state.items()}
            self.optimizer.state[parameter] = own

    def _move(self, look: _Look) -> None:
        self.taken += (self.left < 0) & ~self.still
        self.aided += look.redirected & ~self.still
        still = self.still.nonzero()[:, 0].to(self.like.device) if self.waits else self.still
        before = [p.detach()[still] for p in self.parameters] if self.waits else []
        for parameter, found in zip(self.parameters, look.gradients, strict=True):
            parameter.grad = -found
        self.optimizer.step(lambda: -self.scores[self.present])
        with torch.no_grad():
            if self.row.parameterization.pixels:
                self.parameters[0].copy_(self._project(self.parameters[0]))
            for parameter, old in zip(self.parameters, before, strict=False):
                parameter[still] = old
            for parameter in self.parameters:
                parameter.grad = None

    def _project(self, images: Images) -> Images:
        for constraint in self.constraints:
            images = constraint.project(images)
        return images

    def _look(self, index: int) -> _Look:
        """With the plain gradient, or the redirected one for the first passes and for images that get none."""
        if self.redirected is not None and index < self.row.redirect:
            return replace(self._look_at(self.redirected), redirected=torch.ones(len(self.present), dtype=torch.bool))
        state = self.generator.get_state()
        look = self._look_at(self.fast)
        if self.row.redirect == 0:
            return look
        dead = torch.stack([g.flatten(1).eq(0).all(1) for g in look.gradients]).all(0)
        dead &= ~self.still.to(self.net.device)
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

    def _without_broken(self, gradients: list[Tensor], among: Tensor | None) -> list[Tensor]:
        """Nothing moves images whose gradient is not finite; they leave with their best."""
        numbers = self.present if among is None else self.present[among]
        lost = ~_of_each(gradients)
        at_start = bool((self.taken == 0).all())
        if at_start or not self.row.best:
            why = "check its weights" if at_start else "give smaller steps"
            raise InwardError(f"a gradient of {self.net.name} is not finite; {why}, or use --dtype float32")
        self.broken[numbers[lost]] = True
        return [torch.where(lost.to(g.device).view(-1, *[1] * (g.ndim - 1)), 0, g) for g in gradients]

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
        """The scores and gradients of the images that are in the batch, or only of some of them."""
        parameters, like, objective = self.parameters, self.now, self.objective
        if among is not None:
            where = among.to(self.net.device)
            parameters, like = [p[where] for p in parameters], like[where]
            objective = objective.select(among.tolist())
        image = self.row.parameterization.image(parameters, like)
        augmentation = self.row.augmentation
        shown = self.row.parameterization.opaque(image) if augmentation is None else augmentation(image, self.generator)
        trace = trace_for(net, shown, self.keys, image)
        scores = objective(trace)
        gradients: Sequence[Tensor | None] = [None] * len(parameters)
        if scores.requires_grad:
            gradients = torch.autograd.grad(scores.sum(), self.parameters, allow_unused=True)
        found = [
            torch.zeros_like(p) if g is None else g.contiguous()
            for g, p in zip(gradients, self.parameters, strict=True)
        ]
        if not all(_is_finite(g) for g in found):
            found = self._without_broken(found, among)
        reached = None
        if among is None:
            self.scores[self.present] = scores.detach().to(self.scores)
            if self.row.reached is not None:
                with torch.no_grad():
                    reached = self.row.reached(trace, self.present).cpu()
        return _Look(found, reached, torch.zeros(len(self.present), dtype=torch.bool))
