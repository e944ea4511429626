"""A program of operations that the functional form leaves as they are is taken as it is: it is the same then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from helpers import ConvNet
from inward.network import export, functional
from inward.network.functional import UNCHANGED, decomposed, is_functional
from same import seeded

Form = Callable[[Tensor, nn.Module], Any]

FORMS: dict[str, Form] = {
    "conv2d": lambda x, m: F.conv2d(x, m.kernel, padding=1, stride=2),
    "conv_transpose2d": lambda x, m: F.conv_transpose2d(x, m.kernel),
    "linear": lambda x, m: F.linear(x, m.square),
    "products": lambda x, m: torch.einsum("nchw,wv->nchv", x @ m.square.transpose(0, 1), m.square),
    "attention": lambda x, m: F.scaled_dot_product_attention(x, x, x),
    "activations": lambda x, m: [
        f(x) for f in (F.relu, F.leaky_relu, F.elu, F.silu, F.gelu, F.softplus, F.hardtanh, F.hardswish, F.relu6)
    ],
    "curves": lambda x, m: [x.sigmoid(), x.tanh(), F.prelu(x, m.slope), x.clamp(0, 1), x.clamp_min(0.1)],
    "arithmetic": lambda x, m: [x + x, x + 1, x - x, 1 - x, x * x, 2 * x, x / (x + 1), x / 2, -x, x**2, x.square()],
    "functions": lambda x, m: [x.exp(), (x + 1).log(), (x + 1).log10(), x.log1p(), x.sqrt(), (x + 1).rsqrt(), x.abs()],
    "steps": lambda x, m: [x.sign(), x.sin(), x.round(), x.floor(), torch.maximum(x, 1 - x)],
    "reductions": lambda x, m: [x.mean((2, 3)), x.mean(), x.sum(1), x.amax((2, 3)), x.logsumexp(1)],
    "pools": lambda x, m: [F.max_pool2d(x, 2), F.avg_pool2d(x, 3, 2, 1), F.adaptive_avg_pool2d(x, (1, 2))],
    "softmax": lambda x, m: [x.softmax(1), x.log_softmax(1)],
    "joined": lambda x, m: [torch.cat([x, 2 * x], 1), torch.stack([x, 2 * x], 1)],
    "places": lambda x, m: [x.permute(0, 2, 3, 1), x.transpose(1, 2), x[:, None], x.mean(2, keepdim=True).squeeze(2)],
    "parts": lambda x, m: [x[:, :, 1:3], x[:, 1], x[:, :1].expand(-1, 3, -1, -1), x.roll(1, 2), x.flip(2)],
    "borders": lambda x, m: [F.pad(x, (1, 2, 0, 1)), F.pad(x, (1, 1, 1, 1), mode="reflect")],
    "norms": lambda x, m: [F.layer_norm(x, (6,)), F.group_norm(x, 3), x.clone()],
    "larger": lambda x, m: [F.interpolate(x, scale_factor=2), F.interpolate(x, (7, 9), mode="bilinear")],
    "not used": lambda x, m: (x.exp(), x + 1)[1],
    "handed on": lambda x, m: x,
}


class Module(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.kernel = nn.Parameter(torch.rand(3, 3, 3, 3))
        self.square = nn.Parameter(torch.rand(6, 6))
        self.slope = nn.Parameter(torch.rand(1))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        return self.form(self.activation(x), self)


def program(form: Form) -> torch.export.ExportedProgram:
    """As it is exported, with a record of what a module gave."""
    module = Module(form).eval()
    batch = {"x": {0: torch.export.Dim.DYNAMIC}}
    return torch.export.export(module, (torch.rand(2, 3, 5, 6),), strict=False, dynamic_shapes=batch)


def lines(found: torch.export.ExportedProgram) -> list[str]:
    """Every operation, with its inputs, the shape of what it gives, and whose module it is of."""
    rows, numbers = [], {node: i for i, node in enumerate(found.graph.nodes)}
    for node in found.graph.nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda other: f"%{numbers[other]}")
        value = node.meta.get("val")
        shape = [str(n) if isinstance(n, int) else "n" for n in value.shape] if isinstance(value, Tensor) else ""
        stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        rows.append(f"{node.op} {node.target} {args} {kwargs} {shape} {stack}")
    return rows


@pytest.mark.parametrize("name", FORMS)
def test_the_functional_form_is_the_same(name: str) -> None:
    first = program(FORMS[name])
    assert is_functional(first)
    assert functional.functional(first) is first
    second = decomposed(program(FORMS[name]))
    assert lines(second) == lines(first)
    assert second.graph_signature.inputs_to_parameters == first.graph_signature.inputs_to_parameters
    specs = [[spec.kind for spec in p.graph_signature.output_specs] for p in (first, second)]
    assert specs[0] == specs[1]


def test_every_operation_of_the_list_is_compared() -> None:
    seen = {str(node.target) for form in FORMS.values() for node in program(form).graph.nodes}
    assert seen >= UNCHANGED


@pytest.mark.parametrize(
    "form",
    [
        lambda x, m: x.clone().add_(1),
        lambda x, m: F.relu(x + 1, inplace=True),
        lambda x, m: x.flatten(1),
        lambda x, m: F.batch_norm(x, torch.zeros(3), torch.ones(3)),
        lambda x, m: x.detach() + x,
        lambda x, m: x.reshape(-1, 90),
    ],
)
def test_other_programs_are_traced_again(form: Form) -> None:
    assert not is_functional(program(form))


def test_the_graph_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Points, owners and weights of a network, and what it computes, with and without the second trace."""
    module, x = seeded(ConvNet).eval(), torch.rand(3, 3, 9, 12)
    short = export.export(module, x[:1])
    monkeypatch.setattr(export, "functional", decomposed)
    long = export.export(module, x[:1])
    assert list(short.points) == list(long.points)
    for ours, theirs in zip(short.points.values(), long.points.values(), strict=True):
        assert (ours.shape, ours.kind, ours.source, ours.module) == (
            theirs.shape,
            theirs.kind,
            theirs.source,
            theirs.module,
        )
    names = list(short.outputs)
    assert all(map(torch.equal, short.run(x, names), long.run(x, names)))
