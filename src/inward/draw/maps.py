"""Maps of numbers as colors, alone or over the picture that they are about, always with the scale beside them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inward.draw import lettering
from inward.draw.colors import Scale, colored, scale_of, table
from inward.draw.pictures import Array, as_floats, as_image, enlarged
from inward.draw.scalebar import LETTERS, OVERHANG, factor_of, scale_bar
from inward.errors import CallError

_MARGIN = 10
_SHORT, _LONG = 224, 1200
CAPTION = 8
"""The most lines of a caption."""


def heat_map(
    values: Array,
    *,
    signed: bool,
    scale: bool = True,
    title: str = "",
    caption: str = "",
    limit: float | None = None,
) -> Image.Image:
    """A map of numbers in colors, with a labeled scale beside it, as an RGB picture.

    Args:
        values: (H, W), float, finite. A small map is enlarged by a whole factor without smoothing.
        signed: False draws amounts from 0 (black) to the limit (light yellow) in inferno; True draws values from
            -limit (blue) over exactly 0 (near white, equal parts of red, green and blue) to limit (red) in RdBu.
        scale: whether to draw the scale; without it and without a title the picture is the bare map.
        title: one or two lines above the map.
        caption: what was measured, in a few lines below it.
        limit: the end of the scale, in the units of ``values``; by default the 99.5th percentile of their absolute
            values. Where values lie beyond it, the scale ends in an arrow and a line below says how far they reach.

    Raises:
        CallError: values that are not (H, W), not float or not finite, negative values with ``signed=False``, or
            a limit that is not a positive number.
    """
    plane = as_floats(values, "a map", ("H", "W"))
    meaning = scale_of(plane, signed=signed, limit=limit)
    picture = _grown(Image.fromarray(colored(plane, meaning)))
    return _plate(picture, title, caption, meaning if scale else None, table(signed))


def overlay(
    image: Array,
    values: Array,
    *,
    signed: bool,
    opacity: float = 0.6,
    scale: bool = True,
    title: str = "",
    caption: str = "",
    limit: float | None = None,
) -> Image.Image:
    """A map over the gray version of the picture that it is about, with its scale, as an RGB picture.

    Each pixel is ``opacity * color + (1 - opacity) * gray``, and so are the colors of the scale (over middle gray).

    Args:
        image: (C, H, W) in [0, 1], any C: three channels are reduced to their luma, four are laid on white first,
            other numbers are averaged.
        values: (h, w) with h <= H and w <= W, float; a smaller grid is enlarged bilinearly to the image.
        opacity: share of the map, from 0 to 1.
        signed, scale, title, caption, limit: as for ``heat_map``; the default limit is that of ``values`` as given.

    Raises:
        CallError: as ``heat_map`` and ``to_picture``; also a map larger than the image, or an opacity outside [0, 1].
    """
    gray, plane = _gray(as_image(image)), as_floats(values, "a map", ("H", "W"))
    _check_overlay(gray, plane, opacity)
    meaning = scale_of(plane, signed=signed, limit=limit)
    colors = colored(_resized(plane, gray.shape), meaning)
    picture = _grown(Image.fromarray(_mixed(colors, 255 * gray[..., None], opacity)))
    colors = _mixed(table(signed), np.array(127.5), opacity)
    return _plate(picture, title, caption, meaning if scale else None, colors)


def _check_overlay(gray: NDArray[np.float64], plane: NDArray[np.float64], opacity: float) -> None:
    if not 0 <= opacity <= 1:
        raise CallError(f"the opacity of a map lies between 0 and 1, not at {opacity}")
    if plane.shape[0] > gray.shape[0] or plane.shape[1] > gray.shape[1]:
        raise CallError(f"the map {plane.shape} is larger than the image {gray.shape}; give the image that it is about")


def _gray(image: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(image) not in (3, 4):
        return image.mean(axis=0)
    alpha = image[3] if len(image) == 4 else np.ones(image.shape[1:])
    return alpha * np.tensordot([0.299, 0.587, 0.114], image[:3], 1) + 1 - alpha


def _resized(plane: NDArray[np.float64], size: tuple[int, ...]) -> NDArray[np.float64]:
    if plane.shape == size:
        return plane
    batch = torch.from_numpy(plane)[None, None]
    return torch.nn.functional.interpolate(batch, size=size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _mixed(colors: NDArray[np.uint8], gray: NDArray[np.float64], opacity: float) -> NDArray[np.uint8]:
    return np.floor(opacity * colors + (1 - opacity) * gray + 0.5).astype(np.uint8)


def _grown(picture: Image.Image) -> Image.Image:
    # Long strips are enlarged less, so that a map of 2 x 500 does not become 56,000 pixels wide.
    most = max(1, _LONG // max(picture.size))
    return enlarged(picture, min(_SHORT, most * min(picture.size)))


def _plate(
    picture: Image.Image, title: str, caption: str, scale: Scale | None, colors: NDArray[np.uint8]
) -> Image.Image:
    if scale is None and not title and not caption:
        return picture
    whole = picture if scale is None else _beside(picture, scale_bar(scale, colors, picture.height))
    above = lettering.wrap(title, LETTERS, whole.width, most=2)
    below = [] if scale is None else lettering.wrap(_legend(scale), LETTERS, whole.width)
    below += lettering.wrap(caption, LETTERS, whole.width, most=CAPTION)
    top = _MARGIN + _block(above)
    sheet = Image.new("RGB", (whole.width + 2 * _MARGIN, top + whole.height + _MARGIN + _block(below)), "white")
    sheet.paste(whole, (_MARGIN, top))
    lettering.write_lines(sheet, (_MARGIN, _MARGIN), above, LETTERS, lettering.INK)
    lettering.write_lines(sheet, (_MARGIN, top + whole.height + _MARGIN // 2), below, LETTERS, lettering.QUIET)
    return sheet


def _beside(picture: Image.Image, bar: Image.Image) -> Image.Image:
    # The bar is taller than the map by half a line at both ends, for the labels of its ends.
    whole = Image.new("RGB", (picture.width + _MARGIN + bar.width, bar.height), "white")
    whole.paste(picture, (0, OVERHANG))
    whole.paste(bar, (picture.width + _MARGIN, 0))
    return whole


def _legend(scale: Scale) -> str:
    factor = factor_of(scale)
    parts = [f"scale in units of {factor}" if factor else "", scale.note]
    return "; ".join(part for part in parts if part)


def _block(lines: list[str]) -> int:
    return len(lines) * lettering.line_height(LETTERS)
