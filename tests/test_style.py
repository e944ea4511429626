"""Style transfer: losses fall as they say, colors, regions, several styles, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from helpers import conv_net, network
from inward import CallError, Network, load, style
from inward.columns.texture import gram
from inward.methods.palette import luminance, luminance_alike, recolored
from inward.methods.redrawing import resized, scales_of, wrapped
from inward.network.stages import stages
from same import images, seeded
from test_invert import photographs

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def twin() -> Network:
    return load("inward/robust", device="cpu", size=64)


def stripes(across: bool, size: int = 64) -> Tensor:
    """Red and blue, eight pixels each."""
    line = (torch.arange(size) // 8 % 2).float()
    plane = line.expand(size, size) if across else line[:, None].expand(size, size)
    return torch.stack([plane, torch.zeros(size, size), 1 - plane])[None]


def losses(net: Network, made: Tensor, content: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """Of the features of the middle stage, and of the Gram matrices of the first two, each by itself."""
    names = stages(net)
    middle = names[len(names) // 2]
    kept, now = (net.trace(z, [middle])[middle].detach() for z in (content, made))
    left = (kept - now).square().flatten(1).sum(1) / kept.square().flatten(1).sum(1)
    total = torch.zeros(len(made))
    for name in names[:2]:
        wanted, found = (gram(net.trace(z, [name])[name].detach()) for z in (given, made))
        total += (wanted - found).square().flatten(1).sum(1) / (4 * wanted.shape[1] ** 2)
    return left, total


def at(net: Network) -> str:
    return " + ".join(stages(net)[:2])


def test_a_style_that_is_there_from_the_start_does_not_outweigh_the_others(twin: Network) -> None:
    """The picture itself as a style: its loss is rounding at the start, and no share of that is asked for."""
    x = photographs()[:1]
    both = style(twin, x, style=[x, stripes(across=True)], style_at=at(twin), steps=15, scales=1)
    weights = torch.stack([both.weights[name] for name in sorted(both.weights)])
    assert weights.isfinite().all()
    assert both.measured["style_left"].item() < 0.6
    gone, still = losses(twin, both.made[:, 0], x, stripes(across=True))[1], losses(twin, x, x, stripes(across=True))[1]
    assert (gone < 0.6 * still).all()


def test_the_style_comes_in_and_what_is_shown_stays(twin: Network) -> None:
    x, given = photographs(), stripes(across=True)
    found = style(twin, x, style=given, style_at=at(twin), steps=30, scales=1)
    content, before = losses(twin, x, x, given)
    left, after = losses(twin, found.made[:, 0], x, given)
    assert (content == 0).all()
    assert (after < 0.2 * before).all()
    assert (left > 0).all()
    torch.testing.assert_close(found.measured["content"][:, 0].float(), left, rtol=1e-3, atol=1e-5)
    # The style's loss is the mean of shares, which are 1 at the start.
    assert (found.measured["style_left"] < 0.2).all()
    assert found.history[0, :, 0].tolist() == pytest.approx([-10.0, -10.0], rel=1e-4)
    more, less = (
        style(twin, x, style=given, style_at=at(twin), steps=30, scales=1, style_weight=weight)
        for weight in (1000.0, 0.1)
    )
    assert (more.measured["style_left"] < less.measured["style_left"]).all()
    assert (more.measured["content"] > less.measured["content"]).all()


def test_the_answer_is_that_of_a_slow_loop_from_the_paper(twin: Network) -> None:
    """Gradient descent by PyTorch's own L-BFGS with a line search, on the same sum of losses: as low."""
    x, given = photographs()[:1], stripes(across=False)
    found = style(twin, x, style=given, style_at=at(twin), steps=60, scales=1)
    weights = [found.weights[name][0, 0].item() for name in stages(twin)[:2]]
    names, middle = stages(twin)[:2], stages(twin)[len(stages(twin)) // 2]
    kept = twin.trace(x, [middle])[middle].detach()
    wanted = [gram(twin.trace(given, [name])[name].detach()) for name in names]

    def total(made: Tensor) -> Tensor:
        trace = twin.trace(made.clamp(0, 1), [*names, middle])
        content = (trace[middle] - kept).square().sum() / kept.square().sum()
        pairs = zip(names, wanted, weights, strict=True)
        terms = [w * (gram(trace[n]) - a).square().sum() / (4 * len(a[0]) ** 2) for n, a, w in pairs]
        return content + 10 * torch.stack(terms).sum()

    made = x.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([made], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = total(made)
        loss.backward()
        # It flattens gradients as if their channels came first.
        made.grad = made.grad.contiguous()  # type: ignore[union-attr]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    assert total(found.made[:, 0]).item() < 1.1 * total(made.detach()).item()


def test_colors_of_the_content(twin: Network) -> None:
    x, given = photographs(), stripes(across=True)
    found = style(twin, x, style=given, style_at=at(twin), steps=20, scales=1, colors="content")
    made = found.made[:, 0]
    inside = ((made > 0.01) & (made < 0.99)).all(1, keepdim=True).expand_as(made)
    # Where nothing is cut off, the colors less the luminance are the picture's own.
    torch.testing.assert_close((made - luminance(made))[inside], (x - luminance(x))[inside], rtol=0, atol=1e-5)
    assert inside.float().mean() > 0.5
    assert (luminance(made) - luminance(x)).abs().mean() > 0.01


def test_luminance_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]).view(1, 3, 1, 2)
    torch.testing.assert_close(luminance(x).flatten(), torch.tensor([0.299, 0.701]))
    assert luminance(images(2, 5, 3, 4)).shape == (2, 1, 3, 4)
    y = luminance_alike(images(1, 3, 9, 7), 0.3 + 0.2 * images(1, 3, 8, 8))
    wanted = luminance(0.3 + 0.2 * images(1, 3, 8, 8))
    torch.testing.assert_close(y.mean(), wanted.mean(), rtol=0, atol=1e-5)
    torch.testing.assert_close(y[:, 0].std(), wanted.std(), rtol=0, atol=1e-5)
    assert torch.equal(y[:, 0], y[:, 2])
    torch.testing.assert_close(recolored(luminance(x).expand_as(x), content=x), x)


