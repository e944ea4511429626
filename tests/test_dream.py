"""DeepDream: tiles that are exact, octaves, guides, zooms, and what is refused."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from inward import CallError, InwardError, Network, dream, gradient, texture
from inward.columns.guided import Guided
from inward.columns.objectives import Channel, ClassScore, Energy
from inward.methods.tiles import Tiling, tiled_gradient, tiled_scores, tiling
from inward.network.spans import Steps
from same import images, seeded
from test_texture import Strided
from tiny_transformers import TinyViT

pytestmark = pytest.mark.usefixtures("single_thread")


class Classes(nn.Module):
    """Strided layers, and a mean over all positions before the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Strided()
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


@functools.cache
def net(size: tuple[int, int] = (64, 64)) -> Network:
    return Network.of(seeded(Classes), size=size)


@pytest.mark.parametrize("size", [(150, 203), (96, 97), (64, 130)])
@pytest.mark.parametrize(
    "objective", [Energy("body"), Channel("body.second/2"), Energy("body.pool") - 0.3 * Channel("body.pool/1")]
)
def test_tiles_are_exact(size: tuple[int, int], objective: Any) -> None:
    x = images(2, 3, *size)
    scores, whole = gradient(net(), x, objective)
    cut = tiling(net(), objective, 72, size)
    assert cut.is_exact
    assert len(cut.cuts(size[0], 0)) * len(cut.cuts(size[1], 1)) > 1
    found, parts = tiled_gradient(net(), x, objective, cut)
    # Asked are 1e-4; what differs is the order of sums.
    assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()
    torch.testing.assert_close(found, scores, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(tiled_scores(net(), x, objective, cut), scores, rtol=1e-5, atol=1e-7)
    if objective == Energy("body"):
        # Tiles that have not all that is seen are not the whole.
        _, cheap = tiled_gradient(net(), x, objective, cut.narrowed(2))
        assert (cheap - whole).norm() > 1e-3 * whole.norm()


class Same(nn.Module):
    """Padded as TensorFlow pads: as much as the size asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        pads = [max((-(-n // 2) - 1) * 2 + 3 - n, 0) for n in (x.shape[3], x.shape[2])]
        around = [side for p in pads for side in (p // 2, p - p // 2)]
        return self.layer(nn.functional.pad(x, around)).relu()


def test_padding_by_the_size_is_seen() -> None:
    net = Network.of(seeded(Same), size=(32, 32))
    for size, exact in (((80, 104), True), ((80, 105), False)):
        cut = tiling(net, Energy("layer"), 32, size)
        assert cut.is_exact == exact
        if exact:
            x = images(2, 3, *size)
            (_, whole), (_, parts) = gradient(net, x, Energy("layer")), tiled_gradient(net, x, Energy("layer"), cut)
            assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()
    assert "'layer' is padded by the size of the picture" in cut.why


class Untraceable(nn.Module):
    """No graph can be made of it: it asks for a number on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x).relu()
        return self.head((x * 2 if x.sum().item() > 1e9 else x).mean((2, 3)))


@pytest.mark.filterwarnings("ignore::inward.InwardWarning")
def test_without_a_graph_tiles_are_approximate_and_no_picture_is_closed() -> None:
    x, net = images(1, 3, 40, 56), Network.of(seeded(Untraceable), size=(40, 56))
    found = dream(net, x, at="layer", steps=2, octaves=1, tile=32)
    assert "what positions of 'layer' see is not known without a graph" in found.record.notes[0]
    assert found.measured["final"].item() > found.measured["before"].item()
    with pytest.raises(CallError, match="needs the network's graph"):
        texture(net, x, tile=True, steps=1)


def test_an_overlap_may_make_tiles_smaller_than_what_is_seen() -> None:
    x = images(1, 3, 100, 140)
    with pytest.raises(CallError, match="give a larger tile, or an overlap"):
        dream(net(), x, at="body", steps=1, octaves=1, tile=24)
    found = dream(net(), x, at="body", steps=1, octaves=1, tile=24, overlap=4)
    assert 1e-3 < found.measured["overlap_error"].item() < 1


def test_every_position_belongs_to_one_tile_that_sees_all_it_needs() -> None:
    cut = Tiling("x", 100, (Steps(-7, 4, 21), Steps(-13, 8, 40)))
    for axis, steps in enumerate(cut.steps or ()):
        for length in (99, 100, 101, 250, 407, 512):
            done = 0
            for one in cut.cuts(length, axis):
                assert one.first % steps.step == 0
                assert one.last - one.first <= 100
                own = one.first // steps.step + one.own
                assert own == done
                assert steps.start + steps.step * own >= one.first or one.first == 0
                if one.end is None:
                    assert one.last == length
                    break
                done = one.first // steps.step + one.end
                assert steps.start + steps.step * (done - 1) + steps.extent <= one.last
            else:
                pytest.fail("the last tile does not reach the end")
    assert cut.halo() == 16
    with pytest.raises(CallError, match="a tile of 20 pixels is smaller than the 25 that 'x' needs"):
        Tiling("x", 20, (Steps(-7, 4, 21), Steps(-7, 4, 21))).cuts(300, 0)


