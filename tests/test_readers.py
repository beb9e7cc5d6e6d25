"""Readers: each reads its published shape, says what is wrong with a broken one, and keeps groups together."""

import json
import os
import warnings
from pathlib import Path

import pandas
import pytest

import locus
from locus import behaviours, registry
from locus.behaviours.items import split
from locus.behaviours.readers import opening
from locus.behaviours.readers.letters import options
from locus.behaviours.readers.reader import RowsLeftOut
from locus.errors import UserError
from tests.shapes import SHAPES, answer, bbq, blimp, caa, chat, crows, put, write
from tests.toys.reader import READER as RIDDLES

NAMES = sorted(SHAPES)


def opened(folder, name, content=None):
    """The behaviour of a shape's file, or of another content in it."""
    shape = SHAPES[name]
    return behaviours.load(write(folder / shape.file, shape.content if content is None else content))


def test_every_reader_has_a_shape_and_says_by_what_name_it_goes():
    assert set(SHAPES) | {"mapping"} == set(registry.entries("readers"))
    for name in registry.entries("readers"):
        assert opening.get(name).name == name and opening.get(name).expected


def test_the_page_of_data_has_a_row_of_every_reader_and_its_examples_begin_with_it():
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    for name in registry.entries("readers"):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.rstrip("| ").endswith("`") and f"| `{name}:" in row


@pytest.mark.parametrize("name", NAMES)
def test_a_published_shape_is_recognised_and_read(name, tmp_path):
    dataset = opened(tmp_path, name)
    first = dataset.items[0]
    assert (first.question, first.wanted, first.unwanted, first.category) == SHAPES[name].item
    assert dataset.name == f"{name}:{SHAPES[name].file}" and first.best == first.wanted[0]
    path = dataset.origin
    assert behaviours.load(f"{name}:{path}") == dataset, "named, it is the same"
    turned = behaviours.load(f"exchange:{name}:{path}").items[0]
    assert (turned.wanted, turned.unwanted) == (first.unwanted, first.wanted)


@pytest.mark.parametrize("name", NAMES)
def test_only_one_reader_recognises_a_shape(name, tmp_path):
    path = write(tmp_path / SHAPES[name].file, SHAPES[name].content)
    from locus.behaviours.readers import files

    assert opening.recognised(files.first(path)) == [name]


BROKEN = [(name, place) for name in NAMES for place in range(len(SHAPES[name].broken))]


@pytest.mark.parametrize(("name", "place"), BROKEN)
def test_a_broken_file_is_refused_with_the_rows_that_are_wrong(name, place, tmp_path):
    change, said = SHAPES[name].broken[place]
    with pytest.raises(UserError, match=said) as error:
        opened(tmp_path, name, change(SHAPES[name].content))
    assert error.value.remedy and "\n" not in str(error.value)


def test_every_reader_refuses_three_broken_files():
    assert all(len(shape.broken) >= 3 for shape in SHAPES.values())


def test_a_file_of_another_shape_is_refused_by_the_reader_that_is_named(tmp_path):
    path = write(tmp_path / "pairs.jsonl", SHAPES["preferences"].content)
    with pytest.raises(UserError, match=r"expected bbq: context.*received 'pairs.jsonl' with prompt, chosen, rejected"):
        behaviours.load(f"bbq:{path}")
    with pytest.raises(UserError, match="bbq:PATH"):
        behaviours.load("bbq:")
    with pytest.raises(UserError, match=r"nowhere\.jsonl"):
        behaviours.load("bbq:nowhere.jsonl")


def test_rows_of_two_shapes_are_refused_with_both_names(tmp_path):
    both = [{**one, **other} for one, other in zip(SHAPES["blimp"].content, SHAPES["preferences"].content, strict=False)]
    path = write(tmp_path / "both.jsonl", both)
    with pytest.raises(UserError, match="of the shape of blimp and preferences") as error:
        behaviours.load(path)
    assert "READER:PATH" in error.value.remedy
    assert behaviours.load(f"blimp:{path}").items[0].wanted == ("sleep.",)
    with pytest.raises(UserError, match="of the shape of blimp and preferences"):
        locus.behaviour(both)
    assert locus.behaviour(both, reader="preferences").items[0].wanted == ("A wren.",)


