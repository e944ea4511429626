"""The traps of export: for each, the network is the module, and the module is left alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from inward.errors import CallError, InwardError, InwardWarning
from inward.network import Network
from inward.network import edit as edits
from same import answers, assert_alone, assert_same_answers, assert_same_points, images, seeded, untouched

SIZE = (9, 7)
DTYPES = [torch.float32, torch.float64, torch.bfloat16]
# The rewrite of local response normalization adds and takes powers in another order.
REWRITTEN = {torch.float32: 5e-7, torch.float64: 1e-12, torch.bfloat16: 0.02}


def network(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> tuple[Network, nn.Module]:
    module = seeded(make).to(dtype)
    return Network.of(module, size=SIZE), module


def cases() -> list[tuple[str, torch.dtype]]:
    """PyTorch's own local response normalization does not run in bfloat16: see its test further down."""
    every = [(name, dtype) for name in networks.GRAPHS for dtype in DTYPES]
    return [case for case in every if case != ("Normalized", torch.bfloat16)]


@pytest.mark.parametrize(("name", "dtype"), cases(), ids=str)
def test_network_is_the_module(name: str, dtype: torch.dtype) -> None:
    net, module = network(networks.GRAPHS[name], dtype)
    x = images(3, net.preprocess.channels, *SIZE, dtype=dtype)
    rtol = REWRITTEN[dtype] if name == "Normalized" else 0.0
    with untouched(module):
        assert net.is_graph
        assert_same_answers(net, module, x, rtol)
        assert_same_points(net, module, x, rtol, {"one:2": "two"} if name == "Odd" else {})
        if dtype == torch.float32:
            assert_same_answers(net, module, x[:1], rtol)
            assert_alone(net, x, [p.name for p in net.points.values() if p.node])


@pytest.mark.parametrize("name", ["Functional", "CustomSetup", "MadeInForward", "Updates", "Normalized"])
def test_other_dtype_is_a_copy(name: str) -> None:
    net, module = network(networks.GRAPHS[name])
    with untouched(module):
        double = net.to(dtype=torch.float64)
        assert double.dtype == torch.float64
        x = images(3, net.preprocess.channels, *SIZE, dtype=torch.float64)
        assert_same_answers(double, seeded(networks.GRAPHS[name]).double(), x, 1e-12)
    assert net.dtype == torch.float32


