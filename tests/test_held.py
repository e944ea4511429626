"""Images that change in one window after another: what crops tell is what the whole images do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers import network
from inward import InwardError, Network
from inward.network import held
from inward.network.held import Held, Window
from inward.network.lean import lean
from same import images, seeded, untouched
from test_incremental import SIZE, branches

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(branches(), SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


class Flattened(nn.Module):
    """Two convolutions and two linear layers, the first of which reads the flattened map."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 5, 3, padding=1)
        height, width = (-(-n // 2) for n in SIZE)
        self.wide, self.last = nn.Linear(5 * height * width, 7, bias=bias), nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.wide(self.second(self.first(x).relu()).relu().flatten(1)).relu())


@pytest.fixture(autouse=True)
def however_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops are made where they are hardly worth it, too."""
    monkeypatch.setattr(held, "_OVERHEAD", 0)


def some(count: int, share: float, generator: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=generator) < share).nonzero()[:, 0]


@pytest.mark.parametrize(("bias", "last"), [(True, False), (False, False), (True, True), (False, True)])
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_linear_layer_behind_the_map_is_told_of_changes(share: float, bias: bool, last: bool) -> None:
    """Also on the graph of loops, where its weights lie with the channels last."""
    net = network(seeded(lambda: Flattened(bias)).double(), SIZE)
    net = lean(net, SIZE, half=False) if last else net
    batch = Held(net, "class", images(2, 3, *SIZE, dtype=torch.float64))
    way = batch._way((1, 4), (2, 4))
    assert way is not None
    assert way.head is not None
    assert way.head.last is last
    a_hundred_changes(net, share)


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_hundred_changes_are_those_of_whole_images(net: Network, share: float) -> None:
    a_hundred_changes(net, share)


def a_hundred_changes(net: Network, share: float) -> None:
    """Some are looked at, some of these kept, and some images leave: in float64 to 1e-12, for values of about 1."""
    generator = torch.Generator().manual_seed(0)
    whole = images(6, 3, *SIZE, dtype=torch.float64)
    batch, on_crops = Held(net, "class", whole), 0
    for turn in range(100):
        extent = SIZE if turn % 40 == 9 else tuple(int(n) for n in torch.randint(1, 9, (2,), generator=generator))
        top, left = (int(torch.randint(n - e + 1, (), generator=generator)) for n, e in zip(SIZE, extent, strict=True))
        values = torch.rand(len(whole), 3, *extent, generator=generator, dtype=torch.float64)
        window = Window(values, (top, top + extent[0]), (left, left + extent[1]))
        among = some(len(whole), share, generator)
        if len(among) == 0:
            continue
        found, expected = batch.look(window, among), window.onto(whole)
        torch.testing.assert_close(found, net(expected[among]), rtol=0, atol=1e-12)
        on_crops += batch._last().way is not None
        kept = some(len(among), 0.4, generator)
        assert torch.equal(batch.changed(kept), expected[among[kept]])
        batch.keep(kept)
        whole = whole.index_copy(0, among[kept], expected[among[kept]])
        assert torch.equal(batch.images, whole)
        if turn in (30, 60):
            stay = torch.arange(len(whole)) != 1
            batch.select(stay)
            whole = whole[stay]
    assert on_crops > 80
    assert len(whole) == 4


def test_what_needs_every_pixel_at_once_is_run_whole() -> None:
    net = network(seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 5 * 4, 4))).double(), (5, 4))
    x = images(3, 3, 5, 4, dtype=torch.float64)
    batch, window = Held(net, "class", x), Window(torch.zeros(3, 3, 2, 2, dtype=torch.float64), (1, 3), (2, 4))
    found = batch.look(window, torch.arange(3))
    assert batch._last().way is None
    torch.testing.assert_close(found, net(window.onto(x)), rtol=0, atol=1e-12)


def test_nothing_else_is_touched(net: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    before, module = x.clone(), branches()
    own = network(module, SIZE)
    with untouched(module):
        batch = Held(own, "class", x)
        batch.look(Window(torch.zeros(2, 3, 4, 4, dtype=torch.float64), (0, 4), (3, 7)), torch.arange(2))
        batch.keep(torch.arange(2))
    assert torch.equal(x, before)
    assert not torch.equal(batch.images, before)


def test_a_change_is_kept_only_after_it_was_looked_at(net: Network) -> None:
    batch = Held(net, "class", images(2, 3, *SIZE, dtype=torch.float64))
    with pytest.raises(InwardError, match="no change has been looked at"):
        batch.keep(torch.arange(1))
