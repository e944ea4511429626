"""Makes the pictures of the documentation: what units of Inception v1 look for, in every way that there is.

    python examples/docs_pictures.py inception_v1.safetensors classes.txt docs/images [FIGURE ...]

Without names, all figures; balls is of two networks that have to be trained first. The photographs are those of
scikit-image; about fifteen minutes on two CPU cores.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from skimage import data

import inward
from inward import draw
from inward.cli import main as command
from inward.columns.directions import caricature
from inward.figures import cell
from inward.methods.class_visualization import class_visualization
from inward.methods.redrawing import cropped
from inward.network.load import TWINS
from inward.studies import depth_page

UNIT = "mixed4a/97"
_QUALITY = 88
# Of photographs with fine texture all over, so that a page stays light.
_LIGHTER = {"styles": 72}
# Pictures of channels that are waited for.
_TILES = 6
# The units and the photographs of the tutorial.
_ATLAS = ("mixed3b/10", "mixed3b/64", "mixed4a/97", "mixed4a/200", "mixed4d/30", "mixed4d/100")
_PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "chelsea", "clock", "coffee", "coins", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)


def parameterizations(net: inward.Network) -> Image.Image:
    """One unit, every parameterization."""
    kinds = ("fourier", "pixels", "pyramid", "maco", "cppn")
    return _row([_pictures(net, [UNIT], parameterization=kind)[0] for kind in kinds], kinds)


def objectives(net: inward.Network) -> Image.Image:
    """One layer and one class, everything that can be asked of them."""
    asked = [_pictures(net, [address])[0] for address in ("mixed4a/97@7,7", "mixed4a/97", "mixed4a")]
    asked += [_pictures(net, ["class:340"], objective=kind)[0] for kind in ("score", "probability")]
    words = ("neuron", "channel", "layer (energy)", "class zebra: score", "class zebra: probability")
    return _row(asked, words)


def diversity(net: inward.Network) -> Image.Image:
    """Four pictures of one unit, unlike one another."""
    found = inward.visualize(net, ["mixed4d/30"], diverse=4)
    scores = [found.final[0].item(), *found.variants_final[0].tolist()]
    return _row([found.images[0], *found.variants[0]], [f"score {score:.0f}" for score in scores])


def transparency(net: inward.Network) -> Image.Image:
    """Two units, opaque, and with an alpha channel over squares."""
    units = ("mixed4d/30", "class:340")
    opaque = _pictures(net, units)
    clear = _pictures(net, units, transparent=True)
    shown = [draw.to_picture(opaque[0]), _on_squares(clear[0]), draw.to_picture(opaque[1]), _on_squares(clear[1])]
    return draw.grid(shown, columns=4, captions=["mixed4d/30", "transparent", "class zebra", "transparent"])


def classes(net: inward.Network) -> Image.Image:
    """The classic class visualization above the modern one."""
    chosen = ("class:340", "class:9", "class:130", "class:985")
    names = [net.label(net.resolve(address).unit or 0).partition(",")[0] for address in chosen]
    classic = class_visualization(net, chosen).images
    modern = _pictures(net, chosen)
    captions = [f"{name}: {recipe}" for recipe in ("classic, 2013", "modern, 2017") for name in names]
    return draw.grid([draw.to_picture(i) for i in (*classic, *modern)], columns=4, captions=captions)


def caricatures(net: inward.Network) -> Image.Image:
    """A photograph, and what three layers see in it, exaggerated."""
    cat = _photograph(net, data.chelsea())
    points = ("conv2", "mixed3b", "mixed4b", "mixed4d")
    made = inward.visualize(net, {point: caricature(net, cat, point) for point in points})
    return _row([cat[0], *made.images], ["photograph", *points])


_EXPLAINED = (
    *("saliency", "smoothgrad", "integrated-gradients", "deeplift", "lrp", "guided-backpropagation"),
    *("grad-cam", "layer-cam", "score-cam", "occlusion", "rise"),
)


def explained(net: inward.Network) -> Image.Image:
    """One photograph and one answer, eleven methods."""
    cat = _photograph(net, data.chelsea())
    rows = {row.name: row for row in inward.TABLE}
    options: dict[str, dict[str, Any]] = {"rise": {"samples": 2000}, "layer-cam": {"at": "mixed4d"}}
    found = [rows[name].function(net, cat, **options.get(name, {})) for name in _EXPLAINED]
    answer = net.label(int(net(cat).argmax(1))).partition(",")[0]
    return draw.gallery(cat[0], [cell(result) for result in found], f"Why does Inception v1 say {answer}?", columns=4)


def way(net: inward.Network) -> Image.Image:
    """One picture on its way."""
    found = inward.visualize(net, [UNIT], snapshots=3, steps=256)
    shown = [*found.snapshots[0], found.images[0]]
    return _row(shown, [f"step {(i + 1) * 256 // len(shown)}" for i in range(len(shown))])


_KINDS = ("church", "English springer", "golf ball", "gas pump", "garbage truck", "parachute")


def twins(_: inward.Network) -> Image.Image:
    """Six classes of the two networks that come with inward."""
    found = {name: _pictures(inward.load(f"inward/{name}"), [f"class:{k}" for k in _KINDS]) for name in TWINS}
    return _rows(found, _KINDS)


def balls(_: inward.Network) -> Image.Image:
    """Ten classes of networks trained within either ball, as the robust twin is, but for twelve epochs.

    In runs/l2 and runs/linf: inward train --data runs/imagenette --adversarial fgsm --crop 0.4 --ema 0.99 --epochs 12,
    with --ball l2 --eps 1.5 and with --eps 4/255.
    """
    kinds = inward.load("inward/robust").labels
    runs = {"L2": "runs/l2", "L_inf": "runs/linf"}
    asked = [f"class:{number}" for number in range(len(kinds))]
    found = {ball: _pictures(inward.load(run), asked, steps=96) for ball, run in runs.items()}
    return _rows(found, kinds)


def _whole(name: str, longest: int) -> torch.Tensor:
    """A photograph of scikit-image at its own shape, (1, 3, H, W)."""
    picture = Image.fromarray(getattr(data, name)()).convert("RGB")
    factor = longest / max(picture.size)
    picture = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
    shown = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return shown.view(1, picture.height, picture.width, 3).permute(0, 3, 1, 2).float() / 255


def inverted(net: inward.Network) -> Image.Image:
    """Two photographs, and what each depth keeps of them."""
    images = torch.cat([_photograph(net, data.chelsea()), _photograph(net, data.coffee())])
    found = inward.invert(net, images, through="all")
    shown = [draw.to_picture(one) for k in range(2) for one in (images[k], *found.made[k])]
    captions = []
    for own in found.measured["error"]:
        captions += ["picture", *(f"{name}: {e:.2%}" for name, e in zip(found.names, own, strict=True))]
    return draw.grid(shown, columns=1 + len(found.names), captions=captions)


_STYLED = (("astronaut", "immunohistochemistry"), ("chelsea", "brick"), ("coffee", "hubble_deep_field"))


def styles(net: inward.Network) -> Image.Image:
    """Three photographs in three styles: the content, the style, what came of it."""
    shown, captions = [], []
    for content, given in _STYLED:
        picture, manner = _whole(content, 384), _whole(given, 384)
        found = inward.style(net, picture, style=manner, tv=0.1)
        beside = cropped(manner, (picture.shape[2], picture.shape[3]))
        shown += [draw.to_picture(one[0]) for one in (picture, beside, found.made[0])]
        captions += [content, given.replace("_", " "), f"style left: {found.measured['style_left'].item():.1%}"]
    return draw.grid(shown, columns=3, captions=captions)


def dreams(net: inward.Network) -> Image.Image:
    """A cat, and what three layers make of it."""
    cat = _whole("chelsea", 384)
    points = ("mixed3b", "mixed4c", "mixed4e")
    made = [inward.dream(net, cat, at=point).made[0, 0] for point in points]
    return draw.grid([draw.to_picture(one) for one in (cat[0], *made)], columns=2, captions=["photograph", *points])


def depth(_: inward.Network) -> Image.Image:
    """Signals by depth, as `inward study depth --width 512` found them; its figures are kept."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "depth.json"
    found = depth_page.read_depth(path)
    charts = [depth_page.chart([one for one in found if one.init == i], i, 512) for i in ("he", "matched")]
    whole = Image.new("RGB", (max(c.width for c in charts), sum(c.height for c in charts)), "white")
    for number, one in enumerate(charts):
        whole.paste(one, (0, sum(c.height for c in charts[:number])))
    return whole


