"""Notices: what the user should know and need not mend, said once, at the line of theirs that asked for it.

A verb is many calls deep where it notices something, and several verbs notice the same. Python would name a line of ours, and say
it once a verb.
"""

import sys
import warnings
from pathlib import Path

PACKAGE = str(Path(__file__).parents[1])
_heard: set[tuple[str, type[Warning]]] = set()
_while: tuple[object, tuple[object, ...]] = (None, ())  # the filters of warnings for which `_heard` holds


def notice(message: str | Warning, category: type[Warning] = UserWarning, once: bool = True) -> None:
    """Warn at the line that called this package; the same text once, until somebody changes what is done with warnings.

    Args:
        message: the text, or a warning that holds it.
        category: of a text.
        once: False for what is said of every run anew.
    """
    global _while
    filters: tuple[object, ...] = tuple(warnings.filters)
    if _while[0] is not warnings.filters or _while[1] != filters:
        _heard.clear()
        _while = (warnings.filters, filters)
    key = (str(message), type(message) if isinstance(message, Warning) else category)
    if once and key in _heard:
        return
    _heard.add(key)
    warnings.warn(message, category, stacklevel=_depth())


def _depth() -> int:
    """How many calls above `notice` the caller of the package is."""
    frame, depth, ours = sys._getframe(1), 1, 1
    while frame is not None:
        if frame.f_code.co_filename.startswith(PACKAGE):
            ours = depth
        frame, depth = frame.f_back, depth + 1  # type: ignore[assignment]
    return ours + 1
