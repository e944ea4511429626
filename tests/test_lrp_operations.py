"""Which operation does what with relevance: those that pass it on, those that have a rule, those refused by address."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from inward import CallError, Network
from inward.methods.lrp import lrp
from propagated import MEAN, RULES, SIZE, STD, WIDE, branches, column, everything, gap, lively, shown, step, wide
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return everything()


RELUS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "functional": F.relu,
    "in place": lambda h: F.relu_(h),
    "clamp": lambda h: h.clamp(min=0),
    "maximum": lambda h: torch.maximum(h, torch.zeros(())),
}


class Twice(nn.Module):
    """A ReLU that is used twice, in whichever way it is written."""

    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.second, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), relu

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.conv(x)))).mean((2, 3))


@pytest.mark.parametrize("name", RELUS)
def test_a_relu_is_a_relu_however_it_is_written(name: str) -> None:
    module: Any = seeded(lambda: Twice(RELUS[name])).to(WIDE)
    x = images(3, 3, *SIZE, dtype=WIDE)
    found = lrp(wide(module), x, target="class:1", rule="z-plus").values
    with torch.no_grad():
        a = module.conv(x).relu()
        b = module.second(a).relu()
        r = torch.zeros_like(b.mean((2, 3)))
        r[:, 1] = b[:, 1].mean((1, 2))
        r = step("epsilon", lambda v: v.mean((2, 3)), b, r)
        expected = step("z-plus", module.conv, x, step("z-plus", module.second, a, r))
    assert gap(found, expected) <= 1e-11


class Middle(networks.Small):
    def __init__(self, function: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.gate = nn.Conv2d(4, 4, 1)

    def middle(self, h: Tensor) -> Tensor:
        # Points of their own: products hand on what they are given in other numbers.
        return self.function(self, h.relu() * 2) * 3


PASSING: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "local response norm": lambda m, h: F.local_response_norm(h, 3, 0.5),
    "own spelling of it": lambda m, h: h / (1 + h.mul(h).mean(1, keepdim=True)),
    "gate": lambda m, h: h * m.gate(h.mean((2, 3), keepdim=True)).sigmoid(),
    "gate in front": lambda m, h: m.gate(h).sigmoid() * h,
    "scaled gate": lambda m, h: h * (F.relu6(m.gate(h) + 3) / 6),
    "narrow gate": lambda m, h: h * m.gate(h).mean(1, keepdim=True),
    "constants": lambda m, h: 3 - (h * torch.arange(1.0, 5).view(4, 1, 1) - 0.7) / 2,
    "activations": lambda m, h: F.dropout(F.elu(F.gelu(h).sigmoid()).clone(), 0.5, False).contiguous(),
    "silu": lambda m, h: h * h.sigmoid(),
}


@pytest.mark.parametrize("name", PASSING)
def test_relevance_passes_unchanged(name: str) -> None:
    net = wide(seeded(lambda: Middle(PASSING[name])))
    x = images(3, 3, *SIZE, dtype=WIDE)
    before = lrp(net, x, target="class:3", at="mul").values
    last = [p for p, point in net.points.items() if point.kind == "operation" and p.startswith("mul")][-1]
    after = lrp(net, x, target="class:3", at=last).values
    assert after.shape == (3, 4, *SIZE)
    assert gap(before, after) <= 1e-12


def test_gates_are_named() -> None:
    net = wide(seeded(lambda: Middle(PASSING["gate"])))
    found = lrp(net, images(3, 3, *SIZE, dtype=WIDE), target="class:3")
    assert found.record.notes == ("relevance went past the gates at mul:2, as if they were constants",)
    # Its weights get nothing, and what they read gets no more than its own share.
    with pytest.raises(CallError, match="no path from it"):
        lrp(net, images(3, 3, *SIZE, dtype=WIDE), target="class:3", at="gate")


class Multiplied(nn.Module):
    """A linear layer, and what else may be written for one."""

    def __init__(self, function: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 3), function
        self.weight, self.offset = nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x).relu().mean((2, 3)), self.weight, self.offset)


PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "matmul": lambda h, w, b: h @ w.t(),
    "left": lambda h, w, b: (w @ h.t()).t(),
    "addmm": lambda h, w, b: torch.addmm(b, h, w.t()),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_with_a_weight_is_a_layer(name: str) -> None:
    module: Any = seeded(lambda: Multiplied(PRODUCTS[name])).to(WIDE)
    net, x = wide(module), images(3, 3, *SIZE, dtype=WIDE)
    with torch.no_grad():
        a = module.conv(x).relu()
        h = a.mean((2, 3))
        y = module(x)
        r = y * (torch.arange(5) == 2)
        offset = module.offset if name == "addmm" else None
    for rule in ("gamma", "epsilon"):
        with torch.no_grad():
            inner = step(rule, lambda v: F.linear(v, module.weight, offset), h, r)
            inner = step("epsilon", lambda v: v.mean((2, 3)), a, inner)
            expected = step(rule, module.conv, x, inner)
        assert gap(lrp(net, x, target="class:2", rule=rule).values, expected) <= 1e-11  # type: ignore[arg-type]


def test_what_is_stretched_by_a_constant_gets_all_of_it() -> None:
    ramp = torch.arange(63.0).view(1, 1, *SIZE)
    net = wide(seeded(lambda: Middle(lambda m, h: h.mean((2, 3), keepdim=True) * ramp)))
    x = images(3, 3, *SIZE, dtype=WIDE)
    after = lrp(net, x, target="class:3", at="mul:2").values
    assert after.shape == (3, 4, *SIZE)
    assert gap(lrp(net, x, target="class:3", at="mean").values, after.sum((2, 3), keepdim=True)) <= 1e-12


@torch.library.custom_op("inward_tests::relu", mutates_args=())
def relu(h: Tensor) -> Tensor:
    """An operation of somebody's own, by the name of one that has a rule."""
    return h.sin()


