"""Surroundings of the caller, and habits of modules, that must change neither side."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import networks
from inward.errors import CallError, InwardWarning
from inward.network import Network
from inward.network.export import export
from inward.network.modes import exchanged
from inward.network.source import difference
from same import answers, assert_same_answers, images, network_outputs, seeded, untouched

SIZE = (9, 7)
SURROUNDINGS: dict[str, Callable[[], AbstractContextManager]] = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


@pytest.mark.parametrize("name", ["Functional", "NoGradModule", "Updates", "Frozen", "LargeBatchBranch"])
@pytest.mark.parametrize("around", SURROUNDINGS)
def test_where_a_network_is_first_used_does_not_matter(name: str, around: str) -> None:
    module = seeded((networks.GRAPHS | networks.HOOKED)[name])
    net = Network.of(module, size=SIZE)
    x = images(3, 3, *SIZE)
    hooked = name in networks.HOOKED
    if hooked:
        with SURROUNDINGS[around](), pytest.warns(InwardWarning):
            first = net(x)
    else:
        with SURROUNDINGS[around](), untouched(module):
            first = net(x)
    assert first.dtype == torch.float32
    assert torch.equal(first, net(x))
    assert_same_answers(net, module, x)


@pytest.mark.parametrize("name", ["Functional", "ReusedBlock", "LargeBatchBranch"])
def test_autocast_around_a_run_changes_nothing(name: str) -> None:
    module = seeded((networks.GRAPHS | networks.HOOKED)[name])
    net = Network.of(module, size=SIZE)
    x = images(3, 3, *SIZE)
    if name in networks.HOOKED:
        with pytest.warns(InwardWarning):
            assert not net.is_graph
    outside, slope = answers(network_outputs(net), x)
    x.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = net(x)
    assert torch.equal(inside, outside[0])
    weights = torch.cos(torch.arange(inside.numel()).reshape(inside.shape) + 1.0).double()
    (gradient,) = torch.autograd.grad((inside.double() * weights).sum(), x)
    assert torch.equal(gradient, slope)


def test_a_module_made_in_inference_mode_has_gradients() -> None:
    with torch.inference_mode():
        module = seeded(networks.Functional)
        net = Network.of(module, size=SIZE)
        double = net.to(dtype=torch.float64)
        assert double(images(1, 3, *SIZE)).dtype == torch.float64
    assert not any(w.is_inference() for n in (net, double) for w in n._source.weights().values())
    x = images(2, 3, *SIZE).requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(x).sum(), x)
    assert gradient.std() > 0


class Locked(networks.Updates):
    """Cannot be copied; holds a reference to one of its own modules, and a list that it writes to."""

    def build(self) -> None:
        super().build()
        self.lock = threading.Lock()
        self.twin = self.conv
        self.own = [self.conv]
        self.log: list[int] = []

    def middle(self, h: Tensor) -> Tensor:
        with self.lock:
            self.log.append(1)
            return super().middle(h)


def test_a_module_that_cannot_be_copied_is_left_alone() -> None:
    module = seeded(Locked)
    before = (id(module.lock), id(module.conv), id(module.last), module.count, list(module.log), module.steps.item())
    net = Network.of(module, size=SIZE)
    x = images(2, 3, *SIZE)
    given = net(x)
    net.to(dtype=torch.float64)(x)
    after = (id(module.lock), id(module.conv), id(module.last), module.count, list(module.log), module.steps.item())
    assert after == before
    shared = net._source.module
    assert shared.own[0] is shared.twin is shared.conv
    held = [m for m in net._source.module.modules() if isinstance(m, nn.Conv2d)]
    assert len(held) == 1
    assert held[0] is not module.conv
    with torch.no_grad():
        # Weights are shared.
        module.fc.bias += 1
        assert torch.allclose(net(x), given + 1)
        assert torch.equal(net(x), module(x))
        assert module.conv.weight.dtype == torch.float32


def test_hooks_of_the_user_are_part_of_the_network() -> None:
    module = seeded(networks.Functional)
    module.conv.register_forward_hook(lambda _m, _i, output: output * 2)
    net = Network.of(module, size=SIZE)
    with untouched(module):
        x = images(2, 3, *SIZE)
        assert torch.equal(net(x), module(x))
        assert torch.equal(net.trace(x, "conv")["conv"], module.conv(x))


def test_a_module_with_two_names_keeps_its_parameters() -> None:
    net = Network.of(seeded(networks.Odd), size=SIZE)
    net(images(1, 3, *SIZE))
    assert all(isinstance(w, nn.Parameter) for w in net._source.module.parameters())


class Fails(networks.Small):
    """The logarithm of something negative: NaN for some places of some pictures."""

    def middle(self, h: Tensor) -> Tensor:
        return h.log()

    def forward(self, x: Tensor) -> Any:
        return self.middle(self.conv(x)).flatten(1)


def test_nan_is_compared_with_nan_and_numbers_with_numbers() -> None:
    module = seeded(Fails)
    image = images(1, 3, *SIZE)
    graph = export(module, image)
    assert graph.run(image, graph.outputs)[0].isnan().any()
    assert difference(module, graph, image) is None

    class Off(Fails):
        def middle(self, h: Tensor) -> Tensor:
            return h.log() * 1.5

    class Elsewhere(Fails):
        def middle(self, h: Tensor) -> Tensor:
            return h.abs().log()

    class Infinite(Fails):
        def middle(self, h: Tensor) -> Tensor:
            return (h.log() * 0).nan_to_num() + 1 / torch.zeros_like(h)

    for other in (Off, Elsewhere):
        assert "the output of the graph differs" in str(difference(seeded(other), graph, image))
    whole = seeded(Infinite)
    assert difference(whole, export(whole, image), image) is None
    assert "differs" in str(difference(whole, export(seeded(Elsewhere), image), image))


class Fixed(networks.Small):
    """Takes 8 x 8 pixels."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(self.conv(x).flatten(1), torch.ones(5, 4 * 64))


