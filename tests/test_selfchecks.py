"""Self-checks: networks that only look robust are caught, each by its own name, and honest ones by none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

import inward
from helpers import conv_net, digits_data, digits_weights, network
from inward import CallError, Network
from inward.columns.objectives import CrossEntropy
from inward.methods.attacked import attacked
from inward.methods.looked import look
from inward.nets.digits import digits
from inward.studies import checks_attacks, checks_outputs
from inward.studies.accuracy import Judged, Robustness
from inward.studies.checks_attacks import Attacks
from inward.studies.checks_gradients import vanished
from inward.studies.examined import Examined, Finding
from inward.studies.in_memory import InMemory
from inward.studies.selfchecks import checked, lines, report, self_checks
from same import images, untouched

pytestmark = [pytest.mark.usefixtures("single_thread"), pytest.mark.filterwarnings("ignore::inward.InwardWarning")]
COUNT = 16
CAUSES = {"saturated loss", "rounding layer", "saturating activation"}
EVERY = (
    *("range of input", "normalization", "softmax outputs", "few classes", "randomness", "train mode"),
    *("optimization at inference", "zero gradients", *("saturated loss", "rounding layer", "saturating activation")),
    *("loss rises with steps", "large eps", "black box"),
)


class Wrapped(nn.Module):
    """A network with something before it and something behind."""

    def __init__(
        self,
        inner: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        behind: Callable[[Tensor], Tensor] = lambda z: z,
    ) -> None:
        super().__init__()
        self.inner, self.before, self.behind = inner, before, behind

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.inner(self.before(x)))


class Branching(nn.Module):
    """What cannot be exported."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) if x.sum().item() > -1e9 else -self.inner(x)


