"""Expected gradients: a slow loop over its draws, the expectation that it estimates, and the axioms."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from helpers import Dead, conv_net, network
from inward import CallError, InwardError, Network
from inward.columns.objectives import ClassScore
from inward.columns.paths import Draws
from inward.methods.expected_gradients import expected_gradients
from same import images, seeded, untouched

SIZE = (9, 7)
EXACT = 1e-11  # float64, some hundreds of additions

pytestmark = pytest.mark.usefixtures("single_thread")


class Smooth(nn.Module):
    """Infinitely differentiable; alike in all places, and in the two pixels of a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 6, 1), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(3 * self.conv(x)).square().mean((2, 3)))


class Flat(nn.Module):
    """Linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * SIZE[0] * SIZE[1], 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    return conv_net().double()


@pytest.fixture(scope="module")
def net(module: nn.Module) -> Network:
    return network(module, SIZE)


@pytest.fixture(scope="module")
def smooth() -> Network:
    return network(seeded(Smooth).double(), SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures of noise, of the size that the network is shown."""
    made = tmp_path_factory.mktemp("references")
    for k, picture in enumerate(np.random.default_rng(3).integers(0, 256, (7, *SIZE, 3), dtype=np.uint8)):
        Image.fromarray(picture).save(made / f"{k}.png")
    (made / "notes.txt").write_text("no picture")
    return made


def read(file: Path) -> Tensor:
    return torch.from_numpy(np.asarray(Image.open(file)).transpose(2, 0, 1).astype(np.float64) / 255)


def slope(score: Callable[[Tensor], Tensor], point: Tensor) -> Tensor:
    point = point[None].clone().requires_grad_(True)
    return torch.autograd.grad(score(point).sum(), point)[0][0]


def slow(score: Any, x: Tensor, starts: list[Tensor], samples: int, seed: int) -> Tensor:
    """One image and one draw at a time."""
    maps = []
    for i, image in enumerate(x):
        terms = [
            (image - starts[b]) * slope(lambda v, i=i: score(v, i), starts[b] + t * (image - starts[b]))
            for b, t in Draws(len(starts), samples, seed)()
        ]
        maps.append(sum(terms) / samples)
    return torch.stack(maps)


def of_class(module: nn.Module, *classes: int) -> Any:
    return lambda v, i: module(v)[:, classes[i % len(classes)]]


@pytest.mark.parametrize("samples", [3, 8, 11])
def test_is_a_slow_loop_over_given_images(net: Network, samples: int) -> None:
    x, starts = images(3, 3, *SIZE).double(), list(images(9, 3, *SIZE).double()[3:7])
    found = expected_gradients(
        net, x, target=["class:4", "class:0", "class:4"], baseline=starts, samples=samples, seed=3
    )
    expected = slow(of_class(conv_net().double(), 4, 0, 4), x, starts, samples, 3)
    assert expected.abs().max() > 0
    assert (found.values - expected).abs().max() <= EXACT * expected.abs().max()
    assert (found.scores - net(x)[range(3), [4, 0, 4]]).abs().max() == 0
    assert (found.kind, found.record.parameters["baseline"]) == ("contribution", ["given"] * 4)


