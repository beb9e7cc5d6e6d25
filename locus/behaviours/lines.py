"""JSON lines and CSV as people write them: every wrong line or row is named in one message, blank ones do not count.

A line ends at a line feed, with or without a carriage return, and at nothing else: other characters that end a line somewhere
may stand inside a text. A byte order mark is taken off. Refused are a file or line that is too large, what is not UTF-8, a name
or column given twice, NaN, integers beyond 2^53, half of a surrogate pair, NUL, and rows of more or fewer cells than the header.
"""

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from locus.boundary import incoming
from locus.errors import UserError
from locus.records.base import JsonObject

FILE_BYTES = 256 << 20
LINE_BYTES = 1 << 20
MARK = b"\xef\xbb\xbf"

Made = TypeVar("Made")


def read_lines(path: str, make: Callable[[int, JsonObject], Made], expected: str, what: str) -> list[Made]:
    """Make something of every line of a JSONL file.

    Args:
        path: the file.
        make: from a line's number (from 1) and object; raises ValueError or UserError for what is wrong with it.
        expected: what a line should hold, for the message.
        what: what the file holds ("question").

    Raises:
        UserError: if the file cannot be read, holds nothing, or has wrong lines: all of them, by number.
    """
    content = incoming.read_bytes(Path(path), f"a UTF-8 JSONL file of {what}s", FILE_BYTES).removeprefix(MARK)
    values: list[Made] = []
    wrong: dict[str, list[int]] = {}
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            values.append(make(number, _row(line)))
        except (ValueError, UserError) as error:
            for problem in error.args[0] if _many(error) else [error]:
                wrong.setdefault(str(problem), []).append(number)
    if wrong or not values:
        raise UserError(expected, f"{path!r}: {listed(wrong, 'line') or f'no {what}'}", "Mend these lines.")
    return values


def text(path: Path, what: str) -> str:
    """A file's text, without a byte order mark.

    Args:
        path: the file.
        what: what it should be, for the message.

    Raises:
        UserError: if it cannot be read, is too large, or is not UTF-8.
    """
    return incoming.text_of(incoming.read_bytes(path, what, FILE_BYTES), what, str(path))


def read_table(
    content: str, name: str, columns: Sequence[str], remedy: str, delimiter: str = ","
) -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV with their numbers; the header is row 1.

    Args:
        content: the file's text.
        name: of the file, for the message.
        columns: those it must have; it may have others.
        remedy: where one is missing.
        delimiter: what stands between cells.

    Raises:
        UserError: if a column is missing or named twice, or naming all rows that are no rows of this table.
    """
    reader = csv.reader(io.StringIO(content, newline=""), strict=True, delimiter=delimiter)
    expected = f"a CSV with the columns {', '.join(columns)}" if columns else "a table with a header, each column named once"
    header: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    wrong: dict[str, list[int]] = {}
    number = 0
    try:
        for number, cells in enumerate(reader, 1):
            if not header:
                header = _header(cells, name, columns, expected, remedy)
            elif problem := _no_row(cells, header):
                wrong.setdefault(problem, []).append(number)
            elif cells:
                rows.append((number, dict(zip(header, cells, strict=True))))
    except csv.Error as error:  # what follows cannot be told apart from it
        wrong.setdefault(str(error), []).append(number + 1)
    if wrong or not header:
        raise UserError(expected, f"{name!r}: {listed(wrong, 'row') or 'nothing in it'}", "Mend these rows." if wrong else remedy)
    return rows


def _header(cells: list[str], name: str, columns: Sequence[str], expected: str, remedy: str) -> list[str]:
    """The names of columns.

    Raises:
        UserError: if one is missing or given twice.
    """
    if missing := [column for column in columns if column not in cells]:
        raise UserError(expected, f"{name!r} without {', '.join(missing)}", remedy)
    if twice := sorted({column for column in cells if cells.count(column) > 1}):
        raise UserError(expected, f"{name!r} with {', '.join(map(repr, twice[:3]))} more than once", "Name each column once.")
    return cells


def _no_row(cells: list[str], header: list[str]) -> str:
    """What is wrong with a row; nothing with an empty one."""
    if any("\0" in cell for cell in cells):
        return "a NUL character"
    if cells and len(cells) != len(header):
        return f"{len(cells)} cells, not {len(header)}"
    return ""


def listed(wrong: dict[str, list[int]], unit: str) -> str:
    """What is wrong with which lines or rows, by their numbers."""
    listed = [f"{_line_numbers(numbers, unit)}: {problem}" for problem, numbers in wrong.items()]
    return "; ".join(listed[:20]) + (f"; and {len(listed) - 20} more" if len(listed) > 20 else "")


def _line_numbers(numbers: list[int], unit: str) -> str:
    """The lines that one thing is wrong with."""
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"{unit}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:3]))}{more}"


def _many(error: Exception) -> bool:
    """Whether an error carries a list of problems."""
    return bool(error.args) and isinstance(error.args[0], list)


def _row(line: bytes) -> JsonObject:
    if len(line) > LINE_BYTES:
        raise ValueError(f"{len(line):,} bytes, where {LINE_BYTES:,} at most are read")
    try:
        row: Any = incoming.parse_json(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, received {type(row).__name__}")
    if has_nul(row):
        raise ValueError("a NUL character")
    return row


def has_nul(value: Any) -> bool:
    """Whether a JSON value has a NUL character in any text."""
    if isinstance(value, dict):
        return any(has_nul(element) for pair in value.items() for element in pair)
    return "\0" in value if isinstance(value, str) else isinstance(value, list) and any(map(has_nul, value))
