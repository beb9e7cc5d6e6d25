"""The same audit with other seeds: other splits and draws, counts of standings, spreads of leads, and what is unstable."""

import json

import pytest
from typer.testing import CliRunner

import locus
from locus.cli.app import app
from locus.conclude.stability import described
from locus.errors import UserError
from locus.records.findings import QUESTIONS
from locus.records.repeat import Answered, RepeatedClaim, RepeatRecord
from locus.report import repeat as pages
from locus.report.verify import verify

QUICK = {"claim": "1.1", "epochs": 4, "train": 36, "progress": False, "sign": False, "random": 7, "alpha": 0.125}


@pytest.fixture(scope="module")
def repeats(tmp_path_factory):
    """Three audits of a planted model whose head 1.1 does the work."""
    return locus.repeat(3, "planted:localized:3", out=tmp_path_factory.mktemp("repeat") / "OUT", seed=5, **QUICK)


def test_each_is_a_run_of_its_own_with_another_split_and_other_random_locations(repeats):
    assert [run.folder.name for run in repeats.runs] == ["repeat-1", "repeat-2", "repeat-3"]
    plans = [json.loads((run.folder / "plan.json").read_text()) for run in repeats.runs]
    assert [plan["config"]["seed"] for plan in plans] == [5, 6, 7] and len({plan["context"]["model"] for plan in plans}) == 1
    assert len({str(plan["items"]["test"]) for plan in plans}) == 3
    drawn = [{tuple(one["location"]) for one in plan["trials"] if one["role"] == "random"} for plan in plans]
    assert len(set(map(frozenset, drawn))) > 1
    for run in repeats.runs:
        verify(run.folder)


def test_by_construction_the_verdict_is_stable(repeats):
    (claim,) = repeats.claims
    assert claim.count("special", "supported") == claim.count("works", "supported") == 3
    assert claim.leads == tuple(run.verdict.special.estimate for run in repeats.runs) and len(set(claim.leads)) == 3
    assert [one.seed for one in claim.answers] == [5, 6, 7] and "3 audits" in repr(repeats)


def test_record_and_page_say_so_and_are_written_back(repeats):
    text = (repeats.folder / "repeat.json").read_text()
    record = RepeatRecord.parse(json.loads(text))
    assert json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n" == text and pages.read(repeats.folder) == repeats.record
    assert record.receipts == {run.folder.name: run.receipt for run in repeats.runs} and all(record.receipts.values())
    page = (repeats.folder / "repeat.html").read_text()
    assert "Is the verdict stable?" in page and "The lead over random Locations goes from" in page
    (repeats.folder / "repeat.html").unlink()
    assert CliRunner().invoke(app, ["report", str(repeats.folder)]).exit_code == 0
    assert (repeats.folder / "repeat.html").read_text() == page


def test_the_same_call_goes_on_where_it_stopped(repeats):
    stamps = [(run.folder / "trials.sqlite").stat().st_mtime_ns for run in repeats.runs]
    again = locus.repeat(3, "planted:localized:3", out=repeats.folder, seed=5, **QUICK)
    assert [answer.lead for answer in again.claims[0].answers] == [answer.lead for answer in repeats.claims[0].answers]
    assert [(run.folder / "trials.sqlite").stat().st_mtime_ns for run in again.runs] == stamps


def answered(lead, seed, heads=("1.1",), **standing):
    others = dict.fromkeys(QUESTIONS, "supported") | standing
    return Answered(run=f"repeat-{seed}", seed=seed, location=heads, standing=others, lead=lead, margin=0.1)


def test_what_hangs_on_the_seed_is_said():
    """Leads of 1, 2 and 6 nats: mean 3, and a standard deviation of the root of 7."""
    first, second = answered(1.0, 0, special="refuted"), answered(2.0, 1, heads=("1.1", "1.2"))
    claim = RepeatedClaim(name="c", read="layer", answers=(first, second, answered(6.0, 2)))
    said = described(claim, "margin")
    assert not claim.stable and (claim.count("special", "supported"), claim.count("special", "refuted")) == (2, 1)
    assert said[0].startswith("The 3 audits of “c” do not agree on special:")
    assert said[1] == "Special is supported in some and refuted in others: take neither."
    assert (
        said[2]
        == "The lead over random Locations goes from +1.000 nats to +6.000 nats (mean +3.000 nats, sd 2.646 nats; 3 audits)."
    )
    assert said[3] == "The claim itself is not the same in all: 2 sets of sites, which share 1."
    alike = RepeatedClaim(name="c", read="layer", answers=(answered(None, 0), answered(None, 1)))
    assert described(alike, "margin") == ["All 2 audits of “c” answer the four questions alike."] and alike.leads == ()


def test_the_command_is_the_verb(tmp_path):
    flags = ["--model", "planted:localized", "--claim", "1.1", "--random", "7", "--alpha", "0.125", "--no-sign"]
    flags += ["--set", "epochs=4", "--set", "train=36"]
    done = CliRunner().invoke(app, ["audit", "--repeat", "2", "--out", str(tmp_path / "OUT"), *flags])
    assert done.exit_code == 0, done.output
    assert "2 audits" in " ".join(done.stdout.split()) and "repeat.html" in done.stdout.replace("\n", "")
    record = pages.read(tmp_path / "OUT")
    assert record.model == "planted:localized:0" and [one.seed for one in record.claims[0].answers] == [0, 1]


def test_wrong_input_is_one_sentence(repeats, tmp_path):
    for count in (1, 0, 1001):
        with pytest.raises(UserError, match="2 to 1000 repeated audits"):
            locus.repeat(count, "planted:localized:3", out=tmp_path / "OUT")
    with pytest.raises(UserError, match="which is one run"):
        locus.repeat(2, "planted:localized:3", out=repeats.runs[0].folder)
    (tmp_path / "repeat.json").write_text('{"schema": "locus-repeat/1"}')
    with pytest.raises(UserError, match=r"repeat.json is whole"):
        pages.read(tmp_path)
