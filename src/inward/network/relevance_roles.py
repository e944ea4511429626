"""What every operation of a graph does with relevance, and the refusal of those for which no rule is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, fx

from inward.errors import CallError
from inward.network.graph import Graph
from inward.network.layout import op_name
from inward.network.normalization import local_response_norm
from inward.network.opaque import stop_gradient
from inward.network.operation import shape_of

# Functions of one number at a time: relevance goes through as it is.
_ACTIVATIONS = {
    *("relu", "relu6", "hardtanh", "threshold", "clamp", "clamp_min", "clamp_max", "leaky_relu", "prelu_kernel"),
    *("prelu", "rrelu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "softplus"),
    *("sigmoid", "hardsigmoid", "log_sigmoid", "log_sigmoid_forward", "tanh", "softsign", "hardshrink", "softshrink"),
    *("neg", "log1p"),
}
# What only moves, copies or chooses values: the gradient is the relevance already.
_MOVES = {
    *("view", "reshape", "permute", "transpose", "t", "flatten", "unflatten", "squeeze", "unsqueeze", "expand"),
    *("repeat", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "cat", "stack"),
    *("pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "roll", "flip", "rot90", "unfold", "im2col"),
    *("pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "clone", "contiguous", "alias", "to", "dropout"),
    *("lift_fresh_copy", "index", "index_select", "gather", "where", "masked_fill", "select_scatter", "slice_scatter"),
    *("max_pool1d", "max_pool2d", "max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("adaptive_max_pool1d", "adaptive_max_pool2d", "amax", "max", "amin", "min"),
}
# Linear, without weights of their own.
_MEANS = {
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"),
    *("mean", "sum", "interpolate", "col2im"),
}
# Where input, weight and bias are among the arguments.
LAYERS: dict[str, tuple[int, int, int]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "linear"), (0, 1, 2)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (0, 1, 2)),
    "addmm": (1, 2, 0),
}
_PRODUCTS = {"matmul", "mm", "bmm"}
# A factor that ends in one of these only opens and shuts.
_GATES = {"sigmoid", "hardsigmoid", "softmax", "tanh", "hardtanh", "relu6", "clamp"}


@dataclass(frozen=True)
class Role:
    """What an operation does with relevance.

    ``move``: as its gradient; ``pass``: unchanged, to one argument; ``share``: in proportion to the
    arguments; ``affine``: the same, of a batch normalization; ``layer``: by a rule for weights.
    ``places`` are the arguments that get it, ``gate`` whether another one that depends on the image gets none.
    """

    kind: Literal["move", "pass", "share", "affine", "layer"]
    places: tuple[int, ...] = ()
    gate: bool = False


@dataclass(frozen=True)
class Roles:
    """The roles in a graph by the names of nodes (None: no rule is known), and the layers with a folded batch norm.

    ``folded`` names the batch normalization that is computed with a layer, by the layer.
    """

    graph: Graph
    by_node: dict[str, Role | None]
    folded: dict[str, str]

    def check(self, ends: Iterable[str], source: str | None) -> list[str]:
        """Walks from the ends back to the source (None: the image); gives the gates on the way, by address.

        Raises CallError for the operation nearest to the ends that no rule knows.
        """
        nodes = list(self.graph.module.graph.nodes)
        start = image_of(self.graph) if source is None else next(n for n in nodes if n.name == source)
        behind, reached = depending(nodes, start), set(ends)
        gates = []
        for node in reversed(nodes):
            if node.name not in reached or node is start or node not in behind:
                continue
            role = self.by_node.get(node.name)
            if role is None:
                raise CallError(
                    f"relevance has no rule for '{op_name(node)}' at '{self._address(node)}'; "
                    "take a target before it or a point behind it (--target, --at), or integrated gradients"
                )
            if role.gate:
                gates.append(self._address(node))
            reached |= {n.name for n in _receivers(node, role)}
        return gates[::-1]

    def _address(self, node: fx.Node) -> str:
        """The point that a node is, or the nearest one that reads it."""
        known = {point.node: name for name, point in reversed(self.graph.points.items())}
        for each in _downstream(node):
            if each.name in known:
                return known[each.name]
        return node.name


def roles_in(graph: Graph, ends: Iterable[str]) -> Roles:
    """The role of every operation that depends on the image. Layers that are ``ends`` stay as they are."""
    nodes = list(graph.module.graph.nodes)
    live = depending(nodes, image_of(graph))
    folded = dict(_folded(nodes, set(ends)))
    passing = set(folded.values())
    known = {}
    for node in nodes:
        if node in live and node.op == "call_function":
            known[node.name] = Role("pass", (0,)) if node.name in passing else _role(node, live)
    return Roles(graph, known, folded)


def image_of(graph: Graph) -> fx.Node:
    """The node that the image comes in by."""
    return graph.module.graph.find_nodes(op="placeholder")[0]


def depending(nodes: Iterable[fx.Node], source: fx.Node) -> set[fx.Node]:
    """The nodes whose numbers depend on the source, with itself; what is detached does not."""
    live = {source}
    for node in nodes:
        passes = node.op == "call_function" and node.target is not stop_gradient and _has_numbers(node)
        if passes and any(read in live for read in node.all_input_nodes):
            live.add(node)
    return live


def _has_numbers(node: fx.Node) -> bool:
    value = node.meta.get("val")
    values = value if isinstance(value, (tuple, list)) else [value]
    return any(isinstance(v, Tensor) and v.is_floating_point() for v in values)


def _downstream(node: fx.Node) -> Iterator[fx.Node]:
    seen, waiting = {node}, [node]
    while waiting:
        each = waiting.pop(0)
        yield each
        fresh = [user for user in each.users if user not in seen]
        seen |= set(fresh)
        waiting += fresh


def _receivers(node: fx.Node, role: Role) -> list[fx.Node]:
    if role.kind == "move":
        return node.all_input_nodes
    return [read for read in (node.args[p] for p in role.places) if isinstance(read, fx.Node)]


def _role(node: fx.Node, live: set[fx.Node]) -> Role | None:
    name = op_name(node)
    if getattr(node.target, "__name__", "") == "getitem":
        return Role("move")
    # A function of the user's own may have any name.
    if getattr(node.target, "namespace", "") != "aten":
        return Role("pass", (0,)) if node.target is local_response_norm else None
    places = tuple(i for i, read in enumerate(node.args) if isinstance(read, fx.Node) and read in live)
    if name in _MOVES:
        return Role("move")
    if any(read in live for read in node.kwargs.values() if isinstance(read, fx.Node)):
        return None
    if name in _ACTIVATIONS | _MEANS | {"batch_norm"}:
        kind = "affine" if name == "batch_norm" else "share" if name in _MEANS else "pass"
        return Role(kind, places) if places == (0,) else None
    if name in LAYERS:
        return Role("layer", places) if places == LAYERS[name][:1] and not node.kwargs else None
    if name in _PRODUCTS:
        return Role("layer", places) if len(places) == 1 else None
    return _of_two(node, name, places)


def _of_two(node: fx.Node, name: str, places: tuple[int, ...]) -> Role | None:
    """Sums, products and choices of two, of which one may be a constant."""
    if name in {"add", "sub", "rsub", "maximum", "minimum"}:
        chosen = "move" if name in {"maximum", "minimum"} else "share"
        return Role("pass", places) if len(places) == 1 else Role(chosen, places)
    if name == "div":
        return Role("pass", (0,), gate=len(places) == 2) if 0 in places else None
    if name == "mul":
        signal = places if len(places) == 1 else _signal(node)
        return None if signal is None else Role("pass", signal, gate=len(places) == 2)
    return None


def _signal(product: fx.Node) -> tuple[int, ...] | None:
    """The factor of two that is no gate; None where that cannot be told."""
    shapes = [shape_of(factor) for factor in product.args[:2]]
    bounded = [_is_gate(factor) for factor in product.args[:2]]
    if bounded[0] != bounded[1]:
        return (bounded.index(False),)
    full = [shape == shape_of(product) for shape in shapes]
    return (full.index(True),) if full[0] != full[1] else None


def _is_gate(factor: Any) -> bool:
    """Whether a factor ends in a bounded activation, moved about and scaled by constants at most."""
    while isinstance(factor, fx.Node) and factor.op == "call_function":
        name = op_name(factor)
        if name in _GATES:
            return True
        scaled = name in {"div", "mul"} and not isinstance(factor.args[1], fx.Node)
        if not scaled and (name not in _MOVES or len(factor.all_input_nodes) != 1):
            return False
        factor = factor.args[0]
    return False


def _folded(nodes: Iterable[fx.Node], ends: set[str]) -> Iterator[tuple[str, str]]:
    """Layers that nobody reads but a batch normalization, and that."""
    for node in nodes:
        if node.op != "call_function" or op_name(node) != "batch_norm" or len(node.args) != 7:
            continue
        layer: Any = node.args[0]
        if getattr(getattr(layer, "target", None), "namespace", "") != "aten":
            continue
        plain = op_name(layer) in {"conv1d", "conv2d", "conv3d"} or _is_plain_linear(layer)
        readers = {user for user in layer.users if user.op != "output"}
        constant = all(n is None or (isinstance(n, fx.Node) and n.op == "get_attr") for n in node.args[1:5])
        if plain and constant and readers == {node} and layer.name not in ends:
            yield layer.name, node.name


def _is_plain_linear(layer: fx.Node) -> bool:
    return op_name(layer) == "linear" and len(shape_of(layer)) == 2
