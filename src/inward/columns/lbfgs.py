"""L-BFGS for a batch of images, each with curvature and a step length of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from inward.columns.spectrum import frequencies
from inward.columns.steps import Losses, Own, Step
from inward.errors import CallError

# A trial is accepted where it lowers the loss by this share of what its slope promises, but for rounding.
_ENOUGH, _ROUNDING = 1e-4, 1e-6
# A pair of changes is kept where its curvature is above this, as a cosine.
_CURVED = 1e-4
# What the channels of pictures have in common moves so much further than what they differ in.
_GRAY = 2.0
# After so many refused trials the memory is given up for the gradient.
_PATIENCE = 6


def lbfgs(
    lr: float = 0.02, *, memory: int = 10, bounds: tuple[float, float] | None = (0.0, 1.0), decay: float = 0.0
) -> Step:
    """L-BFGS with backtracking: one pass, one trial.

    Nocedal, "Updating quasi-Newton matrices with limited storage", 1980; trials that do not lower the loss enough are
    shortened by quadratic interpolation (Armijo). Every image of the batch has its own pairs, step and trials: none
    moves another. (The network rounds otherwise for other numbers of images, and many passes make that visible.) It
    knows nothing of noise: the objective must be the same at every pass.

    Args:
        lr: the root mean square by which the first step moves the values.
        memory: pairs of changes that are kept; memory takes 2 ``memory`` + 3 times that of the parameters.
        bounds: between which values the parameters are kept by whoever projects them: what would leave them is no
            direction. None: they are free.
        decay: of pictures, by which power of the frequency the first guess of the inverse Hessian falls. A network sees
            edges more sharply than large patches, and pictures differ more in these: without it (0) they come last. It
            is larger for what the channels have in common, as pictures differ more in light than in color.

    Raises CallError for a rate that is not above 0, or no memory.
    """
    if not lr > 0 or memory < 1:
        raise CallError(f"L-BFGS begins with a step above 0 and remembers 1 pair or more, not {lr:g} and {memory}")
    return lambda parameters: _LBFGS(parameters, lr, memory, bounds, decay)


class _LBFGS(Own):
    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        memory: int,
        bounds: tuple[float, float] | None,
        decay: float,
    ) -> None:
        super().__init__(parameters)
        if len(parameters) != 1:
            raise CallError(f"L-BFGS moves one tensor of parameters, and there are {len(parameters)}; use adam")
        self._lr, self._memory, self._bounds, self._decay = lr, memory, bounds, decay
        self._shape = parameters[0].shape[1:]
        self._done = 0
        self._loss: Tensor = torch.empty(0)

    @torch.no_grad()
    def step(self, losses: Losses | None = None, /) -> None:
        """One trial; ``losses`` gives the loss of every image at the parameters as they are."""
        if losses is None:
            raise CallError("L-BFGS compares losses, and is told of none; use it in an ascent")
        self._loss = losses()
        super().step(losses)
        self._done += 1

    def _move(self, parameter: Tensor, gradient: Tensor) -> None:
        # What there is one number an image of lies on the CPU, as the losses do: there it is decided by.
        state, now, slope = self.state[parameter], parameter.flatten(1), gradient.flatten(1)
        loss = self._loss.double().cpu()
        if not state:
            state |= {"x": now.clone(), "g": slope.clone(), "f": loss, "refused": torch.zeros_like(loss)}
            state["gamma"] = torch.zeros_like(loss)
            accepted = torch.ones_like(loss, dtype=torch.bool)
        else:
            enough = state["f"] + _ENOUGH * state["t"] * state["slope"] + _ROUNDING * state["f"].abs()
            accepted = loss <= enough
            self._remember(state, now, slope, accepted)
            self._take(state, now, slope, loss, accepted)
        self._aim(state, accepted, loss)
        moved = torch.addcmul(state["x"], state["d"], _column(state["t"], now))
        parameter.copy_(moved.view_as(parameter))

    def _remember(self, state: dict[str, Any], now: Tensor, slope: Tensor, accepted: Tensor) -> None:
        """The changes since the last point, their product 1; of a refused trial, that there is none."""
        s, y, slot = now - state["x"], slope - state["g"], self._done % self._memory
        product, moved, bent, guessed = _told(_dot(s, y), _dot(s, s), _dot(y, y), _dot(y, self._guess(y)))
        curved = accepted & (product > _CURVED * (moved * bent).sqrt())
        scale = _column(torch.where(curved, torch.where(curved, product, 1).rsqrt(), 0), now)
        state[f"s{slot}"], state[f"y{slot}"] = s.mul_(scale)[:, None], y.mul_(scale)[:, None]
        state["gamma"] = torch.where(curved, product / torch.where(curved, guessed, 1), state["gamma"])

    def _take(self, state: dict[str, Any], now: Tensor, slope: Tensor, loss: Tensor, accepted: Tensor) -> None:
        """Goes to where the loss is low enough; elsewhere shortens the step."""
        t, promised = state["t"], state["t"] * state["slope"]
        shorter = -0.5 * promised / (loss - state["f"] - promised) * t
        shorter = torch.where(shorter.isfinite(), shorter, 0).clamp(0.1 * t, 0.5 * t)
        state["t"] = torch.where(accepted, 1.0, shorter)
        state["refused"] = torch.where(accepted, 0, state["refused"] + 1)
        state["x"], state["g"] = (
            _of_some(accepted, now.clone(), state["x"]),
            _of_some(accepted, slope.clone(), state["g"]),
        )
        state["f"] = torch.where(accepted, loss, state["f"])

    def _aim(self, state: dict[str, Any], accepted: Tensor, loss: Tensor) -> None:
        """Directions of those that moved on, or have been refused too often."""
        lost = state["refused"] == _PATIENCE
        if lost.any():
            self._forget(state, lost)
        fresh = accepted | lost
        if not fresh.any():
            return
        free = self._free(state)
        found = self._direction(state, free)
        (falls,) = _told(_dot(found, free))
        rising = falls >= 0
        if rising.any():
            found = _of_some(rising, torch.where(free == 0, 0, -self._guess(free)), found)
            (falls,) = _told(_dot(found, free))
        state["d"] = _of_some(fresh, found, state["d"]) if "d" in state else found
        # Without curvature the length of a gradient means nothing.
        plain = fresh & ((state["gamma"] == 0) | rising)
        state["t"] = torch.where(fresh, 1.0, state.get("t", torch.ones_like(loss)))
        if plain.any():
            (size,) = _told(_dot(state["d"], state["d"]))
            size = (size / state["d"].shape[1]).sqrt()
            first = torch.where(size > 0, self._lr / torch.where(size > 0, size, 1), 0)
            first = torch.where(lost, first * 0.5**_PATIENCE, first)
            state["t"] = torch.where(plain, first, state["t"])
        state["slope"] = torch.where(fresh, falls, state.get("slope", loss))

    def _forget(self, state: dict[str, Any], lost: Tensor) -> None:
        """The memory of these."""
        for name in [f"{kind}{slot}" for kind in "sy" for slot in range(self._memory)]:
            if name in state:
                state[name][lost.to(state[name].device)] = 0
        state["gamma"] = torch.where(lost, 0, state["gamma"])

    def _free(self, state: dict[str, Any]) -> Tensor:
        """The gradient, without what only presses against a bound."""
        x, slope = state["x"], state["g"]
        if self._bounds is None:
            return slope
        low, high = self._bounds
        return torch.where(torch.where(slope > 0, x <= low, x >= high), 0, slope)

    def _guess(self, values: Tensor) -> Tensor:
        """The first guess of the inverse Hessian times these, but for a factor."""
        if self._decay == 0:
            return values
        pictures = values.view(-1, *self._shape)
        shares = frequencies((self._shape[-2], self._shape[-1]), values.dtype, values.device) ** -self._decay
        spectrum = torch.fft.rfft2(pictures) * (shares / shares.mean())
        found = torch.fft.irfft2(spectrum, s=self._shape[-2:])
        return (found + (_GRAY - 1) * found.mean(1, keepdim=True)).flatten(1)

    def _direction(self, state: dict[str, Any], free: Tensor) -> Tensor:
        """Minus the inverse Hessian, as far as the memory knows it, times the gradient: the two loops."""
        # The slot of this pass is the newest.
        slots = [(self._done - i) % self._memory for i in range(min(self._done, self._memory))]
        pairs = [(state[f"s{slot}"], state[f"y{slot}"]) for slot in slots]
        q, shares = free[:, None].clone(), []
        for s, y in pairs:
            shares.append(torch.bmm(q, s.mT))
            q.addcmul_(y, shares[-1], value=-1)
        factor = _column(torch.where(state["gamma"] > 0, state["gamma"], 1), q)
        q = (self._guess(q[:, 0]) * factor)[:, None]
        for (s, y), share in zip(reversed(pairs), reversed(shares), strict=True):
            q.addcmul_(s, share - torch.bmm(q, y.mT))
        # What is held stays.
        return torch.where(free == 0, 0, q[:, 0].neg_())


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Of (N, D) twice, (N,)."""
    return torch.bmm(a[:, None], b[:, :, None])[:, 0, 0]


def _told(*values: Tensor) -> list[Tensor]:
    """On the CPU, float64; fetched at once."""
    return list(torch.stack(values).cpu().double())


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(N, 1), beside values of images."""
    return values.to(like)[:, None]


def _of_some(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """The new values of these images, the old ones of the others."""
    return new if which.all() else torch.where(which.to(new.device)[:, None], new, old)
