"""Who computes: known orders, by threads that really wait."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable

import pytest
import torch

from inward.network.modes import drawing
from inward.server.turns import TooManyError, Turns, Urgency


def waiting(turns: Turns, count: int) -> None:
    """Until so many wait."""
    until = time.monotonic() + 10
    while len(turns._waiting) != count:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_the_most_urgent_goes_first_and_equals_in_the_order_they_came() -> None:
    turns, order = Turns(), []

    def work(name: str, urgency: Urgency) -> None:
        with turns.turn(urgency):
            order.append(name)

    asked = [("b1", 2), ("a1", 1), ("r1", 0), ("b2", 2), ("r2", 0), ("a2", 1)]
    threads = []
    with turns.turn(Urgency.BACKGROUND):
        for count, (name, urgency) in enumerate(asked, 1):
            threads.append(threading.Thread(target=work, args=(name, Urgency(urgency))))
            threads[-1].start()
            waiting(turns, count)
        assert order == []
    for thread in threads:
        thread.join(10)
    assert order == ["r1", "r2", "a1", "a2", "b1", "b2"]


def steps(turns: Turns, order: list[str], name: str, urgency: Urgency, passes: int, fits: bool = True) -> None:
    """A work of so many passes."""
    with turns.turn(urgency, lambda: fits) as ticket:
        for index in range(passes):
            turns.give_way(ticket)
            order.append(f"{name}{index}")


def run_beside(turns: Turns, order: list[str], works: list[tuple[str, Urgency, bool]]) -> list[str]:
    """The order in which passes come: of three of the background, and two of each of these."""
    threads = []
    with turns.turn(Urgency.BACKGROUND) as mine:
        # Nobody else is there: it goes on.
        turns.give_way(mine)
        order.append("long 0")
        for name, urgency, fits in works:
            threads.append(threading.Thread(target=steps, args=(turns, order, name, urgency, 2, fits)))
            threads[-1].start()
            waiting(turns, len(threads))
        for index in (1, 2):
            turns.give_way(mine)
            order.append(f"long {index}")
    for thread in threads:
        thread.join(10)
    return order


def test_a_long_work_gives_way_to_the_more_urgent_at_once_and_to_its_equals_when_its_share_is_over() -> None:
    works = [("other ", Urgency.BACKGROUND, True), ("asked ", Urgency.ASKED, True)]
    ended = ["long 0", "asked 0", "asked 1"]
    found = run_beside(Turns(share=60), [], works)
    assert found == [*ended, "long 1", "long 2", "other 0", "other 1"]
    # Before every pass of its own it asks, and goes behind its equal.
    found = run_beside(Turns(share=0), [], works)
    assert found == [*ended, "long 1", "other 0", "long 2", "other 1"]


def test_beside_its_equal_nothing_begins_that_does_not_fit() -> None:
    works = [("large ", Urgency.BACKGROUND, False), ("asked ", Urgency.ASKED, False)]
    found = run_beside(Turns(share=0), [], works)
    # The asked one is alone in its urgency. The large one waits for the end, though its turn comes sooner.
    assert found == ["long 0", "asked 0", "asked 1", "long 1", "long 2", "large 0", "large 1"]


def test_nobody_overtakes_one_that_waits_for_memory() -> None:
    turns, order, room = Turns(share=0), [], threading.Event()
    threads = []
    with turns.turn(Urgency.ASKED) as mine:
        asked = [("large ", lambda: room.is_set()), ("small ", lambda: True)]
        for name, fits in asked:

            def work(name: str = name, fits: Callable[[], bool] = fits) -> None:
                with turns.turn(Urgency.ASKED, fits):
                    order.append(name)

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            waiting(turns, len(threads))
        turns.give_way(mine)
        assert order == []
        room.set()
        turns.give_way(mine)
        assert order == ["large ", "small "]
    for thread in threads:
        thread.join(10)


def test_requests_do_not_make_a_share_longer() -> None:
    turns, order = Turns(share=0.05), []

    def other() -> None:
        with turns.turn(Urgency.ASKED):
            order.append("other")

    def request() -> None:
        with turns.turn(Urgency.REQUEST):
            order.append("request")

    with turns.turn(Urgency.ASKED) as mine:
        threads = [threading.Thread(target=other)]
        threads[0].start()
        waiting(turns, 1)
        # Each comes before the share is over, which goes on after it.
        while "other" not in order:
            threads.append(threading.Thread(target=request))
            threads[-1].start()
            waiting(turns, 2)
            time.sleep(0.02)
            turns.give_way(mine)
            assert len(order) < 20
    for thread in threads:
        thread.join(10)
    assert 1 <= order.index("other") <= 3


def test_works_end_in_any_order_and_take_what_they_changed_of_the_process_along() -> None:
    turns, found = Turns(share=0), {}
    outside = torch.get_rng_state()
    filters = list(warnings.filters)

    def draw(name: str, seed: int, passes: int) -> None:
        with turns.turn(Urgency.ASKED) as ticket, drawing(seed, torch.device("cpu")):
            found[name] = []
            for _ in range(passes):
                turns.give_way(ticket)
                warnings.warn("nobody reads this", stacklevel=1)
                found[name].append(torch.rand(()).item())

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=draw, args=each) for each in (("short", 3, 2), ("long", 4, 5))]
        with turns.turn(Urgency.ASKED):
            for count, thread in enumerate(threads, 1):
                thread.start()
                waiting(turns, count)
        for thread in threads:
            thread.join(10)
        assert heard == []
    for name, seed, passes in (("short", 3, 2), ("long", 4, 5)):
        alone = torch.Generator().manual_seed(seed)
        assert found[name] == [torch.rand((), generator=alone).item() for _ in range(passes)]
    assert torch.equal(torch.get_rng_state(), outside)
    assert list(warnings.filters) == filters


def test_an_exception_passes_the_turn_on_and_a_crowd_is_refused() -> None:
    turns = Turns(most=1)
    with pytest.raises(ZeroDivisionError), turns.turn(Urgency.ASKED):
        raise ZeroDivisionError
    done = threading.Event()

    def request() -> None:
        with turns.turn(Urgency.REQUEST):
            done.set()

    with turns.turn(Urgency.ASKED):
        first = threading.Thread(target=request)
        first.start()
        waiting(turns, 1)
        with pytest.raises(TooManyError), turns.turn(Urgency.REQUEST):
            pass
        assert not done.is_set()
    first.join(10)
    assert done.is_set()
