"""FGSM, PGD and momentum FGSM: equal to the peers where nothing stops early, optimal where the optimum is known."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, fgsm, momentum_fgsm, pgd
from inward.columns.objectives import DLR, TargetedDLR
from inward.gradient import gradient
from inward.methods.attacked import EPS
from inward.network.trace import Trace
from inward.results import Perturbation
from same import images, seeded, untouched

SIZE = (9, 7)
# All steps of all images, from the image itself, judged as they are.
PLAIN: dict[str, Any] = {"stop": False, "eight_bit": False}
# The same sums in float64, in another order.
PEERS = 1e-6
P = {"linf": math.inf, "l2": 2, "l1": 1}
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return images(7, 3, *SIZE, dtype=torch.float64)


@pytest.fixture(scope="module")
def labels(net: Network, x: Tensor) -> list[int]:
    """Five are right and two are wrong from the start."""
    right = net(x).argmax(1)
    return [*right[:5].tolist(), *((right[5:] + 1) % 5).tolist()]


@pytest.fixture(scope="module")
def sharp(module: nn.Module) -> Network:
    """A small standard deviation: the answer hangs on the image, and not on the biases."""
    return network(module, SIZE, mean=(0.5,) * 3, std=(0.02,) * 3)


def foolbox_of(module: nn.Module) -> Any:
    foolbox = pytest.importorskip("foolbox")
    return foolbox, foolbox.PyTorchModel(module.eval(), bounds=(0, 1), device="cpu")


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_is_foolbox_s(module: nn.Module, net: Network, x: Tensor, labels: list[int], norm: str) -> None:
    """Foolbox 3.3.4: LinfFastGradientAttack and L2FastGradientAttack, random_start=False."""
    foolbox, model = foolbox_of(module)
    kind = {"linf": foolbox.attacks.LinfFastGradientAttack, "l2": foolbox.attacks.L2FastGradientAttack}[norm]
    _, theirs, _ = kind(random_start=False)(model, x, torch.tensor(labels), epsilons=0.3)
    ours = fgsm(net, x, label=labels, eps=0.3, norm=norm, **PLAIN)  # type: ignore[arg-type]
    torch.testing.assert_close(ours.adversarial, theirs, rtol=0, atol=PEERS)
    assert ours.steps.tolist() == [1] * 7


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_is_foolbox_s(module: nn.Module, net: Network, x: Tensor, labels: list[int], norm: str) -> None:
    """Foolbox 3.3.4: LinfPGD and L2PGD, random_start=False, 20 steps of 0.1 eps."""
    foolbox, model = foolbox_of(module)
    kind = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    attack = kind(rel_stepsize=0.1, steps=20, random_start=False)
    _, theirs, fooled = attack(model, x, torch.tensor(labels), epsilons=0.2)
    options = {"eps": 0.2, "norm": norm, "steps": 20, "step_size": 0.1, "random_start": False}
    ours = pgd(net, x, label=labels, **options, **PLAIN)
    torch.testing.assert_close(ours.adversarial, theirs, rtol=0, atol=PEERS)
    assert torch.equal(ours.success, fooled)


def test_targeted_pgd_is_torchattacks_s(module: nn.Module, net: Network, x: Tensor, labels: list[int]) -> None:
    """torchattacks 3.5.1: PGD in targeted mode, random_start=False."""
    torchattacks = pytest.importorskip("torchattacks")
    attack = torchattacks.PGD(module.eval(), eps=0.1, alpha=0.02, steps=9, random_start=False)
    attack.set_mode_targeted_by_label(quiet=True)
    goals = [(k + 2) % 5 for k in labels]
    theirs = attack(x, torch.tensor(goals))
    ours = pgd(net, x, label=labels, target=goals, eps=0.1, steps=9, step_size=0.2, random_start=False, **PLAIN)
    torch.testing.assert_close(ours.adversarial, theirs.double(), rtol=0, atol=PEERS)
    assert ours.targets == tuple(f"class:{k}" for k in goals)


def test_momentum_fgsm_is_torchattacks_s(module: nn.Module, net: Network, x: Tensor, labels: list[int]) -> None:
    """torchattacks 3.5.1: MIFGSM."""
    torchattacks = pytest.importorskip("torchattacks")
    theirs = torchattacks.MIFGSM(module.eval(), eps=0.1, alpha=0.015, steps=8, decay=0.9)(x, torch.tensor(labels))
    ours = momentum_fgsm(net, x, label=labels, eps=0.1, steps=8, step_size=0.15, decay=0.9, **PLAIN)
    torch.testing.assert_close(ours.adversarial, theirs.double(), rtol=0, atol=PEERS)


class Linear(nn.Module):
    """Logits that are linear in the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * SIZE[0] * SIZE[1], 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_network_it_is_the_optimum(norm: str, channels: int) -> None:
    """Two classes: the margin rises by eps times the dual norm of the difference of the weights, and no more."""
    module = seeded(lambda: Linear(channels)).double()
    module.fc.weight.data[2:] = 0
    module.fc.bias.data[:] = torch.tensor([0.0, 0.0, -100.0, -100.0])
    net = network(module, SIZE, channels=channels)
    # In the middle of the range, so that no pixel meets its bound.
    x = 0.5 + 0.1 * (images(3, channels, *SIZE, dtype=torch.float64) - 0.5)
    eps = {"linf": 0.05, "l2": 0.2, "l1": 0.3}[norm]
    slope = module.fc.weight[1] - module.fc.weight[0]
    dual = {"linf": slope.abs().sum(), "l2": slope.norm(), "l1": slope.abs().max()}[norm].item()
    clean = net(x)
    best = clean[:, 1] - clean[:, 0] + eps * dual
    options = {"label": [0] * 3, "eps": eps, "norm": norm, "loss": "margin"}
    for found in (fgsm(net, x, **options, **PLAIN), pgd(net, x, steps=60, random_start=False, **options, **PLAIN)):
        torch.testing.assert_close(found.final.double(), best, rtol=1e-9, atol=0)
        assert (getattr(found, norm) <= eps).all()


