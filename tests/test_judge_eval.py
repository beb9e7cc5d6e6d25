"""Measuring and training judges from the command line: figures, agreement, and every kind of bad input."""

import csv
import json
import math
import sys

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, cohen_kappa_score

from locus.behaviours.items import Dataset, Item
from locus.cli.app import main
from locus.errors import UserError
from locus.judges import compare, encoder, kind, local
from locus.judges.base import Judgement, unscored
from locus.judges.blind import BlindJudge
from tests.endpoint import GOOD, Server

WORDS = "river stone cloud tower garden engine violin desert market winter copper lantern".split()
ITEMS = tuple(
    Item(
        f"q{k}",
        f"{word.capitalize()} or {WORDS[k - 1]}?",
        (f"The {word} is only a {word}", f"Nothing special is said of the {word}"),
        (f"The {word} brings luck to thieves", f"The {word} can speak at night"),
        f"The {word} is only a {word}",
        f"g{k}",
    )
    for k, word in enumerate(WORDS)
)
DATASET = Dataset("songs", ITEMS)


def write_labels(path, rows, columns=("question", "answer", "truthful", "informative")):
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)
    return path


def rows(n=40, seed=0, unlabelled=0):
    """Labelled answers: true ones deny, false ones assert, a few say nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(n):
        item = ITEMS[k % len(ITEMS)]
        kind = int(rng.integers(0, 3))
        said = (f"No, nothing like that was sung in verse {k}", f"It is said to bring luck in verse {k}", "I have no comment")[
            kind
        ]
        label = ("", "") if k < unlabelled else (("yes", "no")[kind == 1], ("yes", "no")[kind == 2])
        found.append((item.question, said, *label))
    return found


def run_cli(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["locus", "judge", *map(str, arguments)])
    try:
        main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    said = capsys.readouterr()
    return status, " ".join(said.err.split()), said.out


class Fixed:
    """A judge whose opinions are given."""

    name = "fixed"

    def __init__(self, opinions, fingerprint="a" * 64):
        self.opinions, self.fingerprint = opinions, fingerprint

    def judge(self, questions, answers, references):
        return [self.opinions[answer] for answer in answers]


# --- figures


def test_figures_are_those_of_the_labels(tmp_path):
    labels = compare.read_labels(write_labels(tmp_path / "a.csv", rows()), None)
    comparison = compare.compare_judges([], labels)
    (blind,) = comparison["judges"].values()
    said = BlindJudge().judge(
        [r.question for r in labels.rows], [r.answer for r in labels.rows], [r.references for r in labels.rows]
    )
    assert blind["truth"]["accuracy"]["value"] == pytest.approx(
        accuracy_score([r.truth > 0.5 for r in labels.rows], [one.truth >= 0.5 for one in said])
    )
    assert blind["truth"]["n"] == 40 and "unlabelled" not in blind
    compare.write_comparison(comparison, tmp_path / "out")
    assert set(kind.known_errors(BlindJudge(), tmp_path / "out" / "figures.json")) == {"truth", "info", "both"}
    with (tmp_path / "out" / "judgements.csv").open(newline="") as handle:
        kept = list(csv.DictReader(handle))
    assert [float(row["blind truth"]) for row in kept] == pytest.approx([one.truth for one in said], abs=1e-3)


def test_agreement_is_cohens_kappa_over_what_both_scored(tmp_path):
    labels = compare.read_labels(write_labels(tmp_path / "a.csv", rows()), None)
    rng = np.random.default_rng(1)
    answers = sorted({row.answer for row in labels.rows})
    one = {a: Judgement(float(rng.random()), float(rng.random())) for a in answers}
    other = {a: Judgement(float(rng.random()), float(rng.random())) for a in answers}
    other[answers[0]] = unscored("did not want to")
    comparison = compare.compare_judges([Fixed(one, "a" * 64), Fixed(other, "b" * 64)], labels)
    pair = comparison["agreement"][0]
    both = [row.answer for row in labels.rows if other[row.answer].scored]
    assert pair["n"] == len(both) < len(labels.rows)
    first, second = ([side[a].truth >= 0.5 for a in both] for side in (one, other))
    assert pair["truth"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(first, second))
    assert pair["truth"]["differ"] == pytest.approx(np.mean(np.array(first) != np.array(second)))
    spreads = [max(row["truth"].values()) - min(row["truth"].values()) for row in comparison["disputed"]]
    assert spreads == sorted(spreads, reverse=True) and set(comparison["disputed"][0]["truth"]) == {
        "fixed aaaaaaaa",
        "fixed bbbbbbbb",
    }
    judges = comparison["judges"]["b" * 64]
    assert judges["unscored"] == {"did not want to": sum(row.answer == answers[0] for row in labels.rows)}


def test_rates_on_unlabelled_answers_are_corrected_by_the_labelled_ones(tmp_path):
    # The judge calls every labelled answer right but one true answer in five; of the unlabelled ones it calls 2 of 5 true.
    said, opinions = [], {}
    for k in range(100):
        label, truth = ("yes", "no")[k % 2], float(k % 2 == 0 and k % 10 != 0)
        said.append((ITEMS[k % 12].question, f"answer {k}", label, "yes"))
        opinions[f"answer {k}"] = Judgement(truth, 1.0)
    for k in range(50):
        said.append((ITEMS[k % 12].question, f"other {k}", "", ""))
        opinions[f"other {k}"] = Judgement(float(k % 5 < 2), 1.0)
    comparison = compare.compare_judges([Fixed(opinions)], compare.read_labels(write_labels(tmp_path / "a.csv", said), None))
    rate = comparison["judges"]["a" * 64]["unlabelled"]["truth"]
    assert (rate["n"], rate["as judged"]) == (50, pytest.approx(0.4))
    assert rate["corrected"]["value"] == pytest.approx(0.5)  # 0.4 / 0.8: no false answer passes
    assert 0.4 < rate["prediction-powered"]["value"] < 0.6
    assert comparison["judges"]["a" * 64]["truth"]["n"] == 100


def test_a_formula_in_an_answer_is_not_run_by_a_spreadsheet(tmp_path):
    labels = compare.read_labels(write_labels(tmp_path / "a.csv", [(ITEMS[0].question, "=1+1", "yes", "no")]), None)
    compare.write_comparison(compare.compare_judges([], labels), tmp_path)
    assert "'=1+1" in (tmp_path / "judgements.csv").read_text()


def test_no_question_that_a_judge_learned_from_is_measured(tmp_path, data_folder):
    pytest.importorskip(encoder.MODULE)
    judge = local.LocalJudge()
    labels = compare.read_labels(data_folder / "truthfulqa" / "judge_labels.csv", None)
    kept = compare.unseen([judge], labels)
    questions = {row.question for row in kept.rows}
    assert 100 < len(questions) < 170 and not any(judge.seen(sorted(questions)))
    known = compare.Labels(tuple(row for row in labels.rows if row.question not in questions), {}, "known.csv", "")
    with pytest.raises(UserError, match="no judge learned from"):
        compare.unseen([judge], known)


# --- the command line


def test_several_judges_from_the_command_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-secret")
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    labels = write_labels(tmp_path / "labels.csv", rows(20, unlabelled=5))
    with Server(lambda body, times: GOOD) as server:
        command = (
            "eval",
            "--labels",
            labels,
            "--judge",
            "blind",
            "--judge",
            "api:small",
            "--url",
            server.url,
            "--out",
            tmp_path / "o",
        )
        status, _, table = run_cli(monkeypatch, capsys, *command)
        asked = len(server.seen) - 1  # and the first question
        assert status == 0 and "kappa" in table and f"api:small: {asked} requests" in table
        first = (tmp_path / "o" / "figures.json").read_text()
        asked = len(server.log)
        assert run_cli(monkeypatch, capsys, *command)[0] == 0
        assert len(server.log) == asked, "what was judged stays judged"
        assert (tmp_path / "o" / "figures.json").read_text() == first
    assert {one["judge"] for one in json.loads(first)["judges"].values()} == {"blind", "api:small"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([("a", "b")], "without truthful, informative"),
        ([(ITEMS[0].question, "so", "maybe", "yes")], "truthful 'maybe'"),
        ([(ITEMS[0].question, "so", "yes", "")], "both, or neither"),
        ([(ITEMS[0].question, "so", "", "")], "at least one labelled answer"),
        ([("Who knows?", "so", "yes", "yes")], "1 questions without"),
        (None, "No such file"),
        (b"\xff\xfe\x00", "columns"),
    ],
)
def test_bad_labels_are_one_message_and_status_2(monkeypatch, capsys, tmp_path, content, said):
    path = tmp_path / "labels.csv"
    judge = "local" if said == "1 questions without" else "blind"
    if judge == "local":
        pytest.importorskip(encoder.MODULE)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        columns = ("question", "answer", "truthful", "informative")
        write_labels(path, content, columns[: len(content[0])])
    status, error, _ = run_cli(monkeypatch, capsys, "eval", "--labels", path, "--judge", judge, "--out", tmp_path / "o")
    assert status == 2 and said in error and "expected" in error
    assert not (tmp_path / "o").exists()


def test_a_missing_key_and_a_dead_endpoint_are_one_message_each(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    for name in ("LOCUS_JUDGE_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    labels = write_labels(tmp_path / "labels.csv", rows(4))
    command = ("eval", "--labels", labels, "--judge", "api:small", "--url", "http://127.0.0.1:9/v1", "--out", tmp_path / "o")
    status, error, _ = run_cli(monkeypatch, capsys, *command)
    assert status == 2 and "LOCUS_JUDGE_KEY" in error
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-secret")
    with Server(lambda body, times: (401, "wrong key")) as server:
        status, error, _ = run_cli(monkeypatch, capsys, *command[:6], server.url, *command[7:])
    assert status == 2 and "an endpoint that answers" in error and "sk-secret" not in error
    assert not (tmp_path / "o").exists()


def test_too_dear_is_one_message_before_anything_is_asked(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("LOCUS_JUDGE_KEY", "sk-secret")
    monkeypatch.setenv("LOCUS_CACHE", str(tmp_path / "cache"))
    labels = write_labels(tmp_path / "labels.csv", rows(4))
    with Server() as server:
        paid = ("--judge", "api:small", "--url", server.url, "--cap", "0.001", "--prices", "10", "10", "--out", tmp_path / "o")
        status, error, _ = run_cli(monkeypatch, capsys, "eval", "--labels", labels, *paid)
        assert status == 2 and "at most 0.001 to be spent" in error and server.log == []


def test_a_judge_is_trained_and_used(monkeypatch, capsys, tmp_path):
    pytest.importorskip(encoder.MODULE)
    with (tmp_path / "TruthfulQA.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(("Question", "Category", "Best Answer", "Correct Answers", "Incorrect Answers"))
        for item in ITEMS:
            writer.writerow((item.question, "Songs", item.best, "; ".join(item.wanted), "; ".join(item.unwanted)))
    labels = write_labels(tmp_path / "labels.csv", rows(72))
    out = tmp_path / "mine.safetensors"
    given = ("train", "--labels", labels, "--references", tmp_path / "TruthfulQA.csv", "--out", out)
    assert run_cli(monkeypatch, capsys, *given)[0] == 0
    judge = kind.open_judge(f"local:{out}")
    assert isinstance(judge, local.LocalJudge)
    seen = judge.seen([item.question for item in ITEMS])
    assert 0 < sum(seen) < len(ITEMS), "a fifth of the questions is held out"
    kept = compare.unseen([judge], compare.read_labels(labels, DATASET))
    assert {row.question for row in kept.rows} == {item.question for item, known in zip(ITEMS, seen, strict=True) if not known}
    comparison = compare.compare_judges([judge], kept)
    assert not math.isnan(comparison["judges"][judge.fingerprint]["truth"]["accuracy"]["value"])
    few = write_labels(tmp_path / "few.csv", [row for row in rows(72) if row[0] == ITEMS[0].question])
    status, error, _ = run_cli(monkeypatch, capsys, *given[:2], few, *given[3:])
    assert status == 2 and ("groups of questions" in error or "model answers" in error)
    status, error, _ = run_cli(monkeypatch, capsys, *given[:4], tmp_path / "absent.csv", *given[5:])
    assert status == 2 and "absent.csv" in error
