"""Edits: rewrites that are exact or are not made, and gradients that wake dead units."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import networks
from inward.network import Network
from inward.network import edit as edits
from same import images, seeded

SIZE = (9, 7)


def spelled(pads: tuple[int, int], stride: int = 1, padding: int = 0, counted: bool = True) -> Callable:
    """Local response normalization over four channels, in PyTorch's own spelling but for its arguments."""

    def normalize(h: Tensor) -> Tensor:
        square = F.pad(h.mul(h).view(h.shape[0], 1, *h.shape[1:]), (0, 0, 0, 0, *pads))
        mean = F.avg_pool3d(square, (5, 1, 1), (stride, 1, 1), (padding, 0, 0), count_include_pad=counted)
        return h / mean.squeeze(1).view(h.shape).mul(0.5).add(1.5).pow(0.75)

    return normalize


def over_rows(h: Tensor) -> Tensor:
    square = h.mul(h).transpose(1, 2).contiguous()
    mean = F.avg_pool3d(F.pad(square.unsqueeze(1), (0, 0, 0, 0, 2, 2)), (5, 1, 1), stride=1).squeeze(1)
    return h / mean.transpose(1, 2).mul(0.5).add(1.5).pow(0.75)


class Spelled(networks.Small):
    def __init__(self, middle: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = middle

    def middle(self, h: Tensor) -> Tensor:
        return self.function(h * 5)


@pytest.mark.parametrize(
    ("middle", "rewritten"),
    [
        (spelled((2, 2)), 1),
        (spelled((4, 0)), 0),
        (spelled((0, 4)), 0),
        (spelled((1, 1), padding=1), 0),
        (spelled((1, 1), padding=1, counted=False), 0),
        (over_rows, 0),
    ],
    ids=["own", "causal", "anticausal", "padded", "uncounted", "rows"],
)
def test_only_local_response_normalization_is_rewritten(middle: Callable, rewritten: int) -> None:
    module = seeded(lambda: Spelled(middle))
    net = Network.of(module, size=SIZE)
    x = images(3, 3, *SIZE)
    assert net.graph(SIZE).count("local_response_norm") == rewritten
    expected = module(x)
    assert (net(x) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_a_rewrite_that_is_wrong_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from inward.network import source

    def wrong(module: torch.fx.GraphModule) -> None:
        edits.rewrite_local_response_norm(module)
        for node in module.graph.nodes:
            if node.target is edits.local_response_norm:
                node.args = (node.args[0], node.args[1], 0.9, *node.args[3:])

    monkeypatch.setattr(source, "rewrite_local_response_norm", wrong)
    module = seeded(networks.Normalized)
    net = Network.of(module, size=SIZE)
    x = images(2, 5, *SIZE)
    assert net.graph(SIZE).count("local_response_norm") == 0
    assert torch.equal(net(x), module(x))


class Gated(nn.Module):
    """A unit for which dark pictures lie below the lower edge, and a bright one above it."""

    def __init__(self, function: Callable[[Tensor], Tensor], in_place: bool = False) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(1, 2, 3)
        self.conv.weight.data.fill_(1.0)
        self.conv.weight.data[1] *= -1
        self.conv.bias.data.copy_(torch.tensor([-4.0, 4.5]))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x)).mean((2, 3))


KIN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_": lambda x: F.relu_(x + 0),
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 6.0),
    "hardtanh_names": lambda x: F.hardtanh(x, min_val=0.0, max_val=2.0),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_both": lambda x: x.clamp(0, 3),
    "clamp_tensor": lambda x: x.clamp(min=torch.tensor(0.0)),
    "clamp_min": lambda x: x.clamp_min(0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum_other": lambda x: torch.maximum(torch.tensor(0.0), x),
    "hardswish": F.hardswish,
    "threshold": lambda x: F.threshold(x, 0, 0),
}


def gradient(net: Network, x: Tensor, unit: int = 0, sign: float = 1.0) -> Tensor:
    x = x.detach().requires_grad_(True)
    return torch.autograd.grad(sign * net(x)[:, unit].sum(), x)[0]


def pictures(*values: float) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 1, 5, 5).clone()


@pytest.mark.parametrize("name", KIN)
def test_a_dead_unit_gets_the_gradient_that_asks_it_to_rise(name: str) -> None:
    net = Network.of(Gated(KIN[name]).eval(), size=5, channels=1)
    assert edits.redirectable(net.graph((5, 5)))
    redirected = net.edit(edits.redirect_relus)
    x = torch.cat([pictures(0.0, 0.1, 0.25, 0.6), images(6, 1, 5, 5)])
    assert torch.equal(redirected(x), net(x))
    plain, helped = gradient(net, x), gradient(redirected, x)
    # Bright pictures, whose unit is on, keep their gradient, beside dead ones too.
    on = (net(x)[:, 0] > 0).nonzero().flatten()
    assert len(on) > 2
    assert torch.equal(helped[on], plain[on])
    assert helped[:2].min() >= 0
    assert (helped[:2].flatten(1).sum(1) > 0).all()
    if name != "hardswish":
        assert not plain[:2].any()
    # A unit that is asked to fall stays where it is.
    assert torch.equal(gradient(redirected, x[:1], sign=-1), gradient(net, x[:1], sign=-1))


@pytest.mark.parametrize("name", KIN)
def test_a_dead_unit_wakes_by_ascent(name: str) -> None:
    net = Network.of(Gated(KIN[name]).eval(), size=5, channels=1)
    redirected = net.edit(edits.redirect_relus)
    x = pictures(0.0)
    for _ in range(16):
        x = (x + 0.05 * gradient(redirected, x).sign()).clamp(0, 1)
    assert net(x)[0, 0] > 1


@pytest.mark.parametrize("name", ["relu6", "clamp_both", "hardtanh_names"])
def test_nothing_is_let_through_above_the_upper_edge(name: str) -> None:
    class Steep(Gated):
        def forward(self, x: Tensor) -> Tensor:
            return self.function(self.conv(x) * 100).mean((2, 3))

    net = Network.of(Steep(KIN[name]).eval(), size=5, channels=1)
    redirected = net.edit(edits.redirect_relus)
    assert not gradient(redirected, pictures(0.9)).any()


def test_others_are_left_alone() -> None:
    functions = [
        F.gelu,
        F.leaky_relu,
        lambda x: x.clamp(min=-1),
        lambda x: F.hardtanh(x, -1, 1),
        lambda x: torch.maximum(x, x * 0.1),
        lambda x: F.threshold(x, 0.5, 0),
        lambda x: x.clamp(max=0),
    ]
    for function in functions:
        net = Network.of(Gated(function).eval(), size=5, channels=1)
        assert not edits.redirectable(net.graph((5, 5)))
        assert torch.equal(gradient(net.edit(edits.redirect_relus), pictures(0.2)), gradient(net, pictures(0.2)))


def test_a_network_without_a_graph_has_nothing_to_redirect() -> None:
    net = Network.of(seeded(networks.DataBranch), size=SIZE)
    with pytest.warns(match="only its modules"):
        assert not edits.redirectable(net.graph(SIZE))
