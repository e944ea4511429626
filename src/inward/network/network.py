"""The network: one graph of named points, whatever it was made from."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inward.errors import CallError, InwardWarning
from inward.network.address import Address, class_index, nearest, parse
from inward.network.answers import Output, check_output, probabilities
from inward.network.devices import pick_device
from inward.network.fingerprint import digest_of, state_of
from inward.network.graph import NOTHING, Edit, Graph, Point
from inward.network.half import halve
from inward.network.hooks import HookGraph
from inward.network.labels import check_labels, named_class
from inward.network.layout import UNKNOWN, Layout, by_rank
from inward.network.modules import channels_of, unwrap
from inward.network.preprocess import Preprocess
from inward.network.source import ModuleSource, Source
from inward.network.trace import Trace, point_key
from inward.types import Images, Logits, Size

T = TypeVar("T")


class Network:
    """A network that classifies or encodes images, as named points that can be computed.

    ``net(images)`` gives the logits; ``net.points`` names everything inside;
    ``net.trace(images, addresses)[address]`` gives activations; ``net.upto(addresses)`` is the
    network cut after them; ``net.edit(edit)`` another network with changed operations. Images are
    always in [0, 1]; the network does its own preprocessing. Nothing here changes the module that
    the network was made from.
    """

    def __init__(
        self,
        source: Source,
        *,
        name: str,
        preprocess: Preprocess,
        labels: Sequence[str] | None = None,
        output: Output = "softmax",
        edits: tuple[Edit, ...] = (),
        ends: tuple[str, ...] | None = None,
        half: torch.dtype | None = None,
        memory: int | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.preprocess = preprocess
        self.labels = None if labels is None else tuple(labels)
        self.output: Output = check_output(output)
        self.memory = memory
        self.spec = dict(spec or {})
        self._source = source
        self._edits = edits
        self._ends = ends
        self._half = half
        self._graphs: dict[Size, Graph | HookGraph] = {}
        self._derived: tuple[str, dict[Hashable, Any]] = ("", {})
        self._hashed: tuple[tuple[Any, ...], str] | None = None
        self._outputs: dict[tuple[int, Size], tuple[tuple[int, ...], Layout]] = {}
        self._whole: dict[tuple[str, Size], Address] = {}

    @classmethod
    def of(
        cls,
        module: nn.Module,
        *,
        name: str | None = None,
        size: Size | int | None = None,
        channels: int | None = None,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        order: str = "rgb",
        labels: Sequence[str] | None = None,
        output: Output = "softmax",
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Network:
        """A network from a PyTorch module in eval mode that takes (N, C, H, W) and returns logits.

        ``size`` (pixels, default 224 x 224) is the size at which the points are listed; other sizes
        are exported when they come. ``channels`` is read off the first convolution by default.
        ``mean`` and ``std`` are in [0, 1] units and by default absent (0 and 1). ``output`` is what
        makes probabilities of the logits: softmax, or sigmoid where each class is a proposition of its
        own. The module stays where it is unless ``device`` or ``dtype`` ask for a copy.
        ``torch.compile``d and DataParallel modules are unwrapped.

        Raises CallError for a module in train mode, a ScriptModule or a quantized module.
        """
        module = unwrap(module)
        height, width = (size, size) if isinstance(size, int) else size or (224, 224)
        preprocess = Preprocess(
            channels=channels or channels_of(module),
            mean=tuple(mean),
            std=tuple(std),
            size=(height, width),
            order=order,
        )
        label = name or type(module).__name__
        net = cls(ModuleSource(module, label), name=label, preprocess=preprocess, labels=labels, output=output)
        return net.to(device=device, dtype=dtype)

    def __repr__(self) -> str:
        height, width = self.preprocess.size
        shape = f"{self.preprocess.channels} x {height} x {width}"
        return f"<inward.Network {self.name}, {shape}, {self.dtype}, {self.device}>"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self._source.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; images are brought to it."""
        return self._source.dtype

    @property
    def size(self) -> Size:
        """Height and width at which :attr:`points` are listed and pictures are shown to the network."""
        return self.preprocess.size

    @property
    def points(self) -> dict[str, Point]:
        """Every point by its name, in the order of computation, at :attr:`size`."""
        return self.graph(self.size).points

    @property
    def is_graph(self) -> bool:
        """False where the module could not be exported and hooks stand in."""
        return isinstance(self.graph(self.size), Graph)

    def to(self, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Network:
        """This network on another device or in another dtype; a copy, where that changes anything."""
        target = self.device if device is None else pick_device(device)
        source = self._source.to(target, dtype or self.dtype)
        return self if source is self._source else self._with(source=source)

    def edit(self, *changes: Edit) -> Network:
        """Another network with the edits applied to its graph."""
        return self._with(edits=(*self._edits, *changes))

    def derived(self, key: Hashable, make: Callable[[Network], T]) -> T:
        """``make(self)``, kept under a key for as long as the weights stay as they are."""
        weights = self.weights_hash()
        if self._derived[0] != weights:
            self._derived = (weights, {})
        kept = self._derived[1]
        if key not in kept:
            kept[key] = make(self)
        return kept[key]

    def within(self, memory: int | None) -> Network:
        """This network with a budget in bytes for what a loop holds at once; None: half of what is free.

        It changes how many images are computed together, and nothing else. Raises CallError for no room at all.
        """
        if memory is not None and memory < 1:
            raise CallError(f"a budget of memory is 1 byte or more, not {memory}")
        return self._with(memory=memory)

    def halved(self, dtype: torch.dtype) -> Network:
        """This network with its products in ``dtype``, bfloat16, and their sums in float32: for loops."""
        return self._with(half=dtype)

    def upto(self, addresses: str | Sequence[str]) -> Network:
        """The network cut after these points, which become its outputs, in this order."""
        names = [addresses] if isinstance(addresses, str) else list(addresses)
        found = [self.resolve(name) for name in names]
        for name, parsed in zip(names, found, strict=True):
            if parsed.unit is not None:
                raise CallError(
                    f"a network is cut after whole points, and '{name}' is a unit; give {point_key(parsed)}"
                )
        return self._with(ends=tuple(point_key(parsed) for parsed in found))

    def _with(self, **changes: Any) -> Network:
        fields = {
            "source": self._source,
            "name": self.name,
            "preprocess": self.preprocess,
            "labels": self.labels,
            "output": self.output,
            "edits": self._edits,
            "ends": self._ends,
            "half": self._half,
            "memory": self.memory,
            "spec": self.spec,
        }
        return Network(**(fields | changes))

    def graph(self, size: Size) -> Graph | HookGraph:
        """The graph for this image size, made when it is first asked for."""
        if size not in self._graphs:
            graph = self._source.graph(size, self.preprocess.channels)
            self._warn_of_softmax(graph)
            for change in self._edits:
                graph = graph.edited(change)
            if self._ends is not None:
                graph = graph.upto([self._node(graph, end) for end in self._ends])
            if self._half is not None and isinstance(graph, Graph):
                graph = halve(graph, self._half)
            self._graphs[size] = graph
        return self._graphs[size]

    def _node(self, graph: Graph | HookGraph, end: str) -> str:
        """The point that a key names; ``class`` keys have no point, and are the graph's outputs."""
        node = node_of(graph, parse(end))
        return next((p.name for p in graph.points.values() if p.node == node), end)

    def _warn_of_softmax(self, graph: Graph | HookGraph) -> None:
        told, self._source.told = self._source.told, True
        if not told and isinstance(graph, Graph) and graph.ends_in({"softmax", "log_softmax", "sigmoid"}):
            warnings.warn(
                f"{self.name} ends in a softmax or a sigmoid, so its scores are probabilities and their "
                "gradients vanish when it is sure; give the network without it",
                InwardWarning,
                stacklevel=4,
            )

    def resolve(self, address: str, size: Size | None = None) -> Address:
        """Checks an address against the network and looks up class names.

        Raises CallError naming the nearest valid names, or the range, where there is no such point,
        unit, place or class.
        """
        size = size or self.size
        # Loops ask for whole points at every pass; there are only so many of these.
        if (known := self._whole.get((address, size))) is None:
            known = self._resolve(address, size)
            if known.unit is None:
                self._whole[address, size] = known
        return known

    def _resolve(self, address: str, size: Size) -> Address:
        parsed, graph = parse(address), self.graph(size)
        if parsed.output is not None:
            return self._resolve_class(parsed, graph, size)
        name = graph.aliases.get(parsed.point, parsed.point)
        if name not in graph.points:
            why = f" (no graph: {graph.reason})" if isinstance(graph, HookGraph) else ""
            known = [p.name for p in graph.points.values() if p.node]
            raise CallError(
                f"{self.name} has no point '{parsed.point}'{why}; the nearest: {nearest(parsed.point, known)}"
            )
        point = graph.points[name]
        if not point.node:
            raise CallError(f"the module '{name}' is never called, so it has no activations")
        _check_unit(parsed, point, address)
        return Address(name, parsed.unit, parsed.place)

    def _resolve_class(self, parsed: Address, graph: Graph | HookGraph, size: Size) -> Address:
        if self._ends is not None:
            raise CallError(f"{self.name} was cut after {', '.join(self._ends)}, so it has no classes")
        if parsed.output is None or parsed.output >= len(graph.outputs):
            raise CallError(f"{self.name} has {len(graph.outputs)} outputs, counted from 0; there is no {parsed}")
        count = self.classes(parsed.output, size)
        unit = parsed.unit if parsed.label is None else class_index(parsed.label, self.labels)
        if unit is not None and unit >= count:
            raise CallError(f"there is no class {unit}; {self.name} has {count} classes, 0 to {count - 1}")
        return Address("class", unit, output=parsed.output)

    def classes(self, output: int = 0, size: Size | None = None) -> int:
        """The number of classes, which is the length of the logits.

        Raises CallError where the output has no axis of classes.
        """
        shape, layout = self._output(output, size or next(iter(self._graphs), self.size))
        if not layout.has_units:
            raise CallError(f"{self.name} gives a tensor of shape {shape}, in which no axis is known to hold classes")
        if output == 0 and self._ends is None:
            check_labels(self._source, self.name, self.labels, layout.units(shape))
        return layout.units(shape)

    def _output(self, output: int, size: Size) -> tuple[tuple[int, ...], Layout]:
        """Shape (for a batch of one) and layout of an output; kept, for loops ask at every pass."""
        if (output, size) not in self._outputs:
            self._outputs[output, size] = self._find_output(output, size)
        return self._outputs[output, size]

    def _find_output(self, output: int, size: Size) -> tuple[tuple[int, ...], Layout]:
        graph = self.graph(size)
        node = graph.outputs[output]
        found = [(p.shape, p.layout) for p in graph.points.values() if p.node == node and p.shape is not None]
        if found:
            shape, layout = found[0]
        else:
            image = torch.zeros((1, self.preprocess.channels, *size), device=self.device)
            with torch.no_grad():
                shape = tuple(self.run(image, ["class" if output == 0 else f"class@{output}"])[0].shape)
            layout = UNKNOWN
        return shape, layout if layout.has_units else by_rank(shape)

    def layout_of(self, parsed: Address, size: Size) -> Layout:
        """The layout of the point that a resolved address lies in."""
        if parsed.output is not None:
            return self._output(parsed.output, size)[1]
        return self.graph(size).points[parsed.point].layout

    def __call__(self, images: Images) -> Float[Tensor, "n ..."]:
        """The logits: the network's first output (of a cut network: its first end). Shape (N, K)."""
        self.preprocess.check(images)
        graph = self.graph((images.shape[2], images.shape[3]))
        return graph.run(self.shown(images), graph.outputs[:1])[0]

    def trace(self, images: Images, addresses: str | Sequence[str]) -> Trace:
        """Runs the network as far as the addresses need and keeps what they name.

        Raises CallError for an unknown address or for images that are not float, (N, C, H, W), in [0, 1].
        """
        self.preprocess.check(images)
        names = [addresses] if isinstance(addresses, str) else list(addresses)
        size = (images.shape[2], images.shape[3])
        keys = [point_key(self.resolve(name, size)) for name in names]
        return Trace(self, images, dict(zip(keys, self.run(images, keys), strict=True)))

    def run(self, images: Images, keys: Sequence[str], given: Mapping[str, Tensor] = NOTHING) -> tuple[Tensor, ...]:
        """The values of whole points, without any check: the engines' way in.

        ``given`` holds whole points whose values are taken as they are, for a batch of as many images;
        what else depends on the images depends on ``images``.
        """
        return self.run_shown(self.shown(images), keys, given)

    def run_shown(
        self, shown: Tensor, keys: Sequence[str], given: Mapping[str, Tensor] = NOTHING
    ) -> tuple[Tensor, ...]:
        """:meth:`run` for what :meth:`shown` gave."""
        graph = self.graph((shown.shape[2], shown.shape[3]))
        known = {node_of(graph, parse(key)): value for key, value in given.items()}
        return graph.run(shown, [node_of(graph, parse(key)) for key in keys], known)

    def shown(self, images: Images) -> Tensor:
        """What the network itself is shown of images in [0, 1]: after mean and std, in its own channel order."""
        return self.preprocess(images.to(self.device), self.dtype)

    def weights(self) -> dict[str, Tensor]:
        """The parameters and buffers by name; the tensors themselves, not copies."""
        return self._source.weights()

    def weights_hash(self) -> str:
        """The SHA-256 of the names, dtypes, shapes and values of all weights."""
        weights = sorted(self.weights().items())
        state = tuple(state_of(tensor) for _, tensor in weights)
        if self._hashed is None or self._hashed[0] != state:
            self._hashed = (state, digest_of(weights))
        return self._hashed[1]

    @property
    def parameters(self) -> int:
        """The number of parameters; one that is used twice counts once, buffers do not count."""
        return self._source.parameters()

    def probabilities(self, logits: Logits) -> Logits:
        """Of logits (N, K) the probabilities, by the network's :attr:`output`."""
        return probabilities(logits, self.output)

    def label(self, index: int) -> str:
        """The name of a class, or its number where the network has no labels."""
        return named_class(index, self.labels, self.classes)


def node_of(graph: Graph | HookGraph, parsed: Address) -> str:
    """The node that computes a resolved point."""
    return graph.points[parsed.point].node if parsed.output is None else graph.outputs[parsed.output]


def _check_unit(parsed: Address, point: Point, address: str) -> None:
    if parsed.unit is None:
        return
    if point.units is None or point.shape is None:
        raise CallError(f"'{point.name}' has the shape {point.shape}, in which no axis is known to hold units")
    if parsed.unit >= point.units:
        raise CallError(f"there is no unit {parsed.unit} in {point.name}; it has {point.units}, 0 to {point.units - 1}")
    if parsed.place is None:
        return
    grid = point.layout.grid_size(point.shape)
    if grid is None:
        raise CallError(f"'{point.name}' has no grid, so '{address}' has no place; leave out @Y,X")
    if parsed.place[0] >= grid[0] or parsed.place[1] >= grid[1]:
        raise CallError(
            f"'{address}' lies outside the grid of {point.name}, which is {grid[0]} x {grid[1]} (Y, X from 0)"
        )
