"""Many small logistic regressions: Newton's method that forms a Hessian only where the last one no longer serves.

Forming X' diag(p (1 - p)) X costs ten passes over the answers, a step with a factor at hand costs two. So a factor is kept
while every step with it shrinks the gradient to a fifth; nine steps and three factors solve the regression of a typical head.
Passes are in float32 until the gradient is small, then in float64, so that the result is good to `tol` all the same.

Should a step make matters worse, it is taken back and done with the Hessian at p = 1/2, which bounds all others (Bohning &
Lindsay 1988): such steps always descend, whatever the data.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.lapack import spotrf, spotrs
from scipy.special import expit

Floats = npt.NDArray[np.float64]
SLOW = 0.2  # a step that leaves more of the gradient than this asks for a new Hessian
NARROW = 1e-6  # relative gradient down to which float32 does
STEPS = ((np.float32, 30), (np.float64, 20_000))  # the most of each; the second is never reached by data that are finite


def fit_probes(
    x: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.bool_], c: float = 1.0, tol: float = 1e-8
) -> tuple[Floats, Floats]:
    """L2-regularised logistic regressions of all heads on the same answers.

    Minimises 1/2 |w|^2 + C sum log(1 + exp(-s (w x + v))), s = +-1, the intercept v unpenalised (scikit-learn's objective).

    Args:
        x: [heads, answers, features].
        y: [answers].
        c: inverse regularisation strength.
        tol: largest gradient entry, relative to the number of answers, at which a head is done.

    Returns:
        Weights [heads, features] and intercepts [heads].
    """
    coefficients = np.array([_fit_head(head, y, c, tol) for head in x], dtype=np.float64).reshape(len(x), x.shape[2] + 1)
    return coefficients[:, :-1], coefficients[:, -1]


def _fit_head(x: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.bool_], c: float, tol: float) -> Floats:
    """Weights and intercept of one regression, [features + 1]."""
    count, width = x.shape
    beta: npt.NDArray[Any] = np.zeros(width + 1)
    single_precision = _design(x, np.float32)
    bound = factor = _factor(single_precision, np.full(count, 0.5), c)
    for kind, most in STEPS:
        design = single_precision if kind is np.float32 else _design(x, kind)
        truth, ridge, beta = y.astype(kind), _ridge(width).astype(kind), beta.astype(kind)
        goal = count * (max(tol, NARROW) if kind is np.float32 else tol)
        before, last_beta = np.inf, beta
        for _ in range(most):
            p = expit(design @ beta)
            gradient = c * ((p - truth) @ design) + ridge * beta
            size = float(np.abs(gradient).max())
            if size <= goal:
                break
            if not size <= before and factor is not bound:  # NaN, too
                factor, beta = bound, last_beta
                continue
            if size > SLOW * before:
                factor = _factor(single_precision, p, c)
            before, last_beta = size, beta
            beta = beta - spotrs(factor, gradient)[0].astype(kind)
    return beta


def _design(x: npt.NDArray[np.floating[Any]], kind: Any) -> npt.NDArray[Any]:
    """[answers, features + 1], the last column 1."""
    design = np.ones((len(x), x.shape[1] + 1), dtype=kind)
    design[:, :-1] = x
    return design


def _ridge(width: int) -> npt.NDArray[np.float32]:
    return np.append(np.ones(width, dtype=np.float32), np.float32(0))


def _factor(design: npt.NDArray[np.float32], p: npt.NDArray[Any], c: float) -> npt.NDArray[np.float32]:
    """Cholesky factor of the Hessian at probabilities p; a trifle is added, in case all answers are on one side."""
    half = design * np.sqrt(c * p * (1 - p)).astype(np.float32)[:, None]
    hessian = half.T @ half
    hessian.flat[:: len(hessian) + 1] += _ridge(len(hessian) - 1) + np.float32(1e-6)
    factor: npt.NDArray[np.float32] = spotrf(hessian, overwrite_a=True)[0]
    return factor