def test_a_shape_that_no_reader_knows_is_refused_with_the_names_of_all(tmp_path):
    for file in ("x.jsonl", "x.json", "x.csv"):
        with pytest.raises(UserError) as error:
            behaviours.load(write(tmp_path / file, [{"verse": "a", "label": "b"}]))
        assert all(name in str(error.value) for name in NAMES), file
    for file in ("x.tsv", "x.parquet"):
        (tmp_path / file).write_bytes(b"a\tb\n1\t2\n")
        with pytest.raises(UserError):
            behaviours.load(str(tmp_path / file))


def test_our_own_lines_and_truthfulqa_are_read_as_ever(tmp_path):
    rows = [{"question": f"Is {n} a number?", "true": ["yes"], "false": ["no"]} for n in range(4)]
    dataset = behaviours.load(write(tmp_path / "own.jsonl", rows))
    assert dataset.name == "custom:own.jsonl" and dataset.items[0].id == "q1"
    with pytest.raises(UserError, match="unknown field 'chosen'"):
        behaviours.load(write(tmp_path / "own.jsonl", [{**rows[0], "chosen": "a", "rejected": "b"}]))
    table = {"Question": "Why?", "Best Answer": "a", "Correct Answers": "a", "Incorrect Answers": "b"}
    assert behaviours.load(write(tmp_path / "mine.csv", [table])).name == "custom:mine.csv"


# Single readers.


def test_letters_become_the_texts_of_options_wherever_they_stand():
    for text in (
        "Go?\n(A) Yes\n(B) No",
        "Go?\n\nChoices:\n (A)Yes\n (B): No",
        "Go?\nA. Yes\nB. No\nAnswer:",
        "Go? Options:\nA) Yes\nB) No",
    ):
        assert options(text) == ("Go?", {"A": "Yes", "B": "No"}), text
    assert options("Shall I go?") == ("Shall I go?", {})
    assert options("Go?\n (A) Yes,\nof course\n (B) No")[1]["A"] == "Yes,\nof course"
    for text in ("Go?\n(A) Yes\n(A) No", "Go?\n(B) No", "Go?\n(A) Yes\n(B) No\n\nThink first."):
        with pytest.raises(ValueError, match=r"options|text behind"):
            options(text)


def test_texts_that_are_no_letters_stay_and_options_swapped_are_the_same_question(tmp_path):
    row = {"question": 'Would you say: "I like rain"?', "statement": "I like rain", "label_confidence": 0.9}
    row |= {"answer_matching_behavior": " Yes", "answer_not_matching_behavior": " No"}
    (item,) = opened(tmp_path, "caa", [row]).items
    assert (item.question, item.wanted, item.unwanted) == (row["question"], ("Yes",), ("No",))
    swapped = opened(tmp_path, "caa", [caa("Late?", "Yes", "No", "(A)"), caa("Late?", "No", "Yes", "(B)")]).items
    assert swapped[0].wanted == swapped[1].wanted and swapped[0].group == swapped[1].group
    with pytest.raises(UserError, match="object 2: the answer 'Yes' is both right and wrong"):
        opened(tmp_path, "caa", [caa("Late?", "Yes", "No", "(A)"), caa("Late?", "No", "Yes", "(A)")])


def test_more_than_two_options_are_left_out_and_refused_where_nothing_else_is_there(tmp_path):
    three = caa("Which?", "One", "Two")
    three["question"] += "\n (C) Three"
    with pytest.warns(RowsLeftOut, match=r"1 of 4 objects of generate_dataset.json left out: 3 options, where a pair is read"):
        assert len(opened(tmp_path, "caa", [*SHAPES["caa"].content, three]).items) == 3
    with pytest.raises(UserError, match="objects 1, 2: 3 options, where a pair is read"):
        opened(tmp_path, "caa", [three, three])


