"""What edited models say, judged, as part of an audit: the stored texts and scores, and what follows from them."""

import json
import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from locus.audit import audit
from locus.behaviours.prompts import prompt_format
from locus.edits import Edit
from locus.engine.generate import Speech
from locus.errors import UserError
from locus.judges import encoder, kind
from locus.judges.base import Judgement, References, unscored
from locus.judges.blind import BlindJudge
from locus.judges.speech import judge_texts, speak
from locus.plan import reading
from locus.plan.config import resolve
from locus.records.store import Store
from locus.report.verify import verify
from locus.sites.site import Location
from locus.stats import Confusion, confusion, corrected_rate, rogan_gladen
from locus.stats.truthful import product_of_means, rates
from tests.endpoint import Server
from tests.families import QUESTIONS

SMALL = {
    "sequential": False,
    "claims": ("0.1,2.3",),
    "random": 3,
    "alpha": 0.25,
    "train": 12,
    "validation": 5,
    "test": 10,
    "epochs": 1,
    "text_passages": 0,
    "iti_strengths": (5.0,),
    "shift_random": 1,
    "bank": 4,
    "max_new_tokens": 6,
}


@pytest.fixture(scope="module")
def judged(llama_folder, tmp_path_factory):
    """A finished audit that a judge took part in."""
    out = tmp_path_factory.mktemp("judged") / "RUN"
    return out, audit(resolve("quick", model=llama_folder, judge="blind", **SMALL), out)


# --- what an audit keeps


def test_every_trial_keeps_what_was_said_and_its_scores(judged):
    out, _ = judged
    store, plan = Store(out / "trials.sqlite"), reading.read_plan(out)
    items = [item.id for item in plan.items.test]
    for trial in (trial.to_json() for trial in plan.trials):
        texts = store.texts(trial["id"], "test")
        assert sorted(texts) == sorted(items)
        truth, info, both = (store.scores(trial["id"], "test", name, items) for name in ("truth", "info", "true_info"))
        for item, t, i, b in zip(items, truth, info, both, strict=True):
            alone = BlindJudge().judge(["?"], [texts[item]], [References()])[0] if texts[item].strip() else Judgement(1.0, 0.0)
            assert (t, i) == pytest.approx((alone.truth, alone.info), abs=1e-12)
            assert b == pytest.approx(t * i, abs=1e-12)
        assert not store.texts(trial["id"], "validation"), "validation questions were not asked for"


def test_the_verdict_is_drawn_from_what_is_said(judged):
    out, found = judged
    assert (found.metric, found.selected_by, found.judge.name) == ("true_info", "mc2", "blind")
    (claim,) = found.claims
    assert {"true_info", "mc1", "mc2", "margin"} <= set(claim.by_metric)
    assert claim.works == claim.by_metric["true_info"].works
    (base,) = found.baseline.base
    assert set(base.judged.corrected) == {"truth", "info", "both"}, "the blind judge's errors are known"
    assert base.judged.unscored == 0
    assert verify(out).kind, "the verdict follows from plan and scores alone"


def test_judging_changes_no_trial_and_no_training(judged, llama_folder, tmp_path):
    out, _ = judged
    audit(resolve("quick", model=llama_folder, **SMALL), tmp_path / "RUN")
    plans = [reading.read_plan(place) for place in (out, tmp_path / "RUN")]
    assert [trial.id for trial in plans[0].trials] == [trial.id for trial in plans[1].trials]
    for path in sorted((tmp_path / "RUN" / "edits").iterdir()):
        mine, other = load_file(path), load_file(out / "edits" / path.name)
        assert mine.keys() == other.keys() and all((mine[name] == other[name]).all() for name in mine)
    rows = [Store(place / "trials.sqlite").dump() for place in (out, tmp_path / "RUN")]
    assert [row for row in rows[0] if row[2] in ("mc1", "mc2", "mc3", "margin", "off_manifold")] == rows[1]


