"""Rates and means measured by an imperfect judge, corrected with a labelled subset.

Two ways: inverting the judge's confusion matrix (Rogan-Gladen), and adding the judge's mean error on labelled answers
(prediction-powered inference). Neither trusts the judge; both get wider as it gets worse.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from locus.errors import UserError
from locus.stats.bootstrap import NO_UNIT, resampled_means
from locus.stats.estimate import DRAWS, NAN, Array, Estimate, check_choice, check_level, unit_values, vector

# As many questions in a bootstrap draw as there are, this often, to see how much answers to one question are alike.
CLUSTER_DRAWS = 1000
RATE_METHODS = ("lang-reiczigel", "delta", "bootstrap")


def binary(values: ArrayLike, name: str) -> Array:
    """[n] of 0, 1 and NaN.

    Raises:
        UserError: if anything else is in it.
    """
    array = vector(values, name)
    if not np.isin(array[~np.isnan(array)], (0.0, 1.0)).all():
        raise UserError(f"{name} of 0, 1 or NaN", "other values", "Threshold the judge's score first.")
    return array


def labelled_pairs(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[Array, Array]:
    """Two binary arrays of one shape, without the entries that are NaN in either.

    Raises:
        UserError: if shapes differ or values are not binary.
    """
    a, b = binary(first, names[0]), binary(second, names[1])
    if a.shape != b.shape:
        raise UserError(f"{names[1]} of shape {a.shape}", f"shape {b.shape}", "Label the same answers, in the same order.")
    labelled = ~(np.isnan(a) | np.isnan(b))
    return a[labelled], b[labelled]


def corrected(rate: Array | float, sensitivity: Array | float, specificity: Array | float) -> Array:
    """(rate + specificity - 1) / (sensitivity + specificity - 1), not clipped."""
    return np.asarray((rate + specificity - 1.0) / (sensitivity + specificity - 1.0), dtype=np.float64)


@dataclass(frozen=True)
class Confusion:
    """What is known of a judge's errors.

    Attributes:
        sensitivity: share of labelled positives it calls positive; NaN where there are none.
        specificity: share of labelled negatives it calls negative; likewise.
        positives: how many labelled positives tell so: independent ones, of which answers to one question make fewer.
        negatives: likewise.
    """

    sensitivity: float
    specificity: float
    positives: float
    negatives: float


def confusion(labelled_judge: ArrayLike, labelled_truth: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Confusion:
    """A judge's confusion on labelled answers.

    Args:
        labelled_judge: [n_labelled] the judge's 0 / 1, NaN where it gave none.
        labelled_truth: [n_labelled] what people said, 0 / 1.
        groups: [n_labelled] question of each answer: the counts are divided by the design effect, the variance of a share
            when whole questions are resampled over that of as many independent answers (never less than 1).
        seed: of the resampling.

    Raises:
        UserError: if shapes differ or values are not binary.
    """
    judge, truth = binary(labelled_judge, "labelled_judge"), binary(labelled_truth, "labelled_truth")
    labelled_pairs(judge, truth, ("labelled_judge", "labelled_truth"))  # refuses what does not line up
    labelled = ~(np.isnan(judge) | np.isnan(truth))
    labels = np.arange(len(judge)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    shares, counts = [], []
    for kind in (1.0, 0.0):
        of_kind = labelled & (truth == kind)
        right, count = (judge[of_kind] == kind).astype(np.float64), int(of_kind.sum())
        shares.append(float(right.mean()) if count else NAN)
        counts.append(count / _design_effect(right, labels[of_kind], seed) if groups is not None and count else float(count))
    return Confusion(shares[0], shares[1], counts[0], counts[1])


def _design_effect(right: Array, labels: Array, seed: int) -> float:
    """Variance of the share of `right` [n] under resampling of groups, over that of independent answers; at least 1."""
    share = float(right.mean())
    _, index = np.unique(labels, return_inverse=True)
    if share in (0.0, 1.0) or index.max() == 0:
        return 1.0
    sizes, sums = np.bincount(index), np.bincount(index, weights=right)
    resamples = np.random.default_rng(seed).integers(0, len(sizes), size=(CLUSTER_DRAWS, len(sizes)))
    resampled = sums[resamples].sum(axis=1) / sizes[resamples].sum(axis=1)
    return max(1.0, float(resampled.var()) * len(right) / (share * (1.0 - share)))


def rogan_gladen(
    judged: ArrayLike,
    labelled_judge: ArrayLike,
    labelled_truth: ArrayLike,
    *,
    level: float = 0.95,
    method: str = "lang-reiczigel",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Estimate:
    """A rate of true positives from a judge's rate, corrected for its sensitivity and specificity.

    The labelled answers must be judged under the same conditions as the others, and not be among those in `judged`.

    Args:
        judged: [n_questions] the judge's 0 / 1 on the answers of interest, NaN where it gave none.
        labelled_judge: [n_labelled] the judge's 0 / 1 on answers that people labelled.
        labelled_truth: [n_labelled] what people said, 0 / 1.
        level: of the interval.
        method: "lang-reiczigel" (keeps its level with few labels, and with a judge that made no mistake on them),
            "delta" or "bootstrap" (percentile).
        groups: [n_questions] group ids of `judged`, averaged first; None if each question stands for itself.
        seed: of the bootstrap.

    Returns:
        The rate, clipped to [0, 1] (the reason says so), with its interval; `n` counts units of `judged`.

    Raises:
        UserError: if an argument cannot be used.

    Source: Rogan & Gladen 1978; Lang & Reiczigel 2014, Preventive Veterinary Medicine 113.
    """
    check_level(level)
    check_choice(method, RATE_METHODS, "method")
    judge, truth = labelled_pairs(labelled_judge, labelled_truth, ("labelled_judge", "labelled_truth"))
    return corrected_rate(judged, confusion(judge, truth), level=level, method=method, groups=groups, seed=seed)


def corrected_rate(
    judged: ArrayLike,
    errors: Confusion,
    *,
    level: float = 0.95,
    method: str = "lang-reiczigel",
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Estimate:
    """`rogan_gladen` where the labelled answers are summed up in a confusion.

    Args:
        judged: [n_questions] the judge's 0 / 1, NaN where it gave none.
        errors: what is known of the judge's errors.
        level: of the interval.
        method: as in `rogan_gladen`.
        groups: [n_questions] group ids of `judged`, averaged first; None if each question stands for itself.
        seed: of the bootstrap.

    Raises:
        UserError: if an argument cannot be used.
    """
    check_level(level)
    check_choice(method, RATE_METHODS, "method")
    units = unit_values(binary(judged, "judged"), groups)
    n, positives, negatives = len(units), errors.positives, errors.negatives
    name = f"Rogan-Gladen, {method}"
    used = seed if method == "bootstrap" else None
    if n == 0 or positives == 0 or negatives == 0:
        reason = NO_UNIT if n == 0 else "the labelled answers are all of one kind"
        return Estimate(NAN, NAN, NAN, n, level, name, used, reason)
    sensitivity, specificity = errors.sensitivity, errors.specificity
    if sensitivity + specificity <= 1.0:
        reason = f"the judge is no better than chance (sensitivity {sensitivity:.3f}, specificity {specificity:.3f})"
        return Estimate(NAN, NAN, NAN, n, level, name, used, reason)
    rate = float(units.mean())
    sizes = (n, positives, negatives)
    if method == "bootstrap":
        low, high = _rate_bootstrap(units, (sensitivity, specificity), sizes, level, seed)
    elif method == "delta":
        low, high = _rate_delta(units, (sensitivity, specificity), sizes, level)
    else:
        low, high = _lang_reiczigel((rate, sensitivity, specificity), sizes, level)
    raw = float(corrected(rate, sensitivity, specificity))
    value = min(max(raw, 0.0), 1.0)
    reason = "" if raw == value else f"the corrected rate was {raw:.3f}, outside [0, 1]"
    return Estimate(value, min(max(low, 0.0), 1.0), min(max(high, 0.0), 1.0), n, level, name, used, reason)


def _rate_delta(units: Array, judge: tuple[float, float], sizes: tuple[int, float, float], level: float) -> tuple[float, float]:
    """Both ends by the delta method; variances are those of independent samples."""
    (sensitivity, specificity), (n, positives, negatives) = judge, sizes
    skill = sensitivity + specificity - 1.0
    value = float(corrected(float(units.mean()), sensitivity, specificity))
    variance = (
        float(units.var()) / n
        + value**2 * sensitivity * (1.0 - sensitivity) / positives
        + (1.0 - value) ** 2 * specificity * (1.0 - specificity) / negatives
    )
    half = float(special.ndtri((1.0 + level) / 2.0)) * math.sqrt(variance) / skill
    return value - half, value + half


def _lang_reiczigel(rates: tuple[float, float, float], sizes: tuple[int, float, float], level: float) -> tuple[float, float]:
    """Both ends after adding pseudo-observations to the rate (Agresti-Coull) and to both of the judge's rates."""
    (rate, sensitivity, specificity), (n, positives, negatives) = rates, sizes
    z = float(special.ndtri((1.0 + level) / 2.0))
    more, positives_2, negatives_2 = n + z**2, positives + 2, negatives + 2
    rate_2 = (n * rate + z**2 / 2.0) / more
    sensitivity_2 = (positives * sensitivity + 1.0) / positives_2
    specificity_2 = (negatives * specificity + 1.0) / negatives_2
    skill = sensitivity_2 + specificity_2 - 1.0
    if skill <= 0.0:
        return 0.0, 1.0
    value = float(corrected(rate_2, sensitivity_2, specificity_2))
    of_sensitivity = sensitivity_2 * (1.0 - sensitivity_2) / positives_2
    of_specificity = specificity_2 * (1.0 - specificity_2) / negatives_2
    shift = 2.0 * z**2 * (value * of_sensitivity - (1.0 - value) * of_specificity)
    variance = rate_2 * (1.0 - rate_2) / more + value**2 * of_sensitivity + (1.0 - value) ** 2 * of_specificity
    half = z * math.sqrt(variance) / skill
    return value + shift - half, value + shift + half


