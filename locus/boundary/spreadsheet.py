"""Tables for spreadsheets: CSV in which no text becomes a formula, whatever a model or a stranger wrote."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from locus import atomic

# Where a cell begins, for a spreadsheet that splits at commas or at semicolons; full-width signs count as signs there.
FORMULA = re.compile("(^|[;\t\r\n])(?='*[=+\\-@\t\r＝＋－＠])")
QUOTED = re.compile("(^|[;\t\r\n])'(?='*[=+\\-@\t\r＝＋－＠])")


@lru_cache(maxsize=1 << 16)
def _text_cell(text: str) -> str:
    return FORMULA.sub(r"\1'", text)


def cell(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that would begin one begins with an apostrophe; numbers stay."""
    return _text_cell(value) if isinstance(value, str) else value


def from_cell(text: str) -> str:
    """The text of which `cell` made a cell; other text, but for an apostrophe before a formula, is left as it is."""
    return QUOTED.sub(r"\1", text)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table for spreadsheets, whole or not at all: UTF-8, commas, every text and heading as a `cell`.

    Args:
        path: the file.
        columns: headings.
        rows: texts, numbers, and None for an empty cell.

    Raises:
        OSError: if it cannot be written.
    """
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow([cell(name) for name in columns])
    writer.writerows([cell(value) for value in row] for row in rows)
    atomic.replace(path, buffer.getvalue().encode("utf-8", "backslashreplace"))