def atlas(net: inward.Network) -> Image.Image:
    """The page that the tutorial ends with, as a browser shows it."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        _save_photographs(folder / "photographs")
        photographs, study, out = (str(folder / name) for name in ("photographs", "study", "atlas"))
        given = ("--weights", str(net.spec["weights"]))
        points = dict.fromkeys(unit.partition("/")[0] for unit in _ATLAS)
        looked = ("study", "activations", "inward/inception_v1", photographs, "--no-pages", "--out", study)
        command([*looked, *given, "--points", *points])
        command(["visualize", "inward/inception_v1", *_ATLAS, *given, "--study", study, "--out", out])
        return _screenshot(folder / "atlas" / "index.html")


def _save_photographs(folder: Path) -> None:
    """Each photograph whole, and its four quarters."""
    folder.mkdir()
    for name in _PHOTOGRAPHS:
        whole = Image.fromarray(getattr(data, name)()).convert("RGB")
        whole.save(folder / f"{name}.png")
        width, height = whole.width // 2, whole.height // 2
        for number, (x, y) in enumerate([(0, 0), (width, 0), (0, height), (width, height)]):
            whole.crop((x, y, x + width, y + height)).save(folder / f"{name}-{number}.png")


def _screenshot(page: Path) -> Image.Image:
    """A page in a browser, all of it."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    picture = page.with_name("screenshot.png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        shown = browser.new_page(viewport={"width": 1000, "height": 900})
        shown.goto(page.as_uri())
        shown.wait_for_timeout(1000)
        shown.screenshot(path=os.fspath(picture), full_page=True)
        browser.close()
    with Image.open(picture) as whole:
        return whole.convert("RGB")


