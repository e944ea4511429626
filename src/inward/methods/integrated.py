"""Integrated gradients, to a stated error."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from inward.errors import CallError, Unconverged
from inward.gradient import Sample, gradients, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import SMALL, Explained, Of, Target, explained, inside, of_point
from inward.network.network import Network
from inward.quadrature import LEAST, Integral, Lines, gauss_legendre, integrate
from inward.results import Attribution
from inward.types import Images

TOLERANCE = 0.02
"""The sum of the errors of the pieces, as a share of the difference of the scores, by default."""
MOST = 1024
"""The most gradients of an image and a baseline, by default."""


@own_draws
def integrated_gradients(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    at: str | None = None,
    baseline: Baseline | Sequence[Baseline] = "black",
    tolerance: float | None = None,
    most: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The share of every pixel in the difference of the score between a baseline and the image.

    Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks", 2017:
    ``(x - b) * integral of dF(b + t (x - b))/dx over t in [0, 1]``. The shares add up to
    ``F(x) - F(b)``; by how much they miss it is measured and said. ``at`` attributes to the
    activations of a point instead, on the line from those of the baseline to those of the image
    (layer integrated gradients); what does not pass through that point then stays as the image has it.

    By default the integral is as exact as ``tolerance`` says: a rule of Gauss, Legendre and Lobatto
    on sub-intervals, each with its own error, the worst halved until the sum of their absolute values
    is within the tolerance. (The signed error of the whole can be small by luck.) The paper asks
    for completeness within 0.05; 0.02 left a whole that is missed by less than 0.01 on each of twenty
    photographs with Inception v1 (0.013 with SqueezeNet), after 182 (68) gradients on average and 683
    (142) at the most, so that the limit was never met.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        baseline: black, gray, white, mean (the network's mean color), blur, noise (uniform), or a picture;
            of several the attributions are averaged.
        tolerance: the sum of the errors of the sub-intervals, as a share of the difference of the scores; by
            default 0.02.
        most: the most gradients of an image and a baseline, by default 1024; there the map is returned with the
            error it has.
        steps: a fixed number of Gauss-Legendre points over the whole line, in place of a tolerance.
        seed: of the noise baseline.
        on_progress: called with (gradients computed, the most there can be).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a baseline of
            another shape, a point from which there is no path to the target, a tolerance outside (0, 1], or
            steps beside a tolerance or a limit.
    """
    rule = _rule(tolerance, most, steps)
    asked = explained(net, images, target, of)
    starts = baselines(net, asked.images, baseline, seed)
    key = None if at is None else inside(net, at, asked.size)
    lines = _lines(asked, [start for _, start in starts], key)
    most_of_all = rule.most * len(lines.change)
    on_points = None if on_progress is None else lambda done: on_progress(done, most_of_all)
    if rule.tolerance is None:
        found = gauss_legendre(lines, rule.most, on_points=on_points)
    else:
        spread = asked.spread().cpu().repeat(len(starts))
        found = integrate(lines, partial(_allowed, rule.tolerance, spread), rule.most, on_points=on_points)
    values = found.values.to(lines.change) * lines.change
    measured = _measured(asked, found)
    return asked.attribution(
        "integrated-gradients",
        {"of": of, "at": at, "baseline": [name for name, _ in starts], **rule.parameters(), "seed": seed},
        values.unflatten(0, (len(starts), -1)).mean(0),
        asked.scores(),
        kind="contribution",
        at=key or "",
        measured=measured,
        remarks=() if rule.tolerance is None else _remarks(measured, rule.tolerance),
    )


@dataclass(frozen=True)
class _Rule:
    """How the integral is computed: to a tolerance with at most so many gradients, or with just so many."""

    tolerance: float | None
    most: int

    def parameters(self) -> dict[str, float | int | None]:
        """By the names of the options."""
        if self.tolerance is None:
            return {"tolerance": None, "most": None, "steps": self.most}
        return {"tolerance": self.tolerance, "most": self.most, "steps": None}


