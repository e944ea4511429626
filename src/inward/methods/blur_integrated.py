"""Integrated gradients along the scales of an image."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from inward.columns.paths import ScaleSpace
from inward.errors import CallError
from inward.gradient import Sample, Total, gradients
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images

_PUBLISHED = 224


@own_draws
def blur_integrated_gradients(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    sigma: float = 50.0,
    steps: int = 50,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The share of every pixel in the difference of the score between the blurred image and the image.

    Xu, Venugopalan and Sundararajan, "Attribution in scale and space", 2020: the path integral of
    ``dF/dx`` along the image as its blur goes from sigma to 0, so that no color stands for nothing to
    see. The shares add up to F(image) - F(blurred image); by how much they miss it is measured
    (error). The blur is that of heat on the grid of pixels, which adds nothing that was not there, and
    the sum is the trapezoidal rule over scales even in log(1 + blur), where the authors' code has the
    left rule over even ones, with ten times the error.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        sigma: standard deviation of the strongest blur, in pixels of a picture whose shorter side is 224;
            in proportion for other sizes.
        steps: scales at which the gradient is computed, 2 or more.
        on_progress: called with (gradients computed, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, fewer
            than 2 steps, or a blur that is not above 0.
    """
    if steps < 2:
        raise CallError(f"the scales are 2 or more, the blurred image and the image, not {steps}; give a larger steps")
    if not 0 < sigma < float("inf"):
        raise CallError(f"sigma is a number of pixels above 0, such as 50, not {sigma:g}")
    asked = explained(net, images, target, of)
    curve = ScaleSpace(sigma * min(asked.size) / _PUBLISHED, steps)
    values, ends = _integral(asked, curve, on_progress)
    difference = ends[1] - ends[0]
    missed = (difference - values.flatten(1).sum(1)).abs()
    return asked.attribution(
        "blur-integrated-gradients",
        {"of": of, "sigma": sigma, "steps": steps},
        values.to(asked.images),
        asked.scores(),
        kind="contribution",
        measured={**asked.completeness(difference, error=missed), "points": torch.full((len(values),), steps)},
    )


def _integral(
    asked: Explained, curve: ScaleSpace, on_progress: Callable[[int, int], None] | None
) -> tuple[Tensor, Tensor]:
    """The sum of gradient times piece over the curve, (N, C, H, W), and the scores at its ends, (2, N)."""
    count = len(asked.images)
    pieces: deque[Tensor] = deque()

    def samples() -> Iterator[Sample]:
        for point, piece in curve(asked.images):
            pieces.extend(piece)
            yield from (Sample(i, point[i]) for i in range(count))

    total, seen = Total(count), []
    net = asked.loop()
    for batch in gradients(net, samples(), asked.objective, asked.size):
        own = torch.stack([pieces.popleft() for _ in batch.samples])
        total.add(batch.owners, batch.weights(), batch.scores, batch.gradients.double().cpu() * own.double().cpu())
        seen.append(batch.scores.double().cpu())
        if on_progress is not None:
            on_progress(sum(map(len, seen)), count * len(curve))
    scores = torch.cat(seen).view(-1, count)
    return total.values, scores[[0, -1]]
