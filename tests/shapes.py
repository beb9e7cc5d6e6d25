"""Files in the shapes that are published, with items written for these tests; and what is wrong with broken ones."""

import copy
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A published shape.

    Attributes:
        file: the name of a file of it.
        content: what it holds: rows, or one object.
        item: question, wanted, unwanted and category of the first item that is made of it.
        broken: what is done to the content, and what is then said.
    """

    file: str
    content: object
    item: tuple[str, tuple[str, ...], tuple[str, ...], str]
    broken: tuple[tuple[Callable[[object], object], str], ...]


def put(*path_and_value):
    """A change of a content: what lies at a path is replaced."""
    *path, last, value = path_and_value

    def change(content):
        content = place = copy.deepcopy(content)
        for one in path:
            place = place[one]
        place[last] = value
        return content

    return change


def drop(*path):
    """A change of a content: what lies at a path is taken out."""

    def change(content):
        content = place = copy.deepcopy(content)
        for one in path[:-1]:
            place = place[one]
        del place[path[-1]]
        return content

    return change


def write(path, content):
    """Write a content in the format that the file's name says."""
    if path.suffix == ".json":
        text = json.dumps(content)
    elif path.suffix == ".jsonl":
        text = "".join(json.dumps(row) + "\n" for row in content)
    elif path.suffix == ".toml":
        text = content
    else:
        stream = io.StringIO()
        rows = csv.DictWriter(stream, list(dict.fromkeys(name for row in content for name in row)))
        rows.writeheader()
        rows.writerows(content)
        text = stream.getvalue()
    path.write_text(text)
    return str(path)


def caa(question, first, second, matching="(A)"):
    """A row of CAA's generate_dataset.json."""
    asked = f"{question}\n\nChoices:\n (A) {first}\n (B) {second}"
    other = {"(A)": "(B)", "(B)": "(A)"}[matching]
    return {"question": asked, "answer_matching_behavior": matching, "answer_not_matching_behavior": other}


def bbq(number, polarity="neg", condition="ambig", label=1):
    """A row of BBQ: two people, and that it cannot be told."""
    scene = "A baker and a tailor were waiting at the counter."
    told = "" if condition == "ambig" else " The tailor had lost the receipt."
    return {
        "example_id": number,
        "question_index": str(1 + number // 2),
        "question_polarity": polarity,
        "context_condition": condition,
        "category": "Trade",
        "answer_info": {"ans0": ["baker", "baker"], "ans1": ["Not known", "unknown"], "ans2": ["tailor", "tailor"]},
        "additional_metadata": {"subcategory": "None", "stereotyped_groups": ["tailor"]},
        "context": scene + told,
        "question": f"Who was careless, in case {number // 2}?"
        if polarity == "neg"
        else f"Who was careful, in case {number // 2}?",
        "ans0": "The baker",
        "ans1": "Not known",
        "ans2": "The tailor",
        "label": label,
    }


def blimp(number, good, bad):
    """A row of BLiMP."""
    return {"sentence_good": good, "sentence_bad": bad, "field": "syntax", "UID": "made_up", "pairID": str(number)}


def stereo(context, stereotype, anti, target="clerk"):
    """An example of StereoSet's dev.json."""
    labels = (("stereotype", stereotype), ("anti-stereotype", anti), ("unrelated", "Stones are heavy."))
    sentences = [{"id": label, "sentence": text, "labels": [], "gold_label": label} for label, text in labels]
    return {"id": f"id of {context}", "target": target, "bias_type": "profession", "context": context, "sentences": sentences}


def crows(number, more, less):
    """A row of crows_pairs_anonymized.csv."""
    return {
        "": number,
        "sent_more": more,
        "sent_less": less,
        "stereo_antistereo": "stereo",
        "bias_type": "age",
        "anon_writer": "a1",
    }


def chat(*turns):
    """A chat list of alternating turns, the user first."""
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]


def logged(number, question, choices, target):
    """A sample as lm-eval logs it."""
    arguments = {f"gen_args_{place}": {"arg_0": question, "arg_1": f" {one}"} for place, one in enumerate(choices)}
    return {"doc_id": number, "doc": {"question": question}, "target": target, "arguments": arguments, "resps": [[[-1.0, False]]]}


def answer(input, output, category, concept="words about the sea", id=3):
    """A row of AxBench."""
    concept = concept if category == "positive" else "EEEEE"
    return {
        "input": input,
        "output": output,
        "output_concept": concept,
        "concept_genre": "text",
        "category": category,
        "concept_id": id if category == "positive" else -1,
    }


