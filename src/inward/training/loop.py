"""The loop: batches in an order that the seed decides, a step after each, checkpoints now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from inward.data.dataset import Dataset, fingerprint
from inward.errors import CallError, InwardError
from inward.network.modes import has_half
from inward.training.ahead import Ahead
from inward.training.augment import augmented, plain
from inward.training.checkpoint import Checkpoint
from inward.training.losses import divergence, loss_of, targets_of
from inward.training.recipe import Recipe
from inward.training.strangers import strange_eps
from inward.types import Images, Logits, Scores

LossOfImages: TypeAlias = Callable[[Images], Scores]
Adversary: TypeAlias = Callable[[LossOfImages, Images, float, torch.Generator], Images]
"""Given the loss of each image, the images, eps and a generator: images within eps whose loss is higher."""
Strangers: TypeAlias = Callable[[Images, torch.Generator], Tensor]
"""Pictures that belong to no class, made of a batch."""

# Seconds between two checkpoints.
_EVERY = 60.0
# Pictures by which the accuracy is told after every epoch, and how many at once.
_JUDGED, _AT_ONCE = 1000, 250
_RISE = 0.3
_LOWER = "lower the learning rate (--rate), and begin anew in another folder"


@dataclass(frozen=True)
class Watch:
    """What an observer is told after every step.

    Attributes:
        step, steps: steps done, and in all.
        epoch: the number of the epoch, from 1.
        loss: of this step's batch.
        accuracy: on pictures that are not trained on, after the last whole epoch; None before it.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    accuracy: float | None


OnStep: TypeAlias = Callable[[Watch], None]


@dataclass(frozen=True)
class Trained:
    """What a run made.

    Attributes:
        module: the network with the kept weights, in eval mode.
        history: of every epoch its number, mean loss, accuracy on the training batches as they were shown and on
            pictures that are not trained on, learning rate and seconds.
    """

    module: nn.Module
    history: tuple[dict[str, float], ...]


def train(
    recipe: Recipe,
    module: nn.Module,
    normalize: Callable[[Images], Tensor],
    data: Dataset,
    held_out: Dataset,
    *,
    adversary: Adversary | None = None,
    strangers: Strangers | None = None,
    folder: Path | None = None,
    on_step: OnStep | None = None,
) -> Trained:
    """Trains a network by a recipe.

    With a folder the run is kept in it, and goes on from where it was stopped: the weights are then those of a run
    that was not.

    Args:
        recipe: the settings.
        module: a network whose weights follow from the recipe's seed.
        normalize: what the network is shown of images in [0, 1]: less the mean, by the standard deviation.
        data, held_out: what is trained on, and what the accuracy is told by.
        adversary: the attack of adversarial training; needed where the recipe asks for pgd, fgsm or trades.
        strangers: makes pictures of no class; needed where the recipe is for an open world.
        folder: where the run is kept.
        on_step: told after every step.

    Raises:
        InwardError: where a loss is not finite; the last checkpoint stays.
        CallError: for a folder that holds a run of another recipe or of other pictures, or a precision that is not
            to be had.
    """
    run = _Run(recipe, module, normalize, data, held_out, adversary, strangers)
    kept = None if folder is None else Checkpoint(folder, recipe, fingerprint(data, held_out))
    if kept is not None:
        kept.restore(run.restore)
    with Ahead(data, run.numbers) as ahead:
        _to_the_end(run, ahead, kept, on_step)
    return Trained(run.kept_module(), tuple(run.history))


def _to_the_end(run: _Run, ahead: Ahead, kept: Checkpoint | None, on_step: OnStep | None) -> None:
    written = time.monotonic()
    while run.step < run.steps:
        try:
            pictures = ahead.images(run.step)
        except InwardError:
            # What was learned so far is sound.
            if kept is not None and run.is_finite():
                kept.save(run.state())
            raise
        run.advance(pictures)
        if on_step is not None:
            on_step(run.watch())
        # Weights that are no numbers any more do not take the place of the last good ones; the next loss tells of them.
        if kept is not None and time.monotonic() - written > _EVERY and run.is_finite():
            kept.save(run.state())
            written = time.monotonic()
    if not run.is_finite():
        raise InwardError(f"the weights are not finite after step {run.steps} of {run.steps}; {_LOWER}")
    if kept is not None:
        kept.save(run.state())


