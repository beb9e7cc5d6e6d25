"""Lines and rows are read by one reader: a line ends at LF, and what is wrong is named by its line or row, never a traceback."""

import dataclasses
import json
import os
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locus import behaviours as datasets
from locus.behaviours import answers, lines, truthfulqa
from locus.behaviours import jsonl as custom
from locus.behaviours.items import Dataset, Item, repeats
from locus.behaviours.prompts import prompt_format
from locus.errors import UserError
from locus.judges.compare import read_labels
from locus.judges.examples import read_references
from locus.metrics.drift import load_text
from locus.patching.pairs import load_pairs
from locus.patching.tasks import factual_recall
from tests.families import byte_tokenizer

GOOD = {"question": "Why?", "true": ["a", "b"], "false": ["c"]}


def write(folder, *rows, name="x.jsonl", end=b"\n"):
    path = folder / name
    coded = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(end.join(coded) + end)
    return str(path)


def refused(path, read=custom.load_jsonl):
    with pytest.raises(UserError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1e"])
def test_only_a_line_feed_ends_a_line(char, tmp_path):
    row = {**GOOD, "true": [f"one{char}two"]}
    raw = json.dumps(row, ensure_ascii=False) if char.isprintable() or char > "\x1f" else json.dumps(row)
    assert custom.load_jsonl(write(tmp_path, raw.encode())).items[0].wanted == (f"one{char}two",)


def test_a_byte_order_mark_and_carriage_returns_are_taken_off(tmp_path):
    plain = custom.load_jsonl(write(tmp_path, GOOD, {**GOOD, "question": "How?"}))
    marked = custom.load_jsonl(
        write(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), b"", {**GOOD, "question": "How?"}, end=b"\r\n")
    )
    assert [dataclasses.replace(item, id="") for item in marked.items] == [
        dataclasses.replace(item, id="") for item in plain.items
    ]


def test_whole_numbers_are_ids_and_the_same_as_their_digits(tmp_path):
    loaded = custom.load_jsonl(write(tmp_path, {**GOOD, "id": 7, "group": 1}, {**GOOD, "question": "How?", "id": "8"}))
    assert [(item.id, item.group) for item in loaded.items] == [("7", "1"), ("8", "how?")]
    said = refused(write(tmp_path, {**GOOD, "id": 7}, {**GOOD, "question": "How?", "id": "7"}))
    assert "line 2: the id '7' is that of line 1 too" in said


WRONG = {
    "an empty id": ({**GOOD, "id": ""}, "'id' is empty"),
    "a blank id": ({**GOOD, "id": " "}, "'id' is empty"),
    "an empty group": ({**GOOD, "group": ""}, "'group' is empty"),
    "a Boolean id": ({**GOOD, "id": True}, "'id' must be a text"),
    "a NUL": ({**GOOD, "true": ["a\0b"]}, "a NUL character"),
    "a NUL in a name": ({**GOOD, "a\0b": 1}, "a NUL character"),
    "half a surrogate": (rb'{"question": "\ud800", "true": ["a"], "false": ["b"]}', "half of a surrogate pair"),
    "a name twice": (b'{"question": "x", "question": "y", "true": ["a"], "false": ["b"]}', "'question' is given twice"),
    "NaN": (b'{"question": NaN, "true": ["a"], "false": ["b"]}', "NaN"),
    "a large number": (b'{"id": 9007199254740993, "question": "x", "true": ["a"], "false": ["b"]}', "2^53"),
    "many digits": (b'{"id": ' + b"9" * 5000 + b"}", "2^53"),
    "not UTF-8": (b'{"question": "\xff"}', "not UTF-8"),
    "deep": (b"[" * 50_000, "deeper"),
    "a list": (b"[]", "expected an object"),
    "no JSON": (b"{", "not JSON"),
    "a long line": (b'{"question": "' + b"x" * (1 << 20) + b'"}', "1,048,576 at most"),
    "an answer twice": ({**GOOD, "true": ["a", "a "]}, "the answer 'a' is given twice"),
    "an answer on both sides": ({**GOOD, "false": ["a"]}, "the answer 'a' is given twice"),
}


