"""inspect: samples of Inspect's data sets, `input` with `choices` and the letters of those that are right as `target`.

`input` is a text or a chat list with one turn of a user. A log that Inspect wrote as JSON holds its samples. A question is a
group.

Source: UK AI Security Institute 2024 (inspect.aisi.org.uk).
"""

from collections.abc import Sequence
from dataclasses import replace

from locus.behaviours.items import Item
from locus.behaviours.readers.chats import asked, turns
from locus.behaviours.readers.choices import chosen
from locus.behaviours.readers.letters import letter
from locus.behaviours.readers.reader import Fields, Numbered, Reader, Row, Rows, has

_samples = has("input", "target")


def _recognises(rows: Sequence[Row]) -> bool:
    return _samples(rows) or (len(rows) == 1 and isinstance(rows[0].get("samples"), list) and "eval" in rows[0])


def _item(fields: Fields) -> Item:
    targets = fields.texts("target")
    if "choices" not in fields.row or fields.row["choices"] in (None, []):
        known = "letters" if all(map(letter, targets)) else "a target"
        raise ValueError(f"{known} without choices, where there is nothing unwanted to be read")
    choices = fields.texts("choices")
    if not all(map(letter, targets)):
        raise ValueError("a target that is no letter of a choice")
    right = {ord(letter(one)) - ord("A") for one in targets}
    if beyond := [one for one in targets if ord(letter(one)) - ord("A") >= len(choices)]:
        raise ValueError(f"the letter {beyond[0]!r}, where there are {len(choices)} choices")
    return chosen(fields.maybe("id") or f"q{fields.number}", asked(turns(fields, "input")), choices, right)


def _unfold(rows: Rows) -> Rows:
    """The samples, where they lie in a log."""
    if not any("samples" in row for row in rows.first):
        return rows
    ((_, samples),) = rows.each(lambda fields: fields.parts("samples"))
    return replace(rows, numbered=[(n, one.row) for n, one in enumerate(samples, 1)], unit="sample")


def _read(rows: Rows) -> list[Numbered]:
    return rows.each(_item)


EXPECTED = "input, choices, and target, the letters of the right ones"
READER = Reader("inspect", EXPECTED, _recognises, _read, unfold=_unfold)