class _Run:
    """The state of one training."""

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        normalize: Callable[[Images], Tensor],
        data: Dataset,
        held_out: Dataset,
        adversary: Adversary | None,
        strangers: Strangers | None,
    ) -> None:
        self.recipe, self.data, self.held_out = recipe, data, held_out
        self.device = next(module.parameters()).device
        self.module: nn.Module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._normalize, self._adversary, self._strangers = normalize, adversary, strangers
        self._loss = loss_of(recipe)
        # A single picture that is left over joins the batch before it: there is no deviation in one.
        count = len(data.labels)
        self.batches = max(1, -(-count // recipe.batch) - (count % recipe.batch == 1))
        self.steps, self.step = recipe.epochs * self.batches, 0
        self.optimizer = _optimizer(recipe, module)
        self.mean = {k: v.detach().clone() for k, v in module.state_dict().items()} if recipe.ema else None
        self.history: list[dict[str, float]] = []
        self._sums: dict[str, float] = dict.fromkeys(("loss", "shown", "right", "seen", "seconds"), 0.0)
        self._last = 0.0
        self._order = (-1, torch.empty(0, dtype=torch.long))
        self._half = recipe.precision != "full" and has_half(self.device)
        if recipe.precision == "mixed" and not self._half:
            raise CallError("there is no bfloat16 here for the precision mixed; give --precision auto or full")
        # The change that the free method goes on with.
        self._change: Tensor | None = None

    def advance(self, pictures: Tensor) -> None:
        """One batch, whose pictures are those of :meth:`numbers`.

        What is saved is the state between two of them; a stop in the middle of one goes back to that.
        """
        began = time.perf_counter()
        self.module.train()
        generator = torch.Generator().manual_seed(_seed_of(self.recipe.seed, self.step))
        labels, images = self._batch(pictures, generator)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * _schedule(self.recipe.schedule, self.step / self.steps)
        eps = self.recipe.eps * min(1.0, self.step / max(1.0, self.recipe.warm * self.steps))
        loss, logits = self._learn(images, labels, eps if self.recipe.warm else self.recipe.eps, generator)
        self._last = loss
        self.step += 1
        self._average()
        # Pictures of no class have a loss, and no answer that would be right.
        known = labels >= 0
        own = {"loss": loss * len(labels), "shown": len(labels), "seen": float(known.sum())}
        own["right"] = float((logits.argmax(1) == labels)[known].sum())
        for name, value in own.items():
            self._sums[name] += value
        self._sums["seconds"] += time.perf_counter() - began
        if self.step % self.batches == 0:
            self._end_of_epoch()

    def numbers(self, step: int) -> Tensor:
        """Of the pictures of a step: those of an epoch are shuffled by the seed. None after the last."""
        if step >= self.steps:
            return torch.empty(0, dtype=torch.long)
        epoch, place = divmod(step, self.batches)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(_seed_of(self.recipe.seed, -1 - epoch))
            self._order = (epoch, torch.randperm(len(self.data.labels), generator=generator))
        first = place * self.recipe.batch
        return self._order[1][first : None if place == self.batches - 1 else first + self.recipe.batch]

    def _batch(self, pictures: Tensor, generator: torch.Generator) -> tuple[Tensor, Images]:
        images = augmented(pictures.to(self.device), self.recipe, generator)
        labels = self.data.labels[self.numbers(self.step)].to(self.device)
        if self._strangers is not None and self.recipe.open_world:
            others = self._strangers(images, generator)
            images, labels = torch.cat([images, others]), torch.cat([labels, labels.new_full((len(others),), -1)])
        return labels, images.contiguous(memory_format=torch.channels_last)

    def _logits(self, images: Images) -> Logits:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            return self.module(self._normalize(images)).float()

    def _learn(self, images: Images, labels: Tensor, eps: float, generator: torch.Generator) -> tuple[float, Logits]:
        """The step or steps of a batch; gives the loss and the logits of the last."""
        targets = targets_of(labels, len(self.data.classes), self.recipe.smoothing)
        images = self._worse_strangers(images, labels, targets, generator)
        if self.recipe.adversarial == "free":
            return self._learn_free(images, targets, eps)
        shown = images
        if self.recipe.adversarial in ("pgd", "fgsm"):
            shown = self._attacked(lambda x: self._loss(self._logits(x), targets), images, eps, generator)
        elif self.recipe.adversarial == "trades":
            return self._learn_trades(images, targets, eps, generator)
        logits = self._logits(shown)
        return self._update(self._loss(logits, targets).mean()), logits.detach()

    def _worse_strangers(self, images: Images, labels: Tensor, targets: Tensor, generator: torch.Generator) -> Images:
        """Every second picture of no class is moved so that some class is answered for it after all."""
        where = (labels < 0).nonzero()[::2, 0]
        if self._adversary is None or len(where) == 0:
            return images
        loss = lambda x: self._loss(self._logits(x), targets[where])  # noqa: E731
        worse = self._attacked(loss, images[where], strange_eps(self.recipe), generator)
        return images.index_copy(0, where, worse)

    def _learn_trades(
        self, images: Images, targets: Tensor, eps: float, generator: torch.Generator
    ) -> tuple[float, Logits]:
        """Zhang et al., "Theoretically principled trade-off between robustness and accuracy", 2019."""
        self.module.eval()
        with torch.no_grad():
            given = self._logits(images)
        shown = self._attacked(lambda x: divergence(self._logits(x), given), images, eps, generator)
        self.module.train()
        logits, attacked = self._logits(images), self._logits(shown)
        spread = divergence(attacked, logits).mean()
        return self._update(self._loss(logits, targets).mean() + self.recipe.beta * spread), attacked.detach()

    def _learn_free(self, images: Images, targets: Tensor, eps: float) -> tuple[float, Logits]:
        """Shafahi et al., "Adversarial training for free!", 2019: one gradient moves weights and images."""
        change = torch.zeros_like(images)
        if self._change is not None and self._change.shape == images.shape:
            change = self._change.clamp(-eps, eps)
        loss, logits = 0.0, images.new_zeros((len(images), len(self.data.classes)))
        for _ in range(self.recipe.replays):
            shown = (images + change).clamp(0, 1).requires_grad_(True)
            logits = self._logits(shown)
            loss = self._update(self._loss(logits, targets).mean())
            change = (change + eps * shown.grad.sign()).clamp(-eps, eps)  # type: ignore[union-attr]
        self._change = change.detach()
        return loss, logits.detach()

    def _attacked(self, loss: LossOfImages, images: Images, eps: float, generator: torch.Generator) -> Images:
        """In eval mode, so that attacks leave the statistics of batches alone, and without gradients of weights."""
        if self._adversary is None:
            raise InwardError(f"adversarial training ({self.recipe.adversarial}) was asked for without an attack")
        if eps == 0:
            return images
        self.module.eval()
        frozen = [p for p in self.module.parameters() if p.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            found = self._adversary(loss, images, eps, generator)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            self.module.train()
        return found.detach().contiguous(memory_format=torch.channels_last)

    def _update(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise InwardError(f"the loss is not finite at step {self.step + 1} of {self.steps}; {_LOWER}")
        self.module.train()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return value

    @torch.no_grad()
    def _average(self) -> None:
        """The running mean begins short, so that the first weights do not stay in it."""
        if self.mean is None:
            return
        stays = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.mean[name].lerp_(value, 1 - stays)
            else:
                self.mean[name].copy_(value)

    def _end_of_epoch(self) -> None:
        count = min(_JUDGED, len(self.held_out.labels))
        numbers = torch.linspace(0, len(self.held_out.labels) - 1, count).long()
        self.history.append(
            {
                "epoch": float(self.step // self.batches),
                "loss": self._sums["loss"] / max(1.0, self._sums["shown"]),
                "shown": self._sums["right"] / max(1.0, self._sums["seen"]),
                "accuracy": self._accuracy(numbers),
                "rate": self.optimizer.param_groups[0]["lr"],
                "seconds": self._sums["seconds"],
            }
        )
        self._sums = dict.fromkeys(self._sums, 0.0)

    @torch.no_grad()
    def _accuracy(self, numbers: Tensor) -> float:
        """Of the kept weights."""
        now = {k: v.clone() for k, v in self.module.state_dict().items()}
        if self.mean is not None:
            self.module.load_state_dict(self.mean)
        self.module.eval()
        right = 0
        for some in numbers.split(_AT_ONCE):
            shown = plain(self.held_out.images(some).to(self.device), self.recipe.size)
            right += int((self._logits(shown).argmax(1).cpu() == self.held_out.labels[some]).sum())
        self.module.load_state_dict(now)
        return right / len(numbers)

    def watch(self) -> Watch:
        """What an observer is told."""
        known = self.history[-1]["accuracy"] if self.history else None
        return Watch(self.step, self.steps, (self.step - 1) // self.batches + 1, self._last, known)

    def kept_module(self) -> nn.Module:
        """The network with the weights that are kept."""
        if self.mean is not None:
            self.module.load_state_dict(self.mean)
        return self.module.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def is_finite(self) -> bool:
        """Whether all weights and statistics are finite."""
        return all(bool(v.isfinite().all()) for v in self.module.state_dict().values())

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        found: dict[str, Any] = {"step": self.step, "module": self.module.state_dict(), "mean": self.mean}
        found |= {"optimizer": self.optimizer.state_dict(), "history": self.history, "sums": self._sums}
        return found | {"change": self._change}

    def restore(self, state: dict[str, Any]) -> None:
        """From :meth:`state`."""
        self.step, self.history = state["step"], state["history"]
        known = {"shown": state["sums"]["seen"], **state["sums"]}
        self._sums = {name: float(known[name]) for name in self._sums}
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.mean = None if state["mean"] is None else {k: v.to(self.device) for k, v in state["mean"].items()}
        self._change = None if state["change"] is None else state["change"].to(self.device)


def _optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    weights = [p for p in module.parameters() if p.ndim > 1]
    others = [p for p in module.parameters() if p.ndim <= 1]
    groups: Any = [{"params": weights, "weight_decay": recipe.decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, recipe.rate, momentum=recipe.momentum, nesterov=recipe.momentum > 0)
    return torch.optim.AdamW(groups, recipe.rate, betas=(recipe.momentum, 0.999))


def _schedule(name: str, done: float) -> float:
    """The learning rate as a share of the largest, after this share of the training."""
    if name == "onecycle" and done < _RISE:
        return 0.04 + 0.96 * done / _RISE
    share = (done - _RISE) / (1 - _RISE) if name == "onecycle" else done
    return 0.5 * (1 + math.cos(math.pi * share))


def _seed_of(seed: int, number: int) -> int:
    """A seed of its own for every step (and, below 0, for every epoch)."""
    return (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9) % 2**63
