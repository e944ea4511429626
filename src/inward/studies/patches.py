"""What a unit saw where it was most excited: patches of the pictures, as the network was shown them."""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from inward import draw
from inward.errors import CallError
from inward.network.network import Network
from inward.network.receptive import Box
from inward.pictures import read
from inward.studies.activations import Activations

_AT_LEAST = 112


def patch(file: str | Path, net: Network, box: Box) -> Float[Tensor, "c h w"]:
    """The pixels of a box, (C, h, w) in [0, 1], of a picture resized and cropped as the network sees it.

    A box that leaves the picture gives the part inside.

    Raises:
        CallError: for a box that lies outside or is empty.
        InwardError: for a file that is no picture.
    """
    inside = box.within(net.size)
    if inside.height < 1 or inside.width < 1:
        raise CallError(f"{box} holds no pixel of a picture of {net.size[0]} x {net.size[1]}; give one that does")
    return crop(read(file, net)[0], inside)


def crop(image: Tensor, box: Box) -> Tensor:
    """The pixels of a box inside an image (C, H, W); the whole image where a unit sees nothing of it."""
    if box.height < 1 or box.width < 1:
        return image
    return image[:, box.top : box.bottom, box.left : box.right]


def sheet(study: Activations, net: Network, address: str) -> Image.Image:
    """The patches that excite a unit most, largest first, each with its activation as an RGB picture.

    Raises:
        CallError: for a unit that the study does not have, or a study that has not seen a picture.
        InwardError: for a picture that is gone.
    """
    examples = study.top(address)
    if not examples:
        raise CallError("the study has not seen a picture yet; let it run first")
    patches = [crop(read(e.file, net)[0], e.box) for e in examples]
    pictures = [draw.to_picture(p) for p in patches]
    # One factor for all: a patch at the edge of a picture is smaller, and must look so.
    factor = max(1, -(-_AT_LEAST // max(max(p.size) for p in pictures)))
    pictures = [p.resize((p.width * factor, p.height * factor), Image.Resampling.NEAREST) for p in pictures]
    return draw.grid(pictures, captions=[f"{e.value:.4g}" for e in examples])