NAMES = {
    "ReusedReLU": ["conv", "relu", "second", "add", "relu:2", "mean", "fc"],
    "ReusedBlock": ["conv", "seq.0", "seq.1", "seq", "seq:2.0", "seq:2.1", "seq:2", "mean", "fc"],
    "Functional": ["conv", "relu", "sigmoid", "cat", "sub", "relu:2", "add"],
    "NoGradModule": ["conv", "gate.0", "gate.1", "gate", "mul", "mean", "fc"],
    "Autocast": ["conv", "seq.0.to", "seq.0", "seq.1", "seq", "to", "mul"],
    "CustomSign": ["conv", "Sign", "add"],
    "CustomBoth": ["conv", "Both.0", "Both.1", "sub", "add"],
    "Silent": ["block.0", "block.1", "block.2", "block", "same"],
    "TupleModule": ["conv", "t.0", "t.1", "sub", "mean", "fc"],
    "NestedDict": ["t.0", "t.1", "t.out.0", "t.out.1.0", "u.0", "u.1", "u.0:2", "u.1:2"],
    "Normalized": ["lrn", "div"],
    "Odd": ["conv", "one", "two", "vain", "never"],
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    net, _ = network(networks.GRAPHS[name])
    assert [n for n in NAMES[name] if n not in net.points] == []


def test_notes() -> None:
    odd, _ = network(networks.Odd)
    assert {n: p.note for n, p in odd.points.items() if p.note} == {"never": "never called", "vain": "output unused"}
    with pytest.raises(CallError, match="'never' is never called"):
        odd.resolve("never/0")
    silent, _ = network(networks.Silent)
    assert {n for n, p in silent.points.items() if p.note == "returns its input"} == {"block.1", "same"}
    # A call that computes nothing costs nothing, whatever its neighbors cost.
    assert (silent.points["block.1"].parameters, silent.points["block.1"].multiply_adds) == (0, 0)
    nested, _ = network(networks.NestedDict)
    assert nested.points["t.out.1.0"].module == "_Nested"


def test_costs() -> None:
    net, _ = network(networks.ReusedBlock)
    assert (net.points["conv"].parameters, net.points["conv"].multiply_adds) == (4 * 27 + 4, 4 * 27 * 63)
    assert (net.points["seq:2"].parameters, net.points["seq:2"].multiply_adds) == (20, 16 * 63)
    assert net.points["fc"].multiply_adds == 20


# What a functional point is, and what it must be by its neighbors.
RELATIONS: dict[str, Callable[[dict[str, Tensor]], tuple[Tensor, Tensor]]] = {
    "ReusedReLU": lambda t: (t["add"], t["second"] + 0.1),
    "Functional": lambda t: (t["cat"], torch.cat([t["relu"][:, :2], t["sigmoid"][:, 2:]], 1)),
    "NoGradBlock": lambda t: (t["mul:2"], t["conv"] * t["mul"]),
    "NoGradModule": lambda t: (t["mul"], t["conv"] * t["gate"]),
    "CustomSign": lambda t: (t["Sign"], t["conv"].sign()),
    "CustomBoth": lambda t: (t["sub"], 2 * t["conv"] - t["Both.1"]),
    "TupleModule": lambda t: (t["sub"], t["t.0"] - t["t.1"]),
    "NestedDict": lambda t: (t["u.1:2"], 3 * t["u.0"]),
    "TwoOutputs": lambda t: (t["tanh"], t["mean"].tanh()),
}


@pytest.mark.parametrize("name", RELATIONS)
def test_operations_add_up(name: str) -> None:
    net, _ = network(networks.GRAPHS[name])
    x = images(3, 3, *SIZE)
    value, expected = RELATIONS[name](dict(net.trace(x, [p.name for p in net.points.values() if p.node])))
    assert value.std() > 0
    assert torch.equal(value, expected)


def test_in_place_operations_leave_earlier_points() -> None:
    net, module = network(networks.InPlace)
    x = images(3, 3, *SIZE)
    with torch.no_grad():
        assert torch.equal(net.trace(x, "conv")["conv"], module.conv(x))


def test_stopped_module_still_feeds_the_output() -> None:
    """Its gradient is stopped, and what follows depends on it: an edit there has an effect."""
    net, _ = network(networks.NoGradModule)
    graph = net.graph(SIZE)
    assert graph.reaches(net.points["gate"].node, graph.outputs[0])
    x = images(2, 3, *SIZE).requires_grad_(True)
    trace = net.trace(x, ["gate", "conv"])
    assert not trace["gate"].requires_grad
    assert trace["conv"].requires_grad


def test_second_output() -> None:
    net, module = network(networks.TwoOutputs)
    x = images(3, 3, *SIZE)
    assert net.classes(1) == 3
    with torch.no_grad():
        aux = module(x)["aux"]
        trace = net.trace(x, ["class@1", "class:4"])
    assert torch.equal(trace["class@1:2"], aux[:, 2])
    assert trace["class:4"].shape == (3,)
    with pytest.raises(CallError, match="there is no class 3; TwoOutputs has 3 classes"):
        net.resolve("class@1:3")
    with pytest.raises(CallError, match="has 2 outputs, counted from 0"):
        net.resolve("class@2")


@pytest.mark.parametrize("name", networks.HOOKED)
def test_hooks_where_there_is_no_graph(name: str) -> None:
    net, module = network(networks.HOOKED[name])
    with untouched(module):
        with pytest.warns(InwardWarning, match="only its modules can be addressed") as said:
            assert not net.is_graph
        assert len(said) == 1
        # A batch of nine takes the branch that no check has seen.
        for batch in (1, 3, 9):
            x = images(batch, 3, *SIZE)
            assert_same_answers(net, module, x)
            assert_same_points(net, module, x)
    # Said once: at another size too, and in every other form of the network.
    larger = images(1, 3, 12, 10)
    with torch.no_grad():
        assert torch.equal(net(larger), module(larger))
        assert torch.equal(net.upto("conv")(larger), module.conv(larger))
    assert {p.kind for p in net.points.values()} == {"module"}


def test_edit_without_a_graph_is_refused_with_the_reason() -> None:
    net, _ = network(networks.LargeBatchBranch)
    with pytest.warns(InwardWarning, match="branches on the size of the batch"):
        assert not net.is_graph
    x = images(1, 3, *SIZE)
    with pytest.raises(
        CallError, match=r"needs the network's graph.*branches on the size of the batch \(from 2 to 3\)"
    ):
        net.edit(edits.redirect_relus)(x)
    with pytest.raises(CallError, match=r"no point 'mean' \(no graph: .*the nearest: "):
        net.trace(x, "mean")


def test_captured_module_outputs_survive_in_place_operations() -> None:
    """By hooks, `bright.0` would be seen after the in-place ReLU; the gradient must pass as well."""
    net, _ = network(networks.DataBranch)
    with pytest.warns(InwardWarning):
        assert not net.is_graph
    x = images(2, 3, *SIZE).requires_grad_(True)
    trace = net.trace(x, ["bright.0", "class"])
    assert trace["bright.0"].min() < 0
    (gradient,) = torch.autograd.grad(trace["class"].sum(), trace["bright.0"])
    assert gradient.abs().sum() > 0


def test_attributes_and_buffers_are_left_alone() -> None:
    net, module = network(networks.Updates)
    x = images(2, 3, *SIZE)
    with untouched(module):
        first, second = net(x), net(x)
    assert torch.equal(first, second)
    assert (module.last, module.count, module.steps.item()) == (None, 0, 0.0)


@pytest.mark.parametrize("kind", [networks.Raises, networks.Pooled])
def test_untouched_after_an_exception(kind: type[nn.Module]) -> None:
    net, module = network(kind)
    with untouched(module):
        for _ in range(2):
            with pytest.raises(CallError, match=r"does not run on 3-channel|cannot take images of 9 x 7"):
                net(images(2, 3, *SIZE))


def test_wrong_size_names_sizes_that_work() -> None:
    net, module = network(networks.Pooled)
    with untouched(module), pytest.raises(CallError, match=r"cannot take images of 9 x 7; it takes 16 x 16$"):
        net(images(2, 3, *SIZE))
    assert Network.of(module, size=16)(images(2, 3, 16, 16)).shape == (2, 5)


def test_softmax_is_told_once() -> None:
    net, module = network(networks.Softmax)
    x = images(3, 3, *SIZE)
    with pytest.warns(InwardWarning, match="ends in a softmax") as said:
        assert_same_answers(net, module, x)
    assert len(said) == 1
    # Warnings are errors here: nothing further is said.
    net.edit(edits.redirect_relus)(x)
    net.upto("conv")(x)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_rewritten_normalization(size: int) -> None:
    module = nn.LocalResponseNorm(size, alpha=0.3, beta=0.7, k=1.5)
    for dtype in (torch.float32, torch.float64):
        x = (images(3, 6, *SIZE, dtype=dtype) * 8 - 4).requires_grad_(True)
        ours, theirs = edits.local_response_norm(x, size, 0.3, 0.7, 1.5), module(x)
        assert (ours - theirs).abs().max() <= REWRITTEN[dtype] * theirs.abs().max()
        slopes = [torch.autograd.grad((y * y.detach().cos()).sum(), x)[0] for y in (ours, theirs)]
        assert (slopes[0] - slopes[1]).abs().max() <= 4 * REWRITTEN[dtype] * slopes[1].abs().max()


def test_what_export_loses_is_noticed() -> None:
    """Whether or not a later torch keeps the block, the gradient is that of the module."""
    net, module = network(networks.NoGradInAutocast)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InwardWarning)
        assert_same_answers(net, module, images(3, 3, *SIZE))


