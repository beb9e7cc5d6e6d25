"""The mean over random Locations and questions, both sampled, by a t with the degrees of freedom that both leave.

The design is crossed: every Location is scored on the same questions. The variance of the grand mean is then the sum of
what Locations, questions and single scores bring, and s_rows^2 / L + s_columns^2 / Q counts the last twice: it is never too
small on average, and needs no resampling, so an interval and both one-sided p-values agree exactly.
Source: Owen 2007, The pigeonhole bootstrap (the same sum of two margins, there by resampling); degrees of freedom:
Satterthwaite 1946.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from locus.stats.estimate import LEAST_P, NAN, Estimate, check_level
from locus.stats.hierarchical import cube


@dataclass(frozen=True)
class CrossedMean:
    """A mean over Locations and questions with its standard error.

    Attributes:
        value: in the units of the scores; NaN if undefined.
        error: its standard error, same units.
        freedom: degrees of freedom of the t.
        n: questions (groups) scored.
        n_locations: Locations scored.
        reason: why there is no standard error; "" otherwise.
    """

    value: float
    error: float
    freedom: float
    n: int
    n_locations: int
    reason: str = ""

    def interval(self, level: float) -> Estimate:
        """The two-sided interval of a level."""
        check_level(level)
        method = f"crossed t over {self.n_locations} location(s)"
        if self.reason:
            return Estimate(self.value, NAN, NAN, self.n, level, method, reason=self.reason)
        half = float(special.stdtrit(self.freedom, (1.0 + level) / 2.0)) * self.error if self.error else 0.0
        return Estimate(self.value, self.value - half, self.value + half, self.n, level, method)

    def p_above(self, bound: float) -> float:
        """One-sided p that the mean lies above a bound; NaN if undefined."""
        if self.reason:
            return NAN
        if self.error == 0.0:  # all on one side: the sign-flip p of that
            return max(0.5 ** min(self.n, self.n_locations), LEAST_P) if self.value > bound else 1.0
        return max(float(special.stdtr(self.freedom, (bound - self.value) / self.error)), LEAST_P)

    def p_below(self, bound: float) -> float:
        """One-sided p that the mean lies below a bound; NaN if undefined."""
        mirrored = CrossedMean(-self.value, self.error, self.freedom, self.n, self.n_locations, self.reason)
        return mirrored.p_above(-bound)


def crossed_mean(scores: ArrayLike, groups: ArrayLike | None = None) -> CrossedMean:
    """Mean over random Locations and questions; seeds of a Location are averaged first.

    Args:
        scores: [n_locations, n_seeds, n_questions], NaN where unscored.
        groups: [n_questions] group ids or None.

    Raises:
        UserError: if the shapes do not fit or an entry is infinite.
    """
    array = cube(scores, groups)
    scored = ~np.isnan(array)
    rows, columns = scored.any(axis=(1, 2)), scored.any(axis=(0, 1))
    n_locations, n = int(rows.sum()), int(columns.sum())
    if n == 0:
        return CrossedMean(NAN, NAN, NAN, 0, 0, "nothing was scored")
    by_location = np.nanmean(array[rows].reshape(n_locations, -1), axis=1)
    by_question = np.nanmean(array[:, :, columns], axis=(0, 1))
    value = float(np.nanmean(array))
    if n_locations < 2 or n < 2:
        return CrossedMean(value, NAN, NAN, n, n_locations, "fewer than 2 locations or 2 questions")
    locations, questions = float(by_location.var(ddof=1)) / n_locations, float(by_question.var(ddof=1)) / n
    total = locations + questions
    if math.sqrt(total) <= 1e-12 * max(1.0, abs(value)):
        return CrossedMean(value, 0.0, min(n_locations, n) - 1.0, n, n_locations)
    freedom = total**2 / (locations**2 / (n_locations - 1) + questions**2 / (n - 1))
    return CrossedMean(value, math.sqrt(total), freedom, n, n_locations)
