"""From a run's record to the scores that a verdict is drawn from, and to the findings that follow by its rule."""

from collections.abc import Sequence
from itertools import chain

import numpy as np

from locus.conclude import labelled, nested, rule
from locus.conclude.record import Arm, Record
from locus.conclude.tests import least_gain
from locus.metrics.base import tabled
from locus.records.labels import METRICS
from locus.records.place import NEAR
from locus.records.plan import DRAWN, roles_of
from locus.records.result import TrialResult


def scores_of(
    record: Record, claim: str, read: str, metric: str, role: str = "random", told: bool | None = None
) -> rule.Scores | None:
    """A claim's scores in one read mode and metric, with the random Locations of a role; None while a trial is missing.

    People's labels are with them where the plan asked for some, or as `told` says.
    """
    mine, rest = record.find("claim", claim, read), record.find("complement", claim, read)
    ceiling, base = ceiling_of(record), record.find("base")
    randoms = record.drawn(claim, read, role)
    if not (mine and rest and ceiling and base and len(randoms) >= record.config.looks[0]):
        return None
    if not all(map(record.whole, [*mine, *rest, *record.find("ceiling")])):
        return None
    others = best_within(record, rest)
    # Where an edit inside is preferred, the search of the whole place is still what its optimum hangs on.
    outer = {"ceiling": (ceiling, record.find("ceiling")), "complement": (others, rest)}
    beaten = {
        part: next(filter(None, (nested.beaten_in_training(record, arm) for arm in ([best] if best.role == part else arms))), "")
        for part, (best, arms) in outer.items()
    }
    parts = {"claim": mine, "ceiling": [ceiling], "complement": [others], "random": randoms}
    second = record.drawn(claim, read, record.second) if role == DRAWN[0] and record.second else []
    if role == DRAWN[0] and record.second and len(second) < record.config.looks[0]:
        return None
    randoms = randoms[: len(second)] if second else randoms
    early = record.rounds is not None  # what follows from searches cut short, taken for what they are
    told = (record.config.labels > 0 if told is None else told) and role == DRAWN[0] and metric in METRICS
    read_by = {**parts, "base": base[:1]} if told and record.labels is not None else {}
    asked = record.plan.dataset
    blind = max(one.mc1 for one in asked.blind) if metric == "mc1" and not asked.form else None
    return rule.Scores(
        base=record.of(base[0], metric)[0],
        claim=record.of(mine[0], metric),
        ceiling=record.of(ceiling, metric),
        complement=record.of(others, metric),
        random=np.array([record.of(arm, metric) for arm in randoms]),
        groups=record.groups,
        unsettled={} if early else {part: _unsettled(arms) for part, arms in {**parts, "random": [*randoms, *second]}.items()},
        blind=blind,
        beaten={} if early else {part: why for part, why in beaten.items() if why},
        inner={part: arm.name for part, arm in (("ceiling", ceiling), ("complement", others)) if arm.role != part},
        could=_could(record, ceiling, base[0], metric),
        nouns=record.space.kind.nouns,
        exhausted=record.exhausted,
        withheld=record.withheld,
        also=np.array([record.of(arm, metric) for arm in second[: len(randoms)]]) if second else None,
        people=labelled.people(record, read_by, record.labels, metric) if record.labels is not None and read_by else None,
    )


def _could(record: Record, ceiling: Arm, base: Arm, metric: str) -> tuple[str, ...]:
    """Other metrics by which the ceiling gains as much as a verdict needs."""
    gains = {
        name: record.of(ceiling, name).mean(axis=0) - record.of(base, name)[0]
        for name in (beside(record) if record.config.rule >= 4 else ())
        if name != metric
    }
    gains = {name: float(np.nanmean(values)) for name, values in gains.items() if np.isfinite(values).any()}
    least = {name: least_gain(record.config.model_copy(update={"metric": name, "least_gain": None})) for name in gains}
    return tuple(name for name, gain in gains.items() if (floor := least[name]) is not None and gain >= floor)


def ceiling_of(record: Record) -> Arm | None:
    """The ceiling: of full alignment in its forms, and of what lies inside it, the one that does best on validation questions."""
    forms = record.find("ceiling")
    return best_within(record, forms) if forms else None


