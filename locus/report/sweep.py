"""The page and the record of a sweep: every claim's answers, and those that hold over all of it."""

import json
from pathlib import Path

from locus import atomic, errors, units
from locus.boundary import incoming
from locus.conclude.family import described
from locus.errors import UserError
from locus.records.base import JsonObject
from locus.records.findings import QUESTIONS
from locus.records.sweep import SWEEP_SCHEMA, SweepRecord
from locus.report import html

RECORD, PAGE = "sweep.json", "sweep.html"


def write(record: SweepRecord, folder: Path) -> Path:
    """Write sweep.json and sweep.html.

    Returns:
        The path of the page.
    """
    atomic.replace(folder / RECORD, json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n")
    return write_page(record, folder)


def write_page(record: SweepRecord, folder: Path) -> Path:
    """Write sweep.html.

    Returns:
        Its path.
    """
    made = html.environment()
    made.filters |= {"difference": units.difference, "p_value": lambda p: units.p_value(float("nan") if p is None else p)}
    audits = {one.folder: one for one in record.audits}
    page = html.render(made, "sweep.html.j2", record=record, audits=audits, said=described(record), questions=QUESTIONS)
    atomic.replace(folder / PAGE, page)
    return folder / PAGE


def read(folder: Path) -> SweepRecord:
    """The sweep.json of a folder, which a stranger may have written.

    Raises:
        UserError: if there is none that is whole.
    """
    expected = "a folder of a sweep whose sweep.json is whole"
    with errors.whole(expected, folder):
        content: JsonObject = incoming.read_json(folder / RECORD, expected, inside=folder)
        if content.get("schema") != SWEEP_SCHEMA:
            raise UserError(f"a {RECORD} of schema {SWEEP_SCHEMA}", f"{str(content.get('schema'))[:80]!r}", "Use a newer locus.")
        record = SweepRecord.parse(content)
        if any(one.answers.keys() not in (set(), set(QUESTIONS)) for one in record.claims):
            raise ValueError("answers to other questions than the four")
        if {one.audit for one in record.claims} - {one.folder for one in record.audits}:
            raise ValueError("a claim of no audit")
        return record
