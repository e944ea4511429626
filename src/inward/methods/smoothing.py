"""Attribution by gradients at noisy copies of the image: their mean, their variance, the mean of their squares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from inward.columns.paths import Cloud
from inward.errors import CallError
from inward.gradient import Sample, gradients
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, inside
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images


@own_draws
def smoothgrad(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    at: str | None = None,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The mean gradient of a score over noisy copies of the image.

    Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing noise by adding noise", 2017:
    ``mean of dF/dx (x + noise * n)`` with normal n; signed and per channel. What it estimates is the
    gradient of the score's mean over the noise. Noisy copies may leave [0, 1], as in the paper. Measured:
    standard_error, of the map over the samples, as a share of the map (means of absolute values):
    from about 1 up the map is mostly noise; four times the samples halve it.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        samples: noisy copies of each image.
        noise: its standard deviation, where black is 0 and white is 1.
        seed: of the noise, which is the same for all images.
        on_progress: called with (gradients computed, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            from which there is no path to the target, fewer than 1 sample, or noise below 0.
    """
    asked = explained(net, images, target, of)
    key = None if at is None else inside(net, at, asked.size)
    found = _over_noise(asked, key, Cloud(_checked(noise), samples, seed), on_progress)
    return asked.attribution(
        "smoothgrad",
        {"of": of, "at": at, "samples": samples, "noise": noise, "seed": seed},
        found.mean.to(asked.images),
        asked.scores(),
        kind="sensitivity",
        at=key or "",
        measured={"standard_error": found.standard_error()},
    )


@own_draws
def vargrad(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    at: str | None = None,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The variance of the gradient of a score over noisy copies of the image.

    Adebayo, Gilmer, Goodfellow and Kim, "Local explanation methods for deep neural networks lack
    sensitivity to parameter values", 2018: ``mean of (g - mean g)^2`` over the samples. It does not
    depend on the mean gradient: it tells where the score is curved, and is 0 where it is linear.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        samples: noisy copies of each image, 2 or more.
        noise: its standard deviation, where black is 0 and white is 1.
        seed: of the noise, which is the same for all images.
        on_progress: called with (gradients computed, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            from which there is no path to the target, fewer than 2 samples, or noise below 0.
    """
    if samples < 2:
        raise CallError(f"a variance is of 2 samples or more, not {samples}; give a larger samples")
    asked = explained(net, images, target, of)
    key = None if at is None else inside(net, at, asked.size)
    found = _over_noise(asked, key, Cloud(_checked(noise), samples, seed), on_progress)
    return asked.attribution(
        "vargrad",
        {"of": of, "at": at, "samples": samples, "noise": noise, "seed": seed},
        found.variance().to(asked.images),
        asked.scores(),
        kind="amount",
        at=key or "",
    )


@own_draws
def squaregrad(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    at: str | None = None,
    samples: int = 50,
    noise: float = 0.15,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The mean square of the gradient of a score over noisy copies of the image.

    Hooker, Erhan, Kindermans and Kim, "A benchmark for interpretability methods in deep neural
    networks", 2018: ``mean of g^2`` over the samples, which is SmoothGrad's square plus VarGrad.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.
        samples: noisy copies of each image.
        noise: its standard deviation, where black is 0 and white is 1.
        seed: of the noise, which is the same for all images.
        on_progress: called with (gradients computed, all of them).

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            from which there is no path to the target, fewer than 1 sample, or noise below 0.
    """
    asked = explained(net, images, target, of)
    key = None if at is None else inside(net, at, asked.size)
    found = _over_noise(asked, key, Cloud(_checked(noise), samples, seed), on_progress)
    return asked.attribution(
        "squaregrad",
        {"of": of, "at": at, "samples": samples, "noise": noise, "seed": seed},
        (found.mean.square() + found.variance()).to(asked.images),
        asked.scores(),
        kind="amount",
        at=key or "",
    )


def _checked(noise: float) -> float:
    if not 0 <= noise < float("inf"):
        raise CallError(f"noise is a standard deviation of 0 or more, such as 0.15, not {noise:g}")
    return noise


def _over_noise(
    asked: Explained, key: str | None, cloud: Cloud, on_progress: Callable[[int, int], None] | None
) -> Moments:
    """The moments of the gradients over the cloud, of every image."""
    net = asked.loop(key)
    count = len(asked.images)
    found = Moments(count)
    samples = (Sample(i, copies[i]) for _, copies in cloud(asked.images) for i in range(count))
    done = 0
    for batch in gradients(net, samples, asked.objective, asked.size, at=key):
        found.add(batch.owners, batch.gradients)
        done += len(batch.samples)
        if on_progress is not None:
            on_progress(done, len(cloud) * count)
    return found


class Moments:
    """Mean and variance of a stream of values of each of N images, (N, ...), in float64.

    By Welford's updates: a difference of large sums would lose a small variance in rounding.
    """

    def __init__(self, count: int) -> None:
        self.samples = [0] * count
        self._means: list[Tensor] = [torch.zeros(())] * count
        self._squares: list[Tensor] = [torch.zeros(())] * count

    def add(self, owners: Sequence[int], values: Tensor) -> None:
        """Adds a value to each owner's."""
        for owner, value in zip(owners, values.detach().cpu().double(), strict=True):
            self.samples[owner] += 1
            before = value - self._means[owner]
            self._means[owner] = self._means[owner] + before / self.samples[owner]
            self._squares[owner] = self._squares[owner] + before * (value - self._means[owner])

    @property
    def mean(self) -> Tensor:
        """(N, ...)."""
        return torch.stack(self._means)

    def variance(self) -> Tensor:
        """The mean square of what differs from the mean, (N, ...)."""
        return torch.stack([s / n for s, n in zip(self._squares, self.samples, strict=True)])

    def standard_error(self) -> Tensor:
        """Of the mean: its mean, as a share of the mean's mean absolute value, (N,).

        0 where all is 0; NaN of one sample, which does not tell.
        """
        if min(self.samples) < 2:
            return torch.full((len(self.samples),), torch.nan)
        free = torch.tensor([n - 1 for n in self.samples], dtype=torch.float64)
        error = (self.variance() / free.view(-1, *[1] * (self.mean.ndim - 1))).sqrt().flatten(1).mean(1)
        size = self.mean.abs().flatten(1).mean(1)
        return torch.where(error > 0, error / size.clamp_min(torch.finfo(torch.float64).tiny), 0)