def test_rewritten_normalization_is_in_the_graph() -> None:
    """Both spellings are exchanged, and in bfloat16 the result keeps that dtype's three digits."""
    net, _ = network(networks.Normalized)
    assert net.graph(SIZE).count("local_response_norm") == 2
    x = images(3, 5, *SIZE)
    with torch.no_grad():
        exact, short = net(x), net.to(dtype=torch.bfloat16)(x)
    assert short.dtype == torch.bfloat16
    assert (exact - short.float()).abs().max() <= 0.02 * exact.abs().max()


def test_wrapped_modules_are_unwrapped() -> None:
    module = seeded(networks.Functional)
    x = images(3, 3, *SIZE)
    with warnings.catch_warnings():
        # torch.compile imports parts of torch that torch calls deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        compiled = torch.compile(module)
    for wrapped in (compiled, nn.DataParallel(module), nn.DataParallel(compiled)):
        net = Network.of(wrapped.eval(), size=SIZE)
        assert net.name == "Functional"
        assert_same_answers(net, module, x)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.zeros(1, 3, 8, 8))


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return nn.Sequential(nn.Conv2d(3, 4, 3), torch.ao.nn.quantized.Conv2d(4, 4, 1)).eval()


def half_trained() -> nn.Module:
    module = seeded(networks.Silent)
    module.block[2].train()
    return module


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (scripted, "ScriptModule has no modules to look into; give the nn.Module"),
        (quantized, "quantized network has no gradients; give the float network"),
        (lambda: networks.Five().train(), r"Five is in train mode \(the network\); call .eval\(\)"),
        (half_trained, r"Silent is in train mode \(block.2\); call .eval\(\)"),
        (lambda: torch.relu, "a network is a torch.nn.Module, not builtin_function_or_method"),
    ],
)
def test_refused_modules(make: Callable[[], nn.Module], sentence: str) -> None:
    with pytest.raises(CallError, match=sentence):
        Network.of(make())


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (torch.full((2, 3, *SIZE), 200, dtype=torch.uint8), "float tensor in .0, 1., not torch.uint8"),
        (torch.zeros(3, *SIZE), r"shape \(N, C, H, W\), not \(3, 9, 7\); add a batch axis"),
        (torch.zeros(2, 1, *SIZE), "takes 3 channels, and the image has 1"),
        (torch.zeros(0, 3, *SIZE), r"the batch is empty: its shape is \(0, 3, 9, 7\)"),
        (torch.full((1, 3, *SIZE), 255.0), "this one goes from 255 to 255; divide 8-bit values by 255"),
        (torch.full((1, 3, *SIZE), -0.5), "this one goes from -0.5 to -0.5"),
        (torch.full((1, 3, *SIZE), torch.nan), "NaN or infinite"),
        (torch.full((1, 3, *SIZE), torch.inf), "NaN or infinite"),
        ([[0.5]], "not list"),
    ],
)
def test_refused_images(image: Tensor, sentence: str) -> None:
    net, _ = network(networks.Functional)
    for call in (net, lambda x: net.trace(x, "conv")):
        with pytest.raises(CallError, match=sentence):
            call(image)


