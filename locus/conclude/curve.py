"""How the verdict depends on how far every search goes: from the same searches, looked at on the way.

A heuristic claim that learns a little faster looks special far from the optimum, and only there. Near to it, edits may learn
the training questions by heart. So the verdict is of the edits that validation questions choose, place by place; beside it stand
those of all searches cut after so many rounds, each with the share of the way to the optimum.
"""

from collections.abc import Callable

import numpy as np

from locus import units
from locus.conclude.record import Record
from locus.conclude.rule import Verdicts
from locus.records.beside import CurveClaim, CurvePoint
from locus.records.findings import ClaimVerdict

Conclude = Callable[[Record, str], Verdicts | None]


def curve(record: Record, conclude: Conclude) -> tuple[CurvePoint, ...]:
    """A point for each length of search that was looked at, the whole one last; none where no shorter one was.

    Args:
        record: of the whole searches.
        conclude: gives the findings of all claims by the main metric, from a record and a read mode.
    """
    if not record.config.lengths:
        return ()
    gained = _gained(Record(record.plan, record.store, record.config.rounds))
    points = []
    for rounds in sorted({*record.config.lengths, record.config.rounds}):
        at = Record(record.plan, record.store, rounds)
        claims: list[CurveClaim] = []
        for read in record.config.reads:
            concluded = conclude(at, read)
            if concluded is None:
                return ()
            for claim, found in zip(record.plan.claims, concluded.findings, strict=True):
                claims.append(CurveClaim(name=claim.name, read=read, works=found.works, special=found.special))
        here = _gained(at)
        shares: dict[str, list[float]] = {}
        for key in sorted(gained.keys() & here.keys()):
            shares.setdefault(key[0], []).append(here[key] / gained[key])
        means: dict[str, int | float | None] = {role: float(np.mean(values)) for role, values in shares.items()}
        points.append(CurvePoint(rounds=rounds, share=means, claims=tuple(claims)))
    return tuple(points)


def _gained(record: Record) -> dict[tuple[str, ...], float]:
    """How much of the loss at the start each place's chosen searches took away, where they took any."""
    gains: dict[tuple[str, ...], float] = {}
    for arm in record.arms:
        fits = [trial.fit for trial in arm.trials if trial.id in arm.chosen]
        taken = [one.start - one.loss for one in fits if one.start is not None and one.loss is not None]
        if taken and min(taken) > 0:
            gains[arm.role, arm.name, arm.claim, arm.read] = float(np.mean(taken))
    return gains


def described(points: tuple[CurvePoint, ...], claim: ClaimVerdict, metric: str) -> str:
    """Where one claim's lead over random Locations goes as searches near the optimum, in a sentence; "" where that is not known.

    Args:
        points: the curve; its last point is of the whole searches.
        claim: one of the verdict's claims.
        metric: the main metric.
    """
    margin = claim.special.margin
    leads = {
        point.rounds: one.special.estimate
        for point in points
        for one in point.claims
        if (one.name, one.read) == (claim.name, claim.read) and one.special.standing != "invalid"
    }
    known = [(rounds, lead) for rounds, lead in leads.items() if lead is not None]
    if len(known) < 2:
        return ""
    shown = ", ".join(f"{units.difference(lead, metric, margin=margin)} after {rounds}" for rounds, lead in known)
    first, last = known[0][1], known[-1][1]
    change = last - first
    way = "stays about the same" if margin is None or abs(change) < margin else "grows" if change > 0 else "shrinks"
    return f"As searches near the optimum the claim's lead over random Locations {way}: {shown} rounds."
