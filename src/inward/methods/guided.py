"""Attribution by a gradient of which only the rising part passes the ReLUs."""

from __future__ import annotations

from typing import cast

from inward.errors import CallError
from inward.gradient import gradient, keys_of
from inward.methods.draws import own_draws
from inward.methods.explained import Explained, Of, Target, explained, inside, of_point
from inward.network.address import parse
from inward.network.backward import deconvolve_relus, guide_relus, is_relu, on_the_way, other_activations
from inward.network.graph import Edit, Graph
from inward.network.network import Network, node_of
from inward.results import Attribution
from inward.types import Images


@own_draws
def guided_backpropagation(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """The gradient of a score, with what is negative of it held back at every ReLU.

    Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for simplicity: the all convolutional
    net", 2014: ``dx = (x > 0) max(dy, 0)``. The values are signed and per channel. The maps are
    sharp, and show more of the image than of the target: with random weights they hardly change
    (Adebayo et al., "Sanity checks for saliency maps", 2018).

    Every ReLU of the graph counts, also one that is a function, in place or used again, and its kin
    (ReLU6, a clamp or a maximum at 0); other activations keep their own gradient, which is noted.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a
            point from which there is no path to the target, a network without a graph, or one with no
            ReLU on the way.
    """
    return _through("guided-backpropagation", guide_relus, net, images, target, of, at)


@own_draws
def deconvnet(
    net: Network, images: Images, *, target: Target = None, of: Of = "score", at: str | None = None
) -> Attribution:
    """What a deconvolutional network makes of the score: the gradient, rectified on its way back at every ReLU.

    Zeiler and Fergus, "Visualizing and understanding convolutional networks", 2013: ``dx = max(dy, 0)``,
    whatever the input of the ReLU was; pooling goes back to where the maximum came from. The values
    are signed and per channel, as for guided_backpropagation.

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        at: the point whose activations are attributed to, for example mixed4a; by default the image.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a
            point from which there is no path to the target, a network without a graph, or one with no
            ReLU on the way.
    """
    return _through("deconvnet", deconvolve_relus, net, images, target, of, at)


def _through(
    method: str, rule: Edit, net: Network, images: Images, target: Target, of: Of, at: str | None
) -> Attribution:
    asked = explained(net, images, target, of)
    key = None if at is None else inside(net, at, asked.size)
    changed = net.derived(method, lambda plain: plain.edit(rule))
    # A network without a graph is refused here.
    changed.graph(asked.size)
    others = _checked(asked, key, method)
    scores, values = gradient(changed, asked.images, asked.objective, key)
    return asked.attribution(
        method,
        {"of": of, "at": at},
        values if key is None else of_point(net, key, values, asked.size),
        scores,
        kind="sensitivity",
        at=key or "",
        notes=(f"{others} activations that are no ReLU keep their own gradient",) if others else (),
    )


def _checked(asked: Explained, key: str | None, method: str) -> int:
    """How many activations on the way to the score are no ReLU. Raises CallError where none is one."""
    # The edit has refused every other.
    graph = cast("Graph", asked.net.graph(asked.size))
    ends = [node_of(graph, parse(k)) for k in keys_of(asked.net, asked.objective, asked.size)]
    way = on_the_way(graph, ends, None if key is None else node_of(graph, parse(key)))
    # Where there is no way at all, the gradient says so.
    if way and not any(is_relu(node, graph.module) for node in way):
        raise CallError(
            f"there is no ReLU between {key or 'the image'} and {asked.targets[0]}, so {method} would be "
            "the plain gradient; ask for saliency"
        )
    return other_activations(way, graph.module)
