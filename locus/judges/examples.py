"""What the local judge learns from and is measured on: labelled answers, with the references of their questions.

Labelled answers come as a CSV (question, answer, truthful, informative, and optionally is_reference_answer), references as
TruthfulQA's CSV. A question belongs to one part only, and so does everything said about it; questions that are near
copies of one another (the same words, or the same references) stay together.

Source: Lin et al. 2021, arXiv 2109.07958, whose fine-tuning files for truth and informativeness are the labels.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from locus.behaviours import lines
from locus.behaviours.items import normalise
from locus.boundary.spreadsheet import from_cell
from locus.errors import UserError
from locus.judges.base import References

NO_COMMENT = "I have no comment."
PARTS = ("train", "validation", "test")
HELD_OUT = "test"
LABEL_COLUMNS = ("truthful", "informative")
LABELS = {"yes": 1.0, "no": 0.0, "": math.nan}


@dataclass(frozen=True)
class Example:
    """One labelled answer.

    Attributes:
        question: as asked.
        answer: as given.
        truth: 1.0 true, 0.0 false; likewise `info`.
        references: of the question, without this very answer.
        kind: "model" (a language model said it), "reference", or the name of a made-up variant.
        category: of the question.
    """

    question: str
    answer: str
    truth: float
    info: float
    references: References
    kind: str
    category: str = ""


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Rows of a CSV with their numbers, as `lines.table`.

    Raises:
        UserError: if the file is missing or lacks a column, or naming the rows that are none.
    """
    content = lines.text(path, f"a CSV file with the columns {', '.join(columns)}")
    return lines.read_table(content, path.name, columns, "Check that it is the right file.")


def read_references(path: Path) -> tuple[dict[str, References], dict[str, str]]:
    """References and category of every question of TruthfulQA's CSV (the best answer first among the true ones).

    Raises:
        UserError: as `read_rows`, and naming rows without true or without false answers.
    """
    rows = read_rows(path, ("Question", "Category", "Best Answer", "Correct Answers", "Incorrect Answers"))
    references, category, wrong = {}, {}, []
    for number, row in rows:
        question = row["Question"].strip()
        true = distinct([row["Best Answer"], *row["Correct Answers"].split(";")])
        references[question] = References(true, distinct(row["Incorrect Answers"].split(";")))
        category[question] = row["Category"]
        if not references[question].true or not references[question].false:
            wrong.append(number)
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            f"true and false answers of every question in {path.name}",
            f"rows {', '.join(map(str, wrong[:5]))}{more} without",
            "Mend these rows.",
        )
    return references, category


def distinct(texts: Sequence[str]) -> tuple[str, ...]:
    """Stripped, non-empty texts in order, each once by `normalise`."""
    unique: dict[str, str] = {}
    for text in texts:
        if text.strip():
            unique.setdefault(normalise(text), text.strip())
    return tuple(unique.values())


def without(references: References, answer: str) -> References:
    """The references that are not this very answer; a side that would become empty keeps what it had."""
    key = normalise(answer)
    true = tuple(text for text in references.true if normalise(text) != key)
    false = tuple(text for text in references.false if normalise(text) != key)
    return References(true or references.true, false or references.false)


def read_examples(labels: Path, references: dict[str, References], category: dict[str, str]) -> list[Example]:
    """Labelled answers to questions that have references.

    An answer that is also a reference is judged without that reference, or the task would be to look it up.
    """
    examples = []
    for row, (truth, info) in labelled_rows(labels):
        question = row["question"].strip()
        if question in references and not math.isnan(truth):
            remaining = without(references[question], row["answer"])
            examples.append(Example(question, row["answer"].strip(), truth, info, remaining, kind_of(row), category[question]))
    return examples


def labelled_rows(path: Path) -> list[tuple[dict[str, str], tuple[float, float]]]:
    """Rows of a CSV of answers, each with its labels of truth and information: 1.0 yes, 0.0 no, NaN where both are left empty.

    Raises:
        UserError: if a column is missing, or naming the lines with other labels.
    """
    rows, wrong = [], []
    for number, row in read_rows(path, ("question", "answer", *LABEL_COLUMNS)):
        labels = [row[name].strip().lower() for name in LABEL_COLUMNS]
        if any(label not in LABELS for label in labels) or (labels[0] == "") != (labels[1] == ""):
            wrong.append(f"row {number}: truthful {row['truthful']!r}, informative {row['informative']!r}")
        else:
            texts = {name: from_cell(row[name] or "") for name in ("question", "answer")}
            rows.append((row | texts, (LABELS[labels[0]], LABELS[labels[1]])))
    if wrong:
        listed = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise UserError(f"labels yes or no (both, or neither) in {path.name}", listed, "Mend these rows.")
    return rows


def kind_of(row: dict[str, str]) -> str:
    """Whether a row is a reference or what a model said, which it is unless its file says otherwise."""
    return "reference" if row.get("is_reference_answer") == "1" else "model"


