"""L-BFGS: on functions whose minimum is known, alone and in a batch, at bounds, and where steps fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from inward import CallError
from inward.ascent import Row, ascend
from inward.columns.goals import Plateau
from inward.columns.lbfgs import lbfgs
from inward.columns.matching import Alike, Match
from inward.columns.objectives import Objective
from inward.columns.parameterizations import Fourier
from inward.columns.starts import Gray
from inward.columns.steps import adam
from inward.errors import InwardError
from inward.network import Network
from inward.network.trace import Trace
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")


def minimized(
    loss: Callable[[Tensor], Tensor], x: Tensor, steps: int, **options: object
) -> tuple[Tensor, list[Tensor]]:
    """Parameters after so many steps, and the losses before each."""
    x = x.clone().requires_grad_(True)
    optimizer = lbfgs(**{"bounds": None, **options})([x])  # type: ignore[arg-type]
    low, high = options.get("bounds") or (-torch.inf, torch.inf)  # type: ignore[misc]
    history = []
    for _ in range(steps):
        value = loss(x)
        (x.grad,) = torch.autograd.grad(value.sum(), x)
        history.append(value.detach())
        optimizer.step(lambda now=value: now.detach())
        with torch.no_grad():
            x.clamp_(low, high)
    return x.detach(), history


SCALES = torch.logspace(0, 1.5, 12, dtype=torch.float64)


def bowl(x: Tensor) -> Tensor:
    """Of a condition number of a thousand."""
    return (SCALES * (x - 0.3)).square().sum(1)


def rosenbrock(x: Tensor) -> Tensor:
    return (100 * (x[:, 1:] - x[:, :-1].square()).square() + (1 - x[:, :-1]).square()).sum(1)


def test_it_finds_minima_that_gradients_do_not() -> None:
    x = torch.rand(3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found, history = minimized(bowl, x, 120)
    torch.testing.assert_close(found, torch.full_like(found, 0.3), rtol=0, atol=1e-5)
    assert history[-1].max() < 1e-8 * history[0].min()
    start = torch.tensor([[-1.2, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found, _ = minimized(rosenbrock, start, 150)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-6)


def test_each_image_is_the_same_alone() -> None:
    x = torch.rand(4, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x[2] += 50
    together, _ = minimized(bowl, x, 25)
    for i in range(4):
        alone, _ = minimized(bowl, x[i : i + 1], 25)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-9, atol=1e-9)


def test_bounds_hold_and_the_rest_is_solved() -> None:
    """A convex function whose minimum lies outside: there the bound is the answer, elsewhere the gradient is 0."""
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    goal = torch.tensor([1.5, -0.5, 0.4, 0.6, 2.0, 0.5], dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return ((x - goal) @ (matrix @ matrix.T + torch.eye(6)).T * (x - goal)).sum(1)

    found, _ = minimized(loss, torch.full((1, 6), 0.5, dtype=torch.float64), 200, bounds=(0.0, 1.0))
    assert found.min() >= 0
    assert found.max() <= 1
    leaf = found.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    low, high = found <= 1e-9, found >= 1 - 1e-9
    assert (slope[low] >= -1e-4).all()
    assert (slope[high] <= 1e-4).all()
    assert slope[~low & ~high].abs().max() < 1e-3


@pytest.mark.parametrize("lr", [1e-8, 1e4])
def test_a_first_step_of_any_length(lr: float) -> None:
    x = torch.zeros(1, 12, dtype=torch.float64)
    _, history = minimized(bowl, x, 150, lr=lr)
    assert history[-1] < 1e-6 * history[0]


def test_it_stands_still_without_a_gradient() -> None:
    x = torch.full((2, 3), 0.5, dtype=torch.float64)
    found, _ = minimized(lambda x: 0 * x.sum(1), x, 5)
    assert torch.equal(found, x)


def test_what_it_cannot_do() -> None:
    with pytest.raises(CallError, match="begins with a step above 0 and remembers 1 pair or more, not 0 and 10"):
        lbfgs(0.0)
    with pytest.raises(CallError, match="moves one tensor of parameters, and there are 2; use adam"):
        lbfgs()([torch.zeros(1, 2), torch.zeros(1, 2)])
    x = torch.zeros(1, 2, requires_grad=True)
    optimizer = lbfgs()([x])
    x.grad = torch.ones(1, 2)
    with pytest.raises(CallError, match="compares losses, and is told of none"):
        optimizer.step()  # type: ignore[call-arg]


class Linear(nn.Module):
    """Invertible: every pixel is a mixture of its colors, and the sum of a pixel and its left neighbor."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 3, 1)
        self.last = nn.Conv2d(3, 3, (1, 2), padding=(0, 1), groups=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.mix(x))[..., :-1]


def linear() -> Network:
    return Network.of(seeded(Linear), size=(9, 7), dtype=torch.float64)


@pytest.mark.parametrize("kind", [Match, Alike])
def test_inverting_a_linear_network_gives_the_image(kind: type[Match] | type[Alike]) -> None:
    net, x = linear(), images(2, 3, 9, 7).double()
    values = net.trace(x, ["last"])["last"]
    row = Row(objective=kind("last", values), step=lbfgs(), passes=120, start=Gray(), best=True)
    found = ascend(net, row, x)
    torch.testing.assert_close(found.images, x, rtol=0, atol=1e-6)