def test_validation_answers_choose_settings_where_they_are_judged(llama_folder, tmp_path):
    told = resolve("quick", model=llama_folder, judge="blind", judge_validation=True, **{**SMALL, "iti_strengths": (5.0, 40.0)})
    found = audit(told, tmp_path / "RUN")
    store, plan = Store(tmp_path / "RUN" / "trials.sqlite"), reading.read_plan(tmp_path / "RUN")
    items = [item.id for item in plan.items.validation]
    means = {
        trial.alpha: store.scores(trial.id, "validation", "true_info", items).mean()
        for trial in plan.trials
        if trial.role == "shift"
    }
    assert found.selected_by == "true_info"
    assert found.shift[0].setting == f"alpha={max(means, key=lambda alpha: means[alpha]):g}"


def test_the_local_judge_takes_part_in_an_audit(llama_folder, tmp_path):
    pytest.importorskip(encoder.MODULE)
    found = audit(resolve("quick", model=llama_folder, judge="local", **SMALL), tmp_path / "RUN")
    assert found.judge.seen is not None and found.judge.confusion["both"].negatives > 100
    assert found.baseline.base[0].mean("truth") is not None


# --- what is judged


class Sulking:
    """Judges nothing that mentions the sea."""

    name, fingerprint = "sulking", "0" * 64

    def judge(self, questions, answers, references):
        return [unscored("about the sea") if "sea" in answer else Judgement(0.25, 0.5) for answer in answers]


def test_silence_is_true_and_not_informative_and_no_judge_is_asked():
    items = QUESTIONS[:3]
    (found,) = judge_texts(Sulking(), items, [["  ", "the sea", "a stone"]])
    np.testing.assert_array_equal(found.scores["truth"], [1.0, math.nan, 0.25])
    np.testing.assert_array_equal(found.scores["true_info"], [0.0, math.nan, 0.125])
    assert found.reasons == ("", "about the sea", "")


def test_the_base_model_and_an_edit_that_does_nothing_say_the_same(llama):
    text = prompt_format(llama.tokenizer, "qa")
    nothing = Edit("none", Location(()), llama.layout, {})
    items, speech = QUESTIONS[:3], Speech(max_new_tokens=5)
    assert speak(llama, items, [], text, speech) == speak(llama, items, [nothing], text, speech)


# --- what follows


def test_three_true_info_by_hand():
    # Answers: true and empty of content, false and telling, both half.
    truth, info = np.array([[1.0, 0.0, 0.5]]), np.array([[0.0, 1.0, 0.5]])
    found = rates(truth, info, ["a", "b", "c"], {})
    assert found["product_of_means"]["mean"] == pytest.approx(0.25)  # 1/2 * 1/2, though no answer is both
    assert found["share"]["both"]["mean"] == pytest.approx(1 / 3)  # the last, at one half
    assert found["corrected"] == {} and found["unscored"] == 0


def test_a_group_counts_once_and_an_unscored_answer_not_at_all():
    truth, info = np.array([1.0, 0.0, 0.5, math.nan]), np.array([1.0, 1.0, 0.5, 1.0])
    found = product_of_means(truth, info, ["a", "a", "b", "c"])
    # Group means: truth 0.5 and 0.5, info 1 and 0.5; the unscored question drops out with its group.
    assert (found.n, found.value) == (2, pytest.approx(0.5 * 0.75))
    assert product_of_means(np.full(2, math.nan), np.ones(2), ["a", "b"]).reason == "no question was scored"


def test_a_confusion_says_the_same_as_the_labels_it_sums_up():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200).astype(float)
    said = np.where(rng.random(200) < 0.8, truth, 1 - truth)
    judged = rng.integers(0, 2, 60).astype(float)
    assert corrected_rate(judged, confusion(said, truth)) == rogan_gladen(judged, said, truth)


