"""Feature inversion: known answers, what is lost with depth, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from helpers import conv_net, network
from inward import CallError, Network, invert, load
from inward.methods.likeness import psnr, ssim
from inward.network.stages import stages
from same import images
from test_lbfgs import linear

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def twin() -> Network:
    return load("inward/robust", device="cpu", size=64)


def photograph(size: int = 64) -> torch.Tensor:
    from skimage.data import chelsea, coffee

    shown = [Image.fromarray(a()).resize((size, size), Image.Resampling.BICUBIC) for a in (chelsea, coffee)]
    return torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(size, size, 3) for p in shown])


def photographs(size: int = 64) -> torch.Tensor:
    return photograph(size).permute(0, 3, 1, 2).float() / 255


def test_of_a_linear_network_that_loses_nothing_it_is_the_image() -> None:
    net, x = linear(), images(2, 3, 9, 7).double()
    found = invert(net, x, at="last", parameterization="pixels", start="gray")
    torch.testing.assert_close(found.made[:, 0], x, rtol=0, atol=1e-6)
    assert found.measured["error"].max() < 1e-10


def test_more_is_lost_with_depth(twin: Network) -> None:
    x = photographs()
    found = invert(twin, x, through="all", steps=40)
    assert found.names == (*stages(twin), "class")
    assert found.made.shape == (2, len(found.names), 3, 64, 64)
    for name, least in (("psnr", 6), ("ssim", 0.3)):
        values = found.measured[name]
        # From the first to the last without a rise that is more than a trifle.
        assert (values[:, 0] - values[:, -1] > least).all(), name
        assert (values.diff(dim=1) < 0.15 * values[:, :1]).all(), name
    # The error is that of the features of the picture that was made.
    made = found.made[:, 1]
    kept, now = (twin.trace(z, [found.names[1]])[found.names[1]].detach() for z in (x, made))
    share = (kept - now).square().flatten(1).sum(1) / kept.square().flatten(1).sum(1)
    torch.testing.assert_close(found.measured["error"][:, 1].float(), share, rtol=1e-3, atol=1e-6)
    assert found[1].measures()["error"] == found.measured["error"][1].tolist()


def test_large_forms_and_colors_do_not_drift(twin: Network) -> None:
    """From a spectrum colors come first; pixels that are moved one by one keep those of the noise for long."""
    x = photographs()
    name = stages(twin)[1]
    drift = {}
    for kind in ("fourier", "pixels"):
        found = invert(twin, x, at=name, steps=40, parameterization=kind)  # type: ignore[arg-type]
        drift[kind] = (found.made[:, 0].mean((2, 3)) - x.mean((2, 3))).abs().max()
    assert drift["fourier"] < 0.06
    assert drift["fourier"] < drift["pixels"]


def test_several_points_with_weights(twin: Network) -> None:
    x = photographs()
    shallow, deep = stages(twin)[1], stages(twin)[3]
    first, second, both = (invert(twin, x, at=at, steps=12) for at in (shallow, deep, f"0.25 * {shallow} + {deep}"))
    assert both.names == (f"0.25 * {shallow} + {deep}",)
    assert both.record.parameters["at"] == both.names[0]
    # All begin with the same noise, where the sum is that of the parts.
    torch.testing.assert_close(both.history[0], 0.25 * first.history[0] + second.history[0], rtol=1e-4, atol=0)
    kept, *now = (twin.trace(z, [shallow])[shallow].detach() for z in (x, both.made[:, 0], second.made[:, 0]))
    with_it, without = ((kept - z).square().flatten(1).sum(1) for z in now)
    assert (with_it < without).all()


@pytest.mark.parametrize("penalty", ["tv", "l2", "l6"])
def test_penalties_make_less_of_what_they_weigh(twin: Network, penalty: str) -> None:
    x, at = photographs(), stages(twin)[3]
    of: dict[str, Any] = {
        "tv": lambda z: z.diff(dim=3).square().mean() + z.diff(dim=4).square().mean(),
        "l2": lambda z: (z - 0.5).square().mean(),
        "l6": lambda z: (2 * z - 1).pow(6).mean(),
    }
    free, held = (invert(twin, x, at=at, steps=30, **{penalty: weight}) for weight in (0.0, 20.0))
    assert of[penalty](held.made) < 0.8 * of[penalty](free.made)


def test_starts_and_snapshots(twin: Network, tmp_path: Path) -> None:
    x = photographs()
    Image.fromarray(photograph()[1].numpy()).save(tmp_path / "start.png")
    found = invert(twin, x, at=stages(twin)[2], start=str(tmp_path / "start.png"), steps=1, step="adam", lr=1e-6)
    torch.testing.assert_close(found.made[:, 0], x[1:].expand_as(x), rtol=0, atol=2e-3)
    assert found.record.parameters["start"] == str(tmp_path / "start.png")
    told: list[int] = []
    found = invert(twin, x, at=stages(twin)[2], steps=9, snapshots=2, on_pass=lambda now: told.append(now.done))
    assert told == list(range(1, 10))
    assert found.snapshots.shape == (2, 2, 3, 64, 64)
    assert (found.snapshots[:, 1] - found.made[:, 0]).abs().mean() < (
        found.snapshots[:, 0] - found.made[:, 0]
    ).abs().mean()


def test_psnr_and_ssim() -> None:
    x = images(2, 3, 12, 9)
    noisy = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    for i, value in enumerate(psnr(x, noisy)):
        expected = peak_signal_noise_ratio(x[i].double().numpy(), noisy[i].double().numpy(), data_range=1.0)
        assert value.item() == pytest.approx(expected)
    assert psnr(x, x).tolist() == [torch.inf] * 2
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert (ssim(x, noisy) < 0.99).all()
    assert ssim(images(1, 3, 6, 9), images(1, 3, 6, 9)).isnan().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at": "nowhere"}, "has no point 'nowhere'; the nearest"),
        ({"at": "second/3"}, "'second/3' is a unit; give at='second'"),
        ({"at": "second", "through": "all"}, "through=all is of every stage, and 'second' is given"),
        ({"through": "few"}, "through is one or all, not 'few'"),
        ({"through": "all", "snapshots": 2}, "through=all makes several"),
        ({"steps": 0}, "steps"),
        ({"parameterization": "maco"}, "there is no 'maco' to be moved here; write fourier or pixels"),
        ({"step": "newton"}, "there is no step 'newton'; write lbfgs or adam"),
        ({"l6": -1.0}, "l6 is a number from 0 up, not -1"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CallError, match=message):
        invert(network(conv_net(), (9, 7)), images(1, 3, 9, 7), **options)
    with pytest.raises(CallError, match="images must be in"):
        invert(network(conv_net(), (9, 7)), 3 * images(1, 3, 9, 7))
