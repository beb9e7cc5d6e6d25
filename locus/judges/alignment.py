"""How well the tokens of an answer and of a reference cover one another.

Every token is matched with the most similar one of the other text. The mean over the answer's tokens is how much of
the answer the reference supports; the mean over the reference's tokens is how much of the reference the answer says.
Rare tokens count more, and tokens of the question count less: repeating the question supports nothing.

Source: Zhang et al. 2019, arXiv 1904.09675 (BERTScore); the weights are ours.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from locus.judges.encoder import Reading

SIDE = ("support", "covered", "both", "both_mean", "both_second")
NAMES = (
    *(f"true_align_{name}" for name in SIDE),
    *(f"false_align_{name}" for name in SIDE),
    "margin_align_support",
    "margin_align_covered",
    "margin_align_both",
    "align_question",
)
QUESTION_WEIGHT = 0.25


@lru_cache(maxsize=65536)
def weights(ids: tuple[int, ...], question: tuple[int, ...]) -> NDArray[np.float32]:
    """Weight of each token, shape (n,): its rarity, less where the question has it.

    The vocabulary is ordered by frequency (its first thousand entries are unused, punctuation and letters), so the
    logarithm of a token's id stands for its rarity.
    """
    rarity = np.log(np.maximum(np.array(ids, dtype=np.float32), 1000.0) / 500.0)
    in_question = np.isin(ids, question)
    return np.where(in_question, QUESTION_WEIGHT * rarity, rarity).astype(np.float32)


def cover(
    answer: NDArray[np.float32],
    reference: NDArray[np.float32],
    answer_weight: NDArray[np.float32],
    reference_weight: NDArray[np.float32],
) -> tuple[float, float]:
    """Support of the answer by the reference, and share of the reference that is covered: weighted mean cosines.

    Args:
        answer: unit states, shape (n, 384).
        reference: unit states, shape (m, 384).
        answer_weight: shape (n,), positive.
        reference_weight: shape (m,), positive.
    """
    cosine = answer @ reference.T
    support = float(cosine.max(axis=1) @ answer_weight / answer_weight.sum())
    covered = float(cosine.max(axis=0) @ reference_weight / reference_weight.sum())
    return support, covered


def side_features(answer: Reading, question: Reading, side: Sequence[Reading]) -> list[float]:
    """Best support, best coverage, and the best, mean and second-best harmonic mean of both, in the order of `SIDE`."""
    own, own_weight = answer.states.astype(np.float32), weights(answer.ids, question.ids)
    pairs = [cover(own, text.states.astype(np.float32), own_weight, weights(text.ids, question.ids)) for text in side]
    harmonic = sorted((2 * p * r / (p + r) if p + r > 0 else 0.0 for p, r in pairs), reverse=True)
    return [
        max(p for p, _ in pairs),
        max(r for _, r in pairs),
        harmonic[0],
        sum(harmonic) / len(harmonic),
        harmonic[min(1, len(harmonic) - 1)],
    ]


def alignment_features(question: Reading, answer: Reading, true: Sequence[Reading], false: Sequence[Reading]) -> list[float]:
    """All features of one answer, in the order of `NAMES`.

    Args:
        question: as read by the base model.
        answer: likewise.
        true: the true references, at least one.
        false: the false references, at least one.
    """
    right, wrong = side_features(answer, question, true), side_features(answer, question, false)
    states = (answer.states.astype(np.float32), question.states.astype(np.float32))
    echo, _ = cover(*states, weights(answer.ids, question.ids), weights(question.ids, ()))
    return [*right, *wrong, *(right[index] - wrong[index] for index in range(3)), echo]
