"""Generated pairs are aligned, seeded and what their task says; what cannot be aligned is refused."""

import json
import re

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from locus.behaviours import contrasts, load
from locus.behaviours.items import problems
from locus.errors import UserError
from locus.patching import tasks
from locus.patching.pairs import PatchPair, load_pairs, unmarked
from tests.families import byte_tokenizer

PIECES = {True: r"[0-9]| ?[A-Za-z]+|[^A-Za-z0-9]", False: r" ?[0-9]{1,2}| ?[A-Za-z]+|[^A-Za-z0-9]"}
FACTS = [
    ("Rome", "The city of {} lies in", "Italy"),
    ("Oslo", "The city of {} lies in", "Norway"),
    ("Paris", "The city of {} lies in", "France"),
    ("New York", "The city of {} lies in", "America"),
    ("Gold", "The colour of {} is", "yellow"),
]


def word_tokenizer(digits: bool) -> PreTrainedTokenizerFast:
    """One token a word with its space; numbers digit by digit, or two digits at a time."""
    known = [
        *contrasts.NAMES,
        *contrasts.PLACES,
        *contrasts.OBJECTS,
        *contrasts.EVENTS,
        *(part for fact in FACTS for part in fact),
        *contrasts.ARGUMENTS,
        *contrasts.NOUNS,
    ]
    templates = " ".join([*contrasts.SCENES, "The lasted from the year to the year event def self param of", *known])
    words = sorted(set(re.findall(r"[A-Za-z]+", templates)))
    numbers = [str(number) for number in range(100)] + [f"{number:02d}" for number in range(10)]
    pieces = [*words, *(f" {word}" for word in words), *numbers, *(f" {number}" for number in numbers), *' .,=+-\n():_"']
    vocabulary = {piece: index for index, piece in enumerate(["<unk>", *dict.fromkeys(pieces)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES[digits]), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


@pytest.fixture(scope="module", params=[False, True], ids=["two-digit", "one-digit"])
def words(request):
    return word_tokenizer(request.param)


def texts(tokenizer, ids):
    return [tokenizer.convert_ids_to_tokens(token).strip() for token in ids]


@pytest.mark.parametrize("make", [tasks.indirect_object, tasks.greater_than, tasks.arithmetic, tasks.docstring, tasks.induction])
def test_every_task_gives_as_many_different_aligned_pairs_as_asked_from_a_seed(words, make):
    pairs = make(words, 60, 4)
    assert len({(pair.clean, pair.corrupted) for pair in pairs}) == 60
    assert pairs == make(words, 60, 4) != make(words, 60, 5)
    assert pairs[:10] == make(words, 10, 4)
    for pair in pairs:
        assert pair.changed and pair.spans["end"] == (len(pair) - 1,)
        named = {at for name, places in pair.spans.items() if name != "end" for at in places}
        assert set(pair.changed) <= named


@pytest.mark.parametrize("order", ["ABBA", "BABA"])
def test_indirect_object(words, order):
    for pair in tasks.indirect_object(words, 40, 0, order=order):
        (io,), (s1,), (s2,) = pair.spans["IO"], pair.spans["S1"], pair.spans["S2"]
        assert (io < s1 < s2) if order == "ABBA" else (s1 < io < s2)
        assert pair.answer == (pair.clean[io],) and pair.other == (pair.clean[s1],) and pair.clean[s1] == pair.clean[s2]
        assert pair.changed == (s2,) and pair.corrupted[s2] == pair.clean[io]
    for pair in tasks.indirect_object(words, 40, 0, order=order, tokens="ABC"):
        assert pair.changed == tuple(sorted(pair.spans[name][0] for name in ("IO", "S1", "S2")))
        names = {pair.corrupted[at] for at in pair.changed}
        assert len(names) == 3 and not names & {*pair.answer, *pair.other}


def test_greater_than():
    for pair in tasks.greater_than(word_tokenizer(False), 40, 0):
        year = int(re.search(r"year \d\d(\d\d) to", pair.text[0])[1])
        tokenizer = word_tokenizer(False)
        assert sorted(map(int, texts(tokenizer, pair.answer))) == list(range(year + 1, 100))
        assert sorted(map(int, texts(tokenizer, pair.other))) == list(range(year + 1))
        assert re.search(r"year \d\d01 to", pair.text[1])
    for pair in tasks.greater_than(word_tokenizer(True), 40, 0):
        decade = int(re.search(r"year \d\d(\d)\d to", pair.text[0])[1])
        tokenizer = word_tokenizer(True)
        assert all(int(digit) > decade for digit in texts(tokenizer, pair.answer))
        assert all(int(digit) < decade for digit in texts(tokenizer, pair.other))


def test_arithmetic(words):
    for pair in tasks.arithmetic(words, 40, 0):
        for text, ids in zip(pair.text, (pair.answer, pair.other), strict=True):
            *worked, question = text.split("\n")
            assert len(worked) == 2
            for line in [*worked, question + texts(words, ids)[0]]:
                a, sign, b, result = re.fullmatch(r"(\d+) ([+-]) (\d+) = ?(\d+)", line).groups()
                assert int(a) + (int(b) if sign == "+" else -int(b)) == int(result)


def test_induction():
    tokenizer = byte_tokenizer()
    for pair in tasks.induction(tokenizer, 40, 0, length=10):
        (first,), (following,) = pair.spans["FIRST"], pair.spans["NEXT"]
        assert pair.clean[-1] == pair.clean[first] and pair.clean[following] == pair.answer[0]
        assert pair.changed == (following,) and pair.corrupted[following] == pair.other[0]
        assert pair.clean.count(pair.answer[0]) == 1 and not set(pair.clean[1:]) & set(tokenizer.all_special_ids)


def test_corrupting_the_first_subject_and_the_indirect_object(words):
    for pair in tasks.indirect_object(words, 40, 0, tokens="S1+IO"):
        assert pair.changed == tuple(sorted(pair.spans[name][0] for name in ("IO", "S1")))
        new = {pair.corrupted[at] for at in pair.changed}
        assert len(new) == 2 and not new & {*pair.answer, *pair.other}
        assert pair.corrupted[pair.spans["S2"][0]] == pair.other[0]
    with pytest.raises(UserError, match="S1"):
        tasks.indirect_object(words, 4, 0, tokens="S3")


def test_docstring(words):
    for pair in tasks.docstring(words, 40, 0):
        names = [pair.clean[pair.spans[name][0]] for name in ("A_DEF", "B_DEF", "C_DEF", "A_DOC", "B_DOC")]
        assert names[0] == names[3] and names[1] == names[4] and pair.answer == (names[2],)
        assert pair.changed == pair.spans["C_DEF"] and pair.other == (pair.corrupted[pair.changed[0]],)
        assert pair.text[0].endswith(":param")


@pytest.mark.parametrize("task", ["ioi", "greater-than", "arithmetic", "docstring", "factual"])
def test_questions_of_a_task_are_prompts_that_are_never_patched(task):
    tokenizer = word_tokenizer(False)
    data = load(f"task:{task}:40:1")
    assert len(data.items) == 40 and not [problem for item in data.items for problem in problems(item)]
    assert data.sha256 == load(f"task:{task}:40:1").sha256 != load(f"task:{task}:40:2").sha256
    for item in data.items:
        # A question about years ends before the century, which its answers begin with.
        assert contrasts.dealt(item.question if task != "greater-than" else f"{item.question} {item.wanted[0][:2]}")
    if task != "factual":
        make = {"ioi": tasks.indirect_object, "greater-than": tasks.greater_than}.get(task) or getattr(tasks, task)
        patched = [pair.text[0].strip() for pair in make(tokenizer, 60, 1)]
        assert not any(contrasts.dealt(text) for text in patched)
    with pytest.raises(UserError, match=r"fewer|NAME"):
        load("task:ioi:1:2:3" if task == "factual" else f"task:{task}:0x")


def test_answers_of_questions_of_a_task():
    for item in load("task:greater-than:50").items:
        began = int(re.search(r"year (\d{4}) to the year$", item.question)[1])
        assert all(int(year) > began for year in item.wanted) and all(int(year) <= began for year in item.unwanted)
        assert {year[:2] for year in item.answers} == {str(began)[:2]}
    for item in load("task:ioi:50").items:
        assert item.question.count(item.wanted[0]) == 1 and item.question.count(item.unwanted[0]) == 2


def test_the_facts_of_the_package_are_in_order():
    triples = contrasts.facts()
    assert len({(subject, relation) for subject, relation, _ in triples}) == len(triples) > 200
    assert all(relation.count("{}") == 1 and relation == relation.rstrip() for _, relation, _ in triples)


def test_factual_recall(words, tmp_path):
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps(dict(zip(("subject", "relation", "object"), fact))) for fact in FACTS))
    # Three cities of one token, in both directions: 6 pairs; New York has two tokens, and Gold has no partner.
    pairs = tasks.factual_recall(words, 6, 0, str(path))
    assert len({pair.text for pair in pairs}) == 6
    for pair in pairs:
        assert pair.changed == pair.spans["SUBJECT"]
    rome = next(pair for pair in pairs if "Rome" in pair.text[0])
    assert texts(words, rome.answer) == ["Italy"]
    with pytest.raises(UserError, match="6 in"):
        tasks.factual_recall(words, 7, 0, str(path))
    path.write_text('{"subject": "Rome", "relation": "lies in", "object": "Italy"}\nno')
    with pytest.raises(UserError, match=r"line 1.*line 2"):
        tasks.factual_recall(words, 1, 0, str(path))


