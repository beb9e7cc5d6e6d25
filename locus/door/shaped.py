"""Rows in memory that have the shape of a reader: lists of mappings and data frames."""

from collections.abc import Iterable, Mapping
from typing import Any

from locus import behaviours
from locus.behaviours.items import Item
from locus.behaviours.readers import opening
from locus.behaviours.readers.reader import FIRST, Rows


def read_in_memory(source: Any, reader: str | None, name: str) -> tuple[Item, ...]:
    """The items of rows that a reader reads; none where they are in our own shape, or in no known one.

    Args:
        source: a data frame, or a list of mappings.
        reader: its name, with a part behind a `#`; found by the first rows where None.
        name: what the rows are called, for messages.

    Raises:
        UserError: if their shape is that of several readers, or of none where one is named, or naming every wrong row.
    """
    first: list[Any]
    if hasattr(source, "to_dict") and hasattr(source, "columns"):
        frame: Any = source.rename(columns=str)
        first = frame.head(FIRST).to_dict("records")
    elif isinstance(source, list | tuple):
        frame, first = None, list(source[:FIRST])
    else:
        return ()
    if reader is None:
        if not all(isinstance(row, Mapping) for row in first) or any(map(behaviours.own, first)):
            return ()
        found = opening.recognised([_plain(row) for row in first])
        if not found:
            return ()
        reader = opening.only(found, repr(name)).name
    called, _, part = reader.partition("#")
    whole = source if frame is None else frame.to_dict("records")
    return opening.made(opening.get(called), _rows(whole, name, part))


def _rows(source: Iterable[Any], name: str, part: str) -> Rows:
    """Rows by their place, counted from 0; what is no mapping has no fields, and is refused by the reader."""
    numbered = [(place, _plain(row) if isinstance(row, Mapping) else {}) for place, row in enumerate(source)]
    return Rows(name, numbered, "row", part=part)


def _plain(value: Any) -> Any:
    """Cells as JSON has them: arrays and tuples as lists, numpy's scalars as Python's, what is missing as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    missing = (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
    return None if missing else value
