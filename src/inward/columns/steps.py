"""Steps: how the parameters move along the gradient. Each is a factory of a ``torch.optim.Optimizer``.

An optimizer minimizes; ``ascend`` hands it the negative gradient, and that is the only minus sign.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

Step: TypeAlias = Callable[[Sequence[Tensor]], torch.optim.Optimizer]


class _Directed(torch.optim.Optimizer):
    """``x <- x - lr * direction(v)`` with ``v <- decay * v + g / ||g||_1``; decay 0: ``v = g``."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, direction: Callable[[Tensor], Tensor], decay: float):
        super().__init__(parameters, {"lr": lr, "decay": decay})
        self._direction = direction

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                velocity = self._velocity(parameter, parameter.grad, group["decay"])
                parameter.sub_(group["lr"] * self._direction(velocity))

    def _velocity(self, parameter: Tensor, gradient: Tensor, decay: float) -> Tensor:
        if decay == 0:
            return gradient
        length = gradient.abs().flatten(1).sum(1).view(-1, *[1] * (gradient.ndim - 1))
        unit = torch.where(length > 0, gradient / torch.where(length > 0, length, 1), 0)
        state = self.state[parameter]
        state["velocity"] = decay * state.get("velocity", 0) + unit
        return state["velocity"]


def steepest(lr: float, direction: Callable[[Tensor], Tensor]) -> Step:
    """A step of length ``lr`` in the steepest direction of a constraint (``Ball.steepest``)."""
    return lambda parameters: _Directed(parameters, lr, direction, 0.0)


def momentum(lr: float, direction: Callable[[Tensor], Tensor], decay: float = 1.0) -> Step:
    """The same along accumulated gradients. Dong et al., "Boosting adversarial attacks with momentum", 2018."""
    return lambda parameters: _Directed(parameters, lr, direction, decay)


def gradient(lr: float) -> Step:
    """Plain gradient ascent: ``x + lr * g``."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


def adam(lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Step:
    """Adam. Kingma and Ba, 2015."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps)
