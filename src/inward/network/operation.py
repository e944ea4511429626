"""One operation of a graph, as the rules of axes see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx

from inward.network import axes as ax
from inward.network.axes import Axes


@dataclass(frozen=True)
class Operation:
    """One tensor that an operation gives: the ``index``-th of them, of this shape."""

    node: fx.Node
    name: str
    index: int
    shape: tuple[int, ...]
    known: dict[fx.Node, Axes]

    def argument(self, name: str, default: Any = None) -> Any:
        """An argument by its name in the operation's schema, however it was passed."""
        return argument(self.node, name, default)

    def axes(self, value: Any) -> Axes | None:
        """The axes of an argument; None for weights and for what is no tensor."""
        return self.known.get(value) if isinstance(value, fx.Node) else None

    @property
    def inputs(self) -> list[Axes]:
        """The axes of all tensors that it reads, but for the weights; one read twice is there twice."""
        nodes: list[fx.Node] = []
        fx.map_arg((self.node.args, self.node.kwargs), nodes.append)
        return [self.known[n] for n in nodes if n in self.known]

    @property
    def source(self) -> Axes:
        """The axes of the first argument; nothing known where it is a weight."""
        found = self.axes(self.node.args[0])
        return ax.blank(shape_of(self.node.args[0])) if found is None else found

    @property
    def blank(self) -> Axes:
        """Nothing known."""
        return ax.blank(self.shape)

    def dims(self, name: str, rank: int, default: Any = None) -> list[int]:
        """Dimensions counted from the front; all of them where none is given."""
        given = self.argument(name, default)
        given = [given] if isinstance(given, int) else given
        return [d % rank for d in given] if given and rank else list(range(rank))


def argument(node: fx.Node, name: str, default: Any = None) -> Any:
    """An argument of an ATen operation by its name in the schema."""
    if name in node.kwargs:
        return node.kwargs[name]
    schema = getattr(node.target, "_schema", None)
    names = [a.name for a in schema.arguments] if schema is not None else []
    place = names.index(name) if name in names else len(node.args)
    return node.args[place] if place < len(node.args) else default


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a tensor of the graph; of nothing else, none."""
    held = value.meta.get("val") if isinstance(value, fx.Node) else None
    return ax.sizes(held, ax.PRIME) if isinstance(held, Tensor) else ()
