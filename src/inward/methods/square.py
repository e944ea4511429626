"""The Square attack: random squares, kept where the scores say that they help. No gradient is asked for."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from inward.errors import CallError
from inward.methods.attacked import Classes, Norm, attacked
from inward.methods.course import Course, OnProgress, ball_of, counted, radius, two_norms
from inward.methods.draws import own_draws
from inward.methods.random_search import Candidates, RandomSearch, run, stretched
from inward.network.beside import cut
from inward.network.held import Changes
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images

# After how many of 10000 queries the share of pixels is halved.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@own_draws
def square(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    queries: int = 5000,
    share: float = 0.8,
    restarts: int = 1,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Perturbation:
    """Random search with squares that shrink: a black-box attack, which sees the scores and no gradient.

    Andriushchenko, Croce, Flammarion and Hein, "Square attack: a query-efficient black-box adversarial attack
    via random search", 2020. In linf a square goes to one or the other end of the ball in each channel. In l2 a
    square receives the change of another one, as two bumps of opposite signs. A square stays where the score
    rises: the lead of any other class, or the probability of the target. Where it fools what gradients do not,
    the gradients are masked.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2).
            By default 8/255 (linf), 0.5 (l2).
        norm: linf or l2.
        queries: candidates at most, of every start; the schedule of sizes is stretched to them. (One that is the
            best again counts, and is not computed.)
        share: of the pixels that the first squares cover. 0.8 is AutoAttack's; the authors took 0.05 (linf) and
            0.1 (l2) for photographs.
        restarts: how often to begin anew with the images that withstood.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of the squares, and of what a random network draws; each image sees the same squares.
        on_progress: called with (queries done, queries at most).

    Raises:
        CallError: for an eps outside (0, 1] (linf), the norm l1, queries or restarts below 1, a share outside
            (0, 1], images not in [0, 1], classes that the network does not have, a target equal to the label, or
            a network of one output.
    """
    eps = radius(eps, norm)
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm)
    counted("queries", queries)
    counted("restarts", restarts)
    if not 0 < share <= 1:
        raise CallError(f"share is that of the pixels in the first squares, above 0 and at most 1, not {share:g}")
    course = Course(asked, ball_of(asked, eps, two_norms(norm)), restarts * queries, on_progress=on_progress)
    for restart in range(restarts):
        search(course, queries, share, seed + restart)
    told = {"eps": eps, "norm": norm, "queries": queries, "share": share, "restarts": restarts, "seed": seed}
    return asked.result("square", asked.parameters | told, course.moved())


def search(course: Course, queries: int, share: float, seed: int) -> None:
    """One run of random squares, for the images that need it."""
    kind = _Linf if course.ball.p == math.inf else _L2
    run(course, kind, queries, seed, lambda query: share_at(query, queries, share))


def share_at(query: int, queries: int, share: float) -> float:
    """The share of the pixels in a square, for 10000 queries stretched to ``queries``."""
    return share / 2 ** stretched(query, queries, _HALVINGS)


class _Squares(RandomSearch):
    """What both norms share."""

    def side(self, share: float) -> int:
        """How long the side of a square is."""
        height, width = self.images.shape[2:]
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    def places(self, side: int, count: int) -> tuple[Tensor, Tensor]:
        """The first row and column of so many squares: the same for all images, so that none depends on the others."""
        rows, columns = (torch.randint(n - side + 1, (count,), generator=self.generator) for n in self.images.shape[2:])
        return rows, columns

    def signs(self, *shape: int) -> Tensor:
        """1 or -1."""
        return (torch.randint(2, shape, generator=self.generator) * 2 - 1).to(self.images)


class _Drawn(NamedTuple):
    """Squares of one side, from the query ``first`` on: their first rows and columns, (Q,), and signs (Q, C, 1, 1)."""

    first: int
    side: int
    rows: Tensor
    columns: Tensor
    up: Tensor


class _Linf(_Squares):
    """Every value at one end of what the ball and [0, 1] allow."""

    def _narrow(self) -> None:
        super()._narrow()
        far = 2 * self.course.ball.eps
        self.low, self.high = (self.ball.project(self.images + f).clamp(0, 1) for f in (-far, far))

    def start(self) -> Images:
        """Vertical stripes."""
        up = self.signs(self.images.shape[1], 1, self.images.shape[3]) > 0
        return torch.where(up, self.high, self.low)

    def draw(self, queries: list[int], share: float) -> None:
        side, count = self.side(share), len(queries)
        places = self.places(side, count)
        self._drawn = _Drawn(queries[0], side, *places, self.signs(count, self.images.shape[1], 1, 1) > 0)

    def candidates(self, share: float, last: int) -> Candidates:
        """As many of each image as make a look worth it."""
        drawn = self._drawn
        extent = (drawn.side, drawn.side)
        ahead = self.ahead(extent)
        queries = self.next[:, None] + torch.arange(ahead)
        image, which = (queries <= last).nonzero(as_tuple=True)
        query = queries[image, which]
        number = query - drawn.first
        at = [each.to(self.device) for each in (image, drawn.rows[number], drawn.columns[number])]
        low, high, best = (cut(images, extent, *at) for images in (self.low, self.high, self.best))
        values = torch.where(drawn.up[number].to(self.device), high, low)
        new = (values != best).flatten(1).any(1).nonzero()[:, 0]
        behind = (self.next + ahead).clamp_max(last + 1)
        return Candidates(Changes(values, *at).select(new), query[new.cpu()], behind)


class _L2(_Squares):
    """All of eps is always used: what a square receives, another one gives."""

    def start(self) -> Images:
        """A grid of bumps, five along the shorter side."""
        channels, height, width = self.images.shape[1:]
        side = max(min(height, width) // 5, 1)
        change = torch.zeros_like(self.images)
        for i in range(height // side):
            for j in range(width // side):
                rows, columns = slice(i * side, (i + 1) * side), slice(j * side, (j + 1) * side)
                change[:, :, rows, columns] = self.bumps(side) * self.signs(channels, 1, 1)
        return self._full(change)

    def candidates(self, share: float, last: int) -> Candidates:
        """One of each image, for it is made of what is best."""
        side = self._odd(self.side(share))
        near, far = self._square(side), self._square(side)
        change = self.best - self.images
        channels = change.shape[1]
        own = change[near].clone()
        unused = (float(self.course.ball.eps) ** 2 - _squares(change).sum(1, keepdim=True)).clamp_min(0)
        outside = change.clone()
        outside[near] = 0
        outside[far] = 0
        freed = _squares(change - outside)
        fresh = self.bumps(side) * self.signs(channels, 1, 1) + _unit(own)
        outside[near] = _unit(fresh) * (freed + unused / channels).sqrt()
        return self.whole(self._full(outside))

    def _square(self, side: int) -> tuple[slice, ...]:
        rows, columns = (int(first) for first in self.places(side, 1))
        return slice(None), slice(None), slice(rows, rows + side), slice(columns, columns + side)

    def _odd(self, side: int) -> int:
        """The authors' squares have an odd side of 3 at least; small images have less room."""
        most = min(self.images.shape[2:])
        side = max(side, 3) | 1
        return side if side <= most else most - (most + 1) % 2

    def bumps(self, side: int) -> Tensor:
        """Two bumps of opposite signs, beside or above each other, of norm 1."""
        found = bumps(side).to(self.images)
        return found.T if int(torch.randint(2, (), generator=self.generator)) else found

    def _full(self, change: Images) -> Images:
        """As long as eps, and then in [0, 1]."""
        norms = _squares(change).sum(1, keepdim=True).sqrt()
        return (self.images + change / norms.clamp_min(1e-12) * float(self.course.ball.eps)).clamp(0, 1)


def _squares(change: Images) -> Tensor:
    """The sum of squares of each channel, (N, C, 1, 1)."""
    return change.square().sum((2, 3), keepdim=True)


def _unit(change: Images) -> Images:
    """Each channel divided by its norm; a channel of 0 stays 0."""
    return change / _squares(change).sqrt().clamp_min(1e-12)


@cache
def bumps(side: int) -> Tensor:
    """The square of a change in l2, (side, side), of norm 1: the upper half up, the lower half down."""
    found = torch.cat([_bump(side // 2, side), -_bump(side - side // 2, side)])
    return found / found.norm()


def _bump(height: int, width: int) -> Tensor:
    """Rings around the middle, the sum over k from the ring to the outermost of 1 / (k + 1)^2; of norm 1."""
    if height == 0:
        return torch.zeros(0, width, dtype=torch.float64)
    rows, columns = torch.arange(height) - height // 2, torch.arange(width) - width // 2
    ring = torch.maximum(rows.abs()[:, None], columns.abs()[None])
    terms = 1 / torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64).square()
    found = terms.flip(0).cumsum(0).flip(0)[ring]
    return found / found.norm()
