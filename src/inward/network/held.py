"""Images that change in one window after another, and the activations that stay as they are beside it.

For searches that try changes in windows of a batch of images, and keep those that help.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from inward.errors import InwardError
from inward.network.address import parse
from inward.network.beside import Beside, Windows
from inward.network.incremental import Incremental, incremental
from inward.network.network import Network, node_of
from inward.network.room import multiply_adds_of
from inward.types import Images, Size

# What the further copies of a look cost, in multiply-adds.
_OVERHEAD = 2e7


class Changes(NamedTuple):
    """New values (M, C, h, w) of windows of several images: the image, the first row and the first column of each.

    ``owners``, ``tops`` and ``lefts`` are (M,).
    """

    values: Tensor
    owners: Tensor
    tops: Tensor
    lefts: Tensor

    @classmethod
    def whole(cls, values: Images, owners: Tensor) -> Changes:
        """All of these images."""
        return cls(values, owners, torch.zeros_like(owners), torch.zeros_like(owners))

    @property
    def extent(self) -> Size:
        """Height and width of the windows."""
        return self.values.shape[2], self.values.shape[3]

    @property
    def windows(self) -> Windows:
        """Where they lie, among all windows of this extent."""
        return Windows(self.owners, self.tops, self.lefts)

    def keep(self, images: Images) -> None:
        """Changes the images themselves, each in one window at most."""
        # Not through a view of all windows: they overlap, which writing does not always bear (deterministic on CUDA).
        height, width = (torch.arange(n, device=images.device) for n in self.extent)
        rows, columns = self.tops[:, None, None] + height[:, None], self.lefts[:, None, None] + width
        images[self.owners[:, None, None], :, rows, columns] = self.values.permute(0, 2, 3, 1)

    def onto(self, images: Images) -> Tensor:
        """The changed images, (M, C, H, W)."""
        changed = images[self.owners]
        self._replace(owners=torch.arange(len(changed), device=changed.device)).keep(changed)
        return changed

    def select(self, which: Tensor) -> Changes:
        """Of the changes with these numbers."""
        return Changes(*(each[which] for each in self))


class _Looked(NamedTuple):
    """The last changes that were looked at, and the crops that they made, if any."""

    changes: Changes
    crops: dict[fx.Node, Any] | None


class Held:
    """A batch of images, and what the network makes of them as far as windows of the last extent pay.

    Attributes:
        images: (N, C, H, W), with all changes that were kept.
    """

    def __init__(self, net: Network, key: str, images: Images) -> None:
        self.images = images.clone()
        self._net, self._key = net, key
        self._plans: dict[Size, Incremental | None] = {}
        self._beside: tuple[Size, Beside] | None = None
        self._looked: _Looked | None = None

    @torch.no_grad()
    def look(self, changes: Changes) -> Tensor:
        """What the network says at the point ``key`` of changed images, (M, ...): to rounding that of whole ones."""
        plan = self.plan(changes.extent)
        if plan is None:
            self._looked = _Looked(changes, None)
            (found,) = self._net.run(changes.onto(self.images), [self._key])
            return found
        beside = self._known(changes.extent)
        crops = beside.crops(changes.values, changes.windows)
        self._looked = _Looked(changes, crops)
        given = {plan.end.name: beside.whole(crops, changes.windows)}
        # Mostly the images themselves are not read any more.
        images = self._net.shown(changes.onto(self.images)) if plan.again else changes.values
        (found,) = plan.graph.run(images, [node_of(plan.graph, parse(self._key))], given)
        return found

    def changed(self, which: Tensor) -> Images:
        """Those of the images last looked at, with the change."""
        return self._last().changes.select(which).onto(self.images)

    @torch.no_grad()
    def keep(self, which: Tensor) -> None:
        """Keeps those of the last changes, at most one an image."""
        changes, crops = self._last()
        changes.select(which).keep(self.images)
        if crops is None:
            self._beside = None
        else:
            self._known(changes.extent).keep(crops, changes.windows, which)

    def select(self, images: Tensor) -> None:
        """Goes on with only these images."""
        self.images, self._looked = self.images[images], None
        if self._beside is not None:
            self._beside[1].select(images)

    def plan(self, extent: Size) -> Incremental | None:
        """The way to the point for windows of this extent, or None where whole images are as fast."""
        if extent not in self._plans:
            size = (self.images.shape[2], self.images.shape[3])
            rows, columns = ([(i, i + e) for i in range(n - e + 1)] for n, e in zip(size, extent, strict=True))
            least = _OVERHEAD / len(self.images)
            self._plans[extent] = incremental(self._net, [self._key], size, rows, columns, least=least)
        return self._plans[extent]

    def cost(self, extent: Size) -> float:
        """About how many multiply-adds a change of this extent takes; 0 where that is not known."""
        plan = self.plan(extent)
        return self._whole if plan is None else plan.cost

    @cached_property
    def _whole(self) -> int:
        return multiply_adds_of(self._net, [self._key], (self.images.shape[2], self.images.shape[3]))

    def _last(self) -> _Looked:
        if self._looked is None:
            raise InwardError("no change has been looked at since images left the batch")
        return self._looked

    def _known(self, extent: Size) -> Beside:
        if self._beside is None or self._beside[0] != extent:
            plan = self.plan(extent)
            assert plan is not None  # noqa: S101
            self._beside = extent, plan.beside(self.images)
        return self._beside[1]