@pytest.mark.parametrize(("row", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_line_is_said_by_its_number(row, problem, tmp_path):
    said = refused(write(tmp_path, GOOD, row))
    assert "line 2: " in said and problem in said and "line 1:" not in said and len(said) < 600


def test_a_file_that_is_too_large_or_no_file_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.truncate(300 << 20)  # a hole, which takes no room
    assert "at most are read" in refused(str(tmp_path / "x.jsonl"))
    for name in ("x.jsonl", "x.csv", "x.json"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
        assert "no regular file" in refused(str(tmp_path / name), datasets.load)
    (tmp_path / "folder.jsonl").mkdir()
    for read in (datasets.load, load_text, lambda path: read_references(tmp_path / path), lambda path: factual(path)):
        assert "no regular file" in refused(str(tmp_path / "folder.jsonl"), read)


def factual(path):
    return factual_recall(byte_tokenizer(), 1, 0, path)


def test_the_other_readers_of_lines_say_the_same(tmp_path):
    path = write(tmp_path, b'{"clean": "a", "clean": "b"}', b"\xff", b'{"subject": "\\u0000"}')
    for read in (lambda path: load_pairs(path, byte_tokenizer()), factual):
        said = refused(path, read)
        assert "line 1: the name 'clean' is given twice" in said and "line 2: not UTF-8" in said and "line 3: a NUL" in said


QA = "Question,Best Answer,Correct Answers,Incorrect Answers\n"
TABLES = {
    "cut short": (f"{QA}a?,b,b,c\nd?,e\n", "row 3: 2 cells, not 4"),
    "too many cells": (f"{QA}a?,b,b,c,d,e\n", "row 2: 6 cells, not 4"),
    "a NUL": (f"{QA}a?,b,b,c\0\n", "row 2: a NUL character"),
    "a huge field": (f"{QA}a?,b,b,{'c' * 200_000}\n", "row 2: field larger"),
    "an open quote": (f'{QA}a?,b,b,"c\n', "row 2: unexpected end"),
    "text behind a quote": (f'{QA}a?,b,b,"c"d\n', "row 2: "),
    "a column twice": (QA.replace("\n", ",Question\n"), "'Question' more than once"),
    "no column": ("Question,Answer\nWhy?,So\n", "without Best Answer, Correct Answers, Incorrect Answers"),
    "nothing": ("", "nothing in it"),
    "blank": ("\n \n", "without Question"),
}


@pytest.mark.parametrize(("content", "problem"), TABLES.values(), ids=TABLES)
def test_what_is_wrong_with_a_table_is_said_by_its_row(content, problem, tmp_path):
    assert problem in refused(write(tmp_path, content.encode(), name="x.csv", end=b""), datasets.load)


def test_every_wrong_row_is_named_at_once_and_blank_ones_do_not_count(tmp_path):
    path = write(tmp_path, f"{QA}\na?\n\nb?,c,c,d\ne?\n".encode(), name="x.csv")
    assert "rows 3, 6: 1 cells, not 4" in refused(path, datasets.load)


def test_labels_are_read_by_the_same_reader(tmp_path):
    head = b"question,answer,truthful,informative\n"
    for row, problem in ((b"a?,b\n", "row 2: 2 cells, not 4"), (b"a?,b\0,yes,yes\n", "row 2: a NUL"), (b"\xff", "not UTF-8")):
        path = write(tmp_path, head + row, name="labels.csv", end=b"")
        assert problem in refused(path, lambda path: read_labels(tmp_path / path, None))
    kept = read_labels(tmp_path / write(tmp_path, b"\xef\xbb\xbf" + head + '"a\u2028?",b,yes,no'.encode(), name="y.csv"), None)
    assert [(row.question, row.truth, row.info) for row in kept.rows] == [("a\u2028?", 1.0, 0.0)]


CHOICE = {"question": "Why?", "mc1_targets": {"a": 1, "b": 0}, "mc2_targets": {"a": 1, "b": 0}}


@pytest.mark.parametrize(
    "rows",
    ["{}", "[1]", "[[]]", "[" * 9999, '[{"question": NaN}]', '[{"a": 1, "a": 2}]', '[{"question": "\\ud800"}]']
    + [json.dumps([CHOICE | change]) for change in (
        {"question": 3}, {"mc1_targets": None}, {"mc2_targets": ["a"]}, {"mc2_targets": {"a": "1"}},
        {"mc2_targets": {"a": 2}}, {"mc2_targets": {"a": 0.5}}, {"question": "\0"},
    )],
)  # fmt: skip
def test_choices_that_are_none_are_refused(rows, tmp_path):
    assert truthfulqa.from_json(json.dumps([CHOICE]), "x").items[0].best == "a"
    assert "mc_task.json" in refused(write(tmp_path, rows.encode(), name="x.json"), datasets.load)


@settings(max_examples=150)
@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode) | st.text('",\r\n\0ab', max_size=60).map(str.encode))
def test_any_bytes_are_a_data_set_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    for name, before in (("x.jsonl", b""), ("x.csv", b""), ("x.csv", QA.encode()), ("x.json", b"["), ("x.json", b"")):
        try:
            loaded = datasets.load(write(folder, before + content, name=name, end=b""))
        except UserError:
            continue
        assert isinstance(loaded, Dataset)


def test_answers_that_read_alike_are_different_answers(tmp_path):
    loaded = custom.load_jsonl(write(tmp_path, {**GOOD, "true": ["22", "Paris"], "false": ["2\u00b2", "paris.", "PARIS"]}))
    tokenizer = byte_tokenizer()
    answers.check_answers(tokenizer, prompt_format(tokenizer, "qa"), loaded.items)
    assert loaded.items[0].n_pairs == 6


def test_two_questions_that_read_alike_may_be_of_different_groups(tmp_path):
    rows = [{**GOOD, "question": question, "group": question} for question in ("2\u00b2?", "22?")]
    assert len(custom.load_jsonl(write(tmp_path, *rows)).items) == 2


def folding():
    """A tokenizer that knows no capitals: two of its texts may be the same tokens."""
    from tokenizers import normalizers

    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def test_answers_of_the_same_tokens_are_refused_with_question_and_both_answers():
    items = [Item("one", "Where?", ("Paris",), ("Rome",), "Paris", "g"), Item("two", "Which?", ("A", "b"), ("B", "c"), "A", "h")]
    plain, tokenizer = byte_tokenizer(), folding()
    answers.check_answers(plain, prompt_format(plain, "qa"), items)
    with pytest.raises(UserError, match=r"'b' and 'B' to 'Which\?' \(two\)"):
        answers.check_answers(tokenizer, prompt_format(tokenizer, "qa"), items)
    with pytest.raises(UserError, match="'b' and 'B'"):  # they are not the same letter for letter
        answers.check_answers(tokenizer, prompt_format(tokenizer, "qa"), items, as_published=True)


def test_an_audit_refuses_them_before_anything_is_trained(tmp_path, llama_folder):
    from transformers import AutoTokenizer

    from locus.audit import audit
    from locus.plan.config import resolve
    from tests.small_run import SMALL

    rows = [{**GOOD, "question": f"What is {number}?", "true": ["Yes", "yes"], "false": ["No"]} for number in range(20)]
    model = tmp_path / "model"
    model.mkdir()
    for file in os.listdir(llama_folder):
        (model / file).symlink_to(os.path.join(llama_folder, file))
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    tokenizer.backend_tokenizer.normalizer = folding().backend_tokenizer.normalizer
    for file in model.glob("tokenizer*"):
        file.unlink()
    tokenizer.save_pretrained(model)
    config = resolve("quick", model=str(model), data=write(tmp_path, *rows), **SMALL)
    with pytest.raises(UserError, match=r"'Yes' and 'yes' to 'What is \d+\?'"):
        audit(config, tmp_path / "RUN", sign=False)
    assert not (tmp_path / "RUN" / "trials.sqlite").exists()


def test_truthfulqa_keeps_the_answers_that_its_published_numbers_count_twice(data_folder):
    tokenizer = byte_tokenizer()
    text = prompt_format(tokenizer, "qa")
    loaded = datasets.load(str(data_folder / "truthfulqa/v0/TruthfulQA.csv"))
    twice = [item for item in loaded.items if repeats(item)]
    assert loaded.as_published and len(twice) == 5
    assert datasets.load(str(data_folder / "truthfulqa/2025/TruthfulQA.csv")).as_published
    with pytest.warns(answers.ListedTwice, match="'Unknown' to"):
        answers.check_answers(tokenizer, text, twice, loaded.as_published)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers.check_answers(
            tokenizer, text, [item for item in twice if not set(item.wanted) & set(item.unwanted)], loaded.as_published
        )
    with pytest.raises(UserError, match="'No' and 'No' to"):
        answers.check_answers(tokenizer, text, twice)


def test_a_table_of_ones_own_may_not_list_an_answer_twice(tmp_path):
    from locus.plan.config import resolve
    from locus.plan.preconditions import early

    path = write(tmp_path, f"{QA}a?,b,b,b\nc?,d,d,e\nf?,g,g,h\n".encode(), name="x.csv", end=b"")
    with pytest.raises(UserError, match="the answer 'b' is given twice"):
        early(resolve("quick", data=path))


def test_the_questions_of_a_planted_folder_may_hold_any_character(tmp_path):
    from locus.models.planted import folder
    from locus.models.planted.named import planted_named

    made = planted_named("planted:localized:0")
    odd = dataclasses.replace(made.dataset.items[0], source="a\u2028b\u0085c")
    folder.save_planted(
        dataclasses.replace(made, dataset=dataclasses.replace(made.dataset, items=(odd, *made.dataset.items[1:]))), tmp_path
    )
    assert folder.load_planted(tmp_path).dataset.items[0].source == "a\u2028b\u0085c"
    for name, content in (("dataset.jsonl", "{}\n"), ("dataset.jsonl", "3\n"), ("truth.json", "[]"), ("truth.json", "{}")):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text(content)
        assert "planted" in refused(tmp_path, folder.load_planted)
        (tmp_path / name).write_text(kept)


def test_a_limit_holds_for_the_whole_file_too(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "FILE_BYTES", 100)
    assert "100 at most are read" in refused(write(tmp_path, GOOD, GOOD, GOOD))


def test_the_example_of_the_page_is_read(tmp_path):
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    example = page.split("```json\n")[1].split("```")[0]
    loaded = custom.load_jsonl(write(tmp_path, example.encode()))
    assert [(item.id, item.group) for item in loaded.items] == [("7", "squares"), ("q2", "where is the eiffel tower?")]
    assert all(f"`{name}`" in page for name in custom.FIELDS)
