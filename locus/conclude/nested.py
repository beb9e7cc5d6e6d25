"""A place contains every edit of a place inside it, so where the optimum was reached nothing inside it has a lower loss.

This holds of the training loss, which searches minimise, and is held against every search of a run. A place that one inside it
beats was not searched to its optimum, and what leans on it cannot be answered. On *test* questions a place may well be beaten by
one inside it: then it has learned the training questions by heart.
"""

from collections.abc import Sequence

import numpy as np

from locus import units
from locus.conclude.record import Arm, Record
from locus.conclude.tests import Scores, sided
from locus.plan.config import AuditConfig
from locus.records.result import TrialResult
from locus.records.verdict import Nested

NOISE = 0.01  # share of the loss at the start by which a place inside may be below: sums are taken in other orders
OUTER = ("ceiling", "complement")


def nesting(record: Record) -> Nested | None:
    """Every search of a run held against those of the places that contain it; None where no search states its loss."""
    searched = [(arm, trial) for arm in record.arms for trial in arm.trials if trial.fit.loss is not None]
    if not searched:
        return None
    compared, beaten, most = 0, dict[str, str](), 0.0
    for arm, outer in ((arm, trial) for arm, trial in searched if arm.role in OUTER):
        for inner_arm, inner in searched:
            if inner.id == outer.id or not _inside(inner_arm, inner, arm, outer):
                continue
            compared += 1
            excess = _excess(outer, inner)
            most = max(most, excess)
            if excess > NOISE:
                beaten[arm.name] = inner_arm.name
    return Nested(compared=compared, violated=len(beaten), most=most, beaten=beaten)


def _inside(inner_arm: Arm, inner: TrialResult, arm: Arm, outer: TrialResult) -> bool:
    """Whether a place with its edit is inside another, with the same target."""
    if inner_arm.role in OUTER and arm.role == inner_arm.role:
        return False
    same = inner.spec.recipe is not None and outer.spec.recipe is not None and inner.spec.recipe.tau == outer.spec.recipe.tau
    readable = inner_arm.read == arm.read
    return same and readable and set(inner.spec.location) <= set(outer.spec.location)


def _excess(outer: TrialResult, inner: TrialResult) -> float:
    """By how much the inner loss is below the outer, as a share of the loss at the start."""
    assert outer.fit.loss is not None and inner.fit.loss is not None and outer.fit.start is not None, (
        "searches state their losses"
    )
    return max(0.0, float(outer.fit.loss) - float(inner.fit.loss)) / float(outer.fit.start) if outer.fit.start else 0.0


def beaten_in_training(record: Record, arms: Sequence[Arm], found: Nested | None) -> str:
    """Which place inside one of some arms has a lower training loss, in words; "" where none has."""
    for arm in arms:
        if found is not None and (inner := found.beaten.get(arm.name)):
            remedy = f"another audit with --set rounds={2 * record.config.rounds} goes further"
            return f"the optimum was not reached at {arm.name}: {inner}, inside it, has a lower training loss; {remedy}"
    return ""


def overfitted(scores: Scores, config: AuditConfig) -> str:
    """Whether places inside the ceiling are shown to do better than it on test questions, by more than the margin; in words."""
    ceiling = scores.mean("ceiling")
    margin = config.tolerance * float(np.nanmean(scores.gain))
    inner = {"the claim": scores.mean("claim")}
    if len(scores.random):
        inner["the mean of random Locations"] = np.nanmean(scores.mean("random"), axis=0)
    for name, values in inner.items():
        lead = values - ceiling
        if float(np.nanmean(lead)) > max(margin, 0.0) and sided(lead, config, scores.groups)[0] <= config.alpha:
            ahead = units.difference(float(np.nanmean(lead)), config.metric)
            return (
                f"the ceiling has overfitted: nothing inside it has a lower training loss, yet on test questions {name} is "
                f"{ahead} ahead of it"
            )
    return ""
