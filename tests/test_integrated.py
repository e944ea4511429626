"""Integrated gradients: complete to the error that it reports, and equal to Captum at equal points."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import networks
from helpers import Dead, conv_net, network
from inward import CallError, InwardError, Network
from inward.columns.objectives import ClassScore
from inward.errors import Unconverged
from inward.gradient import mean_gradient
from inward.methods.integrated import integrated_gradients
from same import images, seeded

SIZE = (9, 7)
# Captum rounds the weights of its points to float32, also where all else is float64.
PEERS = 1e-7
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net().double(), SIZE)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return images(3, 3, *SIZE, dtype=torch.float64)


def rise(net: Network, x: Tensor, baseline: Tensor, k: int) -> Tensor:
    return (net(x) - net(baseline.expand_as(x)))[:, k]


def total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)


BASELINES: dict[str, Any] = {
    "black": lambda x: torch.zeros_like(x),
    "gray": lambda x: torch.full_like(x, 0.5),
    "white": lambda x: torch.ones_like(x),
    "noise": None,
    "blur": None,
}


@pytest.mark.parametrize("baseline", BASELINES)
def test_complete_to_the_error_that_it_reports(net: Network, x: Tensor, baseline: str) -> None:
    found = integrated_gradients(net, x, target="class:3", baseline=baseline, tolerance=0.01)
    make = BASELINES[baseline]
    if make is not None:
        difference = rise(net, x, make(x), 3)
        missed = (difference - total(found.values)) / difference.abs()
        torch.testing.assert_close(missed, found.measured["signed_error"], rtol=0, atol=1e-9)
    assert found.measured["error"].max() <= 0.01
    assert (found.measured["signed_error"].abs() <= found.measured["error"] + 1e-12).all()
    assert found.measured["absolute_error"].isnan().all()
    assert found.kind == "contribution"
    assert found.record.parameters["baseline"] == [baseline]


def test_the_blur_is_of_the_image_and_the_noise_of_the_seed(net: Network, x: Tensor) -> None:
    blurred = [integrated_gradients(net, x[i : i + 1], target="class:3", baseline="blur").values for i in range(2)]
    assert (blurred[0] - blurred[1]).abs().max() > 1e-3
    noise = [integrated_gradients(net, x, target="class:3", baseline="noise", seed=s).values for s in (0, 0, 1)]
    assert torch.equal(noise[0], noise[1])
    assert (noise[0] - noise[2]).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [1, 20, 50])
def test_fixed_steps_are_captum_s(net: Network, x: Tensor, steps: int) -> None:
    """Captum 0.9: IntegratedGradients(module), method="gausslegendre", the same baseline and steps."""
    captum = pytest.importorskip("captum.attr")
    baseline = images(3, 3, *SIZE, dtype=torch.float64).flip(0) * 0.3
    theirs = captum.IntegratedGradients(conv_net().double()).attribute(
        x, baselines=baseline, target=torch.tensor([3, 1, 0]), n_steps=steps, method="gausslegendre"
    )
    targets = ["class:3", "class:1", "class:0"]
    ours = integrated_gradients(net, x, target=targets, baseline=baseline, steps=steps)
    assert (ours.values - theirs).abs().max() <= PEERS * theirs.abs().max()
    assert ours.measured["points"].tolist() == [steps] * 3
    # One interval: its own error is the error of the whole.
    torch.testing.assert_close(ours.measured["error"], ours.measured["signed_error"].abs(), rtol=0, atol=1e-15)
    _, mean = mean_gradient(net, x, ClassScore((3, 1, 0)), inward_line(baseline, steps))
    torch.testing.assert_close(ours.values, mean * (x - baseline), rtol=0, atol=1e-12)


def inward_line(baseline: Tensor, steps: int) -> Any:
    from inward.columns.paths import Line

    return Line(baseline, steps)


@pytest.mark.parametrize("at", ["conv", "relu", "second"])
def test_a_layer_s_are_captum_s(net: Network, x: Tensor, at: str) -> None:
    """Captum 0.9: LayerIntegratedGradients, attribute_to_layer_input=False, method="gausslegendre"."""
    captum = pytest.importorskip("captum.attr")
    module = conv_net().double()
    theirs = captum.LayerIntegratedGradients(module, getattr(module, at)).attribute(
        x, baselines=torch.zeros_like(x), target=3, n_steps=30, method="gausslegendre"
    )
    ours = integrated_gradients(net, x, target="class:3", at=at, steps=30)
    assert ours.at == at
    assert (ours.values - theirs).abs().max() <= PEERS * theirs.abs().max()
    exact = integrated_gradients(net, x, target="class:3", at=at, tolerance=0.02)
    difference = rise(net, x, torch.zeros_like(x), 3)
    assert ((difference - total(exact.values)).abs() <= 0.02 * difference.abs()).all()


class Branch(nn.Module):
    """Half of the answer goes around the point ``middle``; a token axis stands before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 4, 3, stride=2)
        self.middle = nn.Linear(4, 4)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).permute(2, 0, 1)
        return self.fc((self.middle(tokens).tanh() * tokens.sigmoid()).mean(0))