def test_answers_to_one_question_count_as_fewer():
    # Ten questions with ten answers each; the judge is right on all answers to a question or on none.
    truth = np.ones(100)
    said = np.repeat([1, 1, 1, 0, 1, 1, 0, 1, 1, 0], 10).astype(float)
    groups = np.repeat(np.arange(10), 10)
    alone, clustered = confusion(said, truth), confusion(said, truth, groups)
    assert (alone.sensitivity, alone.positives) == (clustered.sensitivity, 100) == (0.7, 100)
    assert clustered.positives == pytest.approx(10, rel=0.15), "ten questions are worth ten answers"
    assert math.isnan(alone.specificity) and alone.negatives == 0


def test_a_judge_with_known_errors_gives_back_the_true_rate():
    # 0.3 * 0.8 + 0.7 * 0.1 = 0.31 of the answers are called true.
    found = corrected_rate(np.repeat([1.0, 0.0], [31, 69]), Confusion(0.8, 0.9, 1000.0, 1000.0))
    assert found.value == pytest.approx(0.3) and found.low < 0.3 < found.high
    wider = corrected_rate(np.repeat([1.0, 0.0], [31, 69]), Confusion(0.8, 0.9, 20.0, 20.0))
    assert wider.high - wider.low > found.high - found.low, "less is known of the judge"


# --- names


@pytest.mark.parametrize("name", ["", "gpt", "lm:", "api:", "blind:x", "local:absent.safetensors", "lm:./absent"])
def test_a_judge_that_cannot_be_had_is_one_message(name, tmp_path, llama_folder):
    with pytest.raises(UserError):
        audit(resolve("quick", model=llama_folder, judge=name, **SMALL), tmp_path / "RUN")
    assert not (tmp_path / "RUN").exists()


def test_a_language_model_is_opened_by_name_and_refused_where_it_cannot_say_yes(llama_folder):
    # The tiny model reads bytes: " yes" and " no" both begin with a blank.
    with pytest.raises(UserError, match="start with different tokens"):
        kind.open_judge(f"lm:{llama_folder}")


def test_an_audit_that_an_endpoint_judges_needs_a_cap_and_stays_under_it(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-secret")
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    with Server() as server:
        told = {**SMALL, "model": llama_folder, "judge": "api:small", "judge_url": server.url, "judge_prices": (1.0, 1.0)}
        with pytest.raises(UserError, match="a spending cap for a judge"):
            audit(resolve("quick", **told), tmp_path / "RUN")
        with pytest.raises(UserError, match=r"at most 1e-06 to be spent"):
            audit(resolve("quick", **told, judge_cap=1e-6), tmp_path / "POOR")
        assert server.log == [], "nothing is asked that the cap does not allow"
        found = audit(resolve("quick", **told, judge_cap=100.0), tmp_path / "RICH")
        assert found.judge.name == "api:small" and found.judge.confusion == {}
        assert len(server.log) == len(set(server.log)), "no request twice in a whole audit"
        assert "sk-secret" not in (tmp_path / "RICH" / "plan.json").read_text()


def test_a_metric_of_speech_needs_a_judge(tmp_path, llama_folder):
    with pytest.raises(UserError, match="a judge, for the metric truth"):
        audit(resolve("quick", model=llama_folder, metric="truth", **SMALL), tmp_path / "RUN")


def test_the_presets_judge_unless_told_otherwise():
    assert (resolve("standard").judge, resolve("standard").metric) == ("local", "true_info")
    assert (resolve("standard", judge="none").metric, resolve("standard", metric="mc1").metric) == ("margin", "mc1")
    assert (resolve("quick").judge, resolve("quick").metric) == ("none", "margin")
    assert resolve("standard", model="planted:localized").judge == "none"


def test_figures_of_another_judge_are_refused(tmp_path):
    (tmp_path / "figures.json").write_text(json.dumps({"judges": {"f" * 64: {"confusion": {}}}}))
    with pytest.raises(UserError, match="figures of the judge blind"):
        kind.known_errors(BlindJudge(), tmp_path / "figures.json")
    assert kind.known_errors(Sulking()) == {}
    assert set(kind.known_errors(BlindJudge())) == {"truth", "info", "both"}
