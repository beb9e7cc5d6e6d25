"""What people's labels mean for a verdict: whether they decide, how far two passes agree, and how much they narrow."""

from collections.abc import Iterable

import numpy as np

from locus import stats, units
from locus.conclude import labelled
from locus.conclude.record import Arm, Record
from locus.conclude.scores import best_within, ceiling_of, findings, scores_of
from locus.records.beside import Labelled, LabelledClaim
from locus.records.findings import QUESTIONS
from locus.records.labels import AnswerLabels, text_hash

TARGETS = {"truth": "truth", "info": "information"}


def arms_read(record: Record) -> list[dict[str, list[Arm]]]:
    """For each claim and read mode the arms whose answers are read, by part; empty while one is missing."""
    ceiling, base = ceiling_of(record), record.find("base")
    several = []
    for read in record.config.reads:
        for claim in record.plan.claims:
            mine, rest = record.find("claim", claim.name, read), record.find("complement", claim.name, read)
            random = record.drawn(claim.name, read)
            if not (ceiling and base and mine and rest):
                return []
            parts = {"base": base[:1], "ceiling": [ceiling], "claim": mine[:1], "complement": [best_within(record, rest)]}
            several.append({**parts, **({"random": random} if random else {})})
    return several


def answers(record: Record, count: int) -> list[tuple[str, str]]:
    """The different answers that are read, with their questions, in the order of the plan; silence is not read.

    Args:
        record: of a finished run.
        count: the most answers that are drawn.
    """
    items = labelled.drawn(record, count)
    texts: dict[tuple[str, str], None] = {}
    for arms in arms_read(record):
        for trials in labelled.trials_read(record, arms, items).values():
            said = {trial: record.store.texts(trial, "test") for trial in set(trials)}
            for item, trial in zip(items, trials, strict=True):
                if said[trial].get(item, "").strip():
                    texts[item, said[trial][item]] = None
    return list(texts)


def summary(record: Record) -> Labelled | None:
    """What people say of a run; None where nobody was asked and nobody read."""
    planned, labels = record.config.labels, record.labels
    asked = planned or (labels.asked if labels is not None else 0)
    wanted = answers(record, asked) if asked else []
    if not wanted:
        return None
    known = labels.by_answer if labels is not None else {}
    read = [one for item, text in wanted if (one := known.get((item, text_hash(text)))) is not None and one.whole]
    claims = _claims(record) if len(read) == len(wanted) else []
    kappa = {target: _kappa(read, target) for target in TARGETS}
    about = Labelled(
        planned=planned,
        asked=asked,
        questions=len(labelled.drawn(record, asked)),
        answers=len(wanted),
        read=len(read),
        reader=labels.reader if labels is not None else "",
        kappa=kappa,
        sentence="",
        claims=tuple(claims),
    )
    return about.model_copy(update={"sentence": _sentence(about)})


def _kappa(read: Iterable[AnswerLabels], target: str) -> float | None:
    pairs = [getattr(one, target) for one in read]
    value = stats.cohen_kappa(*np.array(pairs, dtype=float).T).value if pairs else np.nan
    return float(value) if np.isfinite(value) else None


def _claims(record: Record) -> list[LabelledClaim]:
    """Both ways of concluding, set side by side."""
    metric, decide = record.config.metric, record.config.labels > 0
    claims = []
    for read in record.config.reads:
        told, alone = (findings(record, read, metric, told=one) for one in (True, False))
        if told is None or alone is None:
            return []
        for index, claim in enumerate(record.plan.claims):
            scores = scores_of(record, claim.name, read, metric, told=True)
            if scores is None or scores.people is None:
                return []
            known = labelled.widths(scores, record.config)
            judge = {name: _width(alone.findings[index].finding(name).interval) for name in QUESTIONS}
            widths = {name: {**_numbers(one), "judge": judge[name]} for name, one in known.items()}
            other = (alone if decide else told).findings[index]
            claims.append(LabelledClaim(name=claim.name, read=read, other=other, widths=widths))
    return claims


def _numbers(values: dict[str, float]) -> dict[str, float | None]:
    return {name: float(value) if np.isfinite(value) else None for name, value in values.items()}


def _width(interval: tuple[float | int | None, float | int | None]) -> float | None:
    low, high = interval
    return None if low is None or high is None else float(high - low)


def _sentence(about: Labelled) -> str:
    """What the labels mean for the verdict."""
    drawn = f"{about.answers} different answers to {about.questions} questions"
    if about.read < about.answers:
        whose = f"The plan asks people to read {drawn}" if about.planned else f"People are reading {drawn}"
        return f"{whose}; {about.read} were read in both passes. Until all are, what is concluded rests on the judge alone."
    rates = [one for claim in about.claims for one in claim.widths.values()]
    narrower = _ratio(rates, "labels")
    wider = _ratio(rates, "judge")
    told = f"{about.reader or 'People'} read {drawn}"
    told += (
        ", drawn before any result. The verdict rests on these labels and on the judge's scores of all answers"
        if (about.planned)
        else " after the results were there. What follows with their labels stands beside the verdict, and is no part of it"
    )
    if narrower is not None and wider is not None:
        less = units.share(max(0.0, 1 - narrower))
        told += f"; intervals are {less} narrower than from the labels alone, and {wider:.2g} times as wide as the judge's own, "
        told += "which take its word for everything"
    passes = [f"{value:.2f} on {TARGETS[name]}" for name, value in about.kappa.items() if value is not None]
    return f"{told}. Kappa of the two passes: {', '.join(passes) or 'not defined'}."


def _ratio(widths: Iterable[dict[str, float | int | None]], by: str) -> float | None:
    """The mean ratio of the intervals' width to that by the labels, or the judge, alone."""
    pairs = [(one["both"], one[by]) for one in widths]
    ratios = [both / other for both, other in pairs if both is not None and other]
    return float(np.mean(ratios)) if ratios else None
