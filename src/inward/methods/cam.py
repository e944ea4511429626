"""Class-activation maps: the channels of one map inside, weighted by what the target makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inward.columns.objectives import wide
from inward.gradient import Sample, gradients, keys_of
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, of_point
from inward.methods.places import check_places, map_for
from inward.network.graph import Graph
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images, Scores


@own_draws
def grad_cam(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """The channels of a map, weighted by the mean of their gradients: ``relu(sum_k mean_xy(dS/dA_k) A_k)``.

    Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: visual explanations from deep
    networks via gradient-based localization", 2016. The map has the grid of the point inside, never
    that of the image; of a transformer, the tokens of the patches are the places. Measured is the share
    of the map, in absolute values, that the last ReLU takes away: what speaks against the target.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the map, for example mixed4e; by default the last one that the target sees the image through.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, and a
            point that is no map before the target.
    """

    def combined(values: Tensor, slopes: Tensor) -> Tensor:
        return (slopes.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True)

    return _mapped("grad-cam", explained(net, images, target, of), of, at, combined)


@own_draws
def grad_cam_plus_plus(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """The channels of a map, weighted by their positive gradients, the more the fewer places share a channel.

    Chattopadhay, Sarkar, Howlader and Balasubramanian, "Grad-CAM++: generalized gradient-based visual
    explanations for deep convolutional networks", 2017: ``relu(sum_k w_k A_k)`` with
    ``w_k = sum_xy a relu(g)``, ``a = g^2 / (2 g^2 + g^3 sum_xy A_k)`` and ``g = dS/dA_k``, the closed
    form for exp(S) of networks that are linear in pieces. Its factor exp(S), one number an image that
    overflows, is left out. The weights suppose maps that are 0 or more: where a sum over a map is below
    0, a remark says so. Measured is the share of the map that the last ReLU takes away.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the map, for example mixed4e; by default the last one that the target sees the image through.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, and a
            point that is no map before the target.
    """
    return _mapped("grad-cam-plus-plus", explained(net, images, target, of), of, at, _plus_plus, _of_negative_sums)


@own_draws
def layer_cam(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """Every place of every channel, weighted by its own positive gradient: ``relu(sum_k relu(dS/dA_k) A_k)``.

    Jiang, Zhang, Hou, Cheng and Wei, "LayerCAM: exploring hierarchical class activation maps for
    localization", 2021. Since no gradient is averaged over places, it is of use at early, fine maps
    too. Measured is the share of the map that the last ReLU takes away.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the map, for example mixed3b; by default the last one that the target sees the image through.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, and a
            point that is no map before the target.
    """

    def combined(values: Tensor, slopes: Tensor) -> Tensor:
        return (slopes.relu() * values).sum(1, keepdim=True)

    return _mapped("layer-cam", explained(net, images, target, of), of, at, combined)


def _plus_plus(values: Tensor, slopes: Tensor) -> Tensor:
    total = values.sum((2, 3), keepdim=True)
    # g^2 is taken out of the fraction, so that small gradients do not vanish in their cubes; only
    # rising places have a weight, and there the denominator is 2 or more wherever the sum is not negative.
    share = 2 + slopes * total
    rising = (slopes > 0) & (share != 0)
    weights = torch.where(rising, slopes / torch.where(rising, share, 1), 0).sum((2, 3), keepdim=True)
    return (weights * values).sum(1, keepdim=True)


def _of_negative_sums(values: Tensor, key: str) -> list[list[str]]:
    said = f"{key} has channels whose sum is below 0, for which the weights of Grad-CAM++ are not made"
    return [[said] if below else [] for below in (values.sum((2, 3)) < 0).any(1).tolist()]


def _mapped(
    method: str,
    asked: Explained,
    of: Of,
    at: str | None,
    combined: Callable[[Tensor, Tensor], Tensor],
    remarked: Callable[[Tensor, str], list[list[str]]] | None = None,
) -> Attribution:
    """A method that combines the values of a map, (N, C, h, w), with the gradients there."""
    seen = _seen(asked, at)
    total = combined(seen.values, seen.slopes)
    if at is not None and not total.any():
        check_places(asked.net, keys_of(asked.net, asked.objective, asked.size), asked.size, seen.key)
    remarks = [[]] * len(total) if remarked is None else remarked(seen.values, seen.key)
    return only_for(asked, method, {"of": of, "at": at}, total, seen.scores, seen.key, remarks)


@dataclass(frozen=True)
class _Seen:
    """A map and the gradient there, (N, C, h, w) each, and the scores (N,)."""

    key: str
    values: Tensor
    slopes: Tensor
    scores: Scores


def _seen(asked: Explained, at: str | None) -> _Seen:
    net, size = asked.net, asked.size
    key = map_for(net, keys_of(net, asked.objective, size), size, at)
    with torch.no_grad():
        (held,) = net.run(asked.images, [key])
    rows = of_point(net, key, held, size)
    # From the map on, and no further back: what lies before it is not differentiated.
    starts = rows if isinstance(net.graph(size), Graph) else [None] * len(rows)
    samples = (Sample(i, asked.images[i], given=start) for i, start in enumerate(starts))
    found = list(gradients(net, samples, asked.objective, size, at=key))
    slopes = torch.cat([batch.gradients for batch in found])
    scores = torch.cat([batch.scores for batch in found])
    return _Seen(key, features(asked, key, rows), features(asked, key, slopes), scores)


def features(asked: Explained, key: str, rows: Tensor) -> Tensor:
    """A map, batch first but otherwise in the network's layout, as (N, C, h, w) in float32 or float64."""
    layout = asked.net.layout_of(asked.net.resolve(key, asked.size), asked.size)
    return wide(layout.features(rows.movedim(0, layout.axes.index("n"))))


def only_for(
    asked: Explained,
    method: str,
    parameters: dict[str, object],
    total: Tensor,
    scores: Scores,
    key: str,
    remarks: list[list[str]],
    **measured: Tensor,
) -> Attribution:
    """The result of a sum over channels, (N, 1, h, w): what speaks for the target, and how much was cut off."""
    whole = total.abs().sum((1, 2, 3))
    against = (-total).relu().sum((1, 2, 3)) / torch.where(whole > 0, whole, 1)
    remarks = [
        [*said, f"all of the map speaks against {asked.targets[i]}, and the ReLU of the formula leaves nothing"]
        if total[i].any() and not (total[i] > 0).any()
        else said
        for i, said in enumerate(remarks)
    ]
    measured = {"share_against": against, **measured}
    values = total.relu().to(asked.images.dtype)
    return asked.attribution(
        method, parameters, values, scores, kind="amount", at=key, measured=measured, remarks=remarks
    )
