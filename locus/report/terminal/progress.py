"""How far the whole command is and how long it will take: a bar in a terminal, a line now and then anywhere else."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from locus.boundary import terminal
from locus.boundary.terminal import Console, Text
from locus.shown import line

Progress = Callable[[str, float], None]
STEP, NEWS = 0.05, 0.01  # share of the whole after which another line is due; and where something new has begun


@contextmanager
def progress(console: Console | None = None) -> Iterator[Progress]:
    """Show how far the command is; gives the function to report to.

    Args:
        console: where to; standard error by default.
    """
    console = console or terminal.console(stderr=True)
    if not console.is_terminal:
        yield lines(console)
        return
    columns = (
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.description}", markup=False),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar, terminal.guarded():
        task = bar.add_task("starting", total=1.0)

        def progress(what: str, share: float) -> None:
            if what:
                bar.update(task, completed=share, description=line(what)[:60])
            else:
                bar.update(task, completed=share)

        yield progress


def lines(console: Console, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Report in plain lines: one for every twentieth of the whole, and one when something new begins, a hundredth apart."""
    began, last, named = clock(), -1.0, ""

    def progress(what: str, share: float) -> None:
        nonlocal last, named
        ended = last < 1 <= share
        if not ended and share < last + (STEP if what in ("", named) else NEWS):
            return
        last, named = share, what or named
        passed = clock() - began
        left = f", {_clock(passed * (1 - share) / share)} left" if 0 < share < 1 else ""
        console.print(Text(f"{share:4.0%}  {_clock(passed)}{left}  {line(named, 600)}"), soft_wrap=True)

    return progress


def _clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