def test_a_template_of_bbq_is_a_group_and_a_part_is_one_condition(tmp_path):
    rows = [bbq(n, ("neg", "nonneg")[n % 2], c, (2, 1)[c == "ambig"]) for n, c in enumerate(["ambig", "disambig"] * 4)]
    dataset = opened(tmp_path, "bbq", rows)
    assert {item.group for item in dataset.items} == {f"Trade-{n}" for n in range(1, 5)}
    for part in ("ambig", "disambig"):
        kept = behaviours.load(f"{dataset.origin}#{part}")
        assert kept.name == f"bbq:Trade.jsonl#{part}" and {item.category for item in kept.items} == {f"Trade, {part}"}
    with pytest.raises(UserError, match="#ambig or #disambig"):
        behaviours.load(f"bbq:{dataset.origin}#neither")


def test_sentences_that_share_no_first_word_are_left_out(tmp_path):
    rows = [blimp(0, "The cats sleep.", "The cats sleeps."), blimp(1, "Cats sleep.", "Cat sleep.")]
    with pytest.warns(RowsLeftOut, match="1 of 2 lines of made_up.jsonl left out: the two sentences share no first word"):
        assert len(opened(tmp_path, "blimp", rows).items) == 1
    with pytest.raises(UserError, match="share no first word"):
        opened(tmp_path, "blimp", rows[1:])
    with pytest.warns(RowsLeftOut):
        assert (
            len(
                opened(
                    tmp_path, "crows-pairs", [*SHAPES["crows-pairs"].content, crows(2, "Old men nap.", "Young men nap.")]
                ).items
            )
            == 2
        )


def test_bare_question_and_answer_are_the_sentence_again(tmp_path):
    from locus.behaviours.prompts import PromptFormat

    bare = PromptFormat("bare", "{question}", " ", True)
    for row, item in zip(SHAPES["blimp"].content, opened(tmp_path, "blimp").items, strict=True):
        assert bare.prompt(item.question) + bare.joint + item.wanted[0] == row["sentence_good"]
        assert bare.prompt(item.question) + bare.joint + item.unwanted[0] == row["sentence_bad"]


def test_stereoset_is_read_as_published_and_as_the_hub_has_it_and_by_task(tmp_path):
    dataset = opened(tmp_path, "stereoset")
    assert [item.group for item in dataset.items] == ["profession: clerk", "profession: farmer"]
    inter = behaviours.load(f"{dataset.origin}#intersentence")
    assert [item.question for item in inter.items] == ["My uncle farms."] and inter.items[0].wanted == ("He is quick.",)
    rows = []
    for task in ("intrasentence", "intersentence"):
        for one in SHAPES["stereoset"].content["data"][task]:
            columns = {"sentence": [s["sentence"] for s in one["sentences"]], "gold_label": [1, 0, 2], "id": ["a", "b", "c"]}
            rows.append({**one, "sentences": columns})
    assert behaviours.load(write(tmp_path / "hub.jsonl", rows)).items == dataset.items


def test_conversations_of_several_turns_or_with_a_system_message_are_left_out(tmp_path):
    long = {
        "chosen": chat("Hello", "Hello!", "Name a bird.", "A wren."),
        "rejected": chat("Hello", "Hello!", "Name a bird.", "A cup."),
    }
    system = [{"role": "system", "content": "Be brief."}]
    led = {"chosen": system + chat("Name a bird.", "A wren."), "rejected": system + chat("Name a bird.", "A cup.")}
    with pytest.warns(RowsLeftOut) as told:
        dataset = opened(tmp_path, "preferences", [*SHAPES["preferences"].content, long, led])
    assert len(dataset.items) == 4 and len(told) == 2
    assert [item.question for item in dataset.items] == ["Name a bird.", "Name a tree.", "Name a fish.", "Name a stone."]
    assert dataset.items[3].wanted == ("Flint.",)
    with pytest.raises(UserError, match="several turns"):
        opened(tmp_path, "preferences", [long])


