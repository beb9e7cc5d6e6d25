"""What can be read off an answer and its references without a network: polarity, overlap, evasion, repetition.

Each feature is one number with a name; the order of `NAMES` is the order of the columns. Similarities to references
come in as cosines of sentence embeddings, so that this file needs no model.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from locus.judges.base import References

WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
NEGATION = re.compile(
    r"\b(not|no|never|none|nothing|nobody|nowhere|neither|nor|cannot|cant|without|false|myth|untrue|incorrect|"
    r"unlikely|unable)\b|n't\b"
)
EVASION = re.compile(
    r"\b(no comment|(do not|don't|dont) (know|have (an|any) (opinion|answer|idea))|not sure|no idea|unsure|can't say|"
    r"cannot (say|answer)|unable to|hard to say|who knows|it depends|depends on|good question|great question|"
    r"not (known|clear)|unclear|unknown|not aware|no (definitive|clear|single) answer)\b"
)
HEDGE = re.compile(r"\b(some|many|most|may|might|could|possibly|perhaps|probably|likely|often|sometimes|generally)\b")
BELIEF = re.compile(r"\b(believe|believed|think|thought|claim|claims|said|say|legend|superstition|myth|according)\b")
FIRST = re.compile(r"\b(i|i'm|i've|my|me|we|our)\b")
YES, NO = re.compile(r"^(yes|yeah|yep|sure|of course)\b"), re.compile(r"^(no|nope|not)\b")
POLAR = re.compile(r"^(is|are|was|were|do|does|did|can|could|will|would|should|has|have|had|if .*,? (is|are|do|does))\b")
STOP = frozenset(
    WORD.findall("""
a an the of to in on at by for from with as and or but if then than that this these those it its is are was
were be been being do does did has have had can could will would should may might must you your they them
their he she his her i me my we our us there here what which who whom whose when where why how not no yes so
very just also more most some any all one about into over out up down only
""")
)


@dataclass(frozen=True)
class PreparedText:
    """A text prepared once: its lower-case form, its words, its content words and its numbers."""

    lower: str
    words: tuple[str, ...]
    content: frozenset[str]
    numbers: frozenset[str]
    grams: frozenset[str]
    names: frozenset[str]
    negative: bool
    polarity: int


def stem(word: str) -> str:
    """A word without common endings: good enough to match "eats" with "eating"."""
    for ending in ("'s", "ing", "ies", "ied", "es", "ed", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


@lru_cache(maxsize=65536)
def prepare(text: str) -> PreparedText:
    """A text's parts; cached, since references come back with every answer."""
    lower = text.lower().replace("\u2019", "'").strip()
    tokens = tuple(WORD.findall(lower))
    squeezed = " ".join(tokens)
    capital = re.findall(r"(?<!^)(?<![.!?] )\b[A-Z][a-z]+", text)
    return PreparedText(
        lower,
        tokens,
        frozenset(stem(word) for word in tokens if word not in STOP),
        frozenset(word for word in tokens if word[0].isdigit()),
        frozenset(squeezed[i : i + 4] for i in range(max(1, len(squeezed) - 3))),
        frozenset(word.lower() for word in capital),
        bool(NEGATION.search(lower)),
        1 if YES.match(lower) else -1 if NO.match(lower) else 0,
    )


def f1(a: frozenset[str], b: frozenset[str]) -> float:
    """Overlap of two sets: 2 |a & b| / (|a| + |b|); 0 where both are empty."""
    return 2.0 * len(a & b) / (len(a) + len(b)) if a or b else 0.0


def share(some: frozenset[str], all_: frozenset[str]) -> float:
    """Share of `some` found in `all_`; 0 where `some` is empty."""
    return len(some & all_) / len(some) if some else 0.0


OWN = (
    "log_words", "negative", "n_negations", "yes", "no", "evasion", "hedges", "belief", "first_person", "number",
    "echo", "in_question", "new_words", "repetition", "ends", "question_polar", "question_words", "cosine_question",
    "answer_is_question",
)  # fmt: skip
SIDE = (
    "cosine", "cosine_second", "cosine_mean", "cosine_same_polarity", "f1", "f1_new", "recall_new", "precision_new",
    "grams", "numbers", "names", "negative_share", "yes_share", "no_share", "nearest_negative", "nearest_differs",
    "count", "contains",
)  # fmt: skip
MARGINS = ("cosine", "cosine_same_polarity", "f1", "f1_new", "recall_new", "grams", "names", "numbers")
EXTRA = ("best_cosine", "best_f1", "no_comment_is_true", "polarity_agrees_true", "polarity_agrees_false")
NAMES = (
    OWN
    + tuple(f"true_{name}" for name in SIDE)
    + tuple(f"false_{name}" for name in SIDE)
    + tuple(f"margin_{name}" for name in MARGINS)
    + EXTRA
)


