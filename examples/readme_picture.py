"""Makes the picture at the top of the README: what Inception v1 looks for, sees in a cat, and is fooled by.

    python examples/readme_picture.py inception_v1.safetensors classes.txt docs/images/inside.jpg

The cat is Chelsea, from scikit-image. Takes about two minutes on two CPU cores.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

import inward
from inward import draw
from inward.figures import strongest

UNITS = ("conv2/44", "mixed3b/10", "mixed4a/97", "mixed4d/30", "mixed5a/9", "class:340")


def main(weights: str, labels: str, out: str) -> None:
    """Computes the rows and puts them together."""
    net = inward.load("inward/inception_v1", weights=weights, labels=labels)
    with tempfile.TemporaryDirectory() as folder:
        cat = Path(folder) / "chelsea.png"
        Image.fromarray(data.chelsea()).save(cat)
        images = inward.read(cat, net)
    units = inward.visualize(net, UNITS)
    top = draw.grid([draw.to_picture(i) for i in units.images], columns=6, captions=[_caption(net, u) for u in UNITS])
    why = inward.saliency(net, images)
    fooled = inward.targeted_attack(net, images, target="class:ostrich", eps=2 / 255)
    answer = net.label(why.net.resolve(why.targets[0]).unit or 0).partition(",")[0]
    below = draw.grid(
        [
            draw.overlay(images[0], strongest(why.values[0]), signed=False),
            draw.side_by_side(images[0], fooled.adversarial[0], (f"{answer}", "ostrich")),
        ],
        captions=[f"why {answer}?", "which small change makes it an ostrich?"],
    )
    width = max(top.width, below.width)
    sheet = Image.new("RGB", (width, top.height + below.height), "white")
    sheet.paste(top, ((width - top.width) // 2, 0))
    sheet.paste(below, ((width - below.width) // 2, top.height))
    sheet.save(out, quality=90)


def _caption(net: inward.Network, unit: str) -> str:
    parsed = net.resolve(unit)
    return unit if parsed.output is None else net.label(parsed.unit or 0).partition(",")[0]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