def test_a_spectrum_comes_near() -> None:
    """Noise has colors at the ends of the sigmoid, where a spectrum moves slowly."""
    net, x = linear(), images(2, 3, 9, 7).double()
    alike = Alike("last", net.trace(x, ["last"])["last"])
    row = Row(alike, lbfgs(0.1, bounds=None), 250, start=Gray(), parameterization=Fourier(), best=True)
    assert ascend(net, row, x).final.min() > -5e-3


class Breaking(Objective):
    """Rises, and is NaN from some pass on."""

    def __init__(self, at: int) -> None:
        self.at, self.seen = at, 0

    @property
    def addresses(self) -> tuple[str, ...]:
        return ()

    def __call__(self, trace: Trace) -> Tensor:
        self.seen += torch.is_grad_enabled()
        score = trace.picture.flatten(1).sum(1)
        return score * (float("nan") if torch.is_grad_enabled() and self.seen > self.at else 1.0)


def test_where_a_gradient_breaks_the_best_is_kept_and_it_is_said() -> None:
    net, x = linear(), images(2, 3, 9, 7).double() * 0.5
    found = ascend(net, Row(Breaking(4), lbfgs(), 20, best=True), x)
    assert found.broken.all()
    assert len(found.scores) == 4
    assert (found.final >= found.scores.max(0).values.double() - 1e-6).all()
    with pytest.raises(InwardError, match="is not finite"):
        ascend(net, Row(Breaking(4), lbfgs(), 20), x)


def test_a_guess_that_falls_with_the_frequency_finds_what_rises_with_it() -> None:
    """Where the Hessian is the frequency, its inverse is the guess: two passes are enough."""
    from inward.columns.spectrum import frequencies

    size = (12, 9)
    curvature = frequencies(size, torch.float64, torch.device("cpu"))
    # One plane in all channels, as gray pictures have it.
    goal = images(2, 1, *size).double().expand(-1, 3, -1, -1).clone()

    def slope(x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x - goal) * curvature, s=size)

    left = {}
    for decay in (0.0, 1.0):
        x = torch.full_like(goal, 0.5).requires_grad_(True)
        step = lbfgs(0.01, bounds=None, decay=decay)([x])
        for _ in range(4):
            x.grad = slope(x.detach())
            loss = 0.5 * (slope(x.detach()) * (x.detach() - goal)).flatten(1).sum(1)
            step.step(lambda loss=loss: loss)
        left[decay] = (x.detach() - goal).abs().max().item()
    assert left[1.0] < 1e-12
    assert left[0.0] > 1e-3


class BreakingAlone(Alike):
    """Of images whose values to match are above 1, NaN where half of the way is done."""

    def __call__(self, trace: Trace) -> Tensor:
        score = super().__call__(trace)
        return score * torch.where((self.values.flatten(1).amax(1) > 1) & (score > -0.5), torch.nan, 1.0)


def test_a_gradient_that_breaks_ends_its_own_ascent_alone() -> None:
    net, x = linear(), images(3, 3, 9, 7).double()
    values = net.trace(x, ["last"])["last"]
    values = values / values.flatten(1).amax(1).view(-1, 1, 1, 1) * torch.tensor([0.9, 1.1, 0.9]).view(-1, 1, 1, 1)
    row = Row(BreakingAlone("last", values), lbfgs(bounds=None), 60, start=Gray(), best=True)
    found = ascend(net, row, x)
    assert found.broken.tolist() == [False, True, False]
    assert found.steps[1] < 60
    assert found.final[1] <= -0.5
    alone = ascend(net, Row(Alike("last", values), lbfgs(bounds=None), 60, start=Gray(), best=True), x)
    for k in (0, 2):
        torch.testing.assert_close(found.images[k], alone.images[k])
        assert found.final[k] == pytest.approx(alone.final[k].item(), rel=1e-9)
    plain = Row(BreakingAlone("last", values), adam(0.1), 60, start=Gray())
    with pytest.raises(InwardError, match="give smaller steps, or use --dtype float32"):
        ascend(net, plain, x)


def test_the_best_is_kept_of_steps_that_go_too_far() -> None:
    """Gradient steps of any length jump about; what comes out is the best that was seen."""
    from inward.columns.steps import gradient

    net, x = linear(), images(2, 3, 9, 7).double()
    goal = Match("last", net.trace(1 - x, ["last"])["last"])
    wild = Row(goal, gradient(3e4), 9, best=True)
    found = ascend(net, wild, x)
    assert (found.final >= found.scores.max(0).values - 1e-6).all()
    last = ascend(net, Row(goal, gradient(3e4), 9), x)
    assert (last.final < found.final).any()


def test_an_image_that_gets_no_better_leaves_and_the_others_go_on() -> None:
    """The first begins at its goal."""
    net, x = linear(), images(3, 3, 9, 7).double()
    goals = net.trace(x, ["last"])["last"]
    start = torch.cat([x[:1], 0.5 + 0 * x[1:]])
    row = Row(Alike("last", goals), lbfgs(), 60, plateau=Plateau(window=10, tolerance=0.0), best=True)
    found = ascend(net, row, start)
    assert found.steps[0] < 25
    assert (found.steps[1:] > found.steps[0]).all()
    torch.testing.assert_close(found.images, x, rtol=0, atol=1e-3)
    alone = ascend(net, replace(row, objective=row.objective.select([2])), start[2:])
    torch.testing.assert_close(alone.images, found.images[2:], rtol=0, atol=1e-9)