def test_a_failed_export_says_nothing_itself(capfd: pytest.CaptureFixture[str]) -> None:
    records: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record.getMessage())

    loggers = [logging.getLogger(n) for n in ("torch._subclasses.fake_tensor", "torch", "torch.fx.some.new.one")]
    handler, levels = Keep(), [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with pytest.raises(CallError, match="cannot take images of 9 x 7; it takes 8 x 8"):
            Network.of(seeded(Fixed), size=SIZE)(images(1, 3, *SIZE))
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    assert records == []
    assert [logger.level for logger in loggers] == levels
    assert capfd.readouterr() == ("", "")


def test_no_size_asks_for_all_the_memory_there_is() -> None:
    net = Network.of(seeded(networks.Functional), size=SIZE)
    with pytest.raises(CallError, match="200000 x 200000 is more than 100 megapixels"):
        Network.of(seeded(networks.Functional), size=200_000)
    with pytest.raises(CallError, match="200000 x 200000 is more than 100 megapixels"):
        net.resolve("conv/0", (200_000, 200_000))


def test_what_is_exchanged_is_exchanged_for_one_thread_and_put_back() -> None:
    class Owner:
        def word(self) -> str:
            return "own"

    owner, seen = Owner(), []
    owner.word = owner.word  # type: ignore[method-assign]
    before = owner.word

    def look() -> None:
        seen.append(owner.word())

    def fail() -> None:
        with exchanged(owner, "word", lambda: "other"):
            assert owner.word() == "other"
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert seen == ["own"]
    assert owner.word is before


class Contextual(torch.autograd.Function):
    """Asks its context for all that one may ask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable()
        ctx.scale = 1 + len(ctx.needs_input_grad)
        return x.sin() * ctx.scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * x.cos() * ctx.scale * 3


def test_a_custom_function_finds_what_it_asks_its_context_for() -> None:
    module = seeded(lambda: networks.Custom(Contextual.apply))  # type: ignore[arg-type]
    net = Network.of(module, size=SIZE)
    assert net.is_graph
    assert_same_answers(net, module, images(3, 3, *SIZE))


class Copies(networks.Small):
    """Operations that hand on what they get."""

    def middle(self, h: Tensor) -> Tensor:
        h = h[:, :, :, :].clone().contiguous().to(h.dtype).expand(h.shape).view(h.shape)
        return h[:, :, 1:].clone().relu()


def test_operations_that_do_nothing_are_no_points() -> None:
    module = seeded(Copies)
    net = Network.of(module, size=SIZE)
    assert [n.partition(":")[0] for n in net.points] == ["conv", "slice", "relu", "mean", "fc"]
    x = images(2, 3, *SIZE)
    assert torch.equal(net.trace(x, "clone")["clone"], module.conv(x))
    silent = Network.of(seeded(networks.Silent), size=SIZE)
    assert [n for n in silent.points if silent.points[n].kind == "module"] == [
        "conv", "block.0", "block.1", "block.2", "block", "same", "fc",
    ]  # fmt: skip
