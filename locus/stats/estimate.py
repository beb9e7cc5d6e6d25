"""What every statistic returns, and how scores per question become the values that are tested.

An undefined value is NaN and carries its reason; it is never 0. Unscored questions (NaN) are dropped and `n` tells how
many were left. Questions that share a group id (rewordings, duplicates) are averaged first: the group is the sampling
unit, so a duplicated question adds nothing to `n` and cannot make a p-value smaller.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from locus.errors import UserError

Array = NDArray[np.float64]
NAN = float("nan")
DRAWS = 10_000
ALTERNATIVES = ("greater", "less", "two-sided")
# The least positive p that is ever reported: p = 0 would claim a certainty that no test has.
LEAST_P = float(np.finfo(np.float64).tiny)


def plain(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields as plain JSON values; a number that is not finite becomes None, because canonical JSON has no NaN."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in fields.items()}


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: the estimate, in the units of the scores; NaN if undefined.
        low: lower end of the interval; -inf if it has none on that side, NaN if undefined.
        high: upper end; inf or NaN likewise.
        n: number of sampling units (groups of questions) used.
        level: of the interval, between 0 and 1.
        method: how the interval was made.
        seed: of the resampling; None if nothing was drawn.
        reason: why something is NaN, or why the interval says less than its level; "" if all is well.
    """

    value: float
    low: float
    high: float
    n: int
    level: float
    method: str
    seed: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN and infinite ends become None."""
        return plain(asdict(self))


@dataclass(frozen=True)
class PValue:
    """A p-value with what it was counted from.

    Attributes:
        p: in (0, 1]; NaN if undefined.
        n: number of sampling units (groups of questions, or random Locations).
        method: the test.
        alternative: "greater", "less" or "two-sided".
        reached: how many draws were at least as extreme as what was observed; None for tests without draws.
        draws: number of draws that was compared with; None likewise.
        seed: of the draws; None if all arrangements were counted or nothing was drawn.
        reason: why p is NaN; "" otherwise.
    """

    p: float
    n: int
    method: str
    alternative: str
    reached: int | None = None
    draws: int | None = None
    seed: int | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain JSON values; NaN becomes None."""
        return plain(asdict(self))


def check_level(level: float, name: str = "level") -> None:
    """Refuse a level (or alpha, or power) that is not strictly between 0 and 1.

    Raises:
        UserError: if it is not.
    """
    if not 0.0 < level < 1.0:
        raise UserError(f"a {name} strictly between 0 and 1", repr(level), f"Give {name} as a fraction, for example 0.95.")


def check_choice(value: str, choices: tuple[str, ...], name: str) -> None:
    """Refuse a word that is not one of the choices.

    Raises:
        UserError: if it is not.
    """
    if value not in choices:
        raise UserError(f"{name} to be one of {', '.join(choices)}", repr(value), f"Choose one of the {name}s listed.")


def check_margin(value: float, name: str, low: float) -> None:
    """Refuse a margin or size that is not a finite number of at least `low`.

    Raises:
        UserError: if it is not.
    """
    if not (math.isfinite(value) and value >= low):
        raise UserError(f"{name} to be finite and at least {low:g}", repr(value), f"Give another {name}.")


def vector(values: ArrayLike, name: str) -> Array:
    """One-dimensional float array; NaN stands for unscored.

    Raises:
        UserError: if it has another number of axes, or an infinite entry (a mean of those says nothing).
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise UserError(f"{name} to be one-dimensional", f"shape {array.shape}", "Give one score per question.")
    if np.isinf(array).any():
        remedy = "Mark scores that could not be computed as NaN (unscored), with the reason kept beside them."
        raise UserError(f"{name} to be finite or NaN", f"{int(np.isinf(array).sum())} infinite entries", remedy)
    return array


def unit_values(values: ArrayLike, groups: ArrayLike | None = None, name: str = "values") -> Array:
    """The sampling units: unscored questions dropped, groups averaged, sorted.

    They are sorted so that no seeded result depends on the order in which questions were stored.

    Args:
        values: [n_questions], NaN where unscored.
        groups: [n_questions] group ids, or None if every question stands for itself.
        name: for messages.

    Returns:
        [n_groups] means per group, ascending.

    Raises:
        UserError: if shapes differ or an entry is infinite.
    """
    scores = vector(values, name)
    scored = ~np.isnan(scores)
    if groups is None:
        return np.sort(scores[scored])
    labels = np.asarray(groups)
    if labels.shape != scores.shape:
        remedy = "Give one group id per question."
        raise UserError(f"groups of shape {scores.shape}", f"shape {labels.shape}", remedy)
    _, index = np.unique(labels[scored], return_inverse=True)
    # Sorting within groups first makes the rounding of each group's mean independent of the order as well.
    order = np.lexsort((scores[scored], index))
    totals = np.bincount(index[order], weights=scores[scored][order])
    return np.sort(totals / np.bincount(index[order]))


def flat(values: Array) -> bool:
    """Whether all of [n >= 1] ascending values are equal but for rounding: 0.3 - 0.2 and 0.2 - 0.1 are the same."""
    return bool(values[-1] - values[0] <= 1e-12 * max(abs(values[0]), abs(values[-1])))


def unit_differences(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None) -> Array:
    """Paired differences a - b per sampling unit; a question unscored on either side is dropped.

    Args:
        a: [n_questions], NaN where unscored.
        b: [n_questions], the same questions in the same order.
        groups: [n_questions] group ids or None.

    Returns:
        [n_groups] mean differences, ascending.

    Raises:
        UserError: if shapes differ or an entry is infinite.
    """
    first, second = vector(a, "a"), vector(b, "b")
    if first.shape != second.shape:
        remedy = "Score both edits on the same questions, in the same order."
        raise UserError(f"b of shape {first.shape}, paired with a", f"shape {second.shape}", remedy)
    return unit_values(first - second, groups, "differences")