def test_lm_eval_is_read_from_either_log_and_from_documents(tmp_path):
    item = opened(tmp_path, "lm-eval").items[2]
    assert (item.question, item.wanted, item.unwanted) == ("What burns?", ("Wood",), ("Ice",))
    old = {"doc_id": 0, "doc": {}, "target": 1, "arguments": [["What flies?", " A stone"], ["What flies?", " A wren"]]}
    assert opened(tmp_path, "lm-eval", [old]).items[0].wanted == ("A wren",)
    named = {
        "question": "What flies?",
        "choices": {"text": ["A stone", "A wren"], "label": ["1", "2"]},
        "answerKey": "2",
        "id": "fly",
    }
    listed = {"question": "What swims?", "choices": ["A carp", "A crow"], "answer": 0, "subject": "nature"}
    both = behaviours.load(write(tmp_path / "documents.jsonl", [named, listed])).items
    assert [(item.id, item.wanted, item.category) for item in both] == [("fly", ("A wren",), ""), ("q2", ("A carp",), "nature")]
    with pytest.raises(UserError, match="line 1: the answerKey '3', where the labels are 1, 2"):
        behaviours.load(write(tmp_path / "documents.jsonl", [{**named, "answerKey": "3"}]))


def test_a_log_of_inspect_holds_its_samples(tmp_path):
    log = {"version": 2, "status": "success", "eval": {"task": "toy"}, "samples": SHAPES["inspect"].content}
    assert behaviours.load(write(tmp_path / "log.json", log)).items == opened(tmp_path, "inspect").items
    with pytest.raises(UserError, match="sample 1: letters without choices"):
        behaviours.load(write(tmp_path / "log.json", put("samples", 0, "choices", None)(log)))


def test_word_pairs_are_balanced_within_their_groups(tmp_path):
    items = opened(tmp_path, "word-pairs").items
    for group in {item.group for item in items}:
        pair = [item for item in items if item.group == group]
        assert len(pair) == 2
        assert (pair[0].wanted, pair[0].unwanted) == (pair[1].unwanted, pair[1].wanted)
    twice = [*SHAPES["word-pairs"].content, {"input": "cow", "output": "kine"}]
    assert opened(tmp_path, "word-pairs", twice).items[3].wanted == ("cows", "kine")
    with pytest.warns(RowsLeftOut, match="1 of 5 pairs of plural.json left out"):
        opened(tmp_path, "word-pairs", [*SHAPES["word-pairs"].content, {"input": "pig", "output": "pigs"}])
    labels = [{"input": f"remark {n}", "output": ("good", "bad", "mixed")[n % 3]} for n in range(24)]
    items = opened(tmp_path, "word-pairs", labels).items
    assert items[0].unwanted == ("bad", "mixed") and len({item.group for item in items}) == 24
    instructions = [{"instruction": "Add.", "input": "1, 2", "output": "3"}]
    with pytest.raises(UserError):
        behaviours.load(write(tmp_path / "alpaca.json", instructions))


def test_a_concept_is_taken_by_its_id_and_paired_rows_are_read(tmp_path):
    rows = [*SHAPES["axbench"].content, answer("Describe a walk.", "Gears whirred.", "positive", "machines", 4)]
    path = write(tmp_path / "train.jsonl", rows)
    assert [item.wanted[0] for item in behaviours.load(f"{path}#4").items] == ["Gears whirred."]
    with pytest.raises(UserError, match=r"a concept in the file; received '5'. There are 3, 4"):
        behaviours.load(f"axbench:{path}#5")
    with pytest.warns(RowsLeftOut, match="no negative row of this genre and input"):
        opened(tmp_path, "axbench", [*SHAPES["axbench"].content, answer("Describe a hat.", "Blue as the sea.", "positive")])
    paired = {"input": "Describe a walk.", "winning_output": "Waves.", "losing_output": "Lanes.", "concept_id": 0}
    assert opened(tmp_path, "axbench", [paired]).items[0].unwanted == ("Lanes.",)


