"""Two pieces of work, interleaved in one process, and the ratio of their times with its spread.

Machines are noisy, and noise falls on both sides alike when they take turns: so a ratio is taken
of every pair of neighboring runs, and the median of the ratios is reported with their quartiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch


@dataclass(frozen=True)
class Contest:
    """What is compared: ours and a peer's way to the same answer."""

    name: str
    question: str
    ours: str
    peer: str
    make: Callable[[], tuple[Callable[[], object], Callable[[], object]]]


@dataclass(frozen=True)
class Ratio:
    """How many times as fast ours is: the peer's time divided by ours, and both in seconds."""

    name: str
    ours_s: float
    peer_s: float
    median: float
    low: float
    high: float
    rounds: int
    threads: int

    def as_json(self) -> dict[str, float | int | str]:
        """Plain data."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def run(contest: Contest, rounds: int) -> Ratio:
    """Takes turns ``rounds`` times, after one run of each to warm up."""
    ours, peer = contest.make()
    ours()
    peer()
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(rounds)]
    ratios = [theirs / own for own, theirs in pairs]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios[0],) * 3
    return Ratio(
        name=contest.name,
        ours_s=statistics.median(own for own, _ in pairs),
        peer_s=statistics.median(theirs for _, theirs in pairs),
        median=statistics.median(ratios),
        low=low,
        high=high,
        rounds=rounds,
        threads=torch.get_num_threads(),
    )


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
