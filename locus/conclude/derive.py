"""From the stored per-item scores to verdict.json; nothing here looks at a model, so a verdict can be re-derived by anyone."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from locus import atomic, errors, stats
from locus.conclude import cost, labelled, nested, people, rule
from locus.conclude.curve import curve
from locus.conclude.entanglement import entangled
from locus.conclude.manifold import departures
from locus.conclude.ranks import ranked
from locus.conclude.record import Arm, Record
from locus.conclude.scores import all_settled, beside, by_null, by_rank, ceiling_of, findings, least_share, scores_of, settled
from locus.conclude.tests import difference, sided
from locus.conclude.transfer import transfers
from locus.judges.base import TRUTH, commonest
from locus.machine.versions import versions
from locus.metrics.base import deciding
from locus.plan.reading import read_plan
from locus.records.cost import Seconds
from locus.records.findings import ClaimVerdict, Finding, Findings, Variance
from locus.records.labels import read_labels
from locus.records.place import JudgedShares, Measured, PlaceResult
from locus.records.plan import PlanRecord
from locus.records.store import Store, reading
from locus.records.verdict import (
    VERDICT_SCHEMA,
    Baseline,
    Gain,
    PartSizes,
    PartSizesAsked,
    RandomLocations,
    Seeds,
    Unscored,
    Verdict,
)
from locus.sites.kind import default
from locus.sites.site import Location
from locus.stats import truthful

UNFINISHED = Findings(**dict.fromkeys(rule.QUESTIONS, Finding(standing="undecided", sentence="Not all trials are finished.")))
MOST_NAMED = 64  # sites of a place that is listed by name


def summary(record: Record, arm: Arm) -> PlaceResult:
    """Means of every measure with their intervals over test questions (or passages), and how training went."""
    measures: dict[str, Measured] = {}
    for one in record.config.measures:
        measure, split = one.name, one.split
        values = record.of(arm, measure, split)
        if values.size and np.isfinite(values).any():
            mean = stats.bootstrap_mean(values.mean(axis=0), groups=record.groups if split == "test" else None, draws=2000)
            measures[measure] = Measured(mean=_plain(mean.value), interval=(_plain(mean.low), _plain(mean.high)), n=mean.n)
    location = arm.trials[0].spec.location
    count = len(Location.parse(location)) if location else 0
    chosen = [trial for trial in arm.trials if trial.id in arm.chosen]
    place = PlaceResult(
        name=arm.name,
        setting=arm.setting,
        read=arm.read,
        location=record.space.kind.counted(count) if count > MOST_NAMED else location,
        measures=measures,
        trials=tuple(trial.id for trial in chosen),
        converged=tuple(trial.converged for trial in arm.ends),
        reasons=tuple(sorted({trial.reason for trial in arm.ends if trial.reason})),
    )
    shares = [share for trial in arm.ends if (share := least_share(trial)) is not None]
    spoken = any(one.name in measures for one in record.config.measures if one.needs_judge and one.notions)
    more: dict[str, Any] = {"judged": judged(record, arm)} if spoken else {}
    more |= {"share": min(shares)} if shares else {}
    more |= {"stopped": arm.stopped} if arm.stopped else {}
    return place.model_copy(update=more) if more else place


def judged(record: Record, arm: Arm) -> JudgedShares:
    """What follows from an arm's judged answers besides the plain means."""
    values = {notion: record.of(arm, notion) for notion in record.notions}
    if values.keys() == set(TRUTH):
        rates = truthful.rates(values["truth"], values["info"], record.groups, record.errors)
    else:
        rates = truthful.side_rates(values, record.groups, record.errors)
    texts = [text for trial in arm.chosen for text in record.store.texts(trial, "test").values()]
    return JudgedShares.parse({**rates, "silent": sum(not text.strip() for text in texts)})


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def enough(out: Path, store: Store) -> bool:
    """Whether a running audit's verdict is settled; asked before more random Locations are drawn."""
    return settled(Record(read_plan(out), store))


