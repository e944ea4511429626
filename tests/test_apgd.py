"""Auto-PGD: the paper's checkpoints and step sizes, the peer's successes from the same start, the known optimum."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import Dead, conv_net, network
from inward import CallError, InwardError, Network, pgd
from inward.columns.constraints import Ball
from inward.methods.apgd import _Run, apgd, checkpoints, climbed, next_classes
from inward.methods.attacked import attacked
from same import images, seeded, untouched

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


def in_paper_order(steps: int) -> list[int]:
    """w_j = ceil(p_j steps), p_0 = 0, p_1 = 0.22, p_(j+1) = p_j + max(p_j - p_(j-1) - 0.03, 0.06)."""
    shares = [Fraction(0), Fraction(22, 100)]
    while shares[-1] <= 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - Fraction(3, 100), Fraction(6, 100)))
    return sorted({math.ceil(p * steps) for p in shares[1:-1]})


def test_checkpoints_are_the_paper_s() -> None:
    assert checkpoints(100) == (22, 41, 57, 70, 80, 87, 93, 99)
    for steps in range(1, 300):
        assert list(checkpoints(steps)) == in_paper_order(steps)


def test_both_conditions_halve_the_step_from_the_best_point() -> None:
    """4 moves: all rose, to nothing new; the same behind a halving; to a better point; 2 rose; 3 rose."""
    run = object.__new__(_Run)
    run.rose = torch.tensor([4.0, 4.0, 4.0, 2.0, 3.0])
    run.halved = torch.tensor([False, True, False, False, False])
    run.checked, run.best_score = torch.zeros(5), torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0])
    run.score, run.length = torch.full((5,), -1.0), torch.full((5, 1, 1, 1), 2.0)
    run.now, run.gradient = torch.zeros(5, 2, 3, 4), torch.zeros(5, 2, 3, 4)
    run.best, run.best_gradient = torch.full((5, 2, 3, 4), 3.0), torch.full((5, 2, 3, 4), 4.0)
    run.check(4)
    assert run.halved.tolist() == [True, False, False, True, False]
    assert run.length.flatten().tolist() == [1, 2, 2, 1, 2]
    assert run.score.tolist() == [0, -1, -1, 1, -1]
    assert run.now[:, 0, 0, 0].tolist() == [3, 0, 0, 3, 0]
    assert run.gradient[:, 1, 2, 3].tolist() == [4, 0, 0, 4, 0]
    assert run.checked.tolist() == run.best_score.tolist()
    assert run.rose.tolist() == [0] * 5


def replica(net: Network, image: Tensor, label: int, start: Tensor, eps: float, norm: str, steps: int) -> Any:
    """Algorithm 1 of the paper, one image, plain lists; gives losses before each move, step sizes, the best point."""

    def project(y: Tensor) -> Tensor:
        change = y - image
        change = change.clamp(-eps, eps) if norm == "linf" else change * min(1.0, eps / change.norm().item())
        return (image + change).clamp(0, 1)

    def loss(y: Tensor) -> tuple[float, Tensor]:
        y = y.clone().requires_grad_(True)
        value = F.cross_entropy(net(y[None]), torch.tensor([label]))
        return value.item(), torch.autograd.grad(value, y)[0]

    def moved(y: Tensor, eta: float) -> Tensor:
        slope = loss(y)[1]
        return project(y + eta * (slope.sign() if norm == "linf" else slope / slope.norm()))

    eta, path, etas = 2 * eps, [project(start)], []
    losses = [loss(path[0])[0]]
    best, best_loss, rises, seen, halved = path[0], losses[0], 0, losses[0], False
    marks = in_paper_order(steps)
    for k in range(steps):
        etas.append(eta)
        z = moved(path[-1], eta)
        new = z if k == 0 else project(path[-1] + 0.75 * (z - path[-1]) + 0.25 * (path[-1] - path[-2]))
        value = loss(new)[0]
        rises += value > losses[-1]
        if value > best_loss:
            best, best_loss = new, value
        if k + 1 in marks:
            window = k + 1 - max([0, *(w for w in marks if w < k + 1)])
            no_better = not halved and best_loss == seen
            halved = rises < 0.75 * window or no_better
            if halved:
                eta, new, value = eta / 2, best, best_loss
            seen, rises = best_loss, 0
        path.append(new)
        losses.append(value)
    return losses[:-1], etas, best


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_the_paper_s_algorithm(sharp: Network, x: Tensor, norm: str) -> None:
    eps, steps, seed, x = {"linf": 0.004, "l2": 0.05}[norm], 40, 5, x[:3]
    labels = sharp(x).argmax(1).tolist()
    found = apgd(sharp, x, eps=eps, norm=norm, steps=steps, stop=False, eight_bit=False, seed=seed)  # type: ignore[arg-type]
    asked = attacked(sharp, x, None, None, eight_bit_judge=False, eps=eps, norm=norm)
    starts = Ball(x, eps, P[norm]).sample(x, asked.seeds(seed))
    halvings = set()
    for i in range(3):
        losses, etas, best = replica(sharp, x[i], labels[i], starts[i], eps, norm, steps)
        # The folded network sums in another order; a path of 40 steps adds these up.
        torch.testing.assert_close(found.history[:, i], torch.tensor(losses, dtype=torch.float64), rtol=1e-6, atol=1e-9)
        halvings.add(etas[-1] / eps)
        if not found.success[i]:
            torch.testing.assert_close(found.adversarial[i], best, rtol=0, atol=1e-7)
    assert min(halvings) < 0.2
    assert not found.success.all()
    assert found.steps.tolist() == [steps] * 3


@pytest.mark.parametrize("loss", ["cross-entropy", "dlr"])
def test_from_the_same_start_it_fools_what_torchattacks_does(
    module: nn.Module, loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchattacks 3.5.1: APGD, linf."""
    torchattacks = pytest.importorskip("torchattacks")
    scaled = nn.Sequential(_Shown(), module).eval()
    net = network(scaled, SIZE)
    many = images(24, 3, *SIZE, dtype=torch.float64)
    labels = net(many).argmax(1)
    noise = 2 * torch.rand(many.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64) - 1
    noise /= noise.flatten(1).abs().amax(1).view(-1, 1, 1, 1)
    attack = torchattacks.APGD(scaled, eps=1 / 255, steps=100, loss={"cross-entropy": "ce", "dlr": "dlr"}[loss])
    with monkeypatch.context() as patched:
        patched.setattr(torch, "rand", lambda *_: (noise + 1) / 2)
        theirs = scaled(attack(many, labels)).argmax(1) != labels
    monkeypatch.setattr(Ball, "sample", lambda self, like, seeds: like + self.eps * noise)
    found = apgd(net, many, label=labels, eps=1 / 255, loss=loss, eight_bit=False)
    assert torch.equal(found.success, theirs)
    assert 2 <= int(theirs.sum()) <= 22