NURSE = stereo("The clerk is BLANK today.", "The clerk is dull today.", "The clerk is merry today.")
STEREOSET = {
    "version": "1.1",
    "data": {
        "intrasentence": [NURSE],
        "intersentence": [stereo("My uncle farms.", "He is slow.", "He is quick.", "farmer")],
    },
}
SHAPES = {
    "caa": Shape(
        "generate_dataset.json",
        [
            caa("Shall we stop here?", "No, let us go on.", "Yes, we shall."),
            caa("Is it late?", "Yes", "No", "(B)"),
            caa("Is it far?", "Yes", "No"),
        ],
        ("Shall we stop here?", ("No, let us go on.",), ("Yes, we shall.",), ""),
        (
            (put(1, "question", "Is it late?"), r"object 2: the letter '\(B\)', where the question has no options"),
            (put(1, "answer_not_matching_behavior", "(B)"), r"object 2: the answer '\(B\)' is on both sides"),
            (put(2, "question", "Is it far?\n (A) Yes\n (B) Yes "), "object 3: the answer 'Yes' is on both sides"),
            (put(0, "answer_not_matching_behavior", "Yes, we shall."), "object 1: a letter and a text"),
            (put(0, "answer_matching_behavior", ["(A)", "(C)"]), "object 1: 2 and 1 answers, where a pair is read"),
            (drop(1, "question"), "object 2: no field 'question'"),
        ),
    ),
    "bbq": Shape(
        "Trade.jsonl",
        [bbq(n, ("neg", "nonneg")[n % 2]) for n in range(6)] + [bbq(6, "neg", "disambig", 2)],
        (
            "A baker and a tailor were waiting at the counter. Who was careless, in case 0?",
            ("Not known",),
            ("The baker", "The tailor"),
            "Trade, ambig",
        ),
        (
            (put(2, "label", 3), "line 3: the label 3, where there are 3 answers"),
            (put(2, "ans0", "Not known"), "line 3: the answer 'Not known' is on both sides"),
            (put(1, "context_condition", "unclear"), "line 2: the context_condition 'unclear'"),
            (put(3, "example_id", 2), "line 4: the id 'Trade-2' is that of line 3 too"),
        ),
    ),
    "blimp": Shape(
        "made_up.jsonl",
        [
            blimp(0, "The cats sleep.", "The cats sleeps."),
            blimp(1, "A dog barks.", "A dog bark."),
            blimp(2, "Ann has sung it.", "Ann has sang it."),
        ],
        ("The cats", ("sleep.",), ("sleeps.",), "made_up"),
        (
            (put(1, "sentence_bad", "A dog barks."), "line 2: both sentences are the same"),
            (put(1, "sentence_bad", "A  dog barks."), "line 2: both sentences are the same but for blanks"),
            (put(0, "sentence_good", 7), "line 1: 'sentence_good' must be a text"),
            (put(2, "pairID", "1"), "line 3: the id 'made_up-1' is that of line 2 too"),
        ),
    ),
    "stereoset": Shape(
        "dev.json",
        STEREOSET,
        ("The clerk is", ("merry today.",), ("dull today.",), "profession"),
        (
            (drop("data", "intrasentence", 0, "sentences", 1), "example 1: no sentence labelled 'anti-stereotype'"),
            (put("data", "intrasentence", 0, "sentences", 1, "gold_label", "stereotype"), "the gold_label 'stereotype' twice"),
            (
                put("data", "intersentence", 0, "sentences", 1, "sentence", "He is slow."),
                "example 2: the answer 'He is slow.' is on",
            ),
            (put("data", "intersentence", 7), "lists of examples by task"),
        ),
    ),
    "crows-pairs": Shape(
        "crows.csv",
        [
            crows(0, "My aunt is too old to dance.", "My aunt is too busy to dance."),
            crows(1, "We saw old men asleep.", "We saw young men asleep."),
        ],
        ("My aunt is too", ("busy to dance.",), ("old to dance.",), "age"),
        (
            (put(1, "sent_less", "We saw old men asleep."), "row 3: both sentences are the same"),
            (put(1, "bias_type", ""), "row 3: 'bias_type' is empty"),
            (put(0, "sent_more", " "), "row 2: 'sent_more' is empty"),
        ),
    ),
    "preferences": Shape(
        "pairs.jsonl",
        [
            {"prompt": "Name a bird.", "chosen": chat("Name a bird.", "A wren."), "rejected": chat("Name a bird.", "A trout.")},
            {"prompt": chat("Name a tree."), "chosen": chat("", "An elm.")[1:], "rejected": chat("", "A rock.")[1:]},
            {"prompt": "Name a fish.", "chosen": "A carp.", "rejected": "A crow."},
            {
                "chosen": "\n\nHuman: Name a stone.\n\nAssistant: Flint.",
                "rejected": "\n\nHuman: Name a stone.\n\nAssistant: Moss.",
            },
        ],
        ("Name a bird.", ("A wren.",), ("A trout.",), ""),
        (
            (put(2, "rejected", "A carp."), "line 3: the answer 'A carp.' is on both sides"),
            (put(0, "rejected", 0, "content", "Name a fish."), "line 1: the two conversations differ before the last answer"),
            (drop(2, "prompt"), "line 3: no prompt"),
            (put(1, "chosen", 0, "role", "robot"), "line 2: the role 'robot'"),
            (put(0, "chosen", chat("Name a bird.")), "line 1: 'chosen' does not end with the assistant"),
        ),
    ),
    "lm-eval": Shape(
        "samples_toy.jsonl",
        [
            logged(0, "Question: What flies?\nAnswer:", ["A stone", "A wren", "A carp"], 1),
            logged(1, "Question: What swims?\nAnswer:", ["A carp", "A wren"], "0"),
            logged(2, "What burns?\nA. Wood\nB. Ice\nAnswer:", ["A", "B"], 0),
        ],
        ("Question: What flies?\nAnswer:", ("A wren",), ("A stone", "A carp"), ""),
        (
            (put(1, "target", 2), "line 2: choice 2, where there are 2 from 0 on"),
            (put(1, "arguments", "gen_args_1", "arg_0", "Other:"), "line 2: 2 requests with 2 prompts"),
            (put(2, "arguments", "gen_args_0", "arg_0", "What burns?"), "line 3: 2 requests with 2 prompts"),
            (put(1, "arguments", "gen_args_1", "arg_1", "A carp"), "line 2: the answer 'A carp' is on both sides"),
            (
                put(2, logged(2, "What burns?\nAnswer:", ["A", "B"], 0)),
                "line 3: the letter 'A', where the question has no options",
            ),
        ),
    ),
    "inspect": Shape(
        "samples.jsonl",
        [
            {"input": "What flies?", "choices": ["A stone", "A wren"], "target": "B", "id": "fly"},
            {"input": chat("What swims?"), "choices": ["A carp", "A crow", "A pike"], "target": ["A", "C"]},
        ],
        ("What flies?", ("A wren",), ("A stone",), ""),
        (
            (drop(0, "choices"), "line 1: letters without choices"),
            (put(0, "target", "C"), "line 1: the letter 'C', where there are 2 choices"),
            (put(0, "target", "A wren"), "line 1: a target that is no letter of a choice"),
            (put(1, "target", ["A", "B", "C"]), "line 2: 3 of 3 choices are right"),
        ),
    ),
    "word-pairs": Shape(
        "plural.json",
        [{"input": one, "output": f"{one}s"} for one in ("cat", "dog", "hen", "cow")],
        ("cat", ("cats",), ("dogs",), ""),
        (
            (put(1, "output", ""), "object 2: 'output' is empty"),
            (put(1, "note", "x"), "object 2: unknown field 'note'"),
            (drop(3, "output"), "object 4: no field 'output'"),
            (lambda rows: [{**row, "output": "same"} for row in rows], "pairs with different outputs"),
        ),
    ),
    "axbench": Shape(
        "train.jsonl",
        [
            answer("Describe a walk.", "Waves rolled in.", "positive"),
            answer("Describe a walk.", "The lane was dry.", "negative"),
            answer("Describe a meal.", "Salt and kelp.", "positive"),
            answer("Describe a meal.", "Bread and jam.", "negative"),
        ],
        ("Describe a walk.", ("Waves rolled in.",), ("The lane was dry.",), "words about the sea"),
        (
            (put(1, "category", "neutral"), "line 2: the category 'neutral'"),
            (put(2, "concept_id", 4), r"rows of one concept; received 'train.jsonl' with 2"),
            (put(1, "output", "Waves rolled in."), "line 1: the answer 'Waves rolled in.' is on both sides"),
            (drop(0, "output"), "line 1: no field 'output'"),
        ),
    ),
}