def test_dreams_in_tiles_are_dreams_without() -> None:
    x = images(1, 3, 100, 140)
    options: dict[str, Any] = {"at": "body", "steps": 3, "octaves": 2, "jitter": 7}
    whole, tiles = dream(net(), x, tile=0, **options), dream(net(), x, tile=72, **options)
    assert (tiles.made - whole.made).abs().max() < 1e-4
    assert tiles.record.notes == ()
    cheap = dream(net(), x, tile=72, overlap=4, **options)
    assert 1e-3 < cheap.measured["overlap_error"].item() < 1
    assert (cheap.made - whole.made).abs().max() > 1e-3


def test_where_everything_is_seen_tiles_are_approximate_and_it_is_said() -> None:
    x = images(1, 3, 100, 140)
    found = dream(net(), x, at="class:2", steps=2, octaves=1, tile=64)
    assert "every position of 'class' sees the whole picture" in found.record.notes[0]
    assert found.made.isfinite().all()
    vit = Network.of(seeded(lambda: TinyViT(grid=(2, 2))), size=(8, 8))
    cut = tiling(vit, ClassScore(1), 8, (8, 12))
    assert not cut.is_exact
    scores, slope = tiled_gradient(vit, images(2, 3, 8, 12), ClassScore(1), cut)
    # Two tiles of which the second begins where it has its whole size.
    first, second = (gradient(vit, images(2, 3, 8, 12)[..., k : k + 8], ClassScore(1)) for k in (0, 4))
    torch.testing.assert_close(scores, (first[0] + second[0]) / 2)
    torch.testing.assert_close(slope[..., :4], first[1][..., :4])
    torch.testing.assert_close(slope[..., 4:8], (first[1][..., 4:] + second[1][..., :4]) / 2)


def test_it_brings_out_what_it_is_asked_for() -> None:
    x = 0.3 + 0.4 * images(2, 3, 64, 80)
    for at in ("body", "body.second/1", "class:3", "0.5 * body + body.pool/2"):
        found = dream(net(), x, at=at, steps=4, octaves=2, octave_scale=1.5)
        assert (found.measured["final"] > found.measured["before"]).all(), at
        assert found.history.shape == (8, 2, 1)
    one, other = (dream(net(), x, at="body", steps=2, octaves=1, seed=seed) for seed in (0, 1))
    assert not torch.equal(one.made, other.made)
    # A step moves values by lr in the mean, but for those at the ends of the range.
    step = dream(net(), x, at="body", steps=1, octaves=1, lr=0.005, jitter=0)
    assert (step.made[:, 0] - x).abs().mean().item() == pytest.approx(0.005, rel=0.02)


def test_a_guide_by_hand_and_from_a_file(tmp_path: Path) -> None:
    x = images(1, 3, 64, 64)
    features = net().trace(x, ["body.second"]).features("body.second").detach()
    guide = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    found = Guided("body.second", guide)(net().trace(x, ["body.second"]))
    best = torch.stack([(guide.T @ f) for f in features[0].flatten(1).T]).amax(1)
    assert found.item() == pytest.approx(best.mean().item(), rel=1e-5)
    Image.new("RGB", (90, 70), (250, 30, 20)).save(tmp_path / "red.png")
    led = dream(net(), x, at="body.second", guide=str(tmp_path / "red.png"), steps=6, octaves=1)
    assert led.measured["final"].item() > 1.1 * led.measured["before"].item()
    assert not torch.equal(led.made, dream(net(), x, at="body.second", steps=6, octaves=1).made)
    assert led.record.parameters["guide"] == str(tmp_path / "red.png")


def test_a_zoom_goes_towards_the_middle() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[:, :, 28:36, 28:36] = 1
    frames: list[Tensor] = []
    found = dream(
        net(),
        x,
        at="body",
        steps=1,
        octaves=1,
        lr=1e-4,
        zoom=4,
        zoom_rate=1.2,
        snapshots=2,
        on_pass=lambda now: frames.append(now.images()),
    )
    assert len(frames) == 4
    areas = [(f.mean(1) > 0.5).float().sum().item() for f in frames]
    assert areas == sorted(areas)
    assert areas[-1] / areas[0] == pytest.approx(1.2**6, rel=0.25)
    torch.testing.assert_close(found.made[0], frames[-1])
    assert found.snapshots.shape == (1, 2, 3, 64, 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "nowhere"}, "has no point 'nowhere'"),
        ({"guide": "red.png"}, "there is no file red.png"),
        ({"octaves": 0}, "octaves"),
        ({"octaves": 9}, "the first of 9 octaves would have 7 x 7 pixels; give fewer octaves"),
        ({"octave_scale": 1.0}, "octave_scale is above 1 and at most 8, not 1"),
        ({"lr": -1.0}, "lr is a number above 0, not -1"),
        ({"jitter": -1}, "jitter and tile are 0 pixels or more, not -1 and 0"),
        ({"overlap": -3}, "an overlap is 0 pixels or more, not -3"),
        ({"zoom": -1}, "a zoom has 0 frames or more"),
        ({"snapshots": 400}, "there are 0 to 39 snapshots"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InwardError, match=message):
        dream(net(), images(1, 3, 96, 96), **options)