def test_each_style_in_its_region(twin: Network) -> None:
    x = torch.full((1, 3, 64, 64), 0.5) + 0.02 * images(1, 3, 64, 64)
    left = torch.zeros(64, 64)
    left[:, :32] = 1
    red, blue = (torch.tensor(c).view(1, 3, 1, 1).expand(1, 3, 64, 64) for c in ((0.9, 0.1, 0.1), (0.1, 0.1, 0.9)))
    found = style(
        twin, x, style=[red, blue], regions=[left, 1 - left], style_at=stages(twin)[0], steps=40, scales=1,
        content_weight=0.0,
    )  # fmt: skip
    made = found.made[0, 0]
    assert (made[0, :, 4:24] - made[2, :, 4:24]).mean() > 0.2
    assert (made[0, :, 40:60] - made[2, :, 40:60]).mean() < -0.2
    assert set(found.weights) == {f"{stages(twin)[0]}, style {k}" for k in (1, 2)}


def test_shares_of_several_styles(twin: Network) -> None:
    x, red, blue = photographs()[:1], stripes(across=True), stripes(across=False)
    options: dict[str, Any] = {"style_at": at(twin), "steps": 25, "scales": 1}
    first, second = (style(twin, x, style=[red, blue], shares=s, **options) for s in ([9.0, 1.0], [1.0, 9.0]))
    of_red = [losses(twin, f.made[:, 0], x, red)[1] for f in (first, second)]
    assert (of_red[0] < of_red[1]).all()
    assert first.record.parameters["shares"] == [0.9, 0.1]


