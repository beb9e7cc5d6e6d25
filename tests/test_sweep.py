"""Many audits in one folder: what they share, what holds over all of them, what fails beside the others, and what is refused."""

import json
import math
import shutil

import pytest
from typer.testing import CliRunner

import locus
from locus.cli.app import app
from locus.conclude import family
from locus.errors import PreconditionsError, UserError
from locus.plan.sweep import from_file, together, wanted
from locus.records.findings import QUESTIONS
from locus.records.sweep import Controlled, SweepRecord, SweptAudit, SweptClaim
from locus.report import sweep as pages
from locus.report.rerun import rerun
from locus.report.verify import verify
from locus.stats import benjamini_hochberg

FILE = """
behaviours = []
claims = ["1.1", "0.2", "7.1"]
level = 0.4

[settings]
epochs = 4
train = 36
random = 11
alpha = 0.25
sequential = false

[[block]]
models = ["planted:localized:3"]

[[block]]
models = ["planted:nowhere:0"]
claims = ["0.1"]
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "SWEEP.toml"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def swept(file):
    """Two claims that a planted model can be asked about, one that it cannot, and a model that there is not."""
    return locus.sweep(file, out=file.parent / "OUT", progress=False, sign=False)


def audits(swept):
    return {one.folder: one for one in swept.record.audits}


def test_a_planted_truth_is_found_and_what_fails_stands_beside_it(swept):
    assert [one.source for one in swept.found("special")] == ["1.1"] == [one.source for one in swept.found("works")]
    assert [one.source for one in swept.found("special", against=True)] == ["0.2"]
    first, second, outside, nowhere = swept.record.claims
    assert not first.failed and not second.failed and first.location == ("1.1",)
    assert outside.source == "7.1" and "heads of a model with 3 layers" in outside.failed and not outside.answers
    assert "planted:KIND:SEED" in nowhere.failed and swept.bugs == ()
    assert len(swept.runs) == 1 and swept.record.unfinished == 1
    assert list(swept.frame()["claim"]) == ["1.1", "0.2", "7.1", "0.1"] and swept.frame().loc[0, "special"] == "supported"
    assert "special at 1.1 (planted:localized:3)" in repr(swept) and "2 could not be audited" in repr(swept)


def test_each_audit_is_a_run_with_a_receipt(swept):
    (run,) = swept.runs.values()
    verify(run.folder)
    assert run.receipt == audits(swept)[run.folder.name].receipt and run.config.common_random


def test_p_are_of_each_claim_alone_and_adjusted_once_over_the_sweep(swept):
    """The audit's own verdict shares the level between its two claims; the sweep's family has four, two of which were put."""
    (run,) = swept.runs.values()
    claims = swept.record.claims[:2]
    for question in QUESTIONS:
        alone = [claim.answers[question].p for claim in claims]
        for one, claim in zip(benjamini_hochberg([*alone, math.nan, math.nan]), claims, strict=False):
            assert claim.answers[question].p_sweep == pytest.approx(one)
        assert claims[0].answers[question].standing == run.verdict.claims[0].finding(question).standing
    special = claims[0].answers["special"]
    assert special.p == pytest.approx(1 / 12) and run.verdict.special.p == pytest.approx(2 / 12)
    assert special.p_sweep == pytest.approx(min(4 / 12, 1))  # of four claims, the least p


def test_claims_of_one_size_share_their_random_locations_and_each_is_searched_once(swept, monkeypatch):
    (run,) = swept.runs.values()
    plan = run.plan
    drawn = {
        one.name: [trial for trial in plan.trials if (trial.role, trial.claim) == ("random", one.name)] for one in plan.claims
    }
    first, second = drawn.values()
    assert [one.location for one in first] == [one.location for one in second]
    assert {one.id for one in first}.isdisjoint(one.id for one in second)
    scores = run.scores("mc2")
    random = scores[scores["role"] == "random"].pivot(index=["arm", "question"], columns="claim", values="value")
    assert len(random) == 11 * len(plan.items.test) and (random[plan.claims[0].name] == random[plan.claims[1].name]).all()
    took = run.verdict.cost.by_role["random"]
    assert took.counted == took.trials == 22
    from locus.run import training

    made, fitted = training.fit_bank, []
    monkeypatch.setattr("locus.run.bank.fit_bank", lambda trials, *rest: fitted.extend(trials) or made(trials, *rest))
    again = rerun(run.folder, len(plan.trials), 0)
    assert not any(again["largest"].values())
    assert sum(one.role == "random" for one in fitted) == 11 and again["repeated"] == len(plan.trials)


def test_without_sharing_every_trial_is_as_it_was():
    asked = {"claim": ["1.1", "0.2"], "epochs": 4, "train": 36, "random": 11, "alpha": 0.25, "progress": False}
    apart, shared = (locus.plan("planted:localized:3", common_random=one, **asked) for one in (False, True))
    assert apart.trials == shared.trials
    assert shared.by_role["random"].macs == pytest.approx(apart.by_role["random"].macs / 2, rel=0.1)
    assert shared.by_role["claim"].macs == pytest.approx(apart.by_role["claim"].macs, rel=0.1)


def test_the_same_call_goes_on_and_record_and_page_are_written_back(swept, file):
    (run,) = swept.runs.values()
    stamp, page = (run.folder / "trials.sqlite").stat().st_mtime_ns, (swept.folder / "sweep.html").read_text()
    text = (swept.folder / "sweep.json").read_text()
    assert json.dumps(SweepRecord.parse(json.loads(text)).to_json(), indent=1) + "\n" == text
    again = locus.sweep(file, out=swept.folder, progress=False, sign=False)
    assert again.record == swept.record == pages.read(swept.folder)
    assert (run.folder / "trials.sqlite").stat().st_mtime_ns == stamp
    (swept.folder / "sweep.html").unlink()
    assert CliRunner().invoke(app, ["report", str(swept.folder)]).exit_code == 0
    assert (
        (swept.folder / "sweep.html").read_text() == page and "not audited yet" not in page and "heads of a model with 3" in page
    )


def test_parts_are_dealt_and_whoever_asks_for_all_puts_them_together(swept, file, tmp_path):
    shutil.copytree(swept.folder, tmp_path / "OUT")
    (tmp_path / "OUT" / "sweep.json").unlink()
    part = locus.sweep(file, out=tmp_path / "OUT", part="1/2", progress=False, sign=False)
    assert not (tmp_path / "OUT" / "sweep.json").exists() and not any("KIND" in one.failed for one in part.record.claims)
    done = CliRunner().invoke(app, ["sweep", str(file), "--out", str(tmp_path / "OUT"), "--no-sign"])
    assert done.exit_code == 2, done.output  # one of them failed, as before
    said = " ".join(done.stdout.split())
    assert "special at 1.1 (planted:localized:3)" in said and "failed: 0.1 in" in said and "sweep.html" in said
    assert pages.read(tmp_path / "OUT") == swept.record


def record(ps, random=19, level=0.1):
    """A sweep of claims with these p for `special`."""
    audit = SweptAudit(folder="f", model="m", behaviour="b", seed=0, kind="head", metric="margin", random=random, receipt="r")
    adjusted = benjamini_hochberg([math.nan if p is None else p for p in ps])
    claims = []
    for number, (p, over) in enumerate(zip(ps, adjusted, strict=True)):
        known = {"p": p, "p_sweep": None if p is None else float(over)}
        one = Controlled(standing="supported" if p else "invalid", **known, p_refuted=1.0, p_refuted_sweep=1.0)
        claims.append(SweptClaim(audit="f", source=f"{number}.0", read="layer", answers=dict.fromkeys(QUESTIONS, one)))
    return SweepRecord(schema_="locus-sweep/1", level=level, audits=(audit,), claims=tuple(claims))


def test_what_so_few_random_locations_can_show_is_said():
    """Ten claims at 10 % of false discoveries: a p of 1/20 is found where five or more rank first, and 99 places are enough."""
    assert family.least_found(10, 19, 0.1) == 5 and family.least_found(10, 99, 0.1) == family.least_found(1, 19, 0.1) == 1
    five, four = record([0.05] * 5 + [1.0] * 5), record([0.05] * 4 + [1.0] * 6)
    assert len(five.found("special")) == 5 and four.found("special") == ()
    said = family.described(four)
    assert said[-1].startswith(
        "With 19 random Locations no p of special is under 0.050: none is found unless at least 5 of the 10"
    )
    assert "With random = 99 one could be found alone" in said[-1]
    assert "random Locations" not in family.described(record([0.01] * 10, random=99))[-1]


def test_a_question_that_could_not_be_put_counts_in_the_family_and_is_never_found():
    assert [one.source for one in record([0.04, None]).found("special")] == ["0.0"]
    assert record([0.06, None]).found("special") == () != record([0.06]).found("special")
    assert family.adjusted([None, None])[0].p is None and family.adjusted([]) == []


def test_a_refuted_claim_is_not_found_whatever_its_rank():
    one = Controlled(standing="refuted", p=0.01, p_sweep=0.01, p_refuted=0.01, p_refuted_sweep=0.01)
    base = record([0.01])
    both = base.model_copy(update={"claims": (base.claims[0].model_copy(update={"answers": {"special": one}}),)})
    assert both.found("special") == () and len(both.found("special", against=True)) == 1


def test_blocks_take_what_they_lack_from_the_whole(file):
    told = from_file(file, {})
    first, second = wanted(told, {"train": 20})
    assert first.claims == ("1.1", "0.2", "7.1") and second.claims == ("0.1",) and first.seed == second.seed == 0
    assert first.settings["train"] == 20 and second.settings["epochs"] == 4
    assert together("abcab", [1, 2, 3, 1, 2]) == list("aabbc")


WRONG = {
    "modles = []": "no setting 'modles' .nearest: models",
    "level = 1.0": "level = 1.0, where a number below 1 is expected",
    "seeds = []": "one or more claims and seeds; received no seeds",
    'seeds = ["a"]': "seeds.0 = 'a'",
    "level": "a TOML file with a sweep",
    "[settings]\nseed = 3": "as lists of the sweep; received settings seed",
    "[settings]\nrandon = 3": "no setting 'randon' .nearest: random",
    'claims = ["1.1", "2.2", "0.3"]': "at least 59 random Locations",
    'claims = ["nobody"]': "a claim: probe",
    "[[block]]\nlevel = 0.2": "blocks of models, behaviours, claims, seeds and settings; received level",
    '[[block]]\nmodels = "one"': "where a list is expected",
    f"seeds = {list(range(1000))}\nbehaviours = {[str(one) for one in range(11)]}": "at most 10,000 audits; received 11,000",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_wrong_input_is_said_before_anything_is_loaded(text, tmp_path):
    (tmp_path / "S.toml").write_text(text)
    with pytest.raises(UserError, match=WRONG[text]) as raised:
        locus.sweep(tmp_path / "S.toml", out=tmp_path / "OUT", progress=False)
    assert not isinstance(raised.value, PreconditionsError) and not (tmp_path / "OUT").exists()


def test_wrong_calls_are_one_sentence_too(swept, file, tmp_path):
    with pytest.raises(UserError, match="the file or beside it"):
        locus.sweep(file, models="planted:localized:3", out=tmp_path, progress=False)
    (run,) = swept.runs.values()
    with pytest.raises(UserError, match="which is one run"):
        locus.sweep(file, out=run.folder, progress=False)
    with pytest.raises(UserError, match="a part such as 3/8"):
        locus.sweep(file, out=tmp_path, part="3", progress=False)
    (tmp_path / "sweep.json").write_text('{"schema": "locus-sweep/1"}')
    with pytest.raises(UserError, match=r"sweep.json is whole"):
        pages.read(tmp_path)