def test_a_folder_is_the_pictures_in_it(net: Network, folder: Path) -> None:
    x, module = images(2, 3, *SIZE).double(), conv_net().double()
    files = sorted(folder.glob("*.png"))
    found = expected_gradients(net, x, target="second/5", baseline=str(folder), samples=10)

    def score(v: Tensor, _: int) -> Tensor:
        return module.second(module.relu(module.conv(v)))[:, 5].mean((1, 2))

    expected = slow(score, x, [read(file) for file in files], 10, 0)
    # Pictures are read as float32.
    assert (found.values - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert found.record.parameters["baseline"] == [str(folder.absolute())]
    mixed = expected_gradients(net, x, target="second/5", baseline=["gray", str(folder), str(files[2])], samples=20)
    starts = [torch.full((3, *SIZE), 0.5, dtype=torch.float64), *map(read, files), read(files[2])]
    expected = slow(score, x, starts, 20, 0)
    assert (mixed.values - expected).abs().max() <= 1e-6 * expected.abs().max()
    assert mixed.record.parameters["baseline"] == ["gray", str(folder.absolute()), str(files[2].absolute())]


def test_only_what_is_drawn_is_read(net: Network, folder: Path, tmp_path: Path) -> None:
    for file in sorted(folder.glob("*.png")):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    drawn = {number for number, _ in Draws(7, 3, 0)()}
    for number in set(range(7)) - drawn:
        (tmp_path / f"{number}.png").write_bytes(b"")
    x = images(2, 3, *SIZE).double()
    found = expected_gradients(net, x, baseline=str(tmp_path), samples=3)
    assert (found.values - expected_gradients(net, x, baseline=str(folder), samples=3).values).abs().max() == 0
    with pytest.raises(InwardError, match="is empty"):
        expected_gradients(net, x, baseline=str(tmp_path), samples=7)


def expectation(module: nn.Module, x: Tensor, starts: list[Tensor]) -> Tensor:
    """By 30 Gauss-Legendre points on every line."""
    nodes, weights = np.polynomial.legendre.leggauss(30)
    return torch.stack(
        [
            sum(
                w / 2 / len(starts) * (image - b) * slope(lambda v: module(v)[:, 1], b + (n + 1) / 2 * (image - b))
                for b in starts
                for n, w in zip(nodes, weights, strict=True)
            )
            for image in x
        ]
    )


@pytest.mark.parametrize(("count", "samples"), [(3, 8), (12, 5)])
def test_it_is_unbiased_and_its_standard_error_is_on_the_safe_side(smooth: Network, count: int, samples: int) -> None:
    x, starts = images(2, 3, *SIZE).double(), list(images(14, 3, *SIZE).double()[2 : 2 + count])
    runs = [
        expected_gradients(smooth, x, target="class:1", baseline=starts, samples=samples, seed=seed)
        for seed in range(40)
    ]
    maps = torch.stack([run.values for run in runs])
    expected, spread = expectation(seeded(Smooth).double(), x, starts), maps.std(0)
    # Of 378 numbers the largest is 3 to 4 standard errors off.
    assert ((maps.mean(0) - expected).abs() / (spread / math.sqrt(40) + 1e-12)).max() < 5
    said = torch.stack([run.measured["standard_error"] for run in runs]).mean(0)
    true = (spread.flatten(1).mean(1)) / expected.abs().flatten(1).mean(1)
    assert (true > 0.01).all()
    assert ((said / true) > 0.8).all()
    assert ((said / true) < 4).all()


def test_the_error_is_what_the_shares_miss(net: Network, folder: Path) -> None:
    x, module = images(3, 3, *SIZE).double(), conv_net().double()
    found = expected_gradients(net, x, target="class:1", baseline=["black", str(folder)], samples=13, seed=2)
    starts = [torch.zeros(3, *SIZE).double(), *map(read, sorted(folder.glob("*.png")))]
    with torch.no_grad():
        beside = sum(module(starts[b][None])[0, 1] for b, _ in Draws(8, 13, 2)()) / 13
        difference = module(x)[:, 1] - beside
    missed = (difference - found.values.flatten(1).sum(1)).abs() / difference.abs()
    assert missed.max() > 1e-4
    assert (found.measured["error"] - missed).abs().max() <= 1e-5
    assert found[2].measures()["error"] == pytest.approx(missed[2].item(), abs=1e-5)


def test_of_a_linear_score_it_is_exact() -> None:
    module, x = seeded(Flat).double(), images(2, 3, *SIZE).double()
    found = expected_gradients(
        network(module, SIZE), x, target="class:1", baseline=["black", "white", "gray"], samples=6
    )
    expected = (x - 0.5) * module.fc.weight[1].detach().view(1, 3, *SIZE)
    assert (found.values - expected).abs().max() < EXACT
    assert found.measured["error"].max() < EXACT
    # Every round has the same mean: nothing is uncertain.
    assert found.measured["standard_error"].max() < 1e-7


@settings(max_examples=15, deadline=None)
@given(first=st.floats(-3, 3), second=st.floats(-3, 3))
def test_shares_are_linear_in_the_score(net: Network, first: float, second: float) -> None:
    x = images(2, 3, *SIZE).double()
    whole = expected_gradients(net, x, target=first * ClassScore(1) + second * ClassScore(3), samples=5).values
    parts = [expected_gradients(net, x, target=f"class:{k}", samples=5).values for k in (1, 3)]
    assert (whole - first * parts[0] - second * parts[1]).abs().max() < EXACT


def test_a_channel_that_is_not_used_has_no_share() -> None:
    module = conv_net().double()
    with torch.no_grad():
        module.conv.weight[:, 1] = 0  # type: ignore[union-attr, index]
    found = expected_gradients(network(module, SIZE), images(2, 3, *SIZE).double(), samples=5).values
    assert not found[:, 1].any()
    assert found[:, [0, 2]].abs().max() > 0


def test_pixels_that_are_alike_have_like_shares(smooth: Network) -> None:
    """Symmetry: the score does not tell two places apart, nor do the image and the baselines."""
    x = images(2, 3, *SIZE).double()
    x[:, :, 8, 6] = x[:, :, 0, 1]
    found = expected_gradients(smooth, x, target="class:1", baseline=["black", "gray", "white"], samples=7).values
    assert found[:, :, 0, 1].abs().min() > 0
    assert (found[:, :, 8, 6] - found[:, :, 0, 1]).abs().max() < EXACT
    assert (found[:, :, 8, 5] - found[:, :, 0, 1]).abs().max() > 1e-6


def test_progress_chunks_and_company_change_nothing(net: Network, module: nn.Module) -> None:
    x = images(3, 3, *SIZE).double()
    seen: list[tuple[int, int]] = []
    with untouched(module):
        one_by_one = expected_gradients(net.within(1), x, samples=4, on_progress=lambda *at: seen.append(at))
    together = expected_gradients(net, x, samples=4)
    assert seen == [(done, 12) for done in range(1, 13)]
    assert (one_by_one.values - together.values).abs().max() <= EXACT * together.values.abs().max()
    # The blurred image is a baseline of each image's own.
    for i in range(3):
        alone = expected_gradients(net, x[i : i + 1], baseline="blur", samples=4)
        several = expected_gradients(net, x, baseline="blur", samples=4)
        assert (alone.values[0] - several.values[i]).abs().max() <= EXACT * several.values.abs().max()


def test_a_dead_network_has_a_map_of_zeros() -> None:
    found = expected_gradients(network(seeded(Dead), SIZE), images(2, 3, *SIZE), target="class:0", samples=5)
    assert not found.values.any()
    assert found[0].measures()["absolute_error"] == 0
    assert found[0].measures()["standard_error"] == 0


def test_one_draw_tells_no_standard_error(net: Network) -> None:
    found = expected_gradients(net, images(2, 3, *SIZE).double(), baseline="black", samples=1)
    assert "standard_error" not in found[0].measures()


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ({"samples": 0}, CallError, "1 sample or more, not 0"),
        ({"baseline": []}, CallError, "there is no baseline; name one"),
        ({"baseline": "bleak"}, CallError, "no baseline 'bleak'"),
        ({"baseline": torch.zeros(3, 4, 4)}, CallError, "the baseline has the shape"),
        ({"baseline": [2 * torch.ones(3, *SIZE)]}, CallError, "must be in"),
        ({"baseline": str(Path(__file__).parent)}, InwardError, "holds no pictures"),
        ({"baseline": __file__}, InwardError, "is not a picture"),
    ],
)
def test_senseless_options_are_refused(net: Network, options: dict[str, Any], error: Any, reason: str) -> None:
    with pytest.raises(error, match=reason):
        expected_gradients(net, images(2, 3, *SIZE).double(), **options)
