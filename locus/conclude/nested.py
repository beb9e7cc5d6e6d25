"""A place contains every edit of a place inside it, so where the optimum was reached nothing inside it has a lower loss.

This holds of the training loss, which searches minimise, and is held against every search of a run. A place that one inside it
beats was not searched to its optimum, and what leans on it cannot be answered. On *test* questions a place may well be beaten by
one inside it: then it has learned the training questions by heart.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from locus import units
from locus.conclude.record import Arm, Record
from locus.conclude.tests import Scores, sided
from locus.plan.config import AuditConfig
from locus.records.beside import Nested
from locus.records.result import TrialResult
from locus.records.verdict import SecondSearch
from locus.sites.site import Location, Site
from locus.sites.space import holds

NOISE = 0.01  # share of the loss at the start by which a place inside may be below: sums are taken in other orders
OUTER = ("ceiling", "complement")


def nesting(record: Record) -> Nested | None:
    """Every search of a run held against those of the places that contain it; None where no search states its loss."""
    outer = [
        (arm, trial)
        for arm in record.arms
        if arm.role in OUTER
        for trial in arm.trials
        if trial.fit.loss is not None and trial.spec.recipe is not None and trial.spec.recipe.rounds == record.config.rounds
    ]
    if not outer:
        return None
    compared, most, beaten = 0, 0.0, dict[str, str]()
    for arm, trial in outer:
        for inner, excess in _inside(record, arm, trial):
            compared, most = compared + 1, max(most, excess)
            if excess > NOISE:
                beaten.setdefault(label(arm), inner.name)
    return Nested(compared=compared, violated=len(beaten), most=most, beaten=beaten)


def searched_twice(record: Record) -> SecondSearch | None:
    """What second searches gained; None where there was none."""
    gained: dict[str, float] = {}
    for arm in record.arms:
        for trial in arm.trials:
            start, loss, second = trial.fit.start, trial.fit.loss, trial.fit.second
            if start and loss is not None and second is not None:
                share = max(0.0, float(loss) - float(second)) / float(start)
                gained[label(arm)] = max(share, gained.get(label(arm), 0.0))
    if not gained:
        return None
    return SecondSearch(rounds=record.config.further, gained=gained, most=max(gained.values()))


def beaten_in_training(record: Record, arm: Arm) -> str:
    """Which place inside a place ends below its chosen edit in training loss, in words; "" where none does."""
    for trial in (one for one in arm.ends if one.fit.loss is not None):
        for inner, excess in _inside(record, arm, trial):
            if excess > NOISE:
                why = f"the optimum was not reached at {arm.name}: {inner.name}, inside it, has a lower training loss"
                return f"{why}; another audit with --set rounds={2 * record.config.rounds} goes further"
    return ""


def label(arm: Arm) -> str:
    """A place by a name that no other has."""
    return " of ".join(filter(None, (arm.name, arm.claim))) + (f", read {arm.read}" if arm.claim else "")


def _inside(record: Record, arm: Arm, outer: TrialResult) -> Iterator[tuple[Arm, float]]:
    """Places inside a place that have the same target and read mode, each with the share of the loss at the start by which it is
    below.
    """
    sites, recipe, start = _sites(outer.spec.location), outer.spec.recipe, outer.fit.start
    assert recipe is not None and outer.fit.loss is not None and start is not None, "a search states its losses"
    for one in record.arms:
        if one.role == arm.role or one.read != arm.read:
            continue
        for inner in one.trials:
            loss, other = inner.fit.loss, inner.spec.recipe
            alike = other is not None and (other.tau, other.rounds) == (recipe.tau, recipe.rounds)
            if loss is not None and alike and holds(sites, _sites(inner.spec.location)):
                yield one, max(0.0, float(outer.fit.loss) - float(loss)) / float(start) if start else 0.0


@lru_cache(maxsize=1024)
def _sites(names: tuple[str, ...]) -> frozenset[Site]:
    """The sites of a trial, whose names may stand for runs of them."""
    return frozenset(Location.parse(names).sites) if names else frozenset()


def overfitted(scores: Scores, config: AuditConfig) -> str:
    """Whether places inside the ceiling are shown to do better than it on test questions, by more than the margin; in words."""
    ceiling = scores.mean("ceiling")
    margin = config.tolerance * float(np.nanmean(scores.gain))
    inner = {"the claim": scores.mean("claim")}
    if len(scores.random):
        inner["the mean of random Locations"] = np.nanmean(scores.mean("random"), axis=0)
    for name, values in inner.items():
        lead = values - ceiling
        if float(np.nanmean(lead)) > max(margin, 0.0) and sided(lead, config, scores.groups).above <= config.alpha:
            ahead = units.difference(float(np.nanmean(lead)), config.metric)
            return (
                f"the ceiling has overfitted: nothing inside it has a lower training loss, yet on test questions {name} is "
                f"{ahead} ahead of it"
            )
    return ""
