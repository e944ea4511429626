"""The atom: the gradient of a score with respect to the image, or to anything inside.

``gradient`` is saliency at one point; ``mean_gradient`` averages it along a path: a cloud is
SmoothGrad, a line with Gauss-Legendre weights integrated gradients, a set of baselines expected
gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inward.columns.objectives import Objective
from inward.columns.paths import Path
from inward.errors import CallError
from inward.network.graph import NOTHING
from inward.network.modes import ordinary
from inward.network.network import Network
from inward.network.room import images_at_once, in_chunks
from inward.network.trace import Trace, point_key
from inward.types import Images, Pictures, Scores, Size


def constant(images: Tensor) -> Tensor:
    """The images cut off from what made them; a copy, where they were made in inference mode."""
    return images.clone() if images.is_inference() else images.detach()


def trace_for(
    net: Network,
    images: Images,
    keys: list[str],
    picture: Pictures | None = None,
    given: Mapping[str, Tensor] = NOTHING,
) -> Trace:
    """A trace of whole points without the checks of ``Network.trace``: for loops over checked images.

    ``picture`` is what the images were made from, where they are an augmentation of it; ``given``
    holds whole points that are not computed.
    """
    unique = list(dict.fromkeys(keys))
    values = net.run(images, unique, given) if unique else ()
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


def raw_gradient(
    net: Network, images: Images, objective: Objective, at: str | None = None, given: Tensor | None = None
) -> tuple[Scores, Tensor]:
    """:func:`gradient` for images that were checked before, or that leave [0, 1] on purpose.

    With ``given``, the activations of ``at`` are these, whatever the images are.
    """
    size = (images.shape[2], images.shape[3])
    keys = keys_of(net, objective, size)
    inside = [] if at is None else [whole(net, at, size)]
    with ordinary(net.device):
        image = constant(images).to(net.device).requires_grad_(given is None)
        known = {} if given is None else {inside[0]: constant(given).to(net.device).requires_grad_(True)}
        trace = trace_for(net, image, keys + inside, given=known)
        scores = objective(trace)
        source = image if at is None else known.get(inside[0], trace[inside[0]])
        if not scores.requires_grad:
            return scores.detach(), _no_path(source, at)
        (found,) = torch.autograd.grad(scores.sum(), source, allow_unused=True)
        return scores.detach(), (_no_path(source, at) if found is None else found).detach()


def whole(net: Network, at: str, size: Size) -> str:
    """The key of a whole point. Raises CallError for a unit."""
    parsed = net.resolve(at, size)
    key = point_key(parsed)
    if parsed.unit is not None:
        raise CallError(f"the gradient is with respect to a whole point, and '{at}' is a unit; give at='{key}'")
    return key


def no_path(at: str) -> CallError:
    """What is said of a point that the score does not depend on."""
    why = "there is no path from it to what is explained"
    return CallError(f"the score does not depend on '{at}': {why}; name a point before that")


def _no_path(source: Tensor, at: str | None) -> Tensor:
    if at is not None:
        raise no_path(at)
    return torch.zeros_like(source)


class Sample(NamedTuple):
    """A picture (C, H, W) that is computed for the image with the number ``owner``.

    ``given`` are the activations, without the axis of the batch, that stand for the picture's own.
    """

    owner: int
    image: Tensor
    weight: float = 1.0
    given: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples that were computed together: their scores (B,) and gradients, (B, ...) whatever the layout; or none."""

    samples: list[Sample]
    scores: Tensor
    gradients: Tensor

    @property
    def owners(self) -> list[int]:
        """The image that each was computed for."""
        return [sample.owner for sample in self.samples]

    def weights(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The weight of each."""
        return torch.tensor([sample.weight for sample in self.samples], dtype=dtype)


def gradients(
    net: Network, samples: Iterable[Sample], objective: Objective, size: Size, *, at: str | None = None, chunk: int = 0
) -> Iterator[Batch]:
    """Scores and gradients of a stream of samples, as many at a time as there is memory for.

    The objective is one of the images that own the samples. Every loop over many pictures of an
    image is this one; memory does not grow with their number.

    Args:
        size: height and width of the samples.
        at: as for :func:`gradient`; samples that have ``given`` have it for this point.
        chunk: samples in one run of the network; 0: by the memory (:func:`~inward.network.room.images_at_once`).
    """
    keys = [*keys_of(net, objective, size), *([] if at is None else [whole(net, at, size)])]

    axis = _batch_axis(net, at, size)

    def run(batch: list[Sample]) -> Batch:
        own = objective.select([sample.owner for sample in batch])
        found, gradient = raw_gradient(net, torch.stack([s.image for s in batch]), own, at, _given(batch, axis))
        return Batch(batch, found, gradient.movedim(axis, 0))

    yield from in_chunks(samples, chunk or images_at_once(net, keys, size), run)


def scores(
    net: Network, samples: Iterable[Sample], objective: Objective, size: Size, *, at: str | None = None, chunk: int = 0
) -> Iterator[Batch]:
    """The scores alone, without gradients: :func:`gradients` for what is only looked at."""
    keys = keys_of(net, objective, size)
    inside = None if at is None else whole(net, at, size)

    axis = _batch_axis(net, at, size)

    def run(batch: list[Sample]) -> Batch:
        known = _given(batch, axis)
        given = NOTHING if inside is None or known is None else {inside: known}
        own = objective.select([sample.owner for sample in batch])
        with torch.no_grad():
            found = own(trace_for(net, torch.stack([s.image for s in batch]).to(net.device), keys, given=given))
        return Batch(batch, found, found.new_empty(0))

    yield from in_chunks(samples, chunk or images_at_once(net, keys, size, gradients=False), run)


def _given(batch: list[Sample], axis: int) -> Tensor | None:
    """The activations of a batch in the network's own layout, where samples have them."""
    known = [sample.given for sample in batch if sample.given is not None]
    return torch.stack(known, axis) if known else None


def _batch_axis(net: Network, at: str | None, size: Size) -> int:
    axes = ("n",) if at is None else net.layout_of(net.resolve(at, size), size).axes
    return axes.index("n") if "n" in axes else 0


def mean_gradient(
    net: Network,
    images: Images,
    objective: Objective,
    path: Path,
    *,
    at: str | None = None,
    chunk: int = 0,
    on_point: Callable[[int, int], None] | None = None,
) -> tuple[Scores, Tensor]:
    """The weighted mean of scores and gradients over a path.

    Args:
        images: (N, C, H, W) in [0, 1].
        at: a point; the gradient is then with respect to its activations.
        chunk: images in one run of the network; by default as many as there is memory for. The
            answer does not depend on it. (Images that depend on one another are computed together,
            one point of the path at a time.)
        on_point: called with (points done, points in all), both summed over the images.
    """
    net.preprocess.check(images)
    if chunk < 0:
        raise CallError(f"a run of the network holds 1 image or more, not {chunk}")
    images = constant(images).to(net.device)
    # Images that depend on one another must not meet their own copies.
    chunk = chunk if objective.group == 1 else len(images)
    samples = (Sample(i, point[i], weight) for weight, point in path(images) for i in range(len(images)))
    total = Total(len(images))
    done = 0
    for batch in gradients(net, samples, objective, (images.shape[2], images.shape[3]), at=at, chunk=chunk):
        total.add(batch.owners, batch.weights(), batch.scores, batch.gradients)
        done += len(batch.samples)
        if on_point is not None:
            on_point(done, len(path) * len(images))
    return total.scores.to(images), total.values.to(images)


class Total:
    """Weighted sums of scores (N,) and of values (N, ...), in float64."""

    def __init__(self, count: int) -> None:
        self.scores = torch.zeros(count, dtype=torch.float64)
        self.values = torch.zeros(count, dtype=torch.float64)

    def add(self, owners: Sequence[int], weights: Tensor, scores: Tensor, values: Tensor) -> None:
        """Adds a weighted sample to each owner's sums."""
        index, wide = torch.tensor(owners), values.detach().cpu().double()
        if self.values.shape[1:] != wide.shape[1:]:
            self.values = torch.zeros(len(self.values), *wide.shape[1:], dtype=torch.float64)
        self.scores.index_add_(0, index, weights * scores.detach().cpu().double())
        self.values.index_add_(0, index, weights.view(-1, *[1] * (wide.ndim - 1)) * wide)
