"""Attribution by one gradient, times what it is the gradient of."""

from __future__ import annotations

import torch

from inward.gradient import Sample, gradients
from inward.methods.draws import own_draws
from inward.methods.explained import Of, Target, explained, inside, of_point
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images


@own_draws
def gradient_x_input(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """The gradient of a score times the image, or times the activations of a point inside.

    Shrikumar, Greenside, Shcherbina and Kundaje, "Not just a black box: learning important features
    through propagating activation differences", 2016: ``x * dF/dx``, with x in [0, 1]. A value is what
    its pixel contributes beside black, were the score linear; black pixels contribute 0, whatever
    they mean to the network.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, or a
            point from which there is no path to the target.
    """
    asked = explained(net, images, target, of)
    key = None if at is None else inside(net, at, asked.size)
    samples = (Sample(i, image) for i, image in enumerate(asked.images))
    batches = list(gradients(net, samples, asked.objective, asked.size, at=key))
    slope = torch.cat([batch.gradients for batch in batches])
    values = slope * (asked.images if key is None else _activations(net, asked.images, key))
    scores = torch.cat([batch.scores for batch in batches])
    return asked.attribution(
        "gradient-x-input", {"of": of, "at": at}, values, scores, kind="contribution", at=key or ""
    )


@torch.no_grad()
def _activations(net: Network, images: Images, key: str) -> torch.Tensor:
    (value,) = net.run(images, [key])
    return of_point(net, key, value, (images.shape[2], images.shape[3]))
