"""The atom: the gradient of a score with respect to the image, or to anything inside.

``gradient`` is saliency at one point; ``mean_gradient`` averages it along a path: a cloud is
SmoothGrad, a line with Gauss-Legendre weights integrated gradients, a set of baselines expected
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.columns.paths import Path
from inward.errors import CallError
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.trace import Trace, point_key
from inward.types import Images, Pictures, Scores, Size


def constant(images: Images) -> Images:
    """The images cut off from what made them; a copy, where they were made in inference mode."""
    return images.clone() if images.is_inference() else images.detach()


def trace_for(net: Network, images: Images, keys: list[str], picture: Pictures | None = None) -> Trace:
    """A trace of whole points without the checks of ``Network.trace``: for loops over checked images.

    ``picture`` is what the images were made from, where they are an augmentation of it.
    """
    unique = list(dict.fromkeys(keys))
    values = net.run(images, unique) if unique else ()
    return Trace(net, images, dict(zip(unique, values, strict=True)), picture)


def keys_of(net: Network, objective: Objective, size: Size | None = None) -> list[str]:
    """The whole points that an objective needs, checked for images of this size."""
    return [point_key(net.resolve(address, size)) for address in objective.addresses]


def gradient(net: Network, images: Images, objective: Objective, at: str | None = None) -> tuple[Scores, Tensor]:
    """The score of each image and its gradient.

    Args:
        images: (N, C, H, W) in [0, 1].
        objective: what is differentiated; the batch is summed, so images do not mix.
        at: a point; the gradient is then with respect to its activations, in their shape. By
            default with respect to the images, in [0, 1] units.

    Raises:
        CallError: where there is no path from ``at`` to the score, or ``at`` is not a whole point.
            (A score that does not depend on the image has the gradient 0.)
    """
    net.preprocess.check(images)
    return raw_gradient(net, images, objective, at)


def raw_gradient(net: Network, images: Images, objective: Objective, at: str | None = None) -> tuple[Scores, Tensor]:
    """:func:`gradient` for images that were checked before, or that leave [0, 1] on purpose."""
    size = (images.shape[2], images.shape[3])
    keys = keys_of(net, objective, size)
    inside = [] if at is None else [_whole(net, at, size)]
    with ordinary(net.device):
        image = constant(images).to(net.device).requires_grad_(True)
        trace = trace_for(net, image, keys + inside)
        scores = objective(trace)
        source = image if at is None else trace[inside[0]]
        if not scores.requires_grad:
            return scores.detach(), _no_path(source, at)
        (found,) = torch.autograd.grad(scores.sum(), source, allow_unused=True)
        return scores.detach(), (_no_path(source, at) if found is None else found).detach()


def _whole(net: Network, at: str, size: Size) -> str:
    parsed = net.resolve(at, size)
    key = point_key(parsed)
    if parsed.unit is not None:
        raise CallError(f"the gradient is with respect to a whole point, and '{at}' is a unit; give at='{key}'")
    return key


def _no_path(source: Tensor, at: str | None) -> Tensor:
    if at is not None:
        raise CallError(f"the score does not depend on '{at}': there is no path from it to the objective")
    return torch.zeros_like(source)


def mean_gradient(
    net: Network,
    images: Images,
    objective: Objective,
    path: Path,
    *,
    chunk: int = 8,
    on_point: Callable[[int, int], None] | None = None,
) -> tuple[Scores, Images]:
    """The weighted mean of scores and gradients over a path.

    Args:
        images: (N, C, H, W) in [0, 1].
        chunk: images in one run of the network (but at least one point of every image); the answer
            does not depend on it.
        on_point: called with (points done, points in all).
    """
    net.preprocess.check(images)
    if chunk < 1:
        raise CallError(f"a run of the network holds 1 image or more, not {chunk}")
    images = constant(images).to(net.device)
    score = torch.zeros(len(images), dtype=torch.float64)
    mean = torch.zeros_like(images, dtype=torch.float64, device="cpu")
    # Images that depend on one another must not meet their own copies.
    together = max(1, chunk // len(images)) if objective.group else 1
    for done, batch in _batches(path(images), together):
        stacked = torch.cat([image for _, image in batch])
        scores, gradients = raw_gradient(net, stacked, objective.select([*range(len(images))] * len(batch)))
        weights = torch.tensor([weight for weight, _ in batch], dtype=torch.float64)
        score += weights @ scores.double().cpu().view(len(batch), -1)
        mean += torch.tensordot(weights, gradients.double().cpu().view(len(batch), *images.shape), 1)
        if on_point is not None:
            on_point(done, len(path))
    return score.to(images), mean.to(images)


def _batches(points: Iterator[tuple[float, Images]], together: int) -> Iterator[tuple[int, list[tuple[float, Images]]]]:
    batch: list[tuple[float, Images]] = []
    done = 0
    for point in points:
        batch.append(point)
        done += 1
        if len(batch) == together:
            yield done, batch
            batch = []
    if batch:
        yield done, batch
