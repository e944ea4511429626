"""The end of a server, jobs beside one another, and what two threads see of a network while a graph of it is made."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import inward
from helpers import ConvNet, network
from inward.methods.table import TABLE
from inward.network.room import bytes_to_begin
from inward.server.jobs import Ask, Jobs, Progress
from inward.server.turns import TooManyError, Turns, Urgency
from same import seeded
from tests.serving import serving


def test_nobody_waits_for_a_turn_at_the_end() -> None:
    turns, told = Turns(), []

    def wait() -> None:
        try:
            with turns.turn(Urgency.REQUEST):
                told.append("computed")
        except TooManyError:
            told.append("refused")

    with turns.turn(Urgency.ASKED):
        waiting = threading.Thread(target=wait)
        waiting.start()
        while not turns._waiting:
            time.sleep(0.01)
        turns.close()
        waiting.join(timeout=10)
        assert told == ["refused"]


class Asking(ConvNet):
    """Asks in the middle of its run, as another thread may."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = lambda: None

    def forward(self, x: Tensor) -> Tensor:
        self.ask()
        return super().forward(x)


def test_weights_have_values_while_a_graph_is_made() -> None:
    module = seeded(Asking).eval()
    net = network(module, (9, 12))
    before, found = net.weights_hash(), []

    def ask() -> None:
        other = threading.Thread(target=lambda: found.append(net.weights()))
        other.start()
        other.join()

    inner: nn.Module = net._source.module  # type: ignore[attr-defined]
    object.__setattr__(inner, "ask", ask)
    net.graph((11, 13))
    assert len(found) > 1
    for weights in found:
        assert all(type(w) in (Tensor, nn.Parameter) for w in weights.values())
        pairs = zip(weights.values(), net.weights().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    assert net.weights_hash() == before


@pytest.mark.parametrize("count", [1, 3])
def test_turns_are_taken_after_one_another(count: int) -> None:
    turns, inside, most = Turns(), 0, 0

    def work() -> None:
        nonlocal inside, most
        with turns.turn(Urgency.REQUEST):
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert (inside, most) == (0, 1)


def test_jobs_compute_in_turn_where_there_is_memory_for_both(tmp_path: Path) -> None:
    net = inward.load("inward/robust")
    with serving([net], tmp_path) as client:
        long = client.submit("feature-visualization", addresses=["stage3.1/0"], options={"steps": 5000})
        client.until(long["id"], "running")
        # What is asked for later and is short does not wait for its end.
        short = client.done("pgd", image="cat", options={"steps": 6})
        before = client.get(f"jobs/{long['id']}")
        assert before["state"] == "running"
        while client.get(f"jobs/{long['id']}")["done"] < before["done"] + 5:
            time.sleep(0.02)
        client.ask("DELETE", f"/api/jobs/{long['id']}")
        client.until(long["id"], "cancelled")
    found = load_file(tmp_path / "results" / short["results"][""] / "arrays.safetensors")["adversarial"]
    images = inward.read(tmp_path / "samples" / "cat.png", net)
    assert torch.equal(found, inward.pgd(net, images, steps=6).adversarial)


@pytest.mark.parametrize("fits", [True, False])
def test_a_job_waits_for_memory_and_not_for_more(fits: bool) -> None:
    row = next(row for row in TABLE if row.name == "saliency")
    went, order = threading.Event(), []

    def work(ask: Ask, progress: Progress) -> None:
        order.append(ask.image)
        for index in range(10**9):
            progress(index, 10**9)
            if ask.image == "second" or went.is_set():
                return

    jobs = Jobs(work, Turns(share=0), most=3, at_once=2, fits=lambda _: fits)
    first, second = (jobs.submit(Ask(row, 0, name, (), {}, {}), {}) for name in ("first", "second"))
    until = time.monotonic() + (30 if fits else 0.5)
    while second.state != "done" and time.monotonic() < until:
        time.sleep(0.01)
    assert (first.state, second.state) == ("running", "done" if fits else "waiting")
    went.set()
    while second.state != "done":
        time.sleep(0.01)
    assert order == ["first", "second"]
    jobs.close()


class Unused(ConvNet):
    """With a layer that is never called, as training heads are."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 5, 1)


def test_a_job_of_a_network_with_a_layer_that_is_never_called_begins(tmp_path: Path) -> None:
    net = network(seeded(Unused).eval(), (9, 12))
    assert not net.points["head"].node
    assert bytes_to_begin(net) == bytes_to_begin(network(seeded(ConvNet).eval(), (9, 12)))
    with serving([net], tmp_path) as client:
        client.done("saliency", image="cat", options={"target": "class:1"})


def test_a_network_that_was_cut_is_shown(tmp_path: Path) -> None:
    net = network(seeded(ConvNet).eval(), (9, 12))
    point = next(name for name, p in net.points.items() if p.units and name != "input")
    with serving([net, net.upto(point)], tmp_path) as client:
        assert [each["logits"] is None for each in client.get("session")["networks"]] == [False, True]


def test_what_a_job_needs_to_begin_is_counted_of_all_that_a_run_makes() -> None:
    net = network(seeded(ConvNet).eval(), (9, 12))
    made = net.trace(torch.rand(1, 3, 9, 12), list(net.points))
    least = sum(4 * made[p].numel() for p in net.points if p != "input")
    needed = bytes_to_begin(net) - 2**29
    assert 6 * least / 2 < needed < 6 * least * 2
