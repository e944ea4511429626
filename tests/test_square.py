"""The Square attack: the paper's squares and schedule, no gradient, and what the peer finds."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, pgd
from inward.columns.constraints import Ball
from inward.methods.attacked import attacked
from inward.methods.course import Course
from inward.methods.square import _L2, _Linf, bumps, share_at, square
from inward.network.held import Held
from same import images, untouched

SIZE = (9, 7)
P = {"linf": math.inf, "l2": 2}
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def sharp(module: nn.Module) -> Network:
    """A small standard deviation: the answer hangs on the image, and not on the biases."""
    return network(module, SIZE, mean=(0.5,) * 3, std=(0.02,) * 3)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return images(7, 3, *SIZE, dtype=torch.float64)


def run_of(kind: type, net: Network, x: Tensor, eps: float, seed: int = 0) -> Any:
    """The state of a run before its first query."""
    norm = "linf" if kind is _Linf else "l2"
    asked = attacked(net, x, None, None, eight_bit_judge=False, eps=eps, norm=norm)
    course = Course(asked, Ball(x, eps, P[norm]), 10)
    return kind(course, course.left, torch.Generator().manual_seed(seed))


def go_on(run: Any, best: Tensor) -> None:
    """Makes these the best candidates of a run."""
    run._held = Held(run.course.asked.net, "class", best)


def candidate(run: Any, share: float) -> Tensor:
    """The best candidates with the next change."""
    run.draw([0], share)
    changes = run.candidates(share, 0).changes
    return run.best.index_copy(0, changes.owners, changes.onto(run.best))


def test_the_schedule_is_the_paper_s() -> None:
    """p is halved at 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10000 queries."""
    halved = {0: 1, 10: 1, 11: 2, 50: 2, 51: 4, 201: 8, 500: 8, 501: 16, 1001: 32, 2001: 64, 4001: 128, 6001: 256}
    for query, by in {**halved, 8000: 256, 8001: 512, 9999: 512}.items():
        assert share_at(query, 10000, 0.8) == 0.8 / by
        # Stretched: half as many queries, half as late.
        assert share_at(query // 2, 5000, 0.8) == share_at(query // 2 * 2, 10000, 0.8)


def test_bumps_are_the_paper_s() -> None:
    """Rectangles around the middle, the k-th of weight 1 / (k + 1)^2, added up one by one."""

    def rectangles(height: int, width: int) -> Tensor:
        found = torch.zeros(height, width, dtype=torch.float64)
        for k in range(max(height, width) // 2 + 1):
            for i in range(height):
                for j in range(width):
                    if abs(i - height // 2) <= k and abs(j - width // 2) <= k:
                        found[i, j] += 1 / (k + 1) ** 2
        return found / found.norm()

    for side in (2, 3, 4, 5, 7, 11):
        both = torch.cat([rectangles(side // 2, side), -rectangles(side - side // 2, side)])
        torch.testing.assert_close(bumps(side), both / both.norm(), rtol=1e-12, atol=0)
    assert bumps(1).tolist() == [[-1]]
    assert bumps(7).norm().item() == pytest.approx(1, abs=1e-12)


def test_linf_squares_lie_at_the_ends_of_the_ball(sharp: Network, x: Tensor) -> None:
    eps = 0.1
    run = run_of(_Linf, sharp, x, eps)
    low, high = (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)
    start = run.start()
    up = (start - high).abs() < 1e-12
    assert (up | ((start - low).abs() < 1e-12)).all()
    # Stripes: each column of a channel has one sign, the same for every image.
    assert (up == up[:1, :, :1]).all()
    assert 0.2 < up[0, :, 0].double().mean() < 0.8
    go_on(run, start)
    seen = set()
    for _ in range(60):
        found = candidate(run, 4 / 63)
        changed = (found != start).any(0).any(0)
        assert ((found - low).abs().minimum((found - high).abs()) < 1e-12).all()
        rows, columns = changed.any(1).nonzero()[:, 0], changed.any(0).nonzero()[:, 0]
        if len(rows):
            # sqrt(4 / 63 * 63) = 2; a square may agree with the stripes in one of its columns.
            assert len(rows) == 2
            assert len(columns) <= 2
            seen |= {(int(rows[0]), int(columns[0]))}
    # Both ends of both axes are reached.
    assert {r for r, _ in seen} >= {0, 7}
    assert {c for _, c in seen} >= {0, 5}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_l2_squares_pass_the_change_on(sharp: Network, x: Tensor, dtype: torch.dtype) -> None:
    """Where nothing meets [0, 1], all of eps is used, and what is outside both squares keeps its share of it."""
    eps = 0.3
    middle = (0.5 + 0.2 * (x - 0.5)).to(dtype)
    run = run_of(_L2, network(conv_net().to(dtype), SIZE), middle, eps)
    norms = (run.start() - middle).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, eps), rtol=1e-5, atol=0)
    go_on(run, run.start())
    for _ in range(10):
        before = run.best - middle
        after = candidate(run, 0.15) - middle
        torch.testing.assert_close(after.flatten(1).norm(dim=1), norms, rtol=1e-5, atol=0)
        # A square of side 3 changes and one of side 3 becomes 0.
        moved = ((after - before).abs() > 1e-6).any(0).any(0)
        assert 3 <= int(moved.sum()) <= 18
        go_on(run, after + middle)


def test_an_l2_step_by_hand(sharp: Network, x: Tensor) -> None:
    """Algorithm 3 of the paper, channel by channel, with the same random numbers."""
    eps = 0.4
    run = run_of(_L2, sharp, x[:2], eps, seed=4)
    go_on(run, run.start())
    state = run.generator.get_state()
    found = candidate(run, 0.15)
    run.generator.set_state(state)
    (_, _, rows, columns), (_, _, far_rows, far_columns) = run._square(3), run._square(3)
    bump, signs = run.bumps(3), run.signs(3, 1, 1)
    for image in range(2):
        change = run.best[image] - x[image]
        unused = eps**2 - change.square().sum().item()
        expected = change.clone()
        for c in range(3):
            both = torch.zeros(SIZE, dtype=torch.bool)
            both[rows, columns] = both[far_rows, far_columns] = True
            budget = change[c][both].square().sum().item() + unused / 3
            own = change[c][rows, columns]
            fresh = signs[c, 0, 0] * bump + own / own.norm()
            expected[c][far_rows, far_columns] = 0
            expected[c][rows, columns] = fresh / fresh.norm() * math.sqrt(budget)
        expected = (x[image] + expected * eps / expected.norm()).clamp(0, 1)
        torch.testing.assert_close(found[image], expected, rtol=0, atol=1e-12)


def test_a_linf_run_by_hand(sharp: Network, x: Tensor) -> None:
    """Keeps what raises the margin, one image after the other; the same squares for all."""
    eps, queries = 5 / 255, 60
    found = square(sharp, x, eps=eps, queries=queries, eight_bit=False, seed=2)
    labels = sharp(x).argmax(1)
    run = run_of(_Linf, sharp, x, eps, seed=2)
    candidates: list[tuple[Any, Tensor]] = [(None, run.signs(3, 1, 7))]
    for share, alike in itertools.groupby(share_at(query, queries, 0.8) for query in range(queries - 1)):
        side, count = run.side(share), len(list(alike))
        places = zip(*run.places(side, count), strict=True)
        squares = [(slice(row, row + side), slice(column, column + side)) for row, column in places]
        candidates += zip(squares, run.signs(count, 3, 1, 1), strict=True)
    for i in range(7):
        low, high = (x[i] - eps).clamp(0, 1), (x[i] + eps).clamp(0, 1)
        best, lead, leads = x[i], -math.inf, []
        for where, signs in candidates:
            ends = torch.where(signs > 0, high, low)
            new = best.clone()
            if where is None:
                new = ends
            else:
                square_ = (slice(None), *where)
                new[square_] = ends[square_]
            logits = sharp(new[None])[0]
            others = torch.cat([logits[: labels[i]], logits[labels[i] + 1 :]]).max()
            if (rise := (others - logits[labels[i]]).item()) > lead:
                best, lead = new, rise
            leads.append(lead)
            if lead > 0:
                break
        assert int(found.steps[i]) == len(leads)
        # The folded network sums in another order.
        torch.testing.assert_close(found[i].history[:, 0], torch.tensor(leads, dtype=torch.float64), rtol=1e-8, atol=0)
        torch.testing.assert_close(found.adversarial[i], best, rtol=0, atol=1e-9)
    assert 0 < int(found.success.sum()) < 7


@pytest.mark.parametrize(("norm", "eps"), [("linf", 2 / 255), ("l2", 0.25)])
def test_it_finds_what_torchattacks_does(norm: Any, eps: float) -> None:
    """torchattacks 3.5.1: Square with as many queries; random squares, so that a few more or fewer are the same."""
    torchattacks = pytest.importorskip("torchattacks")

    class Shown(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x - 0.5) / 0.02

    module = nn.Sequential(Shown(), conv_net()).eval()
    many = images(24, 3, *SIZE)
    net = network(module, SIZE)
    labels = net(many).argmax(1)
    name = {"linf": "Linf", "l2": "L2"}[norm]
    peers = [torchattacks.Square(module, norm=name, eps=eps, n_queries=200, seed=seed) for seed in (0, 1)]
    with torch.random.fork_rng():
        theirs = [int((module(peer(many, labels)).argmax(1) != labels).sum()) for peer in peers]
    ours = [
        int(square(net, many, label=labels, eps=eps, norm=norm, queries=200, eight_bit=False, seed=s).success.sum())
        for s in (0, 1)
    ]
    assert sum(ours) >= sum(theirs) - 2
    assert sum(ours) >= 6
    # A black-box attack that does better than gradients would tell of masked ones.
    assert max(ours) <= int(pgd(net, many, label=labels, eps=eps, norm=norm, eight_bit=False).success.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eight_bit", [True, False], ids=["8-bit", "float"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_is_never_left(norm: Any, eight_bit: bool, dtype: torch.dtype) -> None:
    net = network(conv_net(5).to(dtype), SIZE, channels=5)
    x = images(4, 5, *SIZE, dtype=dtype)
    eps = {"linf": 8 / 255, "l2": 0.37}[norm]
    found = square(net, x, eps=eps, norm=norm, queries=60, eight_bit=eight_bit)
    measured = (found.adversarial.double() - found.images.double()).flatten(1).norm(p=P[norm], dim=1)
    # Levels of 255 in float32 are off by 3e-8 each; sums of 315 float64 numbers in another order by 1e-14.
    slack = 1e-5 if eight_bit and dtype == torch.float32 else 1e-14
    assert (measured <= eps * (1 + slack)).all()
    assert (getattr(found, norm) <= eps + 1e-12).all()
    assert getattr(found, norm).max() > 0.5 * eps
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1


@pytest.mark.parametrize(("norm", "eps"), [("linf", 7 / 255), ("l2", 0.5)])
def test_an_image_alone_is_what_it_is_in_a_batch(sharp: Network, x: Tensor, norm: Any, eps: float) -> None:
    labels = sharp(x).argmax(1)
    labels[6] = (labels[6] + 1) % 5
    options: dict[str, Any] = {"eps": eps, "norm": norm, "queries": 60, "restarts": 2, "seed": 3}
    together = square(sharp, x, label=labels, **options)
    assert together.success[:6].any()
    assert not together.success.all()
    assert together.steps[6] == 0
    for i in range(7):
        alone = square(sharp, x[i : i + 1], label=labels[i : i + 1], **options)
        # Sums of a batch of another size may be in another order.
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=0, atol=1e-9)
        assert alone.steps[0] == together.steps[i]
        torch.testing.assert_close(alone.history, together[i].history, rtol=1e-7, atol=0)
    assert together.steps[~together.success].tolist() == [120] * int((~together.success).sum())


def test_only_scores_are_asked_for_and_only_of_new_candidates(x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one channel every second square is there already."""
    net = network(conv_net(1).double(), SIZE, channels=1)
    sizes: list[int] = []
    run = Network.run

    def watched(self: Network, shown: Tensor, *rest: Any, **options: Any) -> Any:
        sizes.append(len(shown))
        assert not shown.requires_grad
        return run(self, shown, *rest, **options)

    def gradient(*_: object, **__: object) -> None:
        raise AssertionError("a gradient was asked for")

    # The graph is checked once, with gradients.
    square(net, x[:, :1], eps=1e-4, queries=1)
    monkeypatch.setattr(torch.autograd, "grad", gradient)
    monkeypatch.setattr(Network, "run", watched)
    # Whole images: crops go another way.
    monkeypatch.setattr("inward.network.held.Held.plan", lambda *_: None)
    monkeypatch.setattr("inward.methods.random_search._MOST_AHEAD", 1)
    found = square(net, x[:, :1], eps=1e-4, queries=300, eight_bit=False)
    assert not found.success.any()
    assert found.steps.tolist() == [300] * 7
    assert 0.3 < sum(sizes) / 2100 < 0.8


