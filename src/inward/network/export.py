"""From an eval-mode ``nn.Module`` to a :class:`Graph`, with ``torch.export``.

The module runs once on fake tensors inside a recorder that also returns a clone of what every
module call gave; so the real outputs of each call (tuples, identities, in-place updates included)
survive the passes of ``torch.export`` as outputs of the graph.
"""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.fake_tensor_prop import FakeTensorProp
from torch.utils import _pytree as pytree

from inward.network import cost, opaque
from inward.network.functional import decomposed, functional
from inward.network.graph import Graph, Point, ancestors
from inward.network.layout import PRIME, UNKNOWN, Layout, infer, op_name, sizes
from inward.network.modes import quiet
from inward.network.naming import Calls, numbered, source_line
from inward.types import Size

ROOT = "network"
# Operations whose public form returns one tensor though the ATen one returns several.
_SINGLE = {"batch_norm", "layer_norm", "group_norm", "max_pool2d_with_indices", "scaled_dot_product_attention"}
# Operations that change nothing where they keep the shape and the dtype.
_HANDING_ON = {"slice", "clone", "alias", "contiguous", "to", "expand", "view", "reshape", "squeeze", "lift_fresh_copy"}
_PLUMBING = {"stop_gradient", "stop", "sym_size", "getitem"}


class _Recorder(nn.Module):
    """Runs the network and returns its output beside a clone of each module call's output."""

    def __init__(self, network: nn.Module, recording: _Recording) -> None:
        super().__init__()
        setattr(self, ROOT, network)
        self._recording = recording

    def forward(self, image: Tensor) -> tuple[Any, list[Tensor]]:
        self._recording.restart()
        output = getattr(self, ROOT)(image)
        return output, list(self._recording.clones)


class _Recording:
    """What the module calls returned: class, suffix of the tensor and the clone itself."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self.clones: list[Tensor] = []

    def restart(self) -> None:
        self.found, self.clones = [], []

    def hook(self, module: nn.Module, _: Any, output: Any) -> None:
        for suffix, tensor in named_tensors(output):
            self.found.append((type(module).__name__, suffix))
            self.clones.append(tensor.clone())

    @contextlib.contextmanager
    def listening(self, network: nn.Module) -> Iterator[None]:
        """Hooks every module but the network itself; takes the hooks off in any case."""
        handles = [m.register_forward_hook(self.hook) for m in network.modules() if m is not network]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def named_tensors(output: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a nested output with their suffixes: ``""``, or ``.0``, ``.out.0``."""
    if isinstance(output, Tensor):
        yield prefix, output
    elif isinstance(output, dict):
        for key, item in output.items():
            yield from named_tensors(item, f"{prefix}.{key}")
    elif isinstance(output, (tuple, list)):
        for index, item in enumerate(output):
            yield from named_tensors(item, f"{prefix}.{index}")


def export(module: nn.Module, image: Tensor) -> Graph:
    """The graph of ``module`` for images of this size, dtype and device; any batch.

    Raises whatever ``torch.export`` raises where the module cannot be exported.
    """
    recording = _Recording()
    recorder = _Recorder(module, recording)
    example = image.expand(2, -1, -1, -1).contiguous()
    with quiet(), opaque.recording() as custom, recording.listening(module):
        program = torch.export.export(
            recorder, (example,), strict=False, dynamic_shapes={"image": {0: torch.export.Dim.DYNAMIC}}
        )
    _check_batch(program)
    graph = _Builder(functional(program), recording.found, module).build()
    opaque.forget(custom)
    return graph


def from_program(program: torch.export.ExportedProgram, size: Size) -> Graph:
    """The graph of an exported program; what a module gave is read off the flow of data."""
    return _Builder(_sized(decomposed(program), size), [], None).build()


