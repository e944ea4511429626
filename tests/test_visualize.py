"""Feature visualization: every option does what it says, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import inward
from helpers import conv_net, network
from inward.columns.directions import Direction
from inward.columns.objectives import Channel
from inward.errors import CallError
from inward.methods import recipe
from inward.methods.rendering import passes_kept
from inward.methods.visualize import visualize
from inward.network import Network
from inward.results import Visualization

SIZE = (9, 7)
# Without augmentation and redirected gradients, the history is of the picture and the unit alone.
PLAIN: dict[str, Any] = {"augment": "none", "redirect": 0, "precision": "full"}
UNITS = ("conv/2", "second/3", "class:1")

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def net() -> Network:
    return network(conv_net(), SIZE)


@pytest.fixture(scope="module")
def double(net: Network) -> Network:
    return net.to(dtype=torch.float64)


def value(net: Network, images: Tensor, address: str) -> Tensor:
    """What a unit says of pictures: (N,)."""
    with torch.no_grad():
        found = net.trace(images.to(net.dtype), address)[address]
    return found.flatten(1).mean(1) if found.ndim > 1 else found


def same(first: Visualization, second: Visualization) -> bool:
    """float64: colors of one picture are mixed by another product than those of several, and round otherwise."""
    ours, theirs = first.arrays(), second.arrays()
    shapes = all(ours[name].shape == theirs[name].shape for name in ours)
    return shapes and all(torch.allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-11) for name in ours)


def test_it_rises_and_the_final_is_the_units_own_value(net: Network) -> None:
    found = visualize(net, UNITS, steps=24, **PLAIN)
    start = visualize(net, UNITS, steps=0, **PLAIN)
    assert found.images.shape == (3, 3, *SIZE)
    assert found.history.shape == (24, 3)
    assert start.history.shape == (0, 3)
    for i, unit in enumerate(UNITS):
        # float32: a convolution of one picture and of three.
        assert found.final[i].item() == pytest.approx(value(net, found.images[i : i + 1], unit).item(), rel=1e-5)
        assert found.history[0, i].item() == pytest.approx(start.final[i].item(), rel=1e-5)
        assert found.final[i] > found.history[-1, i] > found.history[0, i]
    assert found.addresses == UNITS
    assert found.starts == ("noise",) * 3


@pytest.mark.parametrize("augment", ["none", "standard"])
def test_negative_goes_down_and_tells_the_unit_itself(net: Network, augment: str) -> None:
    options = {**PLAIN, "augment": augment}
    start, down, up = (
        visualize(net, UNITS, steps=steps, negative=negative, **options)
        for steps, negative in ((0, True), (24, True), (24, False))
    )
    assert (down.final < start.final).all()
    assert (up.final > start.final).all()
    for i, unit in enumerate(UNITS):
        assert down.final[i].item() == pytest.approx(value(net, down.images[i : i + 1], unit).item(), rel=1e-5)
    # The history has the unit's sign too.
    assert (down.history[-1] < down.history[0]).all()
    assert down.record.parameters["negative"] is True


def alikeness(net: Network, images: Tensor, point: str) -> float:
    """The mean cosine of the Gram matrices of every two pictures, computed plainly."""
    with torch.no_grad():
        features = net.trace(images, point).features(point).flatten(2).double()
    grams = torch.nn.functional.normalize((features @ features.transpose(1, 2)).flatten(1), dim=1)
    pairs = [(i, j) for i in range(len(images)) for j in range(i)]
    return float(np.mean([(grams[i] @ grams[j]).item() for i, j in pairs]))


def test_diverse_pictures_are_less_alike(double: Network) -> None:
    units = ["second/3", "second/5", "class:1"]
    alike, unlike = (
        visualize(double, units, steps=30, diverse=3, diversity=strength, **PLAIN) for strength in (0.0, 4.0)
    )
    for found in (alike, unlike):
        assert (found.images.shape, found.variants.shape) == ((3, 3, *SIZE), (3, 2, 3, *SIZE))
        assert found.variants_final.shape == (3, 2)
    for i, unit in enumerate(units):
        point = "second"
        sets = [torch.cat([found.images[i : i + 1], found.variants[i]]) for found in (alike, unlike)]
        near, far = (1 - alikeness(double, pictures, point) for pictures in sets)
        assert far > 1.5 * near > 0
        told = torch.cat([unlike.final[i : i + 1], unlike.variants_final[i]])
        torch.testing.assert_close(told, value(double, sets[1], unit), rtol=1e-12, atol=0)
        # A unit's pictures know nothing of those of others.
        assert same(visualize(double, unit, steps=30, diverse=3, diversity=4.0, **PLAIN), unlike[i])
    one = unlike[1].measures()
    assert len(one["variants"]) == 2
    # The first of several that need not differ is the one that is made alone.
    assert (alike.images - visualize(double, units, steps=30, **PLAIN).images).abs().max() < 1e-11


def test_settled_pictures_stop_and_are_the_same_as_alone(double: Network) -> None:
    # Units of one point are in one batch, and leave it one after the other.
    units = ["second/3", "second/5", "second/1"]
    options = {**PLAIN, "steps": 300, "settle": 0.1}
    found = visualize(double, units, **options)
    passes = found.passes.tolist()
    assert all(64 <= count < 300 for count in passes)
    assert len(set(passes)) > 1
    assert len(found.history) == max(passes)
    for i, unit in enumerate(units):
        assert len(found[i].history) == passes[i]
        assert same(visualize(double, unit, **options), found[i])
        assert same(visualize(double, unit, **{**options, "settle": 0.0, "steps": passes[i]}), found[i])
        # What stays in the rows below is the last score.
        assert (found.history[passes[i] - 1 :, i] == found.history[passes[i] - 1, i]).all()


def test_settled_groups_leave_together(double: Network) -> None:
    units = ["second/3", "second/5"]
    found = visualize(double, units, steps=200, settle=0.1, diverse=2, **PLAIN)
    assert found.passes.max() < 200
    assert len(set(found.passes.tolist())) == 2
    for i, unit in enumerate(units):
        assert same(visualize(double, unit, steps=200, settle=0.1, diverse=2, **PLAIN), found[i])


def test_snapshots_are_the_pictures_of_shorter_runs(double: Network) -> None:
    found = visualize(double, ["second/3", "class:1"], steps=8, snapshots=3, precision="full")
    assert found.snapshots.shape == (2, 3, 3, *SIZE)
    for k, steps in enumerate((2, 4, 6)):
        assert torch.equal(visualize(double, ["second/3", "class:1"], steps=steps).images, found.snapshots[:, k])
    # They do not change the picture.
    assert torch.equal(visualize(double, ["second/3", "class:1"], steps=8).images, found.images)


def test_snapshots_of_a_settled_picture_show_it_as_it_was_left(double: Network) -> None:
    found = visualize(double, "conv/2", steps=300, settle=0.03, snapshots=2, **PLAIN)
    assert 64 <= int(found.passes[0]) < 200
    assert not torch.equal(found.snapshots[0, 0], found.images[0]) or int(found.passes[0]) <= 100
    assert torch.equal(found.snapshots[0, 1], found.images[0])


@pytest.mark.parametrize(
    ("snapshots", "steps", "kept"),
    [(0, 0, ()), (0, 9, ()), (1, 2, (1,)), (1, 9, (4,)), (3, 8, (2, 4, 6)), (4, 5, (1, 2, 3, 4)), (2, 256, (85, 170))],
)
def test_passes_that_are_kept(snapshots: int, steps: int, kept: tuple[int, ...]) -> None:
    assert passes_kept(snapshots, steps) == kept


@pytest.mark.parametrize(("snapshots", "steps"), [(1, 1), (5, 5), (-1, 5), (1, 0)])
def test_snapshots_that_are_not_on_the_way(snapshots: int, steps: int) -> None:
    with pytest.raises(CallError, match=f"0 to {max(0, steps - 1)} snapshots on a way of {steps} steps"):
        passes_kept(snapshots, steps)


def blurred(images: Tensor) -> Tensor:
    """The mean over 3 x 3 pixels in which the center counts twice; of those that there are."""
    found = torch.zeros_like(images)
    height, width = images.shape[2:]
    for y in range(height):
        for x in range(width):
            near = [(v, u) for v in (y - 1, y, y + 1) for u in (x - 1, x, x + 1) if 0 <= v < height and 0 <= u < width]
            weights = [1.0 if place == (y, x) else 0.5 for place in near]
            total = sum(w * images[..., v, u] for w, (v, u) in zip(weights, near, strict=True))
            found[..., y, x] = total / sum(weights)
    return found


QUANTITIES = {
    "l1": lambda x: (x - 0.5).abs().sum((1, 2, 3)),
    "l2": lambda x: x.square().sum((1, 2, 3)),
    "tv": lambda x: x.diff(dim=2).abs().sum((1, 2, 3)) + x.diff(dim=3).abs().sum((1, 2, 3)),
    "blur": lambda x: (x - blurred(x)).square().sum((1, 2, 3)),
}


@pytest.mark.parametrize(("name", "weight"), [("l1", 0.05), ("l2", 0.05), ("tv", 0.05), ("blur", 0.5)])
@pytest.mark.parametrize("parameterization", ["fourier", "pixels"])
def test_penalties_lower_what_they_are_of(double: Network, name: str, weight: float, parameterization: str) -> None:
    options = {**PLAIN, "steps": 40, "parameterization": parameterization}
    free, held = (visualize(double, UNITS, **options, **more) for more in ({}, {name: weight}))
    quantity = QUANTITIES[name]
    assert (quantity(held.images) < 0.9 * quantity(free.images)).all()
    # The unit's own value is told, with nothing taken off; it pays for the penalty.
    assert (held.final < free.final).all()
    for i, unit in enumerate(UNITS):
        own = value(double, held.images[i : i + 1], unit).item()
        assert held.final[i].item() == pytest.approx(own, rel=1e-12)
    # The history has the penalty in it: at the start, that of the start.
    gap = free.history[0] - held.history[0]
    start = visualize(double, UNITS, **{**options, "steps": 0}).images
    expected = weight * quantity(start) * (0.5 if name == "blur" else 1)
    torch.testing.assert_close(gap, expected, rtol=1e-9, atol=1e-12)


def test_transparent_where_nothing_matters(double: Network, tmp_path: Path) -> None:
    """A neuron sees 3 x 3 pixels about its place: there the picture is opaque, and elsewhere it is not."""
    places = {"conv/2@4,2": (4, 2), "conv/4@6,5": (6, 5)}
    found = visualize(double, list(places), steps=150, transparent=True, augment="none", redirect=0)
    assert found.images.shape == (2, 4, *SIZE)
    for i, (unit, (y, x)) in enumerate(places.items()):
        assert found.final[i] > 0
        alpha = found.images[i, 3]
        sees = torch.zeros(SIZE, dtype=torch.bool)
        sees[y - 1 : y + 2, x - 1 : x + 2] = True
        assert alpha[sees].mean() > alpha[~sees].mean() + 0.2
        gray = 0.5 + alpha * (found.images[i, :3] - 0.5)
        # On mid-gray, as the network is shown it.
        assert found.final[i].item() == pytest.approx(value(double, gray[None], unit).item(), rel=1e-12)
        with Image.open(found[i].save(tmp_path / str(i)) / "picture.png") as picture:
            assert picture.mode == "RGBA"
            assert picture.getextrema()[3][0] < 80


def test_starts(double: Network, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    files = []
    for name in ("one.png", "two.png"):
        Image.fromarray(generator.integers(0, 256, (*SIZE, 3)).astype(np.uint8)).save(tmp_path / name)
        files.append(str(tmp_path / name))
    shown = inward.read(files, double).double()
    options = {**PLAIN, "steps": 0, "parameterization": "pixels"}
    assert (visualize(double, UNITS, start="gray", **options).images == 0.5).all()
    one = visualize(double, UNITS[:2], start=files[0], **options)
    assert torch.equal(one.images, shown[[0, 0]])
    both = visualize(double, UNITS, start=[files[1], "gray", files[0]], **options)
    assert torch.equal(both.images[[0, 2]], shown[[1, 0]])
    assert (both.images[1] == 0.5).all()
    assert both.starts == (files[1], "gray", files[0])
    noise = visualize(double, UNITS, start="noise", **options).images
    # Gray with a spread of 0.01 over the pixels, another for each.
    assert noise.flatten(1).std(1, correction=0).tolist() == pytest.approx([0.01] * 3, rel=1e-6)
    assert not torch.equal(noise[0], noise[1])
    # What squashes its pixels comes back to them, but for those close to 0 and 1.
    fourier = visualize(double, UNITS[0], start=files[0], **{**options, "parameterization": "fourier"})
    assert (fourier.images[0] - shown[0]).abs().max() < 2e-4
    diverse = visualize(double, UNITS[0], start=files[0], diverse=2, **options)
    assert torch.equal(diverse.variants[0, 0], shown[0])
    for starts, words in ((["gray", "noise"], "2 starts for 3 pictures"), ([], "0 starts for 3 pictures")):
        with pytest.raises(CallError, match=words):
            visualize(double, UNITS, start=starts, **options)
    with pytest.raises(inward.InwardError, match="there is no file"):
        visualize(double, UNITS, start=str(tmp_path / "none.png"), **options)


@pytest.mark.parametrize("parameterization", ["fourier", "pixels", "cppn", "maco", "pyramid"])
def test_every_parameterization_rises(net: Network, parameterization: str) -> None:
    options = {**PLAIN, "parameterization": parameterization}
    start, found = (visualize(net, UNITS, steps=steps, **options) for steps in (0, 40))
    assert found.images.shape == (3, 3, *SIZE)
    assert 0 <= found.images.min() < found.images.max() <= 1
    assert (found.final > start.final + 0.02 * start.final.abs()).all()
    assert found.record.parameters["lr"] == recipe.RATES[parameterization]


def test_augmentations_by_name(net: Network) -> None:
    units = ["second/3", "class:1"]
    found = {
        name: visualize(net, units, steps=5, augment=name, redirect=0, precision="full")
        for name in ("none", "standard", "crops", "color")
    }
    pictures = [one.images for one in found.values()]
    assert all(not torch.equal(a, b) for i, a in enumerate(pictures) for b in pictures[:i])
    # Another seed of the changes is another picture: but the start has that seed too, so from gray.
    gray = [visualize(net, units, steps=5, start="gray", seed=seed, precision="full").images for seed in (0, 1)]
    assert not torch.equal(gray[0], gray[1])
    still = [visualize(net, units, steps=5, start="gray", seed=seed, **PLAIN).images for seed in (0, 1)]
    assert torch.equal(still[0], still[1])


@pytest.mark.parametrize(
    ("address", "terms"),
    [
        ("conv/1 + 0.5 * conv/2", {"conv/1": 1, "conv/2": 0.5}),
        ("conv/1 - 2 * second/3", {"conv/1": 1, "second/3": -2}),
        ("-0.5 * conv/1 + class:1", {"conv/1": -0.5, "class:1": 1}),
        ("-1 * conv/1", {"conv/1": -1}),
        ("1e-05 * conv/1 + 3 * conv/2@4,2", {"conv/1": 1e-5, "conv/2@4,2": 3}),
    ],
)
def test_sums_of_addresses(double: Network, address: str, terms: dict[str, float]) -> None:
    start, found = (visualize(double, [address, "conv/0"], steps=steps, **PLAIN) for steps in (0, 12))
    assert found.addresses == (address, "conv/0")
    own = sum(factor * value(double, found.images[:1], name).item() for name, factor in terms.items())
    assert found.final[0].item() == pytest.approx(own, rel=1e-12)
    assert found.final[0] > start.final[0]


def test_objectives_that_are_made_in_python(double: Network) -> None:
    vector = torch.arange(8.0, dtype=torch.float64) - 3
    objectives = {"toward": Direction("second", vector), "twice": 2 * Channel("conv/1")}
    found = visualize(double, objectives, steps=10, **PLAIN)
    assert found.addresses == ("toward", "twice")
    assert found.final[1].item() == pytest.approx(2 * value(double, found.images[1:], "conv/1").item(), rel=1e-12)
    assert torch.equal(found.images[1:], visualize(double, {"twice": objectives["twice"]}, steps=10, **PLAIN).images)
    assert "rerun cannot" in found.record.notes[0]
    assert visualize(double, "conv/1", steps=0).record.notes == ()
    with pytest.raises(CallError, match="leave out objective"):
        visualize(double, objectives, objective="neuron")
    with pytest.raises(CallError, match="no unit is named"):
        visualize(double, {})


UNITS_APART = ["conv/1", "second/3", "conv/0", "class:1", "second/5", "conv/2", "conv/3", "conv/4"]


@pytest.mark.parametrize("parameterization", ["fourier", "pixels", "maco", "cppn"])
def test_pictures_do_not_depend_on_the_batch(double: Network, parameterization: str) -> None:
    """Nor on their order: points alternate, and each has batches of its own."""
    options = {"steps": 12, "parameterization": parameterization}
    found = visualize(double, UNITS_APART, **options)
    assert found.addresses == tuple(UNITS_APART)
    for batch in (1, 2, 5):
        assert same(visualize(double, UNITS_APART, batch=batch, **options), found)
    turned = visualize(double, UNITS_APART[::-1], batch=3, **options)
    assert all(same(turned[7 - i], found[i]) for i in range(8))
    # And they are told apart.
    assert all((found.images[i] - found.images[j]).abs().max() > 1e-3 for i in range(8) for j in range(i))


def test_pixels_are_the_same_to_the_bit(double: Network) -> None:
    options = {**PLAIN, "steps": 12, "parameterization": "pixels"}
    found = visualize(double, UNITS_APART, **options).images
    assert all(torch.equal(visualize(double, UNITS_APART, batch=batch, **options).images, found) for batch in (1, 2, 5))


def test_mixed_precision_does_not_depend_on_the_batch(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inward.network.lean.has_half", lambda _: True)
    options = {**PLAIN, "steps": 8, "precision": "mixed"}
    found = visualize(net, UNITS_APART, **options)
    assert found.record.parameters["precision"] == "mixed"
    full = visualize(net, UNITS_APART, **{**options, "precision": "full"})
    # Products in bfloat16 have 8 bits: the history says so, and the final score is the network's own.
    gap = (found.history[0] - full.history[0]).abs() / full.history[0].abs()
    assert 1e-5 < gap.max() < 0.05
    for i, unit in enumerate(UNITS_APART):
        assert found.final[i].item() == pytest.approx(value(net, found.images[i : i + 1], unit).item(), rel=1e-5)
    for batch in (1, 2, 5):
        again = visualize(net, UNITS_APART, batch=batch, **options)
        # Rounding of float32 decides now and then how a number rounds to bfloat16.
        assert (again.images - found.images).abs().max() < 0.02


def test_redirected_passes_are_counted(net: Network) -> None:
    # A class lies behind two ReLUs, a unit of the first convolution behind none.
    found = visualize(net, ["class:1", "second/3"], steps=10, redirect=4, precision="full")
    assert found.redirected.tolist() == [4, 4]
    assert visualize(net, "class:1", steps=10, redirect=0).redirected.tolist() == [0]


def test_seeds_and_rates_change_pictures(double: Network) -> None:
    first, again, other = (visualize(double, UNITS, steps=6, seed=seed, **PLAIN) for seed in (3, 3, 4))
    assert all(torch.equal(value, again.arrays()[name]) for name, value in first.arrays().items())
    assert (first.images - other.images).abs().amax((1, 2, 3)).min() > 1e-3
    start = visualize(double, UNITS, steps=0, **PLAIN).images
    moved = [(visualize(double, UNITS, steps=1, lr=lr, **PLAIN).images - start).square().mean() for lr in (0.01, 0.02)]
    # The first step of Adam is as long as its rate.
    assert (moved[1] / moved[0]).sqrt().item() == pytest.approx(2, rel=0.05)


def test_passes_are_told_over_all_batches(double: Network) -> None:
    told: list[tuple[int, int, int]] = []
    visualize(
        double, UNITS_APART, steps=3, batch=2, on_pass=lambda now: told.append((now.done, now.total, len(now.scores)))
    )
    # conv has five units in three batches, second one of two, class one.
    assert [done for done, _, _ in told] == list(range(1, 16))
    assert {total for _, total, _ in told} == {15}
    assert [count for _, _, count in told[::3]] == [2, 2, 1, 2, 1]


def test_kinds_of_objectives(double: Network) -> None:
    found = {kind: visualize(double, "second/3", steps=0, objective=kind) for kind in ("auto", "channel", "sum")}
    assert found["sum"].final[0].item() == pytest.approx(5 * 4 * found["auto"].final[0].item(), rel=1e-12)
    assert found["channel"].final[0] == found["auto"].final[0]
    gray = visualize(double, "second/3@2,2", steps=0, start="gray").final
    assert gray == visualize(double, "second/3", steps=0, start="gray", objective="neuron").final
    with pytest.raises(CallError, match="there is no 'probability' of 'second/3'"):
        visualize(double, "second/3", objective="probability")
