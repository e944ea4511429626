"""Activations of a batch of images, and what a change of windows makes of them beside what stays as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.network.crops import is_getitem
from inward.network.modes import exact
from inward.types import Images, Size

if TYPE_CHECKING:
    from inward.network.incremental import Incremental, Step

_Fill = tuple[fx.Node, float]
"""Held activations, and what lies outside of them for an operation that reads them."""


class Windows(NamedTuple):
    """Windows of several images, each (M,): the image, and the numbers of its intervals among those of the plan.

    Of a plan for every place of one extent these are the first row and the first column.
    """

    owners: Tensor
    rows: Tensor
    columns: Tensor

    def select(self, which: Tensor) -> Windows:
        """Of the windows with these numbers."""
        return Windows(*(numbers[which] for numbers in self))


def views(held: Tensor, extent: Size) -> Tensor:
    """All windows (N, places, places, h, w, C) of images (N, H, W, C): a view, to be read and written by place."""
    (count, height, width, channels), (of_image, of_row, of_column, of_channel) = held.shape, held.stride()
    places = (height - extent[0] + 1, width - extent[1] + 1)
    strides = (of_image, of_row, of_column, of_row, of_column, of_channel)
    return held.as_strided((count, *places, *extent, channels), strides, held.storage_offset())


def cut(images: Images, extent: Size, owners: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """Windows (M, C, h, w) of images (N, C, H, W): of the owner of each, from a first row and a first column on."""
    return views(images.permute(0, 2, 3, 1), extent)[owners, tops, lefts].permute(0, 3, 1, 2)


class _Line(NamedTuple):
    """What a step reads along one axis, for every interval of pixels.

    Attributes:
        tops: the first position of the held activations that it reads; below 0 outside.
        taken: how many it reads.
        margin: how many further ones before and behind there must be for the whole crop to have room.
        onto: where the crop lies in what is read, the margin included.
        crop: how long the crop is.
        whole: how many positions are held.
    """

    tops: Tensor
    taken: int
    margin: tuple[int, int]
    onto: Tensor
    crop: int
    whole: int

    @classmethod
    def of(cls, plan: Incremental, step: Step, source: fx.Node, axis: int) -> _Line:
        lines, (needed, count) = plan.boxes[source][axis], step.needs(axis)
        tops = needed - (0 if step.slide is None else step.slide.padding[axis])
        onto = lines.first - tops
        before, behind = max(0, -int(onto.min())), max(0, int(onto.max()) + lines.count - count)
        first = torch.from_numpy(tops - before)
        return cls(first, count, (before, behind), torch.from_numpy(onto + before), lines.count, lines.size)

    @property
    def length(self) -> int:
        """With the margins."""
        return self.taken + sum(self.margin)

    @property
    def outside(self) -> tuple[int, int]:
        """How many positions are read before the first and behind the last."""
        return max(0, -int(self.tops.min())), max(0, int(self.tops.max()) + self.length - self.whole)


class Read:
    """What one step reads of one source: held activations around crops that were changed."""

    def __init__(self, plan: Incremental, step: Step, source: fx.Node) -> None:
        self.fill: _Fill = (source, 0.0 if step.slide is None else step.slide.outside)
        self.lines = tuple(_Line.of(plan, step, source, axis) for axis in (0, 1))

    def around(self, frame: _Frame, crops: Tensor, windows: Windows) -> Tensor:
        """(M, C, h, w), of crops (M, C, ...) of the source."""
        down, across = self.lines
        top, left = down.tops[windows.rows] + frame.above, across.tops[windows.columns] + frame.left
        found = views(frame.values, (down.length, across.length))[windows.owners, top, left]
        each = torch.arange(len(found), device=found.device)
        onto = views(found, (down.crop, across.crop))
        onto[each, down.onto[windows.rows], across.onto[windows.columns]] = crops.permute(0, 2, 3, 1)
        (before, _), (ahead, _) = down.margin, across.margin
        return found[:, before : before + down.taken, ahead : ahead + across.taken].permute(0, 3, 1, 2)


class _Frame:
    """Held activations (N, H, W, C), with as much outside of them as any step reads."""

    def __init__(self, value: Tensor, fill: float, reads: list[Read]) -> None:
        (above, below), (left, right) = (
            tuple(max((read.lines[axis].outside[side] for read in reads), default=0) for side in (0, 1))
            for axis in (0, 1)
        )
        self.above, self.left = above, left
        # Channels last, so that a position is one piece of memory.
        padded = F.pad(value, (left, right, above, below), value=fill).permute(0, 2, 3, 1)
        self.values = padded.clone(memory_format=torch.contiguous_format)

    def keep(self, crops: Tensor, owners: Tensor, top: Tensor, left: Tensor) -> None:
        onto = views(self.values, (crops.shape[2], crops.shape[3]))
        onto[owners, top + self.above, left + self.left] = crops.permute(0, 2, 3, 1)


class Beside:
    """What is known of images (N, C, H, W), beside which windows change."""

    def __init__(self, plan: Incremental, images: Images) -> None:
        self.plan = plan
        shown, nodes = plan.net.shown(images), plan.read()
        names = [node.name for node in nodes if node is not plan.image]
        with torch.no_grad():
            made = {plan.image.name: shown, **dict(zip(names, plan.graph.run(shown, names), strict=True))}
        end = made[plan.end.name]
        self._channels_last = not end.is_contiguous() and end.is_contiguous(memory_format=torch.channels_last)
        self._frames = {
            (node, fill): _Frame(made[node.name], fill, [r for r in plan.reads.values() if r.fill == (node, fill)])
            for node, fill in dict.fromkeys(read.fill for read in plan.reads.values())
        }
        self._end = _Frame(end, 0.0, [])

    def unchanged(self) -> Tensor:
        """The activations (N, ...) of the point for the images as they are."""
        return self._ordered(self._end.values)

    def crops(self, values: Tensor, windows: Windows) -> dict[fx.Node, Any]:
        """What every step makes of windows (M, C, h, w) with other values: as much as it can change."""
        plan = self.plan
        crops: dict[fx.Node, Any] = {plan.image: plan.net.shown(values)}
        with torch.no_grad(), exact(plan.net.device):
            for step in plan.steps:
                crops[step.node] = self._made(step, crops, windows)
        return crops

    def whole(self, crops: dict[fx.Node, Any], windows: Windows) -> Tensor:
        """The activations (M, ...) of the point for images changed in one window each, to rounding."""
        found, end = self._end.values[windows.owners], crops[self.plan.end]
        top, left = self._home(self.plan.end, windows)
        each = torch.arange(len(found), device=found.device)
        views(found, (end.shape[2], end.shape[3]))[each, top, left] = end.permute(0, 2, 3, 1)
        return self._ordered(found)

    def changed(self, images: Images, windows: Windows) -> Tensor:
        """The activations (M, ...) of the point for images (M, C, H, W), each another than its owner in its window."""
        each = torch.arange(len(images), device=images.device)
        rows, columns = self.plan.boxes[self.plan.image]
        values = cut(images, (rows.count, columns.count), each, *self._home(self.plan.image, windows))
        return self.whole(self.crops(values, windows), windows)

    def keep(self, crops: dict[fx.Node, Any], windows: Windows, which: Tensor) -> None:
        """Changes the images themselves by the crops with these numbers, each image by one at most."""
        kept = windows.select(which)
        for node, frame in [*((node, frame) for (node, _), frame in self._frames.items()), (self.plan.end, self._end)]:
            frame.keep(crops[node][which], kept.owners, *self._home(node, kept))

    def select(self, images: Tensor) -> None:
        """Goes on with only these images."""
        for frame in (*self._frames.values(), self._end):
            frame.values = frame.values[images]

    def _made(self, step: Step, crops: dict[fx.Node, Any], windows: Windows) -> Any:
        def read(node: fx.Node) -> Any:
            if node not in crops:
                return getattr(self.plan.graph.module, str(node.target))
            around = self.plan.reads.get((step.node, node))
            return crops[node] if around is None else around.around(self._frames[around.fill], crops[node], windows)

        if step.slide is not None:
            return step.slide.run(read(step.source), (step.box[0].count, step.box[1].count))
        if is_getitem(step.node):
            return crops[step.source][step.node.args[1]]
        return step.call(read)

    def _home(self, node: fx.Node, windows: Windows) -> tuple[Tensor, Tensor]:
        """Where the crops of a node begin in the whole."""
        rows, columns = (torch.from_numpy(lines.first) for lines in self.plan.boxes[node])
        return rows[windows.rows], columns[windows.columns]

    def _ordered(self, end: Tensor) -> Tensor:
        """(N, H, W, C) as the graph gives it and its next operations take it."""
        found = end.permute(0, 3, 1, 2)
        return found if self._channels_last else found.contiguous()
