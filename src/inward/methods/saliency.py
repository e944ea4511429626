"""Attribution by gradients."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import torch

from inward.columns.objectives import ClassScore, CrossEntropy, Objective, at, classes_of
from inward.errors import CallError, InwardError
from inward.gradient import gradient
from inward.network.network import Network
from inward.results import Attribution
from inward.runs.record import record
from inward.types import Images


def saliency(
    net: Network,
    images: Images,
    *,
    target: str | Sequence[str] | None = None,
    score: Literal["class", "cross-entropy"] = "class",
) -> Attribution:
    """The gradient of a score with respect to the image.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks: visualising image
    classification models and saliency maps", 2013. The values are signed and per channel; their
    paper shows the largest absolute value over the channels, as the pictures here do.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        score: of a class, its logit before softmax (class), or minus its cross-entropy (cross-entropy).

    Raises:
        CallError: for images that are not in [0, 1] or an address that the network does not have.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    if score not in ("class", "cross-entropy"):
        raise CallError(f"there is no score '{score}' here; write class or cross-entropy")
    objective, targets = explained(net, images, target, score)
    scores, values = gradient(net, images, objective)
    if not values.isfinite().all():
        raise InwardError(f"the gradient of {targets[0]} is not finite; check the weights, and --dtype")
    parameters = {"target": list(targets), "score": score}
    made = record(net, "saliency", parameters, {"images": images}, started)
    return Attribution(net, made, images.detach(), values, targets, scores)


def explained(
    net: Network, images: Images, target: str | Sequence[str] | None, score: str
) -> tuple[Objective, tuple[str, ...]]:
    """The objective behind a target, and the address of every image's."""
    size = (images.shape[2], images.shape[3])
    if target is None:
        with torch.no_grad():
            classes = tuple(net(images).argmax(1).tolist())
    elif isinstance(target, str):
        objective = at(net, target, size)
        if not isinstance(objective, ClassScore) or score == "class":
            if score != "class":
                raise CallError(f"cross-entropy is a score of a class, and '{target}' is none; leave out --score")
            return objective, (str(net.resolve(target, size)),) * len(images)
        classes = classes_of(net, [target] * len(images), size)
    else:
        classes = classes_of(net, list(target), size)
        if len(classes) != len(images):
            raise CallError(f"there are {len(classes)} targets for {len(images)} images; give one, or one an image")
    objective = ClassScore(classes) if score == "class" else -1.0 * CrossEntropy(classes)
    return objective, tuple(f"class:{k}" for k in classes)
