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
    """How light every pixel is, (N, 1, H, W): of three colors, alpha left out; of other channels the mean."""
    if images.shape[1] not in (3, 4):
        return images.mean(1, keepdim=True)
    shares = torch.tensor(_LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images[:, :3] * shares).sum(1, keepdim=True)


def luminance_alike(
    picture: Float[Tensor, "1 c h w"], content: Float[Tensor, "m c tall wide"]
) -> Float[Tensor, "m c h w"]:
    """The luminance of a picture, with the mean and the spread of each of others, in all of its channels.

    Gatys, Bethge, Hertzmann and Shechtman, "Preserving color in neural artistic style transfer", 2016.
    """
    given, wanted = luminance(picture), luminance(content)
    unit = (given - given.mean()) / given.std().clamp_min(torch.finfo(given.dtype).eps)
    middle, spread = wanted.mean((1, 2, 3), keepdim=True), wanted.flatten(1).std(1).view(-1, 1, 1, 1)
    return (unit * spread + middle).clamp(0, 1).expand(-1, picture.shape[1], -1, -1)


def recolored(images: Images, *, content: Float[Tensor, "n c tall wide"]) -> Images:
    """The luminance of pictures under the colors of others, which are brought to their size."""
    own = resized(content, size_of(images)).to(images)
    found = (own - luminance(own) + luminance(images)).clamp(0, 1)
    return found if own.shape[1] != 4 else torch.cat([found[:, :3], own[:, 3:]], 1)
