"""Images that change in one window after another, and the activations that stay as they are beside it.

For searches that try a change in one window, the same for a batch of images, and keep it where it helps
(:mod:`inward.network.incremental` is for one image and many windows).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from inward.errors import InwardError
from inward.network.address import parse
from inward.network.crops import is_getitem, shape
from inward.network.incremental import Incremental, Interval, Step, incremental
from inward.network.layout import op_name
from inward.network.memory import linear_of_map
from inward.network.modes import exact
from inward.network.network import Network, node_of
from inward.types import Images, Size

# A way holds a few numbers for every operation of the network.
_MOST_WAYS = 1024
# What the further copies of a look cost, in multiply-adds.
_OVERHEAD = 2e7
_FLATTENED = {"view", "reshape", "flatten", "_unsafe_view"}


class Window(NamedTuple):
    """New values (N, C, h, w) of some rows and columns."""

    values: Tensor
    rows: Interval
    columns: Interval

    def of(self, images: Images) -> Tensor:
        """What images have there now; a view."""
        return images[:, :, slice(*self.rows), slice(*self.columns)]

    def onto(self, images: Images) -> Images:
        """The images with the new values."""
        changed = images.clone()
        self.of(changed).copy_(self.values)
        return changed


class _Laid(NamedTuple):
    """Where crops lie on something larger, as much of them as falls there: rows and columns of it, and of the crops."""

    onto: tuple[slice, slice]
    of: tuple[slice, slice]

    def lay(self, crops: Tensor, onto: Tensor) -> None:
        """Onto images (N, C, H, W)."""
        onto[:, :, self.onto[0], self.onto[1]] = crops[:, :, self.of[0], self.of[1]]

    def lay_some(self, crops: Tensor, onto: Tensor, numbers: Tensor) -> None:
        """Onto only the images with these numbers."""
        onto[:, :, self.onto[0], self.onto[1]][numbers] = crops[:, :, self.of[0], self.of[1]]


def _overlap(place: int, count: int, size: int) -> tuple[slice, slice]:
    """What of ``count`` lines from ``place`` on falls into ``size`` lines: of these, and of those."""
    low = max(0, place)
    high = max(low, min(size, place + count))
    return slice(low, high), slice(low - place, high - place)


class _Line(NamedTuple):
    """What a step reads around a crop along one axis: the held part, how much lies outside, and where the crop lies."""

    part: slice
    before: int
    after: int
    onto: slice
    of: slice

    @classmethod
    def of_step(cls, plan: Incremental, step: Step, source: fx.Node, axis: int, place: int) -> _Line:
        lines, whole = plan.boxes[source][axis], shape(source)[2 + axis]
        first, count = step.needs(axis)
        top = int(first[place]) - (0 if step.slide is None else step.slide.padding[axis])
        low, high = max(0, top), min(whole, top + count)
        laid = _overlap(int(lines.first[place]) - top, lines.count, count)
        return cls(slice(low, high), low - top, top + count - high, *laid)


class _Read(NamedTuple):
    """What a step reads around a crop: a part of the held activations, padded, the crop on it; or the crop alone."""

    part: tuple[slice, slice]
    outside: list[int]
    fill: float
    laid: _Laid

    @classmethod
    def of(cls, plan: _Plan, step: Step, source: fx.Node, place: Size) -> _Read:
        rows, columns = (plan.line(step, source, axis, place[axis]) for axis in (0, 1))
        outside = [columns.before, columns.after, rows.before, rows.after]
        return cls(
            (rows.part, columns.part),
            outside if any(outside) else [],
            0.0 if step.slide is None else step.slide.outside,
            _Laid((rows.onto, columns.onto), (rows.of, columns.of)),
        )

    def around(self, whole: Tensor, crops: Tensor, among: Tensor) -> Tensor:
        found = whole[:, :, self.part[0], self.part[1]]
        everyone = len(among) == len(whole)
        found = found if everyone else found[among]
        if self.outside:
            found = F.pad(found, self.outside, value=self.fill)
        elif everyone:
            found = found.clone()
        self.laid.lay(crops, found)
        return found


class _Head(NamedTuple):
    """A linear operation on the whole map that crops are laid onto: it is told of what changed alone.

    ``weight`` (K, C, H, W) for a map (C, H, W); ``last``: it lies in memory with the channels last.
    """

    node: fx.Node
    weight: Tensor
    bias: Tensor | None
    last: bool

    @classmethod
    def of(cls, plan: Incremental) -> _Head | None:
        """The one that alone reads the end of the crops."""
        _, channels, height, width = shape(plan.end)
        node, last = _linear_behind(plan.end)
        if node is None:
            return None
        held = [getattr(plan.graph.module, str(one.target)) for one in node.args[1:] if isinstance(one, fx.Node)]
        weight, bias = held[0], held[1] if len(held) > 1 else None
        if tuple(weight.shape[1:]) != (channels * height * width,):
            return None
        if last:
            return cls(node, weight.view(-1, height, width, channels).permute(0, 3, 1, 2), bias, last)
        return cls(node, weight.view(-1, channels, height, width), bias, last)

    def whole(self, maps: Tensor) -> Tensor:
        return F.linear(self._flat(maps), self._flat(self.weight), self.bias)

    def changed(self, before: Tensor, change: Tensor, laid: _Laid) -> Tensor:
        """What it gives of maps of which it gave ``before``, changed where the crops lie."""
        own = self.weight[:, :, laid.onto[0], laid.onto[1]]
        return torch.addmm(before, self._flat(change), self._flat(own).T)

    def _flat(self, maps: Tensor) -> Tensor:
        return (maps.permute(0, 2, 3, 1) if self.last else maps).flatten(1)


def _linear_behind(node: fx.Node) -> tuple[fx.Node | None, bool]:
    """The linear operation that alone reads a map, flattened on the way or by itself (then with its channels last)."""
    linear = [user for user in _readers(node) if op_name(user) == linear_of_map.__name__]
    flats = [user for user in _readers(node) if op_name(user) in _FLATTENED]
    behind = [user for flat in flats for user in _readers(flat)]
    if len(linear) + len(flats) < len(_readers(node)) or len(linear) + len(behind) != 1:
        return None, False
    if linear:
        return linear[0], True
    # Of a map flattened to one row an image; any other shape does not fit the weights.
    fits = op_name(behind[0]) == "linear" and len(shape(flats[0])) == 2 and behind[0].args[0] in flats
    return (behind[0] if fits else None), False


def _readers(node: fx.Node) -> list[fx.Node]:
    """Who reads a value, but for whoever asks for a point."""
    return [user for user in node.users if user.op != "output"]


class _Plan:
    """What is known of all windows of one extent."""

    def __init__(self, plan: Incremental) -> None:
        self.incremental, self.head = plan, _Head.of(plan)
        self.maps = plan.read()
        self.read = self.maps if self.head is None else [*self.maps, self.head.node]
        self.steps = [
            (step, {n: plan.is_cropped(step, n) for n in step.node.all_input_nodes if n in plan.boxes})
            for step in plan.steps
        ]
        # Windows have as many places as there are pixels, but share their rows and columns.
        self._lines: dict[tuple[fx.Node, fx.Node, int, int], _Line] = {}

    def line(self, step: Step, source: fx.Node, axis: int, place: int) -> _Line:
        key = (step.node, source, axis, place)
        if key not in self._lines:
            self._lines[key] = _Line.of_step(self.incremental, step, source, axis, place)
        return self._lines[key]


class _Way:
    """A plan for one window, worked out as far as it can be before there are any numbers.

    ``place``: its first row and its first column.
    """

    def __init__(self, plan: _Plan, place: Size) -> None:
        self.plan, self.read, self.head, self._place = plan.incremental, plan.read, plan.head, place
        self._steps = [
            (step, {n: _Read.of(plan, step, n, place) if cropped else None for n, cropped in reads.items()})
            for step, reads in plan.steps
        ]
        self.laid = {n: self._at_home(n) for n in (self.plan.image, *plan.maps)}

    def _at_home(self, node: fx.Node) -> _Laid:
        places = [
            _overlap(int(lines.first[at]), lines.count, whole)
            for lines, at, whole in zip(self.plan.boxes[node], self._place, shape(node)[2:], strict=True)
        ]
        (rows, own_rows), (columns, own_columns) = places
        return _Laid((rows, columns), (own_rows, own_columns))

    def crops(self, shown: Tensor, held: dict[fx.Node, Tensor], among: Tensor) -> dict[fx.Node, Any]:
        """What every step makes of changed windows, beside what is held."""
        crops: dict[fx.Node, Any] = {self.plan.image: shown}
        for step, reads in self._steps:
            crops[step.node] = self._made(step, reads, crops, held, among)
        return crops

    def _made(
        self,
        step: Step,
        reads: dict[fx.Node, _Read | None],
        crops: dict[fx.Node, Any],
        held: dict[fx.Node, Tensor],
        among: Tensor,
    ) -> Any:
        def read(node: fx.Node) -> Any:
            if node not in crops:
                return getattr(self.plan.graph.module, str(node.target))
            around = reads[node]
            return crops[node] if around is None else around.around(held[node], crops[node], among)

        if step.slide is not None:
            return step.slide.run(read(step.source), (step.box[0].count, step.box[1].count))
        if is_getitem(step.node):
            return crops[step.source][step.node.args[1]]
        return step.call(read)


class _Tried(NamedTuple):
    """The last change that was looked at: of which images, on which way, and the crops that it made."""

    window: Window
    among: Tensor
    way: _Way | None
    crops: dict[fx.Node, Any]


class Held:
    """A batch of images, and what the network makes of them as far as windows pay.

    Attributes:
        images: (N, C, H, W), with all changes that were kept.
    """

    def __init__(self, net: Network, key: str, images: Images) -> None:
        self.images = images.clone()
        self._net, self._key = net, key
        self._ways: dict[tuple[Interval, Interval], _Way | None] = {}
        self._plans: dict[Size, _Plan | None] = {}
        self._values: dict[fx.Node, Tensor] = {}
        # Of which images a held value is no longer that of the image; and of which values that is so of any.
        self._stale: dict[fx.Node, Tensor] = {}
        self._dirty: set[fx.Node] = set()
        self._tried: _Tried | None = None

    @torch.no_grad()
    def look(self, window: Window, among: Tensor) -> Tensor:
        """What the network says at the point ``key`` of the images with these numbers, changed in the window.

        To rounding what it says of the whole images.
        """
        way = self._way(window.rows, window.columns)
        values = window.values if len(among) == len(self.images) else window.values[among]
        changed = Window(values, window.rows, window.columns)
        if way is None:
            self._tried = _Tried(changed, among, None, {})
            (found,) = self._net.run(changed.onto(self.images[among]), [self._key])
            return found
        self._refresh(way)
        plan = way.plan
        with exact(self._net.device):
            crops = way.crops(self._net.shown(changed.values), self._values, among)
            node, given = self._end(way, crops[plan.end], among)
        self._tried = _Tried(changed, among, way, crops)
        # The images themselves are not read any more.
        (found,) = plan.graph.run(changed.values, [node_of(plan.graph, parse(self._key))], {node.name: given})
        return found

    def _end(self, way: _Way, crops: Tensor, among: Tensor) -> tuple[fx.Node, Tensor]:
        """Where the way ends, and what the images with these numbers have there."""
        whole, laid = self._values[way.plan.end], way.laid[way.plan.end]
        everyone = len(among) == len(whole)
        if (head := way.head) is None:
            given = whole.clone() if everyone else whole[among]
            laid.lay(crops, given)
            return way.plan.end, given
        was, before = whole[:, :, laid.onto[0], laid.onto[1]], self._values[head.node]
        was, before = (was, before) if everyone else (was[among], before[among])
        return head.node, head.changed(before, crops[:, :, laid.of[0], laid.of[1]] - was, laid)

    def changed(self, which: Tensor) -> Images:
        """Of the images last looked at those with these places, with the change."""
        tried = self._last()
        return tried.window._replace(values=tried.window.values[which]).onto(self.images[tried.among[which]])

    @torch.no_grad()
    def keep(self, which: Tensor) -> None:
        """Keeps the last change, of the images with these places among those looked at."""
        tried = self._last()
        numbers = tried.among[which]
        tried.window.of(self.images)[numbers] = tried.window.values[which]
        way = tried.way
        for node, value in self._values.items():
            if way is not None and node in way.laid:
                way.laid[node].lay_some(tried.crops[node][which], value, numbers)
            elif way is not None and way.head is not None and node is way.head.node:
                # Anew from the whole map, so that rounding does not add up.
                value[numbers] = way.head.whole(self._values[way.plan.end][numbers])
            else:
                self._stale[node][numbers] = True
                self._dirty.add(node)

    def select(self, images: Tensor) -> None:
        """Goes on with only these images."""
        self.images = self.images[images]
        self._values = {node: value[images] for node, value in self._values.items()}
        self._stale = {node: stale[images] for node, stale in self._stale.items()}
        self._tried = None

    def _last(self) -> _Tried:
        if self._tried is None:
            raise InwardError("no change has been looked at since images left the batch")
        return self._tried

    def _way(self, rows: Interval, columns: Interval) -> _Way | None:
        if (rows, columns) not in self._ways:
            if len(self._ways) >= _MOST_WAYS:
                self._ways.clear()
            plan = self._plan((rows[1] - rows[0], columns[1] - columns[0]))
            self._ways[rows, columns] = None if plan is None else _Way(plan, (rows[0], columns[0]))
        return self._ways[rows, columns]

    def _plan(self, extent: Size) -> _Plan | None:
        if extent not in self._plans:
            size = (self.images.shape[2], self.images.shape[3])
            rows, columns = ([(i, i + e) for i in range(n - e + 1)] for n, e in zip(size, extent, strict=True))
            least = _OVERHEAD / len(self.images)
            found = incremental(self._net, [self._key], size, rows, columns, least=least)
            self._plans[extent] = None if found is None else _Plan(found)
        return self._plans[extent]

    def _refresh(self, way: _Way) -> None:
        """Computes what the way reads and is not held, or no longer right."""
        for node in way.read:
            if node not in self._stale:
                self._stale[node] = torch.ones(len(self.images), dtype=torch.bool, device=self.images.device)
                self._dirty.add(node)
        if self._dirty.isdisjoint(way.read):
            return
        self._dirty.difference_update(way.read)
        old = torch.stack([self._stale[node] for node in way.read]).any(0).nonzero()[:, 0]
        # Images that had changed may have left the batch.
        if len(old) == 0:
            return
        shown = self._net.shown(self.images[old])
        names = [node.name for node in way.read if node is not way.plan.image]
        made = dict(zip(names, way.plan.graph.run(shown, names), strict=True))
        for node in way.read:
            value = shown if node is way.plan.image else made[node.name]
            held = self._values.get(node)
            self._values[node] = value.clone() if held is None else held.index_copy_(0, old, value)
            self._stale[node][:] = False
