"""Layer-wise relevance propagation: a replica by hand, conservation, Captum, Zennit."""

from __future__ import annotations

import copy
import inspect
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.directions import Direction
from inward.columns.objectives import Objective
from inward.methods.lrp import lrp
from inward.network.load import import_torchvision
from propagated import MEAN, RULES, SIZE, STD, WIDE, branches, everything, gap, lively, shown, step, tiny, wide
from same import images, seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return everything()


def by_hand(m: Any, x: Tensor, rule: str, target: int) -> Tensor:
    first, conv, full = {"composite": ("box", "gamma", "epsilon")}.get(rule, (rule,) * 3)
    stem, body, head = (
        nn.Sequential(m.conv, m.norm),
        nn.Sequential(m.second, m.second_norm),
        lambda h: m.fc_norm(m.fc(h)),
    )
    a = stem(x).relu()
    h, winners = F.max_pool2d(a, 2, return_indices=True)
    left, right = body(h), m.side(h)
    total = left + right
    both = torch.cat([total.relu(), total.relu().flip(1)], 1)
    mean = both.mean((2, 3))
    hidden = head(mean).relu()
    out = m.last(hidden)
    r = torch.zeros_like(out)
    r[:, target] = out[:, target]
    r = step(full, head, mean, step(full, m.last, hidden, r))
    r = step("epsilon", lambda v: v.mean((2, 3)), both, r)
    r = r[:, :6] + r[:, 6:].flip(1)
    quotient = r / (total + 1e-6 * torch.where(total < 0, -1.0, 1.0))
    r = step(conv, body, h, left * quotient) + step(conv, m.side, h, right * quotient)
    unpooled = torch.zeros_like(a).flatten(2).scatter_(2, winners.flatten(2), r.flatten(2))
    return step(first, stem, x, unpooled.view_as(a))


@pytest.mark.parametrize("rule", RULES)
def test_is_the_replica_by_hand(net: Network, rule: str) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    with torch.no_grad():
        expected = by_hand(branches(), shown(x), rule, 3)
    found = lrp(net, x, target="class:3", rule=rule)  # type: ignore[arg-type]
    # Epsilon divides by sums as small as 1e-4, which makes rounding so much larger.
    assert gap(found.values, expected) <= 1e-10
    assert torch.equal(found.scores, net(x)[:, 3])
    error = (expected.sum((1, 2, 3)) - found.scores).abs() / found.scores.abs()
    assert (found.measured["error"] - error).abs().max() <= 1e-9
    assert found.kind == "contribution"


def test_the_score_is_kept_where_there_is_no_bias() -> None:
    net = wide(branches(bias=False, shift=0.0), mean=MEAN, std=STD)
    for rule, target in itertools.product(RULES, ("class:3", "relu:2/4", "class:1 - class:2")):
        found = lrp(net, images(3, 3, *SIZE, dtype=WIDE), target=target, rule=rule)  # type: ignore[arg-type]
        assert found.scores.abs().max() > 1e-3
        # What the stabilizers of 1e-6 take beside sums of about 0.1.
        assert found.measured["error"].max() <= 2e-3
        assert found.values.flatten(1).sum(1) == pytest.approx(found.scores.tolist(), rel=2e-2)
        assert found[0].notes() == ()


@pytest.mark.parametrize(("target", "told"), [("class:2", True), ("norm/1", False), ("conv/1", False)])
def test_biases_keep_a_share_and_it_is_said(net: Network, target: str, told: bool) -> None:
    found = lrp(net, images(3, 3, *SIZE, dtype=WIDE), target=target, rule="epsilon")
    total, error = found.values.flatten(1).sum(1), found.measured["error"]
    assert ((error > 0.05) == told).all()
    assert (error < 1).all()
    for i in range(3):
        said = (
            f"the map adds up to {total[i]:.4g}, the score is {found.scores[i]:.4g}: biases and epsilon keep the rest"
        )
        assert found[i].notes() == ((said,) if told else ())


