"""What real pictures excite the units of a network: one pass over a folder of them.

After the dataset examples of Zeiler and Fergus, "Visualizing and understanding convolutional networks",
2014. The memory of a pass does not grow with the pictures, it can be stopped and goes on where it was, and
the answer is that of a pass without a stop, to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from inward.decoding import MOST_PIXELS
from inward.errors import CallError, InwardError
from inward.network.address import nearest, parse
from inward.network.network import Network
from inward.network.receptive import Box, Field, receptive_fields
from inward.network.stages import blocks
from inward.network.trace import point_key
from inward.pictures import find, read
from inward.studies import folder as folders
from inward.studies.statistics import Statistics, edges
from inward.types import Size

# Pictures between two writings of what is known: a minute or so of a small network.
EVERY = 256
OnBatch = Callable[[int, int], None]


class Example(NamedTuple):
    """A picture that excites a unit: its value there, the position (y, x; None without a grid), the pixels it sees."""

    file: Path
    value: float
    place: tuple[int, int] | None
    box: Box


@dataclass(frozen=True, eq=False)
class Activations:
    """What a pass over pictures found.

    Attributes:
        files: the pictures, in order.
        seen: how many of them have been looked at; all, but for a pass that was stopped.
        k: the pictures kept of each unit.
        size: height and width at which the network was shown them.
        points: the statistics of each point, by its address.
        fields: the receptive fields of each point.
        grids: height and width of each point's grid; None where it has none.
    """

    files: tuple[Path, ...]
    seen: int
    k: int
    size: Size
    points: Mapping[str, Statistics]
    fields: Mapping[str, Field]
    grids: Mapping[str, tuple[int, int] | None]

    def maximum(self, address: str) -> float:
        """The largest activation of a unit, over pictures and positions."""
        statistics, unit, _ = self._unit(address)
        return statistics.values[unit, 0].item()

    def largest_mean(self, address: str) -> float:
        """The largest mean over positions of a unit, over the pictures: the ``Channel`` objective."""
        statistics, unit, _ = self._unit(address)
        return statistics.means[unit].item()

    def histogram(self, address: str) -> tuple[Tensor, Tensor]:
        """The edges of the bins, (B + 1,) float64, and how many activations are in each, (B,) int64.

        The bins are the same for every unit: see :mod:`~inward.studies.statistics`.
        """
        statistics, unit, _ = self._unit(address)
        return edges(), statistics.counts[unit]

    def top(self, address: str) -> list[Example]:
        """The pictures in which a unit is largest, at most ``k``, and one place in each (the first of equals).

        Of equal values the earlier picture comes first. The box is what the unit sees there, inside the picture.
        """
        statistics, unit, key = self._unit(address)
        kept = zip(statistics.values[unit], statistics.images[unit], statistics.places[unit], strict=True)
        return [self._example(key, v.item(), int(i), int(p)) for v, i, p in kept if i >= 0]

    def _example(self, key: str, value: float, image: int, position: int) -> Example:
        grid = self.grids[key]
        place = None if grid is None else divmod(position, grid[1])
        return Example(self.files[image], value, place, self.fields[key].box(place))

    def _unit(self, address: str) -> tuple[Statistics, int, str]:
        parsed = parse(address)
        key = point_key(parsed)
        if key not in self.points:
            raise CallError(f"the study has no point '{key}'; the nearest: {nearest(key, self.points)}")
        if parsed.unit is None or parsed.place is not None:
            raise CallError(f"'{address}' is not a unit; write {key}/0 or {key}:0 for a class")
        units = len(self.points[key].values)
        if parsed.unit >= units:
            raise CallError(f"there is no unit {parsed.unit} in {key}; it has {units}, 0 to {units - 1}")
        return self.points[key], parsed.unit, key


def activations(
    net: Network,
    files: str | Path | Sequence[str | Path],
    points: Sequence[str] | None = None,
    *,
    k: int = 9,
    batch: int = 32,
    folder: str | Path | None = None,
    on_batch: OnBatch | None = None,
) -> Activations:
    """What excites the units of a network among pictures: maxima, histograms, the places that excite most.

    Statistics are of the activations as float32. The batch size changes them by no more than rounding.

    Args:
        files: pictures, or folders of them.
        points: addresses of whole points whose units are studied; by default the blocks of the network.
        k: pictures kept of each unit.
        folder: where the study is written, every few hundred pictures and at the end. A call with the same
            network, points, pictures and ``k`` goes on with what is there; a finished study is only read.
        on_batch: called with (pictures done, pictures in all) after every batch.

    Raises:
        CallError: for points without units, or a folder that holds another study.
        InwardError: for a file that is no picture or not all of one (before the pass begins); for an
            activation that is not finite.
    """
    if k < 1 or batch < 1:
        raise CallError(f"k and batch count pictures from 1 up, not {k} and {batch}")
    paths = find([files] if isinstance(files, (str, Path)) else list(files))
    keys = whole_points(net, blocks(net) if points is None else points)
    fields = receptive_fields(net, keys)
    state = Activations(tuple(p.absolute() for p in paths), 0, k, net.size, {}, fields, _grids(net, keys))
    progress = None if folder is None else folders.Progress(Path(folder), folders.identity(net, paths, keys, k))
    if progress is not None:
        held = progress.held()
        if held is not None:
            state = replace(state, seen=held[0], points={key: s.to(net.device) for key, s in held[1].items()})
    for path in paths[state.seen :]:
        _look_over(path, net)
    return _Pass(net, keys, batch, progress, on_batch).run(state)


class _Pass:
    """The pictures from the first that was not seen, batch by batch."""

    def __init__(
        self,
        net: Network,
        keys: Sequence[str],
        batch: int,
        progress: folders.Progress | None,
        on_batch: OnBatch | None,
    ) -> None:
        self.net, self.keys, self.batch, self.progress, self.on_batch = net, keys, batch, progress, on_batch

    def run(self, state: Activations) -> Activations:
        written = state.seen
        try:
            for images in _batches(self.net, state.files[state.seen :], self.batch):
                # One assignment: a stop between two points would leave them with different pictures.
                state = replace(state, seen=state.seen + len(images), points=self._points(state, images))
                if state.seen - written >= EVERY and state.seen < len(state.files):
                    written = self._write(state)
                if self.on_batch is not None:
                    self.on_batch(state.seen, len(state.files))
        finally:
            if state.seen > written:
                self._write(state)
        return replace(state, points={key: s.to("cpu") for key, s in state.points.items()})

    def _points(self, state: Activations, images: Tensor) -> dict[str, Statistics]:
        with torch.no_grad():
            trace = self.net.trace(images.to(self.net.device), self.keys)
            found = {}
            for key in self.keys:
                features = trace.features(key)
                values = features.reshape(*features.shape[:2], -1)
                before = state.points.get(key) or Statistics.none(values.shape[1], state.k, values.device)
                found[key] = before.after(values, state.seen)
            return found

    def _write(self, state: Activations) -> int:
        if self.progress is not None:
            self.progress.write(state.seen, state.points, state.fields, state.grids)
        return state.seen


def _batches(net: Network, files: Sequence[Path], size: int) -> Iterator[Tensor]:
    """The pictures, read one batch ahead of the network."""
    with ThreadPoolExecutor(1) as pool:
        waiting: Future[Tensor] | None = None
        for start in range(0, len(files), size):
            coming = pool.submit(read, files[start : start + size], net)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def _look_over(path: Path, net: Network) -> None:
    """Refuses what cannot be read: better now than after hours."""
    try:
        with Image.open(path, formats=["JPEG"]) as picture:
            if picture.width * picture.height <= MOST_PIXELS and net.preprocess.channels in (1, 3, 4):
                # An eighth of the size: all of the file is read, in a fraction of the time.
                picture.draft("L", (1, 1))
                picture.load()
                return
    except Exception:  # noqa: S110 - whatever is wrong, reading it says so in a sentence
        pass
    read(path, net)


def whole_points(net: Network, addresses: Sequence[str]) -> list[str]:
    """The keys of whole points, checked to have units. Raises CallError."""
    if not addresses:
        raise CallError("there is no point to study; name at least one")
    keys = []
    for address in addresses:
        parsed = net.resolve(address)
        key = point_key(parsed)
        if parsed.unit is not None:
            raise CallError(f"a study is of whole points, and '{address}' is a unit; give {key}")
        if not net.layout_of(parsed, net.size).has_units:
            raise CallError(f"'{address}' has no axis that is known to hold units; give a point beside it")
        keys.append(key)
    return list(dict.fromkeys(keys))


def _grids(net: Network, keys: Sequence[str]) -> dict[str, tuple[int, int] | None]:
    found: dict[str, tuple[int, int] | None] = {}
    for key in keys:
        parsed = net.resolve(key)
        point = None if parsed.output is not None else net.points[parsed.point]
        found[key] = None if point is None or point.shape is None else point.layout.grid_size(point.shape)
    return found


def load(folder: str | Path, net: Network | None = None) -> Activations:
    """A study from its folder, finished or not (see ``seen``).

    Raises InwardError where the folder holds none; CallError where it is of other weights than those of ``net``.
    """
    told, seen, points, fields, grids = folders.read(Path(folder))
    if net is not None and told["network"].get("weights_sha256") != net.weights_hash():
        raise CallError(f"the study in {folder} is of other weights than those of {net.name}; make one of this network")
    size = (told["network"]["preprocess"]["size"][0], told["network"]["preprocess"]["size"][1])
    files = tuple(Path(f["file"]) for f in told["files"])
    if seen > len(files):
        raise InwardError(f"{folder} is damaged: it counts {seen} of {len(files)} pictures; make the study again")
    return Activations(files, seen, told["k"], size, points, fields, grids)
