"""The page and the record of audits repeated with other seeds: counts of standings and the spread of leads."""

import json
from pathlib import Path

from locus import atomic, errors, units
from locus.boundary import incoming
from locus.conclude.stability import described
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.records.findings import QUESTIONS
from locus.records.repeat import REPEAT_SCHEMA, RepeatRecord
from locus.report import html

RECORD, PAGE = "repeat.json", "repeat.html"
STANDINGS = ("supported", "refuted", "undecided", "invalid", "withheld")


def write(record: RepeatRecord, folder: Path) -> Path:
    """Write repeat.json and repeat.html.

    Returns:
        The path of the page.
    """
    atomic.replace(folder / RECORD, json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")
    return write_page(record, folder)


def write_page(record: RepeatRecord, folder: Path) -> Path:
    """Write repeat.html.

    Returns:
        Its path.
    """
    made = html.environment()
    made.filters |= {"difference": units.difference}
    said = {index: described(claim, record.metric) for index, claim in enumerate(record.claims)}
    page = html.render(made, "repeat.html.j2", record=record, said=said, questions=QUESTIONS, standings=STANDINGS)
    atomic.replace(folder / PAGE, page)
    return folder / PAGE


def read(folder: Path) -> RepeatRecord:
    """The repeat.json of a folder, which a stranger may have written.

    Raises:
        UserError: if there is none that is whole.
    """
    expected = "a folder of repeated audits whose repeat.json is whole"
    with errors.whole(expected, folder):
        content: JsonObject = incoming.read_json(folder / RECORD, expected, inside=folder)
        if content.get("schema") != REPEAT_SCHEMA:
            raise UserError(f"a {RECORD} of schema {REPEAT_SCHEMA}", f"{str(content.get('schema'))[:80]!r}", "Use a newer locus.")
        record = RepeatRecord.parse(content)
        if any(set(one.standing) != set(QUESTIONS) for claim in record.claims for one in claim.answers):
            raise ValueError("answers to other questions than the four")
        return record
