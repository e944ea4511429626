"""``python -m benchmarks.quality``: 48 channels of Inception v1 beside Lucent's pictures and real photographs.

Writes the table, and the sheet of pictures in the documentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from benchmarks.shared import DATA
from inward import Network, draw, load, visualize

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "results" / "channels.json"
SHEET = ROOT / "docs" / "images" / "channels.jpg"


def inception() -> Network:
    """Inception v1 with the published weights."""
    weights = DATA / "weights" / "inception_v1.safetensors"
    mean, std = (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3
    return load("inward/inception_v1", weights=str(weights), mean=mean, std=std, device="auto")


def channels(
    net: Network, told: list[dict[str, Any]], say: Callable[[str], None] = print
) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """The final channel mean of every channel at its defaults beside what is told of it; and the pictures."""
    rows: list[dict[str, Any]] = []
    pictures: list[Tensor] = []
    for point in dict.fromkeys(c["point"] for c in told):
        own = [c for c in told if c["point"] == point]
        made = visualize(net, [f"{point}/{c['unit']}" for c in own])
        for index, channel in enumerate(own):
            rows.append(
                {
                    "channel": made.addresses[index],
                    "final": round(made.final[index].item(), 2),
                    "lucent": channel["peer_final"],
                    "largest_on_photographs": channel["largest_on_photographs"],
                    "contrast": round(made.images[index].std().item(), 3),
                }
            )
            say(str(rows[-1]))
        pictures += list(made.images)
    return rows, pictures


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many are at least the peer's, above all photographs, and gray."""
    return {
        "channels": len(rows),
        "at_least_lucent": sum(r["final"] >= r["lucent"] for r in rows),
        "above_all_photographs": sum(r["final"] > r["largest_on_photographs"] for r in rows),
        "gray": sum(r["contrast"] < 0.02 for r in rows),
    }


def main() -> None:
    """Measures and draws."""
    told = json.loads((DATA / "lucent_inception_v1.json").read_text(encoding="utf-8"))["channels"]
    rows, pictures = channels(inception(), told)
    found = {**summary(rows), "each": rows}
    TABLE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_sheet([draw.to_picture(p) for p in pictures], [row["channel"] for row in rows])
    print(summary(rows))


def write_sheet(pictures: list[Image.Image], captions: list[str]) -> None:
    """The sheet of the documentation: six channels of a layer in a row, small enough for a page."""
    small = [p.resize((160, 160), Image.Resampling.LANCZOS) for p in pictures]
    draw.grid(small, columns=6, captions=captions).convert("RGB").save(SHEET, quality=82, optimize=True)


if __name__ == "__main__":
    main()
