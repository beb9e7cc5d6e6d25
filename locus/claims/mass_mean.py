"""Class means as a source of claims: sites at whose difference of class means answers are told apart best.

The direction is what the ITI shift goes along: the mean over wanted answers less that over unwanted ones, of training questions.
An answer is on the side of the mean that it is nearer to along it. Sites are ranked by the accuracy of that on validation
questions. Nothing is fitted, so that where probes overfit few questions, this ranks otherwise.

Source: Marks & Tegmark 2023 (arXiv 2310.06824), the mass-mean probe without its covariance; Li et al. 2023, its direction.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from locus.claims.claim import Claim
from locus.claims.probe import Features, best


def accuracies(train: Features, validation: Features) -> npt.NDArray[np.float64]:
    """Validation accuracy at every site, [layers, sites], as a fraction of answers; NaN where there is no site, or no direction.

    Args:
        train: what is at every site, of the answers whose means are taken.
        validation: likewise, of the answers that are told apart.
    """
    wanted, unwanted = (train.bank[side].mean(axis=0, dtype=np.float64) for side in (train.truth, ~train.truth))
    along, middle = wanted - unwanted, (wanted + unwanted) / 2
    scores = np.einsum("nlhd,lhd->nlh", validation.bank.astype(np.float64) - middle, along)
    accuracy: npt.NDArray[np.float64] = ((scores > 0) == validation.truth[:, None, None]).mean(axis=0)
    accuracy[~along.any(axis=-1)] = np.nan
    return accuracy


def heuristic(evidence: Any) -> Claim:
    """The claim of the heuristic `mass-mean`, from what a `heuristic.Evidence` holds."""
    train, validation = evidence.features, evidence.held_out
    about = {"n_train": len(train.truth), "n_validation": len(validation.truth)}
    return best("mass-mean", accuracies(train, validation), train.kind, evidence.size, about)
