"""Feature visualization: what a unit looks for."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from inward.ascent import OnPass, Row, ascend
from inward.columns.augmentations import standard
from inward.columns.constraints import Box
from inward.columns.objectives import Objective, at
from inward.columns.parameterizations import Fourier, Pixels
from inward.columns.starts import Noise
from inward.columns.steps import adam
from inward.errors import CallError
from inward.network.network import Network
from inward.network.trace import Trace
from inward.results import Visualization
from inward.runs.record import record
from inward.types import Scores, Size


@dataclass(frozen=True)
class _Each(Objective):
    """A batch in which every picture has an objective of its own."""

    parts: tuple[Objective, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a for part in self.parts for a in part.addresses))

    def __call__(self, trace: Trace) -> Scores:
        return torch.stack([part(trace)[i] for i, part in enumerate(self.parts)])


def visualize(
    net: Network,
    addresses: str | Sequence[str],
    *,
    size: Size | None = None,
    steps: int = 256,
    parameterization: Literal["fourier", "pixels"] = "fourier",
    lr: float = 0.03,
    augment: bool = True,
    redirect: int = 16,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Visualization:
    """Pictures that excite units most: gradient ascent from noise, through random small changes.

    Olah, Mordvintsev and Schubert, "Feature visualization", 2017: a Fourier parameterization with
    decorrelated colors, jitter, scale and rotation, Adam. Channels maximize the mean over their
    positions, neurons (POINT/UNIT@Y,X) their activation, classes their logit before softmax.

    Args:
        net: the network.
        addresses: one or several units, each a picture; the batch does not change a picture.
        size: height and width in pixels; by default the network's.
        steps: how often the pictures are moved.
        parameterization: fourier or pixels.
        lr: Adam's step; ours (0.05 in the authors' code leaves some channels unsettled).
        augment: whether the picture must survive jitter, scale and rotation.
        redirect: passes with redirected ReLU gradients, which wake dead units; more are added for a
            picture that still gets no gradient.
        seed: of the noise that each picture starts from, and of the small changes.
        on_pass: called after every pass with what was done, :class:`inward.ascent.Pass`.

    Raises:
        CallError: for an address that names no unit, or a size that the network cannot take.
    """
    started = time.perf_counter()
    names = [addresses] if isinstance(addresses, str) else list(addresses)
    if not names:
        raise CallError("there is nothing to visualize; name at least one unit, for example mixed4a/97")
    if not (lr > 0 and math.isfinite(lr)):
        raise CallError(f"lr must be a number above 0, not {lr:g}")
    height, width = size or net.size
    objective = _Each(tuple(at(net, name, (height, width)) for name in names))
    like = torch.zeros(len(names), net.preprocess.channels, height, width, device=net.device)
    row = Row(
        objective=objective,
        step=adam(lr),
        passes=steps,
        start=Noise(),
        parameterization=_parameterization(parameterization),
        augmentation=standard((height, width)) if augment else None,
        constraints=(Box(),),
        redirect=redirect,
    )
    found = ascend(net, row, like, seeds=[seed] * len(names), seed=seed, on_pass=on_pass)
    resolved = tuple(str(net.resolve(name, (height, width))) for name in names)
    parameters = {"addresses": list(resolved), "size": [height, width], "steps": steps, "lr": lr, "seed": seed}
    parameters |= {"parameterization": parameterization, "augment": augment, "redirect": redirect}
    made = record(net, "feature-visualization", parameters, {}, started)
    return Visualization(net, made, found.images, resolved, found.final, found.scores, found.redirected)


def _parameterization(name: str) -> Fourier | Pixels:
    known = {"fourier": Fourier(), "pixels": Pixels()}
    if name not in known:
        raise CallError(f"there is no parameterization '{name}'; write {' or '.join(known)}")
    return known[name]