class Steep(nn.Module):
    """A sigmoid 1000 times as steep."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.sigmoid(1e3 * (x - 0.5))


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    module = digits()
    module.load_state_dict(load_file(digits_weights()))
    return module.eval()


@pytest.fixture(scope="module")
def net(trained: nn.Module) -> Network:
    return of(trained)


@pytest.fixture(scope="module")
def data() -> tuple[Tensor, Tensor]:
    """Digits that the network has not been trained on."""
    x, y = digits_data()
    return x[-COUNT:], y[-COUNT:]


def of(module: nn.Module, **options: Any) -> Network:
    return network(module.eval(), (8, 8), channels=1, **options)


def examined(net: Network, data: tuple[Tensor, Tensor], eps: float = 0.1, norm: Any = "linf") -> Examined:
    asked = attacked(net, data[0], data[1].tolist(), None, eight_bit_judge=False, eps=eps, norm=norm)
    return Examined(asked, eps, norm, 0)


def named(findings: Sequence[Finding]) -> dict[str, Finding]:
    return {one.name: one for one in findings}


def doubted(findings: Sequence[Finding]) -> set[str]:
    return {one.name for one in findings if one.ok is False}


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), pytest.param("l2", 0.5, marks=pytest.mark.slow), ("l1", 2.0)])
def test_an_honest_network_has_nothing_to_doubt(
    trained: nn.Module, net: Network, data: tuple[Tensor, Tensor], norm: Any, eps: float
) -> None:
    told: list[Any] = []
    with untouched(trained):
        found = self_checks(net, *data, eps=eps, norm=norm, on_progress=lambda *counts: told.append(counts))
    assert tuple(one.name for one in found) == EVERY
    assert doubted(found) == set()
    assert [one.name for one in found if one.ok is None] == (["black box"] if norm == "l1" else [])
    by = named(found)
    assert by["normalization"].measured == float((net(data[0]).argmax(1) == data[1]).double().mean()) > 0.9
    assert by["range of input"].measured == float(data[0].max())
    assert by["few classes"].measured == 10
    for name in ("randomness", "zero gradients", "rounding layer", "large eps", "optimization at inference"):
        assert by[name].measured == 0
    assert told == [(i, 14) for i in range(1, 15)]


ROUNDED = lambda x: (x * 16).round() / 16  # noqa: E731
TRAPS: dict[str, tuple[str, Callable[[nn.Module], nn.Module]]] = {
    "logits scaled by 1e4": ("saturated loss", lambda m: Wrapped(m, behind=lambda z: z * 1e4)),
    "rounding": ("rounding layer", lambda m: Wrapped(m, ROUNDED)),
    "rounding without a graph": ("rounding layer", lambda m: Branching(Wrapped(m, ROUNDED))),
    "threshold": ("rounding layer", lambda m: Wrapped(m, lambda x: (x > 0.45).to(x.dtype))),
    "sigmoid": ("saturating activation", lambda m: nn.Sequential(Steep(), m)),
    "sigmoid without a graph": ("saturating activation", lambda m: Branching(nn.Sequential(Steep(), m))),
    "tanh": ("saturating activation", lambda m: Wrapped(m, lambda x: torch.tanh(1e6 * (x - 0.5)) / 2 + 0.5)),
    "clipped": ("saturating activation", lambda m: Wrapped(m, lambda x: F.hardtanh(1e3 * (x - 0.4)) / 2 + 0.5)),
}


FIRST = ("logits scaled by 1e4", "rounding", "rounding without a graph", "sigmoid")


@pytest.mark.parametrize("trap", [t if t in FIRST else pytest.param(t, marks=pytest.mark.slow) for t in TRAPS])
def test_masked_gradients_are_caught_each_by_its_name(
    trained: nn.Module, data: tuple[Tensor, Tensor], trap: str
) -> None:
    name, make = TRAPS[trap]
    found = self_checks(of(make(trained)), *data, eps=0.1)
    assert doubted(found) & CAUSES == {name}
    # What follows from it is told too; what has nothing to do with it is not.
    assert {"zero gradients", "large eps"} <= doubted(found)
    assert not doubted(found) & {"softmax outputs", "randomness", "train mode", "range of input", "normalization"}
    by = named(found)
    if name != "saturating activation":
        # Of one digit noise carries no value over the threshold.
        assert by[name].measured == (15 / 16 if trap == "threshold" else 1)
        assert by["zero gradients"].measured == by["large eps"].measured == 1
        assert by["loss rises with steps"].ok is False
        assert by["black box"].ok is False
    assert trap != "rounding" or by[name].told.endswith("without derivative: round")
    assert name != "saturating activation" or (by[name].measured or 0) > 0.5


class Bright(nn.Module):
    """Two linear classes of how far the mean is above one half; below, every image is the same."""

    def forward(self, x: Tensor) -> Tensor:
        high = (x.mean((1, 2, 3)) - 0.5).relu()
        return torch.stack([1 - high, high - 0.001], 1)


def test_shares_are_those_counted_by_hand() -> None:
    x = torch.cat([torch.full((3, 1, 6, 5), 0.2), torch.full((5, 1, 6, 5), 0.8)])
    found = named(self_checks(network(Bright().eval(), (6, 5), channels=1), x, [0] * 8, eps=0.3))
    assert found["zero gradients"].measured == 3 / 8
    assert "3 have no gradient of the cross-entropy, 3 none of the margin" in found["zero gradients"].told
    # No unit is on there: that is not rounding.
    assert found["rounding layer"].ok is True
    assert found["few classes"].measured == 2
    assert "dlr needs 3" in found["few classes"].told
    # All are right: z_1 - z_0 = 2 h - 1.001 of the bright ones, with a mean h of 0.3 now and 0.5 at most. Stepping up
    # brings 0.4 to five in eight.
    assert found["loss rises with steps"].measured == pytest.approx(5 / 8 * 0.4, rel=1e-5)
    assert found["large eps"].measured == 1


def test_gradients_that_underflow_or_are_not_finite_have_vanished() -> None:
    gradient = torch.ones(5, 1, 2, 3)
    gradient[0], gradient[1], gradient[2, 0, 1, 2], gradient[3, 0, 0, 0] = 0, 1e-40, math.inf, math.nan
    assert vanished(gradient).tolist() == [True, True, True, True, False]


def test_attacks_that_cannot_go_on_say_why() -> None:
    """The slope of a root is infinite at 0."""
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    x = images(4, 1, 6, 8)
    x[:, :, 0] = 0
    net = network(Wrapped(flat, torch.sqrt).eval(), (6, 8), channels=1)
    found = named(self_checks(net, x, net(x).argmax(1), eps=0.1))
    assert found["zero gradients"].measured == 1
    assert found["loss rises with steps"].ok is None
    assert "not told: " in found["loss rises with steps"].told
    assert "finite" in found["loss rises with steps"].told
    assert "targeted dlr needs 4" in found["few classes"].told


@pytest.mark.parametrize(
    ("behind", "ok", "measured", "told"),
    [
        (lambda z: z.softmax(1), False, 1, "are probabilities"),
        (lambda z: z.sigmoid(), False, 0, "ends in a sigmoid"),
        (lambda z: z.log_softmax(1), True, 0, "logarithms of probabilities"),
    ],
)
def test_probabilities_are_no_logits(
    trained: nn.Module, data: tuple[Tensor, Tensor], behind: Any, ok: bool, measured: float, told: str
) -> None:
    by = checks_outputs.softmax_outputs(examined(of(Wrapped(trained, behind=behind)), data))
    assert (by.ok, by.measured) == (ok, measured)
    assert told in by.told
    assert ("harmless" in by.meaning) == ok


def batch_norm(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True) * 0.3 + 0.3


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize(
    ("before", "same", "training"),
    [
        (lambda x: x + 0.1 * torch.randn_like(x), False, None),
        (lambda x: F.dropout(x, 0.3, training=True), False, False),
        (batch_norm, True, False),
    ],
    ids=["noise", "dropout", "batch norm"],
)
def test_chance_and_neighbors_are_told_apart(
    trained: nn.Module, data: tuple[Tensor, Tensor], before: Any, same: bool, training: bool | None, graph: bool
) -> None:
    """Without a graph dropout cannot be told from other randomness."""
    wrapped = Wrapped(trained, before)
    net = of(wrapped if graph else Branching(wrapped))
    looked = examined(net, data)
    again, mode = checks_outputs.randomness(looked), checks_outputs.train_mode(looked)
    assert again.ok is same
    assert mode.ok is (training if graph or same else None)
    assert ((again.measured or 0) > 0.1) == (not same)


def test_a_random_network_s_findings_follow_from_the_seed(trained: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    module = Wrapped(trained, lambda x: x + 0.1 * torch.randn_like(x))
    net = of(module)
    with untouched(module):
        first, second = (self_checks(net, *data, eps=0.1, seed=3) for _ in range(2))
    assert first == second
    assert "randomness" in doubted(first)


@pytest.mark.parametrize(
    ("scale", "shift", "option"), [(0.5, 0.5, "--mean 0.5 --std 0.5"), (1 / 255, 0, "--mean 0 --std 0.003922")]
)
def test_a_missing_mean_and_std_are_named(
    trained: nn.Module, data: tuple[Tensor, Tensor], scale: float, shift: float, option: str
) -> None:
    """The network undoes a normalization that it is not given."""
    module = Wrapped(trained, lambda x: x * scale + shift)
    by = checks_outputs.normalization(examined(of(module), data))
    assert by.ok is False
    assert (by.measured or 0) < 0.8
    assert f"with {option} 15" in by.told
    # Given them, it is the trained network again: 15 of 16 are right.
    given = checks_outputs.normalization(examined(of(module, mean=[shift], std=[scale]), data))
    assert (given.ok, given.measured) == (True, 15 / 16)


def test_images_that_are_nearly_black_are_doubted(net: Network, data: tuple[Tensor, Tensor]) -> None:
    by = checks_outputs.range_of_input(examined(net, (data[0] / 255, data[1])))
    assert by.ok is False
    assert by.measured == pytest.approx(1 / 255)
    wrong = named(self_checks(net, data[0], (data[1] + 1) % 10, eps=0.1))
    assert wrong["normalization"].ok is False
    assert wrong["large eps"].told == "not told: no image is answered rightly"
    assert wrong["black box"].ok is None


class Purified(nn.Module):
    """Takes a step of its own on the image first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.inner(leaf).logsumexp(1).sum(), leaf)
        return self.inner(x - 0.01 * slope.sign())


