"""Edits scored, untrained, on other behaviours: what else they move is said, decides nothing, and changes nothing else."""

import json
import re
import sqlite3
from contextlib import closing

import pytest

import locus
from locus.behaviours.items import content_hash
from locus.conclude.entanglement import told
from locus.errors import UserError, VerificationError
from locus.plan.config import resolve
from locus.plan.preconditions import early
from locus.records.beside import Moved, MovedClaim
from locus.records.place import Measured
from locus.records.plan import asked_of
from locus.records.store import Store
from locus.report.consent import Given, settle
from locus.report.export import export_scores
from locus.report.rerun import rerun
from locus.report.verify import verify

QUICK = {"claim": "1.1", "epochs": 4, "train": 36, "progress": False, "sign": False, "random": 7, "alpha": 0.125}
OTHER = "exchange:planted:localized:3"
SPLIT = asked_of("exchange:planted-localized-3")


def some(name, count=60):
    """Half of the planted model's questions, as somebody has them in memory."""
    rows = [item.to_dict() for item in locus.behaviour("planted:localized:3").items[:count]]
    return locus.behaviour(rows, name=name)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A planted model with and without other behaviours beside its own: its sides exchanged, and half of its questions."""
    folder = tmp_path_factory.mktemp("also")
    return [
        locus.audit("planted:localized:3", out=folder / name, **QUICK, **more)
        for name, more in (("RUN", {"also": [OTHER, some("half")]}), ("PLAIN", {}))
    ]


def test_every_edit_is_scored_on_the_others_too(both, tmp_path):
    run = both[0]
    scores = run.scores(run.verdict.metric)
    asked = dict(list(scores.groupby("split")))
    assert set(asked[SPLIT].trial) == set(asked["test"].trial)
    other = next(one for one in json.loads((run.folder / "plan.json").read_text())["also"] if one["name"] == SPLIT[8:])
    assert set(asked[SPLIT].question) == {item["id"] for item in other["items"]}
    export_scores(run.folder, tmp_path / "scores")
    assert f",{SPLIT}," in (tmp_path / "scores" / "scores.csv").read_text()


def test_the_claim_is_held_against_random_places_question_by_question(both):
    run = both[0]
    turned, half = run.verdict.also
    assert (turned.behaviour, turned.metric, half.behaviour) == (SPLIT[8:], run.verdict.metric, "memory:half")
    scores = run.scores(turned.metric)
    means = scores[scores.split == SPLIT].groupby("role")["value"].mean()
    (claim,) = turned.claims
    assert turned.base.mean == pytest.approx(means["base"])
    assert claim.gain.mean == pytest.approx(means["claim"] - means["base"])
    assert claim.lead.mean == pytest.approx(means["claim"] - means["random"]) and claim.lead.n == turned.questions
    assert claim.lead.interval[0] < claim.lead.mean < claim.lead.interval[1] < 0
    # What raises the wanted side most lowers the unwanted one most.
    assert (claim.rank, claim.random.n) == (8, 7) and half.claims[0].rank == 1
    assert turned.gain["ceiling"].mean == pytest.approx(means["ceiling"] - means["base"])
    assert "iti:given" in turned.gain


def test_plan_page_verification_and_repetition_know_it(both):
    run = both[0]
    plan = json.loads((run.folder / "plan.json").read_text())
    assert plan["config"]["also"] == [OTHER, "memory:half"] and set(plan["context"]["also"]) == {SPLIT[8:], "memory:half"}
    verify(run.folder)
    found = locus.verify(run, rerun=2, seed=0, also=[OTHER, some("called otherwise")], progress=False)
    assert found.repeated["largest"]["margin"] == 0
    page = run.report(sign=False).read_text()
    assert "What else these edits move" in page and "exchange:planted-localized-3" in page and "8 of 8" in page
    with pytest.raises(UserError, match="also 'memory:half'"):
        rerun(run.folder, 1, 0)
    with pytest.raises(UserError, match="the 2 other behaviours"):
        locus.verify(run, rerun=1, also=[OTHER], progress=False)
    with pytest.raises(VerificationError, match="something else"):
        locus.verify(run, rerun=1, also=[OTHER, some("fewer", 50)], progress=False)


def test_without_it_nothing_is_there_and_with_it_all_else_is_the_same(both):
    plain = json.loads((both[1].folder / "plan.json").read_text())
    assert not {"also"} & (plain.keys() | plain["context"].keys() | both[1].verdict.to_json().keys())
    kept = [run.verdict.claims[0].to_json() for run in both]
    assert kept[0] == kept[1]
    numbers = [[row[1:] for row in Store(run.folder / "trials.sqlite").dump() if " of " not in row[1]] for run in both]
    assert sorted(numbers[0]) == sorted(numbers[1])


def test_a_run_that_was_interrupted_goes_on_to_the_same_rows(both, tmp_path):
    told_so_far = []

    def stop(what, share):
        told_so_far.append(what)
        if share > 0.5:
            raise KeyboardInterrupt

    again = {**QUICK, "out": tmp_path / "RUN", "also": [OTHER, some("half")]}
    with pytest.raises(KeyboardInterrupt):
        locus.audit("planted:localized:3", **{**again, "progress": stop})
    # The plan of a version that did not know a setting says nothing of it, and is gone on with all the same.
    path = tmp_path / "RUN" / "plan.json"
    plan = {name: value for name, value in json.loads(path.read_text()).items() if name != "sha256"}
    assert plan["config"].pop("form") is False
    path.write_text(json.dumps({**plan, "sha256": content_hash(plan)}))
    assert told_so_far and Store(tmp_path / "RUN" / "trials.sqlite").done() < Store(both[0].folder / "trials.sqlite").done()
    locus.audit("planted:localized:3", **again)
    assert Store(tmp_path / "RUN" / "trials.sqlite").dump() == Store(both[0].folder / "trials.sqlite").dump()


def test_a_score_elsewhere_that_was_changed_is_found(both, tmp_path):
    run = both[0].save(tmp_path / "RUN")
    with closing(sqlite3.connect(run.folder / "trials.sqlite", isolation_level=None)) as db:
        db.execute("UPDATE scores SET value = value + 0.1 WHERE split = ?", (SPLIT,))
    with pytest.raises(VerificationError, match="scores"):
        verify(run.folder)


def test_what_a_stranger_names_is_not_opened():
    recorded = resolve("quick", also=("antonym", "exchange:language", "bbq:/etc/passwd")).model_dump(mode="json")
    with pytest.raises(UserError, match=re.escape("also 'bbq:/etc/passwd', which would be opened")):
        settle(recorded, Given())
    assert settle(recorded, Given(also=("antonym", "language", "mine.jsonl"))).also == ("antonym", "language", "mine.jsonl")


def test_an_audit_of_several_reckons_their_scores(tmp_path):
    costs = [
        locus.plan("planted:localized:3", claim="1.1", progress=False, **more).by_role["claim"].macs
        for more in ({}, {"also": OTHER})
    ]
    assert costs[0] < costs[1] < 1.2 * costs[0]


@pytest.mark.parametrize(
    ("also", "why"),
    [
        (["antonym", "antonym"], "each once.*received 'antonym'"),
        (["misconceptions"], "none that is audited.*'misconceptions'"),
        (["antonymy"], "antonymy"),
        ([[{"question": "a", "wanted": ["b"], "unwanted": ["b"]}]], "'b'"),
    ],
)
def test_what_is_no_other_behaviour_is_refused_before_anything_loads(also, why, tmp_path):
    with pytest.raises(UserError, match=why):
        locus.audit(also=also, out=tmp_path / "RUN", progress=False)
    assert not (tmp_path / "RUN").exists()


def test_a_task_is_asked_bare_and_few_questions_are_named(tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text('{"question": "1 + 1 =", "true": ["2"], "false": ["3"]}\n')
    with pytest.raises(UserError, match="at least 3 groups"):
        early(resolve("quick", also=(str(few),)), tmp_path / "RUN")
    early(resolve("quick", also=("task:ioi:60", "exchange:antonym")), tmp_path / "RUN")


def test_what_they_move_is_said():
    def value(mean, low, high, n=19):
        return Measured(mean=mean, interval=(low, high), n=n)

    claim = MovedClaim(
        name="probe",
        read="layer",
        gain=value(-0.5, -0.7, -0.3),
        random=value(-0.1, -0.4, 0.2, 16),
        lead=value(-0.4, -0.6, -0.1),
        rank=15,
    )
    one = Moved(behaviour="antonym\x1b[2J", metric="margin", questions=48, base=value(0, 0, 0), gain={}, claims=(claim,))
    assert told(one) == [
        "On antonym⟨U+001B⟩[2J the edit at probe, read layer, adds -0.500 nats (95 % interval -0.700 to -0.300) in margin, 16 "
        "random Locations -0.100 nats on average: a lead of -0.400 nats (95 % interval -0.600 to -0.100), rank 15 of 17, over "
        "19 groups of questions."
    ]
