"""Answers side by side: what the model says unedited and under each edit, the most instructive questions first.

A question is instructive where the edits differ: by the judge (his True*Info, or the wanted side) from the best answer to the
worst, or, where nobody judged, by how many different answers there are.
"""

from dataclasses import dataclass

from locus.conclude.record import Record
from locus.judges.base import TRUTH
from locus.metrics.base import deciding
from locus.records.verdict import Verdict
from locus.report.places import Place
from locus.report.words import steering


@dataclass(frozen=True)
class Answer:
    """What the model says under one edit.

    Attributes:
        label: of the edit.
        kind: base, shift, claim, random or ceiling.
        text: what it says.
        scores: by metric of speech, what the judge makes of it; None where unscored.
    """

    label: str
    kind: str
    text: str
    scores: dict[str, float | None]


@dataclass(frozen=True)
class Answers:
    """What is said to one question, edit by edit."""

    question: str
    rows: list[Answer]


def side_by_side(record: Record, verdict: Verdict, places: dict[str, list[Place]]) -> list[Answers]:
    """What was said to every test question that was asked aloud.

    Args:
        record: the run's scores and texts.
        verdict: its verdict.
        places: by kind, as a report sees them.

    Returns:
        By question, most instructive first. Empty where nothing was generated.
    """
    spoken = []
    for label, kind, place in _chosen(verdict, places):
        trial = place.result.trials[0]
        texts = record.store.texts(trial, "test")
        scores = {one.name: record.values(trial, one.name) for one in record.config.measures if one.needs_judge}
        if texts:
            spoken.append((label, kind, texts, scores))
    asked = []
    for number, item in enumerate(record.plan.items.test):
        rows = [
            Answer(label, kind, texts[item.id], {name: _known(values[number]) for name, values in scores.items()})
            for label, kind, texts, scores in spoken
            if item.id in texts
        ]
        if rows:
            asked.append(Answers(item.question, rows))
    by = deciding(record.notions or TRUTH).name
    return sorted(asked, key=lambda one: -_difference(one.rows, by))


def _chosen(verdict: Verdict, places: dict[str, list[Place]]) -> list[tuple[str, str, Place]]:
    """The edits that are set side by side: label, kind, place; of random Locations the one in the middle."""
    claim, metric = verdict.claims[0], verdict.metric
    mine = {
        kind: [place for place in places[kind] if place.claim == claim.name and place.read in ("", claim.read)]
        for kind in ("shift", "claimed", "random")
    }
    scored = [(mean, place) for place in mine["random"] if (mean := place.mean(metric)) is not None]
    random = [place for _, place in sorted(scored, key=lambda one: one[0])]
    chosen = [("no edit", "base", place) for place in places["base"][:1]]
    chosen += [
        (", ".join(part for part in (steering(place.name), place.setting) if part), "shift", place) for place in mine["shift"][:1]
    ]
    chosen += [("the claim", "claim", place) for place in mine["claimed"][:1]]
    if random:
        chosen.append(("random Location", "random", random[len(random) // 2]))
    chosen += [("everywhere", "ceiling", place) for place in places["ceiling"][:1]]
    return chosen


def _known(value: float) -> float | None:
    return None if value != value else float(value)


def _difference(rows: list[Answer], by: str) -> float:
    """How instructive a question is; see the module's docstring."""
    scores = [score for row in rows if (score := row.scores.get(by)) is not None]
    return max(scores) - min(scores) if scores else len({row.text for row in rows}) / 1000
