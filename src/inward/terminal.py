"""What a command says: answers on standard output, all else on standard error."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """A bar on standard error where that is a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
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
