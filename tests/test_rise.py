"""RISE: the formula of the paper by a slow replica, the error that it measures, and its masks."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.objectives import ClassScore
from inward.methods import rise as module_of
from inward.methods.explained import usual_of
from inward.methods.rise import masks, rise
from same import images, seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")
SIZE = (9, 7)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE, mean=MEAN, std=STD)


def gap(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    assert b.abs().max() > 0
    return ((a - b).abs().max() / b.abs().max()).item()


def by_hand(score: Any, image: Tensor, hidden: Tensor, drawn: list[Tensor], keep: float) -> tuple[Tensor, float]:
    """``1 / (E[M] n) sum f(I * M_i) M_i`` with a loop, and the standard error of each of its pixels, averaged."""
    terms = torch.stack([score(mask * image + (1 - mask) * hidden) * mask / keep for mask in drawn])
    return terms.mean(0), (terms.std(0) / len(drawn) ** 0.5).mean().item()


@pytest.mark.parametrize(
    ("target", "of", "score"),
    [
        ("class:3", "probability", lambda m, x: m(x[None]).softmax(1)[0, 3]),
        ("class:1", "score", lambda m, x: m(x[None])[0, 1]),
        ("second/4", "score", lambda m, x: m.second(m.relu(m.conv(x[None])))[0, 4].mean()),
    ],
)
def test_is_the_formula(net: Network, target: str, of: Any, score: Any) -> None:
    module, x = conv_net().double(), images(2, 3, *SIZE, dtype=torch.float64)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (MEAN, STD))
    found = rise(net, x, target=target, of=of, samples=37, cells=3, keep=0.4, seed=5)
    drawn = list(masks(SIZE, 37, 3, 0.4, 5))
    with torch.no_grad():
        for i in range(2):
            # The authors multiply what the network is shown, which is 0 at the mean color.
            shown = lambda y: score(module, (y - mean) / std)  # noqa: E731
            expected, error = by_hand(shown, x[i], mean.expand(3, *SIZE), drawn, 0.4)
            assert gap(found.values[i, 0], expected) < 1e-12
            assert found.measured["standard_error"][i].item() == pytest.approx(error, rel=1e-9)
    assert found.values.shape == (2, 1, *SIZE)
    assert found.kind == ("amount" if of == "probability" else "contribution")


def test_the_measured_error_is_the_true_one(net: Network) -> None:
    """Over 40 seeds, the spread of the maps is what each of them says: 5 % of it, by the number of seeds."""
    x = images(1, 3, *SIZE, dtype=torch.float64)
    many = [rise(net, x, target="class:3", samples=60, cells=3, seed=seed) for seed in range(40)]
    spread = torch.stack([each.values for each in many]).std(0).mean().item()
    said = sum(each.measured["standard_error"].item() for each in many) / len(many)
    assert spread == pytest.approx(said, rel=0.15)
    more = rise(net, x, target="class:3", samples=60 * 16, cells=3).measured["standard_error"].item()
    assert more == pytest.approx(said / 4, rel=0.1)


def test_finds_what_is_seen() -> None:
    """A score that is one pixel: the map is 1 / keep times its second moment with every mask, largest there."""

    class Pixel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, 6:7, 2]

    net = network(Pixel().eval().double(), (12, 10), channels=1)
    x = torch.ones(1, 1, 12, 10, dtype=torch.float64)
    found = rise(net, x, target="class:0", of="score", samples=3000, cells=4, baseline="black").values[0, 0]
    drawn = torch.stack(list(masks((12, 10), 3000, 4, 0.5, 0)))
    assert gap(found, (drawn[:, 6, 2, None, None] * drawn).mean(0) / 0.5) < 1e-12
    # The mean over shifts flattens the top: its neighbors may be a few thousandths higher by chance.
    assert found[6, 2] > 0.98 * found.max()
    # Cells that never cover both are independent of it: keep^2 / keep.
    assert abs(found[0, 9].item() - 0.5) < 0.05


@pytest.mark.parametrize(("size", "cells", "keep"), [((9, 7), 3, 0.5), ((30, 41), 7, 0.3), ((8, 8), 8, 0.8)])
def test_masks(size: tuple[int, int], cells: int, keep: float) -> None:
    drawn = torch.stack(list(masks(size, 600, cells, keep, 3)))
    assert drawn.shape == (600, *size)
    assert 0 <= drawn.min() < drawn.max() <= 1
    # Of 600 cells with a standard deviation of at most 1/2, with shifts: 5 standard errors.
    assert (drawn.mean(0) - keep).abs().max() < 0.1
    again = torch.stack(list(masks(size, 10, cells, keep, 3)))
    assert torch.equal(again, drawn[:10])
    assert not torch.equal(torch.stack(list(masks(size, 10, cells, keep, 4))), again)
    # Linear between the centers of cells: no step is larger than one over the length of a cell.
    steepest = max(1 / -(-length // cells) for length in size)
    assert drawn.diff(dim=1).abs().max() <= steepest + 1e-12


def test_a_mask_is_the_paper_s() -> None:
    """``cells`` x ``cells``, enlarged to one cell more than the image, between the centers of cells; then cut."""
    (height, width), cells = (10, 7), 3
    generator = torch.Generator().manual_seed(9)
    for mask in masks((height, width), 5, cells, 0.5, 9):
        grid = torch.rand((1, 1, cells, cells), generator=generator, dtype=torch.float64)[0, 0] < 0.5
        # A cell is 4 x 3 pixels: 10 and 7 over 3, rounded up.
        shift = [int(torch.randint(n, (), generator=generator)) for n in (4, 3)]
        for y in range(height):
            for x in range(width):
                # Beyond the outermost centers, as there.
                v, u = (
                    min(max((p + s + 0.5) * cells / (4 * n) - 0.5, 0), cells - 1)
                    for p, s, n in ((y, shift[0], 4), (x, shift[1], 3))
                )
                a, b = min(int(v), cells - 2), min(int(u), cells - 2)
                corners = grid[a : a + 2, b : b + 2].double()
                down, right = torch.tensor([a + 1 - v, v - a]).double(), torch.tensor([b + 1 - u, u - b]).double()
                assert mask[y, x].item() == pytest.approx((down @ corners @ right).item(), abs=1e-6)


def test_same_masks_alone_and_in_a_batch_in_any_chunk(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    together = rise(net, x, samples=20, cells=3)
    monkeypatch.setattr(sys.modules["inward.gradient"], "images_at_once", lambda *_, **__: 7)
    for i in range(3):
        alone = rise(net, x[i : i + 1], samples=20, cells=3)
        assert gap(together[i].values, alone.values) < 1e-12


def test_default_is_the_probability_of_classes_alone(net: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    assert usual_of(net, x, None, None) == "probability"
    assert usual_of(net, x, ["class:1", "class:0"], None) == "probability"
    assert usual_of(net, x, "second/4", None) == "score"
    assert usual_of(net, x, "conv/1 + 0.5 * conv/2", None) == "score"
    assert usual_of(net, x, ClassScore(1), None) == "score"
    assert usual_of(net, x, "class:1", "cross-entropy") == "cross-entropy"
    assert rise(net, x, target="second/4", samples=4).record.parameters["of"] == "score"


def test_memory_is_constant_in_masks(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []
    real = module_of._samples

    def counted(pictures: Tensor, hidden: Tensor, drawn: Any, shown: Any) -> Any:
        for sample in real(pictures, hidden, drawn, shown):
            waiting.append(len(shown))
            yield sample

    monkeypatch.setattr(module_of, "_samples", counted)
    rise(net, images(2, 3, *SIZE, dtype=torch.float64), samples=200)
    assert len(waiting) == 400
    assert max(waiting) <= 16


def test_mixed_precision_errs_less_than_the_masks() -> None:
    net = network(conv_net(), (24, 20), mean=MEAN, std=STD)
    x = images(2, 3, 24, 20)
    full, mixed = (rise(net, x, target="class:3", samples=400, precision=p) for p in ("full", "mixed"))
    error = (full.values.double() - mixed.values.double()).abs().mean((1, 2, 3))
    assert (error < 0.05 * full.measured["standard_error"]).all()
    assert full.record.parameters["precision"] == "full"
    assert torch.equal(full.scores, mixed.scores)


def test_what_is_wrong_in_short_is_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that are wrong by a tenth, which no number of masks would mend."""
    net, wrong = network(conv_net(), SIZE), conv_net()
    with torch.no_grad():
        wrong.fc.weight.mul_(1.1)  # type: ignore[union-attr, operator]
    monkeypatch.setattr("inward.network.lean.has_half", lambda _: True)
    monkeypatch.setattr(module_of, "lean", lambda n, _, half: network(wrong, SIZE) if half else n)
    x = images(2, 3, *SIZE)
    options: dict[str, Any] = {"target": "class:3", "of": "score", "samples": 480, "cells": 3}
    full, mixed = (rise(net, x, precision=p, **options).values for p in ("full", "mixed"))
    monkeypatch.setattr(module_of, "lean", lambda n, _, half: network(wrong, SIZE))
    monkeypatch.setattr("inward.methods.explained.lean", lambda n, _, half: network(wrong, SIZE))
    left = rise(net, x, **options).values
    assert (mixed - full).abs().mean() < 0.15 * (left - full).abs().mean()
    said: list[tuple[int, int]] = []
    rise(net, x, on_progress=lambda *pair: said.append(pair), **options)
    # A sixteenth is computed twice.
    assert said[-1] == (2 * (480 + 30), 2 * (480 + 30))


