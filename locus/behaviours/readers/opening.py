"""Which reader reads a file: the one that is named, or the only one that recognises its first rows."""

import os
from collections.abc import Sequence
from dataclasses import replace

from locus import registry
from locus.behaviours.checking import Checker
from locus.behaviours.items import Dataset, Item, normalise
from locus.behaviours.readers import files
from locus.behaviours.readers.reader import Numbered, Reader, Row, Rows
from locus.errors import UserError

NAME_IT = "Name the reader: READER:PATH. `locus list readers` shows them."


def get(name: str) -> Reader:
    """A reader by name.

    Raises:
        UserError: if there is none of the name, suggesting the nearest.
    """
    return registry.one_of("readers", name, Reader)


def recognised(rows: Sequence[Row]) -> list[str]:
    """The names of all readers that recognise some first rows."""
    return [name for name in registry.entries("readers") if knows(get(name), rows)]


def knows(reader: Reader, rows: Sequence[Row]) -> bool:
    """Whether a reader recognises some first rows, or any of them: the others are then wrong, and it says so."""
    return bool(rows) and (reader.recognises(rows) or any(reader.recognises([row]) for row in rows))


def only(names: Sequence[str], what: str) -> Reader:
    """The one reader of some names.

    Raises:
        UserError: if there are none, or several.
    """
    if not names:
        raise UserError(
            f"rows that a reader knows: {', '.join(registry.entries('readers'))}", f"{what}, of no such shape", NAME_IT
        )
    if len(names) > 1:
        raise UserError("rows that one reader knows", f"{what}, of the shape of {' and '.join(names)}", NAME_IT)
    return get(names[0])


def open_named(name: str) -> Dataset:
    """The questions of READER:PATH or READER:PATH#PART.

    Raises:
        UserError: if there is no such reader or file, or it is of another shape.
    """
    called, _, path = name.partition(":")
    reader = get(called)
    if not path:
        raise UserError(f"{called}:PATH", repr(name), "Name a file behind the colon.")
    return open_file(reader, path)


def open_file(reader: Reader, path: str) -> Dataset:
    """The questions of a file by a reader; what stands behind a `#` is a part, unless a file is called so.

    Raises:
        UserError: naming every row that is not as the reader expects.
    """
    path, part = parted(path)
    rows = files.read(path, reader.expected, part)
    rows = unfolded(reader, rows)
    marked = f"#{part}" if part else ""
    return Dataset(f"{reader.name}:{rows.name}{marked}", items_of(reader, rows), "", path, form=rows.form)


def parted(path: str) -> tuple[str, str]:
    """A path without its part, and the part."""
    front, sharp, part = path.rpartition("#")
    return (front, part) if sharp and front and not os.path.lexists(path) else (path, "")


def made(reader: Reader, rows: Rows) -> tuple[Item, ...]:
    """The items of rows, as a reader reads them.

    Raises:
        UserError: naming every row that is not as the reader expects.
    """
    return items_of(reader, unfolded(reader, rows))


def unfolded(reader: Reader, rows: Rows) -> Rows:
    """The rows that a reader reads, where a file of its shape keeps them.

    Raises:
        UserError: if they are of another shape.
    """
    if rows.part and not reader.parts:
        raise UserError(f"{reader.name}:PATH, of which there are no parts", f"#{rows.part}", "Leave it out.")
    rows = replace(rows, expected=f"{reader.name}: {reader.expected}")
    if not knows(reader, rows.first):
        there = ", ".join(dict.fromkeys(str(name) for row in rows.first for name in row))
        raise UserError(rows.expected, f"{rows.name!r} with {there[:200] or 'nothing'}", "Choose the reader of this shape.")
    return reader.unfold(rows)


def items_of(reader: Reader, rows: Rows) -> tuple[Item, ...]:
    """The items of unfolded rows, each held against all before it, with equal questions in one group.

    Raises:
        UserError: naming every row that is not as the reader expects.
    """
    numbered, checker, wrong = joined(reader.read(rows)), Checker(rows.unit), dict[str, list[int]]()
    for number, item in numbered:
        both = [f"the answer {one!r} is on both sides" for one in item.wanted if one in item.unwanted]
        for problem in both or checker.wrong(number, item):
            wrong.setdefault(problem, []).append(number)
    if wrong or not numbered:
        rows.refuse(wrong)
    return tuple(item for _, item in numbered)


def joined(numbered: Sequence[Numbered]) -> list[Numbered]:
    """Items whose groups are merged wherever a question stands in two of them, so that no split cuts it."""
    leader: dict[str, str] = {}

    def root(group: str) -> str:
        while leader.setdefault(group, group) != group:
            leader[group] = leader[leader[group]]
            group = leader[group]
        return group

    groups: dict[str, str] = {}
    for _, item in numbered:
        one, other = root(groups.setdefault(normalise(item.question), item.group)), root(item.group)
        leader[other] = one
    return [(number, replace(item, group=root(item.group))) for number, item in numbered]
