"""The functional form that is reached by exchanging operations in place is the one that a second trace gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from helpers import ConvNet
from inward.network import export, functional
from inward.network.functional import UNCHANGED, decomposed
from inward.network.plain import rewrites
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
    "hard": lambda x, m: [F.hardsigmoid(x), F.avg_pool3d(x[:, None], 2)],
    "shapes": lambda x, m: [x.view(x.shape[0], 3, 30), x.view(-1, 90)],
    "larger": lambda x, m: [F.interpolate(x, scale_factor=2), F.interpolate(x, (7, 9), mode="bilinear")],
    "not used": lambda x, m: (x.exp(), x + 1)[1],
    "handed on": lambda x, m: x,
}

REWRITTEN: dict[str, Form] = {
    "flattened": lambda x, m: F.linear(x.flatten(1), m.wide),
    "flattened inside": lambda x, m: x.flatten(2).transpose(1, 2),
    "flattened of another order": lambda x, m: x.transpose(1, 2).flatten(1),
    "flattened of another order, seen": lambda x, m: x.permute(0, 2, 3, 1).flatten(1, 2),
    "reshaped": lambda x, m: [x.reshape(x.shape[0], 3, 30), x.reshape(x.shape[0], -1) + 1],
    "reshaped of another order": lambda x, m: x.transpose(1, 3).reshape(x.shape[0], 6, 15),
    "reshaped by the rest": lambda x, m: x.reshape(-1, 90) + 1,
    "unflattened": lambda x, m: x.unflatten(1, (1, 3)),
    "in order": lambda x, m: x.transpose(1, 2).contiguous() + 1,
    "dropped": lambda x, m: F.dropout(x, 0.5, False) + 1,
    "dropped in place": lambda x, m: F.dropout(x + 1, 0.5, False, inplace=True) * 2,
    "dropped in place from a view": lambda x, m: F.dropout(x.flatten(1), 0.5, False, inplace=True) * 2,
    "activated in place": lambda x, m: [
        f(x + 1, inplace=True) for f in (F.relu, F.silu, F.leaky_relu, F.elu, F.hardswish, F.hardtanh)
    ],
    "curved in place": lambda x, m: [(x + 1).sigmoid_(), (x + 1).tanh_(), F.hardsigmoid(x + 1, inplace=True)],
    "counted in place": lambda x, m: [(2 * x).add_(x), (2 * x).sub_(x), (2 * x).mul_(x), (2 * x).div_(x + 1)],
    "a number in place": lambda x, m: [(2 * x).add_(1), (2 * x).mul_(0.5)],
    "twice in place": lambda x, m: F.relu((x - 1).add_(x), inplace=True).mul_(2),
    "read after it was written": lambda x, m: written(x - 0.5),
    "read before and after": lambda x, m: (lambda y: y.exp() * 0 + (y * 2) + F.relu_(y) + y)(x - 0.5),
    "normalized": lambda x, m: F.relu(m.norm(x), inplace=True),
    "normalized, read twice": lambda x, m: (lambda y: F.relu_(y) + y)(m.norm(x)),
}


def written(y: Tensor) -> Tensor:
    """What was written into is read by its first name."""
    z = y * 3
    F.relu_(y)
    y.add_(z)
    return y.transpose(1, 2) * y.transpose(1, 2)


class Module(nn.Module):
    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.kernel = nn.Parameter(torch.rand(3, 3, 3, 3))
        self.square = nn.Parameter(torch.rand(6, 6))
        self.slope = nn.Parameter(torch.rand(1))
        self.wide = nn.Parameter(torch.rand(2, 90))
        self.norm = nn.BatchNorm2d(3)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Any:
        return self.form(self.activation(x), self)


def program(form: Form, **changed: nn.Module) -> torch.export.ExportedProgram:
    """As it is exported, with a record of what a module gave."""
    module = Module(form).eval()
    for name, part in changed.items():
        setattr(module, name, part)
    batch = {"x": {0: torch.export.Dim.DYNAMIC}}
    return torch.export.export(module, (torch.rand(2, 3, 5, 6),), strict=False, dynamic_shapes=batch)


def lines(found: torch.export.ExportedProgram) -> list[str]:
    """Every operation, with its inputs, the shape of what it gives, and whose module it is of."""
    rows, numbers = [], {node: i for i, node in enumerate(found.graph.nodes)}
    for node in found.graph.nodes:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda other: f"%{numbers[other]}")
        value = node.meta.get("val")
        shape = [str(n) if isinstance(n, int) else "n" for n in value.shape] if isinstance(value, Tensor) else ""
        stack = [path for path, _ in node.meta.get("nn_module_stack", {}).values() if not path.startswith("_empty_nn")]
        rows.append(f"{node.op} {node.target} {args} {kwargs} {shape} {stack}")
    return rows


@pytest.mark.parametrize("name", [*FORMS, *REWRITTEN])
def test_the_functional_form_is_the_same(name: str) -> None:
    form = (FORMS | REWRITTEN)[name]
    first = program(form)
    todo = rewrites(first, UNCHANGED)
    assert todo is not None
    assert (todo == []) == (name in FORMS)
    assert functional.functional(first) is first
    second = decomposed(program(form))
    assert lines(second) == lines(first)
    first.graph.lint()
    assert second.graph_signature.inputs_to_parameters == first.graph_signature.inputs_to_parameters
    specs = [[spec.kind for spec in p.graph_signature.output_specs] for p in (first, second)]
    assert specs[0] == specs[1]


def test_every_operation_of_the_list_is_compared() -> None:
    seen = {str(node.target) for form in FORMS.values() for node in program(form).graph.nodes}
    assert seen >= UNCHANGED


OTHERS: dict[str, Form] = {
    "a view is written into": lambda x, m: (lambda y: (y[:, 0].add_(1), y)[1])(x + 1),
    "what has a view is written into": lambda x, m: (lambda y: (y[:, 0], y.add_(1))[0])(x + 1),
    "what has a flat view is written into": lambda x, m: (lambda y: (y.flatten(1), y.add_(1))[0])(x + 1),
    "what was dropped is written into": lambda x, m: (
        lambda y: (lambda z: (z.add_(1), y)[1])(F.dropout(y, 0.5, False))
    )(x + 1),
    "rounded into another type": lambda x, m: (x + 1).add_(x.double()),
    "integers": lambda x, m: (x.to(torch.int32) + 1).add_(1),
    "statistics of the batch": lambda x, m: F.batch_norm(x, None, None, training=True),
    "cut off": lambda x, m: x.detach() + x,
    "handed on as it is": lambda x, m: x.flatten(1).flatten(1) + 1,
    "images in one row": lambda x, m: x.flatten(0, 1) + 1,
    "not known": lambda x, m: x.cumsum(1),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs_are_traced_again(name: str) -> None:
    found = program(OTHERS[name])
    before = lines(found)
    assert rewrites(found, UNCHANGED) is None
    assert lines(found) == before
    assert functional.functional(found) is not found


def test_an_image_that_is_written_into_is_traced_again() -> None:
    assert rewrites(program(lambda x, m: x.add_(1), activation=nn.Identity()), UNCHANGED) is None


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
