"""Where in a picture the units of a point are active: maps over the picture itself."""

from __future__ import annotations

import io
import math

import torch
from PIL import Image
from torch.nn import functional as F

from inward import draw
from inward.errors import CallError
from inward.network.network import Network
from inward.types import Images

CELL = 64
"""Pixels of the long side of a map in a sheet."""
COLUMNS = 16
_QUALITY = 90


def sheet(net: Network, image: Images, name: str) -> Image.Image:
    """Of every unit of a point the map of its activations over the picture, ``COLUMNS`` in a row.

    Each is drawn on a scale of its own, to its largest absolute value: it tells where, and not how much.

    Args:
        image: (1, C, H, W) in [0, 1].

    Raises CallError for a point without places.
    """
    maps = _maps(net, image, name)
    tall, wide = (max(1, round(CELL * side / max(image.shape[2:]))) for side in image.shape[2:])
    maps = _resized(maps / maps.abs().amax((1, 2), keepdim=True).clamp_min(1e-12), (tall, wide))
    columns = min(COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    cells = torch.zeros(rows * columns, tall, wide)
    cells[: len(maps)] = maps
    plane = cells.view(rows, columns, tall, wide).transpose(1, 2).reshape(rows * tall, columns * wide)
    small = F.interpolate(image.float().cpu(), size=(tall, wide), mode="area")[0]
    signed = bool((maps < 0).any())
    made = draw.overlay(small.repeat(1, rows, columns), plane, signed=signed, scale=False, limit=1.0)
    # A sheet of a few is enlarged for the eye; here a page does that.
    return made.resize((columns * wide, rows * tall), Image.Resampling.NEAREST)


def over(net: Network, image: Images, address: str) -> Image.Image:
    """The map of one unit over the picture, with its scale. Raises CallError for what is no unit with places."""
    parsed = net.resolve(address)
    if parsed.unit is None or parsed.place is not None:
        raise CallError("this is no unit; write the name of a point and a number, layer3/17")
    plane = _maps(net, image, parsed.point)[parsed.unit]
    shown = image[0].float().cpu().clamp(0, 1)
    plane = _resized(plane[None], (min(plane.shape[0], shown.shape[1]), min(plane.shape[1], shown.shape[2])))[0]
    return draw.overlay(shown, plane, signed=bool((plane < 0).any()), limit=plane.abs().max().item() or None)


def to_jpeg(picture: Image.Image) -> bytes:
    """As a file that is written and read in a moment, however many maps it holds."""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=_QUALITY, subsampling=0)
    return held.getvalue()


def _maps(net: Network, image: Images, name: str) -> torch.Tensor:
    """The activations of a point, (units, rows, columns), finite. Raises CallError."""
    if name not in net.points:
        raise CallError("there is no such point in this network; choose one of its architecture")
    point = net.points[name]
    if point.shape is None or not point.units or point.layout.grid_size(point.shape) is None:
        raise CallError(f"{name} has no places that could be drawn over the picture")
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