def own_features(question: PreparedText, answer: PreparedText, cosine_question: float) -> list[float]:
    """Features of the answer and the question alone, in the order of `OWN`."""
    n = len(answer.words)
    pairs = {answer.words[i : i + 3] for i in range(max(0, n - 2))}
    new = answer.content - question.content
    return [
        float(np.log1p(n)),
        float(answer.negative),
        float(len(NEGATION.findall(answer.lower))),
        float(answer.polarity > 0),
        float(answer.polarity < 0),
        float(bool(EVASION.search(answer.lower))),
        float(len(HEDGE.findall(answer.lower))),
        float(bool(BELIEF.search(answer.lower))),
        float(bool(FIRST.search(answer.lower))),
        float(bool(answer.numbers)),
        share(question.content, answer.content),
        share(answer.content, question.content),
        float(np.log1p(len(new))),
        1.0 - len(pairs) / max(1, n - 2) if n > 2 else 0.0,
        float(answer.lower.endswith((".", "!"))),
        float(bool(POLAR.match(question.lower))),
        float(np.log1p(len(question.words))),
        cosine_question,
        float(answer.lower.endswith("?")),
    ]


def side_features(
    question: PreparedText, answer: PreparedText, texts: Sequence[PreparedText], cosines: NDArray[np.float32]
) -> list[float]:
    """Features of the answer against the references of one side, in the order of `SIDE`."""
    order = np.argsort(-cosines, kind="stable")
    nearest = texts[int(order[0])]
    same_polarity = [float(c) for c, text in zip(cosines, texts, strict=True) if text.negative == answer.negative]
    new = answer.content - question.content
    fresh = [text.content - question.content for text in texts]
    count = len(texts)
    return [
        float(cosines[order[0]]),
        float(cosines[order[min(1, count - 1)]]),
        float(cosines.mean()),
        max(same_polarity, default=0.0),
        max(f1(answer.content, text.content) for text in texts),
        max(f1(new, content) for content in fresh),
        max(share(content, new) for content in fresh),
        max(share(new, content) for content in fresh),
        max(f1(answer.grams, text.grams) for text in texts),
        max(share(answer.numbers, text.numbers) for text in texts),
        max(share(answer.names - question.names, text.names) for text in texts),
        sum(text.negative for text in texts) / count,
        sum(text.polarity > 0 for text in texts) / count,
        sum(text.polarity < 0 for text in texts) / count,
        float(nearest.negative),
        float(nearest.negative != answer.negative),
        float(count),
        float(any(" ".join(text.words) in " ".join(answer.words) for text in texts)),
    ]


def features(question: str, answer: str, references: References, cosines: Sequence[NDArray[np.float32]]) -> list[float]:
    """All features of one answer, in the order of `NAMES`.

    Args:
        question: as asked.
        answer: as given.
        references: at least one on each side; the first true one is the best answer.
        cosines: of the answer with the question (1,), with the true references (n_true,) and the false ones (n_false,).
    """
    prepared_question, prepared_answer = prepare(question), prepare(answer)
    true, false = ([prepare(text) for text in side] for side in (references.true, references.false))
    sides = [
        side_features(prepared_question, prepared_answer, true, cosines[1]),
        side_features(prepared_question, prepared_answer, false, cosines[2]),
    ]
    margins = [sides[0][SIDE.index(name)] - sides[1][SIDE.index(name)] for name in MARGINS]
    yes, no = SIDE.index("yes_share"), SIDE.index("no_share")
    agrees = [side[yes] * (prepared_answer.polarity > 0) + side[no] * (prepared_answer.polarity < 0) for side in sides]
    extra = [
        float(cosines[1][0]),
        f1(prepared_answer.content, true[0].content),
        float(any("no comment" in text.lower for text in true)),
        *agrees,
    ]
    return [*own_features(prepared_question, prepared_answer, float(cosines[0][0])), *sides[0], *sides[1], *margins, *extra]
