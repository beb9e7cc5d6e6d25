"""Statistics: arrays in, numbers out. Questions are the sampling unit, and undefined is NaN with its reason."""

from locus.stats.agreement import Calibration, calibration_error, cohen_kappa
from locus.stats.bootstrap import bootstrap_mean, paired_bootstrap
from locus.stats.crossed import CrossedMean, crossed_mean
from locus.stats.estimate import Estimate, PValue
from locus.stats.hierarchical import VarianceComponents, hierarchical_bootstrap, variance_components
from locus.stats.judged import Confusion, confusion, corrected_rate, ppi_mean, rogan_gladen
from locus.stats.paired import MarginTest, noninferiority, paired_permutation, tost
from locus.stats.power import (
    Wanted,
    measurement_noise,
    paired_power,
    questions_for_effect,
    questions_for_rank,
    random_for_power,
    rank_power,
    smallest_detectable_effect,
)
from locus.stats.powered import PoweredMean, powered_mean
from locus.stats.proportions import benjamini_hochberg, clopper_pearson, holm
from locus.stats.ranks import (
    besag_clifford,
    besag_clifford_p,
    can_change,
    least_random_for,
    monte_carlo_rank,
    most_reached,
    parametric_p,
    rank_bounds,
    smallest_p,
)

__all__ = [
    "Calibration",
    "Confusion",
    "CrossedMean",
    "Estimate",
    "MarginTest",
    "PValue",
    "PoweredMean",
    "VarianceComponents",
    "Wanted",
    "benjamini_hochberg",
    "besag_clifford",
    "besag_clifford_p",
    "bootstrap_mean",
    "calibration_error",
    "can_change",
    "clopper_pearson",
    "cohen_kappa",
    "confusion",
    "corrected_rate",
    "crossed_mean",
    "hierarchical_bootstrap",
    "holm",
    "least_random_for",
    "measurement_noise",
    "monte_carlo_rank",
    "most_reached",
    "noninferiority",
    "paired_bootstrap",
    "paired_permutation",
    "paired_power",
    "parametric_p",
    "powered_mean",
    "ppi_mean",
    "questions_for_effect",
    "questions_for_rank",
    "random_for_power",
    "rank_bounds",
    "rank_power",
    "rogan_gladen",
    "smallest_detectable_effect",
    "smallest_p",
    "tost",
    "variance_components",
]
