"""What a reader is: a name, a shape that it recognises by the first rows, and a function from rows to items.

A row is whatever mapping its file holds; `Fields` takes typed parts out of it and says in a sentence what is not as it should
be. All that is wrong with all rows is said in one message.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from locus.behaviours import lines
from locus.behaviours.items import Item
from locus.boundary.notices import notice
from locus.errors import UserError

T = TypeVar("T")
Row = Mapping[str, object]
Numbered = tuple[int, Item]
FIRST = 5  # rows by which a shape is recognised


class RowsLeftOut(UserWarning):
    """Rows of a published file that make no question, and why."""


class LeftOut(Exception):
    """Raised over a row that is as published and yet makes no question; it is left out, and a notice says so."""


@dataclass(frozen=True)
class Fields:
    """One row, whose parts are taken out typed.

    Attributes:
        number: of the row in its file.
        row: what it holds.
    """

    number: int
    row: Row

    def text(self, name: str) -> str:
        """A text that is there and not blank, without blanks around it.

        Raises:
            ValueError: if it is not.
        """
        value = self._there(name)
        if not isinstance(value, str):
            raise ValueError(f"{name!r} must be a text")
        if not value.strip():
            raise ValueError(f"{name!r} is empty")
        return value.strip()

    def maybe(self, name: str) -> str:
        """A text or whole number as a text; "" where it is left out."""
        return "" if self.row.get(name) is None or self.row.get(name) == "" else self.label(name)

    def label(self, name: str) -> str:
        """A name: a text, or a whole number as its digits; 3.0, as a column with gaps has it, is 3.

        Raises:
            ValueError: if it is neither.
        """
        value = self._there(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value) if type(value) is int else self.text(name)

    def whole(self, name: str) -> int:
        """A whole number, or its digits as a text.

        Raises:
            ValueError: if it is none.
        """
        value = self._there(name)
        if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 16:
            return int(value)
        if type(value) is not int:
            raise ValueError(f"{name!r} must be a whole number")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """One text or a list of them, none blank.

        Raises:
            ValueError: if it is neither.
        """
        value = self._there(name)
        listed = [value] if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not listed or not all(isinstance(one, str) for one in listed):
            raise ValueError(f"{name!r} must be a text or a list of texts")
        return tuple(Fields(self.number, {name: one}).text(name) for one in listed)

    def wholes(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers.

        Raises:
            ValueError: if it is none.
        """
        value = self._there(name)
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name!r} must be a list of whole numbers")
        return tuple(Fields(self.number, {name: one}).whole(name) for one in value)

    def flag(self, name: str) -> bool:
        """true or false; false where it is left out.

        Raises:
            ValueError: if it is neither.
        """
        value = self.row.get(name, False)
        if not isinstance(value, bool):
            raise ValueError(f"{name!r} must be true or false")
        return value

    def parts(self, name: str) -> list["Fields"]:
        """A list of objects.

        Raises:
            ValueError: if it is none.
        """
        value = self._there(name)
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise ValueError(f"{name!r} must be a list of objects")
        return [Fields(self.number, one) for one in value]

    def part(self, name: str) -> "Fields":
        """An object.

        Raises:
            ValueError: if it is none.
        """
        return Fields(self.number, {name: [self._there(name)]}).parts(name)[0]

    def _there(self, name: str) -> object:
        if self.row.get(name) is None:
            raise ValueError(f"no field {name!r}")
        return self.row[name]


@dataclass(frozen=True)
class Rows:
    """The rows of a file.

    Attributes:
        name: of the file, for messages.
        numbered: each row with its number.
        unit: what a row is called.
        expected: what a row should hold, for messages.
        part: what of the file is wanted, behind its `#`; "" for all.
        folder: where the file lies; None for rows in memory.
        form: whether the file says that its wanted side is a form, which shows without the question.
    """

    name: str
    numbered: Sequence[tuple[int, Row]]
    unit: str = "line"
    expected: str = "rows of a known shape"
    part: str = ""
    folder: Path | None = None
    form: bool = False

    @property
    def first(self) -> list[Row]:
        """The rows by which a shape is recognised."""
        return [row for _, row in self.numbered[:FIRST]]

    def each(self, make: Callable[[Fields], T]) -> list[tuple[int, T]]:
        """Make something of every row.

        Args:
            make: of a row's fields; raises ValueError for what is wrong with it, and LeftOut for what makes no question.

        Returns:
            What was made, with the number of its row.

        Raises:
            UserError: naming every wrong row, or if nothing is left.
        """
        made: list[tuple[int, T]] = []
        wrong: dict[str, list[int]] = {}
        out: dict[str, list[int]] = {}
        for number, row in self.numbered:
            try:
                made.append((number, make(Fields(number, row))))
            except LeftOut as left:
                out.setdefault(str(left), []).append(number)
            except ValueError as error:
                wrong.setdefault(str(error), []).append(number)
        if wrong or not made:
            self.refuse(wrong or out)
        for why, numbers in out.items():
            notice(f"{len(numbers):,} of {len(self.numbered):,} {self.unit}s of {self.name} left out: {why}", RowsLeftOut)
        return made

    def refuse(self, wrong: Mapping[str, list[int]]) -> None:
        """Refuse the file for what is wrong with its rows.

        Raises:
            UserError: always.
        """
        received = f"{self.name!r}: {lines.listed(dict(wrong), self.unit) or 'no question'}"
        raise UserError(self.expected, received, f"Mend these {self.unit}s.")


@dataclass(frozen=True)
class Reader:
    """A reader of one published shape.

    Attributes:
        name: what it is called, as in NAME:PATH.
        expected: what a row holds, for messages.
        recognises: whether the first rows have the shape; it raises nothing.
        read: the items of rows, each with the number of its row; questions that belong together share a group.
        parts: what may stand behind a `#`, in words; "" where nothing may.
        unfold: the rows that are read, where they lie inside those of the file, or in another.
    """

    name: str
    expected: str
    recognises: Callable[[Sequence[Row]], bool]
    read: Callable[[Rows], list[Numbered]]
    parts: str = ""
    unfold: Callable[[Rows], Rows] = lambda rows: rows


def has(*names: str) -> Callable[[Sequence[Row]], bool]:
    """Recognises rows that all have some fields."""
    return lambda rows: bool(rows) and all(name in row for row in rows for name in names)