def _rate_bootstrap(
    units: Array, judge: tuple[float, float], sizes: tuple[int, float, float], level: float, seed: int
) -> tuple[float, float]:
    """Percentile ends, resampling judged units, labelled positives and labelled negatives apart."""
    sensitivity, specificity = judge
    positives, negatives = (max(1, round(size)) for size in sizes[1:])
    # A second key: the same seed alone would tie the judge's draws to those of the rates.
    rng = np.random.default_rng([seed, 1])
    rates = resampled_means(units, DRAWS, seed)
    sensitivities = rng.binomial(positives, sensitivity, size=DRAWS) / positives
    specificities = rng.binomial(negatives, specificity, size=DRAWS) / negatives
    with np.errstate(divide="ignore", invalid="ignore"):
        rates_corrected = corrected(rates, sensitivities, specificities)
    # A resampled judge without skill says nothing about the rate: such a draw may be anywhere, so it widens both ends.
    blind = sensitivities + specificities <= 1.0
    tail = (1.0 - level) / 2.0
    low = np.quantile(np.where(blind, 0.0, rates_corrected), tail)
    high = np.quantile(np.where(blind, 1.0, rates_corrected), 1.0 - tail)
    return float(low), float(high)


def ppi_mean(
    predicted: ArrayLike,
    labelled_predicted: ArrayLike,
    labelled_truth: ArrayLike,
    *,
    level: float = 0.95,
    weight: float | None = 1.0,
) -> Estimate:
    """Prediction-powered mean: weight * mean judge score, plus the mean of truth - weight * judge on labelled answers.

    Unbiased for any judge. The labelled answers are a random sample of the same population, not among `predicted`.

    Args:
        predicted: [n_unlabelled] judge scores, NaN where there is none.
        labelled_predicted: [n_labelled] judge scores on the labelled answers.
        labelled_truth: [n_labelled] labels, in the same units.
        level: of the interval (normal approximation).
        weight: of the judge; 1 is the original method, 0 the labels alone, None chooses the weight with the least
            variance (never worse than either in large samples).

    Returns:
        The estimate; `n` counts labelled answers; NaN with a reason with fewer than 2 of either kind.

    Raises:
        UserError: if an argument cannot be used.

    Source: Angelopoulos et al. 2023, arXiv 2301.09633; weight: Angelopoulos et al. 2023, arXiv 2311.01453.
    """
    check_level(level)
    many = unit_values(predicted, name="predicted")
    judge, truth = vector(labelled_predicted, "labelled_predicted"), vector(labelled_truth, "labelled_truth")
    if judge.shape != truth.shape:
        remedy = "Label the same answers, in the same order."
        raise UserError(f"labelled_truth of shape {judge.shape}", f"shape {truth.shape}", remedy)
    labelled = ~(np.isnan(judge) | np.isnan(truth))
    judge, truth = judge[labelled], truth[labelled]
    n, unlabelled = len(truth), len(many)
    if n < 2 or unlabelled < 2:
        reason = f"{n} labelled and {unlabelled} unlabelled answers; at least 2 of each are needed"
        return Estimate(NAN, NAN, NAN, n, level, "prediction-powered", reason=reason)
    if weight is None:
        spread = float(np.concatenate([many, judge]).var())
        shared = float(np.mean((judge - judge.mean()) * (truth - truth.mean())))
        weight = min(max(shared / ((1.0 + n / unlabelled) * spread), 0.0), 1.0) if spread > 0.0 else 0.0
    value = weight * float(many.mean()) + float((truth - weight * judge).mean())
    error = math.sqrt(weight**2 * float(many.var()) / unlabelled + float((truth - weight * judge).var()) / n)
    half = float(special.ndtri((1.0 + level) / 2.0)) * error
    return Estimate(value, value - half, value + half, n, level, f"prediction-powered, weight {weight:.3g}")