def test_what_goes_around_a_point_stays_as_the_image_has_it() -> None:
    net = network(seeded(Branch).double(), SIZE)
    x = images(3, 3, *SIZE, dtype=torch.float64)
    found = integrated_gradients(net, x, target="class:1", at="middle", tolerance=1e-6)
    shape = net.trace(x, "middle")["middle"].shape
    assert shape[1] == 3
    assert found.values.shape == (3, shape[0], 4)
    begun, end = (net.trace(i, "middle")["middle"] for i in (torch.zeros_like(x), x))
    ends = [net.run(x, ["class"], {"middle": value})[0][:, 1] for value in (begun, end)]
    torch.testing.assert_close(ends[1], net(x)[:, 1], rtol=0, atol=0)
    torch.testing.assert_close(total(found.values), ends[1] - ends[0], rtol=1e-6, atol=0)


def test_a_convolution_before_a_normalization_has_a_path() -> None:
    """Loops fold the one into the other; there must still be a way from the convolution."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(140, 5))
    net = network(seeded(lambda: module).double(), SIZE)
    x = images(2, 3, *SIZE, dtype=torch.float64)
    found = integrated_gradients(net, x, target="class:1", at="0", tolerance=1e-4)
    difference = rise(net, x, torch.zeros_like(x), 1)
    torch.testing.assert_close(total(found.values), difference, rtol=1e-4, atol=0)


def test_several_baselines_are_averaged(net: Network, x: Tensor) -> None:
    single = [integrated_gradients(net, x, target="class:2", baseline=b, steps=9) for b in ("black", "noise")]
    given_one = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    single.append(integrated_gradients(net, x, target="class:2", baseline=given_one, steps=9))
    joint = integrated_gradients(net, x, target="class:2", baseline=["black", "noise", given_one], steps=9)
    torch.testing.assert_close(joint.values, torch.stack([s.values for s in single]).mean(0), rtol=0, atol=1e-12)
    assert joint.measured["points"].tolist() == [27] * 3
    assert joint.record.parameters["baseline"] == ["black", "noise", "given"]
    assert any("cannot be computed again" in note for note in joint.record.notes)
    assert single[0].record.notes == ()


def test_a_small_difference_has_an_absolute_error(net: Network, x: Tensor) -> None:
    """The baseline is the image but for one pixel; another image of the batch has an ordinary one."""
    baseline = x.clone()
    baseline[0, 0, 0, 0] += 1e-4 if x[0, 0, 0, 0] < 0.5 else -1e-4
    baseline[1:] = 0
    found = integrated_gradients(net, x, target="class:3", baseline=baseline)
    spread = net(x).amax(1) - net(x).amin(1)
    assert rise(net, x[:1], baseline[:1], 3).abs().item() < 1e-3 * spread[0]
    first, second = found[0].measures(), found[1].measures()
    assert set(first) == {"target", "score", "score_kind", "absolute_error", "absolute_signed_error", "points"}
    assert set(second) == {"target", "score", "score_kind", "error", "signed_error", "points"}
    missed = rise(net, x, baseline, 3) - total(found.values)
    assert first["absolute_signed_error"] == pytest.approx(missed[0].item(), abs=1e-12)


def test_a_tolerance_out_of_reach_gives_the_map_its_error_and_a_warning(net: Network, x: Tensor) -> None:
    with pytest.warns(Unconverged, match=r"3 of 3 maps did not reach the tolerance of 1e-09"):
        found = integrated_gradients(net, x, target="class:3", tolerance=1e-9, most=40)
    assert found.measured["points"].tolist() == [39, 39, 39]
    error = found.measured["error"]
    assert error.min() > 1e-9
    missed = ((rise(net, x, torch.zeros_like(x), 3) - total(found.values)) / rise(net, x, torch.zeros_like(x), 3)).abs()
    assert (missed <= error + 1e-12).all()
    assert found[1].notes() == (f"the error is {error[1]:.2g} after 39 gradients, above the tolerance of 1e-09",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert integrated_gradients(net, x, target="class:3", tolerance=0.5)[0].notes() == ()


def test_the_reported_error_is_that_of_the_exact_integral(net: Network, x: Tensor) -> None:
    """Recomputed with 1000 points: what the map as a whole misses is within the sum of the errors."""
    found = integrated_gradients(net, x, target="class:3", tolerance=0.05)
    exact = integrated_gradients(net, x, target="class:3", steps=1000)
    difference = rise(net, x, torch.zeros_like(x), 3).abs()
    missed = (total(found.values) - total(exact.values)).abs() / difference
    assert (missed <= found.measured["error"] + exact.measured["error"]).all()
    assert exact.measured["error"].max() < 5e-3


def test_targets_inside_and_several_at_once(net: Network, x: Tensor) -> None:
    found = integrated_gradients(net, x, target="second/5@4,1", tolerance=1e-4)
    values = [net.trace(i, "second/5@4,1")["second/5@4,1"] for i in (x, torch.zeros_like(x))]
    torch.testing.assert_close(total(found.values), values[0] - values[1], rtol=1e-4, atol=0)
    both = integrated_gradients(net, x, target="class:1 - class:3", steps=12).values
    one, three = (integrated_gradients(net, x, target=f"class:{k}", steps=12).values for k in (1, 3))
    torch.testing.assert_close(both, one - three, rtol=0, atol=1e-12)


@given(a=st.floats(-3, 3), b=st.floats(-3, 3))
@settings(max_examples=6, deadline=None)
def test_linearity(net: Network, a: float, b: float) -> None:
    x = images(2, 3, *SIZE, dtype=torch.float64)
    both = integrated_gradients(net, x, target=a * ClassScore(0) + b * ClassScore(4), steps=3).values
    one, two = (integrated_gradients(net, x, target=f"class:{k}", steps=3).values for k in (0, 4))
    torch.testing.assert_close(both, a * one + b * two, rtol=0, atol=1e-11)


class Symmetric(nn.Module):
    """The first two pixels of a row are treated alike, the last not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        pair = x[:, 0, :, 0] * x[:, 0, :, 1]
        return torch.stack([(self.scale * pair).tanh().sum(1), pair.sum(1)], 1)


