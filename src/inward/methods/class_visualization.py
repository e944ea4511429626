"""Class visualization: the picture that a class score likes best, by the classic recipe."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import partial

from inward.ascent import OnPass, Row
from inward.columns.batches import Each
from inward.columns.constraints import Box
from inward.columns.objectives import at, classes_of
from inward.columns.penalties import L2
from inward.columns.steps import blurred_gradient
from inward.errors import CallError
from inward.methods.draws import own_draws
from inward.methods.recipe import planned
from inward.methods.rendering import Job, visualization
from inward.network.lean import lean
from inward.network.network import Network
from inward.network.selection import select
from inward.results import Visualization
from inward.runs.record import record
from inward.types import Size


@own_draws
def class_visualization(
    net: Network,
    addresses: str | Sequence[str],
    *,
    size: Size | None = None,
    steps: int = 200,
    lr: float = 0.01,
    decay: float = 0.001,
    blur_every: int = 10,
    blur_sigma: float = 1.0,
    batch: int | None = None,
    on_pass: OnPass | None = None,
) -> Visualization:
    """Pictures that a class scores highest, by plain gradient ascent from an empty image.

    Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks: visualising image
    classification models and saliency maps", 2013: the score before softmax, less the squared
    distance from the empty (mid-gray) image. With the periodic blur of Yosinski et al.,
    "Understanding neural networks through deep visualization", 2015. Neither paper gives its rates.

    Args:
        net: the network.
        addresses: classes, each a picture: class:NAME, class:NUMBER, many as class:0:10 or class:*.
        size: height and width in pixels; by default the network's.
        steps: how often the pictures are moved (ours).
        lr: by how much the first step moves a pixel in the root mean square; the rate then stays (ours).
        decay: weight of the squared distance from gray, a sum over the pixels in [0, 1] units (ours).
        blur_every: steps from one blur to the next (ours); 0: none.
        blur_sigma: its standard deviation in pixels (ours).
        batch: how many classes at once; by default as many as memory allows. The pictures do not depend on it.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for an address that is no class, or a size that the network cannot take.
    """
    started = time.perf_counter()
    shape = size or net.size
    names = select(net, addresses, shape)
    if not (lr > 0 and math.isfinite(lr)) or not (decay >= 0 and math.isfinite(decay)):
        raise CallError(f"lr must be a number above 0 and decay one from 0 up, not {lr:g} and {decay:g}")
    classes_of(net, names, shape)

    def row(classes: Sequence[str]) -> Row:
        return Row(
            objective=Each(tuple(at(net, name, shape) - decay * L2(0.5) for name in classes)),
            step=blurred_gradient(lr, every=blur_every, sigma=blur_sigma),
            passes=steps,
            constraints=(Box(),),
            prepare=partial(lean, half=False),
        )

    starts = ["gray"] * len(names)
    job = Job(
        net=net,
        size=shape,
        row=row,
        unit=lambda name: at(net, name, shape),
        starts=dict(zip(names, starts, strict=True)),
        seeds=lambda _: [0],
        batch=batch,
    )
    given = {"size": size, "steps": steps, "lr": lr, "decay": decay, "blur_every": blur_every, "blur_sigma": blur_sigma}
    options = planned(class_visualization, net, given)
    found = job.render(names, on_pass)
    made = record(net, "class-visualization", {"addresses": names, **options}, {}, started)
    return visualization(net, made, names, starts, found)