def singles(record: Record) -> list[PlaceResult]:
    """Single sites, each with the p that its edit is not inferior to the ceiling's, as it is and for all of them (BH)."""
    arms, metric = record.find("single"), record.config.metric
    best, base = ceiling_of(record), record.find("base")
    places = [summary(record, arm) for arm in arms]
    if not (arms and best and base):
        return places
    ceiling, plain = record.of(best, metric).mean(axis=0), record.of(base[0], metric)[0]
    ps = []
    for arm in arms:
        contrast = record.of(arm, metric).mean(axis=0) - ceiling + record.config.tolerance * (ceiling - plain)
        ps.append(sided(contrast, record.config, record.groups).above)
    return [
        place.model_copy(update={"p_works": _plain(p), "p_works_bh": _plain(float(adjusted))})
        for place, p, adjusted in zip(places, ps, stats.benjamini_hochberg(ps), strict=True)
    ]


def gain(record: Record) -> Gain | None:
    """What the ceiling gains in the main metric, of which every margin is a share; None before it and the base model are done."""
    best, base = ceiling_of(record), record.find("base")
    if best is None or not base or not record.whole(best):
        return None
    metric, config = record.config.metric, record.config
    first = record.plan.claims[0].name
    told = scores_of(record, first, config.reads[0], metric) if config.labels and record.labels is not None else None
    edited, plain = record.of(best, metric).mean(axis=0), record.of(base[0], metric)[0]
    one = difference(edited, plain, sided(edited - plain, config, record.groups), config, record.groups)
    one = labelled.effect(told, config)[0] if told is not None and told.people is not None else one
    ends = (_plain(one.low), _plain(one.high))
    found = Gain(estimate=_plain(one.value), interval=ends, level=one.level, n=one.n, margin_share=config.tolerance)
    return found if best.role == "ceiling" else found.model_copy(update={"inner": best.name})


def variance(record: Record, claim: str, read: str) -> Variance | None:
    """Where the variance of the main metric at a claim's random Locations comes from; None with fewer than two."""
    whole = record.drawn(claim, read)
    if len(whole) < 2:
        return None
    scores = np.array([record.of(arm, record.config.metric) for arm in whole])
    return Variance.parse(stats.variance_components(scores, record.groups).to_dict())


def claims_of(
    record: Record, read: str, main: rule.Verdicts | None, others: Sequence[rule.Verdicts | None] = ()
) -> list[ClaimVerdict]:
    """What follows for every claim in one read mode.

    Args:
        record: the run's scores.
        read: what the edits read.
        main: the findings by the main metric; None while trials that they need are missing.
        others: those by random Locations that are drawn in other ways, in their order.
    """
    by_metric = {name: findings(record, read, name, main.look) for name in beside(record)} if main is not None else {}
    claims = []
    for index, claim in enumerate(record.plan.claims):
        mine = main.findings[index] if main is not None else UNFINISHED
        found = ClaimVerdict(
            name=claim.name,
            origin=claim.origin,
            location=claim.location,
            n_sites=len(Location.parse(claim.location)),
            variance=variance(record, claim.name, read),
            read=read,
            works=mine.works,
            special=mine.special,
            unique=mine.unique,
            necessary=mine.necessary,
            sentence=rule.overall(mine),
            by_metric={metric: one.findings[index] for metric, one in by_metric.items() if one is not None},
        )
        by = {
            way: one.findings[index].special for way, one in zip(record.config.nulls[1:], others, strict=True) if one is not None
        }
        more: dict[str, object] = {"special_by": by} if record.second and by else {"special_in_layers": by["layer"]} if by else {}
        more |= {} if record.space.kind == default() else {"kind": record.space.kind.name}
        claims.append(found.model_copy(update=more))
    return claims


