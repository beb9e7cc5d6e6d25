"""Edits scored, untrained, in another prompt format: what carries over is said, and nothing else changes."""

import json

import pytest

import locus
from locus.conclude.transfer import told
from locus.errors import UserError
from locus.plan.config import resolve
from locus.plan.preconditions import early
from locus.records.beside import CurveClaim, Transfer
from locus.records.findings import Finding
from locus.records.plan import put_as
from locus.records.store import Store
from locus.report.rerun import rerun
from locus.report.verify import verify

QUICK = {"claim": "1.1", "epochs": 4, "train": 36, "progress": False, "sign": False, "random": 7, "alpha": 0.125}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A planted model, whose questions are asked bare, with and without the plain Q/A format beside."""
    folder = tmp_path_factory.mktemp("transfer")
    return [
        locus.audit("planted:localized:3", out=folder / name, **QUICK, **more)
        for name, more in (("RUN", {"transfer": "qa"}), ("PLAIN", {}))
    ]


def test_the_same_edits_are_scored_on_the_same_questions_put_otherwise(both):
    frame = both[0].scores("margin")
    asked = dict(list(frame.groupby("split")))
    here, there = (asked[split].groupby("role")["value"].mean() for split in ("test", put_as("qa")))
    assert set(asked[put_as("qa")].question) == set(asked["test"].question)
    assert there["base"] == 0.0 and there["claim"] != pytest.approx(here["claim"])
    (one,) = both[0].verdict.transfer
    assert (one.prompt, one.metric) == ("qa", both[0].verdict.metric)
    scores = both[0].scores(one.metric)
    means = scores[scores.split == put_as("qa")].groupby("role")["value"].mean()
    assert one.gain["claim"] == pytest.approx(means["claim"] - means["base"])
    assert one.gain["random"] == pytest.approx(means["random"] - means["base"])
    home = scores[(scores.split == "test")].groupby("role")["value"].mean()
    assert one.kept["claim"] == pytest.approx(one.gain["claim"] / (home["claim"] - home["base"]))


def test_plan_verification_and_repetition_know_it_and_the_page_tells(both):
    plan = json.loads((both[0].folder / "plan.json").read_text())
    assert plan["config"]["transfer"] == ["qa"] and set(plan["context"]["transfer"]) == {"qa"}
    verify(both[0].folder)
    rerun(both[0].folder, 1, 0)
    assert "The same edits in other prompt formats" in both[0].report(sign=False).read_text()


def test_without_it_nothing_is_there_and_with_it_all_else_is_the_same(both):
    plain = json.loads((both[1].folder / "plan.json").read_text())
    assert "transfer" not in plain["context"] and "transfer" not in both[1].verdict.to_json()
    kept = [run.verdict.claims[0].to_json() for run in both]
    assert kept[0] == kept[1] and not [row for row in Store(both[1].folder / "trials.sqlite").dump() if row[1] == put_as("qa")]
    numbers = [[row[1:] for row in Store(run.folder / "trials.sqlite").dump() if row[1] != put_as("qa")] for run in both]
    assert sorted(numbers[0]) == sorted(numbers[1])


def test_what_carries_over_is_said():
    answer = Finding(standing="refuted", sentence="")
    claims = (CurveClaim(name="c", read="layer", works=answer, special=answer),)
    gain, kept = {"claim": 1.0, "ceiling": 4.0, "random": None}, {"claim": 0.25, "ceiling": None, "random": None}
    said = told(Transfer(prompt="qa", metric="margin", gain=gain, kept=kept, claims=claims), "chat")
    assert "the claim +1.000 nats, 25 % of what it gains in chat; the ceiling +4.000 nats." in said
    assert said.endswith("There c: special refuted, works refuted.")


def test_a_format_that_is_no_other_is_refused_in_one_sentence(tmp_path):
    for transfer in (("bare",), ("qa", "qa")):
        with pytest.raises(UserError, match="different prompt formats for transfer, other than bare"):
            early(resolve("quick", model="planted:localized:3", transfer=transfer), tmp_path / "RUN")
    with pytest.raises(UserError, match="transfer"):
        resolve("quick", transfer=("rhyme",))
    with pytest.raises(UserError, match="chat template"):
        locus.audit("planted:localized:3", out=tmp_path / "RUN", transfer="chat", **QUICK)
    with pytest.raises(UserError, match="other than qa"):
        locus.audit("planted:localized:3", out=tmp_path / "RUN", transfer="qa", prompt="auto", **QUICK)
    assert not (tmp_path / "RUN").exists()
