"""LIME: what the superpixels of an image add to the score, as a linear model says near the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from inward.errors import CallError
from inward.gradient import Sample, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.draws import own_draws
from inward.methods.explained import Of, Target, explained, usual_of
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images

_OWN = "segments"


@own_draws
def lime(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of | None = None,
    samples: int = 1000,
    segments: int = 50,
    compactness: float = 10.0,
    baseline: Baseline = _OWN,
    width: float = 0.25,
    ridge: float = 1.0,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """What every superpixel adds to the score, by a linear model that imitates the network near the image.

    Ribeiro, Singh and Guestrin, "Why should I trust you? Explaining the predictions of any classifier",
    2016, with the settings of the authors' code for images, but superpixels by SLIC. Each sample hides
    a random half of the superpixels; the model is fitted to the scores with weights ``exp(-d^2 / (2 width^2))``,
    d one minus the cosine between what is seen and all. A pixel has the coefficient of its superpixel.
    Measured is ``r2``, the share of the scores' weighted variance that the model explains: where it is low,
    the map says little about the network.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy. By
            default the probability, as in the paper, and of what is no class its score.
        samples: how many images with hidden superpixels.
        segments: about how many superpixels the image is cut into.
        compactness: how much nearness counts beside color in a superpixel; the higher, the squarer.
        baseline: what is shown in a hidden superpixel: segments (its own mean color, as in the authors' code), black,
            gray, white, mean, blur, noise, or the path of a picture; from Python also an image.
        width: of the kernel that weights the samples.
        ridge: the penalty on the squares of the coefficients; 0: least squares.
        seed: of what is hidden.
        on_progress: called with how many samples are done, and how many there are, over all images.

    Raises:
        CallError: for fewer than 2 samples or 1 superpixel, a width that is not above 0, a penalty below 0, or
            a baseline that does not fit.
    """
    of = usual_of(net, images, target, of)
    asked = explained(net, images, target, of)
    _check(samples, segments, compactness, width, ridge)
    parts = [superpixels(image, segments, compactness) for image in asked.images]
    name, hidden = _hidden(net, asked.images, parts, baseline)
    seen = [_drawn(samples, int(part.max()) + 1, seed) for part in parts]
    stream = _samples(asked.images, hidden, parts, seen)
    found: list[Tensor] = []
    done = 0
    for batch in scores(asked.loop(), stream, asked.objective, asked.size):
        found.append(batch.scores.double().cpu())
        done += len(batch.samples)
        if on_progress is not None:
            on_progress(done, samples * len(parts))
    fits = [_fitted(x, y, width, ridge) for x, y in zip(seen, torch.cat(found).split(samples), strict=True)]
    values = torch.stack([fit[0][part] for fit, part in zip(fits, parts, strict=True)])[:, None]
    parameters = {
        "of": of,
        "samples": samples,
        "segments": segments,
        "compactness": compactness,
        "baseline": name,
        "width": width,
        "ridge": ridge,
        "seed": seed,
    }
    return asked.attribution(
        "lime",
        parameters,
        values.to(asked.images),
        asked.scores(),
        kind="contribution",
        measured={"r2": torch.stack([fit[1] for fit in fits])},
        remarks=[_remarks(samples, x.shape[1]) for x in seen],
    )


def _check(samples: int, segments: int, compactness: float, width: float, ridge: float) -> None:
    if samples < 2:
        raise CallError(f"a linear model is fitted to 2 samples or more, not {samples}")
    if segments < 1:
        raise CallError(f"an image is cut into 1 superpixel or more, not {segments}")
    if not compactness > 0:
        raise CallError(f"the compactness of superpixels is above 0, not {compactness:g}")
    if not width > 0:
        raise CallError(f"the width of a kernel is above 0, not {width:g}")
    if not ridge >= 0:
        raise CallError(f"a penalty on coefficients is 0 or more, not {ridge:g}")


def superpixels(image: Tensor, segments: int, compactness: float) -> Tensor:
    """The number of each pixel's superpixel, (H, W), counted from 0: SLIC on an image (C, H, W).

    Colors are compared in CIELAB; anything but 3 channels as they are, on a scale of 100.
    """
    from skimage.segmentation import slic

    last = np.ascontiguousarray(image.detach().cpu().double().permute(1, 2, 0).numpy())
    colored = last.shape[2] == 3
    labels = slic(
        last if colored else 100 * last,
        n_segments=segments,
        compactness=compactness,
        convert2lab=colored,
        start_label=0,
        channel_axis=-1,
    )
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape))


def _hidden(net: Network, images: Images, parts: Sequence[Tensor], baseline: Baseline) -> tuple[str, Images]:
    if isinstance(baseline, str) and baseline == _OWN:
        return _OWN, torch.stack([_averaged(image, part) for image, part in zip(images, parts, strict=True)])
    ((name, hidden),) = baselines(net, images, baseline)
    return name, hidden


def _averaged(image: Tensor, part: Tensor) -> Tensor:
    """The image (C, H, W) with every superpixel in its mean color."""
    flat, index = image.detach().cpu().double().flatten(1), part.flatten()
    sums = torch.zeros((len(flat), int(index.max()) + 1), dtype=torch.float64).index_add_(1, index, flat)
    return (sums / index.bincount())[:, index].view(image.shape).to(image)


def _drawn(samples: int, count: int, seed: int) -> Tensor:
    """Which superpixels are seen, (samples, superpixels), half of them; in the first sample all."""
    generator = torch.Generator().manual_seed(seed)
    seen = torch.rand((samples, count), generator=generator, dtype=torch.float64) < 0.5
    seen[0] = True
    return seen


def _samples(images: Images, hidden: Images, parts: Sequence[Tensor], seen: Sequence[Tensor]) -> Iterator[Sample]:
    """For every image each of its samples."""
    for owner, (image, other, part, rows) in enumerate(zip(images, hidden, parts, seen, strict=True)):
        for row in rows:
            yield Sample(owner, torch.where(row[part].to(image.device), image, other))


def _fitted(seen: Tensor, found: Tensor, width: float, ridge: float) -> tuple[Tensor, Tensor]:
    """The coefficients (superpixels,) of the weighted ridge regression with an intercept, and its R^2.

    Where several are as good, those of the least squares.
    """
    if (found == found[0]).all():
        return torch.zeros(seen.shape[1], dtype=torch.float64), torch.ones((), dtype=torch.float64)
    x = seen.double()
    weights = (-(1 - x.mean(1).sqrt()).square() / (2 * width**2)).exp()
    share = weights / weights.sum()
    x, y = x - share @ x, found - share @ found
    root = weights.sqrt()[:, None]
    penalty = ridge**0.5 * torch.eye(x.shape[1], dtype=torch.float64)
    right = torch.cat([root[:, 0] * y, torch.zeros(x.shape[1], dtype=torch.float64)])
    fit = torch.linalg.lstsq(torch.cat([root * x, penalty]), right[:, None], driver="gelsd").solution[:, 0]
    missed = share @ (y - x @ fit).square()
    return fit, 1 - missed / (share @ y.square())


def _remarks(samples: int, count: int) -> list[str]:
    few = f"r2 says little: {samples} samples are few for {count} superpixels, so give more"
    return [few] if samples < 2 * (count + 1) else []
