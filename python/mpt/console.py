# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Progress bars and messages, the same in every command."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console()
errors = Console(stderr=True)


def bar(time_left: bool = False) -> Progress:
    """Return a progress display whose tasks may carry a `note` field (such as the loss).

    time_left: show the share done and an estimate, for tasks whose unit is not a step.
    """
    counters: tuple[ProgressColumn, ...] = (MofNCompleteColumn(), TimeElapsedColumn())
    if time_left:
        counters = (TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        *counters,
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def fail(message: str) -> None:
    """Write an error to stderr exactly as it is: no markup, no wrapping."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
