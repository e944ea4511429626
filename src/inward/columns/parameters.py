"""What every parameterization is: ``init(image) -> parameters``, ``image(parameters) -> image``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from inward.errors import CallError, numbered, there_are
from inward.types import Images


class Parameterization(ABC):
    """A pair of functions."""

    @property
    def pixels(self) -> bool:
        """Whether the parameters are the image, so that constraints can be kept exactly."""
        return False

    @abstractmethod
    def init(self, images: Images, seeds: Sequence[int] = ()) -> list[Tensor]:
        """The parameters of these images; what an image does not tell is drawn from its seed."""

    @abstractmethod
    def image(self, parameters: list[Tensor], like: Images) -> Images:
        """The pictures, of the batch, size, dtype and device of ``like``."""

    def opaque(self, images: Images) -> Images:
        """The pictures as a network can take them, also where they have an alpha channel."""
        return images


def seeds_of(images: Images, seeds: Sequence[int]) -> list[int]:
    """One seed an image, 0 where none is given. Raises CallError for a number of seeds that is not the batch's."""
    if len(seeds) not in (0, len(images)):
        raise CallError(f"{there_are(len(seeds), 'seed')} for {numbered(len(images), 'image')}; give one an image")
    return list(seeds) or [0] * len(images)
