"""How far a verb is, where somebody looks: a bar in a terminal or a notebook, a callback, or silence."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

from locus.shown import visible

Progress = Callable[[str, float], None]
Wanted = bool | Progress | None
STEP = 0.002  # share of the whole after which a notebook's bar is drawn anew


def silence(what: str, share: float) -> None:
    """Tell nobody."""


@contextmanager
def showing(progress: Wanted = None) -> Iterator[Progress]:
    """What a verb tells of its progress while a `with` block lasts.

    Args:
        progress: None or True: a bar in a notebook, and in a terminal; plain lines elsewhere. False: silence. A function: it is
            called with what is being done (or "" for no news) and the share of the whole that is done, 0 to 1.
    """
    if progress is False:
        yield silence
    elif callable(progress):
        yield progress
    elif (display := _notebook()) is not None:
        with _bar(display) as say:
            yield say
    else:
        from locus.report.terminal.progress import progress as in_terminal

        with in_terminal() as say:
            yield say


def note(text: str, progress: Wanted = None) -> None:
    """Say something once, beside the bar, unless silence is wanted."""
    if progress is not False and not callable(progress):
        from locus.boundary import terminal

        terminal.console(stderr=True).print(terminal.Text(text), soft_wrap=True)


def _notebook() -> Any:
    """IPython's display, where a notebook is what asks; None anywhere else."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display

    return display


@contextmanager
def _bar(display: Any) -> Iterator[Progress]:
    """A bar of plain HTML in a notebook's cell, which needs no widgets and goes when the work is done."""
    import IPython.display

    html: Any = IPython.display.HTML
    handle = display(html(bar("starting", 0.0)), display_id=True)
    last, named = -1.0, "starting"

    def say(what: str, share: float) -> None:
        nonlocal last, named
        if share - last >= STEP or (what and what != named):
            last, named = share, what or named
            handle.update(html(bar(named, share)))

    try:
        yield say
    finally:
        handle.update(html(""))


def bar(what: str, share: float) -> str:
    """A bar as HTML; whatever it names is made visible and escaped."""
    percent = 100 * min(1.0, max(0.0, share))
    return f'<progress max="100" value="{percent:.1f}"></progress> {percent:.0f} % <small>{escape(visible(what, 80))}</small>'
