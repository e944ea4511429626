"""Feature visualization: what a unit looks for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from torch import Tensor

from inward.ascent import OnPass
from inward.columns.objectives import Kind, Objective
from inward.columns.spectrum import spectrum_of
from inward.errors import CallError
from inward.methods.draws import own_draws
from inward.methods.recipe import Recipe, names_of, picture_seed, planned
from inward.methods.rendering import Job, passes_kept, visualization
from inward.network.network import Network
from inward.pictures import find, read
from inward.results import Visualization
from inward.runs.record import record
from inward.types import Size


@own_draws
def visualize(
    net: Network,
    addresses: str | Sequence[str] | Mapping[str, Objective],
    *,
    size: Size | None = None,
    steps: int = 256,
    objective: Kind = "auto",
    negative: bool = False,
    parameterization: Literal["fourier", "pixels", "cppn", "maco", "pyramid"] = "fourier",
    transparent: bool = False,
    augment: Literal["standard", "crops", "color", "none"] = "standard",
    spectrum: str | None = None,
    start: str | list[str] = "noise",
    diverse: int = 1,
    diversity: float = 1.0,
    settle: float = 0.0,
    snapshots: int = 0,
    l1: float = 0.0,
    l2: float = 0.0,
    tv: float = 0.0,
    blur: float = 0.0,
    lr: float | None = None,
    redirect: int = 16,
    precision: Literal["auto", "full", "mixed"] = "auto",
    batch: int | None = None,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Visualization:
    """Pictures that excite units most: gradient ascent from noise, through random small changes.

    Olah, Mordvintsev and Schubert, "Feature visualization", 2017: a Fourier parameterization with
    decorrelated colors, jitter, scale and rotation, Adam. As many pictures as there is memory for
    are made at once; each has its own seed, and is the same alone or among others.

    Args:
        net: the network.
        addresses: units, each a picture: POINT/UNIT, POINT/UNIT@Y,X, POINT (its whole layer), class:NAME,
            many as POINT/* or POINT/0:64, or a sum such as "mixed4a/97 + 0.5 * mixed4a/3". From Python also any
            objectives, by name: {"toward cats": Direction("mixed4d", vector)}.
        size: height and width in pixels; by default the network's.
        steps: how often the pictures are moved, at most.
        objective: what is asked of an address. auto is the mean of a channel over its positions, the activation of
            a neuron, the energy of a layer, the logit of a class; see inward.columns.objectives.at for the others.
        negative: whether the pictures excite the unit least instead.
        parameterization: what is moved; fourier, pixels, cppn (a small network of coordinates), maco (only the phase
            of a natural spectrum) or pyramid (Laplacian).
        transparent: whether the picture has an alpha channel too, so that only what matters is opaque.
        augment: what the picture must survive; standard is jitter, scale and rotation.
        spectrum: for maco, a folder of pictures whose mean magnitude is held; by default the 1 / f law.
        start: noise, gray, or the file of a picture (from Python: or one for each address).
        diverse: how many pictures of each unit, unlike one another.
        diversity: how much being unlike counts, as a share of the score.
        settle: stop a picture when 32 passes raise its score by less than this share; 0: never before --steps.
        snapshots: how many pictures of the way are kept.
        l1: weight of the penalty on the sum of the pixels' distances from gray.
        l2: weight of the penalty on the sum of the pixels' squares.
        tv: weight of the penalty on the total variation.
        blur: weight of the penalty on what a small blur takes away.
        lr: Adam's step; by default what suits the parameterization (ours).
        redirect: passes with redirected ReLU gradients, which wake dead units; more are added for a
            picture that still gets no gradient.
        precision: mixed multiplies in bfloat16, auto does so where the device has it; scores are always exact.
        batch: how many units at once; by default as many as memory allows. The pictures do not depend on it.
        seed: of the noise that each picture starts from, together with its address, and of the small changes.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for an address that names no unit, options that exclude one another, or a size that the
            network cannot take.
    """
    started = time.perf_counter()
    shape = size or net.size
    objectives = dict(addresses) if isinstance(addresses, Mapping) else {}
    if objectives and objective != "auto":
        raise CallError(f"objectives that are given are not asked for as '{objective}'; leave out objective")
    names = list(objectives) or names_of(net, [] if isinstance(addresses, Mapping) else addresses, shape)
    starts = [start] * len(names) if isinstance(start, str) else list(start)
    if len(starts) != len(names):
        raise CallError(f"there are {len(starts)} starts for {len(names)} pictures; give one, or one for each")
    given = {
        "size": size,
        "steps": steps,
        "objective": objective,
        "negative": negative,
        "augment": augment,
        "parameterization": parameterization,
        "transparent": transparent,
        "spectrum": spectrum,
        "start": starts,
        "diverse": diverse,
        "diversity": diversity,
        "settle": settle,
        "snapshots": snapshots,
        "l1": l1,
        "l2": l2,
        "tv": tv,
        "blur": blur,
        "lr": lr,
        "redirect": redirect,
        "precision": precision,
        "seed": seed,
    }
    options = planned(visualize, net, given)
    starts = options["start"]
    if parameterization == "cppn" and any(word != "noise" for word in starts):
        raise CallError("a cppn picture starts from weights that are drawn, not from an image; use --start noise")
    settings: dict[str, Any] = {f.name: options[f.name] for f in fields(Recipe) if f.name in options}
    settings |= {"size": shape, "objectives": objectives, "spectrum": _spectrum(net, shape, spectrum, parameterization)}
    recipe = Recipe(**settings)
    job = Job(
        net=net,
        size=shape,
        row=lambda units: recipe.row(net, units),
        unit=lambda name: recipe.unit(net, name),
        starts=dict(zip(names, starts, strict=True)),
        seeds=lambda name: [picture_seed(seed, name, i) for i in range(diverse)],
        seed=seed,
        sign=-1 if negative else 1,
        kept=passes_kept(snapshots, steps),
        batch=batch,
    )
    found = job.render(names, on_pass)
    notes = ("its objective was made in Python, and rerun cannot make it again",) if objectives else ()
    made = record(net, "feature-visualization", {"addresses": names, **options}, {}, started, notes)
    return visualization(net, made, names, starts, found)


def _spectrum(net: Network, size: Size, folder: str | None, parameterization: str) -> Tensor | None:
    """The mean magnitude of the pictures in a folder, read a few at a time."""
    if folder is None:
        return None
    if parameterization != "maco":
        raise CallError(f"a spectrum is what maco holds, and {parameterization} holds none; leave it out")
    files = find([folder])
    return spectrum_of((read(files[i : i + 16], net, size) for i in range(0, len(files), 16)), size)
