"""The table of audits of studies/table: what it lists, that it runs and resumes, and that its page says what its rows do."""

import importlib.util
import math
import shutil
from dataclasses import replace

import pytest

from locus.errors import UserError
from locus.models.packaged import MODELS
from locus.plan.config import resolve
from locus.plan.preconditions import early
from locus.table.folder import check, read
from studies.behaviours.tour import PUBLISHED
from studies.table import fill
from studies.table.listed import DRAWN, PLANTED_SETTINGS, SMALL, Listed, core_minutes, listed

TINY = {**PLANTED_SETTINGS, **SMALL, "executor": "serial"}


def installed(model: str) -> bool:
    """Whether a model's package is here."""
    return model not in MODELS or all(importlib.util.find_spec(module) for module, _ in MODELS[model].pieces)


def test_it_lists_enough_claims_and_controls():
    every = listed()
    assert len({one.name for one in every}) == len(every)
    real = [one for one in every if not one.model.startswith("planted:")]
    toured = sum(name.startswith("tour-") for name in read(fill.TABLE).rows)  # a claim each
    assert toured == 20 and toured + sum(len(one.claims) - one.negatives for one in real) >= 60
    assert sum(one.negatives for one in every) >= 45
    assert len([one for one in every if one.name.startswith("planted-localized-")]) >= 5
    for one in every:
        if one.stop not in PUBLISHED and installed(one.model):
            early(resolve("quick", model=one.model, data=one.data, claims=one.claims, **one.settings))


def test_the_cheapest_are_made_first():
    heads = [core_minutes(one) for one in listed() if one.name.endswith("-heads")]
    assert heads == sorted(heads) and heads[0] > 10 and heads[-1] < 120
    assert math.isnan(core_minutes(listed()[0]))  # of a planted model, which the tour has not audited


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A table of one tiny audit on a planted model, made as the real ones are, with its page."""
    folder = tmp_path_factory.mktemp("table")
    table = folder / "table"
    table.mkdir()
    shutil.copyfile(fill.PAGE, table / "README.md")
    model = "planted:localized:3"
    one = Listed("tiny", model, model, ("1.1", *DRAWN), TINY, "by construction")
    fill.filled(one, folder / "small", table, small=True)
    assert not read(table).rows  # of a tiny look nothing is kept
    fill.filled(one, folder / "runs", table)
    return table


def test_every_claim_and_control_of_an_audit_becomes_a_row(filled):
    rows = check(filled).rows
    assert [(row.claim.name, row.part) for row in rows] == [("given", "positive"), *((name, "negative") for name in DRAWN)]
    assert read(filled).rows["tiny"].source == "by construction"


def test_a_run_that_ended_before_it_was_added_is_added_as_it_is(filled, tmp_path, capsys):
    one = Listed("tiny", "planted:localized:3", "planted:localized:3", ("1.1", *DRAWN), TINY, "by construction")
    run = fill.filled(one, filled.parent / "runs", tmp_path)
    assert "246 trials are finished already" in capsys.readouterr().err
    assert run.verdict.plan_sha256 == check(filled).rows[0].verdict.plan_sha256 and list(read(tmp_path).rows) == ["tiny"]
    with pytest.raises(UserError, match="a row that is not there yet"):
        fill.filled(one, filled.parent / "runs", tmp_path)


def test_what_is_in_the_table_is_not_made_again_and_a_failure_ends_nothing(filled, tmp_path, monkeypatch, capsys):
    good = Listed("tiny", "planted:localized:3", "planted:localized:3", ("1.1", *DRAWN), TINY, "by construction")
    bad = replace(good, name="bad", claims=("99.99",))
    monkeypatch.setattr(fill, "TABLE", tmp_path)
    monkeypatch.setattr(fill, "listed", lambda: (bad, good))
    monkeypatch.setattr("sys.argv", ["fill", "--out", str(filled.parent / "runs")])
    with pytest.raises(SystemExit, match="1 audits could not be made: bad"):
        fill.main()
    assert list(read(tmp_path).rows) == ["tiny"] and "99.99" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["fill", "--plan"])
    fill.main()
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 audits, ")


def test_the_page_opens_with_what_follows_from_the_rows(filled):
    page = (filled / "README.md").read_text()
    rows = check(filled).rows
    assert page.index(fill.came_out(rows)) < page.index(fill.END)
    assert "4 rows of 1 audits so far: 0 claims, 3 negative controls, 1 positive controls." in " ".join(page.split())
    fill.write(filled)
    assert (filled / "README.md").read_text() == page


def test_the_committed_page_is_that_of_the_committed_rows():
    made = fill.came_out(check(fill.TABLE).rows)
    assert f"{fill.BEGIN}\n{made}\n{fill.END}" in fill.PAGE.read_text()
