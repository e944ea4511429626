"""Ascent: closed forms, what it leaves alone, and who moves how often."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from inward.ascent import Ascent, Row, ascend
from inward.columns import steps
from inward.columns.augmentations import Jitter, standard
from inward.columns.constraints import Ball, Box, normalized
from inward.columns.objectives import Channel, ClassScore, CrossEntropy, Margin, Unit
from inward.columns.parameterizations import Fourier
from inward.columns.penalties import L2
from inward.columns.starts import Gray, Noise
from inward.errors import CallError, InwardWarning
from inward.network.network import Network
from inward.network.trace import Trace

EXACT = 1e-10  # float64, tens of steps of numbers near 1


class Flat(nn.Module):
    """Logits W x of the flattened image; by default the first is the sum of the pixels and the second 0.2."""

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        if weight is None:
            weight = torch.cat([torch.ones(1, 12), torch.zeros(1, 12)]).double()
        self.fc = nn.Linear(12, len(weight), dtype=torch.float64)
        self.fc.weight.data, self.fc.bias.data = weight, torch.tensor([0.0, *[0.2] * (len(weight) - 1)]).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


class Net(nn.Module):
    """Convolutions with everything that a careless engine would change: batch norm, dropout, buffers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1, self.norm, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.conv2, self.drop, self.fc = nn.Conv2d(6, 5, 3, stride=2), nn.Dropout(0.5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.drop(torch.tanh(self.conv2(self.relu(self.norm(self.conv1(x)))))).mean((2, 3)))


