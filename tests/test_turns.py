"""Who computes: known orders, by threads that really wait."""

from __future__ import annotations

import threading
import time

import pytest

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


def test_a_long_work_gives_way_to_the_more_urgent_alone_and_works_are_nested() -> None:
    turns, order = Turns(), []

    def work(name: str, urgency: Urgency, passes: int) -> None:
        with turns.turn(urgency) as ticket:
            for index in range(passes):
                turns.give_way(ticket)
                order.append(f"{name}{index}")

    threads = []
    with turns.turn(Urgency.BACKGROUND) as mine:
        # Nobody is more urgent: it goes on.
        turns.give_way(mine)
        order.append("long 0")
        for name, urgency in (("other ", 2), ("asked ", 1)):
            threads.append(threading.Thread(target=work, args=(name, Urgency(urgency), 2)))
            threads[-1].start()
            waiting(turns, len(threads))
        turns.give_way(mine)
        order.append("long 1")
        turns.give_way(mine)
        order.append("long 2")
    for thread in threads:
        thread.join(10)
    # The other of the same urgency begins only when this has ended.
    assert order == ["long 0", "asked 0", "asked 1", "long 1", "long 2", "other 0", "other 1"]


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
