"""Which axis is what: no unit and no place is offered that is not one, whatever a network does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inward.errors import InwardWarning
from inward.network import Network
from inward.network.layout import of_module
from same import images, seeded

SIZE = (4, 6)
CHANNELS, TOKENS = 8, 24
Body = Callable[[Tensor], Any]


class Around(nn.Module):
    """A convolution to 8 maps of 4 x 6, then the operations under test; modules are attributes."""

    def __init__(self, body: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, 3, padding=1)
        for name, module in modules.items():
            setattr(self, name, module)
        self.body = functools.partial(body, self) if modules else body

    def forward(self, x: Tensor) -> Any:
        return self.body(self.conv(x))


def network(body: Callable[..., Any], size: tuple[int, int] = SIZE, **modules: nn.Module) -> Network:
    net = Network.of(seeded(lambda: Around(body, **modules)), size=size)
    assert net.is_graph
    return net


def tokens(y: Tensor) -> Tensor:
    return y.flatten(2).transpose(1, 2)


def with_class(y: Tensor, after: int = 1) -> Tensor:
    """Tokens behind a class token and before ``after`` registers."""
    t = tokens(y)
    return torch.cat([t.mean(1, keepdim=True), t, t[:, :after] * 2], 1)


def check(net: Network, point: str, axes: str, grid: tuple[int, int] | None = None, prefix: int = 0) -> None:
    """The axes of a point; and that what it offers can be read."""
    found = net.points[point]
    assert found.shape is not None
    layout = found.layout
    assert "".join(layout.axes) == axes
    assert (layout.grid_size(found.shape), layout.prefix) == (grid, prefix)
    if not layout.has_units:
        assert found.units is None
        return
    trace = net.trace(images(2, 3, *net.size), point)
    features = trace.features(point)
    assert features.shape[:2] == (2, found.units)
    assert not layout.has_grid or features.shape[2:] == grid


# What is done with the map (N, 8, 4, 6), the point, its axes.
AXES: dict[str, tuple[Body, str, str]] = {
    "mean of channels": (lambda y: y.mean(1), "mean", "nyx"),
    "one channel": (lambda y: y[:, 0] * 1, "select", "nyx"),
    "max of channels": (lambda y: y.max(1).values, "max.0", "nyx"),
    "where the max is": (lambda y: y.argmax(1) * 1.0, "argmax", "nyx"),
    "maxout of neighbors": (lambda y: y.unflatten(1, (-1, 2)).amax(2), "amax", "ncyx"),
    "maxout of halves": (lambda y: y.unflatten(1, (2, -1)).max(1).values, "max.0", "ncyx"),
    "mean of every two channels": (lambda y: y.unflatten(1, (-1, 2)).mean(2), "mean", "n?yx"),
    "deviation of channels": (lambda y: y.std(1), "std", "nyx"),
    "norm of channels": (lambda y: y.norm(dim=1), "linalg_vector_norm", "nyx"),
    "channel mean kept": (lambda y: y.mean(1, keepdim=True), "mean", "ncyx"),
    "logsumexp of channels": (lambda y: y.logsumexp(1), "logsumexp", "nyx"),
    "one row": (lambda y: y[:, :, 1] * 1, "select", "ncx"),
    "mean of rows": (lambda y: y.mean(2), "mean", "ncx"),
    "stack": (lambda y: torch.stack([y.mean((2, 3)), y.amax((2, 3))], 2), "stack", "nc?"),
    "stack of maps": (lambda y: torch.stack([y, y * 2], 2), "stack", "nc?yx"),
    "norm of tokens": (lambda y: tokens(y).norm(dim=2), "linalg_vector_norm", "nt"),
    "unbind": (lambda y: list(y.unbind(2)), "unbind.0", "ncx"),
    "second of unbind": (lambda y: list(y.unbind(2)), "unbind.1", "ncx"),
    "fourth of unbind": (lambda y: list(y.unbind(2)), "unbind.3", "ncx"),
    "channels of unbind": (lambda y: list(y.unbind(1)), "unbind.2", "nyx"),
    "scores": (lambda y: tokens(y) @ y.flatten(2), "matmul", "n??"),
    "scores softmaxed": (lambda y: (tokens(y) @ y.flatten(2)).softmax(-1) * 1, "softmax", "n??"),
    "scores by einsum": (lambda y: torch.einsum("nchw,ncvu->nhv", y, y), "einsum", "n??"),
    "Gram matrix": (lambda y: y.flatten(2) @ tokens(y), "matmul", "n??"),
    "distances": (lambda y: torch.cdist(tokens(y), tokens(y)), "cdist", "n??"),
    "values mixed": (lambda y: (tokens(y) @ y.flatten(2)).softmax(-1) @ tokens(y), "matmul:2", "ntc"),
    "values first": (lambda y: y.flatten(2) @ (tokens(y) @ y.flatten(2)), "matmul:2", "nct"),
    "best channels": (lambda y: y.topk(3, 1).values, "topk.0", "n?yx"),
    "sorted channels": (lambda y: y.sort(1).values, "sort.0", "n?yx"),
    "channels gathered": (lambda y: y.gather(1, y.argsort(1)), "gather", "n?yx"),
    "channels chosen": (lambda y: y[:, [3, 1]], "index", "ncyx"),
    "halves": (lambda y: list(y.split([3, 5], 1)), "split_with_sizes.1", "ncyx"),
    "groups": (lambda y: y.unflatten(1, (2, 4)) * 1, "view", "n??yx"),
    "shuffled groups": (lambda y: y.unflatten(1, (2, 4)).transpose(1, 2).flatten(1, 2) * 1, "mul", "ncyx"),
    "one head": (lambda y: tokens(y).unflatten(2, (2, 4))[:, :, 0] * 1, "mul", "ntc"),
    "flat": (lambda y: y.flatten(1) * 1, "view", "nc"),
    "batch reversed": (lambda y: y.flip(0), "flip", "?cyx"),
    "rolled map": (lambda y: y.roll((1, 1), (2, 3)), "roll", "ncyx"),
    "grayscale statistics": (lambda y: torch.cat([y.mean(1, True), y.amax(1, True)], 1), "cat", "ncyx"),
    "space to depth": (lambda y: y.view(-1, 8, 2, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).flatten(1, 3), "view:2", "ncyx"),
    "inner pixels": (lambda y: y.view(-1, 8, 2, 2, 3, 2).mean((2, 4)), "mean", "nc??"),
}
GRIDS = {"nyx": SIZE, "ncyx": SIZE, "ntc": SIZE, "nct": SIZE}


@pytest.mark.parametrize("name", AXES)
def test_axes(name: str) -> None:
    body, point, axes = AXES[name]
    grid = (2, 3) if name == "space to depth" else GRIDS.get(axes)
    check(network(body), point, axes, grid)


def test_as_many_tokens_as_features() -> None:
    """Sizes cannot tell scores from tokens here, so only what was computed may."""
    net = network(lambda y: (tokens(y) @ y.flatten(2)).softmax(-1) @ tokens(y), (2, 4))
    check(net, "matmul", "n??")
    check(net, "softmax", "n??")
    check(net, "matmul:2", "ntc", (2, 4))
    check(network(lambda y: y.sort(1).values + y, (2, 4)), "add", "ncyx", (2, 4))


def test_attention_module() -> None:
    """Its second output holds the weights of the key tokens."""
    att = nn.MultiheadAttention(CHANNELS, 2, batch_first=True)
    net = network(lambda m, y: m.att(tokens(y), tokens(y), tokens(y)), att=att)
    check(net, "att.0", "ntc", SIZE)
    check(net, "att.1", "n??")


def test_matrix_of_a_spatial_transformer() -> None:
    def body(m: Any, y: Tensor) -> Tensor:
        theta = m.fc(y.mean((2, 3))).view(-1, 2, 3)
        return F.grid_sample(y, F.affine_grid(theta, [y.shape[0], 8, 4, 6], align_corners=False), align_corners=False)

    net = network(body, fc=nn.Linear(CHANNELS, 6))
    check(net, "fc", "nc")
    check(net, "view", "n??")
    check(net, "grid_sampler", "ncyx", SIZE)


# What is done with tokens behind a class token and before one register, the point, axes, grid, prefix.
TOKEN: dict[str, tuple[Body, str, str, tuple[int, int] | None, int]] = {
    "split off the class": (lambda t: list(t.split([1, 25], 1)), "split_with_sizes.1", "ntc", SIZE, 0),
    "the class itself": (lambda t: list(t.split([1, 25], 1)), "split_with_sizes.0", "ntc", None, 0),
    "split in two": (lambda t: list(t.split([13, 13], 1)), "split_with_sizes.1", "ntc", None, 0),
    "cut after": (lambda t: t[:, :25] * 1, "mul:2", "ntc", SIZE, 1),
    "cut both": (lambda t: t[:, 1:25] * 1, "mul:2", "ntc", SIZE, 0),
    "cut into": (lambda t: t[:, 2:] * 1, "mul:2", "ntc", None, 0),
    "every second": (lambda t: t[:, ::2] * 1, "mul:2", "ntc", None, 0),
    "flipped": (lambda t: t.flip(1), "flip", "ntc", None, 0),
    "rolled": (lambda t: t.roll(3, 1), "roll", "ntc", None, 0),
    "sorted": (lambda t: t.sort(1).values, "sort.0", "n?c", None, 0),
    "chosen": (lambda t: t.index_select(1, torch.arange(25, -1, -1)), "index_select", "ntc", None, 0),
    "gathered": (lambda t: t.gather(1, t.argsort(1)), "gather", "ntc", None, 0),
    "best": (lambda t: t.topk(2, 1).values, "topk.0", "n?c", None, 0),
    "pooled": (lambda t: F.avg_pool1d(t.transpose(1, 2), 2), "avg_pool1d", "nct", None, 0),
    "mean kept": (lambda t: t.mean(1, keepdim=True), "mean:2", "ntc", None, 0),
    "class read": (lambda t: t[:, 0] * 1, "mul:2", "nc", None, 0),
    "flipped and added": (lambda t: t + t.flip(1), "add", "ntc", None, 0),
    "gated": (lambda t: t * t.mean(1, keepdim=True).sigmoid(), "mul:2", "ntc", SIZE, 1),
    "joined twice": (lambda t: torch.cat([t, t], 1), "cat:2", "ntc", None, 0),
}


@pytest.mark.parametrize("name", TOKEN)
def test_tokens(name: str) -> None:
    body, point, axes, grid, prefix = TOKEN[name]
    check(network(lambda y: body(with_class(y))), point, axes, grid, prefix)


def test_places_behind_a_split() -> None:
    net = network(lambda y: list(with_class(y).split([1, 25], 1)))
    trace = net.trace(images(2, 3, *SIZE), ["conv", "split_with_sizes.1"])
    assert torch.equal(trace["split_with_sizes.1/3"], trace["conv/3"])


def test_flipped_map_of_tokens() -> None:
    check(network(lambda y: y.flatten(2).flip(2)), "flip", "nct")


def test_recurrent() -> None:
    """The sequence has the places of its input; the last state is (layers, batch, features)."""
    net = network(lambda m, y: m.rnn(tokens(y)), rnn=nn.LSTM(CHANNELS, 5, batch_first=True, bidirectional=True))
    check(net, "rnn.0", "ntc", SIZE)
    check(net, "rnn.1.0", "?nc")
    check(net, "rnn.1.1", "?nc")
    net = network(lambda m, y: m.rnn(y.flatten(2).permute(2, 0, 1)), rnn=nn.GRU(CHANNELS, 5))
    check(net, "rnn.0", "tnc", SIZE)


def patched(m: Any, y: Tensor) -> Tensor:
    """A ViT that cuts its patches by reshaping."""
    n, c, h, w = y.shape
    p = y.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(n, h * w // 4, c * 4)
    t = m.embed(p)
    return m.block(torch.cat([t.mean(1, keepdim=True), t], 1))


def test_patches_by_reshape() -> None:
    block = nn.TransformerEncoderLayer(10, 2, 12, batch_first=True)
    net = network(patched, embed=nn.Linear(4 * CHANNELS, 10), block=block)
    check(net, "view:2", "ntc", (2, 3))
    check(net, "embed", "ntc", (2, 3))
    check(net, "block", "ntc", (2, 3), 1)
    trace = net.trace(images(2, 3, *SIZE), "embed")
    assert torch.equal(trace["embed/7@1,2"], trace["embed"][:, 5, 7])


def test_patches_by_unfold() -> None:
    net = network(lambda y: F.unfold(y, (2, 3), stride=(2, 1)), (4, 6))
    check(net, "im2col", "nct", (2, 4))
    net = network(lambda y: y.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(-1, 6, 32) * 1)
    check(net, "mul", "ntc", (2, 3))


def windowed(m: Any, y: Tensor) -> Tensor:
    """Attention inside windows of 2 x 2, taken apart and put back."""
    x = y.permute(0, 2, 3, 1)
    w = x.reshape(-1, 2, 2, 3, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 8)
    w = m.fc((w @ w.transpose(1, 2)).softmax(-1) @ w)
    return w.view(-1, 2, 3, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 6, 8) * 1


def test_windows() -> None:
    net = network(windowed, fc=nn.Linear(8, 8))
    check(net, "fc", "??c")
    check(net, "mul", "nyxc", SIZE)
    check(network(lambda y: y.view(-1, 8, 2, 2, 3, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 6, 4, 8)), "view:2", "nt?c")


def test_bias_of_relative_positions() -> None:
    """Its features are computed from weights; added to scores, they make no units of the heads."""

    def body(m: Any, y: Tensor) -> Tensor:
        q = tokens(y).unflatten(2, (2, 4)).transpose(1, 2)
        bias = m.fc(torch.linspace(-1, 1, TOKENS)[:, None, None].expand(-1, TOKENS, 3)).permute(2, 0, 1)
        return ((q @ q.transpose(2, 3) + bias).softmax(-1) @ q).transpose(1, 2).flatten(2) * 1

    net = network(body, fc=nn.Linear(3, 2))
    check(net, "add", "n???")
    check(net, "softmax", "n???")
    check(net, "mul", "ntc", SIZE)


def test_mixer() -> None:
    """A linear map over tokens makes no units, and what is added to the tokens has their places."""
    net = network(
        lambda m, y: tokens(y) + m.up(m.down(y.flatten(2))).transpose(1, 2),
        down=nn.Linear(TOKENS, 5), up=nn.Linear(5, TOKENS),
    )  # fmt: skip
    check(net, "down", "nc?")
    check(net, "up", "nc?")
    check(net, "add", "ntc", SIZE)


MODULES: list[tuple[nn.Module, tuple[int, ...], str]] = [
    (nn.GELU(), (1, 4, 6, 12), "n???"),
    (nn.Dropout(), (1, 4, 6, 12), "n???"),
    (nn.Linear(12, 7), (1, 4, 6, 7), "n??c"),
    (nn.Linear(12, 7), (1, 24, 7), "ntc"),
    (nn.Linear(12, 7), (1, 7), "nc"),
    (nn.LayerNorm(12), (1, 4, 6, 12), "n??c"),
    (nn.LayerNorm([6, 12]), (1, 4, 6, 12), "n???"),
    (nn.Conv1d(3, 10, 3), (1, 10, 24), "nct"),
    (nn.Conv2d(3, 4, 3), (1, 4, 6, 5), "ncyx"),
    (nn.Conv2d(3, 4, 3), (4, 6, 5), "n??"),
    (nn.Conv3d(3, 4, 3), (1, 4, 2, 6, 5), "nc?yx"),
    (nn.ConvTranspose2d(3, 4, 3), (1, 4, 6, 5), "ncyx"),
    (nn.BatchNorm1d(4), (1, 4, 6), "nct"),
    (nn.BatchNorm2d(4), (1, 4, 6, 5), "ncyx"),
    (nn.GroupNorm(2, 4), (1, 4, 6, 5), "ncyx"),
    (nn.AdaptiveAvgPool2d(1), (1, 4, 1, 1), "ncyx"),
    (nn.GRU(4, 5), (1, 2, 5), "n??"),
    (nn.MultiheadAttention(4, 2), (1, 4, 4), "n??"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (1, 4, 6, 5), "ncyx"),
    (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), (1, 120), "n?"),
]


@pytest.mark.parametrize(("module", "shape", "axes"), MODULES, ids=[f"{type(m).__name__}{s}" for m, s, _ in MODULES])
def test_modules_without_a_graph(module: nn.Module, shape: tuple[int, ...], axes: str) -> None:
    found = of_module(module, shape)
    assert "".join(found.axes) == axes
    assert found.has_units == ("c" in axes)
    assert not of_module(module, shape, batch_is_first=False).has_units


class Branching(nn.Module):
    """Cannot be exported; a block, a ReLU and a channels-last stage whose modules do not name their axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.norm = nn.LayerNorm(6)
        self.act = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            x = x * 1
        last = self.act(self.norm(self.relu(self.conv(x)).permute(0, 2, 3, 1)))
        return last.mean((1, 2))


def test_without_a_graph_a_module_has_the_axes_of_the_points_of_its_shape() -> None:
    torch.manual_seed(0)
    with pytest.warns(InwardWarning, match="cannot be exported"):
        points = Network.of(Branching().eval(), size=(8, 12)).points
    told = {name: ("".join(point.layout.axes), point.units) for name, point in points.items()}
    assert told == {"conv": ("ncyx", 6), "relu": ("ncyx", 6), "norm": ("n??c", 6), "act": ("n??c", 6)}