def derive(record: Record) -> Verdict:
    """The whole verdict but for timing and versions: a function of plan and scores alone."""
    (mains, *others), higher = by_null(record), by_rank(record)
    by_read = zip(record.config.reads, mains, *others, strict=True)
    claims = [claim for read, main, *beside in by_read for claim in claims_of(record, read, main, beside)]
    looks = [one.look for one in mains if one is not None]
    early = all_settled(record, mains) and max(looks) < record.config.random
    aside = [*chain.from_iterable(others), *chain(*(found for _, found in higher))]
    over = (early or aside) and all_settled(record, [*mains, *aside])
    plan, config = record.plan, record.config

    def places(role: str) -> tuple[PlaceResult, ...]:
        return tuple(summary(record, arm) for arm in record.find(role))

    # What is not there is left out of the file, as in the first edition's.
    more: dict[str, Any] = {"unscored": unscored(record), "shift_everywhere": places("shift-everywhere")}
    more |= {"random_in_layers": places("random-layer"), "departures": departures(record)}
    more |= {"transfer": transfers(record), "also": entangled(record), "labelled": people.summary(record)}
    more |= {"ranks": tuple(filter(None, (ranked(away, found) for away, found in higher)))}
    more |= {"arithmetic": plan.arithmetic, "nested": nested.nesting(record)}
    more |= {} if (second := nested.searched_twice(record)) is None else {"second": second}
    more |= {"curve": curve(record, lambda at, read: findings(at, read, config.metric))}
    return Verdict(
        schema_=VERDICT_SCHEMA,
        model=plan.model,
        dataset=plan.dataset,
        prompt=plan.prompt.name,
        metric=config.metric,
        selected_by=record.selector,
        judge=plan.judge,
        rule_sha256=plan.rule_sha256,
        plan_sha256=plan.sha256,
        claims=tuple(claims),
        baseline=Baseline(base=places("base"), blind=plan.dataset.blind),
        ceiling=places("ceiling"),
        complement=places("complement"),
        claimed=places("claim"),
        random=places("random"),
        single=tuple(singles(record)),
        gain=gain(record),
        shift=places("shift"),
        shift_random=places("shift-random"),
        n=PartSizes(**{name: len(part) for name, part in record.items.items()}),
        asked=PartSizesAsked(**{name: getattr(config, name) for name in record.items}),
        seeds=Seeds(seed=config.seed, per_location=config.seeds),
        drawn=RandomLocations(random=max(looks, default=None), planned=config.random, stopped_early=early),
        unfinished=0 if over else len(plan.trials) - len(record.done),
        **{name: value for name, value in more.items() if value},
    )


def unscored(record: Record) -> Unscored | None:
    """How many answers the judge did not score, of how many, in the worst part of the run, and why; None where it scored all.

    Answers of a training that diverged are no fault of the judge's. Verdicts on plans of the first edition do not say it.
    """
    if record.plan.judge is None or record.plan.first_edition:
        return None
    by = deciding(record.notions).name
    given: dict[str, int] = {}
    reasons: dict[str, list[str]] = {}
    for arm in record.arms:
        for trial in arm.chosen:
            given[arm.role] = given.get(arm.role, 0) + len(record.items["test"])
            missing = record.store.unscored(trial, "test", by).values()
            reasons.setdefault(arm.role, []).extend(why for why in missing if why != record.done[trial].reason)
    every = list(chain.from_iterable(reasons.values()))
    if not every:
        return None
    worst = max(len(reasons[role]) / given[role] for role in given)
    return Unscored(answers=sum(given.values()), unscored=len(every), worst=worst, commonest=commonest(every))


def whole(out: Path, store: Store, plan: PlanRecord | None = None) -> Record:
    """The record of a run folder, with people's labels if there are some; of its plan.json, unless that was read before.

    Raises:
        UserError: if its files are not whole.
    """
    plan = plan or read_plan(out)
    return Record(plan, store, labels=read_labels(out, plan.sha256))


@contextmanager
def recorded(out: Path) -> Iterator[Record]:
    """The record of a run folder, finished or not, which a stranger may have written; to read from.

    Raises:
        UserError: if it is no run folder, or its files are not whole.
    """
    with reading(out / "trials.sqlite") as store, errors.whole("a run folder whose files are whole", out):
        yield whole(out, store)


def write(out: Path, store: Store, seconds: float, plan: PlanRecord | None = None) -> Verdict:
    """Derive the verdict of a run folder and write it whole.

    Args:
        out: the run folder, with its plan.json.
        store: its open database.
        seconds: that the command took.
        plan: what is in the plan.json, where that was read before.
    """
    verdict = complete(whole(out, store, plan), seconds)
    atomic.replace(out / "verdict.json", json.dumps(verdict.to_json(), indent=1, allow_nan=False) + "\n")
    return verdict


def complete(record: Record, seconds: float | None = None) -> Verdict:
    """The verdict with versions, times and the work that was counted.

    Args:
        record: the run's scores.
        seconds: that the command took, if it is one that finishes the run.
    """
    took = cost.summary(record.done, record.store.counts())
    spent = Seconds(trials=took.total.seconds, **({} if seconds is None else {"this_call": seconds}))
    return derive(record).model_copy(update={"versions": versions(), "seconds": spent, "cost": took})
