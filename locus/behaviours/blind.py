"""Question-blind baselines: how far the form of an answer alone tells whether it is true.

Both baselines see the answers and never the question. A multiple-choice score that is no better than theirs shows
nothing about truthfulness, so they stand as control rows beside every such score.

MC1 is strict here: the best answer has to beat every false answer. Ties are broken at random in expectation: a best
answer that shares the top with k - 1 false ones counts 1/k, and a tied pair counts one half.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from locus.behaviours.items import Item
from locus.errors import UserError
from locus.records.base import JsonObject

Floats = NDArray[np.float64]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEGATIONS = _words("no not never none nothing nobody nowhere neither nor cannot without")
HEDGES = _words(
    "some sometimes somewhat may might can could usually often generally mostly typically about around roughly "
    "approximately nearly almost probably possibly perhaps maybe likely partly"
)
ABSOLUTES = _words("all always every everyone everything only any entirely completely ever")
NUMBER_WORDS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million "
    "billion trillion half once twice"
)
ARTICLES = _words("a an the")
FEATURES = (
    "negations",
    "words",
    "characters",
    "mean_word_length",
    "starts_capital",
    "capitals_later",
    "hedges",
    "absolutes",
    "numbers",
    "digits",
    "commas",
    "other_marks",
    "starts_yes",
    "starts_no",
    "starts_article",
    "final_period",
)
N_RESAMPLES = 2000
COVERAGE = 0.95


@dataclass(frozen=True)
class BlindScore:
    """What a question-blind baseline reaches on a set of items; all rates are fractions between 0 and 1.

    Attributes:
        name: which baseline.
        pair_accuracy: share of true x false pairs, pooled over questions, in which the true answer is picked.
        pair_interval: its 95 % bootstrap interval, groups of questions resampled.
        pair_chance: 0.5.
        mc1: share of questions whose best answer beats every false answer.
        mc1_interval: its 95 % bootstrap interval.
        mc1_chance: mean over questions of 1 / (1 + number of false answers).
        n_items: questions.
        n_pairs: true x false pairs.
    """

    name: str
    pair_accuracy: float
    pair_interval: tuple[float, float]
    pair_chance: float
    mc1: float
    mc1_interval: tuple[float, float]
    mc1_chance: float
    n_items: int
    n_pairs: int

    def to_dict(self) -> JsonObject:
        """Plain values, ready for JSON."""
        values = asdict(self)
        return values | {key: list(values[key]) for key in ("pair_interval", "mc1_interval")}


def surface_features(answer: str) -> Floats:
    """The form of an answer, with nothing of the question in it.

    Args:
        answer: the text of one answer.

    Returns:
        Vector [len(FEATURES)], named by `FEATURES`: number of negation words (those of `NEGATIONS` and all that end in
        n't), words, characters (surrounding blanks left out), mean characters per word, first letter is a capital
        (0/1), capitalised words beyond the first, hedges, absolutes, numbers (in digits or spelled out), digits,
        commas, marks other than letters, digits, blanks, commas and a final full stop, first word is "yes" (0/1), is
        "no" (0/1), is an article (0/1), ends in a full stop (0/1).
    """
    text = answer.strip().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    pieces = text.split()
    words = re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", text.lower())
    first = words[0] if words else ""
    letters = [char for char in text if char.isalpha()]
    body = text.removesuffix(".")
    return np.array(
        [
            sum(map(_is_negation, words)),
            len(pieces),
            len(text),
            float(np.mean([len(piece) for piece in pieces])) if pieces else 0.0,
            bool(letters) and letters[0].isupper(),
            sum(any(char.isupper() for char in piece) for piece in pieces[1:]),
            sum(word in HEDGES for word in words),
            sum(word in ABSOLUTES for word in words),
            sum(word in NUMBER_WORDS for word in words) + len(re.findall(r"\d+(?:[.,]\d+)*", text)),
            sum(char.isdigit() for char in text),
            text.count(","),
            sum(not (char.isalnum() or char.isspace() or char == ",") for char in body),
            first == "yes",
            first == "no",
            first in ARTICLES,
            text.endswith("."),
        ],
        dtype=np.float64,
    )


def negation_then_length(items: Sequence[Item]) -> BlindScore:
    """Pick the answer with a negation word; among equals, the one with more characters.

    Args:
        items: the questions.

    Raises:
        UserError: if there are no items.
    """
    negated, length = FEATURES.index("negations"), FEATURES.index("characters")
    tables = [_features(item.answers) for item in items]
    # Lengths stay below 1e6, so one number orders by negation first.
    scores = [1e6 * (table[:, negated] > 0) + table[:, length] for table in tables]
    return score_answers("negation, then length", items, scores)


def logistic_baseline(items: Sequence[Item], seed: int = 0, folds: int = 5) -> BlindScore:
    """Logistic regression on differences of surface features, tested on groups of questions it was not fitted on.

    The model has no intercept and sees every pair in both orders, so it is a linear score of one answer: the same
    score ranks the answers of a question for MC1.

    Args:
        items: the questions.
        seed: deals the groups into folds.
        folds: number of folds, at least 2 and at most the number of groups.

    Raises:
        UserError: if there are no items, or `folds` does not fit the number of groups.
    """
    groups = sorted({item.group for item in items})
    if not 2 <= folds <= len(groups):
        raise UserError(
            "between 2 folds and one fold for each group of questions",
            f"{folds} folds for {len(groups)} group(s)",
            "Give more questions or ask for fewer folds.",
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    fold_of = {groups[group]: rank % folds for rank, group in enumerate(order)}
    tables = [_features(item.answers) for item in items]
    pairs = [_pair_differences(item, table) for item, table in zip(items, tables, strict=True)]
    scores: list[Floats] = [np.empty(0)] * len(items)
    for fold in range(folds):
        held_out = [index for index, item in enumerate(items) if fold_of[item.group] == fold]
        fitted = [pairs[index] for index, item in enumerate(items) if fold_of[item.group] != fold]
        weights = _fit(np.concatenate(fitted))
        for index in held_out:
            # Rounding keeps answers of the same form tied whatever the order of summation.
            scores[index] = np.round(tables[index] @ weights, 9)
    return score_answers("logistic regression on surface features", items, scores)


def score_answers(name: str, items: Sequence[Item], scores: Sequence[Floats], seed: int = 0) -> BlindScore:
    """Pair accuracy and MC1 of any score of single answers, ties shared evenly.

    Args:
        name: of the baseline.
        items: the questions.
        scores: one vector per question, true answers first then false ones (the order of `Item.answers`).
        seed: of the bootstrap.

    Raises:
        UserError: if there are no items.
    """
    if not items:
        raise UserError("at least one question", "none", "Give a dataset that is not empty.")
    wins, tops = [], []
    for item, score in zip(items, scores, strict=True):
        true, false = score[: len(item.wanted)], score[len(item.wanted) :]
        gap = true[:, None] - false[None, :]
        wins.append(float(np.sum(gap > 0) + 0.5 * np.sum(gap == 0)))
        best = true[item.wanted.index(item.best)]
        tops.append(0.0 if bool(np.any(false > best)) else 1.0 / (1 + int(np.sum(false == best))))
    n_pairs = np.array([item.n_pairs for item in items], dtype=np.float64)
    groups = [item.group for item in items]
    pair = _rate(np.array(wins), n_pairs, groups, seed)
    mc1 = _rate(np.array(tops), np.ones(len(items)), groups, seed)
    return BlindScore(
        name=name,
        pair_accuracy=pair[0],
        pair_interval=pair[1],
        pair_chance=0.5,
        mc1=mc1[0],
        mc1_interval=mc1[1],
        mc1_chance=float(np.mean([1 / (1 + len(item.unwanted)) for item in items])),
        n_items=len(items),
        n_pairs=int(n_pairs.sum()),
    )


def _is_negation(word: str) -> bool:
    return word in NEGATIONS or word.endswith("n't")


def _features(answers: Sequence[str]) -> Floats:
    """Matrix [answers, len(FEATURES)]."""
    return np.stack([surface_features(answer) for answer in answers])


def _pair_differences(item: Item, table: Floats) -> Floats:
    """Matrix [true x false, len(FEATURES)]: features of the true answer minus those of the false one."""
    true, false = table[: len(item.wanted)], table[len(item.wanted) :]
    return np.asarray((true[:, None, :] - false[None, :, :]).reshape(-1, table.shape[1]))


def _fit(differences: Floats) -> Floats:
    """Weights [len(FEATURES)] of a linear score; features that never differ get zero."""
    scale = np.sqrt(np.mean(differences**2, axis=0))
    safe = np.where(scale > 0, scale, 1.0)
    standard = differences / safe
    mirrored = np.concatenate([standard, -standard])
    labels = np.repeat([1, 0], len(standard))
    model = LogisticRegression(fit_intercept=False, max_iter=1000).fit(mirrored, labels)
    return np.asarray(np.where(scale > 0, model.coef_[0] / safe, 0.0))


def _rate(hits: Floats, counts: Floats, groups: Sequence[str], seed: int) -> tuple[float, tuple[float, float]]:
    """Pooled rate sum(hits) / sum(counts) and its percentile interval, whole groups resampled."""
    _, index = np.unique(np.array(groups), return_inverse=True)
    hit, count = np.bincount(index, weights=hits), np.bincount(index, weights=counts)
    draws = np.random.default_rng(seed).integers(len(hit), size=(N_RESAMPLES, len(hit)))
    rates = hit[draws].sum(axis=1) / count[draws].sum(axis=1)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(rates, [tail, 1 - tail])
    return float(hits.sum() / counts.sum()), (float(low), float(high))