def test_progress_and_network_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    module, said = conv_net(), []
    net = network(module, SIZE)
    with untouched(module):
        rise(net, images(2, 3, *SIZE), samples=20, precision="full", on_progress=lambda *pair: said.append(pair))
        monkeypatch.setattr(module_of._Mean, "add", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rise(net, images(1, 3, *SIZE), samples=20)
    assert said[-1] == (40, 40)
    assert said[0][0] < 40


def test_finite_on_a_dead_network() -> None:
    found = rise(network(seeded(Dead), SIZE), images(2, 3, *SIZE), samples=6)
    assert found.values.isfinite().all()
    # The same score behind every mask: the mean of the masks is all that is left.
    assert gap(found.values[0], found.values[1]) < 1e-6


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 1}, "2 masks or more, not 1"),
        ({"cells": 0}, "1 to 7 cells along a side"),
        ({"cells": 8}, "1 to 7 cells along a side"),
        ({"keep": 0.0}, "between 0 and 1, not 0"),
        ({"keep": 1.0}, "between 0 and 1, not 1"),
        ({"baseline": "grey"}, "there is no baseline 'grey'"),
        ({"precision": "half"}, "there is no precision 'half'; write auto, full or mixed"),
        ({"target": "second/4", "of": "probability"}, "leave out --of"),
        ({"target": "third/4"}, "no point 'third'"),
    ],
)
def test_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        rise(net, images(2, 3, *SIZE, dtype=torch.float64), **{"samples": 4, **options})
