"""Whether a network is the module that it was made from, and whether it left it alone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from inward.network import Network

# A graph runs the module's own operations, so that values are equal to the last bit. Where a
# tensor is used several times, the parts of its gradient may be added in another order.
ROUNDINGS = 32


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A module in eval mode with the same random weights every time; none of them zero throughout."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make().eval()
        for parameter in module.parameters():
            # Heads and scales that start at 0 would make logits and gradients 0: equal to anything.
            if parameter.count_nonzero() == 0 or parameter.abs().max() < 1e-4:
                nn.init.normal_(parameter, std=0.1)
    return module


def images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(7)).to(dtype)


def tensors(output: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]


def network_outputs(net: Network) -> Callable[[Tensor], list[Tensor]]:
    """All outputs of a network, the further ones by their addresses."""
    names = ["class", *(f"class@{i}" for i in range(1, len(net.graph(net.size).outputs)))]
    return lambda x: [net.trace(x, names)[name] for name in names]


def answers(run: Callable[[Tensor], Any], x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Outputs, and the gradient of a fixed combination of all of them."""
    x = x.detach().clone().requires_grad_(True)
    outputs = tensors(run(x))
    total = sum((o.double() * torch.cos(torch.arange(o.numel()).reshape(o.shape) + 1.0)).sum() for o in outputs)
    (gradient,) = torch.autograd.grad(total, x)  # type: ignore[arg-type]
    return [o.detach() for o in outputs], gradient


def assert_same_answers(net: Network, module: nn.Module, x: Tensor, rtol: float = 0.0) -> None:
    """Equal outputs (to ``rtol`` of the largest) and equal gradients, neither of them constant."""
    reference = copy.deepcopy(module)
    outputs, gradient = answers(network_outputs(net), x)
    expected, slope = answers(lambda i: reference(i.to(net.dtype)), x)
    assert len(outputs) == len(expected)
    for a, b in zip(outputs, expected, strict=True):
        assert b.double().std() > 0
        assert a.dtype == b.dtype
        assert (a.double() - b.double()).abs().max() <= rtol * b.double().abs().max()
    assert slope.double().std() > 0
    gap = max(rtol, ROUNDINGS * torch.finfo(net.dtype).eps)
    assert (gradient.double() - slope.double()).abs().max() <= gap * slope.double().abs().max()


def hooked(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What forward hooks on a copy see, cloned as they fire, by the names that inward should give."""
    module = copy.deepcopy(module)
    seen: dict[str, Tensor] = {}
    paths = {m: path for path, m in module.named_modules() if path}
    open_calls: list[tuple[str, str]] = []
    count: Counter[str] = Counter()

    def enter(called: nn.Module, _: Any) -> None:
        path = paths[called]
        inside = [(p, name) for p, name in open_calls if path.startswith(p + ".")]
        base = inside[-1][1] + path.removeprefix(inside[-1][0]) if inside else path
        count[base] += 1
        open_calls.append((path, base if count[base] == 1 else f"{base}:{count[base]}"))

    def leave(called: nn.Module, _: Any, output: Any) -> None:
        name = open_calls.pop()[1]
        for path, leaf in pytree.tree_leaves_with_path(output):
            if isinstance(leaf, Tensor):
                keys = [str(getattr(key, "idx", getattr(key, "key", ""))) for key in path]
                full = ".".join([name, *keys])
                seen[f"{full}:2" if full in seen else full] = leaf.detach().clone()

    for each in paths:
        each.register_forward_pre_hook(enter)
        each.register_forward_hook(leave)
    # Attention takes another path, with other rounding, where no gradient is wanted.
    module(x.detach().requires_grad_(True))
    return seen


def assert_same_points(
    net: Network, module: nn.Module, x: Tensor, rtol: float = 0.0, renamed: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Every module point that was called holds what a hook sees, and no call is missing.

    ``renamed`` names calls that go by another name: the second of a module with two names.
    """
    expected = {renamed.get(name, name): value for name, value in hooked(module, x.to(net.dtype)).items()}
    named = [p.name for p in net.points.values() if p.kind == "module" and p.note != "never called"]
    assert sorted(named) == sorted(expected)
    with torch.no_grad():
        trace = net.trace(x, named)
    for name in named:
        value, wanted = trace[name], expected[name]
        assert value.dtype == wanted.dtype, name
        gap = (value.double() - wanted.double()).abs().max()
        assert gap <= rtol * wanted.double().abs().max(), name


def assert_alone(net: Network, x: Tensor, names: Sequence[str]) -> None:
    """A point computed without what it does not need is the point computed with everything."""
    together = net.trace(x, list(names))
    for name in names:
        assert torch.equal(net.trace(x, name)[name], together[name]), name


@contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """What happens within leaves the module, its gradients and the global randomness as they were."""
    before, state = _state(module), {k: v.clone() for k, v in module.state_dict().items()}
    random, grad_mode = torch.get_rng_state(), torch.is_grad_enabled()
    yield
    assert _state(module) == before
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.is_grad_enabled() == grad_mode


def _state(module: nn.Module) -> list[Any]:
    """Flags, hooks, attributes and the identity of every tensor, module by module."""
    described: list[Any] = []
    for path, each in module.named_modules():
        held = {**each._parameters, **each._buffers}
        tensors = {k: (id(v), v.requires_grad, v.data_ptr()) for k, v in held.items() if v is not None}
        hooks = {k: list(v) for k, v in vars(each).items() if "hooks" in k and v is not None}
        attributes = {k: id(v) for k, v in vars(each).items() if not k.startswith("_")}
        described.append((path, id(each), type(each), each.training, tensors, hooks, attributes))
    return described