def test_pairs_of_the_user(words, tmp_path):
    path = tmp_path / "pairs.jsonl"
    row = {"clean": "The city of [[Rome]] lies in", "corrupted": "The city of [[Oslo]] lies in"}
    path.write_text(json.dumps(row | {"answer": " Italy", "other": " Norway"}))
    (pair,) = load_pairs(str(path), words)
    at = texts(words, pair.clean).index("Rome")
    assert pair.spans["key"] == (at,) == pair.changed and texts(words, pair.answer + pair.other) == ["Italy", "Norway"]
    assert pair.text[0] == "The city of Rome lies in"
    wrong = [
        "no",
        json.dumps(row | {"answer": " Italy"}),
        json.dumps(row | {"answer": " New York", "other": " Norway"}),
        json.dumps(row | {"answer": " Italy", "other": " Norway", "corrupted": "The city of [[New York]] lies in"}),
        json.dumps(row | {"answer": " Italy", "other": " Norway", "corrupted": "The [[city]] of Oslo lies in"}),
        json.dumps(row | {"answer": " Italy", "other": " Italy"}),
    ]
    path.write_text("\n".join(wrong))
    with pytest.raises(UserError) as error:
        load_pairs(str(path), words)
    for number, reason in enumerate(["not JSON", "other", "one token", "same number", "same token positions", "common"], 1):
        assert re.search(f"line {number}: [^;]*{reason}", str(error.value)), reason


def test_marks():
    assert unmarked("a [[b c]] d [[S2|e]]") == ("a b c d e", {"key": (2, 5), "S2": (8, 9)})
    with pytest.raises(ValueError, match="twice"):
        unmarked("[[a]] [[b]]")


def test_a_tokenizer_without_words_is_refused_with_a_way_out():
    with pytest.raises(UserError, match="induction"):
        tasks.indirect_object(byte_tokenizer(), 3, 0)
    with pytest.raises(UserError, match="Ask for fewer"):
        tasks.arithmetic(word_tokenizer(True), 50, 0, shots=0, limit=2)


def test_a_pair_checks_itself():
    with pytest.raises(UserError, match="2 and 1 tokens"):
        PatchPair((1, 2), (1,), (3,), (4,))
    with pytest.raises(UserError, match="spans"):
        PatchPair((1, 2), (1, 3), (3,), (4,), {"S2": (2,)})
