"""Internal influence: what a layer's units would do to a score, over a set of images."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from inward.columns.paths import Line
from inward.gradient import mean_gradient
from inward.methods.baselines import Baseline, baselines
from inward.methods.conductance import OnProgress, counted, layer_of
from inward.methods.draws import own_draws
from inward.methods.explained import Of, Target, explained
from inward.network.network import Network
from inward.results import Attribution
from inward.types import Images


@own_draws
def internal_influence(
    net: Network,
    images: Images,
    *,
    at: str | None = None,
    target: Target = None,
    of: Of = "score",
    baseline: Baseline | Sequence[Baseline] = "black",
    steps: int = 50,
    seed: int = 0,
    on_progress: OnProgress = None,
) -> Attribution:
    """The mean gradient of a score with respect to a layer, on the way from a baseline to the image.

    Leino, Sen, Datta, Fredrikson and Li, "Influence-directed explanations for deep convolutional
    networks", 2018, with the images of the straight line as the distribution of interest, at
    Gauss-Legendre points. A value is the score gained per unit of an activation, signed: what a unit
    would do, whether or not it moved (what it did is its conductance).

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1].
        at: the layer whose units are judged, for example mixed4a; by default the last map that the target sees
            the image through, as for class activation maps.
        target: the address that is explained, for example class:281 or mixed4a/97; one, or one an
            image (classes only). By default each image's own answer.
        of: what of a class: its logit before softmax (score), its probability, or minus its cross-entropy.
        baseline: where the way begins: black, gray, white, mean, blur, noise, or a picture; of several,
            the mean.
        steps: Gauss-Legendre points on the way.
        seed: of the baseline noise.
        on_progress: called with the points done and the points in all.

    Raises:
        CallError: for images that are not in [0, 1], an address that the network does not have, a point
            from which there is no path to the target, a baseline that does not fit, less than 1 step.
    """
    asked = explained(net, images, target, of)
    key = layer_of(asked, at)
    grounds = baselines(net, asked.images, baseline, seed)
    means = []
    for number, (_, ground) in enumerate(grounds):
        told = counted(on_progress, number, len(grounds))
        means.append(mean_gradient(net, asked.images, asked.objective, Line(ground, steps), at=key, on_point=told)[1])
    options = {"at": key, "of": of, "baseline": [name for name, _ in grounds], "steps": steps, "seed": seed}
    return asked.attribution(
        "internal-influence",
        options,
        torch.stack(means).mean(0),
        asked.scores(),
        kind="sensitivity",
        at=key,
        measured={"points": torch.full((len(asked.images),), steps * len(grounds))},
    )
