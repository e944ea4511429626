"""Steps: how the parameters move along the gradient. Each is a factory of a ``torch.optim.Optimizer``, or of its like.

An optimizer minimizes; ``ascend`` hands it the negative gradient, and that is the only minus sign.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.types import Images

Losses: TypeAlias = Callable[[], Any]


class Optimizer(Protocol):
    """What an ascent asks of an optimizer; every ``torch.optim.Optimizer`` has it.

    ``state``: what it knows of each parameter. ``param_groups``: one, whose ``params`` are moved by ``step`` along
    their ``grad``, downwards; it may ask for the losses (N,) of the images at the parameters as they are.
    """

    state: Any
    param_groups: list[dict[str, Any]]

    def step(self, losses: Losses, /) -> Any: ...


Step: TypeAlias = Callable[[Sequence[Tensor]], Optimizer]


class Own(ABC):
    """An optimizer without the hooks and records of PyTorch's, which take longer than a step of a small image."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.state: defaultdict[Tensor, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = [{"params": list(parameters)}]

    @torch.no_grad()
    def step(self, losses: Losses | None = None, /) -> None:
        for parameter in self.param_groups[0]["params"]:
            self._move(parameter, parameter.grad)

    @abstractmethod
    def _move(self, parameter: Tensor, gradient: Tensor) -> None:
        """Moves one parameter down its gradient."""


