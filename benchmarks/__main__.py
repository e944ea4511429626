"""``python -m benchmarks [NAME...] [--rounds N] [--save]``: prints each ratio with its quartiles."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.contests import CONTESTS
from benchmarks.measure import Ratio, run

RESULTS = Path(__file__).parent / "results" / "ratios.json"


def main() -> None:
    """Measures the contests that are named, or all."""
    names = [contest.name for contest in CONTESTS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"by default all: {', '.join(names)}")
    parser.add_argument("--rounds", type=int, default=9, help="pairs of runs (9)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names))
    if unknown or options.rounds < 1:
        parser.error(f"there is no contest {unknown[0]}" if unknown else "--rounds is 1 or more")
    console = Console()
    found = []
    for contest in CONTESTS:
        if not options.names or contest.name in options.names:
            with console.status(contest.question):
                found.append(run(contest, options.rounds))
    console.print(_table(found))
    if options.save:
        _save(found)


def _save(found: list[Ratio]) -> None:
    """Replaces the figures of the contests that were run on this device, in the order of all."""
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    held = {(one["name"], one.get("device", "cpu")): one for one in [*told, *(ratio.as_json() for ratio in found)]}
    kept = [one for contest in CONTESTS for (name, _), one in held.items() if name == contest.name]
    RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")


def _table(found: list[Ratio]) -> Table:
    table = Table("contest", "ours", "peer", "times as fast", "quartiles", "rounds", "of peak")
    for ratio in found:
        spread = f"{ratio.low:.2f} to {ratio.high:.2f}"
        table.add_row(
            ratio.name,
            f"{ratio.ours_s * 1000:.0f} ms",
            f"{ratio.peer_s * 1000:.0f} ms",
            f"{ratio.median:.2f}",
            spread,
            str(ratio.rounds),
            "" if ratio.share_of_peak is None else f"{ratio.share_of_peak:.0%}",
        )
    return table


if __name__ == "__main__":
    main()
