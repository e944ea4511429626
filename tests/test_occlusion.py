"""Occlusion: what a window takes from the score, by hand, by Captum, and from crops as from whole images."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import Occlusion
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.columns.penalties import TotalVariation
from inward.methods import occlusion as module_of
from inward.methods.occlusion import occlusion
from inward.network.incremental import Beside, incremental
from same import images, seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")
SIZE = (29, 22)


class Deep(nn.Module):
    """Deep enough for crops: strided convolutions, a pool, functional ReLUs, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 5, stride=2, padding=2)
        self.conv = nn.Conv2d(16, 16, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = x + self.relu(self.conv(x))
        return self.fc(nn.functional.max_pool2d(x, 3, 2, ceil_mode=True).mean((2, 3)))


@pytest.fixture(scope="module")
def net() -> Network:
    return network(seeded(Deep).double(), SIZE)


def plainly(score: Any, x: Tensor, baseline: Tensor, window: int, stride: int) -> Tensor:
    """One window and one image at a time, and a loop over the pixels that it covers."""
    found = torch.zeros((len(x), 1, *x.shape[2:]), dtype=torch.float64)
    for n in range(len(x)):
        count = torch.zeros(x.shape[2:])
        top = 0
        while True:
            left = 0
            while True:
                picture = x[n : n + 1].clone()
                area = (slice(top, top + window), slice(left, left + window))
                picture[0, :, *area] = baseline[n, :, *area]
                found[n, 0][area] += (score(x[n : n + 1]) - score(picture)).item()
                count[area] += 1
                if left + window >= x.shape[3]:
                    break
                left += stride
            if top + window >= x.shape[2]:
                break
            top += stride
        found[n, 0] /= count
    return found


def gap(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    assert b.abs().max() > 0
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize(("window", "stride"), [(5, 3), (7, 7), (6, 2), (22, 5)])
def test_is_the_mean_drop(net: Network, window: int, stride: int) -> None:
    module, x = seeded(Deep).double(), images(2, 3, *SIZE, dtype=torch.float64)
    found = occlusion(net, x, target="class:2", window=window, stride=stride)
    with torch.no_grad():
        expected = plainly(lambda y: module(y)[:, 2], x, torch.full_like(x, 0.5), window, stride)
    # Sums in another order, in float64; drops are a tenth of the scores.
    assert gap(found.values, expected) < 1e-12
    assert torch.equal(found.scores, net(x)[:, 2])
    assert found.kind == "contribution"


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (7, 7), (1, 1), (22, 3)])
def test_equal_to_captum(net: Network, window: int, stride: int) -> None:
    """``sliding_window_shapes=(3, window, window)``, ``strides=(3, stride, stride)``, ``baselines=0.5``."""
    module, x = seeded(Deep).double(), images(2, 3, *SIZE, dtype=torch.float64)
    found = occlusion(net, x, target=["class:2", "class:4"], window=window, stride=stride)
    expected = Occlusion(module).attribute(
        x,
        (3, window, window),
        strides=(3, stride, stride),
        baselines=0.5,
        target=[2, 4],
        perturbations_per_eval=4,
    )
    # Captum adds up in float32.
    assert gap(found.values.expand_as(expected), expected) < 1e-6