relu.register_fake(torch.empty_like)
relu.register_autograd(
    lambda ctx, grad: grad * ctx.saved_tensors[0].cos(),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "softmax": (lambda m, h: h.softmax(1), "no rule for 'softmax' at 'softmax'"),
    "layer norm": (lambda m, h: F.layer_norm(h, h.shape[1:]), "no rule for 'layer_norm' at 'layer_norm'"),
    "group norm": (lambda m, h: F.group_norm(h, 2), "no rule for 'group_norm' at 'group_norm'"),
    "product": (lambda m, h: h * m.gate(h), "no rule for 'mul' at 'mul:2'"),
    "attention": (
        lambda m, h: (h.flatten(2) @ h.flatten(2).transpose(1, 2) @ h.flatten(2)).view_as(h),
        "no rule for 'bmm' at|no rule for 'matmul' at",
    ),
    "exponential": (lambda m, h: h.exp(), "no rule for 'exp' at 'exp'"),
    "reciprocal": (lambda m, h: 1 / (1 + h), "no rule for 'reciprocal' at 'reciprocal'"),
    "own operation": (lambda m, h: relu(h), "no rule for 'relu' at 'relu:2'"),
    "own gradient": (lambda m, h: networks.Sign.apply(h), "no rule for 'Sign' at"),  # type: ignore[no-any-return]
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_address(name: str) -> None:
    function, reason = REFUSED[name]
    net = wide(seeded(lambda: Middle(function)))
    x = images(2, 3, *SIZE, dtype=WIDE)
    with pytest.raises(CallError, match=reason):
        lrp(net, x, target="class:3")
    # Only what is on the way is asked for a rule.
    assert lrp(net, x, target="conv/1").values.any()
    assert lrp(net, x, target="class:3", at="fc").values.any()


def test_a_network_without_a_graph_is_refused() -> None:
    net = Network.of(seeded(networks.DataBranch), size=SIZE)
    with pytest.warns(match="only its modules"), pytest.raises(CallError, match="through the network's graph"):
        lrp(net, images(2, 3, *SIZE), target="class:1")


class NormFirst(nn.Module):
    """As in DenseNet: the batch norm stands before the convolution, and cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x).relu()).mean((2, 3))


def test_a_norm_of_its_own_is_a_linear_map() -> None:
    module: Any = lively(seeded(NormFirst)).to(WIDE)
    x = images(3, 3, *SIZE, dtype=WIDE)
    found = lrp(wide(module), x, target="class:2", rule="epsilon", epsilon=0.01).values
    with torch.no_grad():
        y = module.norm(x)
        z = module.conv(y.relu())
        r = torch.zeros_like(z.mean((2, 3)))
        r[:, 2] = z[:, 2].mean((1, 2))
        r = step("epsilon", lambda v: v.mean((2, 3)), z, r)
        r = step("epsilon", module.conv, y.relu(), r, 0.01)
        assert gap(found, step("epsilon", module.norm, x, r, 0.01)) <= 1e-11


class Shared(nn.Module):
    """A convolution that is read by its norm and by another, so that the two are no one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return (self.norm(h) + self.relu(h)).mean((2, 3))


def test_a_norm_that_is_not_alone_is_a_linear_map() -> None:
    module: Any = lively(seeded(Shared)).to(WIDE)
    x = images(3, 3, *SIZE, dtype=WIDE)
    found = lrp(wide(module), x, target="class:2", rule="epsilon").values
    with torch.no_grad():
        h = module.conv(x)
        left, right = module.norm(h), h.relu()
        total = left + right
        r = total.mean((2, 3)) * (torch.arange(5) == 2)
        r = step("epsilon", lambda v: v.mean((2, 3)), total, r)
        quotient = r / (total + 1e-6 * torch.where(total < 0, -1.0, 1.0))
        r = step("epsilon", module.norm, h, left * quotient) + right * quotient
        assert gap(found, step("epsilon", module.conv, x, r)) <= 1e-10


def test_a_target_before_its_norm_is_of_the_convolution_alone(net: Network) -> None:
    module: Any = branches()
    x = images(3, 3, *SIZE, dtype=WIDE)
    with torch.no_grad():
        z = module.conv(shown(x))
        r = torch.zeros_like(z)
        r[:, 4, 2, 5] = z[:, 4, 2, 5]
        expected = step("epsilon", module.conv, shown(x), r)
    # For any later target the two are one layer: its norm gives it what it gets itself. Asked before and after.
    for _ in range(2):
        after = lrp(net, x, target="class:3", rule="epsilon", at="norm").values
        assert gap(lrp(net, x, target="class:3", rule="epsilon", at="conv").values, after) <= 1e-12
        assert gap(lrp(net, x, target="conv/4@2,5", rule="epsilon").values, expected) <= 1e-11


class Inside(nn.Module):
    """A network that takes off its own mean."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.register_buffer("mean", column(MEAN))
        self.register_buffer("std", column(STD))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x - self.mean) / self.std)


def test_a_mean_inside_of_the_network_is_the_same(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    other = wide(Inside(branches()).eval())
    for rule in RULES:
        expected = lrp(net, x, target="class:3", rule=rule).values  # type: ignore[arg-type]
        assert gap(lrp(other, x, target="class:3", rule=rule).values, expected) <= 1e-11  # type: ignore[arg-type]


def test_channels_come_back_in_the_order_of_the_image() -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    options: dict[str, Any] = {"mean": MEAN[::-1], "std": STD[::-1]}
    found = lrp(wide(branches(), order="bgr", **options), x, target="class:3").values
    expected = lrp(wide(branches(), mean=MEAN, std=STD), x.flip(1), target="class:3").values.flip(1)
    assert gap(found, expected) <= 1e-12