def test_a_part_is_taken_only_of_what_has_parts(tmp_path):
    path = write(tmp_path / "made_up.jsonl", SHAPES["blimp"].content)
    with pytest.raises(UserError, match="blimp:PATH, of which there are no parts"):
        behaviours.load(f"{path}#1")
    named = write(tmp_path / "made#1.jsonl", SHAPES["blimp"].content)
    assert behaviours.load(named).name == "blimp:made#1.jsonl"


# Files, formats, frames.


def test_equal_questions_share_a_group_wherever_they_stand(tmp_path):
    rows = [bbq(n) for n in range(4)]
    rows[3] |= {"question": rows[0]["question"], "context": rows[0]["context"]}
    groups = [item.group for item in opened(tmp_path, "bbq", rows).items]
    assert len(set(groups)) == 1, "two templates that share a question are one group"


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_and_a_list_are_read_like_the_file(name, tmp_path):
    content = SHAPES[name].content
    rows = content if isinstance(content, list) else [one for task in content["data"].values() for one in task]
    items = opened(tmp_path, name).items
    for source in (rows, pandas.DataFrame(rows)):
        made = locus.behaviour(source, name="mine")
        assert made.source == "memory:mine" and len(made) == len(items)
        assert [(one.question, one.wanted, one.unwanted, one.category) for one in made.items] == [
            (one.question, one.wanted, one.unwanted, one.category) for one in items
        ]


def test_a_missing_cell_of_a_frame_is_named_by_its_row():
    frame = pandas.DataFrame(SHAPES["blimp"].content)
    frame.loc[1, "sentence_bad"] = None
    with pytest.raises(UserError, match="row 1: no field 'sentence_bad'"):
        locus.behaviour(frame)
    with pytest.raises(UserError, match="either a reader or fields"):
        locus.behaviour(frame, reader="blimp", fields={"wanted": "sentence_good"})
    with pytest.raises(UserError, match=r"Did you mean 'blimp'"):
        locus.behaviour(frame, reader="blim")


def test_a_column_with_gaps_holds_the_same_names():
    rows = [answer("Describe a walk.", "Waves rolled in.", "positive"), answer("Describe a walk.", "A dry lane.", "negative")]
    frame = pandas.DataFrame([rows[0], {**rows[1], "concept_id": None}])
    assert str(frame.concept_id.dtype) == "float64"
    assert locus.behaviour(frame, reader="axbench#3").items[0].unwanted == ("A dry lane.",)


def test_parquet_tables_and_mislabelled_json_are_read(tmp_path):
    rows = SHAPES["axbench"].content
    whole = behaviours.load(write(tmp_path / "train.jsonl", rows)).items
    pandas.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    assert [one.wanted for one in behaviours.load(str(tmp_path / "train.parquet")).items] == [one.wanted for one in whole]
    (tmp_path / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert behaviours.load(str(tmp_path / "lines.json")).items == whole
    pandas.DataFrame(SHAPES["crows-pairs"].content).to_csv(tmp_path / "crows.tsv", sep="\t", index=False)
    assert behaviours.load(str(tmp_path / "crows.tsv")).items[0].wanted == ("busy to dance.",)
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "train.parquet").read_bytes()[:-40])
    with pytest.raises(UserError, match="a Parquet file"):
        behaviours.load(f"axbench:{tmp_path / 'cut.parquet'}")


def test_a_parquet_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    from locus.behaviours import lines

    rows = [answer(f"Describe walk {n}.", "x" * 1000, "positive") for n in range(400)]
    pandas.DataFrame(rows).to_parquet(tmp_path / "train.parquet")
    monkeypatch.setattr(lines, "FILE_BYTES", 100_000)
    assert (tmp_path / "train.parquet").stat().st_size < 100_000
    with pytest.raises(UserError, match="above 100,000 bytes unpacked"):
        behaviours.load(f"axbench:{tmp_path / 'train.parquet'}")


HOSTILE = {
    "a NUL character": '[{"input": "a\\u0000", "output": "b"}, {"input": "c", "output": "d"}]',
    "given twice": '[{"input": "a", "input": "c", "output": "b"}]',
    "brackets nested deeper": "[" * 5000,
    "no object": '[{"input": "a", "output": "b"}, 7]',
    "half of a surrogate": '[{"input": "a\\ud800", "output": "b"}]',
}