def words(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def group_questions(references: dict[str, References]) -> dict[str, str]:
    """A group for each question: near copies (word Jaccard >= 0.6, or three shared references that are >= 30% of
    one side's) share one, transitively."""
    names = list(references)
    bags = [set(words(name)) for name in names]
    texts = [
        {normalise(text) for text in (*refs.true, *refs.false) if len(words(text)) > 3} - {normalise(NO_COMMENT)}
        for refs in references.values()
    ]
    parent = list(range(len(names)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for i in range(len(names)):
        for j in range(i):
            alike = len(bags[i] & bags[j]) >= 0.6 * len(bags[i] | bags[j])
            shared = len(texts[i] & texts[j])
            if alike or (shared >= 3 and shared >= 0.3 * min(len(texts[i]), len(texts[j]))):
                parent[max(root(i), root(j))] = min(root(i), root(j))
    return {name: names[root(index)] for index, name in enumerate(names)}


def part_of(references: dict[str, References], seed: int, shares: tuple[float, float] = (0.6, 0.2)) -> dict[str, str]:
    """The part of each question: groups are shuffled with the seed and dealt whole."""
    group = group_questions(references)
    order = sorted(set(group.values()))
    np.random.default_rng(seed).shuffle(order)
    n_train, n_validation = round(shares[0] * len(order)), round(shares[1] * len(order))
    part_of_group = {
        name: PARTS[0] if rank < n_train else PARTS[1] if rank < n_train + n_validation else PARTS[2]
        for rank, name in enumerate(order)
    }
    return {question: part_of_group[name] for question, name in group.items()}


AUXILIARY = re.compile(r"\b(is|are|was|were|can|will|does|do|did|has|have|should|could|would)\b", re.IGNORECASE)
NEGATION = re.compile(r"\b(not|no|never|none|nothing|nobody|cannot|without|isn't|aren't|don't|doesn't|didn't)\b|n't\b")


def negated(text: str) -> str:
    """The statement with "not" after its first auxiliary; empty where that would not be its negation."""
    match = AUXILIARY.search(text)
    if match is None or NEGATION.search(text.lower()) or text.lower().startswith(("yes", "if", "when", "it depends")):
        return ""
    return f"{text[: match.end()]} not{text[match.end() :]}"


HEDGES = ("I think that {}", "I'm not sure, but {}", "Some say that {}", "Well, it's well known that {}", "Maybe. {}")
EVASIONS = (NO_COMMENT, "I don't know.", "I'm not sure.", "It depends.", "That's a great question!", "Who knows?")


def variants(question: str, references: References, category: str, rng: np.random.Generator) -> list[Example]:
    """Made-up answers whose labels follow from the references: what a model that games a judge would say.

    Negated references (true becomes false, and the other way round), hedged false ones, evasions, the question
    echoed, and two contradictory answers in one.
    """

    def example(kind: str, answer: str, truth: float, info: float, remaining: References) -> Example:
        return Example(question, answer, truth, info, remaining, kind, category)

    made_up = []
    usable = [text for text in references.true if normalise(text) != normalise(NO_COMMENT)] or list(references.true)
    true, false = (str(rng.choice(texts)) for texts in (usable, references.false))
    for text, truth in ((true, 0.0), (false, 1.0)):
        opposite = negated(text)
        if opposite:
            made_up.append(example("negated", opposite, truth, 1.0, references))
    lowered = false[0].lower() + false[1:]
    hedge = str(rng.choice(HEDGES)).format(lowered)
    draw = rng.random()
    if draw < 0.5:
        made_up.append(example("hedged", hedge, 0.0, 1.0, without(references, false) if draw < 0.25 else references))
    if draw > 0.6:
        made_up.append(example("evasion", str(rng.choice(EVASIONS)), 1.0, 0.0, references))
    if 0.3 < draw < 0.5:
        made_up.append(example("echo", question if draw < 0.4 else question.rstrip("?") + ".", 1.0, 0.0, references))
    if draw > 0.8:
        made_up.append(example("both", f"{false}. {true}.".replace("..", "."), 0.0, 1.0, references))
    return made_up


def training_examples(
    examples: Sequence[Example],
    references: dict[str, References],
    part: dict[str, str],
    category: dict[str, str],
    seed: int,
) -> list[Example]:
    """Everything that may be learned from: labelled answers, the references of questions nobody labelled, and made-up
    variants of both; nothing of a test question.

    A quarter of the references are shown with themselves among the references: a model may well say one verbatim.
    """
    rng = np.random.default_rng(seed)
    learned = [example for example in examples if part[example.question] != HELD_OUT]
    labelled = {example.question for example in examples}
    for question, refs in references.items():
        if part[question] == HELD_OUT:
            continue
        if question not in labelled:
            for truth, texts in ((1.0, refs.true), (0.0, refs.false)):
                for text in texts:
                    info = float(normalise(text) != normalise(NO_COMMENT))
                    remaining = without(refs, text)
                    learned.append(Example(question, text, truth, info, remaining, "reference", category[question]))
        learned += variants(question, refs, category[question], rng)
    for index, example in enumerate(learned):
        if example.kind == "reference":
            with_references = references[example.question] if rng.random() < 0.25 else example.references
            learned[index] = replace(example, references=with_references)
    return learned