def best_within(record: Record, outer: Sequence[Arm]) -> Arm:
    """What does best on validation questions: a place in its forms, or a place inside it from which it was searched for as well.

    An edit of a place inside is an edit of the whole place, so where the latter has learned the training questions by heart, the
    former is the better edit of it. Only where validation questions choose among lengths of searches anyway.
    """
    starts = {start for arm in outer for trial in arm.trials for start in trial.spec.starts}
    inside = [arm for arm in record.arms if record.config.lengths and starts.intersection(trial.id for trial in arm.trials)]
    known = [*outer, *(inside if record.rounds is None else ())]
    return max(known, key=lambda arm: _on_validation(record, arm)) if len(known) > 1 else outer[0]


def _unsettled(arms: Sequence[Arm]) -> float:
    """Share of the chosen trainings that were not taken far enough: neither settled nor near their optimum, nor best before their
    end by what validation questions say.
    """
    trained = [None if _near(trial) or arm.stopped else trial.converged for arm in arms for trial in arm.ends]
    return float(np.mean([one is not None and not one for one in trained])) if trained else 0.0


def least_share(trial: TrialResult) -> float | None:
    """The least share of all that could be gained in training loss that a search has gained; None where it does not say."""
    start, loss = trial.fit.start, trial.fit.loss
    return 1 - float(loss) / float(start) if start and loss is not None else None


def _near(trial: TrialResult) -> bool:
    share = least_share(trial)
    return share is not None and share >= NEAR


def findings(
    record: Record,
    read: str,
    metric: str,
    look: int | None = None,
    role: str = "random",
    told: bool | None = None,
    drawn: Sequence[str] | None = None,
) -> rule.Verdicts | None:
    """The findings of all claims in one read mode and metric; None while not all trials they need are finished.

    Args:
        record: the run's scores.
        read: what the edits read.
        metric: by which it is concluded.
        look: random Locations that it is concluded from; by default as many as settle it.
        role: of the random Locations; those that stand beside the others are asked for `special` alone.
        told: whether people's labels are used; by default where the plan asked for some.
        drawn: the questions that random Locations are to settle; by default all that they answer.
    """
    asked = [scores_of(record, claim.name, read, metric, role, told) for claim in record.plan.claims]
    scores = [one for one in asked if one is not None]
    if len(scores) < len(asked):
        return None
    if drawn is None:
        drawn = rule.DRAWN if role == DRAWN[0] else ("special",)
    return rule.conclude(scores, record.config.model_copy(update={"metric": metric}), look, drawn)


def _on_validation(record: Record, arm: Arm) -> float:
    """Mean of the selecting metric on validation questions; -inf where nothing was scored."""
    values = record.of(arm, record.selector, "validation")
    return float(np.nanmean(values)) if np.isfinite(values).any() else -np.inf


def beside(record: Record) -> list[str]:
    """The main metric, and those whose findings stand beside it."""
    there = [one for one in tabled(record.config.measures) if not one.needs_judge or one.judged_by(record.notions)]
    known = [one for one in there if one.beside and one.decides]
    return list(dict.fromkeys([record.config.metric, *(one.name for one in known)]))


def by_null(record: Record) -> list[list[rule.Verdicts | None]]:
    """The main metric's findings in each read mode, by the way in which random Locations are drawn."""
    roles = roles_of(record.config.nulls)
    return [[findings(record, read, record.config.metric, role=role) for read in record.config.reads] for role in roles]


def by_rank(record: Record) -> list[tuple[Record, list[rule.Verdicts | None]]]:
    """The scores of edits of every higher rank, with the main metric's findings in each read mode; these are asked for `special`.

    People read what edits of rank 1 make a model say, and no other.
    """
    concluded = []
    for rank in record.config.ranks:
        away = Record(record.plan, record.store, rank=rank)
        found = [findings(away, read, away.config.metric, told=False, drawn=("special",)) for read in away.config.reads]
        concluded.append((away, found))
    return concluded


def settled(record: Record) -> bool:
    """Whether more random Locations could change nothing of the main metric's verdict, in any read mode and at any rank."""
    return all_settled(record, list(chain(*by_null(record), *(found for _, found in by_rank(record)))))


def all_settled(record: Record, concluded: Sequence[rule.Verdicts | None]) -> bool:
    """Whether an audit may stop early, and nothing of what was concluded can change."""
    return record.config.sequential and all(one is not None and one.settled for one in concluded)