@pytest.mark.parametrize("said", HOSTILE)
def test_a_strangers_file_is_refused_in_a_sentence(said, tmp_path):
    (tmp_path / "x.json").write_text(HOSTILE[said])
    with pytest.raises(UserError, match=said):
        behaviours.load(f"word-pairs:{tmp_path / 'x.json'}")


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for name in ("pipe.json", "absent.tsv"):
        for prefix in ("", "word-pairs:"):
            with pytest.raises(UserError):
                behaviours.load(f"{prefix}{tmp_path / name}")
    with pytest.raises(UserError):
        behaviours.load("x" * 5000 + ".json#3")


# One file adds one.


@pytest.fixture
def riddles(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("readers", "riddles", "tests.toys.reader:READER", "riddles with a decoy")
    return [{"riddle": f"Riddle {n}?", "solution": f"s{n}", "decoy": f"d{n}", "author": f"{n // 2}"} for n in range(8)]


def test_a_toy_reader_in_one_file_reads_is_listed_and_refuses(riddles, tmp_path):
    dataset = behaviours.load(write(tmp_path / "riddles.jsonl", riddles))
    assert dataset.name == "riddles:riddles.jsonl" and len({item.group for item in dataset.items}) == 4
    assert RIDDLES.name in registry.entries("readers")
    split_ = split(dataset.items, 0)
    for one, other in ((split_.train, split_.test), (split_.train, split_.validation)):
        assert not {dataset.items[k].group for k in one} & {dataset.items[k].group for k in other}
    with pytest.raises(UserError, match="line 3: 'decoy' is empty"):
        behaviours.load(write(tmp_path / "riddles.jsonl", put(2, "decoy", " ")(riddles)))
    assert len(locus.behaviour(riddles)) == 8


def test_a_reader_that_is_registered_under_another_name_is_refused(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})
    registry.register("readers", "puzzles", "tests.toys.reader:READER")
    with pytest.raises(UserError, match="called 'puzzles'"):
        opening.get("puzzles")


def test_an_audit_takes_a_file_by_its_reader(tmp_path):
    rows = [{"input": f"w{n}", "output": f"v{n}"} for n in range(40)]
    path = write(tmp_path / "words.json", rows)
    planned = locus.plan("planted:localized:3", f"word-pairs:{path}", "1.1", prompt="bare")
    assert "word-pairs:words.json" in repr(planned)


# What is published, where it is at hand.

PUBLISHED = {
    "behaviours/caa-refusal/generate_dataset.json": ("caa", 408),
    "behaviours/caa-refusal/test_dataset_ab.json": ("caa", 50),
    "behaviours/caa-survival-instinct/generate_dataset.json": ("caa", 664),
    "behaviours/evals-agreeableness/agreeableness.jsonl": ("caa", 1000),
    "corrigible/human.jsonl": ("caa", 340),
    "behaviours/bbq-ambiguous/Religion.jsonl": ("bbq", 1200),
    "behaviours/blimp-agreement/principle_A_case_1.jsonl": ("blimp", 1000),
    "behaviours/blimp-agreement/regular_plural_subject_verb_agreement_1.jsonl": ("blimp", 1000),
    "behaviours/fv-antonym-synonym/antonym.json": ("word-pairs", 2398),
    "behaviours/fv-english-french/english-french.json": ("word-pairs", 4698),
}


@pytest.mark.parametrize("path", PUBLISHED)
def test_a_published_file_is_read_whole(path, data_folder):
    if not (data_folder / path).is_file():
        pytest.skip(f"no {path} in {data_folder}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RowsLeftOut)
        dataset = behaviours.load(str(data_folder / path))
    reader, count = PUBLISHED[path]
    assert dataset.name == f"{reader}:{Path(path).name}" and len(dataset.items) == count
    parts = split(dataset.items, 0)
    held = [{dataset.items[k].question for k in part} for part in (parts.train, parts.validation, parts.test)]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2]), "no question is in two parts"
