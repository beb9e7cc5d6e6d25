"""Question-blind baselines: laws, values by hand, and TruthfulQA's known weakness."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locus.behaviours.blind import FEATURES, logistic_baseline, negation_then_length, score_answers, surface_features
from locus.behaviours.items import Item
from locus.errors import UserError

DATA = Path(os.environ.get("LOCUS_DATA", Path(__file__).parents[2] / "shared" / "data"))
TRUTHFULQA = DATA / "truthfulqa" / "v0" / "TruthfulQA.csv"


def item(name: str, true: list[str], false: list[str], best: str | None = None) -> Item:
    return Item(name, f"{name}?", tuple(true), tuple(false), best or true[0], group=name)


def named(answer: str) -> dict[str, float]:
    return dict(zip(FEATURES, surface_features(answer).tolist(), strict=True))


def test_features_by_hand() -> None:
    # "No, it isn't 3.5 or four Roman cups - usually all."
    got = named("No, it isn\u2019t 3.5 or four Roman cups - usually all.")
    assert got == {
        "negations": 2,  # No, isn't
        "words": 11,
        "characters": 50,  # 3 + 2 + 5 + 3 + 2 + 4 + 5 + 4 + 1 + 7 + 4 = 40, and 10 blanks
        "mean_word_length": pytest.approx(40 / 11),
        "starts_capital": 1,
        "capitals_later": 1,  # Roman
        "hedges": 1,  # usually
        "absolutes": 1,  # all
        "numbers": 2,  # 3.5, four
        "digits": 2,
        "commas": 1,
        "other_marks": 3,  # apostrophe, point of 3.5, dash
        "starts_yes": 0,
        "starts_no": 1,
        "starts_article": 0,
        "final_period": 1,
    }


@pytest.mark.parametrize(
    ("answer", "negations"),
    [("Nothing", 1), ("Norway", 0), ("It cannot", 1), ("They don't", 1), ("A knot", 0), ("Without a nose", 1), ("", 0)],
)
def test_a_negation_is_a_whole_word(answer: str, negations: int) -> None:
    assert named(answer)["negations"] == negations


@given(st.text(max_size=60))
def test_features_are_finite_and_not_negative(text: str) -> None:
    values = surface_features(text)
    assert values.shape == (len(FEATURES),)
    assert np.isfinite(values).all()
    assert (values >= 0).all()


def test_negation_then_length_by_hand() -> None:
    items = [
        # Negation beats length: 2 pairs of 2 won; the best answer "No" beats both: 1.
        item("a", ["No"], ["A long answer", "Yes"]),
        # Lengths 5, 3 against 5, 4: tie .5, win 1, loss 0, loss 0 = 1.5 of 4; best ties with one false: 1/2.
        item("b", ["abcde", "abc"], ["fghij", "klmn"]),
        # Best "xy" loses against "xyz": 0; the other true answer ties: pairs 0 + .5 = .5 of 2.
        item("c", ["xy", "abc"], ["xyz"]),
    ]
    got = negation_then_length(items)
    assert got.pair_accuracy == pytest.approx((2 + 1.5 + 0.5) / 8)
    assert got.mc1 == pytest.approx((1 + 0.5 + 0) / 3)
    assert got.mc1_chance == pytest.approx((1 / 3 + 1 / 3 + 1 / 2) / 3)
    assert (got.pair_chance, got.n_items, got.n_pairs) == (0.5, 3, 8)


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=6), min_size=1, max_size=6))
def test_swapping_true_and_false_mirrors_pair_accuracy(rows: list[list[int]]) -> None:
    forward, backward, scores, mirrored = [], [], [], []
    for index, row in enumerate(rows):
        left, right = [f"t{n}" for n in range(len(row) - 1)], ["f"]
        forward.append(item(str(index), left, right))
        backward.append(item(str(index), right, left))
        scores.append(np.array(row, dtype=float))
        mirrored.append(np.array(row[-1:] + row[:-1], dtype=float))
    there = score_answers("x", forward, scores)
    back = score_answers("x", backward, mirrored)
    assert there.pair_accuracy + back.pair_accuracy == pytest.approx(1)


def test_a_constant_score_is_at_chance_in_expectation() -> None:
    items = [item(str(n), ["t"], [f"f{k}" for k in range(1 + n % 3)]) for n in range(9)]
    got = score_answers("constant", items, [np.zeros(len(entry.answers)) for entry in items])
    assert got.pair_accuracy == 0.5
    assert got.mc1 == pytest.approx(got.mc1_chance)
    assert got.pair_interval == (0.5, 0.5)


def test_interval_covers_the_binomial_one() -> None:
    # 60 of 100 independent questions won: the normal interval is .6 +- 1.96 * sqrt(.6 * .4 / 100) = .504 .. .696.
    items = [item(str(n), ["t"], ["f"]) for n in range(100)]
    scores = [np.array([1.0, 0.0]) if n < 60 else np.array([0.0, 1.0]) for n in range(100)]
    got = score_answers("sixty", items, scores)
    assert got.pair_interval == pytest.approx((0.504, 0.696), abs=0.015)
    assert got.mc1_interval == got.pair_interval


def test_interval_resamples_groups_and_not_questions() -> None:
    # One group only: every resample is the whole set, so the interval has no width.
    items = [Item(str(n), "?", ("t",), ("f",), "t", group="one") for n in range(10)]
    scores = [np.array([float(n % 2), 0.5]) for n in range(10)]
    assert score_answers("x", items, scores).pair_interval == (0.5, 0.5)


def test_logistic_finds_a_cue_and_is_at_half_without_one() -> None:
    # True answers end in a full stop: a perfect cue. Same form everywhere: every pair ties.
    cue = [item(str(n), [f"ab{n % 7}."], [f"ab{n % 7}", f"cd{n % 7}"]) for n in range(40)]
    assert logistic_baseline(cue).pair_accuracy == 1.0
    assert logistic_baseline(cue).mc1 == 1.0
    none = [item(str(n), ["abc"], ["abd"]) for n in range(40)]
    assert logistic_baseline(none).pair_accuracy == 0.5


def test_logistic_keeps_a_group_in_one_fold() -> None:
    # Within a group the cue is the same, between the two groups opposite: fitted on the other group, always wrong.
    items = [Item(f"a{n}", "?", (f"ab{n % 7}.",), (f"ab{n % 7}",), f"ab{n % 7}.", group="a") for n in range(20)]
    items += [Item(f"b{n}", "?", (f"ab{n % 7}",), (f"ab{n % 7}.",), f"ab{n % 7}", group="b") for n in range(20)]
    assert logistic_baseline(items, folds=2).pair_accuracy == 0.0


def test_same_seed_same_score() -> None:
    items = [item(str(n), ["a" * (n % 5 + 1), "No " + "b" * (n % 3)], ["c" * (n % 4 + 1)]) for n in range(30)]
    assert logistic_baseline(items, seed=3) == logistic_baseline(items, seed=3)


def test_to_dict_is_json_with_lists() -> None:
    got = negation_then_length([item("a", ["abc"], ["ab"])]).to_dict()
    assert json.loads(json.dumps(got)) == got
    assert got["pair_interval"] == [1.0, 1.0]


@pytest.mark.parametrize("folds", [1, 4])
def test_folds_that_do_not_fit_are_the_users_to_mend(folds: int) -> None:
    items = [item(str(n), ["a"], ["b"]) for n in range(3)]
    with pytest.raises(UserError, match="folds"):
        logistic_baseline(items, folds=folds)


def test_no_items_is_the_users_to_mend() -> None:
    with pytest.raises(UserError, match="question"):
        negation_then_length([])


@pytest.fixture(scope="module")
def truthfulqa() -> list[Item]:
    if not TRUTHFULQA.is_file():
        pytest.skip("TruthfulQA v0 is not in the data folder; set LOCUS_DATA to a folder that has truthfulqa/v0")
    with TRUTHFULQA.open(encoding="utf-8-sig", newline="") as handle:
        rows = list(csv.DictReader(handle))
    items = []
    for number, row in enumerate(rows):
        best = row["Best Answer"].strip()
        true = [part.strip() for part in row["Correct Answers"].split(";") if part.strip()]
        false = [part.strip() for part in row["Incorrect Answers"].split(";") if part.strip()]
        items.append(item(str(number), true if best in true else [best, *true], false, best))
    return items


def test_truthfulqa_gives_itself_away(truthfulqa: list[Item]) -> None:
    # An independent count of the same rule on this file gave MC1 58.7 % against a chance of 22.6 %.
    got = negation_then_length(truthfulqa)
    assert got.n_items == 817
    assert got.mc1 == pytest.approx(0.587, abs=0.0005)
    assert got.mc1_chance == pytest.approx(0.226, abs=0.0005)
    assert got.mc1_interval[0] > 2 * got.mc1_chance
    assert got.pair_accuracy > 0.65


def test_logistic_beats_chance_on_truthfulqa(truthfulqa: list[Item]) -> None:
    got = logistic_baseline(truthfulqa)
    assert got.pair_interval[0] > 0.65
    assert got.mc1 > 2 * got.mc1_chance
