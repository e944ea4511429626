"""What a window changes, computed from crops alone, is what the whole network computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from helpers import network
from inward import Network
from inward.errors import InwardWarning
from inward.network.beside import Windows
from inward.network.crops import Lines
from inward.network.incremental import Incremental, incremental
from inward.network.lean import lean
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")
SIZE = (37, 30)
ROWS, COLUMNS = ((0, 6), (5, 11), (16, 22), (31, 37), (35, 37)), ((0, 5), (12, 17), (25, 30))
ALL = [(i, j) for i in range(len(ROWS)) for j in range(len(COLUMNS))]


class Branches(nn.Module):
    """Convolutions, pools and normalizations of every geometry, branches side by side, and a shortcut with a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 5, stride=2, padding=(2, 1))
        self.norm = nn.BatchNorm2d(8)
        self.lrn = nn.LocalResponseNorm(3, alpha=0.5)
        self.up = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.left = nn.Conv2d(8, 4, (3, 1), padding=(1, 0), groups=2)
        self.right = nn.Conv2d(8, 6, 3, padding=2, dilation=2)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.mean = nn.AvgPool2d(3, stride=1, padding=1)
        self.first = nn.Conv2d(26, 8, 3, stride=2, padding=1)
        self.short = nn.Conv2d(26, 8, 1, stride=2)
        self.last = nn.AvgPool2d(2)
        self.prelu = nn.PReLU(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lrn(torch.relu(self.norm(self.stem(x))))
        x = self.up(x)
        x = torch.cat([self.left(x), self.right(x).sigmoid(), self.pool(0.1 - x), self.mean(x)], 1)
        x = self.prelu(self.first(x) + 0.5 * self.short(x))
        return self.fc(self.last(x).mean((2, 3)))


def branches() -> nn.Module:
    module = seeded(Branches)
    with torch.no_grad():
        module.norm.running_mean.uniform_(-0.1, 0.1, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr]
        module.norm.running_var.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))  # type: ignore[union-attr]
    return module.double()


@pytest.fixture(scope="module")
def net() -> Network:
    return lean(network(branches(), SIZE, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3)), SIZE, half=False)


def hidden(image: Tensor, windows: list[tuple[int, int]], rows: Any = ROWS, columns: Any = COLUMNS) -> Tensor:
    """Images (B, C, H, W), each with other values in its window."""
    found = image.repeat(len(windows), 1, 1, 1)
    for one, (i, j) in zip(found, windows, strict=True):
        one[:, slice(*rows[i]), slice(*columns[j])] = 1 - one[:, slice(*rows[i]), slice(*columns[j])] ** 2
    return found


def places(windows: list[tuple[int, int]]) -> Windows:
    """Of one image."""
    return Windows(torch.zeros(len(windows), dtype=torch.long), *torch.tensor(windows).T)


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    assert expected.std() > 0
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_equal_to_the_whole_at_every_point(net: Network) -> None:
    image = images(1, 3, *SIZE, dtype=torch.float64)
    pictures, cuts = hidden(image, ALL), set()
    for name, point in net.points.items():
        if point.layout.kind != "map":
            continue
        plan = incremental(net, ["class"], SIZE, ROWS, COLUMNS, at=name)
        if plan is None:
            continue
        cuts.add(name)
        with torch.no_grad():
            (expected,) = net.run(pictures, [plan.at])
            clean = net.run(image, [plan.at])[0]
            found = plan.beside(image).changed(pictures, places(ALL))
            # Sums in another order, in float64: 3e-16 measured.
            assert gap(found, expected) < 1e-13, plan.at
            assert torch.equal(plan.beside(image).unchanged(), clean)
            assert not torch.equal(found[:1], clean)
            (after,) = net.run(pictures, ["class"], {name: found})
            assert gap(after, net.run(pictures, ["class"])[0]) < 1e-13
    assert {"norm", "lrn", "up", "left", "right", "pool", "mean", "first", "last"} <= cuts


def test_in_the_form_of_the_module_too() -> None:
    """Without the rewriting of ``lean``, and without channels last."""
    net = network(branches(), SIZE)
    image = images(1, 3, *SIZE, dtype=torch.float64)
    plan = incremental(net, ["class"], SIZE, ROWS, COLUMNS, at="last")
    assert plan is not None
    expected = net.run(hidden(image, ALL), ["last"])[0]
    assert gap(plan.beside(image).changed(hidden(image, ALL), places(ALL)), expected) < 1e-13


@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_windows_of_any_place_and_extent(data: st.DataObject, net: Network) -> None:
    def intervals(length: int) -> list[tuple[int, int]]:
        first = st.integers(0, length - 1)
        return data.draw(
            st.lists(first.flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, length))), min_size=1, max_size=3)
        )

    rows, columns = intervals(SIZE[0]), intervals(SIZE[1])
    plan = incremental(net, ["class"], SIZE, rows, columns, at="first")
    assert plan is not None
    windows = [(i, j) for i in range(len(rows)) for j in range(len(columns))]
    image = images(1, 3, *SIZE, dtype=torch.float64)
    pictures = hidden(image, windows, rows, columns)
    expected = net.run(pictures, [plan.at])[0]
    assert gap(plan.beside(image).changed(pictures, places(windows)), expected) < 1e-13


