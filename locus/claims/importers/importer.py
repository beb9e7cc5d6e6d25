"""What an importer is: a name, a shape that it recognises, and a function from a source to what it says."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from locus.claims.importers.source import Source
from locus.claims.published import Published


@dataclass(frozen=True)
class Importer:
    """An importer of one published shape.

    Attributes:
        name: what it is called, as in NAME:PATH.
        expected: what it reads, for messages.
        recognises: whether a source has the shape; what it says of content is by the outer shape alone.
        read: what a recognised source says; raises ValueError for what is wrong with it.
        parts: what stands behind a `#`, where it is something other than how many heads; "" elsewhere.
    """

    name: str
    expected: str
    recognises: Callable[[Source], bool]
    read: Callable[[Source], Published]
    parts: str = ""


def is_score(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(text: str, where: str) -> float:
    """A finite number in a cell.

    Raises:
        ValueError: if it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise ValueError(f"{text[:40]!r} in {where}, which is no finite number")
    return value


def counted(text: str, where: str) -> int:
    """A count from zero in a cell.

    Raises:
        ValueError: if it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise ValueError(f"{text[:40]!r} in {where}, which is no count from zero")
    return int(text)