class _Directed(Own):
    """``x <- x - lr * direction(v)`` with ``v <- decay * v + g / ||g||_1``; decay 0: ``v = g``."""

    def __init__(self, parameters: Sequence[Tensor], lr: float, direction: Callable[[Tensor], Tensor], decay: float):
        super().__init__(parameters)
        self._lr, self._direction, self._decay = lr, direction, decay

    def _move(self, parameter: Tensor, gradient: Tensor) -> None:
        parameter.sub_(self._direction(self._velocity(parameter, gradient)), alpha=self._lr)

    def _velocity(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        if self._decay == 0:
            return gradient
        length = gradient.abs().flatten(1).sum(1).view(-1, *[1] * (gradient.ndim - 1))
        unit = torch.where(length > 0, gradient / torch.where(length > 0, length, 1), 0)
        state = self.state[parameter]
        state["velocity"] = self._decay * state.get("velocity", 0) + unit
        return state["velocity"]


def steepest(lr: float, direction: Callable[[Tensor], Tensor]) -> Step:
    """A step of length ``lr`` in the steepest direction of a constraint (``Ball.steepest``)."""
    return lambda parameters: _Directed(parameters, lr, direction, 0.0)


def momentum(lr: float, direction: Callable[[Tensor], Tensor], decay: float = 1.0) -> Step:
    """The same along accumulated gradients. Dong et al., "Boosting adversarial attacks with momentum", 2018."""
    return lambda parameters: _Directed(parameters, lr, direction, decay)


class _Sparse(Own):
    """Moves some values of each image in [0, 1]: ``moves(gradient, room)``, both (N, D), gives by how much."""

    def __init__(self, parameters: Sequence[Tensor], moves: Callable[[Tensor, Tensor, int], Tensor]) -> None:
        super().__init__(parameters)
        self._moves, self._done = moves, 0

    def step(self, losses: Losses | None = None, /) -> None:
        super().step(losses)
        self._done += 1

    def _move(self, parameter: Tensor, gradient: Tensor) -> None:
        flat, up = parameter.flatten(1), -gradient.flatten(1)
        # How far each value can go in its direction; one without a gradient stays.
        room = torch.where(up > 0, 1 - flat, flat).clamp_min(0) * (up != 0)
        parameter.add_((self._moves(up.abs(), room, self._done) * up.sign()).view_as(parameter))


def sparse(lr: float, steps: int, share: float = 0.01) -> Step:
    """A step of l1-length ``lr`` along the signs of the largest ``share`` of the values that can still move in [0, 1].

    Tramer and Boneh, "Adversarial training and robustness for multiple perturbations", 2019. The share falls to a
    single value, the steepest step in l1, over the first half of ``steps``: so a linear score reaches its maximum.
    """
    if not 0 < share <= 1:
        raise CallError(f"the share of values that move is above 0 and at most 1, not {share:g}")

    def moves(size: Tensor, room: Tensor, done: int) -> Tensor:
        count = max(1, round(share * size.shape[1] * (1 - 2 * done / max(1, steps))))
        able = torch.where(room > 0, size, 0)
        chosen = torch.zeros_like(size).scatter_(1, able.topk(count, dim=1).indices, 1) * (able > 0)
        return lr * chosen / chosen.sum(1, keepdim=True).clamp_min(1)

    return lambda parameters: _Sparse(parameters, moves)


def filled(length: float) -> Step:
    """The step of l1-length ``length`` in [0, 1] in which a linear score rises most: the values of the largest
    gradient go to their bounds, one after the other, until the length is used up.
    """

    def moves(size: Tensor, room: Tensor, _: int) -> Tensor:
        order = size.argsort(dim=1, descending=True)
        ahead = room.gather(1, order)
        left = (length - (ahead.cumsum(1) - ahead)).clamp_min(0)
        return torch.zeros_like(size).scatter_(1, order, torch.minimum(ahead, left))

    return lambda parameters: _Sparse(parameters, moves)


def gradient(lr: float) -> Step:
    """Plain gradient ascent: ``x + lr * g``."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr)


def adam(lr: float, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Step:
    """Adam. Kingma and Ba, 2015."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, betas=betas, eps=eps)


def blurred_gradient(lr: float, *, every: int, sigma: float) -> Step:
    """Plain gradient ascent, ``x + r g``, and a Gaussian blur of the picture after every so many steps.

    r is constant, and set for each image by its first gradient that is not 0, so that this moves
    pixels by ``lr`` in the root mean square: a rate that suits a network would be off by thousands
    for another whose scores have another scale.

    Yosinski et al., "Understanding neural networks through deep visualization", 2015. ``every`` 0: no blur.
    """
    if every < 0 or not (sigma >= 0 and math.isfinite(sigma)):
        raise CallError(
            f"a blur comes every 1 step or more (0: never) and is 0 pixels wide or more, not {every}, {sigma}"
        )
    return lambda parameters: _BlurredGradient(parameters, lr, every, sigma)


class _BlurredGradient(Own):
    def __init__(self, parameters: Sequence[Tensor], lr: float, every: int, sigma: float) -> None:
        super().__init__(parameters)
        self._lr, self._every, self._sigma, self._done = lr, every, sigma, 0

    def step(self, losses: Losses | None = None, /) -> None:
        self._done += 1
        super().step(losses)

    def _move(self, parameter: Tensor, gradient: Tensor) -> None:
        parameter.sub_(self._rate(parameter, gradient) * gradient)
        if self._every and self._sigma and self._done % self._every == 0:
            parameter.copy_(gaussian_blur(parameter, self._sigma))

    def _rate(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        length = gradient.square().flatten(1).mean(1).sqrt()
        state = self.state[parameter]
        known = state.setdefault("rate", torch.zeros_like(length))
        new = torch.where(length > 0, self._lr / torch.where(length > 0, length, 1), 0)
        state["rate"] = torch.where(known > 0, known, new)
        return state["rate"].view(-1, *[1] * (parameter.ndim - 1))


def gaussian_blur(images: Images, sigma: float) -> Images:
    """Each channel blurred, over 4 sigma to each side; beyond the border the picture is mirrored, as far as it goes."""
    for dim in (2, 3):
        reach = min(max(1, math.ceil(4 * sigma)), images.shape[dim] - 1)
        if sigma == 0 or reach == 0:
            continue
        offsets = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
        weights = torch.exp(-0.5 * (offsets / sigma).square())
        kernel = (weights / weights.sum()).view(1, 1, *((-1, 1) if dim == 2 else (1, -1)))
        planes = images.flatten(0, 1)[:, None]
        margins = (0, 0, reach, reach) if dim == 2 else (reach, reach, 0, 0)
        images = F.conv2d(F.pad(planes, margins, mode="reflect"), kernel)[:, 0].view_as(images)
    return images