def test_brute_force_on_two_layers() -> None:
    """Two pixels, three hidden units: the best of a fine grid of the ball is found by restarts."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden, self.fc = nn.Linear(2, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(4 * self.hidden(x.flatten(1)).tanh())

    net = network(seeded(Two).double(), (1, 2), channels=1)
    x = images(4, 1, 1, 2, dtype=torch.float64)
    labels = net(x).argmax(1)
    grid = torch.cartesian_prod(*[torch.linspace(-0.3, 0.3, 201, dtype=torch.float64)] * 2).view(-1, 1, 1, 2)
    found = pgd(net, x, eps=0.3, loss="margin", steps=40, restarts=5, **PLAIN)
    for i in range(4):
        logits = net((x[i] + grid).clamp(0, 1))
        others = logits.scatter(1, labels[i].expand(len(logits), 1), -torch.inf).amax(1)
        best = (others - logits[:, labels[i]]).max().item()
        # No worse than the grid, whose points are 0.003 apart.
        assert found.final[i].item() >= best - 1e-3


@functools.cache
def plain(dtype: torch.dtype) -> Network:
    return network(conv_net().to(dtype), SIZE)


ATTACKS: dict[str, Callable[..., Perturbation]] = {"fgsm": fgsm, "pgd": pgd, "momentum-fgsm": momentum_fgsm}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eight_bit", [True, False], ids=["8-bit", "float"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ATTACKS)
def test_the_ball_is_never_left(name: str, norm: str, eight_bit: bool, dtype: torch.dtype) -> None:
    if (name, norm) == ("momentum-fgsm", "l1"):
        return
    net = plain(dtype)
    x = images(4, 3, *SIZE, dtype=dtype)
    # 8.000000473 levels of 8 is what peers leave.
    eps = {"linf": 8 / 255, "l2": 0.37, "l1": 1.7}[norm]
    found = ATTACKS[name](net, x, eps=eps, norm=norm, eight_bit=eight_bit, stop=False)
    change = (found.adversarial.double() - found.images.double()).flatten(1)
    measured = change.norm(p=P[norm], dim=1)
    # Levels of 255 in float32 are off by 3e-8 each.
    slack = 1e-5 if eight_bit and dtype == torch.float32 else 0
    # 1e-14: sums of 189 float64 numbers in another order.
    assert (measured <= eps * (1 + slack + 1e-14)).all()
    assert (getattr(found, norm) <= eps + 1e-12).all()
    assert getattr(found, norm).max() > 0.5 * eps
    assert found.adversarial.min() >= 0
    assert found.adversarial.max() <= 1


def test_stopping_changes_no_image_s_result_and_leaves_the_fooled_alone(sharp: Network, x: Tensor) -> None:
    labels = sharp(x).argmax(1)
    labels[6] = (labels[6] + 1) % 5
    together = pgd(sharp, x, label=labels, eps=2 / 255, steps=15, restarts=2, seed=3)
    assert together.success.any()
    assert not together.success.all()
    assert together.steps[6] == 0
    assert together.l0[6] == 0
    for i in range(7):
        alone = pgd(sharp, x[i : i + 1], label=labels[i : i + 1], eps=2 / 255, steps=15, restarts=2, seed=3)
        torch.testing.assert_close(alone.adversarial[0], together.adversarial[i], rtol=0, atol=1e-12)
        assert alone.steps[0] == together.steps[i]
        torch.testing.assert_close(alone.history, together[i].history, rtol=1e-9, atol=0)
    # Both starts of an image that withstood were made in full.
    assert together.steps[~together.success].tolist() == [30] * int((~together.success).sum())


def test_the_batch_shrinks(sharp: Network, x: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    run = Network.run

    def watched(self: Network, shown: Tensor, *rest: Any, **options: Any) -> Any:
        if shown.requires_grad:
            sizes.append(len(shown))
        return run(self, shown, *rest, **options)

    monkeypatch.setattr(Network, "run", watched)
    found = pgd(sharp, x, eps=0.1, steps=20, step_size=0.05)
    assert found.success.sum() >= 2
    assert sizes[0] == 7
    assert sizes == sorted(sizes, reverse=True)
    # An image is computed once more than it was moved: to see that it had reached its goal.
    steps = found.steps
    assert sum(sizes) == int(steps.sum() + (steps < 20).sum())


def test_restarts_find_more(sharp: Network, x: Tensor) -> None:
    found = [int(pgd(sharp, x, eps=0.05, steps=4, restarts=r, eight_bit=False).success.sum()) for r in (1, 8)]
    assert found[0] <= found[1]
    with pytest.raises(CallError, match="begins 1 time or more, not 0"):
        pgd(sharp, x, restarts=0)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
@pytest.mark.parametrize("aimed", [False, True])
def test_every_loss_leads_there(sharp: Network, x: Tensor, loss: Any, aimed: bool) -> None:
    answers = sharp(x).argmax(1)
    target = ((answers + 1) % 5).tolist() if aimed else None
    found = pgd(sharp, x, target=target, eps=0.3, loss=loss, steps=30, extra=2)
    assert found.success.float().mean() > 0.7
    after = sharp(found.adversarial).argmax(1)
    assert torch.equal(found.success, after == torch.tensor(target) if aimed else after != answers)
    assert (found.final > 0).tolist() == found.success.tolist()


def test_dlr_by_hand_and_by_differences(net: Network, x: Tensor) -> None:
    logits = net(x)
    answers = logits.argmax(1).tolist()
    top = logits.sort(dim=1, descending=True).values
    trace = Trace(net, x, {"class": logits})
    torch.testing.assert_close(
        DLR(tuple(answers))(trace), (top[:, 1] - top[:, 0]) / (top[:, 0] - top[:, 2]), rtol=1e-9, atol=0
    )
    goals = [(k + 1) % 5 for k in answers]
    rise = logits[range(7), goals] - logits[range(7), answers]
    towards = TargetedDLR(tuple(answers), targets=tuple(goals))
    torch.testing.assert_close(towards(trace), rise / (top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])), rtol=1e-9, atol=0)
    assert towards.select([4, 1]).targets == (goals[4], goals[1])  # type: ignore[attr-defined]
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    for objective in (DLR(tuple(answers)), towards):
        _, found = gradient(net, x, objective)
        ahead, behind = (
            objective(Trace(net, x, {"class": net((x + s * 1e-5 * direction).clamp(0, 1))})) for s in (1, -1)
        )
        slope = (found * direction).flatten(1).sum(1)
        inside = ((x > 1e-4) & (x < 1 - 1e-4)).flatten(1).all(1)
        torch.testing.assert_close(slope[inside], (ahead - behind)[inside] / 2e-5, rtol=1e-4, atol=1e-7)
    # Rescaled logits change nothing.
    scaled = Trace(net, x, {"class": logits * 1e4})
    torch.testing.assert_close(towards(scaled), towards(trace), rtol=1e-9, atol=0)


def test_bfloat16_does_not_lose_the_attack(x: Tensor) -> None:
    """Gradients underflow where the network is sure; the sign and the direction must not."""
    single = network(conv_net(), SIZE, mean=(0.5,) * 3, std=(0.02,) * 3)
    labels = single(x.float()).argmax(1)
    short = single.to(dtype=torch.bfloat16)
    for norm, eps in (("linf", 0.2), ("l2", 2.0)):
        kept = pgd(single, x.float(), label=labels, eps=eps, norm=norm, steps=20).success.sum()  # type: ignore[arg-type]
        found = pgd(short, x.bfloat16(), label=labels, eps=eps, norm=norm, steps=20, eight_bit=False)  # type: ignore[arg-type]
        assert found.success.sum() >= kept - 1 >= 4


def test_defaults_are_those_of_the_field(net: Network, x: Tensor) -> None:
    for norm, eps in EPS.items():
        found = pgd(net, x[:1], norm=norm, steps=2)  # type: ignore[arg-type]
        assert found.record.parameters["eps"] == eps
    assert EPS == {"linf": 8 / 255, "l2": 0.5, "l1": 12}
    assert pgd(net, x[:1], steps=50).record.parameters["step_size"] == pytest.approx(2.5 / 50)


def test_the_network_is_untouched(module: nn.Module, x: Tensor) -> None:
    for parameter in module.parameters():
        parameter.grad = None
    net = Network.of(module, size=SIZE)
    with untouched(module):
        pgd(net, x, eps=0.1, steps=3)
        with pytest.raises(CallError):
            pgd(net, x, eps=-1.0)


class One(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"eps": -0.1}, "above 0 and at most 1"),
        ({"eps": 1.5}, "at most 1, the whole range, not 1.5; write 4/255"),
        ({"eps": 0.0, "norm": "l1"}, "must be a number above 0"),
        ({"norm": "l3"}, "no norm 'l3'; write linf, l2 or l1"),
        ({"loss": "logit"}, "no loss 'logit'; write cross-entropy, margin or dlr"),
        ({"label": "class:9"}, "5 classes, 0 to 4"),
        ({"label": [1, 2]}, "there are 2 labels for 3 images"),
        ({"label": [1]}, "there is 1 label for 3 images"),
        ({"label": [1, 2, 5]}, "a label is class:NAME or a number in 0 to 4, not 5"),
        ({"label": [1, 2, -1]}, "not -1"),
        ({"label": [1, 2, 3], "target": [0, 2, 1]}, "the target class:2 is the label itself"),
        ({"label": "conv/1"}, "is not a class"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"steps": -1, "step_size": 0.1}, "steps must be 1 or more, not -1"),
        ({"step_size": 0.0}, "must be above 0"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_senseless_calls_are_refused(net: Network, x: Tensor, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        pgd(net, x[:3], **options)


def test_images_out_of_range_and_networks_of_one_output_are_refused(net: Network, x: Tensor) -> None:
    with pytest.raises(CallError, match=r"\[0, 1\]"):
        pgd(net, x * 255)
    with pytest.raises(CallError, match="needs two classes or more"):
        pgd(Network.of(One().eval(), size=SIZE), x.float())
    with pytest.raises(CallError, match="no norm l1 here"):
        momentum_fgsm(net, x, norm="l1")
    with pytest.raises(CallError, match="decay is the share"):
        momentum_fgsm(net, x, decay=-1.0)
    with pytest.raises(CallError, match="steps must be 1 or more, not 0"):
        momentum_fgsm(net, x, steps=0, step_size=0.5)


@pytest.mark.parametrize("what", ["label", "target"])
def test_one_class_as_a_number_is_that_of_all_images(net: Network, x: Tensor, what: str) -> None:
    options: dict[str, Any] = {"steps": 2, "eps": 0.02}
    alike = [pgd(net, x, **{what: given}, **options) for given in (3, [3] * len(x), "class:3")]
    assert torch.equal(alike[0].adversarial, alike[1].adversarial)
    assert torch.equal(alike[0].adversarial, alike[2].adversarial)
    with pytest.raises(CallError, match=f"a {what} is class:NAME or a number in 0 to 4, not True"):
        pgd(net, x, **{what: True}, **options)