def test_networks_that_optimize_while_they_answer_are_doubted(trained: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    grad = torch.autograd.grad
    by = checks_outputs.optimization_at_inference(examined(of(Purified(trained)), data))
    assert (by.ok, by.measured) == (False, 1)
    assert torch.autograd.grad is grad


def test_what_transfers_although_gradients_fail_is_a_sign_of_masking(
    trained: nn.Module, net: Network, data: tuple[Tensor, Tensor]
) -> None:
    clear, masked = net, of(Wrapped(trained, behind=lambda z: z * 1e4))
    by = checks_attacks.transfer_attack(Attacks(examined(masked, data, 0.15)), clear)
    own = inward.pgd(clear, data[0], label=data[1], eps=0.15, steps=20, random_start=False, stop=False, eight_bit=False)
    right = clear(data[0]).argmax(1) == data[1]
    assert by.ok is False
    # The answers of both are the same, and the white-box attack does not move.
    assert by.measured == int((own.success & right).sum()) > 4
    back = named(self_checks(clear, *data, eps=0.15, transfer=masked))["transfer"]
    assert (back.ok, back.measured) == (True, 0)
    assert json.loads(json.dumps(report([by])))[0]["measured"] == by.measured


def test_an_evaluation_is_checked_all_over_its_data(net: Network, data: tuple[Tensor, Tensor], tmp_path: Path) -> None:
    x, y = (torch.cat([one[:2]] * 64 + [one[:1]] * 72) for one in data)
    rows = [Judged(str(i), int(y[i]), int(y[i])) for i in range(len(y))]
    fell = {0: (0.0, ""), 1: (0.05, "square"), 2: (0.1, "square"), 3: (0.1, "apgd-ce"), 4: (0.2, "square")}
    rows = [replace(row, fell=fell[i][0], by=fell[i][1]) if i in fell else row for i, row in enumerate(rows)]
    (tmp_path / "report.json").write_text('{"images": 200}')
    evaluated = Robustness((0.05, 0.1, 0.2), tuple(rows), "linf")
    seen: list[Sequence[int]] = []

    class Some(InMemory):
        def images(self, numbers: Sequence[int]) -> Tensor:
            seen.append(list(numbers))
            return super().images(numbers)

    some = Some(x, tuple(y.tolist()), 1)
    found = checked(net, some, evaluated, eps=0.1, folder=tmp_path)
    assert seen == [[i * 200 // 64 for i in range(64)]]
    # 200 images, the first of them wrong; of those that withstood the others, two of 198 fell to squares by 0.1.
    by = named(found)["black box"]
    assert (by.ok, by.measured) == (True, 2)
    assert "of 198 images" in by.told
    told = json.loads((tmp_path / "report.json").read_text())
    assert told == {"images": 200, "self_checks": report(found)}


def test_no_more_images_are_looked_at_than_said(net: Network, data: tuple[Tensor, Tensor]) -> None:
    many, labels = (torch.cat([one] * 6) for one in data)
    by = named(self_checks(net, many, labels, eps=0.1))
    assert "of 64 images" in by["zero gradients"].told
    assert "of 32 images" in by["large eps"].told


def test_lines_say_what_to_do_where_it_is_doubtful() -> None:
    found = [
        Finding("a", True, 0.0, "none", "fine"),
        Finding("b", False, 1.0, "all", "do"),
        Finding("c", None, None, "x", "y"),
    ]
    assert lines(found) == ["ok    a: none", "DOUBT b: all. do", "?     c: x"]
    assert report(found)[2] == {"name": "c", "ok": None, "measured": None, "told": "x", "meaning": "y"}


def test_senseless_calls_are_refused(net: Network, data: tuple[Tensor, Tensor]) -> None:
    x, y = data
    for given, options, reason in (
        ((x, y[:3]), {}, "3 labels for 16 images"),
        ((x, y + 5), {}, "a label is class:NAME or a number in 0 to 9"),
        ((x * 255, y), {}, "images must be in"),
        ((x, y), {"eps": 0.0}, "eps must be above 0"),
        ((x, y), {"norm": "l7"}, "no norm 'l7'"),
        ((x, y), {"transfer": network(conv_net(1), (8, 8))}, r"transfer gives \(1, 5\) .* the same classes"),
    ):
        with pytest.raises(CallError, match=reason):
            self_checks(net, *given, **options)


def test_looks_in_batches_are_one_look(trained: nn.Module, data: tuple[Tensor, Tensor]) -> None:
    net = of(trained).to(dtype=torch.float64)
    x, labels = data[0].double(), data[1].tolist()
    small = examined(net.within(1), (x, data[1]))
    whole, parts = look(net, x, CrossEntropy(tuple(labels))), small.look(CrossEntropy(tuple(labels)))
    assert len(list(small.batches(small.everyone))) == COUNT
    for one, other in zip(whole, parts, strict=True):
        # Sums of a batch of another size may be in another order.
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
