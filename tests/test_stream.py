"""The one loop over many pictures: the same whatever the chunk, constant in memory, halved when it runs out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inward.columns.objectives import ClassScore
from inward.columns.paths import Line
from inward.errors import CallError, InwardError
from inward.gradient import Sample, Total, gradients, mean_gradient, raw_gradient, scores
from inward.network import Network, room
from inward.network.room import images_at_once, in_chunks
from same import images, seeded

pytestmark = pytest.mark.usefixtures("single_thread")

SIZE = (9, 7)
# float64: a batch may be summed in another order than one image.
EXACT = 1e-13


class Sequence(nn.Module):
    """Nine tokens of eight features behind a convolution, the batch on the second axis; the image is read once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.rows = nn.Linear(8, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.conv(x)).flatten(2).permute(2, 0, 1)
        return self.fc((torch.tanh(self.rows(h)) ** 2).mean(0)) * (1 + x.mean((1, 2, 3)))[:, None]


@pytest.fixture(scope="module")
def net() -> Network:
    return Network.of(seeded(Sequence).double(), size=SIZE)


def drawn(count: int) -> list[Sample]:
    """Samples of three images, not in their order, the last of them of none of the first two."""
    pictures = images(count, 3, *SIZE, dtype=torch.float64)
    return [Sample((0, 2, 1, 1)[i % 4], picture, 0.5 + i) for i, picture in enumerate(pictures)]


OBJECTIVE = ClassScore((4, 0, 2))


def alone(net: Network, sample: Sample, at: str | None) -> tuple[Tensor, Tensor]:
    given = None if sample.given is None else sample.given[:, None]
    found = raw_gradient(net, sample.image[None], OBJECTIVE.select([sample.owner]), at, given)
    return found[0][0], found[1].select(0 if at in (None, "conv") else 1, 0)


