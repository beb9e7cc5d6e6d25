"""The table of audits of studies/table: what it lists, that it runs and resumes, and that its page says what its rows do."""

import shutil
from dataclasses import replace

import pytest

from locus.plan.config import resolve
from locus.plan.preconditions import early
from locus.table.folder import check, read
from studies.table import fill
from studies.table.listed import DRAWN, PLANTED_SETTINGS, SMALL, Listed, listed


def test_it_lists_enough_claims_and_controls():
    every = listed()
    assert len({one.name for one in every}) == len(every)
    real = [one for one in every if not one.model.startswith("planted:")]
    toured = sum(name.startswith("tour-") for name in read(fill.TABLE).rows)  # a claim each
    assert toured == 20 and toured + sum(len(one.claims) - one.negatives for one in real) >= 60
    assert sum(one.negatives for one in every) >= 45
    assert len([one for one in every if one.name.startswith("planted-localized-")]) >= 5
    for one in every:
        if not one.published:
            early(resolve("quick", model=one.model, data=one.data, claims=one.claims, **one.settings))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A table of one tiny audit on a planted model, made as the real ones are, with its page."""
    folder = tmp_path_factory.mktemp("table")
    table = folder / "table"
    table.mkdir()
    shutil.copyfile(fill.PAGE, table / "README.md")
    model = "planted:localized:3"
    one = Listed("tiny", model, model, ("1.1", *DRAWN), {**PLANTED_SETTINGS, **SMALL, "executor": "serial"}, "by construction")
    fill.filled(one, folder / "runs", table, small=True)
    assert not read(table).rows  # of a tiny look nothing is kept
    fill.filled(replace(one, settings={**one.settings, "rounds": 3}), folder / "runs", table)
    return table


def test_every_claim_and_control_of_an_audit_becomes_a_row(filled):
    rows = check(filled).rows
    assert [(row.claim.name, row.part) for row in rows] == [("given", "positive"), *((name, "negative") for name in DRAWN)]
    assert read(filled).rows["tiny"].source == "by construction"


def test_the_page_opens_with_what_follows_from_the_rows(filled):
    page = (filled / "README.md").read_text()
    head = page[: page.index(fill.END)]
    rows = check(filled).rows
    special = sum(row.claim.special.standing == "supported" for row in rows if row.part == "negative")
    assert "4 rows of 1 audits so far: 0 claims, 3 negative controls, 1 positive controls." in " ".join(head.split())
    assert f"negative controls, {special} {'is' if special == 1 else 'are'} special" in " ".join(head.split()) or special == 0
    fill.write(filled)
    assert (filled / "README.md").read_text() == page


def test_the_committed_page_is_that_of_the_committed_rows():
    made = fill.came_out(check(fill.TABLE).rows)
    assert f"{fill.BEGIN}\n{made}\n{fill.END}" in fill.PAGE.read_text()
