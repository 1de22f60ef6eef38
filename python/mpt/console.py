# Part of mpt, under the Apache License v2.0 with LLVM Exceptions. See LICENSE.
"""Progress bars and messages, the same in every command."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console()
errors = Console(stderr=True)


def bar() -> Progress:
    """Return a progress display whose tasks may carry a `note` field (such as the loss)."""
    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )


def fail(message: str) -> None:
    """Write an error to stderr exactly as it is: no markup, no wrapping."""
    errors.print(message, markup=False, highlight=False, soft_wrap=True)