def test_the_error_is_relative_to_what_relevance_began_with(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    found = lrp(net, x, target="side/0", rule="epsilon")
    # The score is a mean of both signs; beside that alone, the error would have no bounds.
    begun = net.trace(x, "side/0")["side/0"].abs().mean((1, 2))
    assert (begun > 1.5 * found.scores.abs()).any()
    error = (found.values.sum((1, 2, 3)) - found.scores).abs() / begun
    assert error.max() > 1e-3
    assert found.measured["error"].tolist() == pytest.approx(error.tolist())


class Sequence(nn.Module):
    """What Captum can do: each module called once, and no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.second_relu = nn.ReLU()
        self.mean = nn.AdaptiveAvgPool2d((2, 1))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.second_relu(self.second(self.relu(self.conv(x))))
        return self.fc(self.mean(h).flatten(1))


def test_agrees_with_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    from captum.attr._utils.lrp_rules import EpsilonRule

    module = seeded(Sequence).to(WIDE)
    theirs = copy.deepcopy(module)
    for name in ("conv", "second", "mean", "fc"):
        getattr(theirs, name).rule = EpsilonRule(1e-6)
    x = images(3, 3, *SIZE, dtype=WIDE)
    expected = captum.LRP(theirs).attribute(shown(x).requires_grad_(True), target=3).detach()
    found = lrp(wide(module, mean=MEAN, std=STD), x, target="class:3", rule="epsilon")
    assert gap(found.values, expected) <= 1e-9


def of_zennit(module: nn.Module, rule: str, canonizer: str, x: Tensor, target: int) -> Tensor:
    """EpsilonGammaBox(low, high, epsilon=1e-6, gamma=0.25, stabilizer=1e-6), or one rule for all layers.

    Its canonizers merge a batch norm into the convolution and leave a division by sqrt(1 + eps) in its
    place, 5e-6, which the quotients of epsilon enlarge to percents: that eps is set to 0 here.
    """
    import_torchvision()
    composites = pytest.importorskip("zennit.composites")
    from zennit import canonizers, rules, torchvision
    from zennit.attribution import Gradient

    module = copy.deepcopy(module)
    made = [getattr(canonizers, canonizer, None) or getattr(torchvision, canonizer)]
    options: dict[str, Any] = {"canonizers": [each() for each in made]}
    if rule == "composite":
        low, high = (shown(torch.full_like(x[:1, :, :1, :1], v)) for v in (0.0, 1.0))
        composite = composites.EpsilonGammaBox(low=low, high=high, **options)
    else:
        one = {"epsilon": rules.Epsilon(1e-6), "gamma": rules.Gamma(0.25), "z-plus": rules.ZPlus()}[rule]
        layers = [(composites.Convolution, one), (nn.Linear, one)]
        composite = composites.LayerMapComposite(composites.layer_map_base(1e-6) + layers, **options)
    out = module(shown(x)).detach()
    with Gradient(model=module, composite=composite) as attributor:
        for norm in module.modules():
            if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
                norm.eps = 0.0
        return attributor(shown(x), out * F.one_hot(torch.tensor(target), out.shape[1]))[1].detach()


class Plain(nn.Module):
    """What Zennit can do without a canonizer of one's own: modules in the order of their calls, no sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.second, self.second_norm, self.leaky = nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.3)
        self.transposed, self.gelu = nn.ConvTranspose2d(8, 4, 2), nn.GELU()
        self.mean, self.fc = nn.AvgPool2d(3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.relu(self.norm(self.conv(x))))
        h = self.gelu(self.transposed(self.leaky(self.second_norm(self.second(h)))))
        return self.fc(self.mean(h).flatten(1))


def test_agrees_with_zennit() -> None:
    module = lively(seeded(Plain)).to(WIDE)
    x, net = images(3, 3, *SIZE, dtype=WIDE), wide(module, mean=MEAN, std=STD)
    for rule in RULES:
        expected = of_zennit(module, rule, "SequentialMergeBatchNorm", x, 3)
        assert gap(lrp(net, x, target="class:3", rule=rule).values, expected) <= 1e-9  # type: ignore[arg-type]


def test_agrees_with_zennit_on_resnet_18() -> None:
    module = lively(seeded(lambda: import_torchvision().models.resnet18(weights=None))).to(WIDE)
    x = images(2, 3, 64, 48, dtype=WIDE)
    net = wide(module, (64, 48), mean=MEAN, std=STD)
    for rule in ("epsilon", "composite"):
        expected = of_zennit(module, rule, "ResNetCanonizer", x, 7)
        # Measured: 5e-15, and 3e-12 for epsilon.
        assert gap(lrp(net, x, target="class:7", rule=rule).values, expected) <= 1e-9  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"rule": "alpha"}, "no rule 'alpha'; write epsilon, gamma"),
        ({"epsilon": 0.0}, "give a number above 0"),
        ({"epsilon": float("nan")}, "give a number above 0"),
        ({"gamma": -0.1}, "gamma is a number from 0 up"),
        ({"gamma": float("inf")}, "gamma is a number from 0 up"),
        ({"target": "class:5"}, "5 classes, 0 to 4"),
        ({"at": "conv/1"}, "give at='conv'"),
        ({"target": "conv/1", "at": "fc"}, "there is no path from it"),
    ],
    ids=str,
)
def test_senseless_options_are_refused(net: Network, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        lrp(net, images(2, 3, *SIZE, dtype=WIDE), **options)


def test_an_objective_of_no_point_is_refused(net: Network) -> None:
    class Brightness(Objective):
        addresses = ()

        def __call__(self, trace: Any) -> Tensor:
            return trace.images.mean((1, 2, 3))

    with pytest.raises(CallError, match="begins at points"):
        lrp(net, images(2, 3, *SIZE, dtype=WIDE), target=Brightness())


def test_relevance_inside_is_what_the_pixels_share(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    for target in ("class:3", "relu:2/4", "fc/2"):
        found = lrp(net, x, target=target, at="pool", rule="z-plus")
        assert found.at == "pool"
        assert found.values.shape == (3, 6, 4, 3)
    module: Any = branches()
    with torch.no_grad():
        h = module.pool(module.norm(module.conv(shown(x))).relu())
        z = module.side(h)
        r = torch.zeros_like(z)
        r[:, 2] = z[:, 2] / 12
        expected = step("z-plus", module.side, h, r)
    assert gap(lrp(net, x, target="side/2", at="pool", rule="z-plus").values, expected) <= 1e-11


def test_is_the_same_alone_and_in_chunks(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    targets = ["class:3", "class:0", "class:4"]
    together = lrp(net, x, target=targets)
    chunked = lrp(net.within(1), x, target=targets)
    # Convolutions of other batches may add in another order.
    assert gap(chunked.values, together.values) <= 1e-11
    for i in range(3):
        alone = lrp(net, x[i : i + 1], target=targets[i])
        assert gap(alone.values, together.values[i : i + 1]) <= 1e-11
        assert alone.measured["error"].item() == pytest.approx(together.measured["error"][i].item(), rel=1e-6)


def test_the_network_and_the_call_around_it_change_nothing() -> None:
    module = conv_net()
    net = network(module, SIZE)
    x = images(3, 3, *SIZE)
    with untouched(module):
        with torch.inference_mode():
            expected = lrp(net, x.clone(), target="class:3").values
        assert torch.equal(lrp(net, x, target="class:3").values, expected)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            assert torch.equal(lrp(net, x, target="class:3").values, expected)
        with pytest.raises(CallError):
            lrp(net, x, target="class:3", rule="none")  # type: ignore[arg-type]
    assert torch.equal(net(x), module(x))


def test_float32_agrees_with_float64() -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    for rule in RULES:
        narrow = lrp(tiny(torch.float32), x.float(), target="class:3", rule=rule).values  # type: ignore[arg-type]
        assert narrow.dtype == torch.float32
        # Denominators as small as 1e-3 enlarge the rounding of float32, 1e-7.
        assert gap(narrow, lrp(tiny(), x, target="class:3", rule=rule).values) <= 1e-3  # type: ignore[arg-type]
    assert lrp(tiny(torch.float32), x, target="class:3").values.dtype == WIDE


def test_a_dead_network_has_a_map_of_zeros() -> None:
    net, x = network(seeded(Dead), SIZE), images(2, 3, *SIZE)
    for rule in RULES:
        assert lrp(net, x, target="conv/1", rule=rule).values.isfinite().all()  # type: ignore[arg-type]
        dead = lrp(net, x, target="relu/1", rule=rule)  # type: ignore[arg-type]
        assert not dead.values.any()
        assert "error" not in dead[0].measures()
        assert dead[0].notes() == ("the map is exactly 0: relu/1 is dead on this image",)


def test_takes_any_number_of_channels() -> None:
    x, net = images(2, 2, *SIZE), network(conv_net(2), SIZE)
    found = lrp(net, x, target="class:1")
    assert found.values.shape == x.shape
    assert found.values.any()


def test_a_direction_begins_with_its_terms(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=WIDE)
    vector = torch.tensor([0.5, 0.0, -2.0, 0.0, 1.0], dtype=WIDE)
    found = lrp(net, x, target=Direction("class", vector), rule="gamma").values  # type: ignore[call-arg]
    parts = [weight * lrp(net, x, target=f"class:{k}", rule="gamma").values for k, weight in enumerate(vector)]
    assert gap(found, torch.stack(parts).sum(0)) <= 1e-11


def test_its_parameters_are_recorded(net: Network) -> None:
    found = lrp(net, images(2, 3, *SIZE, dtype=WIDE), target="class:3", rule="gamma", epsilon=0.01, gamma=0.5)
    assert set(found.record.parameters) == set(inspect.signature(lrp).parameters) - {"net", "images"}
    told = {"rule": "gamma", "epsilon": 0.01, "gamma": 0.5, "at": None}
    assert {k: found.record.parameters[k] for k in told} == told
    assert found.record.method == "lrp"


def test_options_change_the_map(net: Network) -> None:
    x = images(2, 3, *SIZE, dtype=WIDE)

    def values(**options: Any) -> Tensor:
        return lrp(net, x, target="class:3", **options).values

    assert gap(values(rule="epsilon", epsilon=0.1), values(rule="epsilon")) > 0.01
    assert gap(values(rule="gamma", gamma=1.0), values(rule="gamma")) > 0.01
    assert gap(values(rule="gamma", gamma=0.0), values(rule="epsilon")) <= 1e-10
    assert gap(values(epsilon=0.1), values()) > 0.01
