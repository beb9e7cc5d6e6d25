"""How stable a verdict is: the same audit with other seeds, each with another split, other random Locations, other starts.

An answer that hangs on the split is no answer (Meloux et al., arXiv 2510.00845, ask for resampling; certified circuits, arXiv
2602.22968, abstain where it is unstable). Nothing is averaged into a new verdict: the audits share a model and mostly the same
questions, so they are no independent samples, and only counts and spreads are shown.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from locus import units
from locus.records.findings import QUESTIONS
from locus.records.repeat import REPEAT_SCHEMA, Answered, RepeatedClaim, RepeatRecord
from locus.records.verdict import Verdict
from locus.shown import visible
from locus.sites.site import Location


def gathered(runs: Sequence[tuple[str, Verdict]], receipts: Mapping[str, str]) -> RepeatRecord:
    """The answers of several audits, claim by claim.

    Args:
        runs: folder and verdict of each.
        receipts: folder -> the id of its receipt.
    """
    first = runs[0][1]
    claims = []
    for place, claim in enumerate(first.claims):
        answers = []
        for name, verdict in runs:
            mine = verdict.claims[place]
            asked = mine.special.standing != "invalid"
            answers.append(
                Answered(
                    run=name,
                    seed=verdict.seeds.seed,
                    location=mine.location,
                    standing={question: mine.finding(question).standing for question in QUESTIONS},
                    lead=mine.special.estimate if asked else None,
                    margin=mine.special.margin if asked else None,
                )
            )
        claims.append(RepeatedClaim(name=claim.name, read=claim.read, answers=tuple(answers)))
    about = {"model": first.model.name, "dataset": first.dataset.name, "metric": first.metric}
    return RepeatRecord(schema_=REPEAT_SCHEMA, **about, receipts=dict(receipts), claims=tuple(claims))


def described(claim: RepeatedClaim, metric: str) -> list[str]:
    """How stable the answers about a claim are, a sentence each.

    Args:
        claim: over all audits.
        metric: the main metric.
    """
    count, name = len(claim.answers), visible(claim.name, 60)
    if claim.stable:
        sentences = [f"All {count} audits of “{name}” answer the four questions alike."]
    else:
        apart = [question for question in QUESTIONS if len({one.standing[question] for one in claim.answers}) > 1]
        sentences = [
            f"The {count} audits of “{name}” do not agree on {' and '.join(apart)}: what they say there hangs on the seed."
        ]
    opposed = [one for one in QUESTIONS if claim.count(one, "supported") and claim.count(one, "refuted")]
    if opposed:
        sentences.append(f"{' and '.join(opposed).capitalize()} is supported in some and refuted in others: take neither.")
    if leads := claim.leads:
        spread = f", sd {units.difference(float(np.std(leads, ddof=1)), metric, sign=False)}" if len(leads) > 1 else ""
        low, mean, high = (units.difference(float(one), metric) for one in (min(leads), np.mean(leads), max(leads)))
        sentences.append(f"The lead over random Locations goes from {low} to {high} (mean {mean}{spread}; {len(leads)} audits).")
    places = {one.location for one in claim.answers}
    if len(places) > 1:
        shared = set.intersection(*(set(Location.parse(place).sites) for place in places))
        sentences.append(f"The claim itself is not the same in all: {len(places)} sets of sites, which share {len(shared)}.")
    return sentences
