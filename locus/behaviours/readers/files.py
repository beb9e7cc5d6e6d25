"""Rows of a file, whatever its format: JSON lines, JSON, CSV, TSV, Parquet, or a mapping in TOML as one row.

Sizes are bounded as everywhere: 256 MiB a file, also of a Parquet file unpacked; 1 MiB a line.
"""

import csv
import io
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from locus.behaviours import lines
from locus.behaviours.readers.reader import FIRST, Row, Rows
from locus.boundary import incoming
from locus.errors import UserError, others

TOML_BYTES = 1 << 20
BATCH = 64  # rows of a Parquet file that are unpacked at once
DELIMITERS = {".csv": ",", ".tsv": "\t"}
WHAT = "a file of questions"


def read(path: str, expected: str, part: str = "") -> Rows:
    """All rows of a file.

    Args:
        path: the file; its ending says its format.
        expected: what a row should hold, for messages.
        part: what of it is wanted.

    Raises:
        UserError: if it cannot be read, or holds what is no row.
    """
    make = FORMATS.get(Path(path).suffix.lower())
    if make is None:
        raise UserError(f"a file that ends in {', '.join(FORMATS)}", repr(path), "Give one of these.")
    unit, numbered = make(path, expected)
    if not numbered:
        raise UserError(expected, f"{path!r}: nothing in it", "Give a file with rows.")
    if wrong := [number for number, row in numbered if lines.has_nul(row)]:
        raise UserError(expected, f"{path!r}: {lines.listed({'a NUL character': wrong}, unit)}", f"Mend these {unit}s.")
    return Rows(Path(path).name, numbered, unit, expected, part, Path(path).parent)


def first(path: str) -> list[Row]:
    """The first rows of a file, as far as they can be read; what is wrong with it, is said by whoever reads it whole.

    Raises:
        UserError: if it is no regular file, or too large.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".jsonl", ".ndjson", *DELIMITERS):
        rows: list[Row] = []
        incoming.read_bytes(Path(path), WHAT, lines.FILE_BYTES)
        with suppress(UserError):
            rows = read(path, WHAT).first
        return rows
    content = incoming.read_bytes(Path(path), WHAT, lines.FILE_BYTES).removeprefix(lines.MARK)
    if suffix in DELIMITERS:
        text = io.StringIO(content[: FIRST * lines.LINE_BYTES].decode("utf-8", "replace"), newline="")
        with suppress(csv.Error):
            return list(islice(csv.DictReader(text, delimiter=DELIMITERS[suffix]), FIRST))
        return []
    found = (_object(line) for line in content[: FIRST * lines.LINE_BYTES].split(b"\n") if line.strip())
    return [row for row in islice(found, FIRST) if row is not None]


def _object(line: bytes) -> Row | None:
    with suppress(ValueError):
        row: Any = incoming.parse_json(line)
        return row if isinstance(row, dict) else None
    return None


def _lines(path: str, expected: str) -> tuple[str, list[tuple[int, Row]]]:
    return "line", lines.read_lines(path, lambda number, row: (number, row), f"one JSON object a line: {expected}", "question")


def _json(path: str, expected: str) -> tuple[str, list[tuple[int, Row]]]:
    """A list of objects, or one; what is called .json and holds JSON lines is read as such."""
    content = lines.text(Path(path), expected)
    try:
        value: Any = incoming.parse_json(content)
    except ValueError as error:
        if "Extra data" in str(error) and _object(content.strip().partition("\n")[0].encode()) is not None:
            return _lines(path, expected)
        raise UserError(f"JSON: {expected}", f"{path!r} ({str(error)[:200]})", "Check the file.") from error
    listed = value if isinstance(value, list) else [value]
    if wrong := [number for number, row in enumerate(listed, 1) if not isinstance(row, dict)]:
        received = f"{path!r}: {lines.listed({'no object': wrong}, 'object')}"
        raise UserError(f"a JSON list of objects: {expected}", received, "Mend these objects.")
    return "object", list(enumerate(listed, 1))


def _table(path: str, expected: str) -> tuple[str, list[tuple[int, Row]]]:
    delimiter = DELIMITERS[Path(path).suffix.lower()]
    rows = lines.read_table(lines.text(Path(path), expected), path, (), "Give a table with a header.", delimiter)
    return "row", list(rows)


def _parquet(path: str, expected: str) -> tuple[str, list[tuple[int, Row]]]:
    """The rows of a Parquet file, counted from 0; no more is unpacked than any file may hold."""
    import pyarrow
    from pyarrow import parquet

    content = incoming.read_bytes(Path(path), expected, lines.FILE_BYTES)
    rows: list[Row] = []
    unpacked = 0
    with others(f"a Parquet file: {expected}", path, "Check the file."):
        file = parquet.ParquetFile(pyarrow.BufferReader(content))
        if file.metadata.num_rows > incoming.VALUES:
            raise UserError(expected, f"{path!r} of {file.metadata.num_rows:,} rows", f"{incoming.VALUES:,} at most are read.")
        for batch in file.iter_batches(batch_size=BATCH):
            unpacked += batch.nbytes
            if unpacked > lines.FILE_BYTES:
                raise UserError(expected, f"{path!r}, above {lines.FILE_BYTES:,} bytes unpacked", "Give a smaller file.")
            rows += batch.to_pylist()
    return "row", list(enumerate(rows))


def _toml(path: str, expected: str) -> tuple[str, list[tuple[int, Row]]]:
    content = incoming.read_bytes(Path(path), expected, TOML_BYTES)
    try:
        table: Mapping[str, object] = tomllib.loads(incoming.text_of(content, expected, path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"TOML: {expected}", f"{path!r} ({str(error)[:200]})", "Check the file.") from error
    return "table", [(1, table)]


FORMATS: Mapping[str, Callable[[str, str], tuple[str, list[tuple[int, Row]]]]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
    ".parquet": _parquet,
    ".toml": _toml,
}