def test_sizes_from_small_to_large(twin: Network) -> None:
    assert scales_of((600, 401), 0) == [(75, 50), (150, 100), (300, 200), (600, 401)][1:]
    assert scales_of((600, 401), 2) == [(300, 200), (600, 401)]
    assert scales_of((90, 100), 0) == [(90, 100)]
    told: list[tuple[int, int, tuple[int, ...]]] = []
    found = style(
        twin,
        photographs(),
        style=stripes(across=True),
        size=(128, 160),
        steps=3,
        snapshots=1,
        on_pass=lambda now: told.append((now.done, now.total, tuple(now.images().shape))),
    )
    assert found.made.shape == (2, 1, 3, 128, 160)
    assert [(done, total) for done, total, _ in told] == [(k, 6) for k in range(1, 7)]
    # Whoever watches is shown pictures of the final size.
    assert {shape for *_, shape in told} == {(2, 3, 128, 160)}
    assert found.snapshots.shape == (2, 1, 3, 128, 160)
    assert len(found.history) == 6


def test_resizing() -> None:
    x = images(2, 3, 16, 24)
    assert resized(x, (16, 24)) is x
    assert resized(x, (7, 50)).shape == (2, 3, 7, 50)
    # A picture that goes on at the other edge does so at the new size.
    line = torch.sin(2 * torch.pi * torch.arange(32) / 32).mul(0.4).add(0.5).expand(1, 1, 32, 32)
    large = wrapped(line, (64, 64))
    turned = wrapped(line.roll(8, 3), (64, 64))
    torch.testing.assert_close(turned, large.roll(16, 3), rtol=0, atol=1e-6)
    assert (large[..., 0] - large[..., -1]).abs().max() < 0.05


def test_files_of_any_size(twin: Network, tmp_path: Path) -> None:
    Image.new("RGB", (300, 50), (250, 30, 20)).save(tmp_path / "wide.png")
    mask = Image.new("L", (120, 120), 255)
    mask.save(tmp_path / "mask.png")
    found = style(
        twin, photographs(), style=str(tmp_path / "wide.png"), regions=str(tmp_path / "mask.png"),
        style_at=stages(twin)[0], steps=4,
    )  # fmt: skip
    assert found.record.parameters["style"] == [str(tmp_path / "wide.png")]
    assert found.record.parameters["regions"] == [str(tmp_path / "mask.png")]
    assert found.record.notes == ()
    given = style(twin, photographs(), style=stripes(across=True), steps=1)
    assert "a style was given in Python" in given.record.notes[0]


def test_a_size_that_the_network_cannot_take() -> None:
    net = Network.of(seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 7), nn.ReLU(), nn.Conv2d(4, 2, 3))), size=(12, 12))
    x = images(1, 3, 12, 12)
    with pytest.raises(CallError, match="5 x 6"):
        style(net, x, style=x, style_at="0", content_at="0", size=(5, 6), steps=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": []}, "there is no style; give the file of a picture"),
        ({"style": images(2, 3, 9, 7)}, r"a style is one picture \(1, C, H, W\), not 2"),
        ({"style_at": "class"}, "'class' has no grid of positions, and so no texture"),
        ({"style_at": "third"}, "has no point 'third'"),
        ({"content_at": "second/1"}, "'second/1' is a unit"),
        ({"shares": [1.0, 2.0]}, "there are 2 shares for 1 styles; give one for each"),
        ({"shares": [0.0]}, "the shares of styles are above 0, not 0"),
        ({"regions": torch.ones(20, 7)}, "a region of 20 x 7 pixels has not the shape of the picture, 9 x 7"),
        ({"regions": torch.zeros(9, 7)}, "a region is black everywhere"),
        ({"regions": torch.ones(9, 7), "loss": "wasserstein"}, "regions are of Gram matrices"),
        ({"content_weight": 0.0, "style_weight": 0.0}, "neither content nor style counts"),
        ({"style_weight": -1.0}, "style_weight is a number from 0 up, not -1"),
        ({"style_scale": 0.0}, "style_scale is above 0 and at most 8, not 0"),
        ({"colors": "both"}, "colors are those of the style or of the content, not 'both'"),
        ({"start": "style"}, "there is no file style"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    net, x = network(conv_net(), (9, 7)), images(1, 3, 9, 7)
    with pytest.raises(Exception, match=message) as caught:
        style(net, x, **{"style": images(1, 3, 12, 8), "style_at": "second", "content_at": "second", **options})
    assert isinstance(caught.value, CallError) or "no file" in str(caught.value)
