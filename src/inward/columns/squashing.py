"""From plain numbers to colors and back: ``x = sigmoid(C y)``.

C decorrelates colors where there are three: the square root of the covariance of the colors of
natural images (ImageNet), with its longest column made one. Olah, Mordvintsev and Schubert,
"Feature visualization", 2017.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from inward.errors import CallError
from inward.types import Images

_COLOR = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


def squash(plain: Images, decorrelate: bool) -> Images:
    """Colors in (0, 1) of numbers without bounds."""
    return torch.sigmoid(correlated(plain) if decorrelate else plain)


def unsquash(images: Images, edge: float, decorrelate: bool) -> Images:
    """What ``squash`` makes these images of; values closer than ``edge`` to 0 and 1 are moved inside."""
    plain = torch.logit(images.detach().clamp(edge, 1 - edge))
    return decorrelated(plain) if decorrelate else plain


def correlated(plain: Images) -> Images:
    """C y for three channels; any other number of them is left as it is."""
    return _mixed(_matrix(plain.dtype, plain.device), plain) if plain.shape[1] == 3 else plain


def decorrelated(plain: Images) -> Images:
    """The inverse of ``correlated``."""
    return _mixed(_inverse(plain.dtype, plain.device), plain) if plain.shape[1] == 3 else plain


def check_edge(edge: float) -> None:
    """Raises CallError for an edge that leaves no values."""
    if not 0 < edge < 0.5:
        raise CallError(f"the edge is between 0 and 0.5, not {edge}")


def _mixed(matrix: Tensor, plain: Images) -> Images:
    return (matrix @ plain.flatten(2)).view(plain.shape)


@lru_cache(maxsize=8)
def _matrix(dtype: torch.dtype, device: torch.device) -> Tensor:
    # A constant made in inference mode could not be used in a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        matrix = torch.tensor(_COLOR, dtype=dtype, device=device)
        return matrix / matrix.norm(dim=0).max()


@lru_cache(maxsize=8)
def _inverse(dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return torch.linalg.inv(_matrix(dtype, device))