def test_output_that_is_a_map() -> None:
    """An encoder's output has units and a grid like any other point."""
    net = Network.of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3))), size=SIZE)
    x = images(2, 3, *SIZE)
    assert net.classes() == 4
    assert torch.equal(net.trace(x, "class:3")["class:3"], net(x)[:, 3])
    flat = Network.of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 1, SIZE), nn.Flatten(0))), size=SIZE)
    assert flat(x).shape == (2,)
    with pytest.raises(CallError, match="no axis is known to hold classes"):
        flat.resolve("class:0")


def test_weights_changed_later_are_seen() -> None:
    """Weights are shared, so that a network follows the training of its module."""
    net, module = network(networks.Functional)
    x = images(2, 3, *SIZE)
    before = net(x)
    with torch.no_grad():
        module.fc.bias += 1
    assert torch.equal(net(x), before + 1)
    module.train()
    assert torch.equal(net(images(2, 3, 12, 10)), answers(module.eval(), images(2, 3, 12, 10))[0][0])


def test_image_as_the_only_input_of_an_operation() -> None:
    """Nothing but functions: no module, no weights, one channel count given by hand."""

    class Bare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.avg_pool2d(x, 3).flatten(1).sin()

    net = Network.of(Bare().eval(), size=SIZE, channels=2)
    assert_same_answers(net, Bare().eval(), images(3, 2, *SIZE))
    assert "avg_pool2d" in net.points
    with pytest.raises(InwardError, match="no point 'conv'"):
        net.trace(images(1, 2, *SIZE), "conv")
