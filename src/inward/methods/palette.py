"""Luminance and colors of pictures, apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from inward.methods.redrawing import resized, size_of
from inward.types import Images

# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


def luminance(images: Images) -> Float[Tensor, "n 1 h w"]:
    """How light every pixel is, (N, 1, H, W); of pictures that have not three channels the mean of these."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    return (images * torch.tensor(_LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)).sum(
        1, keepdim=True
    )


def luminance_alike(picture: Images, content: Float[Tensor, "m c tall wide"]) -> Images:
    """The luminance of a picture, with the mean and the spread of another's, in all of its channels.

    Gatys, Bethge, Hertzmann and Shechtman, "Preserving color in neural artistic style transfer", 2016. Of a batch of
    others the mean and the spread are those of all of them.
    """
    given, wanted = luminance(picture), luminance(content)
    spread = given.std().clamp_min(torch.finfo(given.dtype).eps)
    return ((given - given.mean()) / spread * wanted.std() + wanted.mean()).clamp(0, 1).expand_as(picture)


def recolored(images: Images, *, content: Float[Tensor, "n c tall wide"]) -> Images:
    """The luminance of pictures under the colors of others, which are brought to their size."""
    own = resized(content, size_of(images)).to(images)
    return (own - luminance(own) + luminance(images)).clamp(0, 1)