def _sized(program: torch.export.ExportedProgram, size: Size) -> torch.export.ExportedProgram:
    """The program with the shapes that every node has for images of this size; the batch stays symbolic."""
    inputs = [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder"]
    users = program.graph_signature.user_inputs
    index = next(i for i, n in enumerate(program.graph.nodes) if n.name in users)
    image = inputs[index]
    if all(isinstance(length, int) for length in image.shape[1:]):
        return program
    with image.fake_mode:
        inputs[index] = torch.empty((*image.shape[:2], *size), dtype=image.dtype, device=image.device)
    FakeTensorProp(program.graph_module, image.fake_mode).propagate_dont_convert_inputs(*inputs)
    return program


def _check_batch(program: torch.export.ExportedProgram) -> None:
    """Refuses a graph that holds for some sizes of the batch only: the branch not taken is not in it."""
    for bounds in program.range_constraints.values():
        if bounds.lower > 2 or not math.isinf(bounds.upper):
            raise ValueError(f"it branches on the size of the batch (from {bounds.lower} to {bounds.upper})")


@dataclass
class _Call:
    """A tensor that a module call gave: the point's name, and the call's own."""

    name: str
    owner: str
    module: str
    node: fx.Node
    note: str = ""


class _Builder:
    """Turns an exported program into a graph whose weights are attributes and whose nodes have names."""

    def __init__(
        self, program: torch.export.ExportedProgram, found: list[tuple[str, str]], module: nn.Module | None
    ) -> None:
        self.program, self.found, self.user = program, found, module
        self.graph = program.graph
        self.image = self._lift_weights()
        outputs = self._outputs()
        split = len(outputs) - len(found)
        self.outputs = [node for node in outputs[:split] if isinstance(node, fx.Node)]
        # Where gradients are off, the record itself is stopped: the clone is behind that.
        self.records: list[fx.Node] = [r.args[0] if opaque.is_stop(r) else r for r in outputs[split:]]
        self.used = ancestors(self.outputs)
        self.calls = Calls(ROOT if module is not None else "")
        self.owner: dict[fx.Node, str] = {}

    def _lift_weights(self) -> fx.Node:
        signature = self.program.graph_signature
        parameters = signature.inputs_to_parameters
        held = {**parameters, **signature.inputs_to_buffers, **signature.inputs_to_lifted_tensor_constants}
        self.tensors: dict[str, Tensor] = {}
        state: dict[str, Any] = {**self.program.state_dict, **self.program.constants}
        inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
        (image,) = [n for n in inputs if n.name not in held]
        for node in [n for n in inputs if n.name in held]:
            key = f"weight_{len(self.tensors)}"
            self.tensors[key] = state[held[node.name]].detach()
            self.program.graph_module.register_buffer(key, self.tensors[key])
            with self.graph.inserting_before(node):
                attribute = self.graph.get_attr(key)
            attribute.meta = dict(node.meta)
            attribute.meta["inward_parameter"] = node.name in parameters
            node.replace_all_uses_with(attribute)
            self.graph.erase_node(node)
        return image

    def _outputs(self) -> list[Any]:
        """The outputs that the user's module returned, without the buffers it updated."""
        specs = self.program.graph_signature.output_specs
        values = self.graph.find_nodes(op="output")[0].args[0]
        return [v for spec, v in zip(specs, values, strict=True) if spec.kind.name == "USER_OUTPUT"]

    def build(self) -> Graph:
        for node in self.graph.nodes:
            if node.op == "call_function":
                node.meta["inward_owner"] = self.owner[node] = self.calls.name(node)
        calls = self._module_calls() if self.user is not None else self._calls_by_flow()
        opaque.restore(self.graph)
        layouts = infer(self.graph.nodes, self.image)
        points = self._module_points(calls, layouts)
        aliases = self._add_operations(points, _given(calls), layouts)
        self._add_silent_modules(points)
        ordered = self._in_order(points)
        graph, outputs = self._finish(points)
        return Graph(graph, ordered, outputs, aliases)

    def _module_calls(self) -> list[_Call]:
        calls: list[_Call] = []
        owners = [self.calls.name(record) for record in self.records]
        # A tuple's first tensor and a child called "0" would share a name; the child keeps it.
        taken = {owner for owner, (_, suffix) in zip(owners, self.found, strict=True) if not suffix}
        for record, owner, (kind, suffix) in zip(self.records, owners, self.found, strict=True):
            name = numbered(owner + suffix, taken) if suffix else owner
            taken.add(name)
            node: Any = record.args[0]
            inside = self.owner.get(node, "")
            own = inside == owner or inside.startswith(owner + ".")
            calls.append(_Call(name, owner, kind, node, "" if own or suffix else "returns its input"))
        return calls

    def _calls_by_flow(self) -> list[_Call]:
        """What a call gave is what is read outside of it: all that a stored program still knows."""
        calls = []
        held = {name: self._inside(name) for name in self.calls.kinds}
        for name, inside in sorted(held.items(), key=lambda item: len(item[1])):
            kind = self.calls.kinds[name]
            given = [n for n in inside if isinstance(n.meta.get("val"), Tensor) and not set(n.users) <= inside]
            given.sort(key=list(self.owner).index)
            for index, node in enumerate(given):
                calls.append(_Call(name if len(given) == 1 else f"{name}.{index}", name, kind, node))
        return calls

    def _inside(self, name: str) -> set[fx.Node]:
        return {n for n, owner in self.owner.items() if owner == name or owner.startswith(name + ".")}

    def _module_points(self, calls: list[_Call], layouts: dict[fx.Node, Layout]) -> dict[str, Point]:
        points: dict[str, Point] = {}
        spent = self._spent()
        for call in calls:
            madds, parameters = spent.get(call.owner, (0, 0))
            points[call.name] = self._point(
                call.name, "module", call.module, call.node, layouts, call.note, parameters, madds
            )
        return points

    def _spent(self) -> dict[str, tuple[int, int]]:
        """Multiply-adds and parameters of every call, its children's included."""
        madds: dict[str, int] = defaultdict(int)
        read: dict[str, dict[Any, int]] = defaultdict(dict)
        for node, owner in self.owner.items():
            parts = owner.split(".") if owner else []
            for depth in range(1, len(parts) + 1):
                prefix = ".".join(parts[:depth])
                madds[prefix] += cost.multiply_adds(node)
                read[prefix].update(cost.weights(node))
        return {name: (madds[name], sum(read[name].values())) for name in madds}

    def _point(
        self,
        name: str,
        kind: str,
        module: str,
        node: fx.Node,
        layouts: dict[fx.Node, Layout],
        note: str,
        parameters: int,
        madds: int,
    ) -> Point:
        unused = "" if node in self.used else "output unused"
        return Point(
            name=name,
            kind=kind,
            module=module,
            shape=sizes(node.meta["val"], 1),
            layout=layouts.get(node, UNKNOWN),
            parameters=parameters,
            multiply_adds=madds,
            source=source_line(node),
            note=note or unused,
            node=node.name,
        )

    def _add_operations(
        self, points: dict[str, Point], given: dict[fx.Node, str], layouts: dict[fx.Node, Layout]
    ) -> dict[str, str]:
        """Operations become points, but for those that are their module's output: these are aliases."""
        aliases: dict[str, str] = {}
        names: dict[fx.Node, str] = {}
        listed = dict(given)
        live = self._depends_on_image()
        for node in self.graph.nodes:
            if node not in live or node in self.records or node.op != "call_function":
                continue
            name = self._operation_name(node, names, points, aliases)
            if name is None:
                continue
            owner = self.owner.get(node)
            if owner and given.get(node, "").startswith(owner):
                aliases[name] = given[node]
            elif _unchanged(node) in listed:
                # Nothing happens there, so that it would only crowd the tree.
                aliases[name] = listed[node] = listed[_unchanged(node)]
            else:
                listed[node] = name
                madds, parameters = cost.multiply_adds(node), sum(cost.weights(node).values())
                points[name] = self._point(name, "operation", op_name(node), node, layouts, "", parameters, madds)
        return aliases

    def _operation_name(self, node: fx.Node, names: dict[fx.Node, str], *taken: dict[str, Any]) -> str | None:
        """The name of an operation that holds one tensor, else None (remembering those of several)."""
        everything = set().union(*taken, names.values())
        owner = self.owner.get(node, "")
        public = op_name(node)
        if isinstance(node.meta.get("val"), (tuple, list)):
            base = public.replace("_with_indices", "")
            names[node] = numbered(f"{owner}.{base}" if owner else base, everything)
            return None
        if getattr(node.target, "__name__", "") == "getitem" and node.args[0] in names:
            single = public in _SINGLE or public.startswith("scaled_dot_product")
            single = single or getattr(node.args[0].target, "single_output", False)
            if single:
                return names[node.args[0]] if node.args[1] == 0 else None
            return f"{names[node.args[0]]}.{node.args[1]}"
        if public in _PLUMBING or not isinstance(node.meta.get("val"), Tensor):
            return None
        return numbered(f"{owner}.{public}" if owner else public, everything)

    def _depends_on_image(self) -> set[fx.Node]:
        live = {self.image}
        for node in self.graph.nodes:
            if any(i in live for i in node.all_input_nodes) and not op_name_is(node, "sym_size"):
                live.add(node)
        return live

    def _add_silent_modules(self, points: dict[str, Point]) -> None:
        called = {name.replace(":", ".").split(".")[0] for name in points} | set(points)
        for path, module in self.user.named_modules() if self.user is not None else ():
            container = isinstance(module, (nn.ModuleList, nn.ModuleDict, nn.ParameterList))
            if path and not container and not _is_called(path, called, points):
                count = sum(p.numel() for p in module.parameters())
                points[path] = Point(path, "module", type(module).__name__, parameters=count, note="never called")

    def _in_order(self, points: dict[str, Point]) -> dict[str, Point]:
        position = {node.name: i for i, node in enumerate(self.graph.nodes)}
        last = len(position)
        ordered = sorted(points.values(), key=lambda p: position.get(p.node, last))
        return {p.name: p for p in ordered}

    def _finish(self, points: dict[str, Point]) -> tuple[fx.GraphModule, list[str]]:
        output = self.graph.find_nodes(op="output")[0]
        named = [n for n in self.graph.nodes if n.name in {p.node for p in points.values()}]
        output.args = ((*self.outputs, *named),)
        self.graph.eliminate_dead_code()
        module = fx.GraphModule(self.tensors, self.graph)  # type: ignore[arg-type]
        return module, [node.name for node in self.outputs]


def _given(calls: list[_Call]) -> dict[fx.Node, str]:
    """The operations that are a module's output (of the innermost such module), stopped or not."""
    given: dict[fx.Node, str] = {}
    for call in calls:
        given.setdefault(call.node, call.name)
        if call.node.target is opaque.stop_gradient:
            given.setdefault(call.node.all_input_nodes[0], call.name)
    return given


def _unchanged(node: fx.Node) -> fx.Node:
    """The node whose values an operation hands on as they are, in the same shape; the node itself otherwise."""
    source = node.args[0] if node.args else None
    if op_name(node) not in _HANDING_ON or not isinstance(source, fx.Node):
        return node
    old, new = source.meta.get("val"), node.meta["val"]
    same = isinstance(old, Tensor) and old.dtype == new.dtype and sizes(old, PRIME) == sizes(new, PRIME)
    return source if same else node


def op_name_is(node: fx.Node, name: str) -> bool:
    """Whether a node is a call of the operation ``name``."""
    return node.op == "call_function" and op_name(node) == name


def _is_called(path: str, called: set[str], points: dict[str, Point]) -> bool:
    if path in called:
        return True
    return any(name.startswith((path + ".", path + ":")) for name in points)


def flat_tensors(output: Any) -> list[Tensor]:
    """The tensors of a network's output, in order."""
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
