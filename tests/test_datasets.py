"""Datasets: the embedded one is what it says, TruthfulQA's counts, custom files with all their errors, splits that never cut."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import locus
from locus import behaviours as datasets
from locus.behaviours import jsonl as custom
from locus.behaviours import misconceptions
from locus.behaviours.blind import logistic_baseline, negation_then_length
from locus.behaviours.items import Item, problems, repeats, split
from locus.errors import UserError
from locus.plan import questions
from locus.plan.config import resolve


@pytest.fixture(scope="module")
def embedded():
    return misconceptions.load_misconceptions()


def test_the_embedded_dataset_is_large_and_well_formed(embedded):
    items = embedded.items
    assert len(items) >= 300
    assert min(Counter(item.category for item in items).values()) >= 10 and len({item.category for item in items}) >= 15
    for item in items:
        assert problems(item) == [], item.id
        assert 2 <= len(item.wanted) <= 4 and 2 <= len(item.unwanted) <= 4, item.id
        assert item.source, item.id
    assert len({item.question.casefold() for item in items}) == len(items)
    assert len({item.id for item in items}) == len(items)


@pytest.mark.big
def test_embedded_answers_are_short(embedded, big_model):
    lengths = sorted(
        len(big_model.tokenizer(answer, add_special_tokens=False)["input_ids"])
        for item in embedded.items
        for answer in item.answers
    )
    assert lengths[len(lengths) // 2] <= 6 and lengths[-1] <= 15


def test_the_embedded_dataset_cannot_be_solved_blind(embedded):
    """Both question-blind baselines within 5 points of guessing a true/false pair."""
    assert abs(negation_then_length(embedded.items).pair_accuracy - 0.5) < 0.05
    for seed in (0, 1, 2):
        assert abs(logistic_baseline(embedded.items, seed=seed).pair_accuracy - 0.5) < 0.05


def test_truthfulqa_v0_counts(data_folder):
    table = datasets.load(str(data_folder / "truthfulqa/v0/TruthfulQA.csv"))
    assert table.name == "truthfulqa:v0"
    assert len(table.items) == 817 and sum(item.n_pairs for item in table.items) == 10_891
    choices = datasets.load(f"truthfulqa:{data_folder / 'truthfulqa/v0/mc_task.json'}")
    assert len(choices.items) == 817 and sum(len(item.answers) for item in choices.items) == 5_882


def test_truthfulqa_versions_are_told_apart(data_folder):
    revised = datasets.load(str(data_folder / "truthfulqa/2025/TruthfulQA.csv"))
    assert revised.name == "truthfulqa:2025" and len(revised.items) == 790
    assert revised.sha256 != datasets.load(str(data_folder / "truthfulqa/v0/TruthfulQA.csv")).sha256


def test_a_table_with_other_columns_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("Question,Answer\nWhy?,So\n")
    with pytest.raises(UserError, match="without Best Answer, Correct Answers, Incorrect Answers"):
        datasets.load(str(tmp_path / "x.csv"))


@pytest.mark.parametrize("name", ["nothing", "absent.csv", "absent.jsonl", "truthfulqa:absent.json"])
def test_what_is_not_there_is_refused_with_a_remedy(name):
    with pytest.raises(UserError) as caught:
        datasets.load(name)
    assert caught.value.remedy


def write(path, *rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return str(path)


GOOD = {"question": "Why?", "true": ["a", "b"], "false": ["c"]}


def test_a_custom_file(tmp_path):
    path = write(tmp_path / "x.jsonl", GOOD, {**GOOD, "question": "How?", "best": "b", "group": "one"}, "")
    loaded = custom.load_jsonl(path)
    assert [item.best for item in loaded.items] == ["a", "b"]
    assert [item.group for item in loaded.items] == ["why?", "one"]


def test_a_custom_file_reports_all_errors_with_their_lines(tmp_path):
    path = write(
        tmp_path / "x.jsonl",
        GOOD,
        "{not json",
        {"question": "x", "true": ["a"]},
        {**GOOD, "question": "empty?", "false": [" "]},
        {**GOOD, "question": "both?", "false": ["a"]},
        {**GOOD, "group": "elsewhere"},
        {**GOOD, "question": "best?", "best": "z"},
        {**GOOD, "question": "odd?", "answers": []},
    )
    with pytest.raises(UserError) as caught:
        custom.load_jsonl(path)
    text = str(caught.value)
    for part in (
        "line 2: not JSON",
        "line 3: no field 'false'",
        "line 4: an answer is empty",
        "line 5: the answer 'a' is given twice",
        "line 6: the question of line 1 again, in another group",
        "line 7: the best answer 'z'",
        "line 8: unknown field 'answers'",
    ):
        assert part in text
    assert "line 1:" not in text


def test_what_is_wrong_with_every_line_is_said_once(tmp_path):
    with pytest.raises(UserError) as caught:
        custom.load_jsonl(
            write(tmp_path / "x.jsonl", *[{"prompt": f"q{number}", "true": ["a"], "false": ["b"]} for number in range(9)])
        )
    text = str(caught.value)
    assert text.count("no field 'question'") == 1 and "lines 1, 2, 3 and 6 more: no field 'question'" in text


def make(groups: list[int]) -> list[Item]:
    return [Item(str(i), f"q{i}", ("a",), ("b",), "a", f"g{group}") for i, group in enumerate(groups)]


@given(st.lists(st.integers(0, 30), min_size=3, max_size=80).filter(lambda x: len(set(x)) >= 3), st.integers(0, 5))
@settings(max_examples=60)
def test_a_split_cuts_no_group_and_loses_no_item(groups, seed):
    items = make(groups)
    parts = split(items, seed)
    assert sorted(parts.train + parts.validation + parts.test) == list(range(len(items)))
    owners = [{items[index].group for index in part} for part in (parts.train, parts.validation, parts.test)]
    assert all(owners) and not (owners[0] & owners[1] or owners[0] & owners[2] or owners[1] & owners[2])
    assert split(items, seed) == parts


def test_a_split_has_its_shares_and_depends_on_the_seed():
    items = make(list(range(100)))
    parts = split(items, 1)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (60, 20, 20)
    assert parts.sha256 != split(items, 2).sha256
    with pytest.raises(UserError, match="3 groups"):
        split(make([1, 1, 2]), 0)


def choices(path, *rows):
    keys = ("question", "mc1_targets", "mc2_targets")
    path.write_text(json.dumps([dict(zip(keys, (f"Why {number}?", *row), strict=True)) for number, row in enumerate(rows)]))
    return str(path)


GOOD_CHOICES = ({"a": 1, "c": 0}, {"a": 1, "b": 1, "c": 0})
CONTRADICTIONS = {
    "right in one list, wrong in the other": ({"b": 1, "a": 0}, {"a": 1, "b": 0}),
    "two right answers": ({"b": 1, "a": 1}, {"a": 1, "b": 1, "c": 0}),
    "no right answer": ({"b": 0, "a": 0}, {"a": 1, "c": 0}),
    "a right answer that is not in the other list": ({"z": 1, "c": 0}, {"a": 1, "c": 0}),
    "an answer wanted and unwanted but for a blank": ({"a": 1, "b": 0}, {" a": 1, "a": 0, "b": 0}),
    "an answer twice but for a blank": ({"a": 1, "a ": 1, "b": 0}, {"a": 1, "b": 0}),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_choices_that_contradict_one_another_are_refused(kind, tmp_path):
    assert datasets.load(choices(tmp_path / "good.json", GOOD_CHOICES)).items[0].best == "a"
    with pytest.raises(UserError, match="question 2, with") as caught:
        datasets.load(choices(tmp_path / "mc.json", GOOD_CHOICES, CONTRADICTIONS[kind]))
    assert "mc.json" in str(caught.value)


def table(path, rows, more=""):
    header = f"Question,Best Answer,Correct Answers,Incorrect Answers{more}"
    path.write_text("\n".join([header, *(f"a{number}?,b,b;c,d;e{',d' if more else ''}" for number in range(rows))]) + "\n")
    return str(path)


def test_only_what_is_truthfulqa_is_called_so(tmp_path):
    """The name says which published numbers a run is compared with; a column or a number of rows alone does not make it."""
    for name, rows, more in (("mine.csv", 817, ""), ("mine.csv", 790, ",Best Incorrect Answer"), ("mine.csv", 40, "")):
        loaded = datasets.load(table(tmp_path / name, rows, more))
        assert (loaded.name, loaded.licence, loaded.as_published) == ("custom:mine.csv", "", False)
    loaded = datasets.load(choices(tmp_path / "mc.json", *[GOOD_CHOICES] * 817))
    assert (loaded.name, loaded.licence) == ("custom:mc.json", "")


def test_a_question_with_opposite_labels_is_refused(tmp_path):
    opposite = {"question": "why", "true": ["c"], "false": ["d"]}
    with pytest.raises(UserError, match="line 2: the answer 'c' is both right and wrong"):
        custom.load_jsonl(write(tmp_path / "x.jsonl", {**GOOD, "question": "Why."}, opposite))
    again = write(tmp_path / "y.jsonl", GOOD, {**GOOD, "id": "again", "false": ["e"]})
    assert len(custom.load_jsonl(again).items) == 2
    path = tmp_path / "x.csv"
    path.write_text("Question,Best Answer,Correct Answers,Incorrect Answers\nWhy?,a,a,b\nWhy?,b,b,a\n")
    with pytest.raises(UserError, match="both right and wrong"):
        datasets.load(str(path))


def test_blanks_around_an_answer_make_no_other_answer():
    assert repeats(Item("x", "q", (" a",), ("a",), " a", "g")) and not repeats(Item("x", "q", ("a",), ("a b",), "a", "g"))


def test_who_knows_that_the_wanted_side_is_a_form_says_so(tmp_path):
    lines = [json.dumps({"question": f"{n} + 1 =", "true": [f"oui {n}"], "false": [f"yes {n}"]}) for n in range(30)]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    plain = resolve("quick", data=str(tmp_path / "mine.jsonl"))
    assert not questions.audited(plain).form and questions.audited(plain.model_copy(update={"form": True})).form
    made = locus.behaviour(tmp_path / "mine.jsonl", form=True)
    assert made.dataset.form and made.sha256 == questions.audited(plain).sha256
    assert locus.behaviour(made, form=True).dataset.form and locus.behaviour("antonym", form=True).dataset.form