def page(net: inward.Network) -> Image.Image:
    """A layer of the page, as soon as its first channels are there; taken in a real browser."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as out, sync_playwright() as playwright:
        explorer = inward.explore(net, out=out)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 1440, "height": 900})
        shown.goto(f"{explorer.link}#/0/mixed3a?image=cat")
        shown.get_by_label("Make pictures").click()
        tiles = shown.locator("[data-address] img")
        tiles.nth(_TILES - 1).wait_for(timeout=600_000)
        shown.wait_for_timeout(1000)
        found = Image.open(io.BytesIO(shown.screenshot())).convert("RGB")
        browser.close()
        explorer.close()
    return found


FIGURES: dict[str, Callable[[inward.Network], Image.Image]] = {
    function.__name__: function
    for function in (
        parameterizations,
        objectives,
        explained,
        diversity,
        transparency,
        classes,
        caricatures,
        way,
        twins,
        balls,
        depth,
        inverted,
        styles,
        dreams,
        atlas,
        page,
    )
}


def _pictures(net: inward.Network, addresses: Sequence[str], **options: Any) -> torch.Tensor:
    return inward.visualize(net, addresses, **options).images


def _rows(found: Mapping[str, torch.Tensor], kinds: Sequence[str]) -> Image.Image:
    """A row of classes for each network, by its name."""
    captions = [f"{name}: {kind}" for name in found for kind in kinds]
    shown = [draw.to_picture(image) for images in found.values() for image in images]
    return draw.grid(shown, columns=len(kinds), captions=captions)


def _row(images: Sequence[torch.Tensor], captions: Sequence[str]) -> Image.Image:
    return draw.grid([draw.to_picture(image) for image in images], columns=len(images), captions=list(captions))


def _photograph(net: inward.Network, pixels: Any) -> torch.Tensor:
    """The middle square of a photograph at the network's size, (1, 3, H, W)."""
    picture = Image.fromarray(pixels)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    picture = picture.crop((left, top, left + side, top + side)).resize(net.size[::-1], Image.Resampling.LANCZOS)
    return (
        torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        .view(1, *net.size, 3)
        .permute(0, 3, 1, 2)
        .float()
        / 255
    )


def _on_squares(image: torch.Tensor) -> Image.Image:
    """A picture with an alpha channel on light and dark squares."""
    picture = draw.to_picture(image)
    tile = Image.new("RGB", (2, 2), "white")
    tile.putpixel((0, 1), (196, 196, 196))
    tile.putpixel((1, 0), (196, 196, 196))
    ground = Image.new("RGB", picture.size)
    cell = tile.resize((16, 16), Image.Resampling.NEAREST)
    for y in range(0, picture.height, 16):
        for x in range(0, picture.width, 16):
            ground.paste(cell, (x, y))
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def main(weights: str, labels: str, out: str, *names: str) -> None:
    """Makes the figures of these names."""
    net = inward.load("inward/inception_v1", weights=weights, labels=labels)
    for name in names or FIGURES:
        path = Path(out) / f"{name}.jpg"
        FIGURES[name](net).save(path, quality=_LIGHTER.get(name, _QUALITY), optimize=True)
        print(f"{path}  {path.stat().st_size // 1024} KB", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 4 or not set(sys.argv[4:]) <= set(FIGURES):
        sys.exit(f"{__doc__}\nFigures: {', '.join(FIGURES)}")
    main(*sys.argv[1:])
