"""What inversion, texture, style and dreams have in common: shares of a batch, files beside the images, sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from inward import CallError, InwardError, Network, dream, invert, load, style, texture
from inward.methods.redrawing import cropped, sizes_of
from inward.network.stages import stages
from inward.runs.rerun import rerun
from same import images, seeded
from test_dream import Classes
from test_invert import photograph, photographs
from test_style import stripes
from tiny_transformers import TinyViT

pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture(scope="module")
def twin() -> Network:
    return load("inward/robust", device="cpu", size=64)


def test_shares_of_a_batch_are_told_of_as_one(twin: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed one image after the other, where memory is short: the same pictures, snapshots and passes."""
    x, at = photographs(), stages(twin)[1]
    whole = invert(twin, x, at=at, steps=6, step="adam", snapshots=2)
    monkeypatch.setattr("inward.methods.redrawing.images_at_once", lambda *_, **__: 1)
    told: list[tuple[int, int]] = []
    parts = invert(
        twin, x, at=at, steps=6, step="adam", snapshots=2, on_pass=lambda now: told.append((now.done, now.total))
    )
    assert parts.snapshots.shape == whole.snapshots.shape == (2, 2, 3, 64, 64)
    torch.testing.assert_close(parts.snapshots, whole.snapshots, rtol=0, atol=1e-3)
    torch.testing.assert_close(parts.made, whole.made, rtol=0, atol=1e-3)
    done = [d for d, _ in told]
    assert done == sorted(done)
    assert (done[-1], len(done)) == (6, 12)


def test_colors_of_the_content_are_each_image_its_own(twin: Network) -> None:
    x, given = photographs(), stripes(across=True)
    options: dict[str, Any] = {"style": given, "steps": 3, "scales": 1, "colors": "content"}
    both, first = style(twin, x, **options), style(twin, x[:1], **options)
    torch.testing.assert_close(both.made[:1], first.made, rtol=0, atol=1e-3)


def test_a_file_that_was_exchanged_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    net = load("inward/robust", device="cpu")
    Image.fromarray(photograph()[0].numpy()).save(tmp_path / "style.png")
    x = photographs(128)[:1]
    found = style(net, x, style=str(tmp_path / "style.png"), steps=1, scales=1)
    found[0].save(tmp_path / "out")
    assert rerun(tmp_path / "out").differences["made"] == 0
    Image.fromarray(photograph()[1].numpy()).save(tmp_path / "style.png")
    with pytest.raises(InwardError, match="the style 1 is not the picture that the manifest was made with"):
        rerun(tmp_path / "out")
    given = style(net, x, style=stripes(across=True), steps=1, scales=1)
    given[0].save(tmp_path / "given")
    with pytest.raises(CallError, match="was given in Python, so this cannot be computed again"):
        rerun(tmp_path / "given")


def test_a_row_of_points_is_made_again_as_it_was(tmp_path: Path) -> None:
    net = load("inward/robust", device="cpu")
    found = texture(net, photographs(128)[:1], at="act + stage1.1", through="all", steps=1, scales=1)
    assert found.names == ("act", "up to stage1.1")
    found[0].save(tmp_path / "out")
    # Sums in another order: the first graph was made for other points too.
    assert rerun(tmp_path / "out").differences["made"] < 1e-5


def test_the_middle_is_taken_where_proportions_differ(twin: Network) -> None:
    x = images(1, 3, 40, 100)
    assert cropped(x, (20, 50)).shape == (1, 3, 20, 50)
    torch.testing.assert_close(cropped(x, (40, 40)), x[..., 30:70])
    found = style(twin, x, style=x, size=(64, 64), steps=1, scales=1, regions=torch.ones(40, 100))
    assert found.made.shape == (1, 1, 3, 64, 64)
    wrong = {r"a mask in \[0, 1\]; divide 8-bit": torch.full((40, 100), 3.0), "shape": torch.ones(9, 100)}
    for message, mask in wrong.items():
        with pytest.raises(CallError, match=message):
            style(twin, x, style=x, regions=mask, steps=1, scales=1)
    half = torch.full((40, 100), 128, dtype=torch.uint8)
    assert style(twin, x, style=x, regions=half, steps=1, scales=1).made.isfinite().all()


def test_closed_pictures_of_whole_strides(twin: Network) -> None:
    x = photographs()
    with pytest.raises(CallError, match="72 x 96 is no multiple of 16; give --size 80 96"):
        texture(twin, x, tile=True, size=(72, 96), at="stage3.1", steps=1)
    found = texture(twin, x, tile=True, size=(144, 144), at="stage3.1", steps=1)
    # Half of it is no whole number of strides.
    assert found.record.parameters["scales"] == 1
    with pytest.raises(CallError, match=r"sees the whole picture|no grid"):
        texture(twin, x, tile=True, at="class", steps=1)


def test_a_network_of_one_size_makes_pictures_at_that_size_alone() -> None:
    vit = Network.of(seeded(lambda: TinyViT(grid=(32, 32))), size=(128, 128))
    assert sizes_of(vit, (128, 128), 0) == [(128, 128)]
    conv = Network.of(seeded(Classes), size=(128, 160))
    assert sizes_of(conv, (128, 160), 0) == [(64, 80), (128, 160)]
    with pytest.raises(CallError, match="octaves are that; give octaves=1"):
        dream(vit, images(1, 3, 128, 128), steps=1, octaves=2, at="class:1")
    with pytest.raises(CallError, match="cannot take images of 96 x 128; it takes 128 x 128"):
        dream(vit, images(1, 3, 96, 128), steps=1, octaves=2, at="class:1")
