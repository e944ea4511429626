"""The attack of Carlini and Wagner: the length of the change plus a constant times how far it is from fooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inward.columns.objectives import Objective, wide
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, attacked
from inward.methods.draws import own_draws
from inward.methods.looked import look
from inward.methods.nearest import Nearest
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images, Scores

# So that black and white have a finite place in the variable, and one that few steps lead away from.
_INSIDE = 0.9999
# Adam: Kingma and Ba, 2014.
_BETAS, _TINY = (0.9, 0.999), 1e-8
# A search ends where a tenth of its steps has not lowered the loss by this share; but for the first tenth, which may
# raise it: Adam's first steps are as long as any, and on photographs far longer than the change that is looked for.
_PARTS, _PROGRESS = 10, 0.9999
_LARGEST = 1e10


@own_draws
def carlini_wagner(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    steps: int = 1000,
    step_size: float = 0.01,
    searches: int = 9,
    constant: float = 1e-3,
    confidence: float = 0.0,
    abort_early: bool = True,
    eight_bit: bool = True,
    on_progress: Callable[[int, int], None] | None = None,
) -> Perturbation:
    """The smallest l2 change that fools, by Adam on its length and the lead that is missing, weighed by a constant.

    Carlini and Wagner, "Towards evaluating the robustness of neural networks", 2016: minimizes
    ``||x' - x||^2 + c max(confidence - lead(x'), 0)`` over w, ``x' = (tanh(w) + 1) / 2``, so that no value leaves
    [0, 1]. The smallest c that will do is found by bisection, for each image its own, and the nearest of all
    pictures on the way that fool is kept.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        steps: steps of Adam for one constant, at most.
        step_size: Adam's, in units of w.
        searches: how many constants are tried for each image.
        constant: the first of them; it is multiplied by 10 until it will do, and then bisected.
        confidence: by how much the logit must be above the others for a picture to count as one that fools.
        abort_early: go on to the next constant where a tenth of the steps, but the first, has lowered the loss by
            under 0.01 %.
        eight_bit: judge the 8-bit picture, as a file holds it; of those the smallest multiple of the change found
            that fools the network.
        on_progress: called after every step with (steps done, steps in all).

    Raises:
        CallError: for steps or a confidence below 0, a step or a constant that is not above 0, no search, images
            not in [0, 1], classes that the network does not have, a target equal to the label, or a network of
            one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm="l2")
    if steps < 0 or searches < 1:
        raise CallError(f"0 steps or more and 1 search or more are made, not {steps} and {searches}")
    if not (0 < step_size < math.inf and 0 < constant < math.inf):
        raise CallError(f"step_size and constant must be above 0, not {step_size:g} and {constant:g}")
    if not 0 <= confidence < math.inf:
        raise CallError(f"confidence is a difference of logits and is 0 or more, not {confidence:g}")
    nearest = Nearest(asked, "l2", confidence)
    descent = _Descent(asked, nearest, steps, step_size, confidence, abort_early)
    last = asked.images.clone()
    left = nearest.begin()
    if len(left):
        last[left.to(last.device)] = _bisected(descent, left, searches, constant, on_progress)
    told = {"steps": steps, "step_size": step_size, "searches": searches, "constant": constant}
    told |= {"confidence": confidence, "abort_early": abort_early}
    return asked.result("carlini-wagner", asked.parameters | told, nearest.moved(last))


def _bisected(
    descent: _Descent, numbers: Tensor, searches: int, constant: float, on_progress: Callable[[int, int], None] | None
) -> Images:
    """Tries constants, of each image one after the other; gives where the last descent ended."""
    constants = torch.full((len(numbers),), constant, dtype=torch.float64)
    low, high = torch.zeros_like(constants), torch.full_like(constants, math.inf)
    last = descent.asked.images[numbers.to(descent.asked.images.device)]
    for search in range(searches):
        if search == searches - 1 and searches >= _PARTS:
            # As the authors do: once more with a constant that is known to do.
            constants = high.clamp_max(_LARGEST)

        def tell(done: int, before: int = search * descent.steps) -> None:
            if on_progress is not None:
                on_progress(before + done, searches * descent.steps)

        last, found = descent.run(numbers, constants, tell)
        high = torch.where(found, constants, high)
        low = torch.where(found, low, constants)
        constants = torch.where(high.isinf(), (constants * 10).clamp_max(_LARGEST), (low + high) / 2)
    return last


