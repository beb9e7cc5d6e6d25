"""People read a run's answers: which are drawn, what a sitting shows and keeps, and what the labels do to the verdict."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from locus.audit import audit
from locus.cli.app import app
from locus.conclude import derive, labelled, people
from locus.conclude.rule import conclude
from locus.conclude.tests import Scores
from locus.errors import PreconditionsError, UserError, VerificationError
from locus.plan.config import AuditConfig, resolve
from locus.plan.reading import read_plan
from locus.records.labels import FILE, AnswerLabels, read_labels, text_hash
from locus.records.store import Store
from locus.records.verdict import Verdict
from locus.report import labelling
from locus.report.verify import verify
from tests.small_run import SMALL

RUNNER = CliRunner()
ASKED = {**SMALL, "judge": "blind", "max_new_tokens": 6, "test": 24, "singles": 0, "shift_everywhere": False, "text_passages": 0}


@pytest.fixture(scope="module")
def planned(tmp_path_factory, llama_folder):
    """A small judged audit whose plan asks people to read 110 answers: five each to 22 of its 24 questions."""
    out = tmp_path_factory.mktemp("labels") / "RUN"
    audit(resolve("quick", model=str(llama_folder), labels=110, **ASKED), out, sign=False)
    return out


@pytest.fixture
def run(planned, tmp_path):
    return shutil.copytree(planned, tmp_path / "RUN")


def read_all(folder, rule, reader="Ada", count=None):
    """Label everything by a rule of the text, and conclude."""
    sitting = labelling.Sitting(folder, count, reader)
    shown = []
    while (one := next(sitting.left(), None)) is not None:
        shown.append(one)
        sitting.label(one, *rule(one))
    return sitting.conclude(sign=False), shown


def by_length(one):
    return float(len(one.text) % 2), float(len(one.text.split()) > 1)


def verdict(folder):
    return Verdict.parse(json.loads((folder / "verdict.json").read_text()))


def test_the_draw_is_the_plans_and_cuts_no_group(planned):
    with derive.recorded(planned) as record:
        items, again = labelled.drawn(record, 110), labelled.drawn(record, 110)
        assert items == again
        assert len(items) <= 22
        group = {item.id: item.group for item in record.plan.items.test}
        inside = {group[item] for item in items}
        assert not [one for one, of in group.items() if of in inside and one not in items]
        fewer = labelled.drawn(record, 60)
        assert items[: len(fewer)] == fewer
        record.config = record.config.model_copy(update={"seed": 1})
        assert labelled.drawn(record, 110) != items


def test_before_people_have_read_the_verdict_says_that_it_is_the_judges(planned):
    told = verdict(planned).labelled
    assert (told.planned, told.asked, told.read, told.claims) == (110, 110, 0, ())
    assert "rests on the judge alone" in told.sentence
    assert verify(planned).kind == "run"


def test_a_sitting_shows_each_answer_once_a_pass_shuffled_and_without_whose_it_is(run):
    with derive.recorded(run) as record:
        wanted = people.answers(record, 110)
    _, shown = read_all(run, by_length)
    first, second = ([(one.item, one.text) for one in shown if one.turn == turn] for turn in (0, 1))
    assert sorted(first) == sorted(second) == sorted(wanted)
    assert len({*first}) == len(first)
    assert first != second
    assert first != wanted
    assert set(vars(shown[0])) == {"item", "question", "text", "turn", "number", "total"}


def test_with_labels_the_verdict_is_of_both_and_can_be_verified(run):
    alone = verdict(run)
    both, _ = read_all(run, by_length)
    told = both.labelled
    assert told.read == told.answers > 0
    assert "drawn before any result" in told.sentence
    assert told.kappa == pytest.approx({"truth": 1.0, "info": 1.0})
    assert "people read 22 of" in both.works.sentence or both.works.standing == "invalid"
    # What would have been said by the judge alone stands beside it, as it was.
    assert told.claims[0].other.works == alone.works
    assert told.claims[0].other.special == alone.special
    assert both.gain.estimate != alone.gain.estimate
    found = verify(run)
    assert found.kind == "run"
    assert "The verdict rests on these labels" in (run / "report.html").read_text()


def test_the_estimate_with_labels_is_the_judges_moved_by_what_it_errs(run):
    both, _ = read_all(run, by_length)
    with derive.recorded(run) as record:
        arms = people.arms_read(record)[0]
        items = labelled.drawn(record, 110)
        where = [record.items["test"].index(item) for item in items]

        def labels(arm):
            texts = record.store.texts(arm.chosen[0], "test")
            return np.array([np.prod(by_length(Said(texts[item]))) if texts[item].strip() else 0.0 for item in items])

        ceiling, base = arms["ceiling"][0], arms["base"][0]
        judge = (record.of(ceiling, "true_info") - record.of(base, "true_info"))[0]
        gap = labels(ceiling) - labels(base) - judge[where]
        by_group = {}
        for group, value in zip(record.groups, judge, strict=True):
            by_group.setdefault(group, []).append(value)
        every = np.mean([np.mean(values) for values in by_group.values()])
        if len(by_group) == len(record.groups):
            assert both.gain.estimate == pytest.approx(every + gap.mean())


class Said:
    """An answer as a rule sees it."""

    def __init__(self, text):
        self.text = text


def test_a_sitting_goes_on_where_it_stopped(run):
    sitting = labelling.Sitting(run)
    left = sitting.left()
    for _ in range(3):
        sitting.label(next(left), 1.0, 0.5)
    # Killed here: what was said is on the disk already.
    again = labelling.Sitting(run)
    ones = list(again.left())
    assert ones[0].number == 4
    assert len(ones) == 2 * ones[0].total - 3
    again.undo(labelling.Shown(ones[0].item, "", ones[0].text, 0, 0, 0))
    with pytest.raises(VerificationError, match=r"labels\.json is not in the receipt"):
        verify(run)
    again.conclude(sign=False)
    assert verdict(run).labelled.read == 0
    assert verify(run).kind == "run"


def test_labels_that_came_later_stand_beside_and_change_nothing(planned, llama_folder, tmp_path):
    out = tmp_path / "later"
    audit(resolve("quick", model=str(llama_folder), **ASKED), out, sign=False)
    before = verdict(out)
    assert before.labelled is None
    # The plan's labels are no part of what a trial is.
    assert [one.id for one in read_plan(out).trials] == [one.id for one in read_plan(planned).trials]
    with pytest.raises(UserError, match="the plan asks for none"):
        labelling.Sitting(out)
    after, _ = read_all(out, by_length, count=110)
    assert after.labelled.planned == 0
    assert "after the results were there" in after.labelled.sentence
    assert after.claims == before.claims
    assert after.gain == before.gain
    assert after.labelled.claims[0].other.works != before.works
    assert verify(out).kind == "run"
    with pytest.raises(UserError, match="an earlier sitting says: 110"):
        labelling.Sitting(out, 120)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"plan_sha256": "0" * 64}, "of another plan"),
        ({"schema": "labels"}, "whole"),
        ({"answers": [{"item": "x", "text": "0" * 64, "truth": [2], "info": [1]}]}, "whole"),
        ({"answers": [{"item": "x", "text": "0" * 64, "truth": [1], "info": []}]}, "whole"),
        ({"answers": [{"item": "x", "text": "0" * 64, "truth": [], "info": []}] * 2}, "whole"),
        ({"more": 1}, "whole"),
    ],
)
def test_a_labels_file_that_is_none_is_refused_in_a_sentence(run, wrong, why):
    labelling.Sitting(run).conclude(sign=False)
    content = json.loads((run / FILE).read_text())
    (run / FILE).write_text(json.dumps({**content, **wrong}))
    with pytest.raises(UserError, match=why):
        labelling.Sitting(run)
    with pytest.raises(VerificationError):
        verify(run)


def test_a_changed_label_is_found(run):
    read_all(run, by_length)
    content = json.loads((run / FILE).read_text())
    content["answers"][0]["truth"] = [1 - one for one in content["answers"][0]["truth"]]
    (run / FILE).write_text(json.dumps(content))
    with pytest.raises(VerificationError, match=r"labels\.json"):
        verify(run)


def test_in_the_terminal_hostile_answers_are_spelled_out_and_keys_are_obeyed(run):
    sitting = labelling.Sitting(run)
    one = next(sitting.left())
    nasty = "\x1b[31mred\u202e [bold]x[/bold]"
    store = Store(run / "trials.sqlite")
    store.db.execute("UPDATE texts SET text = ? WHERE item = ? AND text = ?", (nasty, one.item, one.text))
    store.close()
    result = RUNNER.invoke(app, ["judge", "label", str(run), "--no-sign", "--reader", "Ada"], input="z\ny\nn\nu\nn\n?\nq\n")
    assert result.exit_code == 0, result.output
    assert "\x1b" not in result.output
    assert "\u202e" not in result.output
    assert "y, n, ?, u or q." in result.output
    kept = read_labels(run, read_plan(run).sha256)
    assert kept.reader == "Ada"
    assert [(one.truth, one.info) for one in kept.answers if one.truth] == [((0,), (0.5,))]


def test_a_run_that_is_not_finished_cannot_be_labelled(run):
    (run / "receipt.json").unlink()
    with pytest.raises(UserError, match="a finished run"):
        labelling.Sitting(run)


def test_a_run_that_nobody_judged_cannot_be_labelled():
    with pytest.raises(UserError, match="a run without a judge"):
        labelling.Sitting(Path(__file__).parent / "runs" / "first-edition" / "planted", 100)


@pytest.mark.parametrize(
    ("more", "why"), [({"judge": "none"}, "a judge reads"), ({"labels": 99}, "labels=100"), ({"metric": "mc2"}, "a judge reads")]
)
def test_labels_that_could_tell_nothing_are_refused_before_anything_is_loaded(tmp_path, more, why):
    config = resolve("quick", **{**ASKED, "labels": 110, **more})
    with pytest.raises((UserError, PreconditionsError), match=why):
        audit(config, tmp_path / "RUN")


def test_a_label_is_the_mean_over_passes():
    one = AnswerLabels(item="q", text=text_hash("a"), truth=(1, 0), info=(1, 0.5))
    assert (one.value("truth"), one.value("info"), one.value("true_info")) == (0.5, 0.75, 0.5)
    assert one.whole


def test_plans_of_before_ask_nobody():
    assert AuditConfig.recorded({}).labels == 0
    assert "labels" not in AuditConfig().as_first()


def made_up(lean, n=60, labelled_ones=40):
    """A claim whose edit makes as many answers true as the ceiling's, and a judge that leans to the claim."""
    rng = np.random.default_rng(2)
    truth = {"base": rng.random(n) < 0.2, "ceiling": rng.random(n) < 0.8, "complement": rng.random(n) < 0.3}
    truth |= {"claim": truth["ceiling"] & (rng.random(n) < 0.4), "random": rng.random((9, n)) < 0.3}
    truth = {part: values.astype(float) for part, values in truth.items()}
    seen = {part: np.clip(0.5 + 0.3 * (2 * one - 1) + 0.05 * rng.normal(size=one.shape), 0, 1) for part, one in truth.items()}
    seen["claim"] = np.clip(seen["claim"] + lean, 0, 1)
    read, place = np.arange(n) < labelled_ones, np.arange(n) % 9

    def told(values):
        one = values[place, np.arange(n)] if values.ndim == 2 else values
        return np.where(read, one, np.nan)

    people = labelled.People(*({part: told(one) for part, one in side.items()} for side in (truth, seen)), place)
    parts = {part: one[:, None] if part == "random" else one[None] for part, one in seen.items() if part != "base"}
    return Scores(base=seen["base"], groups=[str(i) for i in range(n)], people=people, **parts)


def test_labels_overturn_what_a_judge_that_leans_to_the_claim_says():
    config = resolve("quick", judge="blind", random=9, alpha=0.1, labels=200)
    scores = made_up(lean=0.35)
    alone = conclude([replace(scores, people=None)], config).findings[0]
    both = conclude([scores], config).findings[0]
    assert alone.works.standing == "supported"
    assert both.works.standing == "refuted"
    assert "people read 40 of 60 questions" in both.works.sentence
    assert both.unique.sentence.count("by the judge alone") == 1
    assert alone.special.standing == "supported"
    assert "rank 1 of 10 by the judge" in both.special.sentence
    # The interval leaves out the margin just where a test decides.
    low, high = both.works.interval
    assert both.works.estimate < 0
    assert (high < -both.works.margin) == (both.works.p_refuted <= config.alpha)
    assert low < both.works.estimate < high


def test_few_labels_leave_open_what_the_judge_would_have_decided():
    config = resolve("quick", judge="blind", random=9, alpha=0.1, labels=200)
    both = conclude([made_up(lean=0.35, labelled_ones=10)], config).findings[0]
    assert {one.standing for one in both.by_question.values()} == {"invalid"}
    assert "10 labelled questions; at least 20 are needed" in both.works.sentence
