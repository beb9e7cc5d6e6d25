"""The mean of what people would say of all answers, from what a judge says of all and people say of a few.

The judge's mean over all questions is moved by how far people and judge are apart where both have read. That has no bias whatever
the judge is like: a poor one only widens the interval. How far the judge is trusted is a weight, by which its scores are
multiplied: 1, or the one with the least variance, which follows from the labelled questions and needs many of them
(studies/powered.md).

The labelled questions are a random sample of all, drawn by group, so the variance is that of two-phase sampling: all questions
are a sample of those that could have been asked, and those that were labelled are a sample of these.

Source: Angelopoulos et al. 2023, arXiv 2301.09633 (the estimate), and 2023, arXiv 2311.01453 (the weight); Cochran 1977, Sampling
Techniques, chapter 12 (two phases).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from locus.errors import UserError
from locus.stats.estimate import LEAST_P, NAN, Array, Estimate, check_level, vector

Index = NDArray[np.intp]
LEAST = 20  # labelled groups of questions under which nothing is said: with fewer, labels of 0 and 1 may all be alike


@dataclass(frozen=True)
class PoweredMean:
    """A prediction-powered mean with its standard error.

    Attributes:
        value: in the units of the labels; NaN if undefined.
        error: its standard error, same units.
        freedom: degrees of freedom of the t.
        n: groups of questions that the judge scored.
        n_labelled: of these, labelled ones.
        weight: of the judge's scores; 0 is the labels alone, 1 the original estimate.
        reason: why there is no standard error; "" otherwise.
    """

    value: float
    error: float
    freedom: float
    n: int
    n_labelled: int
    weight: float
    reason: str = ""

    def interval(self, level: float) -> Estimate:
        """The two-sided interval of a level."""
        check_level(level)
        method = f"prediction-powered t, weight {self.weight:.3g}, {self.n_labelled} labelled"
        if self.reason:
            return Estimate(self.value, NAN, NAN, self.n, level, method, reason=self.reason)
        half = float(special.stdtrit(self.freedom, (1.0 + level) / 2.0)) * self.error
        return Estimate(self.value, self.value - half, self.value + half, self.n, level, method)

    def p_above(self, bound: float) -> float:
        """One-sided p that the mean lies above a bound; NaN if undefined."""
        if self.reason:
            return NAN
        return max(float(special.stdtr(self.freedom, (bound - self.value) / self.error)), LEAST_P)

    def p_below(self, bound: float) -> float:
        """One-sided p that the mean lies below a bound; NaN if undefined."""
        if self.reason:
            return NAN
        return max(float(special.stdtr(self.freedom, (self.value - bound) / self.error)), LEAST_P)


def powered_mean(
    judged: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    read: ArrayLike | None = None,
    error: float | None = None,
    clusters: ArrayLike | None = None,
    weight: float | None = 1.0,
) -> PoweredMean:
    """Prediction-powered mean of per-question values, differences between edits among them.

    Args:
        judged: [n_questions] what the judge says, NaN where unscored.
        labels: [n_questions] the same by people, NaN where nobody labelled; a group is labelled whole or counts as unlabelled.
        groups: [n_questions] group ids, averaged first; None if each question stands for itself.
        read: [n_questions] what the judge says of the very answers that were labelled, where `judged` is a mean over more of them
            (over random Locations, of which one was labelled); `judged` by default.
        error: standard error of the judge's mean, where questions are not all that it varies over; by default theirs.
        clusters: [n_questions] what labelled answers share besides (a random Location); differences of those that share one vary
            together.
        weight: of the judge; None for the one with the least variance, never below 0, which wants 80 labelled questions or more.

    Returns:
        The mean; NaN with a reason under 20 labelled groups, or where labels say nothing of how far the judge errs.

    Raises:
        UserError: if an argument cannot be used.
    """
    every, given = vector(judged, "judged"), vector(labels, "labels")
    of_read = every if read is None else vector(read, "read")
    if not every.shape == given.shape == of_read.shape:
        remedy = "Give one label, or NaN, for each question, in the same order."
        raise UserError(f"labels of shape {every.shape}", f"shapes {given.shape} and {of_read.shape}", remedy)
    index = np.arange(len(every)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    all_, own, people = (_means(values, index) for values in (every, of_read, given))
    people[np.bincount(index, weights=np.isnan(given)) > 0] = NAN
    scored = all_[np.isfinite(all_)]
    if len(scored):  # a question that the judge leaves out is taken as average: the labels make good for any guess
        own, all_ = (np.where(np.isnan(values), scored.mean(), values) for values in (own, all_))
    labelled = np.isfinite(people) & np.isfinite(own)
    n, count = len(scored), int(labelled.sum())
    if count < LEAST or n < count:
        why = f"{count} labelled questions; at least {LEAST} are needed"
        return PoweredMean(NAN, NAN, NAN, n, count, NAN, why)
    own, people, around = own[labelled], people[labelled], all_[labelled]
    lam = _least_variance(own, people) if weight is None else weight
    gap = people - lam * own
    value = lam * float(scored.mean()) + float(gap.mean())
    together = np.arange(count) if clusters is None else _first_of(clusters, index, labelled)
    of_judge = float(scored.var(ddof=1)) / n if error is None else error**2
    shared = float(np.cov(around, gap)[0, 1])
    apart, freedom = _variance(gap, together)
    least = apart * (1.0 - count / n)
    total = max(lam**2 * of_judge + apart + 2.0 * lam * shared / n, least)
    if not math.sqrt(apart) > 1e-12 * max(1.0, abs(value)):
        return PoweredMean(value, NAN, NAN, n, count, lam, "the labels show no spread, so nothing of the judge's errors")
    freedom -= weight is None
    first, second = lam**2 * of_judge, apart
    return PoweredMean(value, math.sqrt(total), (first + second) ** 2 / (first**2 / (n - 1) + second**2 / freedom), n, count, lam)


def _means(values: Array, index: Index) -> Array:
    """[groups] means of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        means: Array = np.bincount(index, weights=np.where(known, values, 0.0)) / np.bincount(index, weights=known)
    return means


def _first_of(clusters: ArrayLike, index: Index, labelled: NDArray[np.bool_]) -> Index:
    """The cluster of each labelled group: that of its first question."""
    _, first = np.unique(index, return_index=True)
    return np.unique(np.asarray(clusters)[first][labelled], return_inverse=True)[1]


def _least_variance(own: Array, people: Array) -> float:
    """The judge's weight: the slope of labels on its scores; above 1 for a judge that is unsure, which says less than it sees."""
    spread = float(own.var(ddof=1))
    return max(float(np.cov(own, people)[0, 1]) / spread, 0.0) if spread > 0.0 else 0.0


def _variance(gap: Array, together: Index) -> tuple[float, float]:
    """Variance of the mean of [labelled] differences, those of one cluster varying together, and its degrees of freedom."""
    number = int(together.max()) + 1
    if number == len(gap):
        return float(gap.var(ddof=1)) / len(gap), len(gap) - 1.0
    sums = np.bincount(together, weights=gap - gap.mean())
    return float((sums**2).sum()) / len(gap) ** 2 * number / (number - 1), number - 1.0
