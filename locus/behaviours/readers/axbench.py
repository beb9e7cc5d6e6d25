"""axbench: answers that show a concept, against answers to the same instruction that do not.

Rows with `winning_output` and `losing_output` have both. Else a row is positive or negative, and a positive one is read with the
negative one of the same genre and input; positive ones without such are left out. A behaviour is of one concept: `#ID` says
which, by its `concept_id`. An instruction is a group.

Source: Wu et al. 2025 (arXiv 2501.17148).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from locus.behaviours.items import Item, normalise
from locus.behaviours.readers.reader import Fields, LeftOut, Numbered, Reader, Row, Rows, has
from locus.errors import UserError

SIDES = ("winning_output", "losing_output")
_paired = has("input", *SIDES)
_labelled = has("input", "output", "output_concept", "category")


def _recognises(rows: Sequence[Row]) -> bool:
    return _paired(rows) or _labelled(rows)


@dataclass(frozen=True)
class _Answer:
    """A labelled answer, or in a paired row the wanted one."""

    question: str
    concept: str
    concept_id: str
    genre: str
    positive: bool
    text: str


def _answer(fields: Fields) -> _Answer:
    paired = SIDES[0] in fields.row
    if not paired and (category := fields.text("category")) not in ("positive", "negative"):
        raise ValueError(f"the category {category!r}, which is neither positive nor negative")
    return _Answer(
        fields.text("input"),
        fields.maybe("output_concept"),
        fields.maybe("concept_id"),
        fields.maybe("concept_genre"),
        paired or category == "positive",
        fields.text(SIDES[0] if paired else "output"),
    )


def _read(rows: Rows) -> list[Numbered]:
    answers = rows.each(_answer)
    there = {one.concept_id: one.concept for _, one in answers if one.positive}
    if rows.part and rows.part not in there:
        raise UserError("the concept_id of a concept in the file", repr(rows.part), f"There are {', '.join(there):.200}.")
    if not rows.part and len(there) != 1:
        raise UserError(
            "rows of one concept", f"{rows.name!r} with {len(there):,}", "Say which by its concept_id: axbench:PATH#3."
        )
    wanted = rows.part or next(iter(there))
    without = {(one.genre, one.question): one.text for _, one in reversed(answers) if not one.positive}
    kept = {number for number, one in answers if one.positive and one.concept_id == wanted}

    def item(fields: Fields) -> Item:
        one = _answer(fields)
        if SIDES[1] in fields.row:
            unwanted = fields.text(SIDES[1])
        elif (one.genre, one.question) in without:
            unwanted = without[one.genre, one.question]
        else:
            raise LeftOut("no negative row of this genre and input")
        group = normalise(one.question)
        return Item(f"q{fields.number}", one.question, (one.text,), (unwanted,), one.text, group, one.concept)

    return replace(rows, numbered=[(number, row) for number, row in rows.numbered if number in kept]).each(item)


EXPECTED = "input, output, output_concept and category (positive or negative), or input, winning_output and losing_output"
READER = Reader("axbench", EXPECTED, _recognises, _read, "#ID, the concept_id of one concept")
