"""Where in a picture the units of a point are active: maps over the picture itself."""

from __future__ import annotations

import io
import math
from typing import TypeAlias

import torch
from jaxtyping import Float
from PIL import Image
from torch.nn import functional as F

from inward import draw
from inward.errors import CallError
from inward.network.network import Network
from inward.types import Images

Maps: TypeAlias = Float[torch.Tensor, "units rows columns"]
CELL = 64
"""Pixels of the long side of a map in a sheet."""
COLUMNS = 16
MOST = 4096
"""Units whose maps are drawn at once."""
_QUALITY = 90


def sheet(image: Images, maps: Maps) -> Image.Image:
    """Of every unit of a point the map of its activations over the picture, ``COLUMNS`` in a row.

    Each is drawn on a scale of its own, to its largest absolute value: it tells where, and not how much.

    Args:
        image: (1, C, H, W) in [0, 1].
        maps: (units, rows, columns), see :func:`maps_of`.
    """
    tall, wide = (max(1, round(CELL * side / max(image.shape[2:]))) for side in image.shape[2:])
    columns = min(COLUMNS, len(maps))
    small = F.interpolate(image.float().cpu(), size=(tall, wide), mode="area")[0].clamp(0, 1)
    signed = bool((maps < 0).any())
    made = Image.new("RGB", (columns * wide, math.ceil(len(maps) / columns) * tall))
    for row, some in enumerate(maps.split(columns)):
        cells = _resized(some / some.abs().amax((1, 2), keepdim=True).clamp_min(1e-12), (tall, wide))
        plane = cells.transpose(0, 1).reshape(tall, len(some) * wide)
        strip = draw.overlay(small.repeat(1, 1, len(some)), plane, signed=signed, scale=False, limit=1.0)
        # A short strip is enlarged for the eye; here a page does that.
        made.paste(strip.resize((len(some) * wide, tall), Image.Resampling.NEAREST), (0, row * tall))
    return made


def over(image: Images, plane: torch.Tensor) -> Image.Image:
    """The map of one unit, (rows, columns), over the picture, with its scale."""
    shown = image[0].float().cpu().clamp(0, 1)
    plane = _resized(plane[None], (min(plane.shape[0], shown.shape[1]), min(plane.shape[1], shown.shape[2])))[0]
    return draw.overlay(shown, plane, signed=bool((plane < 0).any()), limit=plane.abs().max().item() or None)


def to_jpeg(picture: Image.Image) -> bytes:
    """As a file that is written and read in a moment, however many maps it holds."""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=_QUALITY, subsampling=0)
    return held.getvalue()


def map_of(net: Network, image: Images, address: str) -> torch.Tensor:
    """The activations of a unit, (rows, columns). Raises CallError for what is no unit with places."""
    parsed = net.resolve(address)
    if parsed.unit is None or parsed.place is not None:
        raise CallError("this is no unit; write the name of a point and a number, layer3/17")
    return maps_of(net, image, parsed.point)[parsed.unit]


def maps_of(net: Network, image: Images, name: str) -> Maps:
    """The activations of a point on a picture, (units, rows, columns), finite.

    Raises CallError for a point without places, or of more units than are shown.
    """
    if name not in net.points:
        raise CallError("there is no such point in this network; choose one of its architecture")
    point = net.points[name]
    if point.shape is None or not point.units or point.layout.grid_size(point.shape) is None:
        raise CallError(f"{name} has no places that could be drawn over the picture")
    if point.units > MOST:
        raise CallError(f"{name} has {point.units} units, over the {MOST} that are drawn at once")
    with torch.no_grad():
        found = net.trace(image, [name]).features(name)[0].float().cpu()
    return torch.nan_to_num(found)


def _resized(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Smaller by the largest value, so that a peak stays; larger smoothly."""
    smaller = tuple(min(a, b) for a, b in zip(maps.shape[1:], size, strict=True))
    if smaller != tuple(maps.shape[1:]):
        signed = F.adaptive_max_pool2d(maps.abs()[None], smaller)[0]
        negative = F.adaptive_max_pool2d(-maps[None], smaller)[0]
        maps = torch.where(negative >= signed, -signed, signed)
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
