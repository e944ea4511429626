"""Sparse-RS: a few pixels of any color, moved about where the scores say that it helps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inward.columns.constraints import Ball
from inward.errors import CallError
from inward.methods.attacked import Classes, attacked
from inward.methods.course import Course, OnProgress, counted
from inward.methods.draws import own_draws
from inward.methods.random_search import Candidates, RandomSearch, run, stretched
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# Behind which of 10000 queries a smaller share of the pixels is moved, and by what the share is divided.
_BOUNDS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
_DIVIDED = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)


@own_draws
def sparse_rs(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    pixels: int = 50,
    queries: int = 5000,
    share: float = 0.3,
    restarts: int = 1,
    stop: bool = True,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Perturbation:
    """A few pixels at the corners of the color cube, by random search: a black-box attack on the number of pixels.

    Croce, Andriushchenko, Singh, Flammarion and Hein, "Sparse-RS: a versatile framework for query-efficient sparse
    black-box adversarial attacks", 2020. Some of the pixels move to other places with new colors, each channel 0
    or 1; they stay where the score rises: the lead of any other class, or the probability of the target. With
    ``pixels=1`` it does what the one-pixel attack of Su, Vargas and Sakurai, 2017, looks for by differential evolution.
    No gradient is asked for.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        pixels: how many change at most (in all their channels): the result's l0 is no larger.
        queries: candidates at most, of every start; the schedule of the share is stretched to them.
        share: of the pixels that move at first; a twentieth of that at the end, and one at the least.
        restarts: how often to begin anew with the images that withstood.
        stop: leave an image alone once it fools the network.
        eight_bit: judge the 8-bit picture, as a file holds it.
        seed: of places and colors; each image sees the same ones.
        on_progress: called with (queries done, queries at most).

    Raises:
        CallError: for pixels below 1 or more than there are, queries or restarts below 1, a share outside (0, 1],
            images not in [0, 1], classes that the network does not have, a target equal to the label, or a network
            of one output.
    """
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=None, norm="linf")
    counted("queries", queries)
    counted("restarts", restarts)
    there = math.prod(asked.size)
    if not 1 <= pixels <= there:
        raise CallError(f"pixels is how many may change, 1 to all {there} of the image, not {pixels}")
    if not 0 < share <= 1:
        raise CallError(f"share is that of the pixels that move at first, above 0 and at most 1, not {share:g}")
    # Any color will do: a ball that holds every picture.
    everything = Ball(asked.images, 1.0, math.inf)
    course = Course(asked, everything, restarts * queries, stop=stop, on_progress=on_progress)

    def search(course: Course, numbers: Tensor, generator: torch.Generator) -> RandomSearch:
        return _Pixels(course, numbers, generator, pixels)

    for restart in range(restarts):
        run(course, search, queries, seed + restart, lambda query: share_at(query, queries, share))
    told = {"pixels": pixels, "queries": queries, "share": share, "restarts": restarts, "stop": stop, "seed": seed}
    return asked.result("sparse-rs", asked.parameters | told, course.moved())


def share_at(query: int, queries: int, share: float) -> float:
    """The share of the pixels that move, for 10000 queries stretched to ``queries``."""
    return share / _DIVIDED[stretched(query, queries, _BOUNDS)]


class _Pixels(RandomSearch):
    """Attributes: ``places`` (n, k) of the pixels of each image's best candidate, row by row."""

    def __init__(self, course: Course, numbers: Tensor, generator: torch.Generator, pixels: int) -> None:
        super().__init__(course, numbers, generator)
        self.count = pixels
        self.places = torch.zeros((len(numbers), pixels), dtype=torch.long, device=self.device)
        self._new = self.places

    def start(self) -> Images:
        """The same places and colors in all images."""
        drawn = torch.randperm(math.prod(self.images.shape[2:]), generator=self.generator)[: self.count]
        self._new = drawn.to(self.device).expand(len(self.images), -1)
        return self._painted(self.images, self._new)

    def candidates(self, share: float, last: int) -> Candidates:
        moved = max(int(share * self.count), 1)
        total = math.prod(self.images.shape[2:])
        gone = torch.randperm(self.count, generator=self.generator)[:moved].to(self.device)
        # Of so many places that some are free; where there are none, those given up are taken again.
        drawn = torch.randperm(total, generator=self.generator)[: self.count + moved].to(self.device)
        taken = torch.zeros((len(self.images), total), dtype=torch.uint8, device=self.device)
        taken = taken.scatter(1, self.places, 2).scatter(1, self.places[:, gone], 1)[:, drawn]
        places = drawn[taken.argsort(dim=1, stable=True)[:, :moved]]
        self._new = self.places.clone()
        self._new[:, gone] = places
        given_up = self.places[:, gone][:, None].expand(-1, self.images.shape[1], -1)
        back = self.best.flatten(2).scatter(2, given_up, self.images.flatten(2).gather(2, given_up))
        return self.whole(self._painted(back.view_as(self.best), places))

    def accept(self, which: Tensor) -> None:
        self.places = self.places.index_put((which,), self._new[which])

    def _painted(self, images: Images, places: Tensor) -> Images:
        """The images with the pixels at these places (n, m) of new colors, each channel 0 or 1."""
        channels = images.shape[1]
        colors = torch.randint(2, (channels, places.shape[1]), generator=self.generator).to(images)
        where = places[:, None].expand(-1, channels, -1)
        return images.flatten(2).scatter(2, where, colors.expand(len(images), -1, -1)).view_as(images)

    def _leave(self, gone: Tensor) -> None:
        self.places = self.places[(~gone).to(self.device)]
        super()._leave(gone)