@pytest.fixture(scope="module")
def symmetric() -> Network:
    return network(Symmetric().eval(), (2, 3), channels=1)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_symmetry_and_dummy(symmetric: Network, seed: int) -> None:
    x = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x[..., 1] = x[..., 0]
    values = integrated_gradients(symmetric, x, target="class:0").values
    torch.testing.assert_close(values[..., 0], values[..., 1], rtol=0, atol=1e-14)
    assert values[..., 2].abs().max() == 0


@pytest.mark.parametrize("seen", [1, 2, 7])
def test_the_chunk_changes_nothing(net: Network, x: Tensor, seen: int) -> None:
    """A budget of memory for so many images."""
    from inward.network.room import bytes_of

    plain = integrated_gradients(net, x, target="class:3")
    budget = net.within(int(3.5 * seen * bytes_of(net, ["class"], SIZE)))
    found = integrated_gradients(budget, x, target="class:3")
    torch.testing.assert_close(found.values, plain.values, rtol=0, atol=1e-12)
    assert torch.equal(found.measured["points"], plain.measured["points"])


def test_the_rule_that_was_used_is_recorded(net: Network, x: Tensor) -> None:
    names = ("tolerance", "most", "steps")

    def recorded(**options: Any) -> tuple[Any, ...]:
        parameters = integrated_gradients(net, x[:1], target="class:3", **options).record.parameters
        return tuple(parameters[name] for name in names)

    assert recorded() == (0.02, 1024, None)
    assert recorded(tolerance=0.5, most=99) == (0.5, 99, None)
    assert recorded(steps=4) == (None, None, 4)


