"""Readers of the packs of the shared data: what the command reads as folders is laid out as folders.

``python -m tests.packs imagenette FOLDER`` writes FOLDER/train and FOLDER/val, a folder for each of the ten classes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from tests.trained import data_folder


def imagenette(to: Path) -> None:
    """Every picture as the WebP file that it is packed as, by its class's WordNet id."""
    with np.load(data_folder() / "imagenette" / "imagenette160.npz", allow_pickle=False) as pack:
        data, offsets, labels, held = (pack[k] for k in ("data", "offsets", "labels", "is_val"))
        names = [str(name) for name in pack["wnids"]]
    for i, (label, is_held) in enumerate(zip(labels, held, strict=True)):
        folder = to / ("val" if is_held else "train") / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i:05}.webp").write_bytes(data[offsets[i] : offsets[i + 1]].tobytes())


if __name__ == "__main__":
    {"imagenette": imagenette}[sys.argv[1]](Path(sys.argv[2]))
