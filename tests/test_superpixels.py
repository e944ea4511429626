"""LIME: the weighted ridge regression by numpy, the answer on linear networks, and how far it is to be trusted."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from skimage.segmentation import slic
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, Network
from inward.methods import superpixels as module_of
from inward.methods.superpixels import lime, superpixels
from same import images, seeded, untouched

pytestmark = pytest.mark.usefixtures("single_thread")
SIZE = (24, 20)


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What was hidden in every sample, (samples, superpixels) for each image."""
    found: list[Tensor] = []
    real = module_of._drawn
    monkeypatch.setattr(module_of, "_drawn", lambda *a: (found.append(real(*a)), found[-1])[1])
    return found


def patches(count: int = 2, channels: int = 3, size: tuple[int, int] = SIZE) -> Tensor:
    """Images of smooth areas, which SLIC cuts into some 10 superpixels each."""
    small = images(count, channels, 4, 3, dtype=torch.float64)
    return nn.functional.interpolate(small, size=size, mode="nearest")


class Linear(nn.Module):
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.fc = nn.Linear(channels * SIZE[0] * SIZE[1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


def gap(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    assert b.abs().max() > 0
    return ((a - b).abs().max() / b.abs().max()).item()


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("baseline", ["black", "segments"])
def test_of_a_linear_network_the_sums_over_superpixels(channels: int, baseline: str) -> None:
    """Least squares finds what each superpixel's pixels weigh, less what is shown instead; and explains all."""
    module = seeded(lambda: Linear(channels)).double()
    net = network(module, SIZE, channels=channels)
    x = patches(2, channels)
    found = lime(net, x, target="class:1", of="score", segments=10, samples=80, baseline=baseline, ridge=0.0)
    for i in range(2):
        part = superpixels(x[i], 10, 10.0)
        assert 4 <= part.max() < 30
        hidden = torch.zeros_like(x[i])
        if baseline == "segments":
            for k in range(int(part.max()) + 1):
                hidden[:, part == k] = x[i][:, part == k].mean(1, keepdim=True)
        shares = module.fc.weight[1].detach().view(channels, *SIZE) * (x[i] - hidden)  # type: ignore[operator, index]
        sums = torch.zeros(int(part.max()) + 1, dtype=torch.float64).index_add_(
            0, part.flatten(), shares.sum(0).flatten()
        )
        # Sums over 480 pixels of some 1e-2, in float64.
        assert (found.values[i, 0] - sums[part]).abs().max() < 1e-12
    if baseline == "black":
        assert (found.measured["r2"] - 1).abs().max() < 1e-10


@pytest.mark.parametrize(("ridge", "width"), [(1.0, 0.25), (0.0, 0.1), (5.0, 1.0)])
def test_is_the_weighted_regression(net: Network, drawn: list[Tensor], ridge: float, width: float) -> None:
    """The normal equations with an intercept, solved by numpy, as in the authors' code with scikit-learn's Ridge."""
    module, x = conv_net().double(), patches()
    found = lime(net, x, target="class:3", segments=9, samples=60, baseline="gray", ridge=ridge, width=width, seed=2)
    for i in range(2):
        part, seen = superpixels(x[i], 9, 10.0), drawn[i].numpy()
        assert seen[0].all()
        scores, weights = [], []
        for row in seen:
            picture = x[i].clone()
            for k in np.flatnonzero(~row):
                picture[:, part == int(k)] = 0.5
            with torch.no_grad():
                scores.append(module(picture[None]).softmax(1)[0, 3].item())
            cosine = row.sum() / np.sqrt(row.sum() * len(row)) if row.any() else 0.0
            weights.append(np.sqrt(np.exp(-((1 - cosine) ** 2) / width**2)))
        table = np.concatenate([np.ones((60, 1)), seen], 1)
        penalty = np.diag([0.0] + [ridge] * seen.shape[1])
        w, y = np.diag(weights), np.array(scores)
        fit = np.linalg.solve(table.T @ w @ table + penalty, table.T @ w @ y)
        # Two ways to the solution of a well-conditioned system.
        assert gap(found.values[i, 0], torch.from_numpy(fit[1:])[part]) < 1e-9
        missed = (weights * (y - table @ fit) ** 2).sum()
        spread = (weights * (y - np.average(y, weights=weights)) ** 2).sum()
        assert found.measured["r2"][i].item() == pytest.approx(1 - missed / spread, rel=1e-9)
        assert 0 < found.measured["r2"][i] < 1


def test_equal_to_captum_with_the_same_samples(net: Network, drawn: list[Tensor]) -> None:
    """``Lime`` with the superpixels, SkLearnRidge(alpha=1), the kernel of the cosine, and our samples given."""
    module, x = conv_net().double(), patches(1)
    found = lime(net, x, target="class:3", of="score", segments=9, samples=50, baseline="black")
    part, rows = superpixels(x[0], 9, 10.0), iter(drawn[0].double())

    def kernel(_: Tensor, __: Tensor, sample: Tensor, **___: Any) -> float:
        return float(torch.exp(-((1 - sample.double().mean().sqrt()) ** 2) / (2 * 0.25**2)))

    captum = Lime(
        module,
        interpretable_model=SkLearnRidge(alpha=1.0),
        similarity_func=kernel,
        perturb_func=lambda *_, **__: next(rows)[None],
    )
    expected = captum.attribute(x, target=3, feature_mask=part[None, None].expand(1, 3, -1, -1), n_samples=50)
    # Captum keeps samples and scores in float32.
    assert gap(found.values[0, 0], expected[0, 0].double()) < 1e-5


def test_superpixels_follow_colors_and_count_from_0() -> None:
    x = torch.zeros(3, *SIZE)
    x[0, 11:] = 1
    part = superpixels(x, 6, 0.1)
    assert sorted(part.unique().tolist()) == list(range(int(part.max()) + 1))
    assert 2 <= part.max() + 1 <= 12
    for k in part.unique():
        assert len(x[0][part == k].unique()) == 1
    # The more they are asked to be square, the less the color says.
    square = superpixels(x, 6, 1e3)
    assert any(len(x[0][square == k].unique()) == 2 for k in square.unique())


def test_colors_are_compared_in_cielab_and_other_channels_as_they_are() -> None:
    x = patches(2)
    for image in x:
        plain = slic(image.permute(1, 2, 0).numpy(), n_segments=9, compactness=10, start_label=0)
        assert torch.equal(superpixels(image, 9, 10.0), torch.from_numpy(plain))
    for channels in (1, 5):
        image = patches(1, channels)[0]
        stack = 100 * image.permute(1, 2, 0).numpy()
        plain = slic(stack, n_segments=9, compactness=10, start_label=0, convert2lab=False, channel_axis=-1)
        assert torch.equal(superpixels(image, 9, 10.0), torch.from_numpy(plain))


def test_another_seed_hides_others(net: Network) -> None:
    first, again, other = (lime(net, patches(), samples=12, segments=9, baseline="gray", seed=s) for s in (0, 0, 1))
    assert torch.equal(first.values, again.values)
    assert not torch.equal(first.values, other.values)


def test_same_alone_and_in_a_batch(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    x = patches(3)
    options: dict[str, Any] = {"samples": 30, "segments": 9, "baseline": "gray"}
    together = lime(net, x, **options)
    monkeypatch.setattr(sys.modules["inward.gradient"], "images_at_once", lambda *_, **__: 7)
    for i in range(3):
        alone = lime(net, x[i : i + 1], **options)
        assert gap(together[i].values, alone.values) < 1e-8
        assert alone.measures()["r2"] == pytest.approx(together[i].measures()["r2"], rel=1e-8)
    assert not torch.equal(together[0].values, together[1].values)


def test_an_objective_inside_is_its_score(net: Network) -> None:
    found = lime(net, patches(), target="second/4", samples=30, segments=9)
    assert found.record.parameters["of"] == "score"
    assert found.targets == ("second/4",) * 2
    assert lime(net, patches(), samples=30, segments=9).record.parameters["of"] == "probability"
    assert found.values.shape == (2, 1, *SIZE)


def test_few_samples_are_told(net: Network) -> None:
    few, enough = (lime(net, patches(1), samples=s, segments=9) for s in (12, 60))
    assert "12 samples are few" in few[0].notes()[0]
    assert enough[0].notes() == ()


def test_a_dead_network_has_a_map_of_zeros() -> None:
    class Constant(Dead):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 0 + 1

    found = lime(network(seeded(Constant), SIZE), patches().float(), samples=20, segments=9)
    assert not found.values.any()
    assert found.measured["r2"].tolist() == [1.0, 1.0]


def test_one_superpixel() -> None:
    found = lime(network(conv_net(), SIZE), torch.full((2, 3, *SIZE), 0.5), samples=10, segments=1)
    assert found.values.isfinite().all()
    assert found.values.unique().numel() <= 2


def test_progress_and_network_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    module, said = conv_net(), []
    net = network(module, SIZE)
    with untouched(module):
        lime(net, patches().float(), samples=20, on_progress=lambda *pair: said.append(pair))
        monkeypatch.setattr(module_of, "_fitted", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lime(net, patches().float(), samples=20)
    assert said[-1] == (40, 40)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"samples": 1}, "2 samples or more, not 1"),
        ({"segments": 0}, "1 superpixel or more, not 0"),
        ({"compactness": 0.0}, "above 0, not 0"),
        ({"width": 0.0}, "the width of a kernel is above 0"),
        ({"ridge": -1.0}, "0 or more, not -1"),
        ({"baseline": "grey"}, "there is no baseline 'grey'"),
        ({"target": "second/4", "of": "probability"}, "leave out --of"),
    ],
)
def test_refused(net: Network, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        lime(net, patches(), **{"samples": 4, "segments": 9, **options})
