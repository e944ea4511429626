"""Style transfer: what one picture shows, in the manner of others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from inward.ascent import OnPass, Row
from inward.columns.matching import Alike
from inward.columns.objectives import Objective
from inward.columns.starts import Noise
from inward.errors import CallError
from inward.gradient import constant, trace_for
from inward.methods.draws import own_draws
from inward.methods.palette import luminance, luminance_alike, recolored
from inward.methods.redrawing import (
    Moves,
    StepName,
    Way,
    cropped,
    grown,
    likenesses,
    penalties,
    points_of,
    resized,
    scaled,
    size_of,
    sizes_of,
    told_points,
)
from inward.methods.textures import (
    Balanced,
    LossName,
    Sample,
    Scale,
    Term,
    check_points,
    fine_stages,
    terms,
    weighted,
)
from inward.network.lean import lean
from inward.network.network import Network
from inward.network.stages import stages
from inward.pictures import read_whole
from inward.results import Redrawn
from inward.runs.record import record
from inward.types import Images, Size

Pictures: TypeAlias = "str | Tensor | Sequence[str | Tensor]"
Other: TypeAlias = Float[Tensor, "m c tall wide"]
"""Pictures of another size than those that are given."""
_RATES = {"pixels": (0.02, 0.02), "fourier": (0.02, 0.05)}
_STARTS = ("content", "noise")
# Of a mask and a picture, by how much their sides may differ in proportion.
_ASKEW = 0.02
_MADE = "a {} was given in Python, so this cannot be computed again from its manifest"


@own_draws
def style(
    net: Network,
    images: Images,
    *,
    style: str | Tensor | Sequence[str | Tensor],
    content_at: str | None = None,
    style_at: str | None = None,
    content_weight: float = 1.0,
    style_weight: float = 10.0,
    shares: Sequence[float] = (),
    regions: str | Tensor | Sequence[str | Tensor] = (),
    style_scale: float = 1.0,
    size: Size | None = None,
    scales: int = 0,
    steps: int = 100,
    start: str = "content",
    colors: Literal["style", "content"] = "style",
    loss: LossName = "gram",
    parameterization: Literal["pixels", "fourier"] = "pixels",
    step: StepName = "lbfgs",
    lr: float | None = None,
    tv: float = 0.0,
    snapshots: int = 0,
    seed: int = 0,
    on_pass: OnPass | None = None,
) -> Redrawn:
    """The image in the style of others: its features at one point, their statistics at several.

    Gatys, Ecker and Bethge, "A neural algorithm of artistic style", 2015. The distance of the features from those of
    the image, as a share of their energy, and the distances of the Gram matrices from those of the style, which count
    alike at the start, are made small together. From small to large, so that large pictures have large strokes (Gatys
    et al., "Controlling perceptual factors in neural style transfer", 2017).

    Args:
        net: the network.
        images: (N, C, H, W) in [0, 1], what is shown, of any size that the network takes.
        style: the file of the picture whose style it is, or of several (from Python also images (1, C, h, w)).
        content_at: the point whose features are kept, or several with weights; by default the middle stage.
        style_at: the points whose statistics are met, with weights where they are not to count alike: "conv2 + 0.5 *
            mixed3b"; by default all stages down to one position for 16 pixels.
        content_weight: of the features' distance.
        style_weight: of the statistics' distance, which is 1 at the start.
        shares: of several styles, how much each counts; by default all alike.
        regions: a mask for each style, white where it is in the picture, of the picture's shape; by default everywhere.
        style_scale: how large the strokes are: the size of the style beside that of what is made.
        size: height and width of what is made, from the middle of the image; by default those of the image.
        scales: sizes from small to large, each half of the next; 0: as many as have 64 pixels or more, 1: the last.
        steps: passes at each scale.
        start: content (the image itself), noise, or the file of a picture.
        colors: style, or content: the image's own colors under the style's luminance (Gatys et al., "Preserving color
            in neural artistic style transfer", 2016).
        loss: gram, or wasserstein (the sorted values along fixed directions: Heitz et al. 2021).
        parameterization: what is moved: pixels, or fourier (a spectrum with decorrelated colors).
        step: lbfgs, or adam.
        lr: the first step of lbfgs, as a root mean square, or Adam's; by default 0.02 (fourier: 0.05 of Adam).
        tv: weight of the penalty on total variation (squared differences of neighbors, their mean).
        snapshots: how many pictures of the way are kept.
        seed: of noise, and of directions.
        on_pass: called after every pass with what was done, :class:`inward.row.Pass`.

    Raises:
        CallError: for a point that the network does not have, or a style point without a grid; a mask of another shape
            than the picture; as many shares or regions as there are not styles; a size that the network cannot take;
            images not in [0, 1]; numbers that make no sense.
    """
    started = time.perf_counter()
    net.preprocess.check(images)
    images = constant(images).to(net.device)
    size = (size[0], size[1]) if size else size_of(images)
    content = cropped(images, size)
    for name, value in (("content_weight", content_weight), ("style_weight", style_weight)):
        if not 0 <= value < float("inf"):
            raise CallError(f"{name} is a number from 0 up, not {value:g}")
    if content_weight == style_weight == 0:
        raise CallError("neither content nor style counts; give content_weight or style_weight above 0")
    kept = points_of(net, _middle(net) if content_at is None else content_at, size)
    met = points_of(net, fine_stages(net) if style_at is None else style_at, size)
    check_points(net, met, size)
    samples, told_styles, notes = _samples(net, content, style, shares, regions, style_scale, colors, size_of(images))
    moves = Moves.of(step, lr, parameterization, steps, _RATES)
    sizes = sizes_of(net, size, scales)
    way = Way(on_pass, moves.passes * len(sizes), snapshots, size)
    seen = content if colors == "style" else luminance(content).expand_as(content)
    job = _Job(
        net=net,
        content=seen,
        samples=samples,
        kept=kept,
        met=met,
        weights=(content_weight, style_weight),
        loss=loss,
        tv=tv,
        seed=seed,
        moves=moves,
    )
    first = _start(net, seen, start, sizes[0], seed)
    shown = partial(recolored, content=content) if colors == "content" else _same
    found = grown(net, first, sizes, job.row, way, seed=seed, shown=shown)
    made = shown(found.images)
    told: dict[str, Any] = {"style": told_styles, "content_at": told_points(kept), "style_at": told_points(met)}
    told |= {"content_weight": content_weight, "style_weight": style_weight, "shares": [s.share for s in samples]}
    told |= {"regions": _told(regions), "style_scale": style_scale, "size": list(size), "scales": len(sizes)}
    told |= {**moves.told(), "start": start if start in _STARTS else str(Path(start).absolute()), "colors": colors}
    told |= {"loss": loss, "tv": tv, "snapshots": snapshots, "seed": seed}
    inputs = {f"style {k + 1}": one.pictures for k, one in enumerate(samples)}
    inputs |= {f"region {k + 1}": one.region for k, one in enumerate(samples) if one.region is not None}
    inputs |= {} if start in _STARTS else {"start": first}
    content_left, style_left = job.losses(found.images)
    return Redrawn(
        net,
        record(net, "style", told, {"images": images, **inputs}, started, notes),
        images=images,
        made=made[:, None].cpu(),
        names=("style",),
        snapshots=way.pictures(made),
        measured={"content": content_left[:, None], "style_left": style_left[:, None]},
        weights=_by_point(job.scale.last, len(samples)),
        history=found.scores[:, :, None],
        remarks=found.remarks,
    )


def _same(images: Images) -> Images:
    return images


def _middle(net: Network) -> str:
    known = stages(net)
    return known[len(known) // 2]


def _told(pictures: Pictures) -> list[str]:
    given = [pictures] if isinstance(pictures, (str, Tensor)) else list(pictures)
    return [str(Path(one).absolute()) if isinstance(one, str) else "given" for one in given]


def _samples(
    net: Network,
    content: Images,
    style: Pictures,
    shares: Sequence[float],
    regions: Pictures,
    scale: float,
    colors: str,
    shape: Size,
) -> tuple[list[Sample], list[str], tuple[str, ...]]:
    """The styles with their shares and regions, how the manifest names them, and what is to be said."""
    if colors not in ("style", "content"):
        raise CallError(f"colors are those of the style or of the content, not '{colors}'")
    if not 0 < scale <= 8:
        raise CallError(f"style_scale is above 0 and at most 8, not {scale:g}")
    given = [style] if isinstance(style, (str, Tensor)) else list(style)
    masks = [regions] if isinstance(regions, (str, Tensor)) else list(regions)
    if not given:
        raise CallError("there is no style; give the file of a picture")
    for name, values in (("shares", shares), ("regions", masks)):
        if values and len(values) != len(given):
            raise CallError(f"there are {len(values)} {name} for {len(given)} styles; give one for each")
    if any(not 0 < share < float("inf") for share in shares):
        raise CallError(f"the shares of styles are above 0, not {' '.join(f'{s:g}' for s in shares)}")
    total = sum(shares) or len(given)
    found = []
    for number, one in enumerate(given):
        picture = _picture(net, one, content, scale)
        if colors == "content":
            picture = luminance_alike(picture, content)
        region = _region(masks[number], content, net, shape) if masks else None
        found.append(Sample(picture, (shares[number] if shares else 1.0) / total, region))
    made = [
        name for name, values in (("style", given), ("region", masks)) if any(isinstance(v, Tensor) for v in values)
    ]
    return found, _told(style), tuple(_MADE.format(name) for name in made)


def _picture(net: Network, given: str | Tensor, content: Images, scale: float) -> Other:
    """A style at its own shape, its long side as that of what is made, times the scale."""
    picture = read_whole(given, net).to(content) if isinstance(given, str) else constant(given).to(content)
    net.preprocess.check(picture)
    if len(picture) != 1:
        raise CallError(f"a style is one picture (1, C, H, W), not {len(picture)}; give several as a list")
    return scaled(picture, scale * max(size_of(content)) / max(size_of(picture)))


def _region(given: str | Tensor, content: Images, net: Network, shape: Size) -> Tensor:
    """(1, H, W) in [0, 1]. Raises CallError for a mask of another shape than the picture, or one that is black."""
    mask = _mask_of(given, net) if isinstance(given, str) else torch.as_tensor(given)
    mask = mask.float() / 255 if mask.dtype == torch.uint8 else mask.float()
    if not (mask.isfinite().all() and mask.min() >= 0 and mask.max() <= 1):
        raise CallError("a region is a mask in [0, 1]; divide 8-bit values by 255")
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or len(mask) != 1:
        raise CallError(f"a region is a mask (H, W), not {tuple(mask.shape)}")
    height, width = mask.shape[1:]
    known = [size_of(content), shape]
    if all(abs(height * wide / (width * tall) - 1) > _ASKEW for tall, wide in known):
        tall, wide = shape
        raise CallError(
            f"a region of {height} x {width} pixels has not the shape of the picture, {tall} x {wide}; give one of "
            "its size"
        )
    found = cropped(mask[:, None].to(content), size_of(content))[:, 0]
    if not found.any():
        raise CallError("a region is black everywhere, so that its style is nowhere; paint it white where it belongs")
    return found


def _mask_of(file: str, net: Network) -> Tensor:
    """(1, H, W): how light every pixel of a file is."""
    return luminance(read_whole(file, net)[:, :3])[:, 0]


def _start(net: Network, content: Images, start: str, size: Size, seed: int) -> Other:
    if start == "content":
        return resized(content, size)
    if start == "noise":
        return Noise(std=0.1, decay=0.0)(resized(content, size), [seed] * len(content))
    return cropped(read_whole(start, net).to(content), size).expand(len(content), -1, -1, -1)


@dataclass(eq=False)
class _Job:
    """What the ascents of all sizes have in common, and the targets of the last."""

    net: Network
    content: Images
    samples: Sequence[Sample]
    kept: Mapping[str, float]
    met: Mapping[str, float]
    weights: tuple[float, float]
    loss: LossName
    tv: float
    seed: int
    moves: Moves
    likeness: list[tuple[float, Alike]] = field(default_factory=list)
    scale: Scale = field(default_factory=Scale)

    def row(self, start: Images) -> Row:
        """The row for these pictures."""
        size = size_of(start)
        fast = lean(self.net, size, half=False)
        self.likeness = likenesses(fast, resized(self.content, size), self.kept)
        parts: list[tuple[float, Objective]] = [(self.weights[0] * w, part) for w, part in self.likeness]
        parts.append((self.weights[1], self.scale.of(fast, start, self._terms(fast, size))))
        return self.moves.row(weighted(parts), penalties(start, tv=self.tv))

    @torch.no_grad()
    def losses(self, made: Images) -> tuple[Tensor, Tensor]:
        """The distance of the features as a share of their energy, and the style's loss by what it was: (N,) each."""
        trace = trace_for(self.net, made, list(dict.fromkeys([*self.kept, *self.met])))
        total = sum(weight for weight, _ in self.likeness)
        content = sum(-weight / total * part(trace).double().cpu() for weight, part in self.likeness)
        return torch.as_tensor(content), self.scale.left(trace)

    def _terms(self, fast: Network, size: Size) -> list[Term]:
        share = max(size) / max(size_of(self.content))
        given = [Sample(scaled(one.pictures, share), one.share, self._masked(one, size)) for one in self.samples]
        return terms(fast, given, self.met, size, loss=self.loss, seed=self.seed)

    def _masked(self, sample: Sample, size: Size) -> Tensor | None:
        return None if sample.region is None else resized(sample.region[:, None], size)[:, 0]


def _by_point(balance: Balanced, styles: int) -> dict[str, Tensor]:
    """What the losses were multiplied by, (N, 1), by point, and by the number of the style where there are several."""
    pairs = zip(balance.found, balance.weights, strict=True)
    return {
        term.point if styles == 1 else f"{term.point}, style {term.sample + 1}": own[:, None] for term, own in pairs
    }
