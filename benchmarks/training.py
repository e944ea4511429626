"""What networks trained by ``inward train`` do, from the cards of their runs.

    inward train --data ../shared/data/mnist --out runs/mnist
    inward train --data ../shared/data/mnist --adversarial pgd --out runs/mnist-robust
    python -m benchmarks.training runs/mnist runs/mnist-robust

keeps their settings, times and accuracies in ``benchmarks/results/training.json``. Times are those of an idle machine.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from inward.training.card import CARD

RESULTS = Path(__file__).parent / "results" / "training.json"


def told(run: Path) -> dict[str, Any]:
    """A run's row: what it is, how long it was trained, what it does."""
    card = json.loads((run / CARD).read_text("utf-8"))
    own = {name: card[name] for name in ("name", "recipe", "parameters", "versions")}
    return own | {"seconds": round(card["seconds"], 1), "figures": card["figures"]}


def main(*runs: str) -> None:
    """Rows of these runs in the place of those of the same name."""
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else []
    rows = {row["name"]: row for row in known} | {row["name"]: row for row in map(told, map(Path, runs))}
    RESULTS.write_text(json.dumps(list(rows.values()), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
