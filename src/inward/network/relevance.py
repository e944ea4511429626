"""Networks whose gradient is relevance: layer-wise relevance propagation as an edit of the graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx

from inward.errors import CallError
from inward.network.address import parse
from inward.network.graph import Edit, Graph
from inward.network.layout import op_name
from inward.network.modes import ordinary
from inward.network.network import Network, node_of
from inward.network.relevance_roles import LAYERS, Role, Roles, depending, image_of, roles_in
from inward.network.relevance_rules import (
    STABILIZER,
    Back,
    Epsilon,
    Gamma,
    Rule,
    ZBox,
    ZPlus,
    proportional,
    relevant,
)
from inward.types import Size

RuleName: TypeAlias = Literal["epsilon", "gamma", "z-plus", "composite"]
"""The same rule for every layer with weights, or the composite of them."""


@dataclass(frozen=True)
class Rules:
    """Which rule each layer has. ``composite``: z-box where a convolution reads the image, gamma for every
    other convolution, epsilon for what is fully connected."""

    name: RuleName = "composite"
    epsilon: float = 1e-6
    gamma: float = 0.25

    def of(self, node: fx.Node, bounds: Mapping[str, tuple[Tensor, Tensor]]) -> Rule:
        """The rule of one layer; ``bounds`` holds the least and the largest input of those that read the image."""
        dense: Rule = Epsilon(self.epsilon)
        if self.name == "composite" and "conv" not in op_name(node):
            return dense
        if self.name == "composite" and node.name in bounds:
            return ZBox(*bounds[node.name])
        return {"epsilon": dense, "z-plus": ZPlus()}.get(self.name, Gamma(self.gamma))


def propagating(
    net: Network, size: Size, keys: Sequence[str], at: str | None, rules: Rules
) -> tuple[Network, list[str]]:
    """The network whose gradient is relevance, and the products on the way whose gates get none, by address.

    Its values are those of ``net``. The gradient of what flows back from the points ``keys``, where
    it begins with their relevance, is the relevance of whatever it is taken for: of what the network
    is shown, or of activations.

    Args:
        size: height and width of the images.
        keys: the whole points that relevance begins at.
        at: the whole point that its relevance is wanted of; None: the image.

    Raises:
        CallError: for a network without a graph, or an operation on the way that has no rule, by its address.
    """
    graph = net.graph(size)
    if not isinstance(graph, Graph):
        raise CallError(f"relevance is propagated through the network's graph, and there is none: {graph.reason}")
    ends = [node_of(graph, parse(key)) for key in keys]
    roles = roles_in(graph, ends)
    gates = roles.check(ends, None if at is None else node_of(graph, parse(at)))
    plain = frozenset(ends).intersection(roles_in(graph, ()).folded)

    def make(net: Network) -> Network:
        bounds = _bounds(net, graph, roles, size) if rules.name == "composite" else {}
        changed = net.edit(_edit(roles, rules, bounds))
        changed.graph(size)
        return changed

    # What is kept must not be an inference tensor of the caller's.
    with ordinary(net.device):
        return net.derived(("relevance", size, rules, plain), make), gates


def _edit(roles: Roles, rules: Rules, bounds: Mapping[str, tuple[Tensor, Tensor]]) -> Edit:
    def edit(module: fx.GraphModule) -> None:
        nodes = {node.name: node for node in module.graph.nodes}
        for name, role in roles.by_node.items():
            if role is not None and role.kind != "move":
                fold = roles.folded.get(name)
                norm = None if fold is None else _normalization(module, nodes[fold])
                node = nodes[name]
                rule = rules.of(node, bounds) if role.kind == "layer" else None
                node.target = _exchanged(node, role, _back(node, role, rule, norm, rules.epsilon))

    return edit


# What a network may do to an image before its first layer, with constants.
_AFFINE = {"add", "sub", "rsub", "mul", "div", "neg"}

_AtPlaces: TypeAlias = Callable[[Sequence[Any]], Back]
"""The backward pass of one call, from its arguments (those that get relevance left out)."""


def _exchanged(node: fx.Node, role: Role, back: _AtPlaces) -> Callable[..., Any]:
    """The operation of a node with relevance for its gradient."""
    target: Any = node.target
    several = isinstance(node.meta.get("val"), (tuple, list))

    def exchanged(*args: Any, **options: Any) -> Any:
        rest = [None if i in role.places else each for i, each in enumerate(args)]

        def plain(*inputs: Tensor) -> Tensor:
            every = list(rest)
            for place, given in zip(role.places, inputs, strict=True):
                every[place] = given
            made = target(*every, **options)
            return made[0] if several else made

        made = relevant(plain, back(rest), [args[place] for place in role.places])
        return (made,) if several else made

    exchanged.__name__ = f"relevant_{op_name(node)}"
    return exchanged


def _back(
    node: fx.Node, role: Role, rule: Rule | None, norm: tuple[Tensor, Tensor] | None, epsilon: float
) -> _AtPlaces:
    if rule is not None:
        return _of_layer(node, role.places[0], rule, norm)
    if role.kind == "pass":
        return lambda _: _unchanged
    small = epsilon if role.kind == "affine" else STABILIZER
    return lambda _: lambda function, inputs, relevance: proportional(function, inputs, relevance, small)


def _unchanged(_: Callable[..., Tensor], inputs: tuple[Tensor, ...], relevance: Tensor) -> Sequence[Tensor]:
    """What an input that was stretched over others gets of each of them is added up."""
    return [relevance.sum_to_size(inputs[0].shape)]


def _of_layer(node: fx.Node, place: int, rule: Rule, norm: tuple[Tensor, Tensor] | None) -> _AtPlaces:
    target: Any = node.target
    _, at_weight, at_bias = LAYERS.get(op_name(node), (place, 1 - place, 2))

    def back(rest: Sequence[Any]) -> Back:
        bias = rest[at_bias] if at_bias < len(rest) else None

        def layer(x: Tensor, weight: Tensor, offset: Tensor | None) -> Tensor:
            every = [*rest]
            every[place], every[at_weight] = x, weight
            if at_bias < len(rest):
                every[at_bias] = offset
            elif offset is not None:
                every.append(offset)
            return target(*every)

        def found(_: Any, inputs: tuple[Tensor, ...], relevance: Tensor) -> Sequence[Tensor]:
            weights = rest[at_weight], bias
            return [rule(layer, inputs[0], *(weights if norm is None else _fold(*weights, *norm)), relevance)]

        return found

    return back


def _normalization(module: fx.GraphModule, node: fx.Node) -> tuple[Tensor, Tensor]:
    """A batch normalization as ``scale * z + shift``, in float64."""
    nodes: Any = node.args[1:5]
    gain, shift, mean, variance = (None if n is None else getattr(module, str(n.target)).double() for n in nodes)
    scale = (variance + float(node.args[6])).rsqrt()  # type: ignore[operator, arg-type]
    scale = scale if gain is None else scale * gain
    return scale, (0 if shift is None else shift) - mean * scale


def _fold(weight: Tensor, bias: Tensor | None, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    offset = shift if bias is None else bias.double() * scale + shift
    return weight * scale.to(weight).view(-1, *[1] * (weight.ndim - 1)), offset.to(weight)


def _bounds(net: Network, graph: Graph, roles: Roles, size: Size) -> dict[str, tuple[Tensor, Tensor]]:
    """The least and the largest input, (1, C, H, W), of every convolution that reads the image."""
    first = {name: read.name for name, read in _reading_the_image(graph, roles)}
    uniform = [torch.full((1, net.preprocess.channels, *size), value, device=net.device) for value in (0.0, 1.0)]
    with torch.no_grad():
        black, white = (graph.run(net.shown(image), list(first.values())) for image in uniform)
    return {n: (torch.minimum(*b), torch.maximum(*b)) for n, *b in zip(first, black, white, strict=True)}


def _reading_the_image(graph: Graph, roles: Roles) -> Iterator[tuple[str, fx.Node]]:
    """Convolutions that read the image as it is, or shifted and scaled by constants, with what they read."""
    nodes = list(graph.module.graph.nodes)
    live, shown = depending(nodes, image_of(graph)), {image_of(graph)}
    for node in nodes:
        role = roles.by_node.get(node.name)
        if role is None or not all(read in shown for read in node.all_input_nodes if read in live):
            continue
        if role.kind == "layer" and "conv" in op_name(node):
            yield node.name, node.all_input_nodes[0]
        elif role.kind == "move" or (role.kind == "pass" and not role.gate and op_name(node) in _AFFINE):
            shown.add(node)
