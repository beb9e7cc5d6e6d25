"""A verdict from a judge's scores of all answers and people's labels of a few, drawn before there was any result.

Questions are drawn at random, groups whole. Of each, people read what the unedited model says, what the ceiling's edit says, and
for every claim what its edit, its complement's and one random Location's say, the random Locations in turn. Every contrast that a
verdict tests is then known on these questions from both, and the judge's error in it is taken out (locus/stats/powered.py).

Ranks among random Locations, and which of them do as well as the claim, stay the judge's: they would ask for labels at all of
them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from locus import stats, units
from locus.conclude.record import Arm, Record
from locus.conclude.tests import People, Scores, Test, Values, span
from locus.plan.config import AuditConfig
from locus.records.labels import AnswerLabels, LabelsRecord, text_hash
from locus.stats.estimate import unit_values
from locus.stats.powered import PoweredMean, powered_mean

Floats = npt.NDArray[np.float64]
Contrast = Callable[[Values], Floats]
SILENT = {"truth": 1.0, "info": 0.0, "true_info": 0.0}  # of a text without a word, by definition
DRAW = 5  # stream of the run's seed


def per_question(config: AuditConfig, claims: int) -> int:
    """How many answers to a question are read."""
    return 2 + 3 * claims * len(config.reads)


def drawn(record: Record, count: int) -> list[str]:
    """The test questions whose answers are read, in the order in which they were drawn; none is cut out of its group."""
    per = per_question(record.config, len(record.plan.claims))
    groups: dict[str, list[str]] = {}
    for item in record.plan.items.test:
        groups.setdefault(item.group, []).append(item.id)
    names = sorted(groups)
    order = np.random.default_rng([record.config.seed, DRAW]).permutation(len(names))
    items: list[str] = []
    for index in order:
        if (len(items) + len(groups[names[index]])) * per > count:
            break
        items += groups[names[index]]
    return items


def trials_read(record: Record, arms: Mapping[str, Sequence[Arm]], items: Sequence[str]) -> dict[str, list[str]]:
    """Part -> the trial whose answer is read, for each drawn question: random Locations and seeds in turn."""
    return {
        part: [(chosen := several[number % len(several)].chosen)[number % len(chosen)] for number in range(len(items))]
        for part, several in arms.items()
    }


def people(record: Record, arms: Mapping[str, Sequence[Arm]], labels: LabelsRecord, metric: str) -> People | None:
    """Labels and judge's scores of the drawn answers; None where one of them was not read yet.

    Args:
        record: the run's scores.
        arms: part (base, claim, ceiling, complement, random) -> its arms.
        labels: what was read.
        metric: truth, info or true_info.
    """
    items, known = drawn(record, labels.asked), labels.by_answer
    if not items:
        return None
    where = {item: number for number, item in enumerate(record.items["test"])}
    at = [where[item] for item in items]
    read: dict[str, Floats] = {}
    judge: dict[str, Floats] = {}
    for part, trials in trials_read(record, arms, items).items():
        read[part], judge[part] = (np.full(len(where), np.nan) for _ in range(2))
        texts = {trial: record.store.texts(trial, "test") for trial in set(trials)}
        scores = {trial: record.values(trial, metric) for trial in set(trials)}
        for item, index, trial in zip(items, at, trials, strict=True):
            value = _label(known, item, texts[trial].get(item), metric)
            if value is None:
                return None
            read[part][index], judge[part][index] = value, scores[trial][index]
    place = np.zeros(len(where), dtype=np.int64)
    place[at] = np.arange(len(items)) % max(1, len(arms["random"]))
    return People(read, judge, place)


def _label(known: Mapping[tuple[str, str], AnswerLabels], item: str, text: str | None, metric: str) -> float | None:
    if text is None:
        return None
    if not text.strip():
        return SILENT[metric]
    one = known.get((item, text_hash(text)))
    return one.value(metric) if one is not None and one.whole else None


def _parts(scores: Scores) -> Values:
    parts = {name: scores.mean(name) for name in ("claim", "ceiling", "complement")}
    random = scores.mean("random").mean(axis=0) if len(scores.random) else np.full_like(scores.base, np.nan)
    return {"base": scores.base, **parts, "random": random}


def _gain(values: Values) -> Floats:
    return values["ceiling"] - values["base"]


# What each question's edits differ by, in the direction that is stated.
DIFFERENCES: dict[str, Contrast] = {
    "works": lambda values: values["claim"] - values["ceiling"],
    "special": lambda values: values["claim"] - values["random"],
    "necessary": lambda values: values["ceiling"] - values["complement"],
}


def _tested(question: str, share: float) -> Contrast:
    """The contrast whose mean is held against zero: the difference, with the margin that the question allows or asks for."""
    sign = 1 if question == "works" else -1
    return lambda values: DIFFERENCES[question](values) + sign * share * _gain(values)


def _mean(scores: Scores, contrast: Contrast, random: bool = False, weight: float = 1.0) -> PoweredMean:
    """The prediction-powered mean of a contrast of parts; of one with random Locations, over these too."""
    told, own = scores.people, _parts(scores)
    assert told is not None, "labels of a run that has some"
    every, read, judge = contrast(own), contrast(told.labels), contrast(told.judge)
    if not random:
        return powered_mean(every, read, scores.groups, read=judge, weight=weight)
    places = np.array([contrast({**own, "random": place}) for place in scores.mean("random")])
    error = stats.crossed_mean(places[:, None, :], scores.groups).error
    return powered_mean(every, read, scores.groups, read=judge, error=error, clusters=told.place, weight=weight)


def effect(scores: Scores, config: AuditConfig) -> tuple[stats.Estimate, float]:
    """The ceiling's gain with its interval, and the one-sided p that there is one."""
    gain = _mean(scores, _gain)
    return gain.interval(1 - 2 * config.alpha), gain.p_above(0.0)


