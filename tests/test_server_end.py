"""The end of a server, and what two threads see of a network while a graph of it is made."""

from __future__ import annotations

import threading
import time

import pytest
import torch
from torch import Tensor, nn

from helpers import ConvNet, network
from inward.server.turns import TooManyError, Turns, Urgency
from same import seeded


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
