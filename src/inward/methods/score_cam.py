"""Score-CAM: a class-activation map without gradients, from what the network says of masked images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from inward.errors import CallError
from inward.gradient import Sample, keys_of, scores
from inward.methods.baselines import Baseline, baselines
from inward.methods.cam import features, only_for
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, of_point
from inward.methods.places import map_for
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images


@own_draws
def score_cam(
    net: Network,
    images: Images,
    *,
    target: Target = None,
    of: Of = "score",
    at: str | None = None,
    baseline: Baseline = "black",
    channels: int | None = None,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Attribution:
    """The channels of a map, weighted by what the network says of the image seen through each of them.

    Wang, Wang, Du, Yang, Zhang, Ding, Mardziel and Hu, "Score-CAM: score-weighted visual explanations
    for convolutional neural networks", 2019: ``relu(sum_k a_k A_k)``, where a is the softmax over the
    channels of the score of ``b + m_k (x - b)``, and the mask m_k is A_k, resized to the image by
    bilinear interpolation and brought to [0, 1]. That the paper takes off the score of the baseline
    b changes nothing, since it is the same for all channels. Channels that are the same everywhere
    make no mask and are left out. One run of the network a channel, without gradients. Measured are the
    largest weight (1: one channel alone) and the share of the map that the ReLU takes away.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the map, for example mixed4e; by default the last one that the target sees the image through.
        baseline: what is shown where a mask hides the image: black, gray, white, mean (as libraries do that mask
            the normalized image), blur, noise, or the path of a picture.
        channels: only so many channels of the map, those that vary most over its places; by default all, as published.
        seed: of the baseline of noise; nothing else is random.
        on_progress: called after every run with (channels done, channels in all), both summed over the images.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            that is no map before the target, no channels, and a baseline that does not fit.
    """
    if channels is not None and channels < 1:
        raise CallError(f"a map is made of 1 channel or more, not {channels}; leave out --channels for all")
    asked = explained(net, images, target, of)
    key = map_for(net, keys_of(net, asked.objective, asked.size), asked.size, at)
    ((name, hidden),) = baselines(net, asked.images, [baseline], seed)
    with torch.no_grad():
        maps = features(asked, key, of_point(net, key, net.run(asked.images, [key])[0], asked.size))
    chosen = [_chosen(values, channels) for values in maps]
    weights = _weights(asked, maps, chosen, hidden, on_progress)
    total = torch.stack(
        [
            torch.einsum("k,khw->hw", w, values[k].to(w))[None]
            for w, values, k in zip(weights, maps, chosen, strict=True)
        ]
    )
    largest = torch.stack([w.max() if len(w) else w.new_zeros(()) for w in weights])
    remarks = [_remarks(key, maps.shape[1], values, len(k)) for values, k in zip(maps, chosen, strict=True)]
    parameters = {"of": of, "at": at, "baseline": name, "channels": channels, "seed": seed}
    found = asked.scores()
    return only_for(asked, "score-cam", parameters, total, found, key, remarks, largest_weight=largest)


def _chosen(values: Tensor, channels: int | None) -> Tensor:
    """The channels (C, h, w) that are not the same everywhere, in their order; of those, the most varied."""
    alive = _alive(values).nonzero()[:, 0]
    if channels is None or channels >= len(alive):
        return alive
    order = values[alive].flatten(1).std(1).sort(descending=True, stable=True).indices
    return alive[order[:channels]].sort().values


def _alive(values: Tensor) -> Tensor:
    flat = values.flatten(1)
    return flat.amax(1) > flat.amin(1)


def _weights(
    asked: Explained,
    maps: Tensor,
    chosen: list[Tensor],
    hidden: Images,
    on_progress: Callable[[int, int], None] | None,
) -> list[Tensor]:
    """The weight of each chosen channel of each image, in float64; they add up to 1."""
    counts = [len(k) for k in chosen]
    fast = asked.loop()
    found: list[Tensor] = []
    done = 0
    for batch in scores(fast, _seen_through(asked.images, maps, chosen, hidden), asked.objective, asked.size):
        found.append(batch.scores.double())
        done += len(batch.samples)
        if on_progress is not None:
            on_progress(done, sum(counts))
    said = torch.cat(found) if found else maps.new_zeros(0, dtype=torch.float64)
    return [each.softmax(0) for each in said.split(counts)]


def _seen_through(images: Images, maps: Tensor, chosen: list[Tensor], hidden: Images) -> Iterator[Sample]:
    for i, channels in enumerate(chosen):
        for k in channels.tolist():
            resized = F.interpolate(maps[i, k][None, None], images.shape[2:], mode="bilinear", align_corners=False)[0]
            low, high = resized.amin(), resized.amax()
            mask = ((resized - low) / (high - low)).to(images)
            yield Sample(i, hidden[i] + mask * (images[i] - hidden[i]))


def _remarks(key: str, count: int, values: Tensor, used: int) -> list[str]:
    alive = int(_alive(values).sum())
    same = [f"{count - alive} of {count} channels of {key} are the same at every place, and make no mask"]
    most = (
        [f"of the other channels, the {used} that vary most"]
        if alive < count
        else [f"the {used} channels of {key} that vary most, of {count}"]
    )
    return (same if alive < count else []) + (most if used < alive else [])
