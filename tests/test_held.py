"""Images that change in one window after another: what crops tell is what the whole images do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from helpers import network
from inward import InwardError, Network
from inward.network import held
from inward.network.held import Changes, Held
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


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_linear_layer_behind_the_map(share: float, bias: bool) -> None:
    """Also on the graph of loops, where its weights lie with the channels last."""
    net = network(seeded(lambda: Flattened(bias)).double(), SIZE)
    for each in (net, lean(net, SIZE, half=False)):
        a_hundred_changes(each, share)


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_hundred_changes_are_those_of_whole_images(net: Network, share: float) -> None:
    a_hundred_changes(net, share)


def drawn(count: int, share: float, extent: tuple[int, int], generator: torch.Generator) -> Changes:
    """Up to three changes of each image, of windows anywhere."""
    owners = torch.cat([some(count, share, generator) for _ in range(3)]).sort().values
    tops, lefts = (
        torch.randint(n - e + 1, (len(owners),), generator=generator) for n, e in zip(SIZE, extent, strict=True)
    )
    values = torch.rand(len(owners), 3, *extent, generator=generator, dtype=torch.float64)
    return Changes(values, owners, tops, lefts)


def shown(changes: Changes, whole: Tensor) -> Tensor:
    """The changed images, one by one."""
    found = whole[changes.owners].clone()
    for one, values, top, left in zip(found, changes.values, changes.tops, changes.lefts, strict=True):
        one[:, top : top + values.shape[1], left : left + values.shape[2]] = values
    return found


def a_hundred_changes(net: Network, share: float) -> None:
    """Some are looked at, some of these kept, and some images leave: in float64 to 1e-12, for values of about 1."""
    generator = torch.Generator().manual_seed(0)
    whole = images(6, 3, *SIZE, dtype=torch.float64)
    batch, on_crops, extent = Held(net, "class", whole), 0, SIZE
    for turn in range(100):
        # Now and then another extent; what is held is that of the images then.
        if turn % 4 == 0:
            extent = SIZE if turn % 40 == 8 else tuple(int(n) for n in torch.randint(1, 9, (2,), generator=generator))
        changes = drawn(len(whole), share, extent, generator)
        if len(changes.owners) == 0:
            continue
        found, expected = batch.look(changes), shown(changes, whole)
        torch.testing.assert_close(found, net(expected), rtol=0, atol=1e-12)
        on_crops += batch.plan(extent) is not None
        # One of each image at most.
        first = torch.tensor([i for i, o in enumerate(changes.owners) if o not in changes.owners[:i]])
        kept = first[some(len(first), 0.6, generator)]
        assert torch.equal(batch.changed(kept), expected[kept])
        batch.keep(kept)
        whole = whole.index_copy(0, changes.owners[kept], expected[kept])
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
    zeros = torch.zeros(3, 3, 2, 2, dtype=torch.float64)
    batch, changes = Held(net, "class", x), Changes(zeros, torch.arange(3), torch.tensor([1, 0, 3]), torch.arange(3))
    assert batch.plan((2, 2)) is None
    torch.testing.assert_close(batch.look(changes), net(shown(changes, x)), rtol=0, atol=1e-12)


def corner(count: int) -> Changes:
    everyone = torch.arange(count)
    return Changes(torch.zeros(count, 3, 4, 4, dtype=torch.float64), everyone, everyone * 0, everyone * 0 + 3)


def test_nothing_else_is_touched(net: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    before, module = x.clone(), branches()
    own = network(module, SIZE)
    with untouched(module):
        batch = Held(own, "class", x)
        batch.look(corner(2))
        batch.keep(torch.arange(2))
    assert torch.equal(x, before)
    assert not torch.equal(batch.images, before)


def test_a_change_is_kept_only_after_it_was_looked_at(net: Network) -> None:
    batch = Held(net, "class", images(2, 3, *SIZE, dtype=torch.float64))
    with pytest.raises(InwardError, match="no change has been looked at"):
        batch.keep(torch.arange(1))


class Twice(nn.Module):
    """Reads the image once more behind its convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other, self.colors = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(x).relu()).relu().mean((2, 3)) + 2 * self.colors(x.mean((2, 3)))


@pytest.mark.parametrize("share", [0.6, 1.0])
def test_a_network_that_reads_the_image_again_reads_the_changed_one(share: float) -> None:
    net = network(seeded(Twice).double(), SIZE, mean=(0.5,) * 3, std=(0.05,) * 3)
    a_hundred_changes(net, share)


def test_changes_are_written_where_all_windows_are_written_one_by_one() -> None:
    """As deterministic algorithms do on CUDA, and whatever the order of the axes in memory."""
    torch.use_deterministic_algorithms(True)
    try:
        for order in (torch.contiguous_format, torch.channels_last):
            x = images(2, 3, 6, 7).contiguous(memory_format=order)
            ones = torch.ones(2, 3, 3, 2)
            changes = Changes(ones, torch.tensor([1, 0]), torch.tensor([0, 3]), torch.tensor([5, 1]))
            expected = x.clone()
            expected[1, :, 0:3, 5:7] = expected[0, :, 3:6, 1:3] = 1
            assert torch.equal(changes.onto(x)[1], expected[0])
            changes.keep(x)
            assert torch.equal(x, expected)
    finally:
        torch.use_deterministic_algorithms(False)
