"""One patch that makes the network say a class wherever it lies in whichever image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.columns.objectives import wide
from inward.errors import CallError
from inward.methods.attacked import Attacked, Classes, Moved, attacked
from inward.methods.course import OnProgress, counted
from inward.methods.draws import own_draws
from inward.methods.levels import eight_bit as whole_levels
from inward.methods.looked import look
from inward.methods.together import Passes, drawn
from inward.network.lean import lean
from inward.network.network import Network
from inward.results import Patched
from inward.types import Images

_GRAY = 0.5


@own_draws
def patch(
    net: Network,
    images: Images,
    *,
    target: Classes,
    share: float = 0.1,
    steps: int = 200,
    step_size: float = 0.05,
    minibatch: int = 16,
    places: int = 10,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Patched:
    """A square that, laid anywhere into any of the images, makes the network answer ``target``.

    Brown, Mané, Roy, Abadi and Gilmer, "Adversarial patch", 2017: maximizes the expectation of log p(target) over
    images and places, a place drawn anew for every image at every step. (Of the paper's transformations these are
    the places; the patch is neither turned nor scaled.) Success is judged at places drawn for that alone; the first of
    them is what the result shows. There is no eps: inside the square every value is free. The images depend on
    one another: of another batch the patch is another one.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the class to be taken for, class:9 or class:ostrich; one, or one an image.
        share: of the image's area that the patch covers; its side is at most that of the image.
        steps: steps of Adam.
        step_size: Adam's, in [0, 1] units.
        minibatch: images a step.
        places: at how many random places of each image the patch is judged.
        eight_bit: judge the 8-bit picture, as a file holds it.
        seed: of the places.
        on_progress: called after every step with (steps done, steps in all).

    Raises:
        CallError: for a share outside (0, 1], steps, minibatch or places below 1, a step that is not above 0, images
            not in [0, 1], a target that is no class, or a network of one output.
    """
    asked = attacked(net, images, None, target, eight_bit_judge=eight_bit, eps=None, norm="linf")
    passes = Passes(asked, counted("steps", steps), counted("minibatch", minibatch), seed, on_progress)
    counted("places", places)
    if not 0 < share <= 1:
        raise CallError(f"share is that of the image's area, above 0 and at most 1, not {share:g}")
    if not 0 < step_size < math.inf:
        raise CallError(f"step_size must be a number above 0, not {step_size:g}")
    side = min(max(round(math.sqrt(share * math.prod(asked.size))), 1), *asked.size)
    where = _Places(asked, side, asked.seeds(seed))
    exact = _trained(asked, where, passes, step_size)
    made = whole_levels(exact) if asked.eight_bit else exact
    everyone = torch.arange(len(asked.images))
    tried = [asked.judged(where.pasted(everyone, made, "judged", k), everyone)[0] for k in range(places)]
    unrounded, shown = (where.pasted(everyone, square, "judged", 0) for square in (exact, made))
    moved = Moved(unrounded, shown, torch.zeros_like(tried[0]), passes.steps, passes.history)
    told = {"share": share, "steps": steps, "step_size": step_size, "minibatch": minibatch}
    told |= {"places": places, "seed": seed}
    told |= {name: asked.parameters[name] for name in ("target", "eight_bit")}
    found = asked.result("patch", told, moved)
    return found.of_kind(Patched, patch=made, hits=torch.stack(tried).double().mean(0))


def _trained(asked: Attacked, where: _Places, passes: Passes, step_size: float) -> Images:
    """The patch after all passes, (1, C, S, S)."""
    fast, objective = lean(asked.net, asked.size, half=False), asked.objective("cross-entropy")
    shape = (1, asked.images.shape[1], where.side, where.side)
    square = torch.full(shape, _GRAY, dtype=wide(asked.images).dtype, device=asked.images.device)
    adam = torch.optim.Adam([square], lr=step_size)
    for step, numbers in enumerate(passes):
        seen = look(fast, where.pasted(numbers, square, "step", step), objective.select(numbers.tolist()))
        passes.note(numbers, seen.scores)
        square.grad = -where.cut(numbers, wide(seen.gradient), step).sum(0, keepdim=True)
        adam.step()
        square.clamp_(0, 1)
    return square.detach()


@dataclass(frozen=True)
class _Places:
    """Where the patch lies, by each image's own seed."""

    asked: Attacked
    side: int
    seeds: Sequence[int]

    def pasted(self, numbers: Tensor, square: Tensor, what: str, index: int) -> Images:
        """The images with these numbers, the patch at the place with this index."""
        shown = self.asked.images[numbers.to(self.asked.images.device)]
        for image, place in zip(shown, self._of(numbers, what, index), strict=True):
            image[(slice(None), *place)] = square[0].to(image)
        return shown

    def cut(self, numbers: Tensor, gradient: Tensor, step: int) -> Tensor:
        """What of each gradient falls on the patch."""
        places = self._of(numbers, "step", step)
        return torch.stack([one[(slice(None), *place)] for one, place in zip(gradient, places, strict=True)])

    def _of(self, numbers: Tensor, what: str, index: int) -> Sequence[tuple[slice, slice]]:
        return [self._place(self.seeds[i], what, index) for i in numbers.tolist()]

    def _place(self, seed: int, what: str, index: int) -> tuple[slice, slice]:
        generator = drawn(seed, what, index)
        rows, columns = (int(torch.randint(n - self.side + 1, (), generator=generator)) for n in self.asked.size)
        return slice(rows, rows + self.side), slice(columns, columns + self.side)
