"""A progress bar for work that counts what is done: live on a terminal, silent in a log file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Step", "progress_bar"]

Step = Callable[[int, int, str], None]


@contextmanager
def progress_bar(*, quiet: bool = False) -> Iterator[Step]:
    """Yield a function to call with (done, total, what); a new ``what`` starts a new bar with its own time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}
    last: dict[str, int] = {}

    def step(done: int, total: int, what: str) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        elif done < last[what]:  # the same for the next file: its time left is its own
            bar.reset(tasks[what], total=total)
        last[what] = done
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield step