def _rule(tolerance: float | None, most: int | None, steps: int | None) -> _Rule:
    if steps is not None:
        return _fixed(steps, tolerance, most)
    tolerance = TOLERANCE if tolerance is None else tolerance
    most = MOST if most is None else most
    if not 0 < tolerance <= 1:
        raise CallError(f"a tolerance is a share above 0 and at most 1, such as 0.02, not {tolerance:g}")
    if most < LEAST:
        raise CallError(f"an integral takes {LEAST} gradients or more, not {most}; give a larger most")
    return _Rule(tolerance, most)


def _fixed(steps: int, tolerance: float | None, most: int | None) -> _Rule:
    if steps < 1:
        raise CallError(f"steps counts points from 1 up, not {steps}; leave it out for a tolerance")
    if tolerance is not None or most is not None:
        other = "most" if tolerance is None else "tolerance"
        raise CallError(f"steps is a fixed number of points, and {other} says when to stop; give one of the two")
    return _Rule(None, steps)


def _allowed(tolerance: float, spread: Tensor, change: Tensor) -> Tensor:
    """In units of the score: of the difference, or of the logits' spread where that is next to nothing."""
    return tolerance * torch.where(change.abs() < SMALL * spread, spread, change.abs())


def _lines(asked: Explained, starts: Sequence[Images], key: str | None) -> Lines:
    """The line of every baseline and image, images first: that of baseline k and image i has the number k N + i."""
    images, count = asked.images, len(asked.images)
    net = asked.loop(key)
    end = images if key is None else _activations(asked.net, key, images)
    begun = torch.cat([start if key is None else _activations(asked.net, key, start) for start in starts])
    change = end.repeat(len(starts), *[1] * (end.ndim - 1)) - begun

    def sample(line: int, place: float, weight: float) -> Sample:
        point = begun[line] + place * change[line]
        image = line % count
        return Sample(image, point, weight) if key is None else Sample(image, images[image], weight, point)

    look = partial(scores, net, objective=asked.objective, size=asked.size, at=key)
    compute = partial(gradients, net, objective=asked.objective, size=asked.size, at=key)
    return Lines(sample, change, lambda given: compute(samples=given), lambda given: look(samples=given))


def _activations(net: Network, key: str, images: Images) -> Tensor:
    with torch.no_grad():
        (value,) = net.run(images, [key])
    return of_point(net, key, value, (images.shape[2], images.shape[3]))


def _measured(asked: Explained, found: Integral) -> dict[str, Tensor]:
    """The errors of each image's map, which is a mean over the baselines, and the gradients it took."""
    count = len(asked.images)

    def mean(value: Tensor) -> Tensor:
        return value.view(-1, count).mean(0)

    errors = {"error": mean(found.error), "signed_error": mean(found.signed)}
    return {**asked.completeness(mean(found.change.abs()), **errors), "points": found.points.view(-1, count).sum(0)}


def _remarks(measured: dict[str, Tensor], tolerance: float) -> list[list[str]]:
    """What is to be said of maps whose error is above the tolerance; also a warning."""
    shares = measured["error"].tolist()
    # Where the difference is small, the tolerance is of the spread, which is met at once or never mattered.
    late = [not share <= tolerance and share == share for share in shares]
    if any(late):
        worst = max(share for share, is_late in zip(shares, late, strict=True) if is_late)
        warnings.warn(
            f"{sum(late)} of {len(late)} maps did not reach the tolerance of {tolerance:g}: the largest error is "
            f"{worst:.2g}; give a larger most, or a tolerance above it",
            Unconverged,
            stacklevel=3,
        )
    text = "the error is {:.2g} after {} gradients, above the tolerance of {:g}"
    return [
        [text.format(share, int(points), tolerance)] if is_late else []
        for share, points, is_late in zip(shares, measured["points"], late, strict=True)
    ]
