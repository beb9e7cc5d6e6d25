"""All that a judge of truth may learn from, by fold; and a list of it, so that nobody calls a seen question unseen.

    labelled answers, references of two versions, made-up answers
      -> groups     near copies of a question are one, across versions
      -> fold       of each group: 0 to 4; or -1, the questions to which nobody labelled an answer, which nothing is learned from
      -> list       hashes of the words of every question that was learned from, from which no question can be read

The list goes into a judge's weights. `judge eval` asks it: a question is seen where nearly all its words are those of one on it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from locus.behaviours.items import normalise
from locus.errors import UserError
from locus.judges import examples, synthetic
from locus.judges.base import References
from locus.judges.examples import Example

FOLDS = 5
OUTSIDE = -1  # the fold of questions that are in none
ALIKE = 0.6  # share of common words from which on two questions are near copies


@dataclass(frozen=True)
class Corpus:
    """What is learned from and measured on.

    Attributes:
        rows: labelled answers, references (each judged without itself) and made-up answers; `kind` says which.
        fold: of every question; `OUTSIDE` for those of which nothing is in `rows`.
        references: of every question.
    """

    rows: tuple[Example, ...]
    fold: dict[str, int]
    references: dict[str, References]


def gather(labels: Path, references: Path, revised: Path | None = None, seed: int = 0) -> Corpus:
    """Everything there is, dealt into folds by groups of near copies.

    Args:
        labels: CSV of labelled answers.
        references: TruthfulQA's CSV, in the version that was labelled.
        revised: a later version of it, whose questions' near copies stay with theirs.
        seed: of folds and made-up answers.

    Raises:
        UserError: if a file is missing or unfit, or too few questions are labelled.
    """
    refs, category = examples.read_references(references)
    later = examples.read_references(revised)[0] if revised is not None else {}
    labelled = examples.read_examples(labels, refs, category)
    fold = folds({**later, **refs}, {row.question for row in labelled}, seed)
    rng = np.random.default_rng([seed, 1])
    names = synthetic.names_in({question: one for question, one in refs.items() if fold[question] != OUTSIDE})
    rows = [row for row in labelled if fold[row.question] != OUTSIDE]
    said = {(row.question, normalise(row.answer)) for row in rows}
    for question, one in refs.items():
        if fold[question] != OUTSIDE:
            rows += [
                row for row in _references(question, one, category[question]) if (question, normalise(row.answer)) not in said
            ]
            rows += synthetic.made_up(question, one, names, category[question], rng)
    return Corpus(tuple(rows), fold, {**later, **refs})


def folds(references: dict[str, References], labelled: set[str], seed: int) -> dict[str, int]:
    """The fold of each question: near copies share one, and groups without a labelled answer are outside.

    Args:
        references: of all questions.
        labelled: those with labelled answers.
        seed: of the dealing.

    Raises:
        UserError: if there are fewer labelled groups than folds.
    """
    group = examples.group_questions(references)
    inside = sorted({group[question] for question in labelled if question in group})
    if len(inside) < FOLDS:
        raise UserError(f"labelled answers to at least {FOLDS} groups of questions", str(len(inside)), "Give more labels.")
    order = np.random.default_rng([seed, 0]).permutation(len(inside))
    of_group = {name: int(rank) % FOLDS for name, rank in zip(inside, order, strict=True)}
    return {question: of_group.get(name, OUTSIDE) for question, name in group.items()}


def _references(question: str, references: References, category: str) -> Iterable[Example]:
    """References of a question as answers to it."""
    for truth, texts in ((1.0, references.true), (0.0, references.false)):
        for text in texts:
            info = float(normalise(text) != normalise(examples.NO_COMMENT))
            yield Example(question, text, truth, info, examples.without(references, text), "reference", category)


def word_hashes(question: str) -> list[int]:
    """What the list keeps of a question: 24 bits for each of its words, from which it cannot be read."""
    words = sorted(set(examples.words(question)))
    return sorted(int.from_bytes(hashlib.sha256(f"locus {word}".encode()).digest()[:3], "big") for word in words)


def listed(questions: Iterable[str]) -> list[list[int]]:
    """The list of questions that a judge learned from, was chosen by or calibrated on, as its weights have it."""
    return sorted(word_hashes(question) for question in set(questions))


def seen(questions: Sequence[str], known: Sequence[Sequence[int]]) -> list[bool]:
    """Whether each question, or a near copy of it, is on a list.

    Args:
        questions: as asked.
        known: the list.
    """
    rows = [frozenset(row) for row in known]
    return [_near(frozenset(word_hashes(question)), rows) for question in questions]


def _near(words: frozenset[int], known: Sequence[frozenset[int]]) -> bool:
    return any(len(words & other) >= ALIKE * len(words | other) for other in known)
