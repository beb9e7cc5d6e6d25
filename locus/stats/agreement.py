"""How far a judge agrees with people, and whether its confidence means what it says."""

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from locus.errors import UserError
from locus.stats.estimate import NAN, Estimate, check_choice, check_level, check_margin, plain, vector

BINNINGS = ("equal-mass", "equal-width")


def cohen_kappa(first: ArrayLike, second: ArrayLike, level: float = 0.95) -> Estimate:
    """Cohen's kappa of two raters, with its large-sample interval.

    Args:
        first: [n] labels of any kind that sorts.
        second: [n] labels of the same answers.
        level: of the interval.

    Returns:
        Kappa; NaN with a reason if nothing was rated, or if both raters gave one and the same label throughout.

    Raises:
        UserError: if shapes differ or the level cannot be used.

    Source: Cohen 1960; variance: Fleiss, Cohen & Everitt 1969.
    """
    check_level(level)
    a, b = np.asarray(first), np.asarray(second)
    if a.ndim != 1 or a.shape != b.shape:
        remedy = "Let both raters label the same answers, in the same order."
        raise UserError("two lists of labels of one length", f"shapes {a.shape} and {b.shape}", remedy)
    n, method = len(a), "Cohen's kappa, large-sample"
    if n == 0:
        return Estimate(NAN, NAN, NAN, 0, level, method, reason="no answer was rated")
    labels, index = np.unique(np.concatenate([a, b]), return_inverse=True)
    table = np.zeros((len(labels), len(labels)))
    np.add.at(table, (index[:n], index[n:]), 1.0 / n)
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    agreed, by_chance = float(np.trace(table)), float(rows @ columns)
    if len(labels) == 1:
        reason = "both raters gave the same label to every answer, so chance agreement is complete"
        return Estimate(NAN, NAN, NAN, n, level, method, reason=reason)
    kappa = (agreed - by_chance) / (1.0 - by_chance)
    diagonal = np.diag(table)
    on = float(np.sum(diagonal * (1.0 - (rows + columns) * (1.0 - kappa)) ** 2))
    sums = (columns[:, None] + rows[None, :]) ** 2
    off = (1.0 - kappa) ** 2 * float(np.sum(table * sums) - np.sum(diagonal * np.diag(sums)))
    shared_term = (kappa - by_chance * (1.0 - kappa)) ** 2
    variance = max(0.0, on + off - shared_term) / (1.0 - by_chance) ** 2 / n
    half = float(special.ndtri((1.0 + level) / 2.0)) * math.sqrt(variance)
    reason = "the raters never disagreed, so the interval has no width" if agreed == 1.0 else ""
    return Estimate(kappa, kappa - half, kappa + half, n, level, method, reason=reason)


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error, with the bins it was computed from.

    Attributes:
        error: weighted mean of |accuracy - confidence| over bins; NaN if undefined.
        brier: mean squared difference of confidence and outcome.
        confidence: mean confidence of each bin that is not empty; likewise `accuracy` and `count`.
        n: number of answers.
        binning: "equal-mass" or "equal-width".
        reason: why the error is NaN; "" otherwise.
    """

    error: float
    brier: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]
    n: int
    binning: str
    reason: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return plain(asdict(self))


def calibration_error(confidence: ArrayLike, outcome: ArrayLike, n_bins: int = 10, binning: str = "equal-mass") -> Calibration:
    """Expected calibration error of probabilities against 0 / 1 outcomes.

    The error is biased upwards in small samples (a calibrated judge does not get 0), so compare it only between judges
    with the same n and bins.

    Args:
        confidence: [n] predicted probability that the outcome is 1, NaN where unscored.
        outcome: [n] 0 or 1, NaN where unknown.
        n_bins: number of bins; equal-mass never makes more bins than there are answers.
        binning: "equal-mass" (same number of answers in each) or "equal-width" (same range; 1.0 is in the last).

    Raises:
        UserError: if shapes differ, probabilities lie outside [0, 1], or outcomes are not binary.

    Source: Naeini, Cooper & Hauskrecht 2015; equal mass: Nixon et al. 2019.
    """
    check_choice(binning, BINNINGS, "binning")
    check_margin(n_bins, "n_bins", 1)
    predicted, observed = vector(confidence, "confidence"), vector(outcome, "outcome")
    if predicted.shape != observed.shape:
        raise UserError(f"outcome of shape {predicted.shape}", f"shape {observed.shape}", "Give one outcome per confidence.")
    scored = ~(np.isnan(predicted) | np.isnan(observed))
    predicted, observed = predicted[scored], observed[scored]
    if ((predicted < 0.0) | (predicted > 1.0)).any() or not np.isin(observed, (0.0, 1.0)).all():
        remedy = "Turn scores into probabilities, and outcomes into 0 or 1."
        raise UserError("confidences in [0, 1] and outcomes of 0 or 1", "other values", remedy)
    n = len(predicted)
    if n == 0:
        return Calibration(NAN, NAN, (), (), (), 0, binning, "no answer was scored")
    # Sorting by outcome as well makes bins of tied confidences independent of the order of answers.
    order = np.lexsort((observed, predicted))
    predicted, observed = predicted[order], observed[order]
    if binning == "equal-mass":
        index = np.repeat(
            np.arange(min(n_bins, n)), [len(bin_members) for bin_members in np.array_split(predicted, min(n_bins, n))]
        )
    else:
        index = np.minimum((predicted * n_bins).astype(np.int64), n_bins - 1)
    count = np.bincount(index)
    full = count > 0
    mean_predicted = np.bincount(index, weights=predicted)[full] / count[full]
    mean_observed = np.bincount(index, weights=observed)[full] / count[full]
    error = float(np.sum(count[full] * np.abs(mean_observed - mean_predicted)) / n)
    brier = float(np.mean((predicted - observed) ** 2))
    return Calibration(
        error, brier, tuple(mean_predicted.tolist()), tuple(mean_observed.tolist()), tuple(count[full].tolist()), n, binning
    )