def answered(question: str, test: Test, scores: Scores, config: AuditConfig) -> Test:
    """A test by the judge alone, with people's labels where they tell.

    Args:
        question: works, special, unique or necessary.
        test: what the judge's scores say.
        scores: with labels.
        config: level and margin.
    """
    random = question == "special"
    if question == "unique" or (random and not len(scores.random)):
        return replace(test, words=f"{test.words}, by the judge alone")
    share, level = config.tolerance, 1 - 2 * config.alpha
    tested, shown = (_mean(scores, one, random) for one in (_tested(question, share), DIFFERENCES[question]))
    margin, interval = share * _mean(scores, _gain).value, tested.interval(level)
    by = shown.value - interval.value
    one = replace(interval, value=shown.value, low=interval.low + by, high=interval.high + by)
    supported, last = tested.p_above(0.0), test.p_last
    words = _words(question, one, margin, tested, config)
    if random:
        rank, reached = test.more["rank_p"], test.more["reached"]
        supported = float(np.maximum(np.nan if rank is None else rank, supported))
        last = float(np.fmax(_rank_last(scores), shown.p_below(0.0)))
        words += f", rank {1 + int(reached)} of {1 + len(scores.random)} by the judge" if reached is not None else ""
    return replace(
        test,
        estimate=one,
        p_supported=supported,
        p_refuted=tested.p_below(0.0),
        p_last=last,
        margin=margin,
        words=words,
        to_decide=f"more labels (there were those of {tested.n_labelled} questions)",
    )


def _words(question: str, one: stats.Estimate, margin: float, tested: PoweredMean, config: AuditConfig) -> str:
    """The numbers as part of a sentence."""
    sign = question != "necessary"
    gap = units.difference(one.value, config.metric, sign=sign, margin=margin)
    said = {
        "works": f"the claim's edit is at {gap} from the ceiling",
        "special": f"{gap} against the mean of random Locations",
        "necessary": f"without the claimed heads the ceiling loses {gap}",
    }[question]
    least = units.difference(margin, config.metric, unit=False, sign=False, margin=margin)
    share = units.share(config.tolerance)
    told = f"people read {tested.n_labelled} of {tested.n} questions"
    return f"{said} ({span(one, config.metric, margin)}; margin {least}, {share} of the ceiling's gain; {told})"


def _rank_last(scores: Scores) -> float:
    """That no random Location does worse than the claim, by the judge."""
    ours, *theirs = (
        float(values.mean()) if len(values := unit_values(one, scores.groups)) else np.nan
        for one in (scores.mean("claim"), *scores.mean("random"))
    )
    return stats.monte_carlo_rank(ours, theirs, greater=False).p


def widths(scores: Scores, config: AuditConfig) -> dict[str, dict[str, float]]:
    """Question -> how wide its interval is: with labels and judge, by the labels alone, and by the judge alone."""
    level = 1 - 2 * config.alpha
    widths: dict[str, dict[str, float]] = {}
    for question in DIFFERENCES:
        random = question == "special"
        if random and not len(scores.random):
            continue
        tested = _tested(question, config.tolerance)
        both, labels = (_mean(scores, tested, random, weight).interval(level) for weight in (1.0, 0.0))
        widths[question] = {"both": both.high - both.low, "labels": labels.high - labels.low}
    return widths