def test_progress_is_told(net: Network, x: Tensor) -> None:
    told: list[tuple[int, int]] = []
    found = integrated_gradients(net, x, target="class:3", steps=10, on_progress=lambda *now: told.append(now))
    assert told[-1] == (30, 30)
    assert found.measured["points"].sum() == 30


def test_a_dead_network_has_a_map_of_zeros() -> None:
    net = network(seeded(Dead), SIZE)
    found = integrated_gradients(net, images(2, 3, *SIZE), target="class:0")
    assert found.values.abs().max() == 0
    assert found[0].measures()["absolute_error"] == 0
    assert found[0].notes() == ("the map is exactly 0: class:0 is dead on this image",)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tolerance": 0.0}, "a tolerance is a share above 0"),
        ({"tolerance": float("nan")}, "a tolerance is a share above 0"),
        ({"most": 8}, "9 gradients or more, not 8"),
        ({"steps": 0}, "steps counts points from 1 up, not 0"),
        (
            {"steps": 50, "tolerance": 0.02},
            "steps is a fixed number of points, and tolerance says when to stop; give one",
        ),
        ({"steps": 50, "most": 100}, "steps is a fixed number of points, and most says when to stop"),
        ({"tolerance": 5.0}, "above 0 and at most 1, such as 0.02, not 5"),
        ({"baseline": torch.zeros(3, 9, 8)}, r"the baseline has the shape \(3, 9, 8\) for images of \(2, 3, 9, 7\)"),
        ({"baseline": torch.zeros(3, 3, 9, 7)}, "one baseline, or one an image"),
        ({"baseline": torch.full((3, 9, 7), 2.0)}, r"must be in \[0, 1\]"),
        ({"baseline": "pink"}, "no baseline 'pink'; write black, gray, white, mean, blur, noise"),
        ({"baseline": []}, "there is no baseline"),
        ({"at": "fc", "target": "second/1"}, "does not depend on 'fc': there is no path .* name a point before that"),
        ({"at": "conv/2"}, "'conv/2' is a unit; give at='conv'"),
        ({"at": "cnov"}, "the nearest: conv"),
        ({"target": "class:9"}, "there is no class 9"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_senseless_calls_are_refused(net: Network, options: dict, reason: str) -> None:
    with pytest.raises(CallError, match=reason):
        integrated_gradients(net, images(2, 3, *SIZE, dtype=torch.float64), **options)


def test_without_a_graph_pixels_work_and_points_are_refused() -> None:
    net = Network.of(seeded(networks.DataBranch), size=SIZE)
    x = images(2, 3, *SIZE)
    with pytest.warns(match="only its modules"):
        found = integrated_gradients(net, x, target="class:1", tolerance=0.5)
    assert found.values.abs().max() > 0
    with pytest.raises(CallError, match="there is none"):
        integrated_gradients(net, x, target="class:1", at="conv")


def test_a_picture_is_a_baseline(net: Network, x: Tensor, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (7, 9), (51, 102, 153)).save(tmp_path / "flat.png")
    found = integrated_gradients(net, x, target="class:3", baseline=str(tmp_path / "flat.png"), steps=5)
    column = torch.tensor([0.2, 0.4, 0.6], dtype=torch.float64).view(3, 1, 1).expand(3, *SIZE)
    expected = integrated_gradients(net, x, target="class:3", baseline=column, steps=5)
    # The picture is read as float32.
    torch.testing.assert_close(found.values, expected.values, rtol=0, atol=1e-7)
    assert found.record.parameters["baseline"] == [str(tmp_path / "flat.png")]
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(InwardError, match="not a picture"):
        integrated_gradients(net, x, target="class:3", baseline=str(tmp_path / "no.png"))