@pytest.mark.parametrize("chunk", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("at", [None, "conv", "rows"])
def test_gradients_are_those_of_each_sample_alone(net: Network, at: str | None, chunk: int) -> None:
    samples = drawn(11)
    batches = list(gradients(net, iter(samples), OBJECTIVE, SIZE, at=at, chunk=chunk))
    size = chunk or images_at_once(net, ["class", *([at] if at else [])], SIZE)
    assert [len(b.samples) for b in batches] == [min(size, 11 - i) for i in range(0, 11, size)]
    assert [s for b in batches for s in b.samples] == samples
    assert [o for b in batches for o in b.owners] == [s.owner for s in samples]
    assert torch.equal(torch.cat([b.weights() for b in batches]), torch.arange(11) + 0.5)
    found = torch.cat([b.scores for b in batches]), torch.cat([b.gradients for b in batches])
    expected = [alone(net, sample, at) for sample in samples]
    assert found[1].shape == (11, *{None: (3, *SIZE), "conv": (8, 4, 3), "rows": (12, 6)}[at])
    assert (found[0] - torch.stack([e[0] for e in expected])).abs().max() <= EXACT
    assert (found[1] - torch.stack([e[1] for e in expected])).abs().max() <= EXACT
    assert found[1].abs().amax() > 1e-3
    looked = torch.cat([b.scores for b in scores(net, iter(samples), OBJECTIVE, SIZE, chunk=chunk)])
    assert (looked - found[0]).abs().max() <= EXACT


@pytest.mark.parametrize("chunk", [0, 1, 3])
def test_given_activations_stand_for_the_samples_own(net: Network, chunk: int) -> None:
    """On an axis of the batch that is not the first, and beside an image that is read for itself."""
    samples = drawn(7)
    tokens = torch.randn(7, 12, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    samples = [sample._replace(given=tokens[i]) for i, sample in enumerate(samples)]
    found = list(gradients(net, samples, OBJECTIVE, SIZE, at="rows", chunk=chunk))
    expected = [alone(net, sample, "rows") for sample in samples]
    assert (torch.cat([b.scores for b in found]) - torch.stack([e[0] for e in expected])).abs().max() <= EXACT
    assert (torch.cat([b.gradients for b in found]) - torch.stack([e[1] for e in expected])).abs().max() <= EXACT
    looked = list(scores(net, samples, OBJECTIVE, SIZE, at="rows", chunk=chunk))
    assert (torch.cat([b.scores for b in looked]) - torch.stack([e[0] for e in expected])).abs().max() <= EXACT
    assert all(b.gradients.numel() == 0 and not b.scores.requires_grad for b in looked)
    own = torch.cat([b.scores for b in scores(net, drawn(7), OBJECTIVE, SIZE)])
    assert (own - torch.stack([e[0] for e in expected])).abs().max() > 1e-2


def test_the_images_that_are_run_are_as_many_as_the_samples(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []
    real = Network.run

    def run(self: Network, images: Tensor, *arguments: Any) -> Any:
        counted.append(len(images))
        return real(self, images, *arguments)

    monkeypatch.setattr(Network, "run", run)
    for count in (5, 50, 200):
        counted.clear()
        list(gradients(net, drawn(count), OBJECTIVE, SIZE, chunk=8))
        assert sum(counted) == count
        assert len(counted) == -(-count // 8)
    counted.clear()
    x = images(3, 3, *SIZE, dtype=torch.float64)
    mean_gradient(net, x, OBJECTIVE, Line(x * 0, 13), at="rows", chunk=4)
    assert sum(counted) == 3 * 13


def test_samples_are_drawn_when_their_turn_comes() -> None:
    drawn_so_far = []

    def items() -> Iterator[int]:
        for i in range(20):
            drawn_so_far.append(i)
            yield i

    chunks = in_chunks(items(), 6, list)
    assert drawn_so_far == []
    assert next(chunks) == [0, 1, 2, 3, 4, 5]
    assert len(drawn_so_far) == 6
    assert next(chunks) == [6, 7, 8, 9, 10, 11]
    assert len(drawn_so_far) == 12
    assert [len(c) for c in chunks] == [6, 2]
    assert list(in_chunks([], 6, list)) == []


SHORT: dict[str, Callable[[], Exception]] = {
    "python": MemoryError,
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "linux": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 18874368 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "windows": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate 8 B."
    ),
    "mps": lambda: RuntimeError("MPS backend out of memory (MPS allocated: 18.02 GiB, other allocations: 36.27 MiB)."),
}


def fails_above(most: int, error: Callable[[], Exception], asked: list[int]) -> Callable[[list[int]], list[int]]:
    def run(items: list[int]) -> list[int]:
        asked.append(len(items))
        if len(items) > most:
            raise error()
        return [i * i for i in items]

    return run


@pytest.mark.parametrize("kind", SHORT)
def test_a_chunk_is_halved_when_memory_has_run_out(kind: str) -> None:
    asked: list[int] = []
    made = list(in_chunks(range(20), 16, fails_above(5, SHORT[kind], asked)))
    assert [i for chunk in made for i in chunk] == [i * i for i in range(20)]
    # Halved twice, and left there: what has failed is not tried again.
    assert asked == [16, 8, 4, 4, 4, 4, 4]


def test_a_chunk_that_is_too_large_later_is_halved_there() -> None:
    asked: list[int] = []

    def run(items: list[int]) -> list[int]:
        asked.append(len(items))
        if 9 in items and len(items) > 2:
            raise MemoryError
        return items

    assert [i for chunk in in_chunks(range(12), 5, run) for i in chunk] == list(range(12))
    assert asked == [5, 5, 2, 2, 2, 1]


def test_a_last_chunk_that_fails_is_halved_by_its_own_length() -> None:
    asked: list[int] = []
    made = list(in_chunks(range(3), 16, fails_above(2, MemoryError, asked)))
    assert [i for chunk in made for i in chunk] == [0, 1, 4]
    assert asked == [3, 1, 1, 1]


@pytest.mark.parametrize("least", [1, 3])
def test_too_little_memory_for_the_least_is_said_in_one_sentence(least: int) -> None:
    asked: list[int] = []
    with pytest.raises(InwardError, match=r"^there is not enough memory for one image; give a smaller --size"):
        list(in_chunks(range(20), 12, fails_above(0, MemoryError, asked), least=least))
    assert asked == ([12, 6, 3, 1] if least == 1 else [12, 6, 3])


@pytest.mark.parametrize(
    "error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no"), KeyError("x")]
)
def test_other_errors_are_passed_on(error: Exception) -> None:
    asked: list[int] = []

    def run(items: list[int]) -> None:
        asked.append(len(items))
        raise error

    with pytest.raises(type(error)) as raised:
        list(in_chunks(range(20), 8, run))
    assert raised.value is error
    assert asked == [8]


def test_the_answer_after_halving_is_the_same(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    plain = mean_gradient(net, x, OBJECTIVE, Line(x * 0, 9), at="rows", chunk=1)
    real, asked = Network.run, []

    def run(self: Network, images: Tensor, *arguments: Any) -> Any:
        asked.append(len(images))
        if len(images) > 3:
            raise SHORT["linux"]()
        return real(self, images, *arguments)

    monkeypatch.setattr(Network, "run", run)
    short = mean_gradient(net, x, OBJECTIVE, Line(x * 0, 9), at="rows", chunk=16)
    assert asked == [16, 8, 4, *[2] * 13, 1]
    assert (short[0] - plain[0]).abs().max() <= EXACT
    assert (short[1] - plain[1]).abs().max() <= EXACT


def test_a_budget_says_how_many_are_run_at_once(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    an_image = room.bytes_of(net, ["class"], SIZE)
    assert an_image > 8 * (8 * 4 * 3 + 12 * 6 + 5)
    # Three times what is computed with gradients, half of it without.
    found = [images_at_once(net.within(int(3 * an_image * share)), ["class"], SIZE) for share in (0.1, 1, 2.5, 7, 1e6)]
    assert found == [1, 1, 2, 7, 16]
    assert images_at_once(net.within(2 * an_image), ["class"], SIZE, gradients=False) == 4
    assert images_at_once(net.within(2 * an_image), ["class"], SIZE, gradients=False, most=3) == 3
    monkeypatch.setattr(room, "free_bytes", lambda device: 2 * 3 * an_image * 5)
    assert images_at_once(net.within(None), ["class"], SIZE) == 5
    tight = net.within(int(3 * an_image * 2.5))
    assert [len(b.samples) for b in gradients(tight, drawn(5), OBJECTIVE, SIZE)] == [2, 2, 1]
    assert [len(b.samples) for b in gradients(tight, drawn(5), OBJECTIVE, SIZE, chunk=4)] == [4, 1]


def test_a_budget_changes_nothing_else_and_stays_with_what_is_made_of_it(net: Network) -> None:
    x = images(3, 3, *SIZE, dtype=torch.float64)
    tight = net.within(1)
    assert (tight.memory, net.memory, tight.within(None).memory) == (1, None, None)
    assert torch.equal(tight(x), net(x))
    assert tight.weights_hash() == net.weights_hash()
    made = [tight.edit(lambda module: None), tight.upto("rows"), tight.to(dtype=torch.float32), tight.to()]
    assert [one.memory for one in made] == [1, 1, 1, 1]
    values = [mean_gradient(one, x, OBJECTIVE, Line(x * 0, 5))[1] for one in (net, tight)]
    assert (values[0] - values[1]).abs().max() <= EXACT


@pytest.mark.parametrize("memory", [0, -5])
def test_no_room_at_all_is_refused(net: Network, memory: int) -> None:
    with pytest.raises(CallError, match=f"a budget of memory is 1 byte or more, not {memory}"):
        net.within(memory)


def test_totals_by_hand() -> None:
    """Two samples of the first owner, one of the last, in float32; their sums in float64."""
    total = Total(3)
    total.add([2, 0], torch.tensor([0.5, 2.0]), torch.tensor([4.0, 1.0]), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    total.add([0], torch.tensor([-1.0]), torch.tensor([10.0]), torch.tensor([[1.0, 1.0]]))
    assert total.scores.tolist() == [-8, 0, 2]
    assert total.values.tolist() == [[5, 7], [0, 0], [0.5, 1]]
    assert total.values.dtype == torch.float64


CHILD = """
import resource, torch
torch.set_num_threads(1)
from torch import nn
from inward.columns.objectives import ClassScore
from inward.gradient import Sample, gradients
from inward.network import Network

torch.manual_seed(0)
layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval()
size = (100, 90)
net = Network.of(module, size=size)
pictures = torch.rand(4, 3, *size)

def total(count, chunk):
    made = gradients(net, (Sample(0, pictures[i % 4]) for i in range(count)), ClassScore(1), size, at="2", chunk=chunk)
    seen, found = [], 0
    for batch in made:
        seen.append(len(batch.samples))
        found = found + sum(gradient.double() for gradient in batch.gradients)
    return seen, found

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

_, plain = total(32, 2)
total(32, 4), total(32, 4)
before = peak()
total(120, 4)
print("grown", peak() - before)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 60 * 2**20, resource.RLIM_INFINITY))
try:
    torch.empty(2**28)
except RuntimeError as error:
    print("said", error)
seen, found = total(32, 32)
print("seen", *seen)
print("gap", ((found - plain).abs().max() / plain.abs().max()).item())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of an address space, and its size, are Linux's")
def test_memory_that_really_runs_out() -> None:
    """32 pictures, each with at least three maps of 1125 KiB, do not fit where a process may take 60 MiB more.

    What the process has freed goes back to the system at once, so that room it kept does not count besides.
    """
    returned = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**16)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD], env=returned, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    # 120 samples take what 32 took: a picture's gradient at the point is 1125 KiB, and none of them is kept.
    assert int(said["grown"]) < 10 * 1125
    assert "can't allocate memory" in said["said"]
    seen = [int(n) for n in said["seen"].split()]
    assert sum(seen) == 32
    assert 1 <= seen[0] <= 16
    # Sums of a few thousand float32, in another order.
    assert float(said["gap"]) < 1e-5