@pytest.mark.parametrize(("target", "eight_bit"), [(False, False), (False, True), (True, True)])
@pytest.mark.parametrize("crops", [True, False])
def test_looking_ahead_changes_nothing(
    sharp: Network, x: Tensor, target: bool, eight_bit: bool, crops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One candidate after the other, and up to sixteen at once; images leave in between."""
    monkeypatch.setattr("inward.network.held._OVERHEAD", 0 if crops else 1e15)
    options: dict[str, Any] = {"eps": 5 / 255, "queries": 150, "eight_bit": eight_bit, "restarts": 2}
    options |= {"target": sharp(x).argsort(1)[:, -2]} if target else {}
    looks: list[Any] = []
    found, look = [], Held.look
    monkeypatch.setattr(Held, "look", lambda held, changes: looks.append(changes) or look(held, changes))
    for most in (1, 16):
        monkeypatch.setattr("inward.methods.random_search._MOST_AHEAD", most)
        found.append(square(sharp, x, **options))
    one, many = found
    asked = [len(changes.owners) for changes in looks]
    assert max(asked) > 7
    assert 4 * sum(each > 7 for each in asked) < len(asked)
    assert 0 < one.success.sum() < 7
    assert torch.equal(one.steps, many.steps)
    assert torch.equal(one.success, many.success)
    torch.testing.assert_close(one.history, many.history, rtol=1e-9, atol=1e-12, equal_nan=True)
    torch.testing.assert_close(one.adversarial, many.adversarial, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_leads_to_the_target_and_fools_a_rounding_network(sharp: Network, x: Tensor, norm: Any) -> None:
    goals = sharp(x).argsort(1)[:, -2]
    found = square(sharp, x, target=goals, eps={"linf": 0.1, "l2": 1.0}[norm], norm=norm, queries=200)
    assert found.success.float().mean() > 0.7
    assert torch.equal(found.success, sharp(found.adversarial).argmax(1) == goals)
    rounding = network(nn.Sequential(_Rounded(), conv_net()).eval(), SIZE)
    options: dict[str, Any] = {"eps": {"linf": 8 / 255, "l2": 1.0}[norm], "norm": norm}
    masked = pgd(rounding, x.float(), random_start=False, **options).success.sum()
    assert square(rounding, x.float(), queries=200, **options).success.sum() > masked == 0


class _Rounded(nn.Module):
    """Gradients of 0 everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 64).round() * 0.8


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (3, 1), (4, 4)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_small_images(size: tuple[int, int], norm: Any) -> None:
    net = network(nn.Sequential(nn.Flatten(), nn.Linear(2 * size[0] * size[1], 3)).eval(), size, channels=2)
    found = square(net, images(3, 2, *size), eps=0.01, norm=norm, queries=30, eight_bit=False)
    assert found.adversarial.isfinite().all()
    assert not found.success.all()
    assert (found.steps[~found.success] == 30).all()
    assert (getattr(found, norm)[found.steps == 30] > 0.002).all()


def test_the_network_is_untouched_and_progress_is_told(module: nn.Module, x: Tensor) -> None:
    net, told = Network.of(module, size=SIZE), []
    for parameter in module.parameters():
        parameter.grad = None
    with untouched(module):
        square(net, x, eps=0.3, norm="l2", queries=5, on_progress=lambda *counts: told.append(counts))
    assert told[-1] == (5, 5)


def test_senseless_calls_are_refused(sharp: Network, x: Tensor) -> None:
    for options, reason in (
        ({"norm": "l1"}, "no norm l1 here; write linf or l2"),
        ({"queries": 0}, "queries must be 1 or more, not 0"),
        ({"restarts": 0}, "restarts must be 1 or more"),
        ({"share": 0.0}, "share is that of the pixels in the first squares, above 0 and at most 1, not 0"),
        ({"share": 1.5}, "at most 1, not 1.5"),
        ({"eps": -1.0}, "eps must be above 0"),
    ):
        with pytest.raises(CallError, match=reason):
            square(sharp, x, **options)  # type: ignore[arg-type]