@pytest.mark.parametrize(("target", "cut"), [("conv/3", {"relu"}), ("stem/2@4,1", set()), ("class:1", {"max_pool2d"})])
def test_crops_give_what_whole_images_give(
    net: Network, target: str, cut: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, asked = images(2, 3, *SIZE, dtype=torch.float64), []
    real = Beside.changed
    monkeypatch.setattr(Beside, "changed", lambda *a: asked.append(a[0].plan.at) or real(*a))
    crops = occlusion(net, x, target=target, window=4, stride=3)
    # The first convolution alone is not worth it.
    assert set(asked) == cut
    monkeypatch.setattr(module_of, "incremental", lambda *_: None)
    count = len(asked)
    whole = occlusion(net, x, target=target, window=4, stride=3)
    assert len(asked) == count
    assert gap(crops.values, whole.values) < 1e-12


def test_a_sum_over_weights_by_hand() -> None:
    """A linear network loses under a window what it weighs there."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2 * 9 * 7, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1))

    module = seeded(Linear).double()
    net = network(module, (9, 7), channels=2)
    x = images(2, 2, 9, 7, dtype=torch.float64)
    found = occlusion(net, x, target="class:1", window=1, stride=1, baseline="black").values
    expected = (module.fc.weight[1].view(2, 9, 7) * x).sum(1, keepdim=True)  # type: ignore[operator, index]
    assert gap(found, expected.detach()) < 1e-12


def test_several_baselines_are_averaged(net: Network) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    own = x.flip(0)
    options: dict[str, Any] = {"target": "class:0", "window": 8}
    first, second = (occlusion(net, x, baseline=b, **options).values for b in ("white", own))
    both = occlusion(net, x, baseline=["white", own], **options)
    assert gap(both.values, (first + second) / 2) < 1e-12
    assert gap(first, second) > 0.1
    assert both.record.parameters["baseline"] == ["white", "given"]


def test_nothing_is_lost_where_nothing_changes(net: Network) -> None:
    """The image is its own baseline: the drop is the rounding of the same sums in two orders."""
    x = images(2, 3, *SIZE, dtype=torch.float64)
    assert occlusion(net, x, baseline=x, target="class:0").values.abs().max() < 1e-14


def test_default_window_and_stride(net: Network) -> None:
    found = occlusion(net, images(1, 3, *SIZE, dtype=torch.float64))
    assert (found.record.parameters["window"], found.record.parameters["stride"]) == (3, 1)


def test_progress_counts_images_and_windows(net: Network) -> None:
    said: list[tuple[int, int]] = []
    x = images(2, 3, *SIZE, dtype=torch.float64)
    occlusion(net, x, window=11, stride=6, on_progress=lambda *pair: said.append(pair))
    # Rows from 0, 6, 12, 18 (the last covers 18 to 28); columns from 0, 6, 12.
    assert said[-1] == (2 * (1 + 4 * 3), 2 * (1 + 4 * 3))
    assert [done for done, _ in said] == sorted({done for done, _ in said})


def test_an_objective_of_the_pixels(net: Network) -> None:
    """What reads no activations at all is occluded all the same."""
    x = images(2, 3, *SIZE, dtype=torch.float64)
    found = occlusion(net, x, target=TotalVariation(), window=5, stride=5)
    with torch.no_grad():
        variation = TotalVariation()
        score = lambda y: variation(net.trace(y, []))  # noqa: E731
        assert gap(found.values, plainly(score, x, torch.full_like(x, 0.5), 5, 5)) < 1e-12


def test_a_dead_network_loses_nothing() -> None:
    found = occlusion(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="conv/2@3,1")
    assert found.values.isfinite().all()
    dead = occlusion(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="second/1")
    assert not dead.values.any()
    assert "exactly 0" in dead[0].notes()[0]


def test_network_untouched_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = conv_net()
    net = network(module, SIZE)
    with untouched(module):
        occlusion(net, images(1, 3, *SIZE))
        monkeypatch.setattr(module_of._Grid, "hide", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            occlusion(net, images(1, 3, *SIZE))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"window": 23}, "a window of 23 pixels does not fit into 22; give 1 to 22"),
        ({"window": 0}, "a window of 0 pixels"),
        ({"window": 4, "stride": 5}, "a stride of 5 leaves pixels out; give 1 to 4"),
        ({"stride": 0}, "a stride of 0"),
        ({"baseline": "grey"}, "there is no baseline 'grey'"),
        ({"baseline": torch.zeros(3, 4, 4)}, "give one baseline, or one an image"),
        ({"target": "conv/3", "of": "probability"}, "leave out --of"),
    ],
)
def test_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        occlusion(net, images(2, 3, *SIZE, dtype=torch.float64), **options)


def test_the_plan_is_used_on_a_deep_network(net: Network) -> None:
    plan = incremental(net, ["class"], SIZE, [(0, 4)], [(0, 4)])
    assert plan is not None
    assert 0 < len(plan.steps) < 12
