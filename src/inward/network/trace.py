"""What a run of a network gave: address -> tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from inward.errors import CallError
from inward.network.address import Address
from inward.network.layout import Layout
from inward.types import Images, Logits, Pictures

if TYPE_CHECKING:
    from inward.network.network import Network


class Trace(Mapping[str, Tensor]):
    """Activations by address, differentiable with respect to the images.

    ``trace["mixed4a"]`` is the tensor as the network holds it; ``trace["mixed4a/97"]`` one unit,
    (N, H, W) where there is a grid (class tokens left out), (N,) for a vector;
    ``trace["mixed4a/97@6,6"]`` one neuron, (N,). ``trace.images`` are the images in [0, 1] that the
    network was shown, ``trace.picture`` what they were made from by an augmentation (else the same).
    """

    def __init__(
        self, network: Network, images: Images, values: dict[str, Tensor], picture: Pictures | None = None
    ) -> None:
        self.images = images
        self.picture = images if picture is None else picture
        self._network = network
        self._values = values

    def __getitem__(self, address: str) -> Tensor:
        parsed = self._network.resolve(address, self._size)
        value = self._value(parsed, address)
        if parsed.unit is None:
            return value
        unit = _unit(self.layout(address).features(value), parsed.unit)
        return unit if parsed.place is None else unit[:, parsed.place[0], parsed.place[1]]

    def features(self, address: str) -> Tensor:
        """The whole point as (N, C, ...): features second, then the grid, whatever the network's layout."""
        return self.layout(address).features(self._value(self._network.resolve(address, self._size), address))

    def layout(self, address: str) -> Layout:
        """The layout of the point."""
        return self._network.layout_of(self._network.resolve(address, self._size), self._size)

    def probabilities(self, logits: Logits) -> Logits:
        """Of logits (N, K) the probabilities, as the network that made them means them."""
        return self._network.probabilities(logits)

    def split(self, size: int = 1) -> list[Trace]:
        """The traces of every ``size`` neighboring images."""
        images, pictures = self.images.split(size), self.picture.split(size)
        parts = {key: value.split(size, self._batch_axis(key)) for key, value in self._values.items()}
        return [
            Trace(self._network, images[i], {key: part[i] for key, part in parts.items()}, pictures[i])
            for i in range(len(images))
        ]

    def again(self) -> Trace:
        """The same points of another run of the network, cut off from what made the images.

        The values are others where the network draws random numbers.
        """
        moved = torch.is_grad_enabled() and (self.images.requires_grad or self.picture.requires_grad)
        images = self.images.detach().requires_grad_(moved)
        picture = images if self.picture is self.images else self.picture.detach().requires_grad_(moved)
        values = self._network.run(images, list(self._values))
        return Trace(self._network, images, dict(zip(self._values, values, strict=True)), picture)

    def _batch_axis(self, key: str) -> int:
        axes = self.layout(key).axes
        return axes.index("n") if "n" in axes else 0

    def _value(self, parsed: Address, asked: str) -> Tensor:
        key = point_key(parsed)
        if key not in self._values:
            raise CallError(f"'{asked}' was not traced; ask for it in net.trace(images, ['{asked}'])")
        return self._values[key]

    @property
    def _size(self) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]

    def __contains__(self, address: object) -> bool:
        """Whether ``trace[address]`` gives a tensor."""
        try:
            return isinstance(address, str) and self[address] is not None
        except CallError:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _unit(features: Tensor, unit: int) -> Tensor:
    """One feature. Its gradient lies in memory as the features do, and need not be rearranged on its way back."""
    if features.ndim == 4 and features.stride(1) == 1:
        return features.permute(0, 2, 3, 1)[..., unit]
    return features[:, unit]


def point_key(parsed: Address) -> str:
    """The address of the whole point that an address lies in."""
    if parsed.output is not None:
        return "class" if parsed.output == 0 else f"class@{parsed.output}"
    return parsed.point
