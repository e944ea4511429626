"""What a command says: answers on standard output, all else on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """How many a minute."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self._of = of

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{60 * speed:.1f} {self._of} a minute", style="progress.data.speed")


def progress_bar(rate: str = "") -> Progress:
    """A bar on standard error where that is a terminal, and nothing elsewhere; with the ``rate`` of what is named."""
    console = Console(stderr=True)
    columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [_Rate(rate)] if rate else []
    columns.append(TimeRemainingColumn())
    # Rich would send standard output to the bar's console, and a file that it is redirected to would stay empty.
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=not console.is_terminal)


def answer(bar: Progress, text: str) -> None:
    """A line on standard output; above the bar where both are on a terminal."""
    if bar.console.is_terminal and sys.stdout.isatty():
        bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
    else:
        print(text, flush=True)


def note(bar: Progress, text: str) -> None:
    """A line on standard error."""
    bar.console.print(f"note: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def fetching(bar: Progress) -> Callable[[str, int, int | None], None]:
    """What is told of a file that is fetched: a bar of its megabytes, which goes when it is there."""
    tasks: dict[str, TaskID] = {}

    def tell(name: str, have: int, total: int | None) -> None:
        if name not in tasks:
            tasks[name] = bar.add_task(f"fetch {name}, MB", total=None)
        done = have == total
        whole = None if total is None else -(-total // 10**6)
        bar.update(tasks[name], completed=have // 10**6, total=whole, visible=not done)

    return tell


def stopped(bar: Progress, folder: object) -> int:
    """Says that what was stopped goes on, and gives the exit status of a stop."""
    bar.stop()
    print(f"inward: stopped; the same command goes on from what {folder} holds", file=sys.stderr)
    return 130