WEIGHT = torch.randn((2, 12), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# Pictures of a hundred pixels.
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def flat() -> Network:
    return Network.of(Flat(WEIGHT).eval(), size=(3, 4), channels=1)


@pytest.fixture(scope="module")
def total() -> Network:
    return Network.of(Flat().eval(), size=(3, 4), channels=1)


@pytest.fixture(scope="module")
def module() -> Net:
    return Net().double().eval()


@pytest.fixture(scope="module")
def net(module: Net) -> Network:
    return Network.of(module, size=(8, 11))


def pictures(channels: int = 1, height: int = 3, width: int = 4) -> Tensor:
    return torch.rand((3, channels, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def greys(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1).expand(-1, 1, 3, 4).clone()


def test_one_fgsm_step_is_the_sign_of_the_weights(flat: Network) -> None:
    x, ball = pictures(), Ball(pictures(), 0.1)
    found = ascend(
        flat, Row(ClassScore((0, 1, 0)), steps.steepest(0.1, ball.steepest), 1, constraints=(ball, Box())), x
    )
    expected = (x + 0.1 * WEIGHT[[0, 1, 0]].sign().view(3, 1, 3, 4)).clamp(0, 1)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=EXACT)
    assert torch.equal(found.start, x)
    torch.testing.assert_close(found.final, flat(expected)[[0, 1, 2], [0, 1, 0]], rtol=0, atol=EXACT)


@pytest.mark.parametrize(("lr", "passes"), [(1.0, 1), (0.05, 8), (0.07, 20)])
def test_l2_ascent_ends_on_the_ball_in_the_direction_of_the_weights(flat: Network, lr: float, passes: int) -> None:
    center = greys(0.4, 0.5, 0.6)
    ball = Ball(center, 0.3, 2)
    found = ascend(
        flat, Row(ClassScore(1), steps.steepest(lr, ball.steepest), passes, constraints=(ball, Box())), center
    )
    expected = center + 0.3 * (WEIGHT[1] / WEIGHT[1].norm()).view(1, 1, 3, 4)
    torch.testing.assert_close(found.images, expected, rtol=0, atol=EXACT)


def test_a_linear_score_less_a_quadratic_penalty_ends_at_its_maximum() -> None:
    """d/dx (w.x - k ||x||^2) = w - 2 k x = 0 at x = w / (2 k). A step of lr shrinks the error by 1 - 2 k lr = 0.2."""
    k, weight = 2.0, 0.2 + 3.6 * torch.rand((1, 12), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    net = Network.of(Flat(weight).eval(), size=(3, 4), channels=1)
    row = Row(ClassScore(0) - k * L2(), steps.gradient(0.2), 20)
    found = ascend(net, row, pictures())
    best = (weight / (2 * k)).view(1, 1, 3, 4)
    torch.testing.assert_close(found.images, best.expand(3, 1, 3, 4), rtol=0, atol=EXACT)
    torch.testing.assert_close(found.final, (weight.square().sum() / (4 * k)).expand(3), rtol=0, atol=EXACT)
    # By hand: the error after n steps is 0.2^n of the first.
    early = ascend(net, Row(row.objective, row.step, 3), pictures()).images
    torch.testing.assert_close(early - best, 0.2**3 * (pictures() - best), rtol=0, atol=EXACT)


def test_scores_are_those_before_each_pass(total: Network) -> None:
    """Twelve pixels, each 0.05 higher a pass."""
    seen = []
    row = Row(ClassScore(0), steps.steepest(0.05, torch.sign), 3)
    found = ascend(
        total, row, greys(0.1, 0.95), on_pass=lambda now: seen.append((now.done, now.total, now.scores.tolist()))
    )
    expected = [[1.2, 11.4], [1.8, 12.0], [2.4, 12.0]]
    torch.testing.assert_close(found.scores, torch.tensor(expected).double(), rtol=0, atol=1e-6)
    assert found.final.tolist() == pytest.approx([3.0, 12.0], abs=EXACT)
    assert [s[:2] for s in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [s[2] for s in seen] == found.scores.tolist()
    assert found.steps.tolist() == [3, 3]
    assert not found.reached.any()
    assert not found.redirected.any()


def goal(score: float):
    def reached(trace: Trace, _: Tensor) -> Tensor:
        return trace["class:0"] >= score

    return reached


@pytest.mark.parametrize("step", [steps.steepest(0.05, torch.sign), steps.momentum(0.05, torch.sign), steps.adam(0.05)])
@pytest.mark.parametrize("extra", [0, 1, 2])
def test_an_image_at_its_goal_is_moved_extra_more_times(total: Network, extra: int, step: steps.Step) -> None:
    """Every pass raises the sum by 0.6 (Adam on a constant gradient, too): from 1.2, 2.4 and 6 to 2.9."""
    row = Row(ClassScore(0), step, 10, reached=goal(2.9), extra=extra)
    found = ascend(total, row, greys(0.1, 0.2, 0.5))
    assert found.steps.tolist() == [3, 1, 0]
    assert found.reached.tolist() == [True] * 3
    expected = greys(0.1 + 0.05 * (3 + extra), 0.2 + 0.05 * (1 + extra), 0.5 + 0.05 * extra)
    # Adam's eps of 1e-8 beside a gradient of 1 costs 5e-10 a step.
    torch.testing.assert_close(found.images, expected, rtol=0, atol=1e-8)
    if extra == 0:
        assert torch.equal(found.images[2], greys(0.5)[0])
    # All were done after 3 + extra passes, and no more were made.
    assert len(found.scores) == 3 + extra
    for i, value in enumerate((0.1, 0.2, 0.5)):
        alone = ascend(total, row, greys(value))
        assert torch.equal(alone.images[0], found.images[i])
        assert (alone.steps[0], alone.reached[0]) == (found.steps[i], found.reached[i])


def test_a_goal_out_of_reach_and_one_reached_by_the_last_pass(total: Network) -> None:
    row = Row(ClassScore(0), steps.steepest(0.05, torch.sign), 4, reached=goal(3.5), extra=3)
    # 1.2 + 4 * 0.6 = 3.6 is reached by the last pass; 0.6 is not; 3 is after one, and has its 3 extra passes.
    found = ascend(total, row, greys(0.1, 0.05, 0.25))
    assert found.steps.tolist() == [4, 4, 1]
    assert found.reached.tolist() == [True, False, True]
    torch.testing.assert_close(found.images, greys(0.3, 0.25, 0.45), rtol=0, atol=EXACT)


def test_a_frozen_image_stays_to_the_bit_whatever_happens_to_the_others(total: Network) -> None:
    row = Row(ClassScore(0), steps.adam(0.013), 30, reached=goal(2.9))
    found, short = ascend(total, row, greys(0.2, 0.0)), ascend(total, row, greys(0.2, 0.23))
    assert torch.equal(found.images[0], short.images[0])
    assert len(short.scores) < len(found.scores)


def test_no_passes_are_the_start_inside_its_constraints(total: Network) -> None:
    found = ascend(total, Row(ClassScore(0), steps.adam(0.1), 0), greys(0.25, 0.5))
    assert torch.equal(found.images, greys(0.25, 0.5))
    assert found.scores.shape == (0, 2)
    assert found.final.tolist() == pytest.approx([3, 6])
    assert found.steps.tolist() == [0, 0]
    inside = Row(ClassScore(0), steps.adam(0.1), 0, start=Gray(0.9), constraints=(Box(0.1, 0.6),))
    assert torch.equal(ascend(total, inside, greys(0.25, 0.5)).images, greys(0.6, 0.6))


CENTER = pictures(3, 8, 11)
BALL2, BALLI = Ball(CENTER, 0.5, 2), Ball(CENTER, 0.03)
ROWS = {
    "pgd": Row(CrossEntropy((0, 1, 2)), steps.steepest(0.01, BALLI.steepest), 6, constraints=(BALLI, Box())),
    "pgd L2": Row(Margin((0, 1, 2)), steps.steepest(0.2, BALL2.steepest), 6, constraints=(BALL2, Box())),
    "momentum": Row(CrossEntropy(1), steps.momentum(0.01, BALLI.steepest), 6, constraints=(BALLI, Box())),
    "class": Row(ClassScore(2) - 0.01 * L2(), steps.gradient(3.0), 6, start=Gray()),
    "feature": Row(Channel("conv2/3"), steps.adam(0.05), 6, Noise(), Fourier(), standard((8, 11)), redirect=2),
    "normalized": Row(Unit("conv2/3"), steps.steepest(0.3, normalized), 6, Noise(0.2), Fourier()),
    "jitter": Row(ClassScore((0, 1, 2)), steps.adam(0.05), 6, augmentation=Jitter(1), redirect=2),
}


def run(net: Network, name: str, which: slice = slice(None), dtype: torch.dtype = torch.float64) -> Ascent:
    """The row for some of the images: its classes and its ball are theirs."""
    row = copy.copy(ROWS[name])
    fields = dict(row.__dict__)
    classes = getattr(row.objective, "classes", None)
    if isinstance(classes, tuple):
        fields["objective"] = type(row.objective)(classes[which])
    fields["constraints"] = tuple(
        Ball(c.center[which], c.eps, c.p) if isinstance(c, Ball) else c for c in row.constraints
    )
    return ascend(net, Row(**fields), CENTER[which].to(dtype), seeds=[7, 8, 9][which])


@pytest.mark.parametrize("name", ROWS)
def test_the_same_alone_in_a_batch_and_again(net: Network, name: str) -> None:
    found, again = run(net, name), run(net, name)
    for field in found.__dataclass_fields__:
        ours, theirs = (
            value if isinstance(value, tuple) else (value,) for value in (vars(found)[field], vars(again)[field])
        )
        same = (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(ours, theirs, strict=True))
        assert all(same), field
        assert len(ours) == len(theirs) > 0
    for i in range(3):
        alone = run(net, name, slice(i, i + 1))
        torch.testing.assert_close(alone.images[0], found.images[i], rtol=0, atol=1e-9)
        torch.testing.assert_close(alone.scores[:, 0], found.scores[:, i], rtol=0, atol=1e-9)
    assert (found.images - found.start).abs().amax((1, 2, 3)).min() > 5e-3
    assert (found.final > found.scores[0]).all() or ROWS[name].augmentation is not None


@pytest.mark.parametrize("name", ["pgd L2", "class", "feature", "normalized"])
def test_float32_agrees_with_float64(net: Network, name: str) -> None:
    """Not for signs: where a gradient is nearly 0, its sign is a matter of rounding."""
    found = run(net.to(dtype=torch.float32), name, dtype=torch.float32)
    assert found.images.dtype == torch.float32
    torch.testing.assert_close(
        found.images.double(), run(net, name).images, rtol=0, atol=2e-3 if name == "feature" else 1e-4
    )


@pytest.mark.parametrize("name", ["pgd", "pgd L2", "momentum", "class", "jitter"])
def test_every_pass_is_inside_the_constraints(net: Network, name: str) -> None:
    seen = []

    class Recorder(ClassScore):
        def __call__(self, trace: Trace) -> Tensor:
            seen.append(trace.images.detach().clone())
            return super().__call__(trace)

    fields = dict(ROWS[name].__dict__) | {"objective": Recorder((0, 1, 2)), "augmentation": None}
    ascend(net, Row(**fields), CENTER)
    assert len(seen) >= 7
    for images in seen:
        assert 0 <= float(images.min()) <= float(images.max()) <= 1
        for ball in fields["constraints"]:
            if isinstance(ball, Ball):
                assert (ball.distance(images) <= ball.eps + 1e-14).all()


@pytest.mark.parametrize("name", ["pgd", "feature"])
@pytest.mark.parametrize("raises", [False, True])
def test_the_network_is_left_as_it_was(module: Net, net: Network, name: str, raises: bool) -> None:
    for p in module.parameters():
        p.grad = torch.full_like(p, 0.5)
    module.drop.training = False
    state = copy.deepcopy(module.state_dict())
    flags = [m.training for m in module.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    random = torch.get_rng_state()

    def stop(*at: object) -> None:
        raise KeyboardInterrupt

    try:
        row = ROWS[name]
        if raises:
            with pytest.raises(KeyboardInterrupt):
                ascend(net, row, CENTER, on_pass=stop)
        else:
            ascend(net, row, CENTER)
        assert torch.equal(torch.get_rng_state(), random)
        assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
        assert all(p.requires_grad and bool((p.grad == 0.5).all()) for p in module.parameters())
        assert [m.training for m in module.modules()] == flags
        assert [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()] == hooks
    finally:
        module.zero_grad(set_to_none=True)


def test_the_image_given_is_left_as_it_was(net: Network) -> None:
    x = CENTER.clone()
    with torch.no_grad():
        found = ascend(net, ROWS["jitter"], x)
    assert torch.equal(x, CENTER)
    assert not x.requires_grad
    assert not found.images.requires_grad
    assert not found.scores.requires_grad


STEPS = {
    "gradient": steps.gradient(1.0),
    "adam": steps.adam(0.1),
    "sign": steps.steepest(0.1, torch.sign),
    "normalized": steps.steepest(0.1, normalized),
    "momentum": steps.momentum(0.1, normalized),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("kind", ["zero weight", "no path"])
def test_a_zero_gradient_moves_nothing(step: steps.Step, kind: str) -> None:
    class Constant(Flat):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.detach() if kind == "no path" else 0 * x)

    net = Network.of(Constant(WEIGHT).eval(), size=(3, 4), channels=1)
    with pytest.warns(InwardWarning, match="there is no ReLU on the way"):
        found = ascend(net, Row(ClassScore(0), step, 3, redirect=1), pictures())
    assert torch.equal(found.images, pictures())
    assert found.scores.isfinite().all()


def test_a_place_is_checked_at_the_size_of_the_images(net: Network) -> None:
    """The network is listed at 8 x 11, where conv1 has no place (12, 20)."""
    like = torch.full((2, 3, 14, 22), 0.5, dtype=torch.float64)
    found = ascend(net, Row(Unit("conv1/0@12,20"), steps.gradient(0.1), 1), like)
    assert {tuple(at) for at in (found.images != like)[0].nonzero()[:, 1:].tolist()} <= {
        (y, x) for y in (11, 12, 13) for x in (19, 20, 21)
    }
    assert float(found.final.min()) > float(found.scores.max())
    with pytest.raises(CallError, match="outside the grid"):
        ascend(net, Row(Unit("conv1/0@12,20"), steps.gradient(0.1), 1), CENTER)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameterization": Fourier(), "constraints": (BALL2, Box())}, "Fourier parameters move; use Pixels"),
        ({"parameterization": Fourier(), "constraints": (Box(0.2, 0.8),)}, r"Box\(low=0.2, high=0.8\) cannot be kept"),
        ({"reached": goal(1), "augmentation": Jitter(1)}, "leave out the augmentation"),
        ({"passes": -1}, "0 passes or more, not -1"),
        ({"reached": goal(1), "extra": -1}, "from 0 up, not -1 and 0"),
        ({"redirect": -2}, "from 0 up, not 0 and -2"),
        ({"extra": 2}, "extra=2 passes follow a goal, and there is none"),
    ],
)
def test_rows_that_make_no_sense_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(CallError, match=message):
        Row(**({"objective": ClassScore(0), "step": steps.adam(0.1), "passes": 1} | fields))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net: ascend(net, ROWS["pgd"], CENTER, seeds=[1, 2]), "2 seeds for 3 images"),
        (lambda net: ascend(net, ROWS["pgd"], CENTER + 0.5), "goes from"),
        (lambda net: ascend(net, ROWS["pgd"], CENTER[:2]), "center has the shape"),
        (lambda net: ascend(net, ROWS["jitter"], CENTER[:2]), "3 classes for 2 images"),
        (lambda net: ascend(net, Row(Channel("conv3/1"), steps.adam(0.1), 1), CENTER), "no point 'conv3'"),
        (lambda net: ascend(net, Row(Channel("conv2/5"), steps.adam(0.1), 0), CENTER), "no unit 5"),
    ],
)
def test_wrong_calls_are_refused(net: Network, call, message: str) -> None:
    with pytest.raises(CallError, match=message):
        call(net)
