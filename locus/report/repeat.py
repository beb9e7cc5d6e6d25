"""The page and the record of audits repeated with other seeds: counts of standings and the spread of leads."""

from pathlib import Path

from locus import atomic, errors, units
from locus.conclude.stability import described
from locus.records.findings import QUESTIONS
from locus.records.repeat import REPEAT_SCHEMA, RepeatRecord
from locus.report import html
from locus.report.results import keep, kept

RECORD, PAGE = "repeat.json", "repeat.html"
STANDINGS = ("supported", "refuted", "undecided", "invalid", "withheld")


def write(record: RepeatRecord, folder: Path) -> Path:
    """Write repeat.json and repeat.html.

    Returns:
        The path of the page.
    """
    keep(record, folder / RECORD)
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
    record = kept(RepeatRecord, folder / RECORD, REPEAT_SCHEMA, expected)
    with errors.whole(expected, folder):
        if any(set(one.standing) != set(QUESTIONS) for claim in record.claims for one in claim.answers):
            raise ValueError("answers to other questions than the four")
        return record
