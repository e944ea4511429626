"""Attribution by one gradient."""

from __future__ import annotations

from inward.gradient import gradient
from inward.methods.draws import own_draws
from inward.methods.explained import Of, Target, explained, inside, of_point
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images


@own_draws
def saliency(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """The gradient of a score with respect to the image, or to a point inside.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks: visualising image
    classification models and saliency maps", 2013. The values are signed and per channel; their
    paper shows the largest absolute value over the channels, as the pictures here do.

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
    scores, values = gradient(net, asked.images, asked.objective, key)
    values = values if key is None else of_point(net, key, values, asked.size)
    return asked.attribution("saliency", {"of": of, "at": at}, values, scores, kind="sensitivity", at=key or "")