class _Shown(nn.Module):
    """A small standard deviation, for a peer that knows none."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.02


@pytest.mark.parametrize(("norm", "eps"), [("linf", 2 / 255), ("linf", 1 / 255), ("l2", 0.06), ("l2", 0.12)])
def test_no_fewer_are_fooled_than_by_pgd(sharp: Network, norm: Any, eps: float) -> None:
    many = images(24, 3, *SIZE, dtype=torch.float64)
    options: dict[str, Any] = {"eps": eps, "norm": norm, "eight_bit": False}
    known = int(pgd(sharp, many, steps=25, **options).success.sum())
    for loss in ("cross-entropy", "margin", "dlr", "targeted-dlr"):
        found = int(apgd(sharp, many, steps=25, loss=loss, **options).success.sum())  # type: ignore[arg-type]
        assert found >= known
    assert 0 < known < 24


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * SIZE[0] * SIZE[1], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("channels", [1, 5])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_network_it_is_the_optimum(norm: Any, channels: int) -> None:
    """The margin rises by eps times the dual norm of the difference of the weights, and no more."""
    module = seeded(lambda: Linear(channels)).double()
    module.fc.weight.data[2:] = 0
    module.fc.bias.data[:] = torch.tensor([0.0, 0.0, -100.0, -100.0])
    net = network(module, SIZE, channels=channels)
    # In the middle of the range, so that no pixel meets its bound.
    x = 0.5 + 0.1 * (images(3, channels, *SIZE, dtype=torch.float64) - 0.5)
    eps = {"linf": 0.05, "l2": 0.2}[norm]
    slope = module.fc.weight[1] - module.fc.weight[0]
    dual = {"linf": slope.abs().sum(), "l2": slope.norm()}[norm].item()
    clean = net(x)
    found = apgd(net, x, label=[0] * 3, eps=eps, norm=norm, loss="margin", stop=False, eight_bit=False)
    # A hundred steps from a random place of the ball come so near (1.3e-9 measured).
    torch.testing.assert_close(found.final.double(), clean[:, 1] - clean[:, 0] + eps * dual, rtol=1e-8, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eight_bit", [True, False], ids=["8-bit", "float"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_ball_is_never_left(norm: Any, eight_bit: bool, dtype: torch.dtype) -> None:
    net = network(conv_net().to(dtype), SIZE)
    x = images(4, 3, *SIZE, dtype=dtype)
    eps = {"linf": 8 / 255, "l2": 0.37}[norm]
    found = apgd(net, x, eps=eps, norm=norm, steps=30, eight_bit=eight_bit, stop=False)
    measured = (found.adversarial.double() - found.images.double()).flatten(1).norm(p=P[norm], dim=1)
    # Levels of 255 in float32 are off by 3e-8 each; sums of 189 float64 numbers in another order by 1e-14.
    slack = 1e-5 if eight_bit and dtype == torch.float32 else 1e-14
    assert (measured <= eps * (1 + slack)).all()
    assert (getattr(found, norm) <= eps + 1e-12).all()
    assert getattr(found, norm).max() > 0.5 * eps
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1


def test_an_image_alone_is_what_it_is_in_a_batch_and_the_fooled_are_left_alone(sharp: Network, x: Tensor) -> None:
    labels = sharp(x).argmax(1)
    labels[6] = (labels[6] + 1) % 5
    options: dict[str, Any] = {"eps": 2 / 255, "steps": 12, "restarts": 2, "seed": 3}
    together = apgd(sharp, x, label=labels, **options)
    assert together.success[:6].any()
    assert not together.success.all()
    assert together.steps[6] == 0
    assert together.l0[6] == 0
    for i in range(7):
        alone = apgd(sharp, x[i : i + 1], label=labels[i : i + 1], **options)
        # Sums of a batch of another size may be in another order.
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=0, atol=1e-9)
        assert alone.steps[0] == together.steps[i]
        torch.testing.assert_close(alone.history, together[i].history, rtol=1e-7, atol=0)
    assert together.steps[~together.success].tolist() == [24] * int((~together.success).sum())


def test_the_batch_shrinks(sharp: Network, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Network.run

    def watched(self: Network, shown: Tensor, *rest: Any, **options: Any) -> Any:
        if shown.requires_grad:
            sizes.append(len(shown))
        return run(self, shown, *rest, **options)

    monkeypatch.setattr(Network, "run", watched)
    found = apgd(sharp, x, eps=2 / 255, steps=20)
    assert found.success.any()
    assert sizes[0] == 7
    assert sizes[-1] == int((~found.success).sum()) < 7
    assert sizes == sorted(sizes, reverse=True)
    # One look at the start, and one behind each move.
    assert sum(sizes) == 7 + int(found.steps.sum())


def test_targeted_ratios_head_for_the_next_classes(sharp: Network, x: Tensor) -> None:
    labels = sharp(x).argsort(1)[:, 2].tolist()
    asked = attacked(sharp, x, labels, None, eight_bit_judge=False, eps=0.1, norm="linf")
    ranked = asked.logits.argsort(1, descending=True).tolist()
    expected = [[k for k in row if k != own] for row, own in zip(ranked, labels, strict=True)]
    assert next_classes(asked, 9).tolist() == expected
    assert next_classes(asked, 2).tolist() == [row[:2] for row in expected]
    ways = climbed(asked, "targeted-dlr", 3)
    assert [way.targets for way in ways] == [tuple(row[j] for row in expected) for j in range(3)]  # type: ignore[attr-defined]
    found = apgd(sharp, x, eps=1e-4, loss="targeted-dlr", classes=3, steps=4, restarts=2, stop=False)
    assert found.steps.tolist() == [24] * 7


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr", "targeted-dlr"])
def test_it_leads_to_the_target(sharp: Network, x: Tensor, loss: Any) -> None:
    answers = sharp(x).argmax(1)
    goals = (answers + 1) % 5
    found = apgd(sharp, x, target=goals, eps=0.3, loss=loss, steps=40)
    assert found.success.float().mean() > 0.7
    assert torch.equal(found.success, sharp(found.adversarial).argmax(1) == goals)
    assert (found.final > 0).tolist() == found.success.tolist()


def test_without_a_gradient_it_stays_and_says_nothing_wrong(x: Tensor) -> None:
    found = apgd(network(seeded(Dead).double(), SIZE), x, steps=10, eight_bit=False)
    assert not found.success.any()
    assert found.adversarial.isfinite().all()
    assert found.history.isfinite().all()


def test_broken_weights_are_named(x: Tensor) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([(x * 0).flatten(1).sum(1).sqrt(), x.flatten(1).sum(1)], 1)

    with pytest.raises(InwardError, match="is not finite"):
        apgd(network(Broken().eval(), SIZE), x.float(), label=[1] * 7)


def test_the_network_is_untouched_and_progress_is_told(module: nn.Module, x: Tensor) -> None:
    net, told = Network.of(module, size=SIZE), []
    for parameter in module.parameters():
        parameter.grad = None
    with untouched(module):
        apgd(net, x, eps=0.001, steps=6, restarts=2, on_progress=lambda *counts: told.append(counts))
    assert told == [(i, 12) for i in range(1, 13)]


def test_few_classes_and_senseless_calls_are_refused(sharp: Network, x: Tensor) -> None:
    two = network(nn.Sequential(nn.Flatten(), nn.Linear(189, 2)).eval(), SIZE)
    three = network(nn.Sequential(nn.Flatten(), nn.Linear(189, 3)).eval(), SIZE)
    assert apgd(two, x.float(), loss="margin", eps=1.0, steps=20).success.all()
    with pytest.raises(CallError, match="dlr compares 3 logits, and this network has 2; use loss='margin'"):
        apgd(two, x.float(), loss="dlr")
    with pytest.raises(CallError, match="targeted-dlr compares 4 logits, and this network has 3"):
        apgd(three, x.float(), loss="targeted-dlr")
    with pytest.raises(CallError, match="dlr compares 4 logits"):
        apgd(three, x.float(), loss="dlr", target="class:0", label="class:1")
    for options, reason in (
        ({"norm": "l1"}, "no norm l1 here; write linf or l2"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"restarts": 0}, "restarts must be 1 or more"),
        ({"classes": 0}, "classes must be 1 or more"),
        ({"eps": 2.0}, "at most 1, the whole range"),
        ({"loss": "logit"}, "no loss 'logit'"),
        ({"label": [0] * 7, "target": "class:0"}, "is the label itself"),
    ):
        with pytest.raises(CallError, match=reason):
            apgd(sharp, x, **options)  # type: ignore[arg-type]
