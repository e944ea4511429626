"""``python -m benchmarks.memory [NETWORK...] [--save]``: peak memory of integrated gradients, ours and Captum's.

Captum holds all steps at once by default, so its memory grows with photographs times steps. The most
photographs that it can do so here are found by trying, each time in a child process with a limit on
its memory; then the peaks of both are measured on as many. Ours is measured on 8 photographs too.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from benchmarks.attribution import SIZE, Shown
from benchmarks.shared import photographs
from benchmarks.visualization import CAFFE, IMAGENET, Range, inception, resnet
from inward import Network
from inward.methods.integrated import integrated_gradients

RESULTS = Path(__file__).parent / "results" / "memory.json"
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Range]] = {
    "inception_v1": (inception, CAFFE),
    "resnet50": (resnet, IMAGENET),
}
GIB = 2**30
# Captum's own default.
STEPS = 50


def child(side: str, network: str, count: int, limit: float) -> None:
    """One run, under a limit in GiB; prints the peak and the memory before it, in GiB."""
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * GIB), int(limit * GIB)))
    make, range_ = NETWORKS[network]
    module = make()
    net = Network.of(module, size=SIZE, **range_)
    images = photographs(net, count)
    with torch.no_grad():
        classes = torch.cat([net(one[None]).argmax(1) for one in images])
    before = _peak()
    if side == "ours":
        integrated_gradients(net, images, target=[f"class:{k}" for k in classes.tolist()])
    else:
        from captum.attr import IntegratedGradients

        IntegratedGradients(Shown(module, range_)).attribute(images, target=classes, n_steps=STEPS)
    print(json.dumps({"peak": _peak() / GIB, "before": before / GIB}))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(side: str, network: str, count: int, limit: float) -> dict[str, float] | None:
    """What a child found; None where it ran out of memory."""
    call = [sys.executable, "-m", "benchmarks.memory", "--child", side, network, str(count), str(limit)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if "memory" not in done.stderr and done.returncode > 0:
        raise RuntimeError(done.stderr)
    return None


def compare(network: str, limit: float) -> dict[str, object]:
    """The most photographs that Captum's default can do, and both peaks on as many."""
    count, theirs = 0, None
    while (found := measured("captum", network, count + 1, limit)) is not None:
        count, theirs = count + 1, found
    ours = measured("ours", network, max(1, count), limit)
    eight = measured("ours", network, 8, limit)
    return {
        "network": network,
        "limit_gib": limit,
        "captum_photographs": count,
        "captum": theirs,
        "ours": ours,
        "ours_8_photographs": eight,
    }


def main() -> None:
    """Measures both networks."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"by default all: {', '.join(NETWORKS)}")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=float, default=20.0, help="GiB that a child may take (20)")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    if options.child:
        side, network, count, limit = options.child
        child(side, network, int(count), float(limit))
        return
    unknown = sorted(set(options.networks) - set(NETWORKS))
    if unknown:
        parser.error(f"there is no network {unknown[0]}")
    for network in options.networks or NETWORKS:
        found = compare(network, options.limit)
        print(json.dumps(found, indent=2), flush=True)
        if options.save:
            _save(found)


def _save(found: dict[str, object]) -> None:
    """Replaces the figures of one network."""
    held = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else []
    kept = {row["network"]: row for row in held} | {found["network"]: found}
    RESULTS.write_text(json.dumps([kept[n] for n in NETWORKS if n in kept], indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
