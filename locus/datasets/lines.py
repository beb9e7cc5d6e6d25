"""JSON lines as people write them: every wrong line is named in one message, blank lines do not count."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from locus.errors import UserError

Made = TypeVar("Made")


def read(path: str, make: Callable[[int, dict[str, Any]], Made], expected: str, what: str) -> list[Made]:
    """Make something of every line of a JSONL file.

    Args:
        path: the file.
        make: from a line's number (from 1) and object; raises ValueError or UserError for what is wrong with it.
        expected: what a line should hold, for the message.
        what: what the file holds ("question").

    Raises:
        UserError: if the file cannot be read, holds nothing, or has wrong lines: all of them, by number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"a UTF-8 JSONL file of {what}s", f"{path!r} ({error})", "Check the path.") from error
    made: list[Made] = []
    wrong: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            made.append(make(number, _row(line)))
        except (ValueError, UserError) as error:
            for problem in error.args[0] if _many(error) else [error]:
                wrong.setdefault(str(problem), []).append(number)
    if wrong or not made:
        listed = [f"{_named(numbers)}: {problem}" for problem, numbers in wrong.items()]
        shown = "; ".join(listed[:20]) + (f"; and {len(listed) - 20} more" if len(listed) > 20 else "")
        raise UserError(expected, f"{path!r}: {shown or f'no {what}'}", "Mend these lines.")
    return made


def _named(numbers: list[int]) -> str:
    """The lines that one thing is wrong with."""
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"line{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:3]))}{more}"


def _many(error: Exception) -> bool:
    """Whether an error carries a list of problems."""
    return bool(error.args) and isinstance(error.args[0], list)


def _row(line: str) -> dict[str, Any]:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, received {type(row).__name__}")
    return row
