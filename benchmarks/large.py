"""Peak memory and time per pass of large pictures: a style of 2048 x 2048, a dream of 4096 x 3072 pixels.

    python -m benchmarks.large ../shared/data/weights/inception_v1.safetensors [style | dream | time] [--save]

Each in a process of its own, Inception v1. The style makes twelve passes, so that L-BFGS has all of its ten pairs; the
dream one step of its last octave. ``time`` is a pass of a style at 512 and at 1024 pixels. ``--save`` writes
benchmarks/results/large.json, by device. On a GPU the peak is of its memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import inward
from benchmarks.measure import device_name
from inward.draw.saving import write_whole

RESULTS = Path(__file__).with_name("results") / "large.json"
GIB = 2**30
_CONTENT, _STYLE = "mixed3b", "relu + lrn2 + mixed3b + mixed4e"


def _noise(*size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))


def _peak() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def _net(weights: str) -> inward.Network:
    return inward.load("inward/inception_v1", weights=weights, device="auto")


def style(weights: str, size: int = 2048, passes: int = 12) -> dict[str, float]:
    """Peak GiB and seconds a pass."""
    net, began = _net(weights), time.perf_counter()
    when: list[float] = []
    inward.style(
        net,
        _noise(size, size),
        style=_noise(size, size),
        scales=1,
        steps=passes,
        content_at=_CONTENT,
        style_at=_STYLE,
        on_pass=lambda _: when.append(time.perf_counter()),
    )
    each = (when[-1] - when[0]) / (len(when) - 1) if len(when) > 1 else when[0] - began
    return {"pixels": size, "peak_gib": _peak(), "seconds_a_pass": each}


def dream(weights: str) -> dict[str, float]:
    """Peak GiB and seconds of one step, by mixed4c, in tiles of 768 pixels."""
    net, began = _net(weights), time.perf_counter()
    inward.dream(net, _noise(3072, 4096), at="mixed4c", octaves=1, steps=1)
    return {"peak_gib": _peak(), "seconds": time.perf_counter() - began}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("what", nargs="*", help="style, dream, time; by default all")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    works = {
        "style": lambda: style(given.weights),
        "dream": lambda: dream(given.weights),
        "style-512": lambda: style(given.weights, 512, 6),
        "style-1024": lambda: style(given.weights, 1024, 4),
    }
    if given.child:
        print(json.dumps(works[given.child]()))
        return
    asked = given.what or ["style", "dream", "time"]
    if unknown := set(asked) - {"style", "dream", "time"}:
        parser.error(f"there is no {min(unknown)}; write style, dream or time")
    names = [n for one in asked for n in (["style-512", "style-1024"] if one == "time" else [one])]
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    found = known.setdefault(device_name(), {})
    for name in names:
        call = [sys.executable, "-m", "benchmarks.large", given.weights, "--child", name]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603
        found[name] = json.loads(done.stdout.splitlines()[-1]) | {"threads": torch.get_num_threads()}
        print(name, found[name], flush=True)
        if given.save:
            write_whole((json.dumps(known, indent=1) + "\n").encode(), RESULTS)


if __name__ == "__main__":
    main()