def test_crops_hold_what_changes_and_no_more(net: Network) -> None:
    """Found by comparing whole activations: every changed row and column is inside, and the outermost did change."""
    image = images(1, 3, *SIZE, dtype=torch.float64)
    plan = incremental(net, ["class"], SIZE, ROWS, COLUMNS, at="last")
    assert plan is not None
    nodes = {node.name: box for node, box in plan.boxes.items()}
    for name in ("norm", "left", "right", "first", "short"):
        point = net.points[name]
        # More than rounding, which is another in a batch.
        moved = (net.run(hidden(image, ALL), [name])[0] - net.run(image, [name])[0]).abs() > 1e-9
        for k, (i, j) in enumerate(ALL):
            for lines, index, axes in zip(nodes[point.node], (i, j), ((0, 2), (0, 1)), strict=True):
                places = moved[k].any(axes[1]).any(axes[0]).nonzero()
                if len(places):
                    assert lines.low[index] <= places.min(), name
                    assert places.max() < lines.high[index], name
                    # A kernel that is counted in whole blocks (3 of 2 pixels for 5) may say one position more.
                    assert lines.low[index] >= places.min() - 1, name
                    assert lines.high[index] <= places.max() + 2, name


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.integers(0, 3), st.data())
def test_intervals_by_trying_every_position(
    length: int, kernel: int, stride: int, padding: int, data: st.DataObject
) -> None:
    out = (length + 2 * padding - kernel) // stride + 1
    if out < 1 or padding >= kernel:
        return
    low = data.draw(st.integers(0, length - 1))
    high = data.draw(st.integers(low + 1, length))
    reads = [{i * stride - padding + k for k in range(kernel)} for i in range(out)]
    hit = [i for i in range(out) if reads[i] & set(range(low, high))]
    seen = Lines(np.array([low]), np.array([high]), length).seen(kernel, stride, padding, out)
    if hit:
        assert (seen.low[0], seen.high[0]) == (min(hit), max(hit) + 1)
        assert seen.first[0] <= min(hit)
        assert seen.first[0] + seen.count > max(hit)
    assert 0 <= seen.first[0] <= out - seen.count


class Mixer(nn.Module):
    """Its first operation mixes all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x - x.mean((2, 3), keepdim=True)).mean((2, 3))


class Placed(nn.Module):
    """Adds what is not the same at every place, and pools with a divisor that is smaller at the edges."""

    def __init__(self, pool: nn.Module | None) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.linspace(-1, 1, SIZE[1]))
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return (x + self.place if self.pool is None else self.pool(x)).relu().mean((2, 3))


class Doubled(nn.Module):
    """A padding by name, which may be uneven."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu().mean((2, 3))


@pytest.mark.parametrize(
    ("make", "last"),
    [
        (Mixer, None),
        (lambda: Placed(None), "conv"),
        (lambda: Placed(nn.AvgPool2d(3, 1, 1, count_include_pad=False)), "conv"),
        (lambda: Placed(nn.AvgPool2d(3, 2, ceil_mode=True)), "conv"),
        (lambda: Placed(nn.AvgPool2d(3, 2)), "pool"),
        (Doubled, None),
    ],
)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_goes_no_further_than_it_is_exact(make: Any, last: str | None) -> None:
    net = network(seeded(make).double(), SIZE)
    if last is None:
        assert incremental(net, ["class"], SIZE, ROWS, COLUMNS) is None
        return
    plan = incremental(net, ["class"], SIZE, ROWS, COLUMNS, at=last)
    assert plan is not None
    seen = {node.name for node in plan.boxes}
    assert net.points[last].node in seen
    image = images(1, 3, *SIZE, dtype=torch.float64)
    expected = net.run(hidden(image, ALL), ["class"])[0]
    given_at = {plan.at: plan.beside(image).changed(hidden(image, ALL), places(ALL))}
    assert gap(net.run(hidden(image, ALL), ["class"], given_at)[0], expected) < 1e-13
    # What lies behind is not said to be known: neither what is added or pooled there, nor the mean.
    behind = [
        p for p in net.points.values() if p.name == "pool" or p.name.startswith("add") or p.layout.kind == "vector"
    ]
    assert len(behind) >= 2
    assert not seen & {p.node for p in behind if p.name != last}


def test_saves_what_it_says(net: Network) -> None:
    """The rows of a crop, beside those of the whole."""
    plan: Incremental | None = incremental(net, ["class"], SIZE, ((8, 12), (9, 13)), ((3, 7),))
    assert plan is not None
    rows, columns = plan.boxes[next(step.node for step in plan.steps if step.node.name == net.points["up"].node)]
    # Pixels 8 to 13 of rows: 5 taps, stride 2, padding 2 (6 taps as blocks): 3 to 8 of 19; pool of 3, stride 2.
    assert (rows.low.tolist(), rows.high.tolist(), rows.size) == ([1, 1], [4, 4], 9)
    assert (rows.count, columns.size) == (3, 7)


def test_without_a_graph_there_is_none() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x.mean((2, 3)) if float(x.sum()) > -1e9 else x.sum((2, 3))

    net = network(seeded(Asks), SIZE)
    with pytest.warns(InwardWarning, match="cannot be exported as a graph"):
        assert not net.is_graph
    assert incremental(net, ["class"], SIZE, ROWS, COLUMNS) is None
