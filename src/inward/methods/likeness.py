"""How like a picture is to another one."""

from __future__ import annotations

import torch
from torch import Tensor

from inward.types import Images

# The window of SSIM is 7 pixels wide.
_SMALLEST = 7


def psnr(images: Images, others: Images) -> Tensor:
    """The peak signal-to-noise ratio of each in dB, (N,), of values in [0, 1]; infinite of equal pictures."""
    errors = (images.double().cpu() - others.double().cpu()).square().flatten(1).mean(1)
    return -10 * torch.log10(errors)


def ssim(images: Images, others: Images) -> Tensor:
    """The structural similarity of each, (N,), 1 of equal pictures: scikit-image's, over windows of 7 pixels.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
    2004. NaN of pictures smaller than the window.
    """
    # It takes long to import, and what else is here needs none of it.
    from skimage.metrics import structural_similarity

    if min(images.shape[2:]) < _SMALLEST:
        return torch.full((len(images),), torch.nan, dtype=torch.float64)
    pairs = zip(images.double().cpu().numpy(), others.double().cpu().numpy(), strict=True)
    found = [structural_similarity(a, b, channel_axis=0, data_range=1.0, win_size=_SMALLEST) for a, b in pairs]
    return torch.tensor(found, dtype=torch.float64)
