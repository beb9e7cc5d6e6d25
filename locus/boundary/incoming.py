"""Read what arrives from elsewhere: a regular file of bounded size, parsed strictly, or one sentence that says why not.

A run folder, a receipt, a data set or a claim may have been made to harm: a pipe that never ends, a link out of the folder, a
gigabyte of brackets, a name given twice so that two readers see two things. Whatever is read here is none of these. What it
says may still be a lie, and its text is still to be escaped where it is shown.
"""

import json
import math
import os
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from locus.errors import UserError

JSON_BYTES = 32 << 20
DEPTH = 64
EXACT = 1 << 53  # beyond it two integers may be one number to another reader
DIGITS = 400  # of one number
VALUES = 3_000_000  # in one text, or one for every ten characters: more are no text of ours, and take a hundred times its room


def read_bytes(path: Path, what: str, limit: int = JSON_BYTES, inside: Path | None = None) -> bytes:
    """The bytes of a regular file, read once.

    Args:
        path: the file.
        what: what it should be, for the error ("a run's plan.json").
        limit: the most bytes it may have.
        inside: the folder that it must lie in, with no link on the way; links are followed where None.

    Raises:
        UserError: if it is missing, no regular file, too large, or reached through a link out of `inside`.
    """
    if inside is not None:
        _no_links(path, inside, what)
    try:
        # Not blocking, since to open a pipe waits for whoever writes to it.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | (os.O_NOFOLLOW if inside is not None else 0)
        handle = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise UserError(what, f"{str(path)!r} ({error})", "Check the path.") from error
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)  # a folder cannot be made a stream of
        raise UserError(what, f"{str(path)!r}, which is no regular file", "Give a regular file.")
    with os.fdopen(handle, "rb") as stream:
        if about.st_size > limit:
            raise UserError(what, f"{str(path)!r} of {about.st_size:,} bytes; {limit:,} at most are read", "Give a smaller file.")
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise UserError(what, f"{str(path)!r}, which grew beyond {limit:,} bytes while it was read", "Give a smaller file.")
    return content


def _no_links(path: Path, inside: Path, what: str) -> None:
    """Refuse a path that leaves a folder, by `..` or through a link."""
    try:
        names = path.relative_to(inside).parts
    except ValueError:
        names = ("..",)
    current = inside
    for name in names:
        current = current / name
        if name == ".." or os.path.islink(current):  # a name too long is no link; opening it says what is wrong
            raise UserError(
                what, f"{str(path)!r}, which is reached through a link or lies outside", "Copy the file itself there."
            )


def regular(path: Path, inside: Path | None = None) -> bool:
    """Whether a path is a regular file, itself and not by a link; and with no link on the way from `inside`."""
    try:
        if inside is not None:
            _no_links(path, inside, "")
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError, UserError):
        return False


def text_of(content: bytes, what: str, name: str) -> str:
    """Bytes as UTF-8, with or without a byte order mark.

    Args:
        content: the bytes.
        what: as in `read_bytes`.
        name: of the file, for the error.

    Raises:
        UserError: if they are not.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(what, f"{name!r}, which is not UTF-8 text ({error})", "Save it as UTF-8.") from error


def parse_json(content: bytes | str, depth: int = DEPTH) -> Any:
    """A JSON value that every reader sees alike.

    Args:
        content: the text, or its bytes in UTF-8.
        depth: the most brackets inside one another.

    Raises:
        ValueError: for what is no JSON; for a name given twice in one object, NaN or infinity, a number too large for a double,
            an integer beyond 2^53, half of a surrogate pair, nesting deeper than `depth`, or far more values than any file needs.
    """
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    if sum(map(text.count, ",[{")) > (most := max(VALUES, len(text) // 10)):
        raise ValueError(f"more than {most:,} values")
    try:
        value = json.loads(text, cls=_strict)  # type: ignore[arg-type]
    except RecursionError as error:
        raise ValueError(f"brackets nested deeper than {depth}") from error
    if "\\u" in text or not _encodable(text):  # a half can only come by an escape, or be there as it is
        _walk(value, depth)
    elif text.count("[") + text.count("{") > depth:
        for _ in _levels(value, depth):
            pass
    return value


def read_json(path: Path, what: str, limit: int = JSON_BYTES, inside: Path | None = None) -> Any:
    """The JSON value in a file; as `read_bytes` and `parse_json`.

    Raises:
        UserError: for whatever either of them refuses.
    """
    content = read_bytes(path, what, limit, inside)
    try:
        return parse_json(content)
    except ValueError as error:  # a wrong byte is one, too
        raise UserError(what, f"{str(path)!r} ({str(error)[:200]})", "Check the file.") from error


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names: set[str] = set()
        twice = next(name for name, _ in pairs if name in names or names.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the name {twice[:80]!r} is given twice in one object")
    return table


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word}, which is no JSON number")


def _exact(digits: str) -> int:
    if len(digits) > DIGITS or abs(int(digits)) > EXACT:
        raise ValueError(f"the integer {digits[:24]}{'…' if len(digits) > 24 else ''} beyond 2^53")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits) if len(digits) <= DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:24]}, which no double holds")
    return number


@cache
def _strict() -> json.JSONDecoder:
    return json.JSONDecoder(object_pairs_hook=_named_once, parse_constant=_no_constant, parse_int=_exact, parse_float=_finite)


def _encodable(text: str) -> bool:
    """Whether a text has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _walk(value: Any, depth: int) -> None:
    """Refuse what only shows in the parsed value: depth, and text that is no text."""
    for level in _levels(value, depth):
        for element in level:
            if isinstance(element, dict):
                for name in element:
                    _check_surrogates(name)
            elif isinstance(element, str):
                _check_surrogates(element)


def _levels(value: Any, depth: int) -> Iterator[list[Any]]:
    """The value, what is in it, what is in that, and so on; refused if that is deeper than `depth`."""
    level = [value]
    for _ in range(depth + 1):
        yield level
        below: list[Any] = []
        for element in level:
            if isinstance(element, dict):
                below += element.values()
            elif isinstance(element, list):
                below += element
        if not below:
            return
        level = below
    raise ValueError(f"brackets nested deeper than {depth}")


def _check_surrogates(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"half of a surrogate pair at character {error.start} of a text") from error
