"""Noise: random places of the ball, and no search at all."""

from __future__ import annotations

from inward.methods.attacked import Classes, Norm, attacked
from inward.methods.course import Course, OnProgress, ball_of, counted, radius
from inward.methods.draws import own_draws
from inward.methods.looked import query
from inward.network.network import Network
from inward.results import Perturbation
from inward.types import Images


@own_draws
def noise(
    net: Network,
    images: Images,
    *,
    label: Classes = None,
    target: Classes = None,
    eps: float | None = None,
    norm: Norm = "linf",
    repeats: int = 100,
    stop: bool = True,
    eight_bit: bool = True,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Perturbation:
    """Random changes drawn uniformly from a ball: what an attack of the same size is to be compared with.

    Fawzi, Moosavi-Dezfooli and Frossard, "Robustness of classifiers: from adversarial to random noise", 2016: in
    many dimensions random noise has to be far longer than the smallest change that fools. No gradient is asked for.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        label: the class to lead away from; one, or one an image. By default the network's own answer.
        target: the class to be taken for; by default any other.
        eps: the largest change, in [0, 1] units: of any value (linf), or the norm of the whole change (l2, l1). By
            default 8/255 (linf), 0.5 (l2), 12 (l1).
        norm: linf, l2 or l1.
        repeats: draws at most, for each image its own.
        stop: leave an image alone once it fools the network; else the draw that does so most clearly is kept.
        eight_bit: judge the 8-bit picture, rounded towards the original, as a file holds it.
        seed: of the draws.
        on_progress: called after every draw with (draws done, draws at most).

    Raises:
        CallError: for an eps outside (0, 1] (linf), repeats below 1, images not in [0, 1], classes that the network
            does not have, a target equal to the label, or a network of one output.
    """
    eps = radius(eps, norm)
    asked = attacked(net, images, label, target, eight_bit_judge=eight_bit, eps=eps, norm=norm)
    course = Course(asked, ball_of(asked, eps, norm), counted("repeats", repeats), stop=stop, on_progress=on_progress)
    seeds = asked.seeds(seed)
    course.begin(repeats)
    for draw in range(repeats):
        numbers = course.left
        if len(numbers) == 0:
            break
        where = numbers.to(asked.images.device)
        own = [seeds[i] + draw for i in numbers.tolist()]
        tried = course.ball.select(where).sample(asked.images[where], own).clamp(0, 1)
        scores, logits = query(net, tried, asked.lead.select(numbers.tolist()))
        course.count(numbers, scores)
        course.offer(tried, numbers, logits)
        course.keep(tried, numbers)
    told = {"eps": eps, "norm": norm, "repeats": repeats, "stop": stop, "seed": seed}
    return asked.result("noise", asked.parameters | told, course.moved())