@dataclass(frozen=True, eq=False)
class _Descent:
    """Adam on the loss with given constants."""

    asked: Attacked
    nearest: Nearest
    steps: int
    step_size: float
    confidence: float
    abort_early: bool
    fast: Network = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fast", lean(self.asked.net, self.asked.size, half=False))

    def run(self, numbers: Tensor, constants: Tensor, tell: Callable[[int], None]) -> tuple[Images, Tensor]:
        """Where each image ends, and of which any picture on the way fooled. Images that settle leave the batch."""
        device = self.asked.images.device
        images = self.asked.images[numbers.to(device)]
        last, found = images.clone(), torch.zeros(len(numbers), dtype=torch.bool)
        # In half precision black would be infinitely far.
        base = (2 * wide(images) - 1).clamp(-_INSIDE, _INSIDE).atanh()
        state = _State(torch.arange(len(numbers)), base.clone(), torch.zeros_like(base), torch.zeros_like(base))
        before = torch.full((len(numbers),), math.inf, dtype=torch.float64)
        for step in range(self.steps):
            own, where = numbers[state.among], state.among.to(device)
            shown = ((state.w.tanh() + 1) / 2).to(images)
            last[where] = shown
            loss, gradient, fooled = self._loss(shown, (base[where].tanh() + 1) / 2, own, constants[state.among])
            found[state.among] |= fooled
            tell(step + 1)
            if self.abort_early and step and step % math.ceil(self.steps / _PARTS) == 0:
                going = loss <= _PROGRESS * before[state.among]
                before[state.among] = loss
                state, gradient = state.select(going), gradient[going.to(device)]
                shown = shown[going.to(device)]
                if len(state.among) == 0:
                    break
            # The slope of (tanh(w) + 1) / 2.
            state = state.moved(gradient * 2 * shown * (1 - shown), self.step_size, step + 1)
        return last, found

    def _loss(self, shown: Images, start: Images, own: Tensor, constants: Tensor) -> tuple[Scores, Images, Tensor]:
        """The loss of each image, its gradient with respect to the images, and which of them fool."""
        objective: Objective = self.asked.lead.select(own.tolist())
        seen = look(self.fast, shown, objective)
        fooled = self.nearest.fooled(shown, seen.logits, own)
        self.nearest.offer(shown, own, fooled)
        self.nearest.note(own, seen.scores)
        change = shown - start
        missing = (self.confidence - seen.scores.double()).clamp_min(0).cpu()
        loss = constants * missing + change.double().flatten(1).square().sum(1).cpu()
        pull = torch.where(missing > 0, constants, 0).to(shown).view(-1, 1, 1, 1)
        return loss, 2 * change - pull * seen.gradient, fooled


@dataclass(frozen=True, eq=False)
class _State:
    """The variable of the images that are still in the batch, and what Adam knows of each."""

    among: Tensor
    w: Tensor
    first: Tensor
    second: Tensor

    def select(self, going: Tensor) -> _State:
        where = going.to(self.w.device)
        return _State(self.among[going], self.w[where], self.first[where], self.second[where])

    def moved(self, gradient: Tensor, step_size: float, count: int) -> _State:
        first = _BETAS[0] * self.first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * self.second + (1 - _BETAS[1]) * gradient.square()
        mean, spread = first / (1 - _BETAS[0] ** count), second / (1 - _BETAS[1] ** count)
        return _State(self.among, self.w - step_size * mean / (spread.sqrt() + _TINY), first, second)
