"""The page and the record of a sweep: every claim's answers, and those that hold over all of it."""

from pathlib import Path

from locus import atomic, errors, units
from locus.conclude.family import described
from locus.records.findings import QUESTIONS
from locus.records.sweep import SWEEP_SCHEMA, SweepRecord
from locus.report import html
from locus.report.results import keep, kept

RECORD, PAGE = "sweep.json", "sweep.html"


def write(record: SweepRecord, folder: Path) -> Path:
    """Write sweep.json and sweep.html.

    Returns:
        The path of the page.
    """
    keep(record, folder / RECORD)
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
    record = kept(SweepRecord, folder / RECORD, SWEEP_SCHEMA, expected)
    with errors.whole(expected, folder):
        if any(one.answers.keys() not in (set(), set(QUESTIONS)) for one in record.claims):
            raise ValueError("answers to other questions than the four")
        if {one.audit for one in record.claims} - {one.folder for one in record.audits}:
            raise ValueError("a claim of no audit")
        return record
