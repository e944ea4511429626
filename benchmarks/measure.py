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

from inward.network.modes import has_half


@dataclass(frozen=True)
class Contest:
    """What is compared: ours and a peer's way to the same answer."""

    name: str
    question: str
    ours: str
    peer: str
    make: Callable[[], tuple[Callable[[], object], Callable[[], object]]]
    # How many pictures each side makes: times are by picture.
    ours_pictures: int = 1
    peer_pictures: int = 1
    # The multiply-adds of a picture of ours, where the share of the machine's peak is asked.
    work: Callable[[], int] | None = None
    # Whether both sides compute on a GPU where there is one.
    on_gpu: bool = False


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
    # Of the matrix products that the machine was measured to do in this time, how much ours did.
    share_of_peak: float | None = None
    device: str = "cpu"

    def as_json(self) -> dict[str, float | int | str]:
        """Plain data."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def run(contest: Contest, rounds: int) -> Ratio:
    """Takes turns ``rounds`` times, after one run of each to warm up."""
    ours, peer = contest.make()
    ours()
    peer()
    times = [(_seconds(ours), _seconds(peer)) for _ in range(rounds)]
    pairs = [(own / contest.ours_pictures, theirs / contest.peer_pictures) for own, theirs in times]
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
        share_of_peak=None if contest.work is None else _share(contest.work(), [own for own, _ in pairs]),
        device=device_name() if contest.on_gpu else "cpu",
    )


def device_name() -> str:
    """Of the GPU; cpu where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _share(work: int, seconds: list[float]) -> float:
    return work / statistics.median(seconds) / peak()


def peak(size: int = 2048, rounds: int = 7) -> float:
    """Multiply-adds a second of a product of square matrices, in bfloat16 where the device has it; the best of some."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if has_half(device) else torch.float32
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return size**3 / min(_seconds(lambda: a @ b) for _ in range(rounds))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start
